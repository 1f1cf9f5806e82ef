"""A run as a program uses it: followed, left, stopped and interrupted at any moment, looked at, refused."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from textwrap import indent
from typing import Any, get_type_hints

import pytest

import selfinstruct as si
from selfinstruct.inputs.config import RunConfig
from selfinstruct.run import session
from selfinstruct.run.session import Settings
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.lock import locked
from tests.support.cli import ENVIRONMENT, INSTRUCTIONS, answers, seeds
from tests.support.processes import environment, model_server, until
from tests.support.runs import Model, answering, written_seeds


class Slow(Model):
    """A model whose answers take a while, so that some are always in flight."""

    begun = 0
    answered = 0

    async def complete(self, request: Any) -> Any:
        self.begun += 1
        await asyncio.sleep(0.01)
        reply = await super().complete(request)
        self.answered += 1
        return reply


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Slow:
    """Whom every run of the test asks."""
    asked = Slow()

    @asynccontextmanager
    async def opened(*_: Any, **__: Any) -> AsyncIterator[Slow]:
        yield asked

    monkeypatch.setattr(session, "open_backend", opened)
    monkeypatch.setattr(session, "GRACE", 5.0)
    monkeypatch.setattr(session, "_is_ours", lambda *_: False)
    return asked


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Whatever was done, no thread outlives it."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


SCRIPTED = {"kind": "scripted", "script": "unused", "concurrency": 4}


def opened(folder: Path, n: int = 8, **settings: Any) -> si.Run:
    """A run of so many tasks in a folder."""
    settings = {"seeds": written_seeds(folder), "backend": SCRIPTED, **settings}
    return si.Run.open(folder / "run", n=n, **settings)


def is_whole(run: si.Run, tasks: int) -> None:
    """It ends with all of its tasks, and nothing is found wrong with it."""
    assert run.finish()[:2] == ("complete", tasks)
    assert run.verify().differences == []
    assert kept(run) == tasks


def stored(run: si.Run) -> int:
    with Ledger.open(run.folder) as ledger:
        return ledger.count("answers")


def kept(run: si.Run) -> int:
    return len(list(run.samples()))


# Followed


def test_loop_begins_a_run(tmp_path: Path, model: Slow) -> None:
    """A plain loop is told everything, the end last, and the folder holds the run."""
    run = opened(tmp_path)
    assert not run.exists
    events = list(run)
    assert {type(event) for event in events} == {si.Planned, si.Answered, si.Settled, si.Ended}
    assert events[-1][:2] == ("complete", 8)
    is_whole(run, 8)


def test_loop_continues_a_run(tmp_path: Path, model: Slow) -> None:
    """Opened anew with a larger target and nothing else said, the run goes on."""
    opened(tmp_path, 4).finish()
    run = si.Run.open(tmp_path / "run", n=9)
    assert not any(isinstance(event, si.Ended) for event in islice(run, 3))
    is_whole(run, 9)


async def test_plain_loop_works_in_a_running_event_loop(tmp_path: Path, model: Slow) -> None:
    """As in a cell of a notebook: followed, looked at and verified where an event loop is running."""
    run = opened(tmp_path)
    assert [event for event in run if isinstance(event, si.Ended)] == [("complete", 8, "")]
    is_whole(run, 8)


async def test_coroutine_follows_a_run(tmp_path: Path, model: Slow) -> None:
    """`async for` is told the same, in the event loop that is there."""
    threads = threading.active_count()
    events = [(event, threading.active_count()) async for event in opened(tmp_path)]
    assert events[-1] == (("complete", 8, ""), threads)
    assert {count for _, count in events} == {threads}


def test_finish_exports(tmp_path: Path, model: Slow) -> None:
    """The formats of the configuration lie in the run's folder."""
    run = opened(tmp_path, formats=["messages"])
    assert run.finish() == ("complete", 8, "")
    assert (run.folder / "export" / "messages.jsonl").is_file()


async def test_finish_async_exports(tmp_path: Path, model: Slow) -> None:
    """As `finish`."""
    run = opened(tmp_path, formats=["messages"])
    assert await run.finish_async() == ("complete", 8, "")
    assert (run.folder / "export" / "messages.jsonl").is_file()


def test_finished_run_asks_nobody(tmp_path: Path, model: Slow) -> None:
    """A run that has all of its tasks ends at once."""
    opened(tmp_path).finish()
    asked = len(model.asked)
    assert list(si.Run.open(tmp_path / "run")) == [("complete", 8, "")]
    assert len(model.asked) == asked


