"""Conversations as tasks: what the user of a chat asks first, and the first answer to it.

    reader = Reader(rows)
    tasks = [task for row in rows if (task := reader.task(row))]     # rows with an `instruction` and an `output`
    reader.notes()                                                   # what was not taken

Read are lists of turns under `messages` or `conversations` (`role` and `content`, or ShareGPT's `from` and `value`),
`prompt` and `completion` as such lists (TRL), and Open Assistant's trees, nested or as a table of messages. Other rows
pass as they are. Public dumps are dirty: odd names of roles, an answer before any question, empty turns; what stands
before the first question, system prompts among it, and what follows the first answer is counted, and not taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import inf, isnan
from typing import Any, NamedTuple

from selfinstruct.inputs.rows import Row, kind_of

Fields = Mapping[str, Any]

CHATS = ("messages", "conversations", "conversation")
"""Columns that hold the turns of a chat."""
_USER = {"user", "human", "prompter"}
_ASSISTANT = {"assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"}
_ROLE = ("role", "from")
_TEXT = ("content", "value", "text")
_TABLE = {"message_id", "parent_id", "role", "text"}
"""Columns of Open Assistant's table of messages."""


class Odd(ValueError):
    """A conversation that is no task; the message says why, and what to do."""


class Exchange(NamedTuple):
    """The first question of a conversation and its first answer."""

    question: str
    answer: str | None
    before: int
    """Turns that stand before the question: system prompts, an answer to nothing."""
    after: int
    """Turns that follow the answer."""


