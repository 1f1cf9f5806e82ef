"""What a person sees while a run works: a live panel on a terminal, plain lines elsewhere, JSON lines for machines.

All of it goes to standard error but the JSON; standard output is for results.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel as Frame
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from selfinstruct.cli import budgets, facets
from selfinstruct.cli.terminal import say, screen
from selfinstruct.inputs.config import RunConfig
from selfinstruct.inputs.prices import cost, prices_of
from selfinstruct.records import WRITER, Answer, Completion, Execution
from selfinstruct.run.budget import standings
from selfinstruct.run.engine import Engine
from selfinstruct.run.events import Answered, Ended, Event, Failed, Faulted, Planned, Settled
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.readings import Fates, summary
from selfinstruct.text.display import duration, json_line, one_line

RECENT = 60.0
"""Seconds over which rates are taken."""
PLAIN_EVERY = 5.0
"""Seconds between two plain lines."""


class Watcher(AbstractContextManager["Watcher"], Protocol):
    """Sees a run go by."""

    def note(self, line: str) -> None:
        """One line for the person."""

    def start(self, engine: Engine, ledger: Ledger) -> None:
        """The engine is about to run."""

    def see(self, event: Event) -> None:
        """Something happened."""

    def stop(self) -> None:
        """The engine has run."""


def open_watcher(folder: Path, config: RunConfig, *, as_json: bool, quiet: bool) -> Watcher:
    """The watcher that suits where the output goes; `NO_COLOR` and a dumb terminal are rich's to honour."""
    if as_json:
        return JsonLines()
    if quiet:
        return Quiet()
    console = screen(stderr=True)
    return (
        Panel(folder, config, console)
        if console.is_terminal and not console.is_dumb_terminal
        else Plain(folder, config)
    )


class Quiet:
    """Says nothing but what must be known."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def note(self, line: str) -> None:
        """Nothing."""

    def start(self, engine: Engine, ledger: Ledger) -> None:
        """Nothing."""

    def see(self, event: Event) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class JsonLines(Quiet):
    """Every event as one JSON object to a line on standard output."""

    def note(self, line: str) -> None:
        """As an event of its own."""
        self._print({"event": "note", "message": line})

    def see(self, event: Event) -> None:
        """The event's name and what identifies it."""
        self._print({"event": type(event).__name__.lower(), **_plain(event)})

    def _print(self, fields: dict[str, Any]) -> None:
        print(json_line(fields), flush=True)


def _plain(event: Event) -> dict[str, Any]:
    if isinstance(event, Ended):
        return event._asdict()
    fields: dict[str, Any] = {"job": event.job.number, "stage": event.job.stage}
    if isinstance(event, Answered):
        fields |= {"seconds": round(event.seconds, 3), "from": event.door, **_answer(event.answer)}
    elif isinstance(event, Faulted):
        fields |= {"kind": event.fault.kind, "message": str(event.fault), "attempt": event.attempt}
    elif isinstance(event, Failed):
        fields |= {"kind": event.kind, "message": event.message}
    elif isinstance(event, Settled):
        fields["drafts"] = [
            {
                "id": o.id,
                "kept": o.sample is not None,
                "reason": o.verdicts[-1].reason,
                "instruction": o.draft.instruction,
            }
            for o in event.outcomes
        ]
    return fields