# Left


def nothing_lost(run: si.Run, model: Slow) -> None:
    """All that was asked is answered and stored, and nothing is found wrong."""
    assert model.begun == model.answered == stored(run)
    assert run.verify().differences == []


@pytest.mark.parametrize("after", [1, 2, 5, 20])
def test_leaving_a_loop_loses_nothing(tmp_path: Path, model: Slow, after: int) -> None:
    """What was in flight is answered and stored before the loop is left, and the next one goes on."""
    run = opened(tmp_path, 30)
    for number, _ in enumerate(run, 1):
        if number == after:
            break
    nothing_lost(run, model)
    is_whole(run, 30)


async def test_leaving_an_async_loop_loses_nothing(tmp_path: Path, model: Slow) -> None:
    """Likewise, and the next loop waits until the one before is closed."""
    run = opened(tmp_path, 30)
    for after in (1, 3, 8):
        number = 0
        async for _ in run:
            number += 1
            if number == after:
                break
    ended = [event async for event in run if isinstance(event, si.Ended)]
    assert ended == [("complete", 30, "")]
    nothing_lost(run, model)


def test_async_loop_left_at_the_end_of_a_program(tmp_path: Path, model: Slow) -> None:
    """The event loop closes what is still open before it ends."""
    run = opened(tmp_path, 30)

    async def main() -> None:
        async for _ in run:
            return

    asyncio.run(main())
    nothing_lost(run, model)
    is_whole(run, 30)


def test_exception_in_the_body_comes_through(tmp_path: Path, model: Slow) -> None:
    """Whatever the body raises is what the program sees, and the run has stopped by then."""
    run = opened(tmp_path, 30)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the loop is what is tested
        for _ in run:
            _ = 1 / 0
    nothing_lost(run, model)
    is_whole(run, 30)


def test_iterator_that_is_forgotten_stops(tmp_path: Path, model: Slow) -> None:
    """Also where only the collector of garbage finds it."""
    run = opened(tmp_path, 30)
    ring: list[Any] = [iter(run)]
    ring.append(ring)
    next(ring[0])
    del ring
    gc.collect()
    assert model.in_flight == 0
    is_whole(run, 30)


def test_cancelled_coroutine_leaves_a_run_that_goes_on(tmp_path: Path, model: Slow) -> None:
    """A task that is cancelled ends at once, without its grace."""
    run = opened(tmp_path, 30)

    async def main() -> None:
        task = asyncio.create_task(run.finish_async())
        while not model.answered:
            await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert run.verify().differences == []
    is_whole(run, 30)


# Stopped


def test_stop_in_the_loop_ends_it(tmp_path: Path, model: Slow) -> None:
    """The loop goes on until the end, which says so; what was in flight is stored."""
    run = opened(tmp_path, 30)
    events = list[Any]()
    for event in run:
        events.append(event)
        if len(events) == 5:
            run.stop()
    assert events[-1] == ("interrupted", kept(run), "")
    nothing_lost(run, model)
    is_whole(run, 30)


async def test_stop_in_an_async_loop_ends_it(tmp_path: Path, model: Slow) -> None:
    """Likewise."""
    run = opened(tmp_path, 30)
    events = list[Any]()
    async for event in run:
        events.append(event)
        if len(events) == 5:
            run.stop()
    assert events[-1] == ("interrupted", kept(run), "")
    nothing_lost(run, model)
    is_whole(run, 30)


def test_stop_from_another_thread_is_heard(tmp_path: Path, model: Slow) -> None:
    """At once, also where the run waits for a model that takes its time."""
    run, ended = opened(tmp_path, 10_000), list[si.Ended]()
    following = threading.Thread(target=lambda: ended.append(run.finish()))
    following.start()
    until(lambda: model.answered > 5)
    run.stop()
    following.join()
    assert ended[0].ending == "interrupted"
    assert (run.folder / "export" / "alpaca.json").exists() == bool(ended[0].tasks)


