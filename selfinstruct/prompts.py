"""Prompts: files under `prompts/`, rendered strictly.

A prompt file is TOML front matter between two `+++` lines (what it is for, where its method comes from, which
variables it takes) and a Jinja2 text. In a chat prompt a line `=== system`, `=== user` or `=== assistant` opens a
message.

An undefined variable is an error, so a typo never reaches a model. What models wrote is inserted as a value and never
rendered itself, and role lines are found before rendering: generated text cannot open a message or run a template.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfinstruct.config import Dialect
from selfinstruct.errors import PromptError
from selfinstruct.records import Message, Record, Rendered
from selfinstruct.resources import find

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

_FRONT = re.compile(r"\A\+\+\+\n(.*?)^\+\+\+\n", re.DOTALL | re.MULTILINE)
_ROLE = re.compile(r"^=== (system|user|assistant)\n", re.MULTILINE)


class FrontMatter(Record):
    """What a prompt file says of itself."""

    purpose: str
    source: str
    """The paper or practice that the method comes from; the wording is ours."""
    variables: tuple[str, ...]


class Prompt:
    """One prompt, ready to render: `Prompt(text, where="greet.md").render(name="Ada")`.

    Raises:
        PromptError: no front matter, a template that does not parse, or variables other than those declared.
    """

    def __init__(self, text: str, *, where: str) -> None:
        self.where = where
        front = _FRONT.match(text)
        if front is None:
            raise PromptError(f"{where}: a prompt file begins with front matter between two lines of +++")
        try:
            self.front = FrontMatter.model_validate(tomllib.loads(front[1]))
        except ValueError as error:
            raise PromptError(f"{where}: front matter: {str(error).splitlines()[0]}") from None
        opening, *turns = _ROLE.split(text[front.end() :])
        if turns and opening.strip():
            raise PromptError(f"{where}: text before the first role line")
        self._check_variables([opening, *turns[1::2]])
        self._text = None if turns else self._compile(opening)
        self._turns = [(role, self._compile(body)) for role, body in zip(turns[::2], turns[1::2], strict=True)]

    def render(self, **values: Any) -> Rendered:
        """The prompt with its variables filled in: text, or messages for a chat prompt.

        Raises:
            PromptError: a variable is missing.
        """
        from jinja2 import TemplateError

        try:
            if self._text is not None:
                return str(self._text.render(values))
            return tuple(Message(role=role, content=body.render(values)) for role, body in self._turns)
        except TemplateError as error:
            raise PromptError(f"{self.where}: {error}") from None

    def _compile(self, body: str) -> Any:
        from jinja2 import TemplateError

        # One newline at the end of the text belongs to the file, not to the prompt.
        try:
            return _environment().from_string(body.removesuffix("\n"))
        except TemplateError as error:
            raise PromptError(f"{self.where}: {error}") from None

    def _check_variables(self, bodies: Iterable[str]) -> None:
        from jinja2 import TemplateError, meta

        try:
            used = set().union(*(meta.find_undeclared_variables(_environment().parse(body)) for body in bodies))
        except TemplateError as error:
            raise PromptError(f"{self.where}: {error}") from None
        declared = set(self.front.variables)
        if used != declared:
            raise PromptError(
                f"{self.where}: declares {sorted(declared)} but uses {sorted(used)}: name the same variables in both"
            )


@cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )


def read_texts(recipe: str, names: Iterable[str], dialect: Dialect, folder: Path | None = None) -> dict[str, str]:
    """The text of each prompt file of a recipe, by name: what a run keeps in its ledger.

    Args:
        folder: a folder of the person's, searched before the shipped prompts.

    Raises:
        PromptError: a file cannot be read.
        ConfigError: a file is nowhere to be found, or `folder` is no folder.
    """
    if folder is not None and not folder.is_dir():
        raise PromptError(f"{folder}: not a folder of prompts")
    texts = {}
    for name in names:
        path = find(f"prompts/{recipe}/{name}.{dialect}.md", folder)
        try:
            texts[name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PromptError(f"{path}: cannot be read: {error}") from None
        Prompt(texts[name], where=str(path))
    return texts


def compile_texts(texts: Mapping[str, str]) -> dict[str, Prompt]:
    """The prompts of `read_texts`, ready to render."""
    return {name: Prompt(text, where=f"prompt {name}") for name, text in texts.items()}
