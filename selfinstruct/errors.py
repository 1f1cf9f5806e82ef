"""Everything that can go wrong and is not a bug, drawn once.

    SelfInstructError            shown as one line, without a traceback
    ├── UserError                what the person can fix: says where, what, and what to do (exit code 2)
    │   ├── ConfigError          a flag, an environment variable, a configuration file
    │   ├── SourceError          seeds or another file of rows
    │   ├── PromptError          a prompt file
    │   ├── RunError             a run folder or its ledger
    │   ├── EndpointError        the server says that nothing will work: wrong key, no quota, unknown model
    │   │   └── Unreachable      nothing answers at its address
    │   └── HubError             the Hugging Face Hub, or the way there, will not take a dataset
    └── Fault                    what one attempt at one request met; never leaves the engine
        ├── Transient            worth another attempt
        │   └── RateLimited      told to slow down: not a failed attempt
        └── Refused              final for this request, and therefore an answer: kept as data

Errors are named for the boundary that was crossed. A plain Python exception is a bug and crashes with its traceback.
"""


class SelfInstructError(Exception):
    """Anything the program expects to meet; `str(error)` is one line for a person."""


class UserError(SelfInstructError):
    """Something the person can fix; the message says where, what, and what to do."""


class ConfigError(UserError):
    """A flag, an environment variable or a configuration file that cannot be used."""


class SourceError(UserError):
    """Seeds, or another file of rows, that cannot be read."""


class PromptError(UserError):
    """A prompt file that is missing or does not render."""


class RunError(UserError):
    """A run folder or ledger that cannot be used as asked."""


class EndpointError(UserError):
    """A server's answer after which no further request can succeed."""


class Unreachable(EndpointError):
    """Nothing answers at an address; of several it may be another's turn."""


class HubError(UserError):
    """Why the Hugging Face Hub did not take a dataset; nothing of it is half published."""


class Fault(SelfInstructError):
    """What one attempt at one request met.

    Args:
        kind: short snake_case name, stored in the ledger (`timeout`, `server_error`, `prompt_too_long`, …).
        message: one line for a person.
        status: HTTP status, where there was one.
        body: the start of what the server sent, where it sent something.
    """

    def __init__(self, kind: str, message: str, *, status: int | None = None, body: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.body = body


class Transient(Fault):
    """A fault that another attempt may not meet: a timeout, a 5xx, a broken body.

    `retry_after` is the server's own wish in seconds, where it named one.
    """

    def __init__(
        self, kind: str, message: str, *, status: int | None = None, body: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(kind, message, status=status, body=body)
        self.retry_after = retry_after


class RateLimited(Transient):
    """The server asks for fewer requests (429, or 503 with Retry-After): waiting is not a failed attempt."""


class Refused(Fault):
    """The server will never answer this request (too long, filtered, malformed), whoever asks again."""
