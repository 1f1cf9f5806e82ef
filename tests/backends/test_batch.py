"""Batches against a real server on this machine: gathered, carried, cut short at every step, and delivered once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.backends import Backend, check_kind, open_backend
from selfinstruct.backends.flow.fleet import Fleet
from selfinstruct.backends.flow.retry import ask
from selfinstruct.backends.openai import batch_api
from selfinstruct.backends.openai import gathered as batch
from selfinstruct.backends.openai.batch_files import Batch, Journal, State
from selfinstruct.backends.openai.gathered import BatchBackend, answer_in
from selfinstruct.backends.openai.server import Server
from selfinstruct.errors import ConfigError, EndpointError, Fault, RateLimited, Refused, RunError, Transient
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.records import Completion, Request, Sampling, Turn
from tests.support import server as say
from tests.support.batch_server import BatchServer, Fate, Job, Late, Lost
from tests.support.server import Body, ModelServer, Received, Reply

HERE = Server(url="http://here/v1", key_env="KEY")
EVERY_CALL = [
    "POST /v1/files",
    "POST /v1/batches",
    "GET /v1/batches/{id}",
    "GET /v1/files/{id}/content",
]


def echo(body: Body) -> str:
    """Answers with the question."""
    return f"You said {Received('', {}, body).prompt}"


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer(answer=echo) as running:
        yield running


@asynccontextmanager
async def opened(server: ModelServer, folder: Path, **settings: Any) -> AsyncIterator[Backend]:
    notice = settings.pop("notice", print)
    config = BackendConfig(**{"kind": "openai", "base_url": server.base_url, "batch": True, **settings})
    async with open_backend(config, folder=folder, notice=notice) as backend:
        yield backend


def question(number: int, **settings: Any) -> Request:
    return Request(model="test-model", prompt=f"p{number}", key=f"b2:{number:032x}", **settings)


def chat(number: int) -> Request:
    return Request(model="test-model", messages=(Turn(role="user", content=f"c{number}"),), key=f"b2:{number:032x}")


async def asked(backend: Backend, *requests: Request) -> list[str | BaseException]:
    """The text of each answer, or what was raised."""
    answers = await asyncio.gather(*(backend.complete(request) for request in requests), return_exceptions=True)
    return [answer.text if isinstance(answer, Completion) else answer for answer in answers]


async def persistently(backend: Backend, *requests: Request, attempts: int = 3) -> tuple[list[str], Counter[str]]:
    """The text of each answer when asked as a run asks, and the kinds of fault on the way."""
    faults: Counter[str] = Counter()

    def on_fault(fault: Fault, attempt: int) -> None:
        faults[fault.kind] += 1

    fleet = Fleet.of(backend, BackendConfig(kind="openai", batch=True))
    answers = await asyncio.gather(*(ask(fleet, request, attempts=attempts, on_fault=on_fault) for request in requests))
    return [answer.text for answer in answers], faults


def said(*numbers: int) -> list[str]:
    return [f"You said p{number}" for number in numbers]


def stages(folder: Path) -> list[str]:
    return [State.model_validate_json(path.read_bytes()).stage for path in sorted(folder.glob("batches/*.json"))]


async def test_requests_that_are_asked_together_go_in_one_file_and_each_gets_its_own_answer(
    server: BatchServer, tmp_path: Path
) -> None:
    server.shuffled = 1
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, *map(question, range(50))) == said(*range(50))
    [lines] = server.lines()
    assert lines[7] == {
        "custom_id": f"b2-{7:032x}",
        "method": "POST",
        "url": "/v1/completions",
        "body": {"model": "test-model", "prompt": "p7"},
    }
    assert set(server.answered.values()) == {1}


async def test_what_is_asked_while_a_batch_is_away_goes_in_the_next(server: BatchServer, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, question(1)) == said(1)
        assert await asked(backend, question(2), question(3)) == said(2, 3)
    assert [len(lines) for lines in server.lines()] == [1, 2]


async def test_chats_and_completions_go_in_files_of_their_own(server: BatchServer, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as backend:
        answers = await asked(backend, question(1), chat(2), question(3), chat(4))
    assert answers == ["You said p1", "You said c2", "You said p3", "You said c4"]
    assert {line["url"]: len(lines) for lines in server.lines() for line in lines} == {
        "/v1/completions": 2,
        "/v1/chat/completions": 2,
    }


async def test_no_file_is_larger_than_the_server_takes(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MOST_LINES", 4)
    server.most_lines = 4
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, *map(question, range(10))) == said(*range(10))
    assert sorted(len(lines) for lines in server.lines()) == [2, 4, 4]


async def test_a_request_longer_than_a_file_may_be_is_refused(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MOST_BYTES", 500)
    async with opened(server, tmp_path) as backend:
        long = question(1).model_copy(update={"prompt": "word " * 100})
        [refusal, answer] = await asked(backend, long, question(2))
    assert isinstance(refusal, Refused)
    assert (refusal.kind, answer) == ("prompt_too_long", "You said p2")


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    most_lines=st.integers(1, 12),
    most_bytes=st.integers(40, 200),
)
def test_gathering_keeps_every_line_in_its_order_and_both_limits(
    lengths: list[int], most_lines: int, most_bytes: int
) -> None:
    requests = [
        (f"{i:03}", json.dumps({"custom_id": f"{i:03}", "pad": "x" * n}).encode() + b"\n")
        for i, n in enumerate(lengths)
    ]
    limits = {"most_lines": most_lines, "most_bytes": most_bytes + 40}
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        files = [journal.gather("/v1/completions", **limits)]
        for id, line in requests:
            if not files[-1].add(id, line):
                files.append(journal.gather("/v1/completions", **limits))
                assert files[-1].add(id, line)
        batches = [file.close() for file in files]
        assert [each for one in batches for each in one.requests()] == requests
        for one, after in zip(batches, [*batches[1:], None], strict=True):
            size = one.input.stat().st_size
            assert len(one.ids) == one.state.lines <= most_lines
            assert size <= limits["most_bytes"]
            if after is not None:
                first = next(after.requests())[1]
                assert len(one.ids) == most_lines or size + len(first) > limits["most_bytes"], "closed too early"


class OnTheSpot:
    """A runner that answers at once, with the lines that a test says."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines

    async def carry(self, batch: Batch) -> None:
        batch.result("output").write_bytes(b"".join(line + b"\n" for line in self._lines))
        batch.save(stage="fetched", status="completed")

    async def aclose(self) -> None:
        pass


