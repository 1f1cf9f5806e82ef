"""The one door: a recipe that asks a model, the sandbox and a tool, through crashes, resume and `verify`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfinstruct.backends.scripted import prompt_of
from selfinstruct.errors import ConfigError, Transient
from selfinstruct.inputs.config import RunConfig, build
from selfinstruct.records import Answer, Call, Completion, Execution, Program, Request, Result
from selfinstruct.run.asking import LONGEST, Put, as_stored
from selfinstruct.run.laws import assert_any_order
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told, read
from selfinstruct.store.keys import answer_key
from selfinstruct.store.ledger import Ledger
from tests.support.runs import Model, Run
from tests.support.three_verbs import Machine, Register, Tried, tried

__all__ = ["tried"]
pytestmark = pytest.mark.usefixtures("tried")

SETTINGS: dict[str, Any] = {"recipe": {"name": "tried"}, "sandbox": {"kind": "scripted", "script": "unused"},
                            "tools": {"kind": "scripted", "script": "unused"}, "n": None}  # fmt: skip


def program(request: Request) -> str:
    """What the model writes: the same for the same task."""
    return f"print({Random(prompt_of(request)).randrange(1000)})"


def begun(folder: Path, **changes: Any) -> Run:
    return Run(folder, **{**SETTINGS, **changes})


def drive(run: Run, model: Model, machine: Machine, register: Register, **how: Any) -> Run:
    return run.drive(model, sandbox=machine, toolbox=register, **how)


def is_whole(run: Run) -> None:
    assert run.differences() == []
    run.counts_add_up()


def test_all_three_verbs_are_stored(tmp_path: Path) -> None:
    """Completions, executions and results lie in the ledger, each of its kind, under the key of its question."""
    run = drive(begun(tmp_path), Model(program), Machine(), Register())
    is_whole(run)
    kinds = dict(run.query("SELECT kind, count(*) FROM answers GROUP BY 1"))
    assert kinds["completion"] == kinds["execution"] == 20
    assert kinds["result"] == 2 * run.kept > 0
    assert dict(run.query("SELECT kind, role FROM answers GROUP BY 1, 2")) == {
        "completion": "writer", "execution": "sandbox", "result": "tools"}  # fmt: skip
    with Ledger.open(run.folder) as ledger:
        execution = next(
            a.answer for job in range(1, 11) for a in ledger.answers(job) if isinstance(a.answer, Execution)
        )
        assert execution.stdout.startswith("ran print(")
    for key, job, nth, question, kind in run.query("SELECT key, job, nth, question, kind FROM answers"):
        assert key == answer_key(job, question, nth, kind)


@settings(deadline=None, max_examples=25)
@given(timing=st.integers(0, 2**32), life=st.integers(1, 60))
def test_a_kill_repeats_only_what_was_in_flight(
    tmp_path_factory: pytest.TempPathFactory, timing: int, life: int
) -> None:
    """After any kill the run goes on, programs that were answered are not run again, and a session begins anew."""
    run = begun(tmp_path_factory.mktemp("killed"))
    machine, register, rng, kills = Machine(timing=timing), Register(), Random(timing), 0
    model = Model(program, timing=timing)
    while drive(run, model, machine, register, killed_after=life).ending != "complete":
        life, kills = rng.randrange(1, 60), kills + 1
    is_whole(run)
    stored = dict(run.query("SELECT kind, count(*) FROM answers GROUP BY 1"))
    assert len(model.asked) - stored["completion"] <= kills * 8
    # One more than there are slots: a process that dies here still takes the turn of the loop in which it was killed.
    assert len(machine.ran) - stored["execution"] <= kills * (machine.slots + 1)
    assert run.kept == run.count("drafts", "json_extract(facets, '$.tests') = 'passed'")


@settings(deadline=None, max_examples=15)
@given(timing=st.integers(0, 2**32), moment=st.integers(1, 60))
def test_ordered_runs_do_not_depend_on_timing(
    tmp_path_factory: pytest.TempPathFactory, timing: int, moment: int
) -> None:
    """With `ordered` the export equals that of a run never cut, whatever arrives first."""
    one, other = (begun(tmp_path_factory.mktemp(name), ordered=True) for name in ("one", "other"))
    drive(one, Model(program), Machine(), Register())
    cut = Model(program, timing=timing)
    drive(other, cut, Machine(timing=timing), Register(), cut_after=moment)
    drive(other, cut, Machine(timing=timing), Register())
    assert {name: rows for name, rows in one.exports().items() if name == "alpaca.jsonl"} == {
        name: rows for name, rows in other.exports().items() if name == "alpaca.jsonl"}  # fmt: skip


def test_a_session_cut_short_begins_anew(tmp_path: Path) -> None:
    """What a session of a job cut short was told stays stored; the next try opens a register of its own."""
    run = begun(tmp_path)
    drive(run, Model(program), Machine(), Register(), cut_after=12)
    for life in range(1, 40):
        drive(run, Model(program), Machine(), Register(), killed_after=life)
    drive(run, Model(program), Machine(), Register())
    is_whole(run)
    attempts = [n for (n,) in run.query("SELECT DISTINCT json_extract(question, '$.attempt') FROM answers WHERE"
                                        " kind = 'result' ORDER BY 1")]  # fmt: skip
    assert attempts[0] == 1
    assert len(attempts) > 1, "no session was cut short"


def test_a_call_that_must_not_be_repeated_is_not(tmp_path: Path, tried: type[Tried], monkeypatch: Any) -> None:
    """However often the run is killed, nothing is paid twice; where that is in doubt the job fails and says so."""
    monkeypatch.setattr(tried, "waits", True)
    run, register = begun(tmp_path), Register(once=["pay"])
    for life in range(1, 60):
        drive(run, Model(program), Machine(), register, killed_after=life)
    drive(run, Model(program), Machine(), register)
    paid = Counter({call: n for call, n in register.called.items() if call.startswith("pay")})
    assert paid
    assert set(paid.values()) == {1}
    in_doubt = run.count("jobs", "error_kind = 'in_doubt'")
    assert run.kept <= len(paid) <= run.kept + in_doubt
    run.counts_add_up()


def test_a_person_decides_on_what_is_in_doubt(tmp_path: Path, tried: type[Tried], monkeypatch: Any) -> None:
    """A call without an answer fails its job as `in_doubt`; `retry` makes it again."""
    monkeypatch.setattr(tried, "waits", True)
    run = begun(tmp_path)
    drive(run, Model(program), Machine(), Register(once=["pay"], fault=Transient("timeout", "no answer")))
    assert (run.kept, run.count("jobs", "error_kind = 'in_doubt'") > 0) == (0, True)
    drive(run, Model(program), Machine(), Register(once=["pay"]), again=True)
    assert run.kept > 0
    is_whole(run)


def test_a_call_that_may_be_repeated_is_tried_again(tmp_path: Path, tried: type[Tried], monkeypatch: Any) -> None:
    """A tool that does not answer is asked up to three times, and the job then fails with its fault."""
    monkeypatch.setattr(tried, "waits", True)
    register = Register(fault=Transient("timeout", "no answer"))
    run = drive(begun(tmp_path), Model(program), Machine(), register)
    assert {n for call, n in register.called.items() if call.startswith("pay")} == {3}
    assert set(run.query("SELECT error_kind FROM jobs WHERE state = 'failed'")) == {("timeout",)}


def test_the_sandbox_runs_as_many_as_it_has_slots(tmp_path: Path) -> None:
    """Programs beyond the slots wait, and hold nobody else's place."""
    machine = Machine(slots=2)
    drive(begun(tmp_path, concurrency=8), Model(program), machine, Register())
    assert machine.most_at_once == 2


