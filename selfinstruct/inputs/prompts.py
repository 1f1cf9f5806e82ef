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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfinstruct.errors import ConfigError, PromptError
from selfinstruct.inputs import resources
from selfinstruct.inputs.config import Dialect, build, unknown_name
from selfinstruct.inputs.resources import find, shipped
from selfinstruct.records import Record, Rendered, Turn

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment

_FRONT = re.compile(r"\A\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*\n", re.DOTALL | re.MULTILINE)
_ROLE = re.compile(r"^===[ \t]*(\w+)[ \t]*(?:\n|\Z)", re.MULTILINE)
_ROLES = ("system", "user", "assistant")


class FrontMatter(Record):
    """What a prompt file says of itself."""

    purpose: str
    source: str
    """The paper or practice that the method comes from; the wording is ours."""
    variables: tuple[str, ...]


class Prompt:
    """One prompt, ready to render: `Prompt(text, where="greet.md").render(name="Ada")`.

    Args:
        front: what its front matter may say; a recipe adds keys of its own by a kind of `FrontMatter` of its own.

    Raises:
        PromptError: no front matter, a template that does not parse, or variables other than those declared.
    """

    def __init__(self, text: str, *, where: str, front: type[FrontMatter] = FrontMatter) -> None:
        self.where = where
        found = _FRONT.match(text)
        if found is None:
            raise PromptError(f"{where}: a prompt file begins with front matter between two lines of +++")
        self.front = _front_matter(front, found[1], where)
        turns = list(self._turns(text, found.end()))
        self._check_variables(body for _, body in turns)
        self._bodies = [(role, self._compile(body)) for role, body in turns]

    def render(self, **values: Any) -> Rendered:
        """The prompt with its variables filled in: text, or messages for a chat prompt.

        Raises:
            PromptError: a variable is missing, or the template does what cannot be done.
        """
        with self._boundary():
            rendered = [(role, str(body.render(values))) for role, body in self._bodies]
        if rendered[0][0] is None:
            return rendered[0][1]
        return tuple(Turn(role=role, content=content) for role, content in rendered if role is not None)

    def _turns(self, text: str, start: int) -> Iterator[tuple[str | None, str]]:
        """Each role with its template; one without a role for a completion.

        The lines above a template stand in it as a comment, so that messages name the line of the file.
        """
        marks = list(_ROLE.finditer(text, start))
        if not marks:
            yield None, _above(text, start) + text[start:].removesuffix("\n")
            return
        if text[start : marks[0].start()].strip():
            raise PromptError(f"{self.where}: text before the first role line")
        for mark, end in zip(marks, [*(mark.start() for mark in marks[1:]), len(text)], strict=True):
            if mark[1] not in _ROLES:
                raise PromptError(f"{self.where}: no role {mark[1]!r}: a line === opens one of {', '.join(_ROLES)}")
            # One newline at the end of the text belongs to the file, not to the prompt.
            yield mark[1], _above(text, mark.end()) + text[mark.end() : end].removesuffix("\n")

    def _compile(self, body: str) -> Template:
        with self._boundary():
            return _environment().from_string(body)

    def _check_variables(self, bodies: Iterable[str]) -> None:
        from jinja2 import meta

        with self._boundary():
            used = set().union(*(meta.find_undeclared_variables(_environment().parse(body)) for body in bodies))
        declared = set(self.front.variables)
        if used != declared:
            raise PromptError(
                f"{self.where}: declares {sorted(declared)} but uses {sorted(used)}: name the same variables in both"
            )

    @contextmanager
    def _boundary(self) -> Iterator[None]:
        """Turn what a template does wrong, when it is read or when it is rendered, into one line."""
        from jinja2 import TemplateError, TemplateSyntaxError

        try:
            yield
        except TemplateSyntaxError as error:
            raise PromptError(f"{self.where}: line {error.lineno}: {error.message}") from None
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise PromptError(f"{self.where}: {error}") from None


def _front_matter(front: type[FrontMatter], text: str, where: str) -> FrontMatter:
    try:
        return build(front, tomllib.loads(text), where=f"{where}: front matter")
    except tomllib.TOMLDecodeError as error:
        raise PromptError(f"{where}: front matter: {error}") from None
    except ConfigError as error:
        raise PromptError(str(error)) from None


def _above(text: str, start: int) -> str:
    """A comment as long as what stands above, in lines."""
    return "{#" + "\n" * text.count("\n", 0, start) + "+#}"


@cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )


Fronts = Callable[[str], type[FrontMatter]]
"""What the front matter of a prompt of this name may say."""


def plain_front(name: str) -> type[FrontMatter]:
    """A `Fronts` of a recipe whose prompts say nothing else."""
    return FrontMatter


def read_texts(
    recipe: str,
    names: Iterable[str],
    dialect: Dialect,
    folder: Path | None = None,
    fronts: Fronts = plain_front,
    home: Path | None = None,
) -> dict[str, str]:
    """The text of each prompt file of a recipe, by name: what a run keeps in its ledger.

    Args:
        fronts: what their front matter may say.
        folder: a folder of the person's, searched before the shipped prompts.
        home: the folder of the recipe's module, searched after them.

    Raises:
        PromptError: a file cannot be read, or uses a variable that the recipe does not give.
        ConfigError: a file is nowhere to be found, or `folder` is no folder; of prompts that come in kinds, such as
            `operators/deepen`, the message lists those that there are.
    """
    if folder is not None and not folder.is_dir():
        raise PromptError(f"{folder}: not a folder of prompts")
    texts = {}
    for name in names:
        relative = f"prompts/{recipe}/{name}.{dialect}.md"
        _check_known(recipe, name, dialect, folder, home)
        path = find(relative, folder, home)
        try:
            texts[name] = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise PromptError(f"{path}: cannot be read: {error}") from None
        ours = shipped(relative, home)
        _check_given(Prompt(texts[name], where=str(path), front=fronts(name)), ours, fronts(name))
    return texts


def _check_known(recipe: str, name: str, dialect: Dialect, folder: Path | None, home: Path | None) -> None:
    """Raise ConfigError for a prompt of a kind, such as `operators/deepen`, that there is not."""
    kind, slash, leaf = name.rpartition("/")
    if slash and leaf not in (known := resources.names(f"prompts/{recipe}/{kind}/*.{dialect}.md", folder, home)):
        raise unknown_name(kind.removesuffix("s"), leaf, known)


def _check_given(prompt: Prompt, ours: Path | None, front: type[FrontMatter]) -> None:
    """A prompt of the person's may use what the one that ships uses: the recipe gives nothing else."""
    if ours is None:
        return
    given = Prompt(ours.read_text(encoding="utf-8"), where=str(ours), front=front).front.variables
    require_given(prompt, given)


def require_given(prompt: Prompt, given: Sequence[str]) -> None:
    """Refuse a prompt that uses what it is not given.

    Raises:
        PromptError: names what it uses, and what there is.
    """
    if unknown := set(prompt.front.variables) - set(given):
        names = ", ".join(sorted(unknown))
        raise PromptError(f"{prompt.where}: uses {names}, which the recipe does not give; it gives {', '.join(given)}")


def compile_texts(texts: Mapping[str, str], fronts: Fronts = plain_front) -> dict[str, Prompt]:
    """The prompts of `read_texts`, ready to render."""
    return {name: Prompt(text, where=f"prompt {name}", front=fronts(name)) for name, text in texts.items()}