def line_for(id: str, text: str | None = None) -> bytes:
    body = {"choices": [{"text": text or f"answer to {id}", "finish_reason": "stop"}]}
    return json.dumps({"custom_id": id, "response": {"status_code": 200, "body": body}}).encode()


@given(data=st.data())
def test_every_request_is_told_exactly_once_whatever_comes_back_in_whatever_order(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    back = data.draw(st.sets(st.integers(0, count - 1)))
    twice = data.draw(st.sets(st.sampled_from(sorted(back)))) if back else set()
    rubbish = data.draw(st.lists(st.sampled_from([b"{", b"[]", b'{"custom_id": 7}', b"\xff", line_for("nobody")])))
    answers = [line_for(f"b2-{number:032x}") for number in (*back, *twice)]
    lines = data.draw(st.permutations([*answers, *rubbish]))
    told: list[str] = []

    async def told_of_each() -> list[str | BaseException]:
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(batch, "QUIET", 0.0)
            backend = BatchBackend(OnTheSpot(lines), Journal(Path(folder)), HERE, model="m", notice=told.append)
            try:
                return await asyncio.wait_for(asked(backend, *map(question, range(count))), 5)
            finally:
                await backend.aclose()

    for number, found in enumerate(asyncio.run(told_of_each())):
        if number in back:
            assert found == f"answer to b2-{number:032x}"
        else:
            assert isinstance(found, Transient)
            assert found.kind == "batch_unanswered"
    assert bool(told) == bool(twice or rubbish)


# -- what a line says -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "raised", "kind"),
    [
        ({"response": {"status_code": 500, "body": {"error": {"message": "oops"}}}}, Transient, "server_error"),
        ({"response": {"status_code": 429, "body": {"error": {"message": "slow"}}}}, Transient, "rate_limited"),
        ({"response": {"status_code": 400, "body": {"error": {"message": "bad"}}}}, Refused, "bad_request"),
        (
            {"response": {"status_code": 400, "body": {"error": {"code": "context_length_exceeded"}}}},
            Refused,
            "prompt_too_long",
        ),
        ({"response": {"status_code": 400}, "error": {"error": {"message": "vLLM: no"}}}, Refused, "bad_request"),
        ({"response": {"status_code": 400}, "error": "must not stream"}, Refused, "bad_request"),
        ({"response": None, "error": {"code": "batch_expired"}}, Transient, "batch_expired"),
        ({"response": None, "error": {"code": "batch_cancelled", "message": "x"}}, Transient, "batch_cancelled"),
        ({"response": None, "error": {"code": "odd", "message": "x"}}, Transient, "server_error"),
        ({"response": {"status_code": 200, "body": {"error": {"message": "no"}}}}, Transient, "error_object"),
        ({"response": {"status_code": 200, "body": {"choices": []}}}, Transient, "empty_choices"),
        ({"response": {"status_code": 200, "body": "text"}}, Transient, "error_object"),
        ({}, Transient, "server_error"),
        ({"response": "text"}, Transient, "server_error"),
        ({"response": None, "error": {"code": ["batch_expired"]}}, Transient, "server_error"),
        ({"response": {"status_code": 200, "body": {"choices": [[]]}}}, Transient, "empty_choices"),
    ],
)
def test_a_line_without_an_answer_is_the_fault_that_it_would_be_live(
    line: dict[str, Any], raised: type[Fault], kind: str
) -> None:
    with pytest.raises(Fault) as caught:
        answer_in(line, HERE)
    assert isinstance(caught.value, raised)
    assert not isinstance(caught.value, RateLimited), "which would hold back all others"
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("status", "error", "advice"),
    [
        (401, {"message": "bad key"}, "wants a key: set KEY"),
        (429, {"code": "insufficient_quota", "message": "none"}, "top up the account"),
        (404, {"code": "model_not_found", "message": "no gpt-9"}, "no gpt-9: name a model"),
    ],
)
def test_a_line_that_says_nothing_will_work_stops_the_run(status: int, error: dict[str, str], advice: str) -> None:
    with pytest.raises(EndpointError, match=advice):
        answer_in({"response": {"status_code": status, "body": {"error": error}}}, HERE)


