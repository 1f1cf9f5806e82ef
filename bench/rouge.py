"""What near-duplicate checks cost: this project's index, the loops of Alpaca and Self-Instruct, and brute force.

    python bench/rouge.py                    all of it, about 15 minutes on 2 cores
    python bench/rouge.py --quick            a twentieth of the sizes, about 1 minute
    python bench/rouge.py --texts lines.txt  on the lines of your file, where it has enough of them

Everything that is compared runs in the same call. The two loops are written from their description and work as
the published code does: a process pool of 4 (Self-Instruct) or 16 (Alpaca) is made for each candidate and scores
it against each pool item with `rouge_score`, with the texts (Self-Instruct) or with tokens (Alpaca). They are
timed on a few candidates. Wall-clock times; medians for single candidates.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist

from selfinstruct.filters.rouge_index import RougeIndex
from selfinstruct.text.words import rouge_tokens

THRESHOLD = 0.7
VOCABULARY = 60_000


class Corpus:
    """Made texts: Zipf words, templates, and near-duplicates of earlier texts at known scores."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._weights = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
        self._templates = [self._words(4) for _ in range(300)]

    def _words(self, count: int) -> list[str]:
        drawn = self._rng.random(count) * self._weights[-1]
        return [f"w{rank}" for rank in np.searchsorted(self._weights, drawn).tolist()]

    def texts(self, count: int, length: float, spread: float = 0.45, alike: float = 0.3) -> list[str]:
        """`count` texts of about `length` words: a share of near-duplicates, as many from templates, the rest new."""
        lengths = np.clip(self._rng.lognormal(np.log(length) - spread**2 / 2, spread, count), 3, None).astype(int)
        kinds = self._rng.random(count)
        made: list[str] = []
        for size, kind in zip(lengths.tolist(), kinds.tolist(), strict=True):
            if kind < alike and made:
                made.append(self.planted(made[int(self._rng.integers(len(made)))], 1 + int(kind * 10) % 2)[0])
            elif kind < 2 * alike:
                made.append(" ".join([*self._templates[int(self._rng.integers(300))], *self._words(max(1, size - 4))]))
            else:
                made.append(" ".join(self._words(size)))
        return made

    def planted(self, text: str, changes: int) -> tuple[str, float]:
        """`text` with some words replaced by ones that occur nowhere else, and the score that this leaves."""
        words = rouge_tokens(text)
        changes = min(changes, len(words) - 1)
        for place in self._rng.choice(len(words), changes, replace=False).tolist():
            words[place] = f"n{int(self._rng.integers(10**9))}"
        return " ".join(words), (len(words) - changes) / len(words)


def self_instruct_loop(pool: list[str]) -> Callable[[str], bool]:
    from rouge_score.rouge_scorer import RougeScorer  # here, since it brings 50 MB of other packages

    scorer = RougeScorer(["rougeL"], use_stemmer=False)

    def judge(text: str) -> bool:
        with Pool(4) as processes:
            scores = processes.map(partial(scorer.score, text), pool)
        return any(score["rougeL"].fmeasure > THRESHOLD for score in scores)

    return judge


def alpaca_loop(pool: list[str]) -> Callable[[str], bool]:
    from rouge_score.rouge_scorer import _score_lcs

    tokens = [rouge_tokens(text) for text in pool]

    def judge(text: str) -> bool:
        words = rouge_tokens(text)
        with Pool(16) as processes:
            scores = processes.map(partial(_score_lcs, words), tokens)
        return any(score.fmeasure > THRESHOLD for score in scores)

    return judge


