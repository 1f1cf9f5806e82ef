"""Where a draft is from and what came of it, in ledgers made by hand, for any recipe and chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfinstruct.errors import RunError
from selfinstruct.records import Completion, Draft, Execution, Instance, Job, Outcome, Result, Seed, Verdict
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.lineage import Node, families, origins, steps
from tests.support.ledgers import empty, settled

REFUSAL = Verdict(filter="f", keep=False, reason="refusal")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with the seeds `s1` to `s3`, the last two of one family."""
    seeds = [Seed(id="s1", instruction="One."), *(Seed(id=f"s{n}", instruction="More.", family="d") for n in (2, 3))]
    with empty(tmp_path / "run", seeds) as ledger:
        yield ledger


def made(stage: str, text: str = "x", **more: Any) -> Draft:
    return Draft(stage=stage, instruction=text, instances=(Instance(output=text),), **more)


def tree(node: Node) -> Any:
    """The ids of a family, nested, in place of a draft's its job's where there is none."""
    name = node.get("id", node.get("job"))
    return {name: [tree(child) for child in node["children"]]} if node["children"] else name


# -- how it was made --------------------------------------------------------------------------------------------------


def test_a_step_tells_what_was_asked_of_whom(ledger: Ledger) -> None:
    """A model's prompt, a program and a call each stand in it; a refusal does not."""
    ledger.plan(job := Job(1, "a", {}, None, ("s1", "s2")))
    question = '{"model":"m","prompt":"Say it.","sampling":{"top_p":0.9}}'
    ledger.answer("k1", 1, 0, question, Completion(text="", model="n", refused="content_filter"), 0.1)
    ledger.answer("k2", 1, 0, question.replace("it", "that"), Completion(text="x", model="n"), 0.1)
    ledger.answer("k3", 1, 0, '{"messages":[{"role":"user","content":"Hi."}]}', Completion(text="x", model="n"), 0.1)
    ledger.answer("k4", 1, 0, '{"command":["true"]}', Execution(), 0.1)
    ledger.answer("k5", 1, 0, '{"tool":"find","arguments":{}}', Result(content="x"), 0.1)
    ledger.settle(job, [], [])
    id = settled(ledger, made("b"), parent=settled(ledger, made("a"), shown=("s1",)))
    draft = ledger.draft(id)
    assert draft is not None
    [_, last] = steps(ledger, draft.sample)
    assert (last.job, last.stage, last.demonstrations, last.answers) == (3, "b", [], [])
    [first] = steps(ledger, draft.sample.model_copy(update={"id": "1.1"}))
    assert first.demonstrations == ["s1", "s2"]
    assert first.answers == [
        {"id": "k2", "model": "n", "sampling": {"top_p": 0.9}, "prompt": "Say that."},
        {"id": "k3", "model": "n", "sampling": {}, "prompt": [{"role": "user", "content": "Hi."}]},
        {"id": "k4", "program": {"command": ["true"]}},
        {"id": "k5", "call": {"tool": "find", "arguments": {}}},
    ]


def test_a_task_is_made_from_the_nearest_task_or_source(ledger: Ledger) -> None:
    """Up the line of its jobs, else what its family began with; a task of neither is left out."""
    first = settled(ledger, made("b", family="s1"), parent=settled(ledger, made("a", family="s1"), shown=("s1",)))
    second = settled(ledger, made("b", family="s1"), parent=settled(ledger, made("a", family="s1"), parent=first))
    of_document = settled(ledger, made("b", family="d"), shown=("s3",))
    alone = settled(ledger, made("b"), shown=("s1", "s2"))
    found = origins(ledger, "b")
    assert (found[first], found[second], found[of_document]) == ("s1", first, "s3")
    assert alone not in found


def test_in_a_chain_sources_are_of_the_stage_before(ledger: Ledger) -> None:
    """What the recipe before kept is what the next one's tasks were made from, whatever that was made from."""
    source = settled(ledger, made("b", family="d"), parent=settled(ledger, made("a", family="d"), shown=("s2",)))
    task = settled(ledger, made("z/b", family="d"), parent=settled(ledger, made("z/a", family="d"), parent=source))
    assert origins(ledger, "z/b", "b")[task] == source
    assert origins(ledger, "z/b")[task] == "s2"


# -- what came of it --------------------------------------------------------------------------------------------------


def test_a_family_is_what_came_of_its_source(ledger: Ledger) -> None:
    """Whatever is asked for, it is drawn from the source on, with what was dropped and what has no draft yet."""
    first = settled(ledger, made("a", family="s1"), shown=("s1",))
    task = settled(ledger, made("b", family="s1"), parent=first)
    dropped = settled(ledger, made("a", family="s1"), REFUSAL, parent=task)
    again = settled(ledger, made("a", family="s1"), shown=("s1",))
    settled(ledger, made("a", family="d"), shown=("s2",))
    ledger.plan(Job(ledger.last_job() + 1, "b", {}, again))
    ledger.plan(Job(ledger.last_job() + 1, "a", {}, None, ("s1",)))
    whole = {"s1": [{first: [{task: [dropped]}]}, {again: [6]}, 7]}
    for id in ("s1", first, task, dropped, again):
        [family] = families(ledger, [id])
        assert (family["asked"], tree(family)) == ([id], whole)
    assert [tree(family) for family in families(ledger, ["s1", dropped, "s3"])] == [whole, {"d": ["5.1"]}]


def test_without_a_source_it_begins_with_a_draft(ledger: Ledger) -> None:
    """The first draft of a line stands for itself, though its job made others and its prompt showed seeds."""
    ledger.plan(Job(1, "a", {}, None, ("s1", "s2")))
    drafts = [made("a", text) for text in ("x", "y")]
    keep = Verdict(filter="none", keep=True)
    ledger.settle(Job(1, "a", {}), [Outcome(f"1.{n}", draft, (keep,), None) for n, draft in enumerate(drafts, 1)], [])
    child = settled(ledger, made("b"), parent="1.2")
    assert [tree(family) for family in families(ledger, ["1.1", child])] == ["1.1", {"1.2": [child]}]
    assert tree(families(ledger, ["s1"])[0]) == "s1"


def test_a_chain_is_one_family(ledger: Ledger) -> None:
    """What a second recipe makes of a task hangs under it, also where its job names no draft as parent."""
    task = settled(ledger, made("b"), parent=settled(ledger, made("a"), shown=("s1", "s2")))
    failed = settled(ledger, made("z/a", family=task), REFUSAL, parent=task, shown=(task,))
    again = settled(ledger, made("z/a", family=task), shown=(task,))
    [family] = families(ledger, [again])
    assert tree(family) == {"1.1": [{task: [failed, again]}]}


def test_an_id_that_is_neither_is_refused(ledger: Ledger) -> None:
    """In one line that says what ids look like."""
    with pytest.raises(RunError, match=r"no draft or seed 9\.9; drafts look like 17\.3, seeds like s1"):
        families(ledger, ["9.9"])
