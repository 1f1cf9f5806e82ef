"""Seed tasks as people bring them: found in their rows, checked, and made into `Seed` records.

    seeds = load_seeds(Path("my.jsonl"))                    # stops at what is wrong
    report = check_seeds(Path("my.jsonl"))                  # lists all of it, for `selfinstruct seeds check`

Read are the published schema (`id, name, instruction, instances[{input, output}], is_classification`) with
`category`, flat rows under the names that instruction datasets use (Alpaca, Evol, Dolly, prompt/completion,
question/answer, query/response), and conversations, whose first exchange is the task (`conversations`). How a file is
read is the business of `rows`; which instructions are too alike is judged by a function handed in, for the filters
stand above this module.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from math import isnan
from pathlib import Path
from typing import Any, Literal, NamedTuple

from selfinstruct.errors import SourceError
from selfinstruct.inputs.chats import Odd, Reader, first_exchange
from selfinstruct.inputs.rows import OnBad, Row, kind_of, read_rows
from selfinstruct.records import Instance, Record, Seed
from selfinstruct.text.words import encodable

Severity = Literal["error", "warning"]
Similar = Callable[[list[str]], Iterable[tuple[int, int, float]]]
"""Tells which texts are too alike: pairs of positions, each with its score."""

_INSTRUCTION = ("instruction", "prompt", "question", "query")
_INPUT = ("input", "context")
_OUTPUT = ("output", "response", "completion", "answer")
"""Names of columns; where a file has several for one part, the first of them counts."""
_OTHER = ("id", "name", "category", "instances", "is_classification")
_FLAGS = {"true": True, "false": False, "1": True, "0": False}
_NO_INPUT = re.compile(r"\s*((?i:<noinput>)|N/A|None)\s*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# Thai, Lao, Burmese, Khmer, kana and Han have no spaces: each character counts as a word, for want of better.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_FEWEST_WORDS, _MOST_WORDS = 4, 150  # outside, the published filters drop what a model writes
_LONG_FIELD = 10_000
_ONE_INSTANCE = '[{"input": "…", "output": "…"}]'
_NAMES_SHOWN = 20


class Problem(Record):
    """One thing that is wrong (`error`: the seeds do not load) or doubtful (`warning`) at one place."""

    place: str
    severity: Severity
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class SeedReport(Record):
    """What is in a file of seeds, and what is wrong with it; the counts are of the seeds without an error."""

    seeds: int
    instances: int
    classification: int
    without_input: int
    """Seeds with instances, none of which has an input."""
    categories: dict[str, int]
    """Seeds of each category named, most frequent first."""
    mean_words: float
    """Mean length of the instructions."""
    ascii_share: float
    """Share of the instructions that are plain ASCII."""
    scripts: dict[str, float]
    """Share of each script in the letters of the instructions, such as `latin`, `cyrillic`, `cjk`."""
    ignored_columns: tuple[str, ...]
    problems: tuple[Problem, ...]
    """In the order of the file; near-duplicates last."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What keeps the seeds from loading."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What a person should look at."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")


def load_seeds(path: Path, on_bad: OnBad | None = None) -> list[Seed]:
    """The seeds of a file or folder, in order, at least one.

    Rows of one instruction without `instances` of their own become one seed; ids that are missing are made.

    Args:
        on_bad: for files of other people: is told the place of each row that is no seed and what is wrong with it,
            and the row is passed over. Without it such a row is an error.

    Raises:
        SourceError: the file cannot be read, or a row is no seed; names the first such row and how many more.
    """
    survey = _survey(path)
    errors = [problem for problem in survey.problems if problem.severity == "error"]
    if on_bad is not None and survey.seeds:
        for problem in errors:
            on_bad(problem.place, problem.message)
    elif errors:
        more = f" (and {len(errors) - 1} more: `selfinstruct seeds check {path}` lists them)"
        raise SourceError(f"{errors[0]}{more if len(errors) > 1 else ''}")
    return survey.seeds


def instruction_of(fields: Mapping[str, Any]) -> str | None:
    """What one row asks for, under any of the names that are read, or as the first question of a conversation."""
    plain = {_plain(name): value for name, value in fields.items()}
    named = (plain.get(name) for name in _INSTRUCTION)
    text = next((value for value in named if isinstance(value, str)), None)
    if text is not None:
        return text
    with suppress(Odd):
        if exchange := first_exchange(fields):
            return exchange.question
    return None


def check_seeds(path: Path, similar: Similar | None = None) -> SeedReport:
    """Everything that is in a file or folder of seeds and everything wrong with it.

    Args:
        path: the file or folder.
        similar: finds the near-duplicates among the instructions, which are then reported as warnings.

    Raises:
        SourceError: there is nothing to report on: the file cannot be read, or has no column of instructions.
    """
    survey = _survey(path)
    alike = _near_duplicates(survey, similar) if similar else ()
    return _report(survey.seeds, survey.ignored, (*survey.problems, *alike))