async def test_a_parameter_that_the_model_refuses_is_left_out_in_the_next_batch(
    server: BatchServer, tmp_path: Path
) -> None:
    def fussy(body: Body) -> str | Reply:
        if "max_tokens" in body:
            return say.error(400, "Unsupported parameter: 'max_tokens'", param="max_tokens")
        return echo(body)

    server.answer, told = fussy, list[str]()
    sampling = Sampling(max_tokens=5)
    async with opened(server, tmp_path, notice=told.append) as backend:
        answers = await asked(backend, *(question(i, sampling=sampling) for i in range(4)))
        assert answers == said(*range(4))
        assert await asked(backend, question(9, sampling=sampling)) == said(9)
    assert [sorted(lines[0]["body"]) for lines in server.lines()] == [
        ["max_tokens", "model", "prompt"],
        ["max_completion_tokens", "model", "prompt"],
        ["max_completion_tokens", "model", "prompt"],
    ]
    assert sum("does not take max_tokens" in line for line in told) == 1


async def test_a_parameter_that_is_refused_even_when_it_is_not_sent_is_a_refusal(
    server: BatchServer, tmp_path: Path
) -> None:
    server.always(say.error(400, "Unsupported parameter: 'temperature'", param="temperature"))
    async with opened(server, tmp_path) as backend:
        [refusal] = await asked(backend, question(1, sampling=Sampling(temperature=1.0)))
    assert isinstance(refusal, Refused)
    assert len(server.batches) == 2


