"""Runs that are killed, and what every kill leaves."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

from selfinstruct.store.ledger import NAME, Ledger
from tests.crash.forks import Before, Forked, performed
from tests.support.processes import Command, until
from tests.support.runs import counts_add_up
from tests.support.sql import count


def settled(run: Path) -> list[tuple[object, ...]]:
    """All that is settled, in its order."""
    with Ledger.open(run) as ledger:
        return ledger.query(
            "SELECT d.rank, d.id, d.kept, d.instruction, d.stayed, d.meta, v.filter, v.reason, v.detail"
            " FROM drafts d JOIN verdicts v ON v.draft = d.id ORDER BY d.rank, v.place"
        )


def answers(run: Path) -> int:
    """Answers in a ledger, where there is one."""
    if not (run / NAME).exists():
        return 0
    with Ledger.open(run) as ledger:
        return ledger.count("answers")


def files(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, by its place; not what SQLite makes for readers of a ledger."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def is_whole(run: Path, tasks: int) -> None:
    """Exactly so many tasks, verified, and the counts add up."""
    performed("verify", f"{run}/.")
    with Ledger.open(run) as ledger:
        assert count(ledger, "kept", "stage = 'instances'") == tasks
        counts_add_up(ledger)


class Killing:
    """Kills of one run, and what is lost by them.

    Of the instants that a random source draws, two in five lie in the first moments of a process, in which it opens the
    ledger and builds the index; the others after some requests more.
    """

    def __init__(self, run: Command, seed: int = 0) -> None:
        self._run = run
        self._rng = Random(seed)
        self._before = list[tuple[object, ...]]()
        self.lost = 0
        """Requests whose answers no ledger has."""
        self.amid = 0
        """Kills that left jobs open."""

    def kill(self, *arguments: str, before: Before | None = None) -> None:
        """Start a command, by default the run's own, kill it, and look at what is left."""
        with Forked(*(arguments or self._run.arguments), before=before) as process:
            self.moment(process)
        self.look()

    def moment(self, process: Forked) -> None:
        """Wait until an instant that chance draws."""
        if self._rng.random() < 0.4:
            time.sleep(self._rng.random() * 0.3)
        else:
            wanted = len(self._run.server.requests) + self._rng.randrange(12)
            until(lambda: len(self._run.server.requests) >= wanted or process.poll() is not None)
            time.sleep(self._rng.random() * 0.06)

    def look(self, lost: int = 0) -> None:
        """What the last kill left.

        Args:
            lost: requests of which it is known that no answer came.
        """
        until(lambda: self._run.server._now == 0)
        self.lost += lost
        in_flight = len(self._run.server.requests) - self.lost - answers(self._run.run)
        assert 0 <= in_flight <= self._run.concurrency, "more was lost than was in flight"
        self.lost += in_flight
        if (self._run.run / NAME).exists():
            now = settled(self._run.run)
            assert now[: len(self._before)] == self._before, "what was settled has changed"
            self._before = now
            with Ledger.open(self._run.run) as ledger:
                self.amid += count(ledger, "jobs", "state = 'planned'") > 0

    def finish(self, before: Before | None = None) -> None:
        """Let it come to its end; no answer that was stored is asked for again."""
        performed(*self._run.arguments, before=before)
        assert len(self._run.server.requests) == answers(self._run.run) + self.lost