def test_stop_twice_waits_for_nobody(tmp_path: Path, model: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call takes the grace away."""
    monkeypatch.setattr(Slow, "complete", lambda *_: asyncio.sleep(1_000))
    run, began, events = opened(tmp_path), time.monotonic(), list[Any]()
    for event in run:
        events.append(event)
        if isinstance(event, si.Planned):
            run.stop()
    assert events[-1] == ("interrupted", 0, "")
    assert time.monotonic() - began < session.GRACE


def never_opens(patched: pytest.MonkeyPatch) -> threading.Event:
    """From here on backends take for ever to open; it is set once one is being opened."""
    begun = threading.Event()

    @asynccontextmanager
    async def never(*_: Any, **__: Any) -> AsyncIterator[None]:
        begun.set()
        await asyncio.sleep(1_000)
        yield

    patched.setattr(session, "open_backend", never)
    return begun


@pytest.mark.parametrize("begun", [False, True])
def test_stop_cuts_an_opening_short(tmp_path: Path, model: Slow, monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    """The run ends with the tasks that it has; one that had not begun leaves no folder behind."""
    if begun:
        opened(tmp_path, 3).finish()
    run, ended, opening = opened(tmp_path, 9), list[si.Ended](), never_opens(monkeypatch)
    following = threading.Thread(target=lambda: ended.append(run.finish()))
    following.start()
    assert opening.wait(20)
    run.stop()
    run.stop()
    following.join()
    assert ended == [("interrupted", 3 if begun else 0, "")]
    assert run.folder.exists() == begun


def test_stop_before_the_thread_drives_is_heard(tmp_path: Path, model: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves before the run has an event loop to be called in has stopped it too."""
    driving = si.Run._driving

    async def late(self: Any, going: Any, *told: Any, **named: Any) -> AsyncIterator[Any]:
        going.stop()
        async for event in driving(self, going, *told, **named):
            yield event

    monkeypatch.setattr(si.Run, "_driving", late)
    assert list(opened(tmp_path)) == [("interrupted", 0, "")]
    assert model.asked == []


def test_second_thread_is_refused(tmp_path: Path, model: Slow) -> None:
    """Of two that drive the same run at once one is told so, and the other is not disturbed."""
    run, events = opened(tmp_path), list[Any]()
    for event in run:
        events.append(event)
        with pytest.raises(si.RunError, match="is going already"):
            next(iter(run))
    assert events[-1] == ("complete", 8, "")


async def test_second_coroutine_is_refused(tmp_path: Path, model: Slow) -> None:
    """Likewise, whichever way it follows."""
    run, events = opened(tmp_path), list[Any]()
    async for event in run:
        events.append(event)
        with pytest.raises(si.RunError, match="is going already"):
            await run.finish_async()
        with pytest.raises(si.RunError, match="is going already"):
            run.finish()
    assert events[-1] == ("complete", 8, "")


# Interrupted


PROGRAM = """
import sys, threading, time
import selfinstruct as si

run = si.Run.open({folder!r}, seeds={seeds!r}, n=40, backend={{"base_url": {url!r}, "dialect": "completion"}})
try:
{body}
except KeyboardInterrupt:
    print("interrupted", threading.active_count())
"""
BODIES = {
    "in the body": "    for event in run:\n        if isinstance(event, si.Answered): time.sleep(1000)",
    "while it waits": "    for event in run: pass",
    "in finish": "    run.finish()",
    "with an iterator in hand": "    held = iter(run)\n    next(held)\n    time.sleep(1000)",
    "in a coroutine": "    import asyncio\n    asyncio.run(run.finish_async())",
}


@pytest.mark.parametrize("where", BODIES)
def test_interrupt_leaves_a_run_that_goes_on(tmp_path: Path, where: str) -> None:
    """Ctrl-C anywhere: nothing is lost that was asked for, nothing is found wrong, and no traceback is of ours."""
    with model_server(latency=0.05) as server:
        folder = tmp_path / "run"
        code = PROGRAM.format(folder=str(folder), seeds=str(written_seeds(tmp_path)), url=server.base_url,
                              body=BODIES[where])  # fmt: skip
        child = subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True, env=environment())
        until(lambda: len(server.requests) > 3 or child.poll() is not None)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        assert (out[:11], err) == ("interrupted", "")
        run = si.Run.open(folder)
        if where != "in a coroutine":
            assert stored(run) == len(server.requests)
        assert run.verify().differences == []
        assert run.finish().ending == "complete"


def test_program_that_ends_in_the_loop_loses_nothing(tmp_path: Path) -> None:
    """An iterator that is still in hand when a program ends is left as by a `break`."""
    with model_server(latency=0.05) as server:
        folder = tmp_path / "run"
        code = PROGRAM.format(folder=str(folder), seeds=str(written_seeds(tmp_path)), url=server.base_url,
                              body="    held = iter(run)\n    next(held)\n    time.sleep(0.1)")  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
        )
        assert (done.stdout, done.stderr) == ("", "")
        assert stored(si.Run.open(folder)) == len(server.requests)