# -- how a batch ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["expired", "cancelled"])
@pytest.mark.parametrize("silent", [True, False])
async def test_what_a_batch_did_not_come_to_is_asked_in_the_next_and_what_it_did_is_used(
    server: BatchServer, tmp_path: Path, status: str, silent: bool
) -> None:
    server.fates.append(Fate(status, answered=3, silent=silent))
    async with opened(server, tmp_path) as backend:
        answers, faults = await persistently(backend, *map(question, range(5)))
    assert answers == said(*range(5))
    assert faults == {f"batch_{status}": 2}
    assert [len(lines) for lines in server.lines()] == [5, 2]
    assert set(server.answered.values()) == {1}


async def test_lines_that_nobody_can_use_are_told_and_what_they_should_have_been_is_asked_again(
    server: BatchServer, tmp_path: Path
) -> None:
    told: list[str] = []
    server.fates.append(Fate(answered=2, silent=True, garbage=(b'{"custom_id": ', line_for("somebody-else"))))
    async with opened(server, tmp_path, notice=told.append) as backend:
        answers, faults = await persistently(backend, *map(question, range(3)))
    assert (answers, faults) == (said(*range(3)), {"batch_unanswered": 1})
    assert [line for line in told if "came back" in line] == [
        "batches/0001: 1 of the lines that came back cannot be read",
        "batches/0001: 1 of the lines that came back answer nothing that it asks, or a second time",
    ]


async def test_a_batch_that_fails_stops_the_run_with_the_server_s_words(server: BatchServer, tmp_path: Path) -> None:
    server.fates.append(Fate("failed", code="billing_hard_limit_reached", message="Billing hard\nlimit"))
    async with opened(server, tmp_path) as backend:
        answers = await asked(backend, question(1), question(2))
    for error in answers:
        assert isinstance(error, EndpointError)
        assert str(error).endswith("failed: billing_hard_limit_reached Billing hard limit")
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, question(1)) == said(1), "the next run asks anew"


async def test_a_batch_waits_until_there_is_room_for_it(server: BatchServer, tmp_path: Path) -> None:
    server.room = 5
    server.statuses = ("validating", *["in_progress"] * 6)
    async with opened(server, tmp_path) as backend:
        first = asyncio.create_task(asked(backend, *map(question, range(4))))
        while not server.batches:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(asked(backend, *map(question, range(10, 14))))
        assert await first == said(*range(4))
        assert await second == said(*range(10, 14))
    assert max(server.submitted().values()) == 1
    assert [len(lines) for lines in server.lines()] == [4, 4]
    assert any(job.status == "failed" for job in server.batches.values())
    assert set(server.answered.values()) == {1}


async def test_a_batch_for_which_there_will_never_be_room_is_divided(server: BatchServer, tmp_path: Path) -> None:
    server.room = 3
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, *map(question, range(10))) == said(*range(10))
    assert max(len(lines) for lines in server.lines()) <= 3
    assert set(server.answered.values()) == {1}


async def test_a_single_request_waits_for_the_room_that_others_take(server: BatchServer, tmp_path: Path) -> None:
    server.room = 0
    told: list[str] = []
    async with opened(server, tmp_path, notice=told.append) as backend:
        answer = asyncio.create_task(asked(backend, question(1)))
        while sum(job.status == "failed" for job in server.batches.values()) < 3:
            await asyncio.sleep(0.01)
        server.room = 1
        assert await answer == said(1)
    assert any("waiting for room: token_limit_exceeded Enqueued token limit" in line for line in told)


