"""`selfinstruct seeds check`: what is in a file of seeds, and what is wrong with it, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from selfinstruct.cli.flags import as_json, examples
from selfinstruct.cli.logs import Command
from selfinstruct.filters.rouge_index import RougeIndex
from selfinstruct.inputs.resources import find
from selfinstruct.inputs.seeds import SeedReport, check_seeds
from selfinstruct.text.display import json_line, visible
from selfinstruct.text.words import TOKENIZERS

NEAR = 0.7
"""ROUGE-L above which two seeds are called near-duplicates: what the pool would not take either."""
SHOWN = 50
"""Errors, and as many warnings, that a person is shown; files of other people may have thousands."""


@click.group()
def seeds() -> None:
    """Look at seed tasks."""


@seeds.command(cls=Command, epilog=examples("seeds check my.jsonl", "seeds check alpaca_data.json --json"))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@as_json
def check(file: Path | None, as_json: bool) -> int:
    """Say what is in FILE (or in the seeds that ship) and what is wrong with it, line by line."""
    report = check_seeds(file or find("seeds/tasks.jsonl"), similar=near_duplicates)
    print(json_line(report.model_dump(mode="json")) if as_json else visible(_told(report), indent=""))
    return 2 if report.errors else 0


def near_duplicates(texts: list[str]) -> Iterator[tuple[int, int, float]]:
    """Pairs of texts, by position, whose ROUGE-L is above `NEAR`: each with the nearest that stands before it."""
    index = RougeIndex(NEAR, TOKENIZERS["unicode"])
    for position, text in enumerate(texts):
        match = index.match(text)
        if match is not None:
            yield match.number, position, match.score
        index.add(text)


def _told(report: SeedReport) -> str:
    shown = {id(problem) for problems in (report.errors, report.warnings) for problem in problems[:SHOWN]}
    lines = [
        f"{problem.place}: {problem.severity}: {problem.message}" for problem in report.problems if id(problem) in shown
    ]
    if more := len(report.problems) - len(shown):
        lines.append(f"… and {more:,} more: --json lists all")
    kinds = f"{report.classification} classification, {report.without_input} without input"
    lines += [
        f"{report.seeds} seeds with {report.instances} instances; {kinds}",
        f"{report.mean_words:.1f} words to an instruction on average",
        f"scripts: {', '.join(f'{name} {share:.0%}' for name, share in report.scripts.items())}",
    ]
    if report.categories:
        lines.append(f"categories: {', '.join(f'{name} {count}' for name, count in report.categories.items())}")
    if report.ignored_columns:
        lines.append(f"columns not used: {', '.join(report.ignored_columns)}")
    verdict = "the seeds do not load as they are" if report.errors else "the seeds load"
    return "\n".join([*lines, f"{len(report.errors)} errors, {len(report.warnings)} warnings: {verdict}"])