COROUTINE = """
import asyncio
import selfinstruct as si

run = si.Run.open("run", seeds={seeds!r}, n=5000, backend={backend!r})

async def main():
{body}

try:
    asyncio.run(main())
except (KeyboardInterrupt, ZeroDivisionError) as error:
    print(type(error).__name__)
"""


def in_a_coroutine(folder: Path, body: str, **backend: Any) -> subprocess.Popen[str]:
    """A process that drives a run of slow answers in a coroutine; a scripted one where no backend is told."""
    slow = ("\n".join(f"{i}. Describe the {i}th bird of {of} hills." for i in range(9, 14)) for of in range(100))
    script = answers(folder, *({"text": text, "delay": 0.05} for text in slow))
    backend = {**(backend or {"script": script}), "concurrency": 4}
    code = COROUTINE.format(seeds=str(written_seeds(folder)), backend=backend, body=indent(body, "    "))
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=-1, stderr=-1, text=True,
                            env={**ENVIRONMENT, "HOME": str(folder)})  # fmt: skip


def is_free(folder: Path) -> None:
    """Nobody holds the run, it has not gone to its end, and nothing is found wrong with it."""
    run = si.Run.open(folder)
    with locked(folder), Ledger.open(folder) as ledger:
        assert 0 < ledger.count("answers") < 60
    assert run.verify().differences == []


LEAVING = {
    "return": ("return", ""),
    "break": ("break", ""),
    "exception": ("1 / 0", "ZeroDivisionError\n"),
    "held": ("held.append(events); return", ""),
}


@pytest.mark.parametrize("way", LEAVING)
def test_async_loop_is_left_in_silence(tmp_path: Path, way: str) -> None:
    """Whatever a program that ends by it still has in flight, `asyncio.run` ends it in order."""
    leaving, said = LEAVING[way]
    body = f"""\
held = []
events = aiter(run)
async for event in events:
    if isinstance(event, si.Settled):
        {leaving}"""
    body = body if way == "held" else body.replace("in events", "in run")
    with model_server(latency=0.05) as server:
        child = in_a_coroutine(tmp_path, body, base_url=server.base_url, dialect="completion")
        assert (*child.communicate(timeout=60), child.returncode) == (said, "", 0)
    is_free(tmp_path / "run")


INTERRUPTED = {
    "while it waits": "for _ in run: pass",
    "in the body": "for event in run:\n    if isinstance(event, si.Answered): time.sleep(0.3)",
    "in finish": "run.finish()",
}
BEGUN = """\
import threading, time

def tell():
    while not (run.exists and any(run.samples())):
        time.sleep(0.01)
    print("begun", flush=True)

threading.Thread(target=tell).start()
"""


@pytest.mark.parametrize("where", INTERRUPTED)
def test_interrupt_leaves_a_plain_loop_in_a_coroutine(tmp_path: Path, where: str) -> None:
    """Though `asyncio.run` keeps a Ctrl-C until it gets control, the loop is left at once."""
    child = in_a_coroutine(tmp_path, BEGUN + INTERRUPTED[where])
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (out, err, child.returncode) == ("KeyboardInterrupt\n", "", 0)
    is_free(tmp_path / "run")


async def test_closing_an_async_iterator_loses_nothing(tmp_path: Path, model: Slow) -> None:
    """It waits for what is in flight, and an iterator that is closed has ended."""
    run = opened(tmp_path, 30)
    async with aclosing(aiter(run)) as events:
        async for event in events:
            if isinstance(event, si.Answered):
                break
    nothing_lost(run, model)
    assert [event async for event in events] == []


# Errors


def test_error_of_the_engine_comes_out_of_the_loop(tmp_path: Path, model: Slow) -> None:
    """As it was raised, and the run can be continued."""
    run = opened(tmp_path)
    model._answer = lambda request: si.EndpointError("the key is wrong")
    with pytest.raises(si.EndpointError, match="the key is wrong"):
        list(run)
    model._answer = answering()
    is_whole(run, 8)


async def test_error_of_the_engine_comes_out_of_a_coroutine(tmp_path: Path, model: Slow) -> None:
    """Likewise."""
    model._answer = lambda request: si.EndpointError("the key is wrong")
    with pytest.raises(si.EndpointError, match="the key is wrong"):
        await opened(tmp_path).finish_async()


