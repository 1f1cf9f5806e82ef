"""`selfinstruct dedup`: near-duplicates out of any file, exactly as a run decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import click

from selfinstruct.cli.flags import Finite, as_json, command
from selfinstruct.cli.terminal import progress_bar
from selfinstruct.dataset.dedup import Keep, check_roles, dedup_files
from selfinstruct.errors import SourceError
from selfinstruct.text.words import TOKENIZERS

_FILE = click.Path(path_type=Path)


@command(
    "dedup alpaca_data.json",
    "dedup mine.jsonl --against test_set.parquet --field question --threshold 0.6",
    "dedup one.csv two.csv --to both.jsonl --keep longest",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--against", multiple=True, type=_FILE, help="Rows compared with, and not written; may be repeated.")
@click.option(
    "--field",
    metavar="NAME",
    help="The column that is compared.  [default: the instruction, or a chat's first question]",
)
@click.option(
    "--threshold",
    type=Finite(0, 1, min_open=True),
    default=0.7,
    show_default=True,
    help="ROUGE-L above which a row is dropped.",
)
@click.option(
    "--tokenizer",
    type=click.Choice(["rouge", "unicode"]),
    default="unicode",
    show_default=True,
    help="What a word is; the two are equal on ASCII.",
)
@click.option(
    "--keep",
    type=click.Choice(["first", "last", "longest"]),
    default="first",
    show_default=True,
    help="Which of near-duplicates stays.",
)
@click.option("--to", type=_FILE, help="For the kept rows: .jsonl, .json, .csv, .parquet.  [default: NAME.kept.jsonl]")
@click.option("--dropped", type=_FILE, help="For the dropped rows.  [default: NAME.dropped.jsonl]")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@as_json
def dedup(
    files: tuple[Path, ...],
    against: tuple[Path, ...],
    field: str | None,
    threshold: float,
    tokenizer: str,
    keep: str,
    to: Path | None,
    dropped: Path | None,
    force: bool,
    as_json: bool,
) -> int:
    """Drop near-duplicate rows of FILES, exactly, by ROUGE-L.

    FILES are JSONL, JSON, CSV, Parquet, or folders of them. A row is dropped when its text is above the threshold with
    a row kept before it, or with any row of --against.
    Dropped rows are written too, each with what it is too like and the score.
    """
    kept = to or _next_to(files[0], "kept")
    gone = dropped or _next_to(kept, "dropped")
    check_roles(files, against, kept, gone)
    for path in (kept, gone):
        if path.exists() and not force:
            raise SourceError(f"{path}: exists already; name another with --to and --dropped, or add --force")
    with progress_bar("rows decided") as progress:
        report = dedup_files(
            files, kept, gone, against=against, field=field, threshold=threshold,
            tokenize=TOKENIZERS[tokenizer], keep=cast("Keep", keep), progress=progress,
        )  # fmt: skip
    if as_json:
        print(json.dumps({**report._asdict(), "kept_file": str(kept), "dropped_file": str(gone)}))
        return 0
    inside = f" ({report.against} of them for --against)" if against else ""
    print(f"{report.rows} rows: {report.kept} kept, {report.dropped} dropped{inside}")
    print(f"{kept}\n{gone}")
    return 0


def _next_to(path: Path, what: str) -> Path:
    if not path.name:
        raise SourceError(f"{path}: has no name to make others from; name the files with --to and --dropped")
    return path.with_name(f"{path.name.partition('.')[0]}.{what}.jsonl")
