"""What a ledger says of its run in numbers: for `status`, and for the card of the dataset."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from selfinstruct.records import Role
from selfinstruct.store.ledger import Ledger, Meter


class Jobs(NamedTuple):
    """Jobs of one stage in one state."""

    stage: str
    state: str
    jobs: int


class Drafts(NamedTuple):
    """Drafts of one stage."""

    stage: str
    drafts: int
    kept: int


class Drop(NamedTuple):
    """Drafts of one stage that one filter dropped for one reason."""

    stage: str
    filter: str
    reason: str
    drafts: int


class Spend(NamedTuple):
    """What the answers of one model in one role took at one stage."""

    stage: str
    role: Role
    model: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class Summary(NamedTuple):
    """A run in numbers."""

    jobs: list[Jobs]
    drafts: list[Drafts]
    """In the order of the stages."""
    drops: list[Drop]
    """The most frequent first, as everything below."""
    instance_drops: dict[str, int]
    """Instances that did not stay in a draft that did, by reason."""
    failed: dict[str, int]
    """Failed jobs by kind of fault."""
    faults: dict[str, int]
    """Attempts that brought no answer, by kind."""
    spend: list[Spend]
    reviews: dict[str, int]
    """What people decided on drafts: how many are `dropped`, `edited`, `kept`."""
    meter: dict[Role, Meter]

    @property
    def answers(self) -> int:
        return sum(spend.answers for spend in self.spend)

    @property
    def prompt_tokens(self) -> int:
        return sum(spend.prompt_tokens for spend in self.spend)

    @property
    def cached_tokens(self) -> int:
        return sum(spend.cached_tokens for spend in self.spend)

    @property
    def completion_tokens(self) -> int:
        return sum(spend.completion_tokens for spend in self.spend)


def summary(ledger: Ledger) -> Summary:
    """The run of a ledger in numbers."""
    query = ledger.query
    return Summary(
        [Jobs(*row) for row in query(_JOBS)],
        [Drafts(*row) for row in query(
            "SELECT stage, sum(drafts), sum(drafts * kept) FROM tally_drafts GROUP BY 1 ORDER BY min(rowid)")],
        [Drop(*row) for row in query(
            "SELECT stage, filter, reason, sum(drafts) FROM tally_drafts WHERE NOT kept GROUP BY 1, 2, 3"
            " ORDER BY 4 DESC, 1, 2, 3")],
        dict(query("SELECT reason, instances FROM tally_instances ORDER BY 2 DESC, 1")),
        dict(query("SELECT error_kind, count(*) FROM jobs WHERE state = 'failed' GROUP BY 1 ORDER BY 2 DESC")),
        dict(query("SELECT kind, count(*) FROM faults GROUP BY 1 ORDER BY 2 DESC")),
        [Spend(*row) for row in query(
            "SELECT stage, role, model, answers, prompt_tokens, completion_tokens, cached_tokens FROM spend"
            " ORDER BY stage, role DESC, model")],
        dict(sorted(Counter(review.word for review in ledger.reviews().values()).items())),
        ledger.meter(),
    )  # fmt: skip


def kept(ledger: Ledger, stage: str) -> int:
    """How many drafts of a stage are kept."""
    [[drafts]] = ledger.query("SELECT coalesce(sum(drafts), 0) FROM tally_drafts WHERE kept AND stage = ?", stage)
    return int(drafts)


def rooted(ledger: Ledger) -> int:
    """How many jobs were planned from the pool."""
    [[jobs]] = ledger.query("SELECT coalesce(sum(jobs), 0) FROM job_counts WHERE after = ''")
    return int(jobs)


_JOBS = """
SELECT stage, state, sum(jobs) FROM job_counts c GROUP BY 1, 2
ORDER BY (SELECT number FROM jobs WHERE stage = c.stage ORDER BY number LIMIT 1), 2 DESC
"""


def made_from(ledger: Ledger, stage: str, before: str = "") -> dict[str, str]:
    """By the id of each kept draft of a stage, the id of what it was made from: a draft of the same stage, a draft of
    the stage before, or a seed.

    Args:
        before: the stage that the recipe's sources are of; "" where these are the run's seeds.
    """
    return dict(ledger.query(_MADE_FROM, stage, before))


_MADE_FROM = """
WITH RECURSIVE up(task, parent, job) AS (
    SELECT d.id, j.parent, d.job FROM drafts d JOIN jobs j ON j.number = d.job WHERE d.kept AND d.stage = ?1
    UNION ALL
    SELECT up.task, j.parent, d.job
    FROM up JOIN drafts d ON d.id = up.parent JOIN jobs j ON j.number = d.job WHERE d.stage NOT IN (?1, ?2)
)
SELECT task, coalesce(parent, (SELECT json_extract(shown, '$[0]') FROM jobs WHERE number = up.job)) FROM up
WHERE parent IS NULL OR (SELECT stage FROM drafts WHERE id = up.parent) IN (?1, ?2)
"""
