"""A run reviewed by a person: which decisions can be taken, and the page that takes them, served on this machine alone.

Whoever can open the page can change what is exported, so the server listens on loopback, its address holds a random
token, and it answers nobody who came by another name (DNS rebinding) or writes from another page (CSRF).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from selfinstruct.errors import RunError
from selfinstruct.records import Call, Draft, Instance, Review
from selfinstruct.store.ledger import Ledger
from selfinstruct.text.words import storable

LARGEST = 4_000_000
"""Bytes of a decision at most."""
HOST = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer says to browsers."""


# -- decisions --------------------------------------------------------------------------------------------------------


def decide(ledger: Ledger, stage: str, review: Review) -> Review:
    """Store a decision on a complete task, one that was kept or one that was dropped.

    Args:
        stage: the recipe's last stage.

    Returns:
        the decision as stored: an edit that changes nothing is none.

    Raises:
        RunError: no such draft, no complete task, or an edit that leaves none.
    """
    stored = ledger.draft(review.draft)
    if stored is None:
        raise RunError(f"{review.draft}: no such draft")
    draft = stored.draft
    if draft.stage != stage or draft.flaw is not None or not _is_task(draft.instruction, draft.instances):
        raise RunError(f"{review.draft}: no complete task; only those can be reviewed")
    if not review.keep and review.edited:
        raise RunError(f"{review.draft}: edited and not kept; keep it, or leave the edit out")
    before = stored.instances
    if not _is_task(review.instruction or draft.instruction, review.instances or before):
        raise RunError(f"{review.draft}: a task has an instruction, and an output in each instance")
    if _calls(review.instances or before) != _calls(before):
        raise RunError(f"{review.draft}: calls of tools can be read, not edited; edit the texts")
    decided = _changes(review, draft, before)
    ledger.review(decided)
    return decided


def _is_task(instruction: str, instances: tuple[Instance, ...]) -> bool:
    return bool(instruction.strip() and instances and all(instance.complete for instance in instances))


def _calls(instances: Iterable[Instance]) -> list[tuple[Call, ...]]:
    """What assistants call, and what tools answer, in order."""
    return [turn.calls for instance in instances for turn in instance.turns if turn.calls]


def _changes(review: Review, draft: Draft, instances: tuple[Instance, ...]) -> Review:
    """The review with those parts of its edit that differ from the draft."""
    return review.model_copy(update={
        "instruction": None if review.instruction == draft.instruction else review.instruction,
        "instances": None if review.instances == instances else review.instances,
    })  # fmt: skip


# -- the server -------------------------------------------------------------------------------------------------------


class Reviewing(ThreadingHTTPServer):
    """A page on a loopback port, and where it sends decisions.

    with Reviewing(page, open_ledger, stage, port=0) as reviewing:
        print(reviewing.address)
        reviewing.serve_forever()

    Args:
        page: its HTML.
        open_ledger: opens the run's ledger to be written; called in the thread of each request.
        stage: the recipe's last stage.
        port: 0 for any that is free.

    Raises:
        RunError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, page: str, open_ledger: Callable[[], Ledger], stage: str, *, port: int) -> None:
        self.page = page.encode()
        self.token = secrets.token_urlsafe(24)
        self.decisions = 0
        """Taken since it began."""
        self._open_ledger = open_ledger
        self._stage = stage
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise RunError(f"port {port}: {error.strerror}; choose another with --port") from None
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        """The names by which it may be asked for."""

    @property
    def address(self) -> str:
        """Where to open it."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def reviews(self) -> list[dict[str, Any]]:
        """What people have decided."""
        with self._open_ledger() as ledger:
            return [review.model_dump(mode="json") for review in ledger.reviews().values()]

    def take(self, body: bytes) -> dict[str, Any]:
        """Store a decision.

        Raises:
            RunError: it is none, or cannot be taken.
        """
        try:
            # JSON's escapes can spell text that no file holds.
            review = Review.model_validate_json(storable(json.dumps(json.loads(body), ensure_ascii=False)))
        except ValueError as error:
            raise RunError(f"not a decision: {str(error).splitlines()[0]}") from None
        with self._open_ledger() as ledger:
            decided = decide(ledger, self._stage, review)
        self.decisions += 1
        return decided.model_dump(mode="json")


class _Handler(BaseHTTPRequestHandler):
    server: Reviewing
    server_version, sys_version = "selfinstruct", ""
    timeout = 60

    def do_GET(self) -> None:
        if not self._is_known():
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"not for you: open the address that `review` printed")
        elif self._place() == "":
            self._send(HTTPStatus.OK, "text/html", self.server.page)
        elif self._place() == "reviews":
            self._send(HTTPStatus.OK, "application/json", json.dumps(self.server.reviews()).encode())
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"nothing here")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not self._is_known() or not self._is_ours() or self._place() != "reviews":
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"not for you")
        elif not length.isdecimal() or int(length) > LARGEST:
            self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"more than {LARGEST} bytes"})
        else:
            self._take(self.rfile.read(int(length)))

    def log_message(self, format: str, *_: object) -> None:
        """Say nothing: the token would stand in every line."""

    def _take(self, body: bytes) -> None:
        try:
            self._say(HTTPStatus.OK, self.server.take(body))
        except RunError as error:
            self._say(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _is_known(self) -> bool:
        """Whether it was asked for with the token, and by a name of this machine."""
        token = self.path.removeprefix("/").partition("/")[0]
        return self.headers.get("Host", "") in self.server.hosts and secrets.compare_digest(
            token.encode(), self.server.token.encode()
        )

    def _is_ours(self) -> bool:
        """Whether the page that writes is ours; a form of another one could not say that it sends JSON."""
        origin = self.headers.get("Origin", "").removeprefix("http://")
        return origin in self.server.hosts and self.headers.get_content_type() == "application/json"

    def _place(self) -> str:
        return self.path.partition("?")[0].removeprefix(f"/{self.server.token}/")

    def _say(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
