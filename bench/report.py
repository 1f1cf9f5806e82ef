"""How long a report takes, how large it is, and how soon a browser shows it.

    python bench/report.py [--tasks 50000] [--keep FOLDER]

Makes a ledger of Self-Instruct with that many kept tasks out of made-up text of the usual lengths (a quarter of the
instructions are dropped as near-duplicates or as too short), writes its report, and opens it in headless Chromium
(Debian's `chromium` and `chromium-driver`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from selfinstruct.inputs.config import RunConfig, build
from selfinstruct.records import Completion, Draft, Instance, Job, Outcome, Sample, Verdict
from selfinstruct.run.folder import begin
from selfinstruct.run.told import read
from selfinstruct.store.ledger import Ledger

VERBS = (
    "write explain list generate describe create find suggest rewrite summarize translate classify identify compare "
    "design give name calculate convert edit predict analyze construct propose categorize determine outline compose "
    "provide discuss"
)
NOUNS = (
    "story list sentence paragraph poem method example word function summary letter plan number question name idea "
    "difference advantage step way reason recipe message title article city country animal color problem answer essay "
    "dialogue headline slogan song email table formula schedule route tool habit rule risk cause effect theme"
)
KINDS = (
    "short simple detailed clear funny formal brief polite creative useful common practical modern ancient quiet "
    "colorful local healthy difficult famous unusual honest careful daily seasonal technical"
)
LINKS = "about for using without in with on from after before against"
COMMON = "the of to and a for is with that what how in it on as at by this from one"
TOPICS = (
    "the sea a bakery two friends winter solar power a small village the night sky public transport a school garden "
    "the stock market modern art an old bridge healthy eating a long journey machine learning the city library "
    "a football team rainy days household chores a mountain hike the water cycle a job interview space travel"
)
REASONS = (("near_duplicate", 0.22), ("too_short", 0.03), ("banned_word", 0.02))


class Writer:
    """Text of the usual lengths, with the frequencies of words that language has."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        syllables = ["".join((rng.choice("bcdfglmnprst"), rng.choice("aeiou"))) for _ in range(4 * 9000)]
        self._words = ["".join(syllables[n * 4 : n * 4 + 2 + n % 3]) for n in range(9000)]
        self._words[:20] = COMMON.split()
        self._ranks = [1 / (rank + 4) for rank in range(9000)]

    def words(self, count: int) -> str:
        """So many words."""
        return " ".join(self._rng.choices(self._words, self._ranks, k=count))

    def instruction(self) -> str:
        """An order, of 6 to 20 words."""
        rng = self._rng
        verb = self._of(VERBS)
        nouns = NOUNS.split()
        own = " ".join(Random(verb).sample(nouns, len(nouns)))  # each verb has nouns that it likes best
        told = f"{verb.capitalize()} a {self._of(KINDS)} {self._of(own)} {self._of(LINKS)}"
        return f"{told} {self.words(rng.randint(2, 12))} {self._of(LINKS)} {self._of(TOPICS)}."

    def _of(self, words: str) -> str:
        """One of these words, the first ones more often."""
        choices = words.split()
        return self._rng.choices(choices, [1 / (n + 2) for n in range(len(choices))])[0]

    def instance(self) -> Instance:
        """A case, half of them without input."""
        given = "" if self._rng.random() < 0.5 else self.words(round(self._rng.lognormvariate(2.6, 0.7)) + 1)
        return Instance(
            input=given, output=self.words(round(self._rng.lognormvariate(3.4, 0.9)) + 1).capitalize() + "."
        )


