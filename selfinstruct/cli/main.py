"""The command group, and the one place where errors become exit codes.

0 done · 1 finished with failures · 2 usage, or something to fix · 130 interrupted
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from importlib import import_module
from typing import Any

import click

from selfinstruct.cli.logs import log_options
from selfinstruct.cli.terminal import door
from selfinstruct.errors import UserError
from selfinstruct.text.display import one_line
from selfinstruct.text.secrets import masked

log = logging.getLogger(__name__)

COMMANDS = {
    "generate": "Expand seed tasks until N tasks are kept, or continue a run.",
    "evolve": "Make the tasks of SOURCE harder and rarer, round by round, or continue doing so.",
    "status": "Show how far RUN is, what it kept, dropped and took; without RUN, list all runs.",
    "show": "Show samples or drafts of RUN by their IDS, with their story; or the latest tasks.",
    "drops": "Show what was dropped, by which filter and why; for a near-duplicate, of what.",
    "filter": "Judge the stored drafts of RUN again under other settings, into a copy.",
    "retry": "Ask again for every job of RUN that failed; the run's budget holds.",
    "verify": "Derive all of RUN again from its stored answers, and compare byte for byte.",
    "export": "Write the kept tasks of RUN as files that trainers read.",
    "card": "Print the dataset card that `push` would publish, made from the ledger of RUN.",
    "push": "Publish the kept tasks of RUN as a dataset on the Hugging Face Hub, in one commit.",
    "report": "Write RUN as one HTML page: what is in it, how it was filtered, what it cost.",
    "review": "Keep, drop and edit the tasks of RUN by hand, in a browser, with the keyboard.",
    "dedup": "Drop near-duplicate rows of FILES, exactly, by ROUGE-L.",
    "seeds": "Look at seed tasks.",
    "recipes": "List the recipes: what goes in, what comes out; with NAME, all settings of one.",
    "check": "Say whether the server is up, whether the model answers, and which dialect suits it.",
}
"""Each command with its line in `--help`; it is the function of that name in the module of that name."""
EPILOG = """\b
Examples:
  selfinstruct generate                                     try it: embedded model, no key, no GPU
  selfinstruct generate my.jsonl -n 50000 --backend vllm --model Qwen/Qwen3-8B
  selfinstruct evolve self-instruct-embedded                make what is kept harder and rarer
  selfinstruct status                                       the runs under outputs/
"""


class Lazy(click.Command):
    """Stands for a command until that is called, or asked for its help: only then its module is imported."""

    def load(self) -> click.Command:
        """The command itself."""
        found: click.Command = getattr(import_module(f"selfinstruct.cli.{self.name}"), str(self.name))
        return found

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        return self.load().make_context(info_name, args, parent, **extra)


@click.group(
    commands=[Lazy(name, help=line) for name, line in COMMANDS.items()],
    params=log_options(),
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


def run() -> None:
    """The console script."""
    with door():
        sys.exit(_exit_code())


def _exit_code() -> int:
    """Run the command; its exit code, also where nobody reads any more."""
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
    except Exception:  # noqa: BLE001 - a bug, whose traceback is for the terminal as all else is
        traceback.print_exc()
        code = 1
    return code


def _code() -> int:
    """Run the command; its exit code. What the person can fix is said in one line."""
    try:
        return cli(prog_name="selfinstruct", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as help:
        print(help.format_message())
        return 2
    except click.ClickException as error:
        return _say(_worded(error))
    except UserError as error:
        log.debug("stopped by an error that can be fixed", exc_info=True)
        return _say(str(error))
    except OSError as error:
        if error.errno in (None, errno.EPIPE, errno.EIO):
            raise
        log.debug("stopped by the system", exc_info=True)
        return _say(f"{os.fsdecode(error.filename) if error.filename else 'the disk'}: {error.strerror or error}"[:400])
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130


def _say(line: str) -> int:
    print(f"selfinstruct: {one_line(masked(line))}", file=sys.stderr)
    return 2


def _worded(error: click.ClickException) -> str:
    """What click found wrong with the command line, and where to read what is right."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    message = error.format_message().rstrip(".")
    if context is not None and context.command is cli and isinstance(error, click.NoSuchOption):
        message += "; options stand after the command"
    elif message.startswith("No such command") and "Did you mean" not in message:
        message += f"; known: {', '.join(getattr(context and context.command, 'commands', {}))}"
    return f"{message}; see {context.command_path} --help" if context else message


if __name__ == "__main__":
    run()
