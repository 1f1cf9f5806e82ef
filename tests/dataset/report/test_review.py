"""A person's decisions: exports honour them, everything else stays, and nobody else can take them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest

from selfinstruct.dataset.files import export
from selfinstruct.dataset.review import Reviewing, decide
from selfinstruct.errors import RunError
from selfinstruct.records import Call, Draft, Instance, Review, Verdict
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told
from selfinstruct.store.ledger import Ledger
from tests.support.made import HOSTILE, making, talk
from tests.support.runs import Model, Run

DUPLICATE = Verdict(filter="rouge", keep=False, reason="near_duplicate", detail={"of": "s1", "score": 0.9})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A complete run of ten tasks."""
    return Run(tmp_path, n=10).drive(Model())


def dataset(folder: Path) -> dict[str, tuple[str, tuple[Instance, ...]]]:
    with Ledger.open(folder) as ledger:
        kept = ledger.samples(stage="instances")
        return {sample.id: (sample.instruction, sample.instances) for sample in kept}


def decided(folder: Path, *reviews: Review) -> None:
    with Ledger.open(folder, write=True) as ledger:
        for review in reviews:
            decide(ledger, "instances", review)


# -- decisions --------------------------------------------------------------------------------------------------------


def test_the_dataset_is_what_was_kept_as_people_reviewed_it(run: Run) -> None:
    before = dataset(run.folder)
    dropped, edited, *_ = before
    new = (Instance(input="a", output="b"),)
    decided(
        run.folder,
        Review(draft=dropped, keep=False),
        Review(draft=edited, keep=True, instruction="Sing.", instances=new),
    )
    after = {id: task for id, task in before.items() if id != dropped} | {edited: ("Sing.", new)}
    assert dataset(run.folder) == after
    assert list(dataset(run.folder)) == list(after)


def test_a_complete_task_that_a_filter_dropped_can_be_kept(tmp_path: Path) -> None:
    with making(tmp_path) as maker:
        id = maker.task("Write it again.", "Again.", verdict=DUPLICATE)
    assert dataset(tmp_path / "run") == {}
    decided(tmp_path / "run", Review(draft=id, keep=True))
    assert dataset(tmp_path / "run") == {id: ("Write it again.", (Instance(output="Again."),))}


def test_the_last_decision_counts_and_can_be_taken_back(run: Run) -> None:
    before = dataset(run.folder)
    id = next(iter(before))
    decided(run.folder, Review(draft=id, keep=True, instruction="Sing."), Review(draft=id, keep=False))
    assert id not in dataset(run.folder)
    decided(run.folder, Review(draft=id, keep=None))
    assert dataset(run.folder) == before
    with Ledger.open(run.folder) as ledger:
        assert ledger.reviews() == {}
        assert ledger.count("reviews") == 3, "what was decided before is not forgotten"


def test_an_edit_that_changes_nothing_is_none(run: Run) -> None:
    id, (instruction, instances) = next(iter(dataset(run.folder).items()))
    decided(run.folder, Review(draft=id, keep=True, instruction=instruction, instances=instances))
    with Ledger.open(run.folder) as ledger:
        assert ledger.reviews() == {id: Review(draft=id, keep=True)}


def test_a_decision_is_the_last_verdict_in_the_lineage_of_an_export(run: Run, tmp_path: Path) -> None:
    id = next(iter(dataset(run.folder)))
    decided(run.folder, Review(draft=id, keep=True, instruction="Sing."))
    with Ledger.open(run.folder) as ledger:
        export(ledger, "instances", ["jsonl"], tmp_path / "out")
        plain = ledger.verdicts(id)
    rows = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    [row] = [row for row in rows if row["id"] == id]
    human = {"filter": "human", "keep": True, "reason": "passed", "detail": {"edited": True}, "instance_drops": []}
    assert (row["instruction"], row["lineage"][-1]["verdicts"]) == ("Sing.", [*plain, human])


def test_nothing_else_changes(run: Run) -> None:
    def told() -> tuple[Any, ...]:
        with Ledger.open(run.folder) as ledger:
            state = RunState.load(ledger, Told.stored(ledger))
            drafts = ledger.query("SELECT * FROM drafts ORDER BY rank")
            verdicts = ledger.query("SELECT * FROM verdicts ORDER BY draft, place")
            return state.tasks, state.complete, [kept.id for kept in state.pool.kept], drafts, verdicts

    before = told()
    ids = list(dataset(run.folder))
    decided(run.folder, *(Review(draft=id, keep=False) for id in ids))
    assert told() == before
    assert run.differences() == [], "it verifies"
    run.drive(Model(), n=14)
    assert dataset(run.folder).keys().isdisjoint(ids)
    assert len(dataset(run.folder)) == 4, "a run counts what its filters kept"