def require_enough(seeds: Sequence[Seed], needed: int, path: Path | str) -> None:
    """Refuse fewer seeds than one prompt shows.

    Raises:
        SourceError: says how many there are and how many are needed.
    """
    if len(seeds) < needed:
        there = f"{_counted(len(seeds), 'seed')} where one prompt shows {needed}"
        raise SourceError(f"{path}: {there}; add {needed - len(seeds)} more, or ask for fewer demonstrations")


# A whole file


class _Survey(NamedTuple):
    """What one pass over a file found; `places[i]` is where `seeds[i]` stands."""

    seeds: list[Seed]
    places: list[str]
    problems: list[Problem]
    ignored: tuple[str, ...]


class _Columns(NamedTuple):
    """Where a file's flat rows have the parts of a task; a name that no row has where there is none."""

    instruction: str
    input: str
    output: str
    ignored: tuple[str, ...] = ()


def _survey(path: Path) -> _Survey:
    found, notes = _flat(path, _rows_and_problems(path))
    rows = [entry for entry in found if isinstance(entry, Row)]
    columns = _columns(path, rows)
    gathered = _Gathered([*notes, *(_junk(path, name) for name in columns.ignored if _is_junk(name))])
    for entry in found:
        if isinstance(entry, Problem):
            gathered.problems.append(entry)
        else:
            gathered.add(*_task(entry, columns))
    seeds = _with_ids(gathered.tasks)
    return _Survey(seeds, [task.place for task in gathered.tasks], gathered.problems, columns.ignored)


def _rows_and_problems(path: Path) -> list[Row | Problem]:
    """All rows, and in their order those that cannot be read."""
    found: list[Row | Problem] = []
    try:
        for row in read_rows(path, lambda place, message: found.append(_error(place, message))):
            found.append(row)  # noqa: PERF402 - the other entries come in between
    except SourceError as error:
        if not any(isinstance(entry, Problem) for entry in found):
            raise
        found.append(_error(str(path), str(error).removeprefix(f"{path}: ")))
    return found


def _flat(path: Path, found: Sequence[Row | Problem]) -> tuple[list[Row | Problem], list[Problem]]:
    """The same with each conversation as the task that it begins with, and notes on what of them is not taken."""
    reader = Reader([entry for entry in found if isinstance(entry, Row)])
    flat: list[Row | Problem] = []
    for entry in found:
        try:
            task = reader.task(entry) if isinstance(entry, Row) else entry
        except Odd as odd:
            task = _error(entry.place, str(odd))
        if task is not None:
            flat.append(task)
    return flat, [_warning(str(path), note) for note in reader.notes()]


def _columns(path: Path, rows: Sequence[Row]) -> _Columns:
    """Decided for the whole file, so that a row without an instruction is an error and not another layout."""
    names = dict.fromkeys(name for row in rows for name in row.fields)
    plain = {_plain(name) for name in names}
    instruction, given, answer = (
        next((name for name in role if name in plain), role[0]) for role in (_INSTRUCTION, _INPUT, _OUTPUT)
    )
    if rows and instruction not in plain:
        there = ", ".join(" ".join(str(name).split()) for name in [*names][:_NAMES_SHOWN]) or "none"
        wanted = f"no column holds the instructions ({', '.join(_INSTRUCTION)})"
        if plain == {"text"}:
            wanted = "its rows are text alone, which does not say where an instruction ends"
        raise SourceError(f"{path}: {wanted}; the columns are: {there}; rename the one that does")
    used = {instruction, given, answer, *_OTHER}
    return _Columns(instruction, given, answer, tuple(name for name in names if _plain(name) not in used))


def _plain(name: object) -> str:
    """A column's name as it is compared: spreadsheets capitalise."""
    return str(name).strip().casefold()


def _is_junk(name: str) -> bool:
    return not name.strip() or name.startswith("Unnamed:") or bool(_CONTROL.search(name))


def _junk(path: Path, name: str) -> Problem:
    return _warning(str(path), f"a column is called {name!r:.60}; it is ignored: name it, or take it out")


def _near_duplicates(survey: _Survey, similar: Similar) -> Iterator[Problem]:
    for one, other, score in similar([seed.instruction for seed in survey.seeds]):
        first, second = sorted((one, other))
        message = f"much like {survey.places[first]} (similarity {score:.2f}); reword or drop one of the two"
        yield _warning(survey.places[second], message)


