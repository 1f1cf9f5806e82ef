"""Where the files that ship, prompts and seeds, are found.

Looked up in this order, first found wins:

1. the folder or file that the person named (an option; handled by the caller),
2. `prompts/` or `seeds/` in the working folder, so that a clone or a project of one's own is used as it stands,
3. the copy inside the installed package (the wheel's `selfinstruct/_data/`),
4. the repository beside the package: an editable install has no packaged copy,
5. the home of a recipe that another package ships: the folder of its module.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from selfinstruct.errors import ConfigError

PACKAGE = Path(__file__).parent.parent


def roots(home: Path | None = None) -> Iterator[Path]:
    """The folders in which `prompts/` and `seeds/` are looked for, in order."""
    yield Path.cwd()
    yield from _shipping(home)


def shipped(relative: str, home: Path | None = None) -> Path | None:
    """The file as it shipped, whatever stands before it; None where nothing of that name ships."""
    return next((root / relative for root in _shipping(home) if (root / relative).is_file()), None)


def find(relative: str, first: Path | None = None, home: Path | None = None) -> Path:
    """The path of a shipped file such as `prompts/alpaca/tasks.chat.md`.

    Args:
        first: a folder of the person's that stands for the first part of `relative` (`prompts`), tried before all.
        home: the folder of a recipe's module, tried after all.

    Raises:
        ConfigError: it is nowhere.
    """
    candidates = _candidates(relative, first, home)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ConfigError(f"{relative}: not found in {', '.join(str(c.parent) for c in candidates)}")


def names(pattern: str, first: Path | None = None, home: Path | None = None) -> list[str]:
    """The names of the files that `find` would find for a pattern such as `prompts/alpaca/*.chat.md`, without what
    follows the star."""
    end = pattern.partition("*")[2]
    folders = {candidate.parent for candidate in _candidates(pattern, first, home)}
    return sorted({path.name.removesuffix(end) for folder in folders for path in folder.glob(f"*{end}")})


def _shipping(home: Path | None) -> Iterator[Path]:
    """Where files ship: our package, or the repository beside it, and a recipe's home."""
    yield PACKAGE / "_data"
    yield PACKAGE.parent
    if home is not None:
        yield home


def _candidates(relative: str, first: Path | None, home: Path | None) -> list[Path]:
    inside = Path(*Path(relative).parts[1:])
    return [*([first / inside] if first else []), *(root / relative for root in roots(home))]
