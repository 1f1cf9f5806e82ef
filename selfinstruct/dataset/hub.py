"""A dataset on the Hugging Face Hub, created or changed in one commit.

What stands there is looked at first, with requests that change nothing. Files are stored on the Hub by their content
before the commit and are seen by nobody until it; what was stored is not sent again. The commit says which one it
follows, so that a change made meanwhile by somebody else is never overwritten.

The token is the Hub library's to find (`HF_TOKEN`, or what `hf auth login` stored) and is handed to it alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfinstruct.errors import HubError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

CARD = "README.md"
AGAIN = "nothing is half published, and the same command goes on where this one stopped"
PATIENCE = 300.0
"""Seconds that the Hub may stay silent in the middle of a request; its library would wait for ever."""
_SHARD = re.compile(r"[^/]+-\d{5,}-of-\d{5,}\.(parquet|jsonl)")


class Found(NamedTuple):
    """What stands on the Hub under a name."""

    commit: str | None
    """None when there is no dataset of that name."""
    private: bool
    files: frozenset[str]
    mark: Mapping[str, Any] | None
    """What the front matter of its card says under our key; None when it is not ours."""

    @property
    def empty(self) -> bool:
        """Whether it holds nothing but what the Hub puts into a new one."""
        return self.files <= {".gitattributes"}

    def stale(self, files: Mapping[str, Path]) -> list[str]:
        """Files of ours that a commit of `files` leaves behind."""
        configs = self.mark.get("configs") if self.mark else None
        ours = tuple(f"{name}/" for name in configs) if isinstance(configs, list) else ()
        left = (path for path in self.files - set(files) if path.startswith(ours) and path.count("/") == 1)
        return sorted(path for path in left if _SHARD.fullmatch(path.partition("/")[2]))


class Pushed(NamedTuple):
    """What came of a push."""

    url: str
    created: bool
    changed: bool
    """False when the very same dataset was there."""


class Hub:
    """One dataset on the Hub, and the way there.

    Args:
        repo: its name, such as `ada/tides`.
        mark: the key of the card's front matter that says a dataset is ours.
        bars: whether the Hub's library may draw its progress bars.

    Raises:
        HubError: no network is wanted, the name cannot be one, or there is no token.
    """

    def __init__(self, repo: str, *, mark: str, bars: bool) -> None:
        # Read when the library is imported. Unless told not to, it asks the Hub for a list of agents and says which
        # one runs it.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        from huggingface_hub import constants, get_session, get_token
        from huggingface_hub.utils import disable_progress_bars

        if constants.is_offline_mode():
            raise HubError(f"{repo}: HF_HUB_OFFLINE is set, so the Hub is not asked: unset it, or use --dry-run")
        _check_name(repo)
        if not bars and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
            disable_progress_bars()
        self.repo = repo
        self.endpoint = constants.ENDPOINT
        self._mark = mark
        with self._boundary():
            token = get_token()
            get_session().timeout = PATIENCE
        if not token:
            raise HubError(f"{self.endpoint}: no token: set HF_TOKEN, or log in once with `hf auth login`")
        if not token.isascii():
            raise HubError(self._other_token())
        self._api = self._open(token)

    def look(self) -> Found:
        """What stands there.

        Raises:
            HubError: the token is not taken, or the Hub cannot be asked.
        """
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._boundary():
            self._api.whoami()
            try:
                info = self._api.dataset_info(self.repo, timeout=PATIENCE)
            except RepositoryNotFoundError:
                return Found(None, private=False, files=frozenset(), mark=None)
            files = frozenset(file.rfilename for file in info.siblings or ())
            mark = self._read_mark() if CARD in files else None
            return Found(info.sha, private=bool(info.private), files=files, mark=mark)

    def permit(self, found: Found, run: object, *, private: bool, force: bool) -> None:
        """Whether a push of this run may change what was found.

        Args:
            run: what the mark says of the run that a dataset was made from.
            force: another run's dataset, or one that is not ours, may be replaced.

        Raises:
            HubError: it may not.
        """
        if private and found.commit is not None and not found.private:
            raise HubError(f"{self.repo}: is public: make it private in its settings first, or leave --private out")
        if found.commit is None or found.empty or force:
            return
        if found.mark is None:
            raise HubError(f"{self.repo}: holds files that were not pushed from here: choose another name, or --force")
        if found.mark.get("run") != run:
            raise HubError(f"{self.repo}: was pushed from another run: choose another name, or replace it with --force")

    def check(self, card: str) -> None:
        """Have the Hub look at a card: it knows which licences and languages there are.

        Raises:
            HubError: it is refused, or the Hub cannot be asked.
        """
        from huggingface_hub import DatasetCard

        with self._boundary():
            try:
                DatasetCard(card).validate()
            except ValueError as error:
                raise HubError(
                    f"{self.endpoint}: refuses the card: {_complaints(str(error))}; nothing was sent"
                ) from None

    def push(self, found: Found, files: Mapping[str, Path], *, private: bool, message: str) -> Pushed:
        """Put these files there in one commit that follows what was found, and take away those of ours left behind.

        Raises:
            HubError: why nothing has changed.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(name, path) for name, path in files.items()),
            *(CommitOperationDelete(name) for name in found.stale(files)),
        ]
        with self._boundary():
            if found.commit is None:
                self._api.create_repo(self.repo, repo_type="dataset", private=private or None)
            commit = self._api.create_commit(
                self.repo, operations, commit_message=message, repo_type="dataset", parent_commit=found.commit
            )
        url = f"{self.endpoint}/datasets/{self.repo}"
        return Pushed(url, created=found.commit is None, changed=commit.oid != found.commit)

    def _open(self, token: str) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(token=token, library_name="selfinstruct")

    def _read_mark(self) -> Mapping[str, Any] | None:
        """What the card there says under our key."""
        from huggingface_hub import DatasetCard
        from yaml import YAMLError

        path = self._api.hf_hub_download(self.repo, CARD, repo_type="dataset")
        try:
            mark = DatasetCard(Path(path).read_text(encoding="utf-8", errors="replace")).data.get(self._mark)
        except (ValueError, YAMLError):  # front matter that is none
            return None
        return mark if isinstance(mark, dict) else None

    @contextmanager
    def _boundary(self) -> Iterator[None]:
        """Turn what the library, the Hub and the network say into one line for a person."""
        from httpx2 import HTTPError
        from huggingface_hub.errors import OIDCError

        try:
            yield
        except (HTTPError, OIDCError, OSError, RuntimeError, ValueError) as error:
            raise HubError(self._told(error)) from error

    def _told(self, error: BaseException) -> str:
        from httpx2 import HTTPError
        from huggingface_hub.errors import HfHubHTTPError

        if isinstance(error, HfHubHTTPError):
            return self._refusal(error)
        if isinstance(error, HTTPError | ConnectionError | TimeoutError):
            return f"{self.endpoint}: cannot be reached: {error}; {AGAIN}"
        if isinstance(error, RuntimeError) and error.__cause__ is not None:
            return self._told(error.__cause__)
        return f"{self.endpoint}: {error}; {AGAIN}"

    def _refusal(self, error: HfHubHTTPError) -> str:
        status, said = error.response.status_code, f" ({error.server_message})" if error.server_message else ""
        wait = _wait(error)
        refusals = {
            401: self._other_token(),
            403: f"{self.repo}: this token may not write there: use one that may, or push under a name of your own",
            404: f"{self.endpoint}: has no {self.repo} for this token; or it is no Hub, see HF_ENDPOINT",
            409: f"{self.repo}: was created a moment ago; check it, then run the same command again",
            412: f"{self.repo}: was changed by somebody a moment ago: run the same command again",
            429: f"{self.endpoint}: too many requests: run the same command again{wait}; what was uploaded is not sent"
                 " again",
        }  # fmt: skip
        if status in refusals:
            return refusals[status] + said
        if status >= 500:
            return f"{self.endpoint}: is in trouble (status {status}): try again later; {AGAIN}"
        return f"{self.endpoint}: refuses (status {status}){said}; nothing was published"

    def _other_token(self) -> str:
        where = f"{self.endpoint}/settings/tokens"
        return (
            f"{self.endpoint}: does not take the token: make one at {where}, then set HF_TOKEN or run `hf auth login`"
        )


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise HubError(str(error)) from None
    if "/" not in repo:
        raise HubError(f"{repo}: has no owner; write USER/{repo}")


def _complaints(answer: str) -> str:
    """What the Hub finds wrong with a card, of its answer."""
    try:
        return "; ".join(str(error["message"]) for error in json.loads(answer)["errors"])
    except (ValueError, LookupError, TypeError):
        return answer


def _wait(error: HfHubHTTPError) -> str:
    """How long the Hub wishes to be left alone."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(error.response.headers)
    seconds = str(limit.reset_in_seconds) if limit else error.response.headers.get("Retry-After", "")
    return f" in {seconds} s" if seconds.isdigit() else " later"