async def test_a_status_that_nobody_knows_is_waited_for(server: BatchServer, tmp_path: Path) -> None:
    server.statuses = ("validating", "pondering", "in_progress", "cancelling", "polishing")
    told: list[str] = []
    async with opened(server, tmp_path, notice=told.append) as backend:
        assert await asked(backend, question(1)) == said(1)
    assert [line.rpartition(" is ")[2] for line in told] == [
        f"{status}, {done} of 1 requests done"
        for status, done in (*((status, 0) for status in server.statuses), ("completed", 1))
    ]


async def test_results_that_the_server_has_no_longer_are_asked_again(server: BatchServer, tmp_path: Path) -> None:
    server.meet("GET /v1/files/{id}/content", say.error(404, "No such File object"))
    told: list[str] = []
    async with opened(server, tmp_path, notice=told.append) as backend:
        answers, faults = await persistently(backend, question(1))
    assert (answers, faults) == (said(1), {"batch_unanswered": 1})
    assert any("has it no longer" in line for line in told)


# -- faults on the way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", EVERY_CALL)
@pytest.mark.parametrize(
    "faults",
    [
        (say.error(500), say.error(503), say.html(502)),
        (say.dropped(), say.dropped()),
        (say.rate_limited(0.01), say.rate_limited()),
        (say.status(200, b"{half"),),
    ],
    ids=["5xx", "dropped", "429", "garbage"],
)
async def test_a_server_that_is_away_for_a_while_loses_nothing(
    server: BatchServer, tmp_path: Path, call: str, faults: Sequence[Reply]
) -> None:
    if call.endswith("content"):
        faults = [fault for fault in faults if fault.payload != b"{half"]
    server.meet(call, *faults)
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, *map(question, range(3))) == said(*range(3))
    assert list(server.submitted().values()) == [1]
    assert set(server.answered.values()) == {1}
    assert sum(file.purpose == "batch" for file in server.files.values()) == 1


@pytest.mark.parametrize(
    ("call", "how"),
    [("POST /v1/files", Lost()), ("POST /v1/batches", Lost()), ("POST /v1/batches", Late(0.15))],
    ids=["file", "batch", "late batch"],
)
async def test_what_arrived_although_its_answer_did_not_is_found_again(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, how: Lost | Late
) -> None:
    """Also behind others, some pages down the server's lists."""
    monkeypatch.setattr(batch_api, "FIRST_PAUSE", 0.1)
    server.meet(call, how)
    async with opened(server, tmp_path) as backend:
        answers = asyncio.create_task(asked(backend, *map(question, range(3))))
        while not server.calls[call]:
            await asyncio.sleep(0.001)
        for number in range(7):
            other = server._stored(f"other{number}.jsonl", "batch", b"{}\n")
            server.batches[f"other{number}"] = Job(f"other{number}", other.id, "/v1/completions", Fate(), {}, deque())
        assert await answers == said(*range(3))
    ours = [file.id for file in server.files.values() if file.name.startswith("selfinstruct-")]
    assert [server.submitted()[file] for file in ours] == [1]
    assert set(server.answered.values()) == {1}


async def test_a_batch_that_was_turned_away_is_not_taken_for_the_one_that_was_submitted_after_it(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api, "FIRST_PAUSE", 0.1)
    server.room = 0
    server.meet("POST /v1/batches", None, Late(0.15))
    async with opened(server, tmp_path) as backend:
        answer = asyncio.create_task(asked(backend, question(1)))
        while not any(job.status == "failed" for job in server.batches.values()):
            await asyncio.sleep(0.001)
        server.room = 1
        assert await answer == said(1)
    assert list(server.submitted().values()) == [1]
    assert server.answered.total() == 1


