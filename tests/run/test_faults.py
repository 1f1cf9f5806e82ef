"""What a server can do to a run: faults become data, fatal errors stop it, bugs crash, nothing paid for is lost."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfinstruct.backends.scripted import prompt_of
from selfinstruct.errors import EndpointError, RateLimited, Refused, Transient
from selfinstruct.records import Request
from selfinstruct.run.events import Failed, Faulted
from tests.support.runs import Answer, Model, Run, answering, says

laws = settings(deadline=None, max_examples=8)
fine = answering()


def failing(share: float, error: Exception, timing: int = 0) -> Answer:
    """Brings this error for a share of all requests, by what they ask."""

    def answer(request: Request) -> str | Exception:
        return error if Random(f"{timing}{prompt_of(request)}").random() < share else fine(request)

    return answer


def now_and_then(error: Exception) -> Answer:
    """Brings this error for every third attempt."""
    attempts = iter(range(10**9))
    return lambda request: error if next(attempts) % 3 == 2 else fine(request)


@laws
@given(timing=st.integers(0, 2**32), ordered=st.booleans(), share=st.sampled_from([0.05, 0.3]))
def test_a_run_with_failed_jobs_counts_up_and_verifies_before_and_after_retry(
    tmp_path_factory: pytest.TempPathFactory, timing: int, ordered: bool, share: float
) -> None:
    run = Run(tmp_path_factory.mktemp("failed"), n=8, ordered=ordered)
    run.drive(Model(failing(share, Transient("timeout", "no answer in 600 s"), timing), timing=timing))
    run.counts_add_up()
    assert run.differences() == []
    run.drive(Model(timing=timing), again=True)
    assert run.count("jobs", "state = 'failed'") == 0
    run.counts_add_up()
    assert run.differences() == []
    assert run.drive(Model(timing=timing)).kept == 8


def test_a_failed_job_is_data_with_its_kind_and_message_and_each_attempt(tmp_path: Path) -> None:
    run = Run(tmp_path, attempts=3, n=4)
    run.drive(Model(failing(0.3, Transient("server_error", "HTTP 500", status=500, body="oops"))))
    failed = run.query("SELECT number, error_kind, error FROM jobs WHERE state = 'failed'")
    assert failed
    assert {tuple(rest) for _, *rest in failed} == {("server_error", "HTTP 500")}
    for number, *_ in failed:
        attempts = run.query("SELECT attempt, kind, status, body FROM faults WHERE job = ? ORDER BY id", number)
        assert attempts == [(n, "server_error", 500, "oops") for n in (1, 2, 3)]
    assert {e.job.number for e in run.events if isinstance(e, Failed)} == {number for number, *_ in failed}
    assert sum(isinstance(e, Faulted) for e in run.events) == run.count("faults")


def test_what_another_attempt_answers_is_no_failure(tmp_path: Path) -> None:
    run = Run(tmp_path, attempts=9).drive(Model(now_and_then(Transient("timeout", "…"))))
    assert run.count("jobs", "state = 'failed'") == 0
    assert run.count("faults") > 0
    assert run.exports()


def test_being_told_to_wait_is_no_failed_attempt(tmp_path: Path) -> None:
    run = Run(tmp_path, attempts=1).drive(Model(now_and_then(RateLimited("rate_limited", "429", retry_after=0))))
    assert run.ending == "complete"
    assert run.count("jobs", "state = 'failed'") == 0


@pytest.mark.parametrize(
    "error", [Transient("timeout", "…"), Refused("content_filter", "no"), Refused("prompt_too_long", "too long")]
)
def test_retry_asks_for_what_failed_and_for_nothing_else(tmp_path: Path, error: Exception) -> None:
    run = Run(tmp_path, n=8, concurrency=8).drive(Model(failing(0.2, error)))
    failed = {number for (number,) in run.query("SELECT number FROM jobs WHERE state = 'failed'")}
    waiting = {number for (number,) in run.query("SELECT number FROM jobs WHERE state = 'planned'")}
    assert failed
    assert waiting, "for this test some jobs must be open when the run is complete"
    model = Model()
    run.drive(model, again=True)
    assert {e.job.number for e in run.events if hasattr(e, "job")} == failed
    assert waiting <= {number for (number,) in run.query("SELECT number FROM jobs WHERE state = 'planned'")}
    assert 0 < len(model.asked) <= 2 * len(failed)
    assert run.kept == 8
    assert run.differences() == []


def test_retry_of_a_run_that_lacks_tasks_performs_what_follows_too(tmp_path: Path) -> None:
    run = Run(tmp_path, n=4, patience=3, concurrency=2).drive(Model(failing(1.0, Transient("timeout", "…"))))
    assert run.ending == "failing"
    assert run.drive(Model(answering(1.0)), again=True).ending == "complete"
    assert run.kept == 4


@pytest.mark.parametrize("moment", [1, 2, 4, 7])
def test_a_retry_that_was_cut_short_is_gone_on_with(tmp_path: Path, moment: int) -> None:
    run = Run(tmp_path, n=8, concurrency=8).drive(Model(failing(0.4, Transient("timeout", "…"))))
    failed = run.count("jobs", "state = 'failed'")
    assert failed > 2
    run.drive(Model(), again=True, cut_after=moment)
    run.drive(Model(), again=True)
    assert run.query("SELECT count(DISTINCT job) FROM events WHERE kind = 'retry'") == [(failed,)]
    assert run.count("jobs", "state <> 'settled' AND number IN (SELECT job FROM events WHERE kind = 'retry')") == 0


def test_a_refused_request_is_asked_once_and_remembered(tmp_path: Path) -> None:
    model = Model(failing(0.3, Refused("content_filter", "not that")))
    run = Run(tmp_path, attempts=5).drive(model)
    # What arrived after the last task was kept is stored, and its job stays planned.
    over = "job IN (SELECT number FROM jobs WHERE state <> 'planned')"
    refused = run.count("answers", f"refused = 'content_filter' AND {over}")
    assert refused == run.count("jobs", "error_kind = 'content_filter'") > 0
    assert len(model.asked) == run.count("answers")


def narrow(room: int) -> Answer:
    """A server whose context holds so many words of prompt and tokens of answer together."""

    def answer(request: Request) -> str | Exception:
        prompt, wanted = prompt_of(request), request.sampling.max_tokens or 0
        if len(prompt.split()) + wanted > room:
            return Refused("prompt_too_long", f"{len(prompt.split())} + {wanted} > {room}")
        return says(prompt, wanted)

    return answer


def test_a_prompt_that_is_too_long_is_given_less_room_and_then_fewer_demonstrations(tmp_path: Path) -> None:
    run = Run(tmp_path, n=1, concurrency=1, patience=1).drive(Model(narrow(room=100)))
    asked = [shape(*row) for row in run.query("SELECT question FROM answers WHERE job = 1 ORDER BY id")]
    rooms = [room for room, _ in asked]
    assert rooms[:5] == [1024, 512, 256, 128, 64], "first the answer's room is halved"
    assert rooms[5] == 1024, "then the prompt shows less"
    shown = [demonstrations for _, demonstrations in asked]
    assert shown[5] < shown[0]
    assert shown == sorted(shown, reverse=True)
    assert run.count("jobs", "number = 1 AND state = 'settled'") == 1
    assert run.differences() == []


def shape(text: str) -> tuple[int, int]:
    """The room that a request gives the answer, and how many demonstrations its prompt shows."""
    request = json.loads(text)
    return request["sampling"]["max_tokens"], request["prompt"].count("Write ")


@pytest.mark.parametrize("ordered", [False, True])
def test_a_fatal_error_stops_the_run_at_once_and_keeps_what_was_answered(tmp_path: Path, ordered: bool) -> None:
    answers = iter(range(10**9))
    model = Model(lambda request: EndpointError("401: wrong key") if next(answers) > 20 else fine(request))
    run = Run(tmp_path, n=30, ordered=ordered, concurrency=5)
    with pytest.raises(EndpointError, match="wrong key"):
        run.drive(model)
    assert run.count("answers") == 21
    assert len(model.asked) <= 21 + 5, "asked on after it was told that nothing will work"
    assert run.count("jobs", "state = 'failed'") == 0
    assert run.differences() == []
    assert run.drive(Model()).kept == 30
    assert run.differences() == []


def test_a_fatal_error_stops_the_run_even_if_others_are_still_answered(tmp_path: Path) -> None:
    answers, asked = iter(range(10**9)), list[int]()

    def answer(request: Request) -> str | Exception:
        asked.append(len(asked))
        return EndpointError("402: no quota") if next(answers) == 20 else fine(request)

    run = Run(tmp_path, n=30, concurrency=5)
    with pytest.raises(EndpointError, match="no quota"):
        run.drive(Model(answer))
    assert len(asked) <= 21 + 5
    assert run.count("answers") == len(asked) - 1
    assert run.differences() == []


def test_a_fatal_error_after_the_last_task_is_kept_is_no_matter(tmp_path: Path) -> None:
    run = Run(tmp_path, n=6, concurrency=12)
    run.drive(Model(lambda request: EndpointError("402: no quota") if run.complete else fine(request)))
    assert run.ending == "complete"


@pytest.mark.parametrize("moment", [0, 1, 9])
def test_a_bug_crashes_with_its_own_traceback_and_the_job_stays_planned(tmp_path: Path, moment: int) -> None:
    answers = iter(range(10**9))
    model = Model(lambda request: ZeroDivisionError("a bug") if next(answers) == moment else fine(request))
    run = Run(tmp_path)
    with pytest.raises(ZeroDivisionError) as crash:
        run.drive(model)
    assert any(entry.name == "perform" for entry in crash.traceback)
    assert run.count("jobs", "state = 'failed'") == 0
    assert run.drive(Model()).ending == "complete"


def test_a_server_that_answers_nothing_ends_the_run_and_retry_takes_it_up(tmp_path: Path) -> None:
    """Failures are no reason to be called barren: once the server is well again nothing stands in the way."""
    run = Run(tmp_path, patience=7, attempts=1).drive(Model(failing(1.0, Transient("timeout", "no answer"))))
    assert run.ending == "failing"
    assert "no answer" in run.events[-1].message
    assert run.count("jobs", "state = 'failed'") >= 7
    assert run.state.barren == 0
    assert run.drive(Model()).ending == "complete"
    run.drive(Model(), again=True)
    assert run.count("jobs", "state = 'failed'") == 0
    assert run.kept == 6


def test_no_further_attempt_is_made_once_the_run_was_told_to_stop(tmp_path: Path) -> None:
    model = Model(failing(1.0, Transient("timeout", "…")))
    run = Run(tmp_path, attempts=1000, concurrency=3)
    asked: list[int] = []
    run.drive(model, stop_after=9, seen=lambda event: asked.append(len(model.asked)))
    assert run.ending == "interrupted"
    assert len(model.asked) - asked[9] <= 3
    assert run.count("jobs", "state = 'failed'") == 0


def test_text_that_no_file_can_hold_is_made_so_that_it_can(tmp_path: Path) -> None:
    """Half surrogate pairs in answers, in a model's name, in faults; NUL; a megabyte on one line."""

    def odd(request: Request) -> str | Exception:
        rng = Random(prompt_of(request))
        if rng.random() < 0.1:
            return Transient("server_error", "said \ud800", body="\udfff\0")
        return fine(request).replace(" now.", rng.choice([" \ud83d now.", " \0 now.", "x" * 2**20])) + "\ud800"

    run = Run(tmp_path, attempts=1).drive(Model(odd))
    assert run.ending == "complete"
    assert run.differences() == []
    assert all(content.decode() for content in run.exports().values())
    assert run.count("faults", "message = 'said \ufffd'") == run.count("faults")


def test_a_json_answer_can_escape_what_no_file_can_hold(tmp_path: Path) -> None:
    tasks = (
        r'{"tasks": ["Describe the \ud800 stone to a friend now.", "Name nine \ud83d\ude00 rivers of the far north."]}'
    )

    def structured(request: Request) -> str:
        said = {"tasks": tasks, "is_classification": '{"is_classification": false}'}
        wanted = next(iter((request.answer_schema or {}).get("properties", {})))  # type: ignore[call-overload]
        return said.get(wanted, r'{"instances": [{"input": "\udc00", "output": "a \ud800 b"}]}')

    chat = {"dialect": "chat", "structured": True}
    run = Run(tmp_path, n=2, concurrency=1, backend=chat).drive(Model(structured))
    assert run.ending == "complete"
    assert "😀" in run.query("SELECT group_concat(instruction) FROM kept")[0][0]
    assert run.differences() == []