def test_decisions_are_taken_while_the_run_goes_on(run: Run) -> None:
    first = next(iter(dataset(run.folder)))
    review = partial(decided, run.folder, Review(draft=first, keep=False))
    run.drive(Model(), n=30, seen=lambda event: review())
    assert run.differences() == []
    assert first not in dataset(run.folder)
    assert len(dataset(run.folder)) == 29


def test_judging_again_carries_decisions_along(run: Run, tmp_path: Path) -> None:
    id = next(iter(dataset(run.folder)))
    decided(run.folder, Review(draft=id, keep=False))
    (tmp_path / "copy").mkdir()
    with Ledger.open(run.folder) as ledger:
        ledger.copy_to(tmp_path / "copy")
    assert dataset(tmp_path / "copy") == dataset(run.folder)


BLANK = (Instance(output=" "),)
REFUSED = {
    "no draft": (Review(draft="99.1", keep=True), "99.1: no such draft"),
    "an instruction": (Review(draft="1.1", keep=False), "1.1: no complete task; only those can be reviewed"),
    "a flawed draft": (Review(draft="3.1", keep=True), "3.1: no complete task; only those can be reviewed"),
    "a blank instruction": (Review(draft="2.1", keep=True, instruction=" \n"), "2.1: a task has an instruction, and"),
    "a blank output": (Review(draft="2.1", keep=True, instances=BLANK), "2.1: a task has an instruction, and an"),
    "an edit of what is dropped": (Review(draft="2.1", keep=False, instruction="x"), "2.1: edited and not kept; keep"),
}


