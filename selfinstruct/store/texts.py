"""Long texts that many questions share, such as rules, a passage, or what was said so far: each is stored once.

The question to a model is stored as it was put, except that a message before the last whose content is longer than
`LONG` holds the number of a row of the table `texts` in its place. Keys are made of the whole question.
"""

from __future__ import annotations

import json
import re
import sqlite3
from hashlib import blake2b

from selfinstruct.store.keys import canonical
from selfinstruct.text.words import encodable

LONG = 200
"""Characters; a shorter text takes less room than what would refer to it."""

_NUMBERED = re.compile(r'"content":\d')


def folded(db: sqlite3.Connection, question: str) -> str:
    """A canonical question as it is stored, its shared texts stored too; to be called in a transaction."""
    if question.count('"role":') < 2 or len(question) <= LONG:
        return question
    told = json.loads(question)
    for message in told.get("messages", [])[:-1]:
        content = message["content"]
        if len(content) > LONG and encodable(content):
            message["content"] = _number(db, content)
    return canonical(told)


def unfolded(db: sqlite3.Connection, stored: str) -> str:
    """The canonical question that was stored; where its text is gone, or it is no question, as it lies there."""
    if not _NUMBERED.search(stored):
        return stored
    try:
        told = json.loads(stored)
        for message in told["messages"]:
            if isinstance(message["content"], int):
                [[message["content"]]] = db.execute("SELECT text FROM texts WHERE id = ?", (message["content"],))
    except (ValueError, LookupError, TypeError, OverflowError):
        return stored
    return canonical(told)


def _number(db: sqlite3.Connection, text: str) -> int:
    digest = blake2b(text.encode(), digest_size=16).digest()
    row = db.execute("SELECT id FROM texts WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        row = db.execute("INSERT INTO texts (digest, text) VALUES (?, ?) RETURNING id", (digest, text)).fetchone()
    return int(row[0])