@pytest.mark.parametrize("call", EVERY_CALL)
async def test_a_wrong_key_stops_the_run_and_the_right_one_goes_on_where_it_was(
    server: BatchServer, tmp_path: Path, call: str
) -> None:
    server.meet(call, say.error(401, "Incorrect API key provided"))
    async with opened(server, tmp_path) as backend:
        [error] = await asked(backend, question(1))
    assert isinstance(error, EndpointError)
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, question(1)) == said(1)
    assert len(server.batches) == 1
    assert server.answered.total() == 1


async def test_a_server_that_stays_away_is_given_up(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api, "PATIENCE", 0.05)
    server.meet("GET /v1/batches/{id}", *[say.error(500)] * 1000)
    async with opened(server, tmp_path) as backend:
        [error] = await asked(backend, question(1))
    assert isinstance(error, EndpointError)
    assert str(error).endswith("run again later")


async def test_a_download_that_breaks_off_is_begun_again(server: BatchServer, tmp_path: Path) -> None:
    server.meet("GET /v1/files/{id}/content", Reply(payload=line_for("b2-0"), how="truncated"))
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, *map(question, range(3))) == said(*range(3))
    assert not list(tmp_path.rglob("*.part"))


async def test_a_server_without_batches_is_told_with_the_first_file(tmp_path: Path) -> None:
    with ModelServer() as plain:
        async with opened(plain, tmp_path) as backend:
            [error] = await asked(backend, question(1))
    assert isinstance(error, EndpointError)
    assert "has no /files" in str(error)
    assert str(error).endswith(": leave --batch out")
    assert "\n" not in str(error)


NO_LISTS = {"GET /v1/files": say.status(405), "GET /v1/batches": say.status(404)}


async def test_a_server_that_lists_nothing_is_good_enough_while_no_step_is_in_doubt(
    server: BatchServer, tmp_path: Path
) -> None:
    for call, answer in NO_LISTS.items():
        server.meet(call, *[answer] * 50)
    server.meet("POST /v1/files", Lost())
    async with doomed(server, tmp_path) as backend:
        await asked(backend, question(1))
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, question(1), question(2)) == said(1, 2)
    assert set(server.submitted().values()) == {1}


async def test_a_server_that_lists_nothing_is_not_sent_a_batch_that_it_may_have(
    server: BatchServer, tmp_path: Path
) -> None:
    for call, answer in NO_LISTS.items():
        server.meet(call, *[answer] * 50)
    server.meet("POST /v1/batches", Lost())
    for _ in range(2):
        async with opened(server, tmp_path) as backend:
            [error] = await asked(backend, question(1))
        assert isinstance(error, EndpointError)
        assert "whether batches/0001 was submitted is not known: look there for one of file-" in str(error)
        assert len(server.batches) == 1


async def test_a_list_whose_pages_are_all_the_same_is_left(server: BatchServer, tmp_path: Path) -> None:
    page = {"data": [{"id": "file-x"}], "has_more": True}
    server.meet("GET /v1/files", *[Reply(payload=page)] * 50)
    server.meet("POST /v1/files", Lost())
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, question(1)) == said(1)


# -- after a crash ----------------------------------------------------------------------------------------------------


class Dies(BaseException):
    """Stands for SIGKILL between two steps; tests/crash has the real one."""


@asynccontextmanager
async def doomed(server: BatchServer, folder: Path) -> AsyncIterator[Backend]:
    """The backend of a process that dies before it has come to its end."""
    with contextlib.suppress(Dies):
        async with opened(server, folder) as backend:
            yield backend
            raise Dies