def test_answers_in_any_order_make_the_same_drafts(tmp_path: Path) -> None:
    """The law for recipes: which answer arrives first decides nothing."""
    state = RunState(told(tmp_path), target=None)
    for _ in range(5):
        job = state.plan()
        assert job is not None
        assert len(assert_any_order(state, job, played)) == 1


def test_a_recipe_that_takes_the_first_answer_breaks_the_law(tmp_path: Path, monkeypatch: Any) -> None:
    """The helper finds a recipe whose drafts depend on the order of arrival."""
    import asyncio

    async def first(self: Tried, job: Any, ask: Any) -> Any:
        from selfinstruct.records import Draft, Sampling

        asked = [asyncio.ensure_future(ask.generate(f"{n}", Sampling())) for n in range(4)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*asked)
        return [Draft(stage="try", instruction=next(iter(done)).result().text)]

    monkeypatch.setattr(Tried, "perform", first)
    state = RunState(told(tmp_path), target=None)
    job = state.plan()
    assert job is not None
    with pytest.raises(AssertionError, match="other drafts when answers arrive in another order"):
        assert_any_order(state, job, played)


def told(folder: Path) -> Told:
    from tests.support.runs import written_seeds

    tree = {**SETTINGS, "seeds": str(written_seeds(folder)), "backend": {"kind": "scripted", "script": "unused"}}
    return read(build(RunConfig, tree, where="test"))


