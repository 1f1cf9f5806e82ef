"""Batches that vLLM runs without a server, with a stand-in for vLLM that answers at once.

tests/vllm has the real one.
"""

from __future__ import annotations

import asyncio
import os
import textwrap
from pathlib import Path

import pytest

from selfinstruct.backends import Backend, open_backend
from selfinstruct.backends.vllm import LOG
from selfinstruct.backends.vllm_batch import arguments
from selfinstruct.config import BackendConfig
from selfinstruct.errors import EndpointError, Refused
from selfinstruct.records import Completion, Message, Request
from tests.backends.test_vllm_child import is_gone

ROOT = Path(__file__).parents[2]
CONFIG = BackendConfig(kind="vllm", model="org/model", context=1024, batch=True, dialect="chat")
STAND_IN = """
    import json, os, sys, time
    from pathlib import Path

    options = dict(zip(sys.argv[1::1], sys.argv[2::1]))
    place = Path(os.environ["PLACE"])
    with (place / "starts").open("a") as starts:
        print(os.getpid(), Path(options["-i"]).name, file=starts)
    while (place / "hang").exists():
        time.sleep(0.01)
    if (place / "broken").exists():
        print("INFO loading", file=sys.stderr)
        raise SystemExit("ValueError: the weights are torn")
    with open(options["-o"], "w") as out:
        for line in open(options["-i"]):
            asked = json.loads(line)
            said = asked["body"]["messages"][-1]["content"]
            response, error = {"request_id": "r", "status_code": 200}, None
            if said == "refuse this":
                response["status_code"], error = 400, {"error": {"message": "malformed", "code": 400}}
            else:
                message = {"role": "assistant", "content": said.upper()}
                response["body"] = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
            answer = {"id": "v", "custom_id": asked["custom_id"], "response": response, "error": error}
            print(json.dumps(answer), file=out)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package named vllm, found first; the folder in which it is told what to do."""
    package = tmp_path / "lib" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    (package / "run_batch.py").write_text(textwrap.dedent(STAND_IN))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'lib'}{os.pathsep}{ROOT}")
    monkeypatch.setenv("PLACE", str(tmp_path))
    return tmp_path


def starts(place: Path) -> list[str]:
    """What was run, in its order."""
    return [line.split()[1] for line in (place / "starts").read_text().splitlines()]


def question(text: str) -> Request:
    return Request(model="org/model", messages=(Message(role="user", content=text),), key=f"b2:{text}")


async def asked(backend: Backend, *texts: str) -> list[str | BaseException]:
    answers = await asyncio.gather(*(backend.complete(question(text)) for text in texts), return_exceptions=True)
    return [answer.text if isinstance(answer, Completion) else answer for answer in answers]


async def test_it_runs_a_file_and_each_request_gets_its_own_answer(stand_in: Path, tmp_path: Path) -> None:
    told: list[str] = []
    async with open_backend(CONFIG, folder=tmp_path, notice=told.append) as backend:
        [one, refusal, two] = await asked(backend, "one", "refuse this", "two")
        assert (one, two) == ("ONE", "TWO")
        assert isinstance(refusal, Refused)
        assert await asked(backend, "three") == ["THREE"]
    assert starts(stand_in) == ["0001.jsonl", "0002.jsonl"]
    assert told[0] == f"batches/0001: vLLM runs its 3 requests; its log: {tmp_path / LOG}"


async def test_one_that_fails_is_told_with_its_words_and_its_log_and_runs_the_file_the_next_time(
    stand_in: Path, tmp_path: Path
) -> None:
    (stand_in / "broken").touch()
    async with open_backend(CONFIG, folder=tmp_path, notice=print) as backend:
        [error] = await asked(backend, "one")
    assert isinstance(error, EndpointError)
    assert "ValueError: the weights are torn" in str(error)
    assert str(tmp_path / LOG) in str(error)
    (stand_in / "broken").unlink()
    async with open_backend(CONFIG, folder=tmp_path, notice=print) as backend:
        assert await asked(backend, "one") == ["ONE"]
    assert starts(stand_in) == ["0001.jsonl", "0001.jsonl"]


async def test_it_is_stopped_with_us_and_the_next_process_runs_the_file_again(stand_in: Path, tmp_path: Path) -> None:
    (stand_in / "hang").touch()
    async with open_backend(CONFIG, folder=tmp_path, notice=print) as backend:
        waiting = asyncio.create_task(backend.complete(question("one")))
        while not (stand_in / "starts").exists() or not (stand_in / "starts").read_text():
            await asyncio.sleep(0.01)
        waiting.cancel()
    assert is_gone(int((stand_in / "starts").read_text().split()[0]))
    (stand_in / "hang").unlink()
    async with open_backend(CONFIG, folder=tmp_path, notice=print) as backend:
        assert await asked(backend, "one", "two") == ["ONE", "TWO"]
    assert starts(stand_in)[:2] == ["0001.jsonl", "0001.jsonl"]


def test_flags_of_the_person_come_last_so_that_they_win() -> None:
    config = CONFIG.model_copy(update={"server_args": ("--max-model-len=512",)})
    given = arguments(config, Path("in.jsonl"), Path("out.part"))
    assert given[-1] == "--max-model-len=512"
    assert [given[given.index(flag) + 1] for flag in ("-i", "-o", "--model")] == ["in.jsonl", "out.part", "org/model"]
