"""The ledger's schema, as numbered steps; `PRAGMA user_version` says how many a file has seen.

A step once released is never edited: a change of schema is a further step. `docs/ledger.md` shows the tables with
queries to paste.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

FIRST = 5
"""The version of a file that has seen the first step; those before it were never released, and are refused."""


def m005_ledger(db: sqlite3.Connection) -> None:
    """All tables, the views to read them by, and the triggers that keep count."""
    for statement in _LEDGER.split(";\n\n"):
        db.execute(statement)


_LEDGER = """
CREATE TABLE run (
    -- What the run is: config (resolved, as JSON), version of the tool, the model of each role, what it was filtered
    -- from, and how its last session ended.
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE seeds (
    -- The seeds as they were read, in order.
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
);

CREATE TABLE prompts (
    -- The prompt files as they were read.
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE jobs (
    -- One row for each piece of work, in order of planning.
    number INTEGER PRIMARY KEY,
    stage TEXT NOT NULL,
    -- The draft that the job follows from, and the job whose settlement planned it; NULL when planned from the pool.
    parent TEXT,
    after INTEGER,
    -- The stage of the job in `after`; '' when planned from the pool.
    origin TEXT NOT NULL,
    payload TEXT NOT NULL,
    -- JSON: ids of what its prompt shows; by role the model drawn for it, where a role has several.
    shown TEXT NOT NULL DEFAULT '[]',
    models TEXT NOT NULL DEFAULT '{}',
    state TEXT NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'settled', 'failed')),
    -- Why it failed: the kind of fault and a line for a person.
    error_kind TEXT,
    error TEXT
);

CREATE INDEX jobs_planned ON jobs (state) WHERE state = 'planned';

CREATE INDEX jobs_failed ON jobs (error_kind) WHERE state = 'failed';

CREATE TABLE events (
    -- What happened, in order: `target` (value: tasks to keep), `plan`, `settle`, `fail`, `retry`. Everything else
    -- derives from this and the answers.
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    job INTEGER,
    value INTEGER,
    at REAL NOT NULL
);

CREATE INDEX events_target ON events (kind) WHERE kind = 'target';

CREATE TABLE answers (
    -- Every answer that arrived, stored before anything else was done with it. key: hash of (job, canonical question,
    -- n-th time asked).
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    job INTEGER NOT NULL,
    nth INTEGER NOT NULL,
    -- `completion` of a model, `execution` of a program, `result` of a tool.
    kind TEXT NOT NULL,
    -- JSON: what was asked; where a message holds a number, its content is the row of `texts` with that number.
    question TEXT NOT NULL,
    -- What a model said, a program wrote to stdout, a tool returned.
    text TEXT NOT NULL,
    -- Of a completion as the server said it; of an execution its status; of a result `ok` or `failed`.
    finish_reason TEXT NOT NULL,
    role TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    -- The kind of refusal when the server will never answer this request.
    refused TEXT,
    -- JSON: all else that came, such as reasoning, tool calls, log-probabilities, stderr, files.
    body TEXT NOT NULL,
    seconds REAL NOT NULL,
    at REAL NOT NULL
);

CREATE INDEX answers_job ON answers (job);

CREATE TABLE texts (
    -- Long texts that questions share: rules, passages, what was said so far. digest: BLAKE2b, 16 bytes.
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    text TEXT NOT NULL
);

