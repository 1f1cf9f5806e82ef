"""The command group, and the one place where errors become exit codes.

0 done · 1 finished with failures · 2 usage, or something to fix · 130 interrupted
"""

from __future__ import annotations

import sys

import click

from selfinstruct.cli import check, generate, look, publish, refine, seeds
from selfinstruct.errors import UserError

EPILOG = """\b
Examples:
  selfinstruct generate                                     try it: embedded model, no key, no GPU
  selfinstruct generate --seeds my.jsonl -n 50000 --backend vllm --model Qwen/Qwen3-8B
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
    generate.generate, look.status, look.show, look.drops, refine.filter, refine.retry, refine.verify,
    publish.export, seeds.seeds, check.check,
):  # fmt: skip
    cli.add_command(command)


def run() -> None:
    """The console script."""
    try:
        sys.exit(cli(standalone_mode=False) or 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except UserError as error:
        print(f"selfinstruct: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe has seen enough, as in `selfinstruct show RUN | head`.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    run()
