"""The ledger's schema as numbered steps; `PRAGMA user_version` says how many a file has seen.

A step once released is never edited: a change of schema is a further step. `docs/ledger.md` shows the tables with
queries to paste.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable


def m001_ledger(db: sqlite3.Connection) -> None:
    """Runs, seeds, prompts, jobs, events, answers, faults, drafts, verdicts, and the views to read them by."""
    for statement in _LEDGER.split(";\n\n"):
        db.execute(statement)


_LEDGER = """
-- What the run is: config (resolved, as JSON), version of the tool, when it was begun, and what it was filtered from.
CREATE TABLE run (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- The seed tasks as they were read, in order.
CREATE TABLE seeds (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
);

-- The prompt files as they were read.
CREATE TABLE prompts (
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL
) WITHOUT ROWID;

-- One row for each piece of work, in order of planning.
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,
    stage TEXT NOT NULL,
    -- The draft that the job follows from, and the job whose settlement planned it; NULL when planned from the pool.
    parent TEXT,
    after INTEGER,
    payload TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'settled', 'failed')),
    -- Why it failed: the kind of fault and a line for a person.
    error_kind TEXT,
    error TEXT
);

CREATE INDEX jobs_open ON jobs (state, number) WHERE state <> 'settled';

-- What happened, in order: `target` (value: tasks to keep), `plan`, `settle`, `fail`, `retry`.
-- Everything else derives from this and the answers.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    job INTEGER,
    value INTEGER,
    at REAL NOT NULL
);

-- Every answer that arrived, stored before anything else was done with it.
-- key: hash of (job, canonical request, n-th time asked).
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    job INTEGER NOT NULL,
    nth INTEGER NOT NULL,
    request TEXT NOT NULL,
    text TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    -- The kind of refusal when the server will never answer this request.
    refused TEXT,
    seconds REAL NOT NULL,
    at REAL NOT NULL
);

CREATE INDEX answers_job ON answers (job);