def test_bug_while_it_stops_is_not_hushed_up(tmp_path: Path, model: Slow) -> None:
    """What the run meets after nobody listens any more is raised where the loop is left."""
    events = iter(opened(tmp_path))
    next(events)
    model._answer = lambda request: ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        events.close()  # type: ignore[attr-defined]


# Looked at


def test_samples_and_drops_tell_of_every_draft(tmp_path: Path, model: Slow) -> None:
    """What was kept is a record with an output; what was dropped has the verdict that decided."""
    run = opened(tmp_path)
    run.finish()
    assert all(isinstance(sample, si.Sample) and sample.instances[0].output for sample in run.samples())
    drops = list(run.drops())
    assert drops
    assert all(not drop.kept and drop.reason for drop in drops)


def test_samples_can_be_read_while_it_goes(tmp_path: Path, model: Slow) -> None:
    """As many as were settled by then."""
    run, counts = opened(tmp_path), list[int]()
    for event in run:
        if isinstance(event, si.Settled):
            counts.append(kept(run))
    assert counts[-1] == 8
    assert counts == sorted(counts)


def test_export_writes_what_is_asked_for(tmp_path: Path, model: Slow) -> None:
    """Formats and options win over the configuration's; a folder of one's own is not overwritten."""
    run = opened(tmp_path)
    run.finish()
    [written] = run.export("messages", to=tmp_path / "data", file_type="json", system_prompt="Be brief.")
    assert (written.path, written.rows) == (tmp_path / "data" / "messages.json", 8)
    assert json.loads(written.path.read_text())[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    with pytest.raises(si.RunError, match="exists already"):
        run.export("messages", to=tmp_path / "data", file_type="json")
    assert run.export("messages", to=tmp_path / "data", file_type="json", force=True) == [written]
    assert {one.format for one in run.export()} == {"alpaca", "jsonl"}


@pytest.mark.parametrize(
    ("format", "columns"),
    [("alpaca", ["instruction", "input", "output"]), ("messages", ["messages"]), ("text", ["text"])],
)
def test_dataset_has_the_columns_of_a_format(tmp_path: Path, model: Slow, format: str, columns: list[str]) -> None:
    """In memory, every kept task, whatever split or shards the run's exports have."""
    run = opened(tmp_path, export={"validation": 2, "shard_rows": 3})
    run.finish()
    dataset = run.to_dataset(format)
    assert (dataset.column_names, len(dataset)) == (columns, 8)
    assert run.to_dataset().to_list()[0]["instruction"] == next(run.samples()).instruction


def test_dataset_wants_columns(tmp_path: Path, model: Slow) -> None:
    """A format whose rows have none is refused, and so is one that does not exist."""
    run = opened(tmp_path)
    run.finish()
    with pytest.raises(si.ConfigError, match="its rows have no columns"):
        run.to_dataset("jsonl")
    with pytest.raises(si.ConfigError, match="unknown format 'csv'"):
        run.to_dataset("csv")


# Refused


def test_settings_are_the_fields_of_the_configuration() -> None:
    """What an editor completes is what there is, and the short name of a role."""
    assert set(get_type_hints(Settings)) == {*RunConfig.model_fields, "judge"}


def test_paths_and_names_are_settings(tmp_path: Path) -> None:
    """Paths at any depth, recipes by their names, and a script or an address for the kind of backend."""
    script = Path(answers(tmp_path))
    run = si.Run.open(tmp_path / "run", seeds=Path(seeds(tmp_path)), recipe="alpaca", backend={"script": script})
    assert (run.config.recipe.name, run.config.backend.kind) == ("alpaca", "scripted")
    assert run.config.backend.dialect == "completion"
    assert run.config.n == 30


@pytest.mark.parametrize("look", ["samples", "drops", "export", "to_dataset", "verify"])
def test_looking_at_what_has_not_begun(tmp_path: Path, look: str) -> None:
    """Is refused at once, with what to do."""
    with pytest.raises(si.RunError) as caught:
        getattr(opened(tmp_path), look)()
    assert str(caught.value) == (f"{tmp_path}/run: the run has not begun; iterate over it, or call finish(), first")


def test_stopping_what_is_not_going(tmp_path: Path, model: Slow) -> None:
    """Neither before, nor after."""
    run = opened(tmp_path)
    for _ in range(2):
        with pytest.raises(si.RunError, match=r"is not going; iterate over the run, or call finish\(\), to drive it$"):
            run.stop()
        run.finish()


def other_seeds(folder: Path) -> dict[str, Any]:
    return {"seeds": seeds(folder)}


REFUSALS: dict[str, tuple[Callable[[Path], dict[str, Any]], type[Exception], str]] = {
    "seeds": (other_seeds, si.ConfigError, "begun with other seeds than are in"),
    "model": (lambda _: {"backend": {"model": "b"}}, si.ConfigError, "begun with backend.model = '', not 'b'"),
    "recipe": (
        lambda _: {"recipe": "alpaca"},
        si.ConfigError,
        "begun with recipe.name = 'self-instruct', not 'alpaca'",
    ),
    "misspelt": (lambda _: {"sed": 1}, si.ConfigError, "unknown key `sed`; did you mean `seed`?"),
    "format": (lambda _: {"formats": ["csv"]}, si.ConfigError, "unknown format 'csv'"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_another_run_is_refused(tmp_path: Path, model: Slow, case: str) -> None:
    """A folder holds one run, and says in one line what would make it another."""
    opened(tmp_path).finish()
    settings, error, message = REFUSALS[case]
    with pytest.raises(error) as caught:
        si.Run.open(tmp_path / "run", **settings(tmp_path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_model_that_answers_is_refused(tmp_path: Path, model: Slow) -> None:
    """Where only the server says which it serves."""
    run = opened(tmp_path, 3)
    run.finish()
    model.model = "another"
    with pytest.raises(si.ConfigError, match="begun with model 'm', but 'another' is served"):
        si.Run.open(tmp_path / "run", n=9).finish()


@pytest.mark.parametrize(
    ("version", "message"), [(1, "which this one does not read"), (999, "by a newer selfinstruct")]
)
def test_ledger_of_another_version_is_refused(tmp_path: Path, model: Slow, version: int, message: str) -> None:
    """Where it is opened."""
    opened(tmp_path).finish()
    with sqlite3.connect(tmp_path / "run" / "ledger.sqlite") as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    with pytest.raises(si.RunError, match=message):
        si.Run.open(tmp_path / "run")


def test_file_is_no_folder_for_a_run(tmp_path: Path) -> None:
    """Where it is opened."""
    (tmp_path / "run").touch()
    with pytest.raises(si.RunError) as caught:
        opened(tmp_path)
    assert str(caught.value) == f"{tmp_path}/run: is a file; name a folder for the run"


def test_run_judged_again_can_be_looked_at(tmp_path: Path, model: Slow) -> None:
    """But not continued, in whichever way."""
    opened(tmp_path).finish()
    with sqlite3.connect(tmp_path / "run" / "ledger.sqlite") as db:
        db.execute("INSERT INTO run VALUES ('filtered_from', 'first')")
    db.close()
    run = si.Run.open(tmp_path / "run", n=9)
    assert kept(run) == 8
    with pytest.raises(si.RunError, match="judged again from first; continue that run, then filter it anew"):
        run.finish()
    with pytest.raises(si.RunError, match="judged again"):
        asyncio.run(run.finish_async())


# Silent


TOLD = """
import logging, sys
import selfinstruct as si
{before}
si.Run.open("run", seeds="seeds.jsonl", n=3, backend={{"script": "answers.jsonl", "concurrency": 1}}).finish()
"""


def in_a_process(folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    seeds(folder)
    answers(folder, {"fault": "server_error"}, " " + "\n10. ".join(INSTRUCTIONS))
    code = TOLD.format(before=before)
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True,
                          env={**ENVIRONMENT, "HOME": str(folder)})  # fmt: skip


def test_library_is_silent(tmp_path: Path) -> None:
    """A program that uses it owns its output."""
    done = in_a_process(tmp_path)
    assert (done.stdout, done.stderr) == ("", "")


def test_log_tells_what_happens(tmp_path: Path) -> None:
    """That the run begins, whom it asks, which attempts failed, and how it ends."""
    told = in_a_process(tmp_path, 'logging.basicConfig(level="INFO", format="%(name)s %(message)s")').stderr
    assert [line for line in told.splitlines() if not line.startswith("selfinstruct.")] == []
    wanted = [
        "run: begins with 8 seeds, recipe self-instruct",
        "run: asks writer: scripted (ScriptedBackend)",
        "job 1, attempt 1: server_error: ",
        "run: ended, complete, with 3 tasks kept",
    ]
    places = [told.index(line) for line in wanted]
    assert places == sorted(places)