def _error(place: str, message: str) -> Problem:
    return Problem(place=place, severity="error", message=message)


def _warning(place: str, message: str) -> Problem:
    return Problem(place=place, severity="warning", message=message)


# Rows into tasks


@dataclass(slots=True)
class _Task:
    """A seed in the making, from one row or several."""

    place: str
    id: str
    instruction: str
    instances: list[Instance]
    is_classification: bool
    name: str
    category: str
    flat: bool
    """Came from a row with an input and an output of its own, and may be joined by others."""
    said: set[Instance] = field(default_factory=set)
    """The instances so far: thousands of rows may share one instruction."""


class _Gathered:
    """The tasks of a file so far, with what was found wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        self.tasks: list[_Task] = []
        self.problems = problems
        self._flat: dict[str, _Task] = {}
        self._owners: dict[str, _Task] = {}

    def add(self, task: _Task, flaws: list[str]) -> None:
        """Take in one row's task, unless it has flaws."""
        first = self._flat.get(task.instruction.strip(), task) if task.flat else task
        owner = self._owners.setdefault(task.id, first) if task.id else first
        if owner is not first:
            flaws.append(f"the id {task.id!r} is taken by {owner.place}; give one of them another id")
        self.problems += [_error(task.place, flaw) for flaw in flaws]
        if flaws:
            return
        self.problems += [_warning(task.place, doubt) for doubt in _doubts(task, first)]
        if first is not task:
            first.instances += [instance for instance in task.instances if instance not in first.said]
        first.said.update(task.instances)
        if first is not task:
            return
        self.tasks.append(task)
        if task.flat:
            self._flat[task.instruction.strip()] = task


def _with_ids(tasks: Sequence[_Task]) -> list[Seed]:
    """The seeds; a made id has the seed's position for its number, or the next that the file does not use."""
    taken = {task.id for task in tasks}
    return [_seed(task, task.id or _free_id(position, taken)) for position, task in enumerate(tasks, 1)]


def _free_id(position: int, taken: set[str]) -> str:
    made = next(made for number in count(position) if (made := f"seed_{number:04d}") not in taken)
    taken.add(made)
    return made


def _seed(task: _Task, name: str) -> Seed:
    return Seed(
        id=name,
        instruction=task.instruction,
        instances=tuple(task.instances),
        is_classification=task.is_classification,
        name=task.name,
        category=task.category,
    )


def _task(row: Row, columns: _Columns) -> tuple[_Task, list[str]]:
    """What a row says, as far as it can be made out, and each flaw that makes it no seed."""
    fields = {_plain(name): value for name, value in row.fields.items()}
    flaws: list[str] = []
    instruction = _text(fields, columns.instruction, flaws)
    if not instruction.strip() and not flaws:
        flaws.append(f"no {columns.instruction}; write what is to be done, or take the row out")
    flat = _missing(fields.get("instances"))
    task = _Task(
        place=row.place,
        id=_label(fields, "id", flaws),
        instruction=instruction,
        instances=_flat_instances(fields, columns, flaws) if flat else _instances(fields["instances"], flaws),
        is_classification=_flag(fields, "is_classification", flaws),
        name=_label(fields, "name", flaws),
        category=_label(fields, "category", flaws),
        flat=flat,
    )
    return task, flaws


def _instances(value: Any, flaws: list[str]) -> list[Instance]:
    if not isinstance(value, list):
        flaws.append(f"`instances` must be a list, not {kind_of(value)}; write {_ONE_INSTANCE}")
        return []
    return [_numbered(number, fields, flaws) for number, fields in enumerate(value, 1)]


def _numbered(number: int, fields: Any, flaws: list[str]) -> Instance:
    where = f"instance {number}: "
    if isinstance(fields, dict):
        return _instance(fields, "input", "output", flaws, where)
    flaws.append(f"{where}must be an object, not {kind_of(fields)}; write {_ONE_INSTANCE}")
    return Instance(output="")


def _flat_instances(fields: dict[str, Any], columns: _Columns, flaws: list[str]) -> list[Instance]:
    """The one instance of a row; none where both cells are missing, or blank as a table has them."""
    cells = fields.get(columns.input), fields.get(columns.output)
    if all(_missing(cell) for cell in cells) or cells == ("", ""):
        return []
    return [_instance(fields, columns.input, columns.output, flaws)]


def _instance(fields: dict[str, Any], given: str, answer: str, flaws: list[str], where: str = "") -> Instance:
    if _missing(fields.get(answer)):
        flaws.append(f"{where}no {answer}; write the answer, or take its {given} out too")
    value = _text(fields, given, flaws, where)
    output = _text(fields, answer, flaws, where)
    return Instance(input="" if _NO_INPUT.fullmatch(value) else value, output=output)