-- Every attempt that brought no usable answer, with the start of what the server sent.
CREATE TABLE faults (
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

-- What recipes made of answers. id: <job>.<position>. kept is 1 for samples;
-- instances are as parsed, stayed those that were kept.
CREATE TABLE drafts (
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
    meta TEXT NOT NULL
);

CREATE INDEX drafts_stage ON drafts (stage, kept);

CREATE INDEX drafts_job ON drafts (job);

-- One row for each filter that judged a draft, in order; the last one decided.
CREATE TABLE verdicts (
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

CREATE VIEW kept AS
SELECT d.id, d.rank, d.stage, d.instruction, d.stayed AS instances, d.meta, j.parent, d.job
FROM drafts d JOIN jobs j ON j.number = d.job WHERE d.kept = 1;

CREATE VIEW drops AS
SELECT d.id, d.rank, d.stage, v.filter, v.reason, v.detail, d.instruction, d.job
FROM drafts d JOIN verdicts v ON v.draft = d.id AND v.keep = 0 WHERE d.kept = 0;

CREATE VIEW instance_drops AS
SELECT v.draft, v.filter, json_extract(i.value, '$[0]') AS instance, json_extract(i.value, '$[1]') AS reason
FROM verdicts v, json_each(v.instance_drops) i;

CREATE VIEW spend AS
SELECT j.stage, a.model, count(*) AS answers, sum(a.prompt_tokens) AS prompt_tokens,
       sum(a.completion_tokens) AS completion_tokens, sum(a.cached_tokens) AS cached_tokens, sum(a.seconds) AS seconds
FROM answers a JOIN jobs j ON j.number = a.job GROUP BY j.stage, a.model
"""


def m002_reviews(db: sqlite3.Connection) -> None:
    """What people decided on drafts."""
    for statement in _REVIEWS.split(";\n\n"):
        db.execute(statement)


_REVIEWS = """
-- What people decided on drafts (`review`), in order; the last line on a draft counts. Drafts and verdicts stay as they
-- derive; exports honour this.
CREATE TABLE reviews (
    id INTEGER PRIMARY KEY,
    draft TEXT NOT NULL,
    -- 1 keep, 0 drop, NULL: the decision is taken back, what the filters said holds again.
    keep INTEGER,
    -- The task as edited, instances as in `drafts`; NULL where it stays as it was.
    instruction TEXT,
    instances TEXT,
    at REAL NOT NULL
);

CREATE INDEX reviews_draft ON reviews (draft)
"""


def m003_meter(db: sqlite3.Connection) -> None:
    """What was asked of each who is asked, counted as it is sent; filled from the answers and faults there are.

    Of older ledgers it cannot be known what went unanswered, nor for how long they worked.
    """
    for statement in (*_METER.split(";\n\n"), *_FILLED.split(";\n\n")):
        db.execute(statement)


_METER = """
-- Who was asked: the writer, or a judge of the run's own.
ALTER TABLE answers ADD COLUMN role TEXT NOT NULL DEFAULT 'writer';

DROP VIEW spend;

CREATE VIEW spend AS
SELECT j.stage, a.role, a.model, count(*) AS answers, sum(a.prompt_tokens) AS prompt_tokens,
       sum(a.completion_tokens) AS completion_tokens, sum(a.cached_tokens) AS cached_tokens, sum(a.seconds) AS seconds
FROM answers a JOIN jobs j ON j.number = a.job GROUP BY j.stage, a.role, a.model;

-- What all attempts took, over all sessions, those that went unanswered among them: a row for each role. Budgets are
-- held against it. An attempt is counted in the columns in_flight before it is sent, by what it may take at most; where
-- a run was killed that counts as spent. seconds: of working time; those of both rows are the run's.
CREATE TABLE meter (
    role TEXT PRIMARY KEY,
    requests INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    cached_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    requests_in_flight INTEGER NOT NULL DEFAULT 0,
    prompt_tokens_in_flight INTEGER NOT NULL DEFAULT 0,
    completion_tokens_in_flight INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0
) WITHOUT ROWID
"""
_FILLED = """
UPDATE answers SET role = 'judge' WHERE EXISTS (SELECT 1 FROM run WHERE key = 'judge')
AND json_extract(request, '$.model') = (SELECT value FROM run WHERE key = 'judge')
AND json_extract(request, '$.model') <> (SELECT value FROM run WHERE key = 'model');

INSERT INTO meter (role) VALUES ('writer'), ('judge');

UPDATE meter SET (requests, prompt_tokens, cached_tokens, completion_tokens) =
(SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(cached_tokens), 0), coalesce(sum(completion_tokens), 0)
 FROM answers a WHERE a.role = meter.role);

UPDATE meter SET requests = requests + (SELECT count(*) FROM faults) WHERE role = 'writer'
"""


def m004_tallies(db: sqlite3.Connection) -> None:
    """Counts of jobs, drafts, dropped instances and answers, kept with what they count, so that a run of any size is
    told at once."""
    for statement in _TALLIES.split(";\n\n"):
        db.execute(statement)
    for tally in TALLIES:
        db.execute(f"INSERT INTO tally_{tally} SELECT * FROM counted_{tally}")  # noqa: S608 - names of ours


TALLIES = ("jobs", "drafts", "instances", "answers")
"""Each is a table `tally_…` that triggers keep, and a view `counted_…` that counts anew; a rowid tells which group was
met first."""
_TALLIES = """
-- Counts of what the other tables hold, kept by triggers in the transaction that changes those; the views `counted_…`
-- count anew, and `verify` compares.
-- Settled jobs. after: the stage of the job whose settlement planned them; '' when planned from the pool.
CREATE TABLE tally_jobs (
    stage TEXT NOT NULL,
    after TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (stage, after)
);

-- Drafts. filter, reason: of the drop, '' where kept; round, operator, judgement: of an evolution, '' elsewhere.
CREATE TABLE tally_drafts (
    stage TEXT NOT NULL,
    kept INTEGER NOT NULL,
    filter TEXT NOT NULL,
    reason TEXT NOT NULL,
    round NOT NULL,
    operator NOT NULL,
    judgement NOT NULL,
    drafts INTEGER NOT NULL,
    PRIMARY KEY (stage, kept, filter, reason, round, operator, judgement)
);

-- Instances that did not stay.
CREATE TABLE tally_instances (
    reason TEXT NOT NULL PRIMARY KEY,
    instances INTEGER NOT NULL
);

-- Answers and their tokens.
CREATE TABLE tally_answers (
    stage TEXT NOT NULL,
    role TEXT NOT NULL,
    model TEXT NOT NULL,
    answers INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (stage, role, model)
);

CREATE VIEW counted_jobs AS
SELECT j.stage, coalesce(p.stage, '') AS after, count(*) AS jobs
FROM jobs j LEFT JOIN jobs p ON p.number = j.after WHERE j.state = 'settled' GROUP BY 1, 2 ORDER BY min(j.number);

CREATE VIEW counted_drafts AS
SELECT d.stage, d.kept, coalesce(v.filter, '') AS filter, coalesce(v.reason, '') AS reason,
       coalesce(iif(json_valid(d.meta), json_extract(d.meta, '$.round'), NULL), '') AS round,
       coalesce(iif(json_valid(d.meta), json_extract(d.meta, '$.operator'), NULL), '') AS operator,
       coalesce(iif(json_valid(d.meta), json_extract(d.meta, '$.judgement'), NULL), '') AS judgement, count(*) AS drafts
FROM drafts d LEFT JOIN verdicts v ON v.draft = d.id AND v.keep = 0 AND d.kept = 0
WHERE d.kept = 1 OR v.keep = 0 GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY min(d.rank);

CREATE VIEW counted_instances AS
SELECT reason, count(*) AS instances FROM instance_drops GROUP BY 1;

CREATE VIEW counted_answers AS
SELECT j.stage, a.role, a.model, count(*) AS answers, sum(a.prompt_tokens) AS prompt_tokens,
       sum(a.completion_tokens) AS completion_tokens, sum(a.cached_tokens) AS cached_tokens, sum(a.seconds) AS seconds
FROM answers a JOIN jobs j ON j.number = a.job GROUP BY 1, 2, 3;

CREATE TRIGGER jobs_settled AFTER UPDATE OF state ON jobs WHEN NEW.state = 'settled' BEGIN
    INSERT INTO tally_jobs VALUES (NEW.stage, coalesce((SELECT stage FROM jobs WHERE number = NEW.after), ''), 1)
    ON CONFLICT (stage, after) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER drafts_kept AFTER INSERT ON drafts WHEN NEW.kept BEGIN
    INSERT INTO tally_drafts
    VALUES (NEW.stage, NEW.kept, '', '',
            coalesce(iif(json_valid(NEW.meta), json_extract(NEW.meta, '$.round'), NULL), ''),
            coalesce(iif(json_valid(NEW.meta), json_extract(NEW.meta, '$.operator'), NULL), ''),
            coalesce(iif(json_valid(NEW.meta), json_extract(NEW.meta, '$.judgement'), NULL), ''), 1)
    ON CONFLICT (stage, kept, filter, reason, round, operator, judgement) DO UPDATE SET drafts = drafts + 1;
END;

CREATE TRIGGER drafts_dropped AFTER INSERT ON verdicts WHEN NOT NEW.keep BEGIN
    INSERT INTO tally_drafts
    SELECT stage, kept, NEW.filter, NEW.reason,
           coalesce(iif(json_valid(meta), json_extract(meta, '$.round'), NULL), ''),
           coalesce(iif(json_valid(meta), json_extract(meta, '$.operator'), NULL), ''),
           coalesce(iif(json_valid(meta), json_extract(meta, '$.judgement'), NULL), ''), 1
    FROM drafts WHERE id = NEW.draft AND NOT kept
    ON CONFLICT (stage, kept, filter, reason, round, operator, judgement) DO UPDATE SET drafts = drafts + 1;
END;

CREATE TRIGGER instances_dropped AFTER INSERT ON verdicts WHEN NEW.instance_drops <> '[]' BEGIN
    INSERT INTO tally_instances
    SELECT json_extract(value, '$[1]'), 1 FROM json_each(NEW.instance_drops) WHERE 1
    ON CONFLICT (reason) DO UPDATE SET instances = instances + 1;
END;

CREATE TRIGGER answers_stored AFTER INSERT ON answers BEGIN
    INSERT INTO tally_answers
    SELECT stage, NEW.role, NEW.model, 1, NEW.prompt_tokens, NEW.completion_tokens, NEW.cached_tokens, NEW.seconds
    FROM jobs WHERE number = NEW.job
    ON CONFLICT (stage, role, model) DO UPDATE SET
        answers = answers + 1, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        completion_tokens = completion_tokens + excluded.completion_tokens,
        cached_tokens = cached_tokens + excluded.cached_tokens, seconds = seconds + excluded.seconds;
END;

CREATE TRIGGER answers_forgotten AFTER DELETE ON answers BEGIN
    UPDATE tally_answers SET
        answers = answers - 1, prompt_tokens = prompt_tokens - OLD.prompt_tokens,
        completion_tokens = completion_tokens - OLD.completion_tokens,
        cached_tokens = cached_tokens - OLD.cached_tokens, seconds = seconds - OLD.seconds
    WHERE role = OLD.role AND model = OLD.model AND stage = (SELECT stage FROM jobs WHERE number = OLD.job);
END;

DROP VIEW spend;

CREATE VIEW spend AS
SELECT stage, role, model, answers, prompt_tokens, completion_tokens, cached_tokens, seconds
FROM tally_answers WHERE answers > 0;

CREATE INDEX faults_kind ON faults (kind);

-- Jobs by stage, by the stage of the job whose settlement planned them ('' when planned from the pool), and by state.
CREATE VIEW job_counts AS
SELECT stage, after, 'settled' AS state, jobs FROM tally_jobs
UNION ALL SELECT j.stage, coalesce(p.stage, ''), 'planned', count(*)
FROM jobs j LEFT JOIN jobs p ON p.number = j.after WHERE j.state = 'planned' GROUP BY 1, 2
UNION ALL SELECT j.stage, coalesce(p.stage, ''), 'failed', count(*)
FROM jobs j LEFT JOIN jobs p ON p.number = j.after WHERE j.state = 'failed' GROUP BY 1, 2;

DROP INDEX jobs_open;

CREATE INDEX jobs_planned ON jobs (state) WHERE state = 'planned';

CREATE INDEX jobs_failed ON jobs (error_kind) WHERE state = 'failed';

CREATE INDEX events_target ON events (kind) WHERE kind = 'target'
"""

MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    m001_ledger, m002_reviews, m003_meter, m004_tallies,
)  # fmt: skip


def version(db: sqlite3.Connection) -> int:
    """How many steps this file has seen."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection) -> None:
    """Bring a ledger to the present schema, each step in a transaction of its own."""
    while version(db) < len(MIGRATIONS):
        db.execute("BEGIN IMMEDIATE")
        # Asked again: another process may have taken the step in the meantime.
        if (number := version(db)) < len(MIGRATIONS):
            MIGRATIONS[number](db)
            db.execute(f"PRAGMA user_version = {number + 1}")
        db.execute("COMMIT")