def brute_force(pool: Iterable[str], cutoff: float | None = None) -> Callable[[str], bool]:
    """The fastest comparison with every text that rapidfuzz offers: many at once, one character for each word.

    F1 is its normalised Indel similarity up to rounding. With a `cutoff` it may give up on a pair early.
    """
    known: dict[str, str] = {}

    def packed(text: str) -> str:
        return "".join([known.setdefault(word, chr(len(known) + 1)) for word in rouge_tokens(text)])

    texts = [packed(text) for text in pool]

    def judge(text: str) -> bool:
        scores = cdist([packed(text)], texts, scorer=Indel.normalized_similarity, score_cutoff=cutoff, dtype=np.float64)
        return bool(scores.max() > THRESHOLD + 1e-9)

    return judge


brute_force_early = partial(brute_force, cutoff=THRESHOLD)


def ours(pool: Iterable[str]) -> Callable[[str], bool]:
    index = RougeIndex(THRESHOLD)
    index.add_many(pool)
    return lambda text: index.match(text) is not None


def timed(judge: Callable[[str], bool], texts: Sequence[str]) -> tuple[float, list[bool]]:
    """The median seconds a text, and the decisions."""
    seconds, decisions = [], []
    for text in texts:
        start = time.perf_counter()
        decisions.append(judge(text))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), decisions


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for cell in cells:
        print("  " + "  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True)).rstrip())
    sys.stdout.flush()


def one_candidate(corpus: Corpus, texts: list[str], candidates: list[str]) -> None:
    """Times all four on the same pool, compares their decisions, and looks for what was planted."""
    pool_size = len(texts)
    our_judge = ours(texts)
    our_seconds, _ = timed(our_judge, candidates)
    rows = [["this index", len(candidates), f"{our_seconds * 1e3:.4f} ms", ""]]
    peers: list[tuple[str, Callable[[list[str]], Callable[[str], bool]], int]] = [
        ("Self-Instruct's loop", self_instruct_loop, 3),
        ("Alpaca's loop", alpaca_loop, 5),
        ("rapidfuzz, every pair", brute_force, 20),
        ("rapidfuzz, every pair, cut-off", brute_force_early, 20),
    ]
    for name, make, count in peers:
        seconds, decisions = timed(make(texts), candidates[:count])
        same = decisions == [our_judge(text) for text in candidates[:count]]
        rows.append(
            [
                name,
                count,
                f"{seconds * 1e3:.2f} ms",
                f"{seconds / our_seconds:,.0f} x{'' if same else ' OTHER DECISIONS'}",
            ]
        )
    table(f"One candidate, pool of {pool_size:,}", ["", "timed", "median", "ours is faster"], rows)
    index = RougeIndex(THRESHOLD)
    index.add_many(texts)
    planted = [corpus.planted(texts[place], 1 + place % 3) for place in range(0, pool_size, pool_size // 500)]
    found = [(index.match(text), score) for text, score in planted]
    due = [match for match, score in found if score > THRESHOLD + 1e-9]
    best = all(match is not None and match.score >= score - 1e-9 for match, score in found if score > THRESHOLD + 1e-9)
    print(f"  planted above the threshold: {len(due)}, found: {sum(match is not None for match in due)}, best: {best}")


def growth(texts: list[str], candidates: list[str], sizes: Sequence[int]) -> None:
    index, rows, first = RougeIndex(THRESHOLD), [], 0.0
    for size in sizes:
        start = time.perf_counter()
        index.add_many(texts[len(index) : size])
        adding = time.perf_counter() - start
        seconds, found = timed(lambda text: index.match(text) is not None, candidates)
        first = first or seconds
        mean = sum_of(index, candidates) / len(candidates)
        rows.append(
            [
                f"{size:,}",
                f"{seconds * 1e3:.4f} ms",
                f"{mean * 1e3:.4f} ms",
                f"{seconds / first:.2f} x",
                f"{sum(found) / len(found):.0%}",
                f"{adding:.1f} s",
            ]
        )
    table("Growth: one candidate", ["pool", "median", "mean", "of the first", "match", "adding the rest"], rows)


def sum_of(index: RougeIndex, texts: list[str]) -> float:
    start = time.perf_counter()
    for text in texts:
        index.match(text)
    return time.perf_counter() - start


def dedup(source: Path, target: Path) -> None:
    """Keeps the first of each kind of line; says what it took as JSON. Runs in a process of its own."""
    start = time.perf_counter()
    index, pairs = RougeIndex(THRESHOLD), 0
    with source.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8") as kept:
        for line in lines:
            pairs += len(index)
            if index.admit(line) is None:
                kept.write(line)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "kept": len(index), "pairs": pairs, "mib": peak_memory()}))


