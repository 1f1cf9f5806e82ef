"""What libraries make of the language of short instructions: those of py3langid and lingua that are installed.

    python bench/languages.py                             this project's: py3langid
    pip install lingua-language-detector                  100 MB, to compare

The 200 seeds that ship are English; 15 instructions in ten other languages stand below.
"""

import importlib.util
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SEEDS = Path(__file__).parent.parent / "seeds" / "tasks.jsonl"
OTHERS = {
    "de": ["Erkläre, warum die Flut zweimal am Tag steigt.", "Nenne drei Flüsse in Europa.",
           "Schreibe einen kurzen Brief an deinen Vermieter."],
    "fr": ["Explique pourquoi la marée monte deux fois par jour.", "Nomme trois fleuves d'Europe."],
    "es": ["Escribe un poema sobre el mar.", "Explica la fotosíntesis."],
    "zh": ["解释为什么潮水每天涨两次。", "写一首关于海的诗。"],
    "ja": ["海についての詩を書いてください。"],
    "ru": ["Объясни, почему прилив бывает дважды в день."],
    "hi": ["समझाइए कि ज्वार दिन में दो बार क्यों आता है।"],
    "ar": ["اشرح لماذا يرتفع المد مرتين في اليوم."],
    "pt": ["Escreva uma carta ao seu senhorio."],
    "nl": ["Leg uit waarom het twee keer per dag vloed wordt."],
}  # fmt: skip
Classify = Callable[[str], tuple[str, float]]


def py3langid() -> Classify:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).classify


def lingua() -> Classify:
    from lingua import LanguageDetectorBuilder

    detector = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()

    def classify(text: str) -> tuple[str, float]:
        likeliest = detector.compute_language_confidence_values(text)[0]
        return likeliest.language.iso_code_639_1.name.lower(), likeliest.value

    return classify


def main() -> None:
    if len(sys.argv) > 1:
        report(globals()[sys.argv[1]])
        return
    print(f"{'library':<12}{'load s':>8}{'texts/s':>9}{'MB':>7}{'seeds':>10}{'others':>9}{'sure and wrong':>16}")
    for library in ("py3langid", "lingua"):
        if importlib.util.find_spec(library):
            # A process of its own, for its memory.
            print(f"{library:<12}", end="", flush=True)
            subprocess.run([sys.executable, __file__, library], check=True)


def report(load: Callable[[], Classify]) -> None:
    began = time.perf_counter()
    classify = load()
    classify("Warm up.")
    loaded = time.perf_counter() - began
    seeds = [json.loads(line)["instruction"] for line in SEEDS.read_text(encoding="utf-8").splitlines()]
    began = time.perf_counter()
    right = sum(classify(seed)[0] == "en" for seed in seeds)
    speed = len(seeds) / (time.perf_counter() - began)
    others = [(language, *classify(text)) for language, texts in OTHERS.items() for text in texts]
    told = sum(language == found for language, found, _ in others)
    wrong = sum(language != found and sure >= 0.5 for language, found, sure in others)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shares = f"{right}/{len(seeds)}", f"{told}/{len(others)}"
    print(f"{loaded:>8.1f}{speed:>9,.0f}{memory:>7.0f}{shares[0]:>10}{shares[1]:>9}{wrong:>16}")


if __name__ == "__main__":
    main()
