"""Ledgers made by hand for reports: what a model wrote is as hostile as it can be, and families are evolved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfinstruct.inputs.config import RunConfig, build
from selfinstruct.records import (
    Call,
    Check,
    Completion,
    Draft,
    Instance,
    Job,
    Outcome,
    Rival,
    Sample,
    Tool,
    Turn,
    Verdict,
)
from selfinstruct.run.folder import begin
from selfinstruct.run.told import read
from selfinstruct.store.ledger import Ledger
from tests.support.runs import written_seeds

HOSTILE = (
    "</script><script>document.title = 'pwned'</script>",
    "<img src=x onerror=\"document.title = 'pwned'\">",
    "<!-- <script> {{ 7 * 7 }} ${7 * 7} javascript:alert(1)",
    "\u202eevil\u202c \u2067mark\u2069 \u200f end",
    "bell \x07 escape \x1b[31m null \x00 delete \x7f",
    "half a pair: \ufffd, and a separator:\u2028next",
    "مرحبا بالعالم، اكتب قصيدة",
    "写一首关于大海的诗。",
    "&lt;b&gt; &amp; <b>bold</b> **bold** `code`",
)
"""Texts that are on a page what they are in the ledger, and do nothing."""

KEEP = Verdict(filter="rouge", keep=True)


class Maker:
    """Adds jobs and their drafts to a ledger, one to a job unless told otherwise."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._jobs = 0

    def job(
        self, stage: str, *drafts: tuple[Draft, Verdict], parent: str | None = None, shown: tuple[str, ...] = ()
    ) -> list[str]:
        """A settled job; the ids of its drafts."""
        self._jobs += 1
        job = Job(self._jobs, stage, {}, parent, shown)
        self.ledger.plan(job)
        answer = Completion(text="…", model="m", prompt_tokens=100, completion_tokens=10, cached_tokens=50)
        self.ledger.answer(str(job.number), job.number, 1, "{}", answer, 0.5)
        outcomes = [self._outcome(job, place, *one) for place, one in enumerate(drafts, start=1)]
        self.ledger.settle(job, outcomes, [])
        return [outcome.id for outcome in outcomes]

    def _outcome(self, job: Job, place: int, draft: Draft, verdict: Verdict) -> Outcome:
        id = f"{job.number}.{place}"
        sample = Sample(id=id, **draft.model_dump(exclude={"flaw"}), parent=job.parent) if verdict.keep else None
        return Outcome(id, draft, (verdict,), sample)

    def task(
        self,
        text: str,
        output: str = "Done.",
        *,
        parent: str | None = None,
        verdict: Verdict = KEEP,
        **more: Any,
    ) -> str:
        """A draft of the last stage."""
        draft = Draft(stage="instances", instruction=text, **{"instances": (Instance(output=output),), **more})
        return self.job("instances", (draft, verdict), parent=parent)[0]

    def invented(self, *texts: str, verdict: Verdict = KEEP) -> list[str]:
        """Drafts of the first stage, of one job."""
        drafts = [(Draft(stage="instructions", instruction=text), verdict) for text in texts]
        return self.job("instructions", *drafts, shown=("s1", "s2"))

    def evolved(self, text: str, member: str, operator: str, round_: int, *, verdict: Verdict = KEEP) -> str:
        """A family's next member, with the answer to it where it is kept; its id."""
        kin: dict[str, Any] = {"family": "s1", "facets": {"operator": operator, "round": str(round_)}}
        parent = None if member == "s1" else member
        [id] = self.job("instructions", (Draft(stage="instructions", instruction=text, **kin), verdict), parent=parent,
                        shown=(member,))  # fmt: skip
        return self.task(text, parent=id, **kin) if verdict.keep else id


def talk(text: str) -> dict[str, Any]:
    """What a task has that is a conversation with a tool, thoughts and rivals; all of its texts are this one."""
    call = Call(id="c1", tool=text, arguments={text: [text]})
    turns = (
        Turn(role="assistant", content="", reasoning=text, calls=(call,)),
        Turn(role="tool", content=text, call="c1"),
        Turn(role="assistant", content=text, train=False),
        Turn(role="user", content=text),
    )
    instance = Instance(
        input=text, turns=turns, output=text, reasoning=text, score=0.5,
        rivals=(Rival(output=text, score=0.25, by=text),), checks=(Check(kind="exact", text=text),),
    )  # fmt: skip
    return {"instances": (instance,), "system": text, "tools": (Tool(name=text),)}


@contextmanager
def making(folder: Path, name: str = "run", **settings: Any) -> Iterator[Maker]:
    """A run of Self-Instruct's with seeds `s0` to `s9` in a folder of that name, to be filled."""
    (folder / name).mkdir()
    tree = {
        "n": 5,
        "seeds": str(written_seeds(folder)),
        "backend": {"kind": "scripted", "script": "unused"},
        **settings,
    }
    with begin(folder / name, read(build(RunConfig, tree, where="test")), {"writer": "model/<b>7B</b>"}) as ledger:
        yield Maker(ledger)


def hostile(folder: Path, name: str = "run") -> Path:
    """A run whose every text is hostile, kept and dropped, evolved and not."""
    with making(folder, name) as maker:
        for text in HOSTILE:
            [id] = maker.invented(text)
            maker.task(text, output=text, parent=id, meta={"category": text})
            duplicate = Verdict(filter="rouge", keep=False, reason="near_duplicate", detail={"of": id, "score": 0.91})
            maker.invented(text, verdict=duplicate)
            flawed = Draft(stage="instances", instruction="", flaw="unparseable", meta={"answer": text})
            maker.job("instances", (flawed, Verdict(filter="parse", keep=False, reason="unparseable")))
        child = maker.evolved("Write a <b>poem</b> about the sea in winter.", "s1", "deepen", 1)
        maker.evolved("Write a poem about the sea in winter, in Basque.", child, "add_constraints", 2)
        refused = Verdict(filter="elimination", keep=False, reason="refusal")
        maker.evolved("Sorry, I cannot.", child, "in_breadth", 2, verdict=refused)
        maker.task(HOSTILE[0], **talk(HOSTILE[1]))
    return folder / name