def played(put: Put) -> Answer:
    if isinstance(put.question, Request):
        return Completion(text=program(put.question))
    return Execution(stdout="ran") if isinstance(put.question, Program) else Result(content="number 1")


# -- as it is stored --------------------------------------------------------------------------------------------------


def test_long_outputs_are_cut_before_they_are_seen() -> None:
    """What a recipe reads is what the ledger has: at most so many characters, and told to be in part."""
    long = "x" * (LONGEST + 5)
    stored = as_stored(Execution(stdout=long, stderr="e", files={"a": long, "b": "b\ud800"}))
    assert isinstance(stored, Execution)
    assert (len(stored.stdout), stored.stderr, len(stored.files["a"])) == (LONGEST, "e", LONGEST)
    assert stored.files["b"] == "b\ufffd"
    assert stored.cut == ("stdout", "a")
    result = as_stored(Result(content=long))
    assert isinstance(result, Result)
    assert (len(result.content), result.cut) == (LONGEST, True)


@pytest.mark.parametrize(
    ("text", "reasoning", "said", "where"),
    [
        ("<think>Hm.</think>\n\nYes.", "Hm.", "\n\nYes.", "tags"),
        ("Hm, hm.\n</think>\nYes.", "Hm, hm.\n", "\nYes.", "closing_tag"),
        ("<think>Hm, and then", "Hm, and then", "", "open_tag"),
        ("Yes.", "", "Yes.", ""),
    ],
)
def test_thoughts_are_told_apart_from_what_is_said(text: str, reasoning: str, said: str, where: str) -> None:
    """Tags of any backend's answer, also a lone closing one; the whole text can be had again."""
    stored = as_stored(Completion(text=text))
    assert isinstance(stored, Completion)
    assert (stored.reasoning, stored.text, stored.reasoning_from, stored.whole) == (reasoning, said, where, text)


def test_what_a_server_keeps_apart_stays_apart() -> None:
    """Thoughts in a field of their own are stored as they came, and survive the ledger."""
    answer = Completion(text="Yes.", reasoning="Hm.", reasoning_from="reasoning_content", reasoning_tokens=3,
                        calls=(Call(id="c", tool="pay", arguments={"sum": 3}),))  # fmt: skip
    assert as_stored(answer) == answer


def test_thoughts_in_both_places_are_told_apart() -> None:
    """A server that tells thoughts in a field and leaves marks in the text leaks neither, and both are kept."""
    for text, said in (("\n</think>\n\nYes.", "\n\nYes."), ("<think>Ha.</think>Yes.\n<think>Oh.</think>", "Yes.\n")):
        stored = as_stored(Completion(text=text, reasoning="Hm.", reasoning_from="reasoning"))
        assert isinstance(stored, Completion)
        assert (stored.text, stored.reasoning, stored.reasoning_from) == (said, "Hm.", "reasoning")
        assert stored.whole == text


# -- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sandbox": None}, "sandbox: tried runs programs; name a kind, with sandbox.kind"),
        ({"tools": None}, "tools: tried calls tools; name a kind, with tools.kind"),
        ({"recipe": {"name": "alpaca"}}, "sandbox: no recipe of this run runs programs; leave it out"),
    ],
)
def test_a_door_that_is_missing_or_not_asked(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """A recipe without its sandbox, and a sandbox without its recipe, are one line each."""
    with pytest.raises(ConfigError) as refused:
        begun(tmp_path, **changes)
    assert str(refused.value) == said