@pytest.mark.parametrize(("review", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_decided_is_refused_in_a_line(tmp_path: Path, review: Review, message: str) -> None:
    with making(tmp_path) as maker:
        [parent] = maker.invented("Write a poem.")
        maker.task("Write a poem.", parent=parent)
        flawed = Draft(stage="instances", instruction="Write.", flaw="truncated", instances=(Instance(output="x"),))
        maker.job("instances", (flawed, Verdict(filter="parse", keep=False, reason="truncated")))
        with pytest.raises(RunError) as refused:
            decide(maker.ledger, "instances", review)
        assert str(refused.value).startswith(message)
        assert maker.ledger.count("reviews") == 0


def test_calls_are_read_and_not_edited(tmp_path: Path) -> None:
    """The text of a turn may be another, what an assistant calls may not; a last turn that calls needs no output."""
    with making(tmp_path) as maker:
        id = maker.task("Ask.", **talk("Said."))
        [instance] = next(maker.ledger.drafts(ids=[id])).instances
        said = instance.turns[1].model_copy(update={"content": "Told."})
        edited = instance.model_copy(update={"turns": (instance.turns[0], said)})
        decide(maker.ledger, "instances", Review(draft=id, keep=True, instances=(edited,)))
        called = instance.turns[0].model_copy(update={"calls": (Call(tool="other"),)})
        other = edited.model_copy(update={"turns": (called, said)})
        with pytest.raises(RunError, match=r"1\.1: calls of tools can be read, not edited"):
            decide(maker.ledger, "instances", Review(draft=id, keep=True, instances=(other,)))
        ends = instance.model_copy(update={"turns": instance.turns[:1], "output": ""})
        decide(maker.ledger, "instances", Review(draft=id, keep=True, instances=(ends,)))


def test_verify_finds_a_decision_on_a_draft_that_is_not_there(run: Run) -> None:
    with Ledger.open(run.folder, write=True) as ledger:
        ledger.review(Review(draft="99.1", keep=False))
    assert run.differences() == ["1 reviews of drafts that are not there"]


# -- the server -------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    status: int
    body: str
    headers: dict[str, str]


class Client:
    """Asks a server that reviews, as a page of it would unless told otherwise."""

    def __init__(self, reviewing: Reviewing) -> None:
        self.place = reviewing.address.removeprefix("http://").partition("/")[0]
        self.token = reviewing.token

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self.place, timeout=10)
        usual = {"Origin": f"http://{self.place}", "Content-Type": "application/json"} if method == "POST" else {}
        connection.request(
            method, path, body, {**usual, **{key.replace("_", "-"): value for key, value in headers.items()}}
        )
        answer = connection.getresponse()
        told = Answer(answer.status, answer.read().decode(), dict(answer.getheaders()))
        connection.close()
        return told

    def decide(self, **decision: Any) -> Answer:
        return self.ask("POST", f"/{self.token}/reviews", json.dumps(decision).encode())


@contextmanager
def serving(folder: Path, page: str = "<p>page</p>") -> Iterator[Client]:
    with Reviewing(page, partial(Ledger.open, folder, write=True), "instances", port=0) as reviewing:
        thread = Thread(target=reviewing.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield Client(reviewing)
        finally:
            reviewing.shutdown()
            thread.join()


@pytest.fixture
def client(run: Run) -> Iterator[Client]:
    with serving(run.folder) as client:
        yield client


def test_the_page_and_its_decisions_are_served(client: Client, run: Run) -> None:
    id = next(iter(dataset(run.folder)))
    page = client.ask("GET", f"/{client.token}/")
    assert (page.status, page.body) == (200, "<p>page</p>")
    assert json.loads(client.ask("GET", f"/{client.token}/reviews").body) == []
    told = client.decide(draft=id, keep=False)
    assert told.status == 200
    assert json.loads(told.body) == {"draft": id, "keep": False, "instruction": None, "instances": None}
    assert json.loads(client.ask("GET", f"/{client.token}/reviews").body) == [json.loads(told.body)]
    assert id not in dataset(run.folder)


def test_it_listens_on_this_machine_alone(client: Client) -> None:
    assert client.place.startswith("127.0.0.1:")
    assert len(client.token) >= 32


STRANGERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "no token": ("GET", "/", {}),
    "another token": ("GET", "/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/", {}),
    "another name": ("GET", "/TOKEN/", {"Host": "evil.example"}),
    "another name and our port": ("GET", "/TOKEN/", {"Host": "evil.example:PORT"}),
    "a decision by another name": ("POST", "/TOKEN/reviews", {"Host": "evil.example"}),
    "a decision without a token": ("POST", "/reviews", {}),
    "a decision of another page": ("POST", "/TOKEN/reviews", {"Origin": "http://evil.example"}),
    "a decision of another port": ("POST", "/TOKEN/reviews", {"Origin": "http://127.0.0.1:1"}),
    "a decision of a sandboxed page": ("POST", "/TOKEN/reviews", {"Origin": "null"}),
    "a decision of a form": ("POST", "/TOKEN/reviews", {"Content-Type": "text/plain"}),
    "a decision elsewhere": ("POST", "/TOKEN/", {}),
}


@pytest.mark.parametrize(("method", "path", "headers"), STRANGERS.values(), ids=STRANGERS)
def test_strangers_are_turned_away(client: Client, run: Run, method: str, path: str, headers: dict[str, str]) -> None:
    port = client.place.partition(":")[2]
    given = {key.replace("-", "_"): value.replace("PORT", port) for key, value in headers.items()}
    decision = json.dumps({"draft": next(iter(dataset(run.folder))), "keep": False}).encode()
    body = decision if method == "POST" else None
    answer = client.ask(method, path.replace("TOKEN", client.token), body, **given)
    assert answer.status == 403
    assert "page" not in answer.body.replace("page of", "")
    assert len(dataset(run.folder)) == 10


def test_answers_say_that_they_are_nobody_elses(client: Client) -> None:
    headers = client.ask("GET", f"/{client.token}/").headers
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in headers


NO_DECISIONS = {
    "no JSON": b"{",
    "no object": b"[]",
    "nothing": b"",
    "something unknown": b'{"draft": "1.1", "keep": true, "more": 1}',
    "no draft of that id": b'{"draft": "99.1", "keep": true}',
    "bytes that are no text": b'{"draft": "\xff", "keep": true}',
}


@pytest.mark.parametrize("body", NO_DECISIONS.values(), ids=NO_DECISIONS)
def test_what_is_no_decision_is_told_in_a_line(client: Client, body: bytes) -> None:
    answer = client.ask("POST", f"/{client.token}/reviews", body)
    assert answer.status == 400
    assert "\n" not in json.loads(answer.body)["error"]


def test_more_than_a_decision_is_not_even_read(client: Client) -> None:
    answer = client.ask("POST", f"/{client.token}/reviews", b"{}", Content_Length="4000001")
    assert (answer.status, json.loads(answer.body)) == (413, {"error": "more than 4000000 bytes"})


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_can_be_an_edit(client: Client, run: Run, text: str) -> None:
    id = next(iter(dataset(run.folder)))
    assert (
        client.decide(draft=id, keep=True, instruction=text, instances=[{"input": text, "output": text}]).status == 200
    )
    assert dataset(run.folder)[id] == (text, (Instance(input=text, output=text),))


def test_half_a_pair_becomes_a_replacement_character(client: Client, run: Run) -> None:
    id = next(iter(dataset(run.folder)))
    body = b'{"draft": "%s", "keep": true, "instruction": "half \\ud83d"}' % id.encode()
    assert client.ask("POST", f"/{client.token}/reviews", body).status == 200
    assert dataset(run.folder)[id][0] == "half \ufffd"


def test_a_port_that_is_taken_is_told_in_a_line(client: Client, run: Run) -> None:
    with pytest.raises(RunError, match="choose another with --port"):
        Reviewing("", partial(Ledger.open, run.folder), "instances", port=int(client.place.partition(":")[2]))
