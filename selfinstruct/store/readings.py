"""What a ledger says of its run in numbers: for `status`, for the report, and for the card of the dataset."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

from selfinstruct.records import Outcome, Reason, Role
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


# -- single facts -----------------------------------------------------------------------------------------------------


def kept(ledger: Ledger, stage: str) -> int:
    """How many drafts of a stage are kept."""
    [[drafts]] = ledger.query("SELECT coalesce(sum(drafts), 0) FROM tally_drafts WHERE kept AND stage = ?", stage)
    return int(drafts)


def rooted(ledger: Ledger) -> int:
    """How many jobs were planned from the pool."""
    [[jobs]] = ledger.query("SELECT coalesce(sum(jobs), 0) FROM job_counts WHERE after = ''")
    return int(jobs)


def job_counts(ledger: Ledger) -> list[tuple[str, str, str, int]]:
    """Jobs by stage, by the stage of the job whose settlement planned them ("" from the pool), and by state."""
    return ledger.query("SELECT stage, after, state, jobs FROM job_counts")


def lasted(ledger: Ledger) -> tuple[float, float]:
    """When the run was begun and when something last happened in it, in seconds since 1970."""
    [[began, ended]] = ledger.query("SELECT min(at), max(at) FROM events")
    return float(began), float(ended)


def answering(ledger: Ledger) -> tuple[float, float] | None:
    """When the first answer came and when the last, in seconds since 1970; None where there are none."""
    query = "SELECT at FROM answers WHERE id IN ((SELECT min(id) FROM answers), (SELECT max(id) FROM answers))"
    at = [at for (at,) in ledger.query(query)]
    return (min(at), max(at)) if at else None


# -- kept drafts ------------------------------------------------------------------------------------------------------


def drawn(ledger: Ledger, stage: str, number: int) -> list[str]:
    """The ids of so many kept drafts of a stage in order of settlement, drawn at random and the same each time; of all
    where there are no more."""
    tasks = "FROM drafts WHERE stage = ? AND kept = 1"
    [(low, high, there)] = ledger.query(f"SELECT min(rank), max(rank), count(*) {tasks}", stage)
    following = f"SELECT rank, id {tasks} AND rank >= ? ORDER BY rank LIMIT ?"
    if there <= number:
        return [id for _, id in ledger.query(following, stage, 0, number)]
    rng, found = Random(0), dict[int, str]()
    while len(found) < number:
        found.update(ledger.query(following, stage, rng.randint(low, high), 1))
    return [id for _, id in sorted(found.items())]


def sizes(ledger: Ledger, stage: str) -> tuple[int, int]:
    """Tasks and instances in the dataset; where people have reviewed, after that."""
    if ledger.count("reviews"):
        found = [len(sample.instances) for sample in ledger.samples(stage=stage)]
        return len(found), sum(found)
    query = "SELECT count(*), coalesce(sum(json_array_length(stayed)), 0) FROM drafts WHERE stage = ? AND kept = 1"
    [(tasks, instances)] = ledger.query(query, stage)
    return tasks, instances


def decisions(ledger: Ledger) -> list[tuple[str, bool]]:
    """The stage of each draft in order of settlement, and whether it was kept."""
    return [(stage, bool(kept)) for stage, kept in ledger.query("SELECT stage, kept FROM drafts ORDER BY rank")]


def ends(ledger: Ledger, stage: str) -> list[tuple[str, str]]:
    """The id and family of each draft that no other carries further, in order of settlement.

    Args:
        stage: the recipe's last stage, whose drafts are never carried further.
    """
    return ledger.query(_ENDS, stage)


_ENDS = """
SELECT id, coalesce(nullif(family, ''), id) FROM drafts
WHERE NOT kept OR stage = ? OR id NOT IN
    (SELECT c.parent FROM jobs c JOIN drafts e ON e.job = c.number WHERE c.parent IS NOT NULL)