def _answer(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Completion):
        return {"finish_reason": answer.finish_reason, "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens}  # fmt: skip
    return {"status": answer.status} if isinstance(answer, Execution) else {"failed": answer.failed}


class Progress:
    """Counts of a run so far, and rates of late."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self.engine = engine
        self.state = engine.state
        told = summary(ledger)
        self.drops: Counter[str] = Counter()
        for drop in told.drops:
            self.drops[drop.reason] += drop.drafts
        self.kept: Counter[str] = Counter({drafts.stage: drafts.kept for drafts in told.drafts})
        self.prompt_tokens, self.completion_tokens = told.prompt_tokens, told.completion_tokens
        self.failed = sum(told.failed.values())
        self.faults: Counter[str] = Counter()
        self.fates = Fates(ledger, self.state.chain.lines)
        self.models = ledger.models()
        self.prices = prices_of(self.state.config, self.models)
        self.began = time.monotonic()
        self._before = self.goal[0]
        self._tokens: deque[tuple[float, int]] = deque()
        self.latest = ""

    @property
    def model(self) -> str:
        """The model that writes, and those of other roles with their names."""
        return ", ".join(f"{model}" if door == WRITER else f"{door} {model}" for door, model in self.models.items())

    def see(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, Answered) and isinstance(event.answer, Completion):
            self.prompt_tokens += event.answer.prompt_tokens
            self.completion_tokens += event.answer.completion_tokens
            self._tokens.append((time.monotonic(), event.answer.completion_tokens))
        elif isinstance(event, Settled):
            for outcome in event.outcomes:
                self.fates.see(outcome)
                if outcome.sample is None:
                    self.drops[outcome.verdicts[-1].reason] += 1
                else:
                    self.kept[outcome.draft.stage] += 1
                    self.latest = one_line(outcome.sample.instruction)
        elif isinstance(event, Failed):
            self.failed += 1
        elif isinstance(event, Faulted):
            self.faults[event.fault.kind] += 1

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens, over the last minute."""
        now = time.monotonic()
        while self._tokens and now - self._tokens[0][0] > RECENT:
            self._tokens.popleft()
        return sum(tokens for _, tokens in self._tokens) / max(1e-9, min(RECENT, now - self.began))

    @property
    def remaining(self) -> float | None:
        """Seconds to the end at the pace of this session, once it has one."""
        done, whole = self.goal
        gained, elapsed = done - self._before, time.monotonic() - self.began
        return (whole - done) * elapsed / gained if gained else None

    @property
    def goal(self) -> tuple[int, int]:
        """How much is done of how much: tasks kept of the target, or jobs of the first stage where all are wanted."""
        state = self.state
        if state.target is not None:
            return min(state.tasks, state.target), state.target
        return state.first_stage_done, state.extent or 0

    @property
    def told_goal(self) -> str:
        """How much is done of how much, for a person."""
        done, whole = self.goal
        if self.state.target is not None:
            return f"{done} of {whole} tasks kept"
        return f"{done} of {whole} {self.state.chain.stages[0].name} jobs done, {self.state.tasks} tasks kept"

    @property
    def cost(self) -> float | None:
        """US dollars spent so far, over all sessions."""
        return cost(self.prices, self.engine.purse.spent.items())

    @property
    def forecast(self) -> str:
        """What it cost so far, and will in all as it went so far; for a person."""
        return budgets.cost_forecast(self.cost, self._in_all(self.cost or 0.0))

    @property
    def budget(self) -> list[str]:
        """How each budget stands, and what the whole run would take of it; for a person."""
        purse = self.engine.purse
        return budgets.forecasts(
            standings(self.state.config.budget, purse.spent, self.prices, purse.seconds), self._in_all
        )

    def _in_all(self, spent: float) -> float | None:
        """What the whole run will take, by what was spent on what is done; None once it is done, and while that is
        nothing."""
        done, whole = self.goal
        return spent * whole / done if spent and 0 < done < whole else None


class Plain(Quiet):
    """A line every few seconds, for logs and pipes."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self._folder = folder
        self._progress: Progress | None = None
        self._last = 0.0

    def note(self, line: str) -> None:
        """The line."""
        say(line)

    def start(self, engine: Engine, ledger: Ledger) -> None:
        """Begin to count."""
        self._progress = Progress(engine, ledger)
        state = engine.state
        self.note(f"{self._folder}: {state.count}; model {self._progress.model}")

    def see(self, event: Event) -> None:
        """Count, and say so when it is time."""
        assert self._progress is not None
        self._progress.see(event)
        if isinstance(event, Planned):
            return
        now = time.monotonic()
        first = isinstance(event, Settled) and self._progress.state.tasks == 1
        if now - self._last >= PLAIN_EVERY or first or isinstance(event, Ended | Failed):
            self._last = now
            self.note(self._line(event))

    def _line(self, event: Event) -> str:
        p = self._progress
        assert p is not None
        if isinstance(event, Failed):
            return f"job {event.job.number} failed: {event.kind}: {event.message}"
        parts = [
            p.told_goal,
            f"{p.drops.total()} dropped",
            f"{p.engine.in_flight} in flight",
        ]
        parts.append(f"{p.tokens_per_second:.0f} tokens/s")
        if p.drops:
            parts.append("drops: " + ", ".join(f"{reason} {count}" for reason, count in p.drops.most_common(3)))
        if p.remaining is not None and not isinstance(event, Ended):
            parts.append(f"about {duration(p.remaining)} left")
        if p.cost:
            parts.append(p.forecast)
        parts += [f"budget {line}" for line in p.budget]
        return " · ".join(parts)


class Panel(Quiet):
    """A live panel on a terminal."""

    def __init__(self, folder: Path, config: RunConfig, console: Console) -> None:
        self._folder = folder
        self._config = config
        self._console = console
        self._progress: Progress | None = None
        self._notes: deque[str] = deque(maxlen=2)
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def note(self, line: str) -> None:
        """The line, at the foot of the panel."""
        self._notes.append(one_line(line))

    def start(self, engine: Engine, ledger: Ledger) -> None:
        """Begin to count."""
        self._progress = Progress(engine, ledger)

    def see(self, event: Event) -> None:
        """Count; the panel draws itself."""
        if self._progress is not None:
            self._progress.see(event)
        if isinstance(event, Failed):
            self.note(f"job {event.job.number} failed: {event.kind}: {event.message}")

    def stop(self) -> None:
        """Draw a last time and leave the panel standing."""
        if self._live.is_started:
            self._live.refresh()
            self._live.stop()

    def _render(self) -> RenderableType:
        notes = [Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in self._notes]
        body = [Text("opening the backend …", style="dim")] if self._progress is None else [self._bar(), self._facts()]
        told = f" {', then '.join(self._config.recipes)} · {self._folder}"
        title = Text.assemble(("selfinstruct", "bold"), one_line(told))
        return Frame(Group(*body, *notes), title=title, title_align="left", width=min(100, self._console.width))

    def _bar(self) -> RenderableType:
        p = self._progress
        assert p is not None
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True, justify="right")
        left = "" if p.remaining is None or p.state.complete else f"about {duration(p.remaining)} left"
        done, whole = p.goal
        row.add_row(Text(p.told_goal, style="bold"), ProgressBar(total=whole, completed=done), left)
        return row

    def _facts(self) -> RenderableType:
        p = self._progress
        assert p is not None
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(style="dim", no_wrap=True, min_width=len("in flight"))
        grid.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
        grid.add_row("model", one_line(f"{p.model} ({self._config.backend.kind})"))
        kept, drafts = sum(p.kept.values()), sum(p.kept.values()) + p.drops.total()
        stages = ", ".join(f"{stage} {p.kept[stage]}" for stage in (one.name for one in p.state.chain.stages))
        grid.add_row("accepted", f"{kept} of {drafts} drafts ({kept / max(1, drafts):.0%}): {stages}")
        for name, rows in p.fates.told().items():
            grid.add_row(one_line(name), one_line(facets.line(rows)))
        grid.add_row("dropped", ", ".join(f"{reason} {count}" for reason, count in p.drops.most_common(4)) or "none")
        failures = f", failed {p.failed}" if p.failed else ""
        faults = "".join(f", {kind} {count}" for kind, count in p.faults.most_common(2))
        held = f", {p.engine.held_back}" if p.engine.held_back else ""
        grid.add_row("in flight", f"{p.engine.in_flight} of {p.engine.width}{held}{failures}{faults}")
        tokens = f"{p.prompt_tokens:,} in, {p.completion_tokens:,} out, {p.tokens_per_second:.0f}/s"
        grid.add_row("tokens", f"{tokens} · {duration(time.monotonic() - p.began)}")
        grid.add_row("cost", p.forecast)
        if p.budget:
            grid.add_row("budget", " · ".join(p.budget))
        grid.add_row("latest", Text(p.latest or "…", overflow="ellipsis", no_wrap=True))
        return grid