CREATE TABLE intents (
    -- Calls that must not be repeated, noted before they are made: one without an answer may have been made.
    key TEXT PRIMARY KEY,
    job INTEGER NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE faults (
    -- Every attempt that brought no usable answer, with the start of what the server sent.
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    status INTEGER,
    body TEXT NOT NULL,
    at REAL NOT NULL
);

CREATE INDEX faults_job ON faults (job);

CREATE INDEX faults_kind ON faults (kind);

CREATE TABLE drafts (
    -- What recipes made of answers. id: <job>.<position>. kept is 1 for samples; instances are as parsed, stayed those
    -- that were kept, both lists of objects with what is not empty.
    job INTEGER NOT NULL,
    position INTEGER NOT NULL,
    id TEXT NOT NULL UNIQUE,
    -- Order of settlement, from 1: the order in which the pool grew.
    rank INTEGER PRIMARY KEY,
    stage TEXT NOT NULL,
    kept INTEGER NOT NULL,
    instruction TEXT NOT NULL,
    instances TEXT NOT NULL,
    stayed TEXT,
    flaw TEXT,
    meta TEXT NOT NULL,
    system TEXT NOT NULL DEFAULT '',
    tools TEXT NOT NULL DEFAULT '[]',
    -- What a split never parts; '' where that is the draft alone.
    family TEXT NOT NULL DEFAULT '',
    -- JSON: few short values worth counting and choosing by.
    facets TEXT NOT NULL DEFAULT '{}'
);

CREATE INDEX drafts_stage ON drafts (stage, kept);

CREATE INDEX drafts_job ON drafts (job);

CREATE TABLE verdicts (
    -- One row for each filter that judged a draft, in order; the last one decided.
    draft TEXT NOT NULL,
    place INTEGER NOT NULL,
    filter TEXT NOT NULL,
    keep INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    -- [[index, reason], …] of the instances that did not stay.
    instance_drops TEXT NOT NULL,
    PRIMARY KEY (draft, place)
) WITHOUT ROWID;

CREATE INDEX verdicts_reason ON verdicts (reason) WHERE keep = 0;

CREATE TABLE reviews (
    -- What people decided on drafts (`review`), in order; the last line on a draft counts. Drafts and verdicts stay as
    -- they derive; exports honour this.
    id INTEGER PRIMARY KEY,
    draft TEXT NOT NULL,
    -- 1 keep, 0 drop, NULL: the decision is taken back, what the filters said holds again.
    keep INTEGER,
    -- The task as edited, instances as in `drafts`; NULL where it stays as it was.
    instruction TEXT,
    instances TEXT,
    at REAL NOT NULL
);

CREATE INDEX reviews_draft ON reviews (draft);

CREATE TABLE meter (
    -- What all attempts took, over all sessions, those that went unanswered among them: a row for each role, or for
    -- each model of a role that has several. Budgets are held against it. An attempt is counted in the columns
    -- in_flight before it is sent, by what it may take at most; where a run was killed that counts as spent. seconds:
    -- of working time; those of all rows are the run's.
    role TEXT PRIMARY KEY,
    requests INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    cached_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    requests_in_flight INTEGER NOT NULL DEFAULT 0,
    prompt_tokens_in_flight INTEGER NOT NULL DEFAULT 0,
    completion_tokens_in_flight INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE tally_jobs (
    -- Counts of what the other tables hold, kept by triggers in the transaction that changes those; the views
    -- `counted_…` count anew, and `verify` compares. Settled jobs. after: the stage of the job whose settlement planned
    -- them; '' when planned from the pool.
    stage TEXT NOT NULL,
    after TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (stage, after)
);

CREATE TABLE tally_drafts (
    -- Drafts. filter, reason: of the drop, '' where kept; facets: as in `drafts`.
    stage TEXT NOT NULL,
    kept INTEGER NOT NULL,
    filter TEXT NOT NULL,
    reason TEXT NOT NULL,
    facets TEXT NOT NULL,
    drafts INTEGER NOT NULL,
    PRIMARY KEY (stage, kept, filter, reason, facets)
);

CREATE TABLE tally_instances (
    -- Instances that did not stay.
    reason TEXT NOT NULL PRIMARY KEY,
    instances INTEGER NOT NULL
);

CREATE TABLE tally_answers (
    -- Answers and their tokens.
    stage TEXT NOT NULL,
    role TEXT NOT NULL,
    model TEXT NOT NULL,
    answers INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (stage, role, model)
);

CREATE VIEW counted_jobs AS
SELECT stage, origin AS after, count(*) AS jobs FROM jobs WHERE state = 'settled' GROUP BY 1, 2 ORDER BY min(number);

CREATE VIEW counted_drafts AS
SELECT d.stage, d.kept, coalesce(v.filter, '') AS filter, coalesce(v.reason, '') AS reason, d.facets,
       count(*) AS drafts
FROM drafts d LEFT JOIN verdicts v ON v.draft = d.id AND v.keep = 0 AND d.kept = 0
WHERE d.kept = 1 OR v.keep = 0 GROUP BY 1, 2, 3, 4, 5 ORDER BY min(d.rank);

CREATE VIEW kept AS
SELECT d.id, d.rank, d.stage, d.instruction, d.stayed AS instances, d.meta, d.system, d.tools, d.family, d.facets,
       j.parent, d.job
FROM drafts d JOIN jobs j ON j.number = d.job WHERE d.kept = 1;

CREATE VIEW drops AS
SELECT d.id, d.rank, d.stage, v.filter, v.reason, v.detail, d.instruction, d.facets, d.job
FROM drafts d JOIN verdicts v ON v.draft = d.id AND v.keep = 0 WHERE d.kept = 0;

CREATE VIEW instance_drops AS
SELECT v.draft, v.filter, json_extract(i.value, '$[0]') AS instance, json_extract(i.value, '$[1]') AS reason
FROM verdicts v, json_each(v.instance_drops) i;

CREATE VIEW counted_instances AS
SELECT reason, count(*) AS instances FROM instance_drops GROUP BY 1;

CREATE VIEW counted_answers AS
SELECT j.stage, a.role, a.model, count(*) AS answers, sum(a.prompt_tokens) AS prompt_tokens,
       sum(a.completion_tokens) AS completion_tokens, sum(a.cached_tokens) AS cached_tokens,
       sum(a.reasoning_tokens) AS reasoning_tokens, sum(a.seconds) AS seconds
FROM answers a JOIN jobs j ON j.number = a.job GROUP BY 1, 2, 3;

CREATE VIEW spend AS
SELECT stage, role, model, answers, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, seconds
FROM tally_answers WHERE answers > 0;

CREATE VIEW job_counts AS
-- Jobs by stage, by the stage of the job whose settlement planned them ('' when planned from the pool), and by state.
SELECT stage, after, 'settled' AS state, jobs FROM tally_jobs
UNION ALL SELECT stage, origin, 'planned', count(*) FROM jobs WHERE state = 'planned' GROUP BY 1, 2
UNION ALL SELECT stage, origin, 'failed', count(*) FROM jobs WHERE state = 'failed' GROUP BY 1, 2;

CREATE TRIGGER jobs_settled AFTER UPDATE OF state ON jobs WHEN NEW.state = 'settled' BEGIN
    INSERT INTO tally_jobs VALUES (NEW.stage, NEW.origin, 1)
    ON CONFLICT (stage, after) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER drafts_kept AFTER INSERT ON drafts WHEN NEW.kept BEGIN
    INSERT INTO tally_drafts VALUES (NEW.stage, NEW.kept, '', '', NEW.facets, 1)
    ON CONFLICT (stage, kept, filter, reason, facets) DO UPDATE SET drafts = drafts + 1;
END;

CREATE TRIGGER drafts_dropped AFTER INSERT ON verdicts WHEN NOT NEW.keep BEGIN
    INSERT INTO tally_drafts
    SELECT stage, kept, NEW.filter, NEW.reason, facets, 1 FROM drafts WHERE id = NEW.draft AND NOT kept
    ON CONFLICT (stage, kept, filter, reason, facets) DO UPDATE SET drafts = drafts + 1;
END;

CREATE TRIGGER instances_dropped AFTER INSERT ON verdicts WHEN NEW.instance_drops <> '[]' BEGIN
    INSERT INTO tally_instances
    SELECT json_extract(value, '$[1]'), 1 FROM json_each(NEW.instance_drops) WHERE 1
    ON CONFLICT (reason) DO UPDATE SET instances = instances + 1;
END;

CREATE TRIGGER answers_stored AFTER INSERT ON answers BEGIN
    INSERT INTO tally_answers
    SELECT stage, NEW.role, NEW.model, 1, NEW.prompt_tokens, NEW.completion_tokens, NEW.cached_tokens,
           NEW.reasoning_tokens, NEW.seconds
    FROM jobs WHERE number = NEW.job
    ON CONFLICT (stage, role, model) DO UPDATE SET
        answers = answers + 1, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        completion_tokens = completion_tokens + excluded.completion_tokens,
        cached_tokens = cached_tokens + excluded.cached_tokens,
        reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens, seconds = seconds + excluded.seconds;
END;

CREATE TRIGGER answers_forgotten AFTER DELETE ON answers BEGIN
    UPDATE tally_answers SET
        answers = answers - 1, prompt_tokens = prompt_tokens - OLD.prompt_tokens,
        completion_tokens = completion_tokens - OLD.completion_tokens,
        cached_tokens = cached_tokens - OLD.cached_tokens,
        reasoning_tokens = reasoning_tokens - OLD.reasoning_tokens, seconds = seconds - OLD.seconds
    WHERE role = OLD.role AND model = OLD.model AND stage = (SELECT stage FROM jobs WHERE number = OLD.job);
END
"""

TALLIES = ("jobs", "drafts", "instances", "answers")
"""Each is a table `tally_…` that triggers keep, and a view `counted_…` that counts anew; a rowid tells which group was
met first."""
STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (m005_ledger,)


def version(db: sqlite3.Connection) -> int:
    """The version of a file: `FIRST` once it has seen the first step, 0 before."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def newest() -> int:
    """The version of a file that has seen every step."""
    return FIRST + len(STEPS) - 1


def migrate(db: sqlite3.Connection) -> None:
    """Bring a new or released ledger to the present schema, each step in a transaction of its own."""
    while version(db) < newest():
        db.execute("BEGIN IMMEDIATE")
        # Asked again: another process may have taken the step in the meantime.
        if (found := version(db)) < newest():
            number = max(found + 1, FIRST)
            STEPS[number - FIRST](db)
            db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