def peak_memory() -> float:
    """The most memory that this process ever had, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: ru_maxrss would be that of the parent, where the parent is larger
        return int(status.read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def greedy(texts: list[str]) -> None:
    """Dedup of all texts in a new process, against brute force extrapolated from 20 candidates on a tenth of them."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "texts"), Path(folder, "kept")
        source.write_text("\n".join(texts) + "\n", encoding="utf-8")
        command = [sys.executable, __file__, "--dedup", str(source), str(target)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ran = json.loads(said)
    part = texts[: len(texts) // 10]
    seconds = min(timed(make(part), texts[-20:])[0] for make in (brute_force, brute_force_early)) / len(part)
    brute = seconds * ran["pairs"]
    rows = [
        ["this index", f"{ran['seconds']:.1f} s", f"{ran['kept']:,}", f"{ran['mib']:.0f} MiB", ""],
        ["rapidfuzz, every pair", f"{brute:,.0f} s *", "", "", f"{brute / ran['seconds']:,.0f} x"],
    ]
    words = statistics.mean(len(rouge_tokens(text)) for text in texts[:50_000])
    title = f"Greedy dedup of {len(texts):,} texts of {words:.1f} words, file to file, one process"
    table(title, ["", "time", "kept", "peak memory of the process", "ours is faster"], rows)
    print(
        f"  * {seconds * 1e9:.0f} ns a pair on a pool of {len(part):,}, times the {ran['pairs']:,} pairs of this dedup"
    )


def long_texts(corpus: Corpus, count: int) -> None:
    """By length: our index as it is, with rare tokens only where they pay, and brute force."""
    rows = []
    for length in (9, 15, 30, 60, 120, 200, 300):
        texts = corpus.texts(count + 200, length, spread=0.2, alike=0.1)
        pool, candidates = texts[:count], texts[count:]
        judge = ours(pool)
        seconds, decisions = timed(judge, candidates)
        brute, early = brute_force(pool), brute_force_early(pool)
        slow, expected = timed(brute, candidates[:10])
        fast, _ = timed(early, candidates[:10])
        same = "same" if decisions[:10] == expected else "OTHER"
        rows.append(
            [
                length,
                f"{seconds * 1e3:.3f} ms",
                f"{slow * 1e3:.2f} ms",
                f"{fast * 1e3:.2f} ms",
                f"{min(slow, fast) / seconds:,.0f} x",
                same,
            ]
        )
    head = ["words", "this index", "every pair", "with cut-off", "ours is faster", "decisions"]
    table(f"Long texts: one candidate, pool of {count:,}", head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="a file with one text a line, instead of made texts")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the sizes")
    parser.add_argument("--dedup", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dedup:
        dedup(*options.dedup)
        return
    scale = 20 if options.quick else 1
    corpus = Corpus(seed=1)
    if options.texts:
        lines = options.texts.read_text(encoding="utf-8", errors="replace").splitlines()
        short = instructions = [line for line in lines if rouge_tokens(line)][: 752_000 // scale]
    else:
        instructions = corpus.texts(54_000 // scale, 14)
        short = corpus.texts(752_000 // scale, 9)
    asked = 2_000 // scale
    pool = min(52_000 // scale, len(instructions) - asked)
    one_candidate(corpus, instructions[:pool], instructions[-asked:])
    most = len(short) - asked
    growth(short, short[most:], [most // 8, most // 4, most // 2, most])
    greedy(short[:most])
    long_texts(corpus, 20_000 // scale)


if __name__ == "__main__":
    main()