# Values


def _missing(value: Any) -> bool:
    """Not there; tables made by pandas say it with NaN."""
    return value is None or (isinstance(value, float) and isnan(value))


def _text(fields: dict[str, Any], name: str, flaws: list[str], where: str = "") -> str:
    """The text under a name, "" where there is none."""
    value = fields.get(name)
    if _missing(value):
        return ""
    if not isinstance(value, str):
        flaws.append(f"{where}{name} must be text, not {kind_of(value)}; put it in quotes")
        return ""
    if not encodable(value):
        flaws.append(f"{where}{name} holds half of a surrogate pair (\\ud800 to \\udfff); take it out")
    return value


def _label(fields: dict[str, Any], name: str, flaws: list[str]) -> str:
    """An id, name or category: text, or a whole number taken as text."""
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(fields, name, flaws).strip()


def _flag(fields: dict[str, Any], name: str, flaws: list[str]) -> bool:
    """A boolean, or what tables have for one; false where there is none."""
    value = fields.get(name)
    if _missing(value) or value == "":
        return False
    flag = _FLAGS.get(str(value).strip().casefold()) if isinstance(value, (int, str)) else None
    if flag is None:
        what = repr(value)[:40] if isinstance(value, (int, str)) else kind_of(value)
        flaws.append(f"{name} must be true or false, not {what}; write one of them, without quotes")
    return bool(flag)


# What is doubtful, and what there is


def _doubts(task: _Task, first: _Task) -> Iterator[str]:
    """What is odd about one row's task; `first` is the task that it joins, or itself."""
    yield from _odd_text("instruction", task.instruction)
    yield from _odd_length(task.instruction) if first is task else _disagreements(task, first)
    if not task.instances:
        yield "no instances: it can show what an instruction is like, and no input or output"
    for number, instance in enumerate(task.instances, 1):
        where = "" if task.flat else f"instance {number}: "
        if not instance.output.strip():
            yield f"{where}empty output; write the answer"
        yield from _odd_text(f"{where}input", instance.input)
        yield from _odd_text(f"{where}output", instance.output)


def _odd_text(name: str, text: str) -> Iterator[str]:
    if found := _CONTROL.search(text):
        yield f"{name} has a control character ({found.group()!r}); take it out"
    if len(text) > _LONG_FIELD:
        yield f"{name} has {len(text):,} characters, which few prompts have room for; shorten it"


def _odd_length(instruction: str) -> Iterator[str]:
    words = _words(instruction)
    if words < _FEWEST_WORDS:
        few = _counted(words, "word")
        yield f"instruction of {few}; a model's own is dropped under {_FEWEST_WORDS}: say more"
    if words > _MOST_WORDS:
        yield f"instruction of {words} words; a model's own is dropped over {_MOST_WORDS}: say less"


def _disagreements(task: _Task, first: _Task) -> Iterator[str]:
    if first.said.issuperset(task.instances):
        yield f"says nothing that {first.place} does not say; take it out"
    for name in ("is_classification", "category", "name"):
        here, there = getattr(task, name), getattr(first, name)
        if here != there:
            both = f"{here!r:.60} here and {there!r:.60} in {first.place}"
            yield f"{name} is {both}, which counts; make them equal"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _words(text: str) -> int:
    return len(_WORD.findall(text))


def _report(seeds: Sequence[Seed], ignored: tuple[str, ...], problems: tuple[Problem, ...]) -> SeedReport:
    instructions = [seed.instruction for seed in seeds]
    most = max(len(seeds), 1)
    return SeedReport(
        seeds=len(seeds),
        instances=sum(len(seed.instances) for seed in seeds),
        classification=sum(seed.is_classification for seed in seeds),
        without_input=sum(_has_no_input(seed) for seed in seeds),
        categories=dict(Counter(seed.category for seed in seeds if seed.category).most_common()),
        mean_words=round(sum(map(_words, instructions)) / most, 1),
        ascii_share=round(sum(text.isascii() for text in instructions) / most, 3),
        scripts=_scripts(instructions),
        ignored_columns=ignored,
        problems=problems,
    )


def _has_no_input(seed: Seed) -> bool:
    return bool(seed.instances) and not any(instance.input.strip() for instance in seed.instances)


def _scripts(texts: Iterable[str]) -> dict[str, float]:
    """Share of each script in the letters; the first word of a letter's Unicode name is its script."""
    scripts: Counter[str] = Counter()
    for letter, times in Counter("".join(texts)).items():
        if letter.isalpha():
            scripts[unicodedata.name(letter, "unknown").split()[0].lower()] += times
    return {script: round(times / scripts.total(), 3) for script, times in scripts.most_common()}
