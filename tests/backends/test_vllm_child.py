"""How a vLLM of ours is started, watched and stopped, with a stand-in for vLLM that starts in a second.

tests/vllm has the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from selfinstruct.backends import open_backend
from selfinstruct.backends.local.vllm import LOG, PYTHON, arguments
from selfinstruct.errors import EndpointError
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.records import Request
from tests.support.server import ModelServer

ROOT = Path(__file__).parents[2]
CONFIG = BackendConfig(kind="vllm", model="org/model", concurrency=8, context=1024)
STAND_IN = """
    import os, sys, threading
    from pathlib import Path
    from tests.support.server import ModelServer

    options = dict(zip(sys.argv[1::1], sys.argv[2::1]))
    if options["--model"] == "broken":
        print("INFO loading", file=sys.stderr)
        raise SystemExit("ValueError: the weights are torn")
    Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
    with ModelServer(port=int(options["--port"]), models=(options["--served-model-name"],)):
        threading.Event().wait()
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package named vllm, found first; where it writes its process id."""
    package = tmp_path / "lib" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    (package / "api_server.py").write_text(textwrap.dedent(STAND_IN))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'lib'}{os.pathsep}{ROOT}")
    monkeypatch.setenv("PID_FILE", str(tmp_path / "pid"))
    return tmp_path / "pid"


async def refusal_to_open(config: BackendConfig, folder: Path | None = None) -> str:
    with pytest.raises(EndpointError) as caught:
        async with open_backend(config, folder=folder, notice=print):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not runs(pid)


async def test_it_is_started_asked_and_stopped_and_its_log_is_kept(stand_in: Path, tmp_path: Path) -> None:
    told: list[str] = []
    async with open_backend(CONFIG, folder=tmp_path, notice=told.append) as backend:
        assert backend.model == "org/model"
        assert (await backend.complete(Request(model="", prompt="1."))).text
        pid = int(stand_in.read_text())
        assert runs(pid)
    assert is_gone(pid)
    assert (tmp_path / LOG).exists()
    assert str(tmp_path / LOG) in told[0]
    assert "vLLM is up" in told[-1]


async def test_it_is_gone_when_we_are_killed(stand_in: Path, tmp_path: Path) -> None:
    starter = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from selfinstruct.backends import open_backend
        from selfinstruct.inputs.config import BackendConfig

        async def main():
            config = BackendConfig(kind="vllm", model="org/model")
            async with open_backend(config, folder=Path(sys.argv[1]), notice=lambda line: None):
                print("up", flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", starter, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGKILL)
    assert is_gone(int(stand_in.read_text()))


async def test_it_is_gone_when_opening_is_given_up(stand_in: Path, tmp_path: Path) -> None:
    opening = asyncio.create_task(refusal_to_open(CONFIG, tmp_path))
    while not stand_in.exists() or not stand_in.read_text():
        await asyncio.sleep(0.01)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert is_gone(int(stand_in.read_text()))


async def test_one_that_ends_too_soon_is_told_with_its_last_words_and_its_log(stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / LOG).write_text("ValueError: from a start of yesterday\n")
    message = await refusal_to_open(CONFIG.model_copy(update={"model": "broken"}), tmp_path)
    assert "ValueError: the weights are torn" in message
    assert "yesterday" not in message
    assert str(tmp_path / LOG) in message


async def test_one_that_runs_is_attached_to(server: ModelServer) -> None:
    config = BackendConfig(kind="vllm", base_url=server.base_url)
    async with open_backend(config, notice=print) as backend:
        assert backend.model == "test-model"


async def test_without_vllm_here_it_says_what_to_do() -> None:
    message = await refusal_to_open(CONFIG)
    assert "pip install vllm" in message
    assert PYTHON in message
    assert "base_url" in message


async def test_an_interpreter_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, "/nowhere/python")
    assert "/nowhere/python: No such file" in await refusal_to_open(CONFIG)


async def test_a_model_must_be_named() -> None:
    assert "needs a model" in await refusal_to_open(BackendConfig(kind="vllm"))


def test_flags_of_the_person_come_last_so_that_they_win() -> None:
    config = CONFIG.model_copy(update={"server_args": ("--max-model-len=512",)})
    given = arguments(config, "http://127.0.0.1:7")
    assert given[-1] == "--max-model-len=512"
    assert given[given.index("--max-num-seqs") + 1] == "8"
    assert given[given.index("--max-model-len") + 1] == "1024"
    assert given[given.index("--port") + 1] == "7"