class Reader:
    """Reads the rows of one file.

    Args:
        rows: all of them, since a table of messages has a question's answer in another row.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._counts: Counter[str] = Counter()
        self._table = bool(rows) and set(rows[0].fields) >= _TABLE
        self._answers = _best_answers(rows) if self._table else {}

    def task(self, row: Row) -> Row | None:
        """The task that a row is, None for a message of a table that begins no conversation.

        Raises:
            Odd: no task can be made of it.
        """
        if self._table:
            return self._message(row)
        if (exchange := first_exchange(row.fields)) is None:
            return row
        self._counts["conversations"] += 1
        self._counts["before"] += exchange.before > 0
        self._counts["after"] += exchange.after > 0
        rest = {name: value for name, value in row.fields.items() if name not in (*CHATS, "prompt", "completion")}
        return Row(row.place, {**rest, "instruction": exchange.question, "output": exchange.answer})

    def notes(self) -> list[str]:
        """What was not taken, in a line for each kind."""
        of = f"of {self._counts['conversations']} conversations"
        notes = []
        if before := self._counts["before"]:
            notes.append(
                f"{before} {of} have a system prompt, or an answer, before the first question: it is not taken"
            )
        if after := self._counts["after"]:
            notes.append(f"{after} {of} go on after the first answer: what follows is not taken")
        if messages := self._counts["messages"]:
            notes.append(f"{messages} messages are no first question and no best answer to one: they are not taken")
        return notes

    def _message(self, row: Row) -> Row | None:
        fields = row.fields
        if not (_is(fields, _USER) and _begins(fields)) or _deleted(fields):
            self._counts["messages"] += self._answers.get(str(fields.get("parent_id"))) is not fields
            return None
        id, answer = fields.get("message_id"), self._answers.get(str(fields.get("message_id")), {})
        return Row(row.place, {"id": id, "instruction": fields.get("text"), "output": answer.get("text")})


def first_exchange(fields: Fields) -> Exchange | None:
    """What a row's conversation begins with; None for a row that holds no conversation.

    Raises:
        Odd: it holds one without a question, or turns that are none.
    """
    prompt = fields.get("prompt")
    if isinstance(prompt, Mapping) and "text" in prompt:
        return _tree(prompt)
    turns = next((fields[name] for name in CHATS if _is_list(fields.get(name))), None)
    if turns is None and isinstance(prompt, list):
        answer = fields.get("completion")
        turns = [*prompt, *(answer if isinstance(answer, list) else [{"role": "assistant", "content": answer}])]
    return None if turns is None else _exchange(list(_turns(turns)))


# Turns


def _is_list(value: Any) -> bool:
    """Whether it is a list of turns, or the columns that `datasets` makes of one."""
    return isinstance(value, list) or (
        isinstance(value, Mapping) and bool(value) and all(isinstance(column, list) for column in value.values())
    )


class _Turn(NamedTuple):
    role: str
    text: str


def _turns(value: Any) -> Iterator[_Turn]:
    """The turns of a list, or of its columns."""
    if isinstance(value, Mapping):
        value = [dict(zip(value, turn, strict=False)) for turn in zip(*value.values(), strict=False)]
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping):
            raise Odd(f"turn {number} must be an object, not {kind_of(turn)}; write who speaks, and the text")
        role = next((turn[name] for name in _ROLE if name in turn), None)
        text = next((turn[name] for name in _TEXT if name in turn), None)
        yield _Turn(str(role).strip().casefold(), _plain(number, text))


def _plain(number: int, value: Any) -> str:
    """A turn's text; of OpenAI's parts those that are text."""
    if isinstance(value, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in value):
        value = "\n".join(str(part.get("text", "")) for part in value)
    if value is not None and not isinstance(value, str):
        raise Odd(f"turn {number} holds {kind_of(value)}, not text; write its text, or take the row out")
    return value or ""


def _exchange(turns: list[_Turn]) -> Exchange:
    """All that the user says before the first answer is the question."""
    spoken = [turn for turn in turns if turn.text.strip()]
    begin = next((at for at, turn in enumerate(spoken) if turn.role in _USER), None)
    if begin is None:
        roles = ", ".join(dict.fromkeys(turn.role for turn in turns)) or "none"
        raise Odd(f"no user says anything in it (turns of: {roles}); take the row out, or call the user `user`")
    end = next((at for at in range(begin, len(spoken)) if spoken[at].role in _ASSISTANT), None)
    asked = [turn.text for turn in spoken[begin:end] if turn.role in _USER]
    if end is None:
        return Exchange(asked[0], None, begin, len(asked) - 1)
    return Exchange("\n".join(asked), spoken[end].text, begin, len(spoken) - end - 1)


# Trees


def _tree(prompt: Fields) -> Exchange:
    """A tree's first question with the reply that people ranked best."""
    if _deleted(prompt) or not isinstance(prompt["text"], str) or not prompt["text"].strip():
        raise Odd("the tree's first message is deleted or empty; take the row out")
    replies = _replies(prompt)
    answers = [reply for reply in replies if _is(reply, _ASSISTANT) and not _deleted(reply) and reply.get("text")]
    best = min(answers, key=_rank, default=None)
    after = len(replies) - (best is not None) + len(_replies(best or {}))
    return Exchange(prompt["text"], None if best is None else str(best["text"]), 0, after)


def _replies(message: Fields) -> list[Fields]:
    replies = message.get("replies")
    return [reply for reply in replies if isinstance(reply, Mapping)] if isinstance(replies, list) else []


def _best_answers(rows: Sequence[Row]) -> dict[str, Fields]:
    """By the id of a first question, the answer that people ranked best; the first of those that nobody ranked."""
    first = {str(fields.get("message_id")) for _, fields in rows if _begins(fields)}
    best: dict[str, Fields] = {}
    for _, fields in rows:
        parent = str(fields.get("parent_id"))
        if parent in first and _is(fields, _ASSISTANT) and not _deleted(fields):
            best[parent] = min(best.get(parent, fields), fields, key=_rank)
    return best


def _rank(message: Fields) -> float:
    """0 is best; what nobody ranked comes last."""
    try:
        rank = float(message.get("rank", inf))
    except (TypeError, ValueError):  # None, or "" in a CSV file
        return inf
    return inf if isnan(rank) else rank


def _begins(message: Fields) -> bool:
    """Whether it has no parent: None, "" in a CSV file, NaN in what pandas wrote."""
    parent = message.get("parent_id")
    return not parent or (isinstance(parent, float) and isnan(parent))


def _deleted(message: Fields) -> bool:
    return str(message.get("deleted")).casefold() == "true"


def _is(message: Fields, roles: set[str]) -> bool:
    return str(message.get("role")).casefold() in roles