ORDER BY rank
"""


def carried(ledger: Ledger, stage: str) -> dict[int, str]:
    """By job, the draft of a stage before `stage` that it carries further."""
    query = "SELECT c.number, c.parent FROM jobs c JOIN drafts d ON d.id = c.parent WHERE d.stage <> ?"
    return dict(ledger.query(query, stage))


def shown(ledger: Ledger, jobs: Iterable[int]) -> dict[int, list[str]]:
    """By job, the ids of what its prompt showed."""
    query = "SELECT number, shown FROM jobs WHERE number IN (SELECT value FROM json_each(?))"
    return {number: json.loads(ids) for number, ids in ledger.query(query, json.dumps(sorted(set(jobs))))}


# -- facets -----------------------------------------------------------------------------------------------------------


class Fate(NamedTuple):
    """What became of the lines of work that share one value of a facet.

    A line begins with a draft of the first stage at which the facet occurs, and ends where a draft is dropped or, at
    the last stage, kept.
    """

    value: str
    made: int
    kept: int
    dropped: int
    undecided: int
    """Kept so far and not yet carried to the end, or one too many."""
    share: float | None
    """Kept of those decided; None where none is."""
    reasons: dict[str, int]
    """Those dropped by reason, the most frequent first."""


KEPT = ""
"""The reason of what is kept."""


class Fates:
    """What became of each line of work of a run, by facet.

    It is read from the ledger once; `see` keeps up with a run that goes on.

    Args:
        lines: the stages of each recipe, in order.
    """

    def __init__(self, ledger: Ledger, lines: Sequence[Sequence[str]]) -> None:
        self._lines = lines
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        """Drafts by facet, value, stage, and reason of their drop."""
        for stage, reason, facets, drafts in ledger.query("SELECT stage, reason, facets, drafts FROM tally_drafts"):
            self._count(stage, reason, json.loads(facets), drafts)

    def see(self, outcome: Outcome) -> None:
        """Count a draft that has been judged."""
        reason = KEPT if outcome.sample is not None else outcome.verdicts[-1].reason
        self._count(outcome.draft.stage, reason, outcome.draft.facets)

    def facets(self) -> dict[str, list[Fate]]:
        """By facet a row for each value, in the order of the stages at which facets first occur."""
        found: dict[str, list[Fate]] = {}
        for stages in self._lines:
            first: dict[str, int] = {}
            for name, _, stage, _ in self._counts:
                if stage in stages:
                    first[name] = min(stages.index(stage), first.get(name, len(stages)))
            for name in sorted(first, key=lambda name: (first[name], name)):
                found[f"{name} of {stages[-1]}" if name in found else name] = self._rows(name, stages[first[name] :])
        return found

    def told(self) -> dict[str, list[dict[str, Any]]]:
        """`facets` as JSON."""
        return {name: [row._asdict() for row in rows] for name, rows in self.facets().items()}

    def _count(self, stage: str, reason: str, facets: Mapping[str, str], drafts: int = 1) -> None:
        for name, value in facets.items():
            self._counts[name, value, stage, reason] += drafts

    def _rows(self, name: str, stages: Sequence[str]) -> list[Fate]:
        """A row for each value of a facet that occurs from the first of these stages on."""
        found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: {stage: Counter() for stage in stages})
        for (facet, value, stage, reason), drafts in self._counts.items():
            # What was dropped with its parent is told by that one, unless the line begins here.
            begins = stage == stages[0]
            if facet == name and stage in stages and (begins or reason != Reason.PARENT_DROPPED):
                found[value][stage][reason] += drafts
        return [_fate(value, [*found[value].values()]) for value in sorted(found, key=natural)]


def _fate(value: str, stages: Sequence[Counter[str]]) -> Fate:
    """What became of lines of work, by the reasons of each stage that they go through."""
    undecided = sum(max(0, here[KEPT] - after.total()) for here, after in pairwise(stages))
    ended = sum(stages, Counter[str]())
    surplus, kept = ended.pop(Reason.SURPLUS, 0), stages[-1][KEPT]
    del ended[KEPT]
    reasons = dict(sorted(ended.items(), key=lambda item: (-item[1], item[0])))
    dropped = sum(reasons.values())
    share = kept / (kept + dropped) if kept + dropped else None
    return Fate(value, kept + dropped + undecided + surplus, kept, dropped, undecided + surplus, share, reasons)


def natural(text: str) -> list[tuple[int, str]]:
    """A key to sort by in which numbers count as such: round 10 comes after round 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text) if part]


def facets(ledger: Ledger, stage: str) -> dict[str, dict[str, int]]:
    """How many kept drafts of a stage have each value of each facet."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for text, drafts in ledger.query(
        "SELECT facets, sum(drafts) FROM tally_drafts WHERE kept AND stage = ? GROUP BY 1", stage
    ):
        for name, value in json.loads(text).items():
            found[name][value] += drafts
    return {name: {value: found[name][value] for value in sorted(found[name], key=natural)} for name in sorted(found)}


def families(ledger: Ledger, stage: str) -> int:
    """How many families the kept drafts of a stage stand in; one that has none is its own."""
    query = "SELECT count(DISTINCT coalesce(nullif(family, ''), id)) FROM drafts WHERE kept AND stage = ?"
    return int(ledger.query(query, stage)[0][0])


def tools(ledger: Ledger, stage: str) -> list[str]:
    """The names of the tools that the kept drafts of a stage offer."""
    query = (
        "SELECT DISTINCT json_extract(t.value, '$.name') FROM drafts d, json_each(d.tools) t"
        " WHERE d.kept AND d.stage = ? AND d.tools <> '[]' ORDER BY 1"
    )
    return [name for (name,) in ledger.query(query, stage)]


_JOBS = """
SELECT stage, state, sum(jobs) FROM job_counts c GROUP BY 1, 2
ORDER BY (SELECT number FROM jobs WHERE stage = c.stage ORDER BY number LIMIT 1), 2 DESC
"""
