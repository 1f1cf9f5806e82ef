"""The command group, and the one place where errors become exit codes.

0 done · 1 finished with failures · 2 usage, or something to fix · 130 interrupted
"""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper

import click

from selfinstruct.cli import check, dedup, evolve, generate, hub, look, publish, refine, report, seeds
from selfinstruct.errors import UserError
from selfinstruct.text.display import one_line

EPILOG = """\b
Examples:
  selfinstruct generate                                     try it: embedded model, no key, no GPU
  selfinstruct generate --seeds my.jsonl -n 50000 --backend vllm --model Qwen/Qwen3-8B
  selfinstruct evolve self-instruct-embedded                make what is kept harder and rarer
  selfinstruct status                                       the runs under outputs/
"""


@click.group(
    epilog=EPILOG,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "SELFINSTRUCT",
        "max_content_width": 100,
    },
)
@click.version_option(package_name="selfinstruct")
def cli() -> None:
    """Turn a handful of seed tasks into a large, diverse, explained instruction dataset.

    A run is one folder under outputs/: its configuration, its ledger with everything a model ever answered, its
    exports. A run that stopped, for whatever reason, is continued by the command that began it.
    """


for command in (
    generate.generate, evolve.evolve, look.status, look.show, look.drops, refine.filter, refine.retry, refine.verify,
    publish.export, hub.card, hub.push, report.report, report.review, dedup.dedup, seeds.seeds, check.check,
):  # fmt: skip
    cli.add_command(command)


def run() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that knows only some characters is shown the others by their numbers.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _code()
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        # The reader of a pipe has seen enough, as in `selfinstruct show RUN | head`, or the terminal is gone: nothing
        # that is written from here on would be read.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        code = 0 if error.errno == errno.EPIPE else 130
    sys.exit(code)


def _code() -> int:
    """Run the command; its exit code. What the person can fix is said in one line."""
    try:
        return cli(prog_name="selfinstruct", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as help:
        print(help.format_message())
        return 2
    except click.ClickException as error:
        return _say(_told(error))
    except UserError as error:
        return _say(str(error))
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130


def _say(line: str) -> int:
    print(f"selfinstruct: {one_line(line)}", file=sys.stderr)
    return 2


def _told(error: click.ClickException) -> str:
    """What click found wrong with the command line, and where to read what is right."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    told = error.format_message().rstrip(".")
    if context is not None and context.command is cli and isinstance(error, click.NoSuchOption):
        told += "; options stand after the command"
    elif told.startswith("No such command") and "Did you mean" not in told:
        told += f"; known: {', '.join(getattr(context and context.command, 'commands', {}))}"
    elif context is not None and context.command is generate.generate and "unexpected extra argument" in told:
        told += "; seeds are named with --seeds, a run with --run"
    return f"{told}; see {context.command_path} --help" if context else told


if __name__ == "__main__":
    run()