@asynccontextmanager
async def dying(stage: str) -> AsyncIterator[asyncio.Event]:
    """A process that dies as soon as the stage is recorded, or before it is; its event is set then."""
    dead, save = asyncio.Event(), Batch.save

    async def stop(*_: Any) -> None:
        dead.set()
        await asyncio.Event().wait()

    def saved(self: Batch, **changes: Any) -> None:
        if dead.is_set():
            raise Dies
        if changes.get("stage") == stage.removeprefix("before "):
            if not stage.startswith("before "):
                save(self, **changes)
            dead.set()
            raise Dies
        save(self, **changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "save", saved)
        yield dead


STEPS = ["uploaded", "submitted", "ended", "fetched"]


@pytest.mark.parametrize("stage", [*STEPS, *(f"before {step}" for step in STEPS)])
async def test_a_process_that_dies_at_any_step_is_taken_up_by_the_next(
    server: BatchServer, tmp_path: Path, stage: str
) -> None:
    requests = [question(number) for number in range(6)]
    async with dying(stage) as dead, opened(server, tmp_path) as backend:
        waiting = asyncio.gather(*(backend.complete(request) for request in requests), return_exceptions=True)
        await asyncio.wait_for(dead.wait(), 10)
        waiting.cancel()
    async with opened(server, tmp_path) as backend:
        answers = await asked(backend, *requests, question(99))
    assert answers == said(*range(6), 99)
    assert len(server.batches) == 2, "one for what was asked before, one for what is new"
    assert set(server.submitted().values()) == {1}
    assert set(server.answered.values()) == {1}


async def test_what_was_being_gathered_was_never_sent(server: BatchServer, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as backend:
        waiting = asyncio.create_task(backend.complete(question(1)))
        await asyncio.sleep(0)
        assert [path.name for path in tmp_path.glob("batches/*")] == [".0001.jsonl.part"]
        waiting.cancel()
    assert not list(tmp_path.glob("batches/*"))
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, question(1)) == said(1)


async def test_answers_that_came_while_nobody_waited_are_handed_out_when_they_are_asked_for(
    server: BatchServer, tmp_path: Path
) -> None:
    async with opened(server, tmp_path) as backend:
        waiting = [asyncio.create_task(backend.complete(question(number))) for number in range(3)]
        while stages(tmp_path) != ["submitted"]:
            await asyncio.sleep(0.001)
        for task in waiting:
            task.cancel()
        while stages(tmp_path) != ["fetched"]:
            await asyncio.sleep(0.001)
        assert await asked(backend, question(1)) == said(1)
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, question(0), question(2)) == said(0, 2)
    assert len(server.batches) == 1
    assert stages(tmp_path) == ["fetched"], "nobody can know that the answer to the first is in a ledger"


async def test_an_orderly_end_lets_go_of_what_was_handed_out(server: BatchServer, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as backend:
        await asked(backend, question(1), question(2))
    assert stages(tmp_path) == ["retired"]
    async with opened(server, tmp_path) as backend:
        await asked(backend, question(1))
    assert len(server.batches) == 2, "it is asked anew: whoever asks has no answer"


async def test_an_end_that_is_none_lets_go_of_nothing(server: BatchServer, tmp_path: Path) -> None:
    async with doomed(server, tmp_path) as backend:
        await asked(backend, question(1))
    assert stages(tmp_path) == ["fetched"]
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, question(1)) == said(1)
    assert len(server.batches) == 1


async def test_a_batch_is_let_go_when_the_next_is_back_and_its_answers_are_surely_stored(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "STORED_AFTER", 0.1)
    async with opened(server, tmp_path) as backend:
        for number in range(3):
            await asyncio.sleep(0.2)
            await asked(backend, question(number))
        while stages(tmp_path) != ["retired", "retired", "fetched"]:
            await asyncio.sleep(0.001)


