"""Disks that take no more and folders that take nothing: one line, exit code 2, and nothing that was settled is lost.

A limit on the size of files stands in for a disk that is full, so that this is tested where nothing can be mounted;
`tests/test_processes.py` fills a real one, small as it is, and reads a run on one that is read-only.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from selfinstruct.store.ledger import NAME
from tests.crash.forks import longest_file, performed
from tests.crash.killing import Killing, answers, files, is_whole
from tests.run.test_processes import mounted, mounts, says_much
from tests.support.processes import Command, model_server, program
from tests.support.server import text

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]


def refused(*arguments: str, room: int) -> str:
    """The one line of a command for which no file may be longer than so many bytes."""
    (line,) = performed(*arguments, before=longest_file(room), code=2).splitlines()
    return line


def test_a_run_that_finds_the_disk_full_again_and_again_loses_nothing_that_was_settled(tmp_path: Path) -> None:
    """Each time there is a little more room."""
    with model_server() as server:
        server.answer = lambda body: text(says_much(body))
        run = Command(server, tmp_path, "--quiet", n=15)
        killing = Killing(run)
        for room in range(150_000, 390_000, 60_000):
            line = refused(*run.arguments, room=room)
            assert NAME in line
            assert line.endswith("nothing that was settled is lost")
            killing.look()
        killing.finish()
    is_whole(run.run, 15)


@pytest.mark.parametrize("room", [1_000, 4_096, 40_000])
def test_a_run_that_finds_no_room_to_begin_begins_when_there_is_some(tmp_path: Path, room: int) -> None:
    with model_server() as server:
        run = Command(server, tmp_path, "--quiet", n=3)
        assert str(run.run) in refused(*run.arguments, room=room)
        assert not answers(run.run)
        performed(*run.arguments)
    is_whole(run.run, 3)
    assert not list(run.run.glob(".*"))


def test_an_export_that_finds_the_disk_full_leaves_the_one_before(tmp_path: Path) -> None:
    with model_server() as server:
        run = Command(server, tmp_path, n=30)
        performed(*run.arguments)
    before = files(run.run)
    for flags in ((), ("--format", "messages", "--file-type", "parquet")):
        assert "cannot be written" in refused("export", f"{run.run}/.", "--force", *flags, room=1_000)
        assert files(run.run) == before


def test_a_judgement_that_finds_the_disk_full_leaves_the_run_and_no_copy(tmp_path: Path) -> None:
    with model_server() as server:
        run = Command(server, tmp_path, n=30)
        performed(*run.arguments)
    before = files(run.run)
    for room in (1_000, 100_000):
        into = ("--threshold", "0.4", "--into", str(tmp_path / "copy"))
        assert "copy" in refused("filter", f"{run.run}/.", *into, room=room)
        assert files(run.run) == before
        assert not list(tmp_path.glob("*copy*"))


# One command a line, and what it comes to where nothing may be written.
COMMANDS = {
    "status {run}": 0,
    "status": 0,
    "show {run} 1.1": 0,
    "drops {run}": 0,
    "verify {run}": 0,
    "export {run} --to {free}/export": 0,
    "filter {run} --threshold 0.5 --into {free}/copy": 0,
    "report {run} --to {free}/report.html": 0,
    "generate {more}": 2,
    "retry {run}": 2,
    "export {run} --force": 2,
    "filter {run} --threshold 0.5": 2,
}


@pytest.mark.skipif(not mounts(), reason="mounts nothing here, and whom permissions do not bind needs a mount")
def test_where_nothing_may_be_written_every_command_reads_or_says_so_in_one_line(tmp_path: Path) -> None:
    for name in ("disk", "free"):
        (tmp_path / name).mkdir()
    with model_server() as server:
        run = Command(server, tmp_path / "disk", n=5)
        performed(*run.arguments)
        names = {"run": f"{run.run}/.", "free": tmp_path / "free", "more": shlex.join([*run.arguments[1:], "-n", "9"])}
        asked, before = len(server.requests), files(tmp_path / "disk")
        lines = [f"mount --bind {tmp_path}/disk {tmp_path}/disk && mount -o remount,ro,bind {tmp_path}/disk || exit 9"]
        lines += [
            f"{shlex.join(program())} {command.format(**names)} >&2 2>{tmp_path}/said;"
            f" echo $? $(grep -c . {tmp_path}/said) $(grep -c Traceback {tmp_path}/said)"
            for command in COMMANDS
        ]
        done = mounted(f"cd {tmp_path}\n" + "\n".join(lines))
        assert len(server.requests) == asked
    found = dict(zip(COMMANDS, (line.split() for line in done.stdout.splitlines()), strict=True))
    for command, code in COMMANDS.items():
        assert found[command][0] == str(code), (command, done.stderr)
        assert found[command][2] == "0", command
        assert code == 0 or found[command][1] == "1", command
    assert files(tmp_path / "disk") == before