class Maker:
    """Fills a ledger as a run of Self-Instruct would."""

    def __init__(self, ledger: Ledger, rng: Random) -> None:
        self._ledger, self._rng, self._writer = ledger, rng, Writer(rng)
        self._seeds = [seed.id for seed in ledger.seeds()]
        self._jobs = self.kept = 0

    def invent(self) -> None:
        """A job that brings instructions, and a job for each that is kept."""
        job = self._plan("instructions", {"from": self._rng.sample(self._seeds, 8)})
        drafts = [Draft(stage="instructions", instruction=self._writer.instruction()) for _ in range(7)]
        outcomes = [self._judged(job, place, draft) for place, draft in enumerate(drafts, start=1)]
        self._answer(job, 1400, 160)
        self._ledger.settle(job.number, outcomes, [])
        for outcome in outcomes:
            if outcome.sample:
                self._complete(outcome.sample)

    def _complete(self, sample: Sample) -> None:
        job = self._plan("instances", {"instruction": sample.instruction}, sample.id)
        instances = tuple(self._writer.instance() for _ in range(self._rng.choice((1, 1, 2))))
        draft = Draft(stage="instances", instruction=sample.instruction, instances=instances,
                      meta={"is_classification": self._rng.random() < 0.2})  # fmt: skip
        self._answer(job, 900, 90)
        self._ledger.settle(job.number, [self._outcome(job, 1, draft, Verdict(filter="instances", keep=True))], [])
        self.kept += 1

    def _judged(self, job: Job, place: int, draft: Draft) -> Outcome:
        drawn = self._rng.random()
        for reason, share in REASONS:
            if drawn < share:
                near = {"of": self._rng.choice(self._seeds), "score": round(self._rng.uniform(0.7, 1), 3)}
                name, detail = ("rouge", near) if reason == "near_duplicate" else ("validity", {})
                return self._outcome(job, place, draft, Verdict(filter=name, keep=False, reason=reason, detail=detail))
            drawn -= share
        return self._outcome(job, place, draft, Verdict(filter="rouge", keep=True))

    def _outcome(self, job: Job, place: int, draft: Draft, verdict: Verdict) -> Outcome:
        id = f"{job.number}.{place}"
        sample = Sample(id=id, **draft.model_dump(exclude={"flaw"}), parent=job.parent) if verdict.keep else None
        return Outcome(id, draft, (verdict,), sample)

    def _plan(self, stage: str, payload: dict[str, object], parent: str | None = None) -> Job:
        self._jobs += 1
        job = Job(self._jobs, stage, payload, parent)
        self._ledger.plan(job)
        return job

    def _answer(self, job: Job, asked: int, told: int) -> None:
        done = Completion(text="…", prompt_tokens=asked, completion_tokens=told, cached_tokens=asked * 3 // 4)
        self._ledger.answer(f"{job.number}", job.number, 1, "{}", done, 1.0)


def make(folder: Path, tasks: int) -> None:
    """A run with so many kept tasks."""
    folder.mkdir(parents=True)
    config = build(RunConfig, {"n": tasks, "backend": {"kind": "scripted", "script": "unused"}}, where="bench")
    with begin(folder, read(config), {"writer": "made-up"}) as ledger:
        maker = Maker(ledger, Random(7))
        while maker.kept < tasks:
            maker.invent()


def painted(page: Path) -> tuple[float, float]:
    """Seconds until a browser paints the page first, and until all of its samples can be searched."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.support.browsing import browser

    with browser() as driver:
        driver.get(page.as_uri())
        driver.until("document.documentElement.dataset.ready")
        [paint] = driver.script("return performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)")
        return paint / 1000, driver.script("return performance.getEntriesByName('ready')[0].startTime") / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--keep", type=Path, help="folder to leave the run in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = (options.keep or Path(scratch)) / "bench"
        if not run.exists():
            make(run, options.tasks)
        began = time.perf_counter()
        command = [sys.executable, "-m", "selfinstruct", "report", str(run)]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        print(said.stdout.strip())
        first, ready = painted(run / "report.html")
        size = (run / "report.html").stat().st_size / 1e6
        print("| written in | size | first paint | samples ready |\n|---:|---:|---:|---:|")
        print(f"| {seconds:.1f} s | {size:.2f} MB | {first:.2f} s | {ready:.2f} s |")


if __name__ == "__main__":
    main()