async def test_a_request_in_several_batches_is_answered_by_the_last(server: BatchServer, tmp_path: Path) -> None:
    """It was asked again because the first did not come to it, and we died before the second was back."""
    server.fates.append(Fate("expired", answered=1))
    async with doomed(server, tmp_path) as backend:
        [_, fault] = await asked(backend, question(1), question(2))
        assert isinstance(fault, Transient)
        again = asyncio.create_task(backend.complete(question(2)))
        while len(server.batches) < 2:
            await asyncio.sleep(0.001)
        again.cancel()
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, question(1), question(2)) == said(1, 2)
    assert len(server.batches) == 2
    assert set(server.answered.values()) == {1}


async def test_a_line_that_met_a_fault_is_asked_anew_after_a_crash_and_a_refusal_stands(
    server: BatchServer, tmp_path: Path
) -> None:
    replies = {"p0": say.error(500), "p1": say.error(400, "malformed"), "p2": say.error(401, "no")}
    server.answer = lambda body: replies.get(body["prompt"], echo(body))
    async with doomed(server, tmp_path) as backend:
        await asked(backend, *map(question, range(4)))
    replies.clear()
    async with opened(server, tmp_path) as backend:
        [first, refusal, third, fourth] = await asked(backend, *map(question, range(4)))
    assert [first, third, fourth] == said(0, 2, 3)
    assert isinstance(refusal, Refused)
    assert [len(lines) for lines in server.lines()] == [4, 2]


async def test_a_batch_that_the_server_does_not_know_is_told_with_what_to_do(
    server: BatchServer, tmp_path: Path
) -> None:
    async with dying("submitted") as dead, opened(server, tmp_path) as backend:
        waiting = asyncio.create_task(backend.complete(question(1)))
        await dead.wait()
        waiting.cancel()
    with BatchServer(answer=echo) as other:
        async with opened(other, tmp_path) as backend:
            [error] = await asked(backend, question(1))
    record = tmp_path / "batches" / "0001.json"
    assert isinstance(error, EndpointError)
    assert f"{record} says that {server.base_url} has it: ask there, or delete that file" in str(error)
    record.unlink()
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, question(1)) == said(1)


async def test_a_record_or_a_file_that_cannot_be_read_says_what_to_do(server: BatchServer, tmp_path: Path) -> None:
    async with doomed(server, tmp_path) as backend:
        await asked(backend, question(1))
    (tmp_path / "batches" / "0001.jsonl").rename(tmp_path / "away")
    with pytest.raises(RunError, match=r"put it back, or delete .*0001\.json to ask its requests anew"):
        async with opened(server, tmp_path):
            pass
    (tmp_path / "batches" / "0001.json").write_text("{")
    with pytest.raises(RunError, match=r"0001\.json: cannot be read; delete it"):
        async with opened(server, tmp_path):
            pass


async def test_requests_without_a_key_are_asked_too(server: BatchServer, tmp_path: Path) -> None:
    request = Request(model="test-model", prompt="p1")
    async with opened(server, tmp_path) as backend:
        assert await asked(backend, request, request) == said(1, 1)


async def test_whoever_leaves_is_told_which_batch_stays_behind(server: BatchServer, tmp_path: Path) -> None:
    server.statuses = ("validating", *["in_progress"] * 1000)
    told: list[str] = []
    async with opened(server, tmp_path, notice=told.append) as backend:
        waiting = asyncio.create_task(backend.complete(question(1)))
        while not any("in_progress" in line for line in told):
            await asyncio.sleep(0.001)
        waiting.cancel()
    [id] = server.batches
    assert told[-1] == f"batches/0001: {id} stays with the server; the same command waits for it"


def test_a_key_is_no_part_of_a_question() -> None:
    assert question(1).model_dump() == question(1).model_copy(update={"key": ""}).model_dump()
    assert "key" not in question(1).model_dump_json()


@pytest.mark.parametrize("kind", ["llamacpp", "scripted", "vllm"])
def test_only_kinds_that_have_batches_take_the_setting(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"`batch` is for kind `openai`, not `{kind}`: leave it out"):
        check_kind(BackendConfig(kind=kind, batch=True, script="s" if kind == "scripted" else None))
