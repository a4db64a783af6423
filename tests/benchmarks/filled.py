"""Fills a database with jobs as years of use would leave them: nearly all have ended, some wait, a few run."""

from __future__ import annotations

import uuid

import psycopg
from psycopg import sql

from hpcjobs_server.database import connection_info

OWNERS = 20
"""Owners; each has as many jobs as every other one. The first is ``owner-0``."""

SPEC = """{"command":"python fit.py --record station-7.csv --damping 0.05","name":null,"tags":[],"meta":{},"env":{},
"inputs":[],"resources":{"cores":1,"memory":null,"walltime":3600.0},"queue":"default","priority":0,"grace":30.0,
"max_attempts":1,"backoff":0.0,"retry_on":null,"after":[],"start_at":null,"start_in":null,"expires_in":null,
"requeue":true,"stderr":"merged"}"""

# One of a hundred waits, one of twenty thousand runs; a tenth belongs to arrays of a hundred.
_JOBS = """
INSERT INTO jobs (id, owner, submit_key, digest, state, reason, exit_code, name, queue, priority, cores, tags, meta,
    spec, grace, requeue, attempt, max_attempts, worker_id, actor, created_at, changed_at, started_at, finished_at,
    array_id, array_index)
SELECT gen_random_uuid(), 'owner-' || (abs(hashint4(i) %% %(owners)s)), gen_random_uuid()::text, sha256(i::text::bytea), s.state,
    CASE s.state WHEN 'FAILED' THEN 'the command ended with exit code 1'
                 WHEN 'CANCELLED' THEN 'cancelled by owner-' || (abs(hashint4(i) %% %(owners)s)) END,
    CASE s.state WHEN 'FINISHED' THEN 0 WHEN 'FAILED' THEN 1 END,
    'fit-' || i, CASE WHEN i %% 5 = 0 THEN 'long' ELSE 'default' END, i %% 3, 1,
    CASE i %% 3 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['sweep-' || i / 1000] ELSE ARRAY['sweep-' || i / 1000, 'night'] END,
    jsonb_build_object('record', i), %(spec)s::jsonb || jsonb_build_object('name', 'fit-' || i), 30, true,
    (s.state <> 'QUEUED')::integer, 1, CASE s.state WHEN 'RUNNING' THEN %(worker)s::uuid END, 'worker', t.made,
    t.made + interval '2 min', CASE WHEN s.state <> 'QUEUED' THEN t.made + interval '1 min' END,
    CASE WHEN s.state IN ('FINISHED', 'FAILED', 'CANCELLED') THEN t.made + interval '2 min' END,
    CASE WHEN i %% 1000 < 100 THEN md5('array' || i / 1000)::uuid END, CASE WHEN i %% 1000 < 100 THEN i %% 1000 END
FROM generate_series(1, %(jobs)s) AS i,
    LATERAL (SELECT CASE WHEN i %% 20000 = 1 THEN 'RUNNING' WHEN i %% 100 = 7 THEN 'QUEUED' WHEN i %% 20 = 3 THEN 'FAILED'
                         WHEN i %% 20 = 9 THEN 'CANCELLED' ELSE 'FINISHED' END AS state) s,
    LATERAL (SELECT now() - make_interval(secs => 10.0 * (%(jobs)s - i)) AS made) t
"""

# The numbers of transactions that have been, in order.
_EVENTS = """
INSERT INTO events (xid, job_id, owner, state, attempt, cancel_requested, reason, actor, at)
SELECT (3 + n.xid * j.seq / %(jobs)s)::text::xid8, j.id, j.owner, e.state, e.attempt, false, j.reason, e.actor, e.at
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 3 AS xid) n, jobs j,
    LATERAL (VALUES ('QUEUED', 0, j.owner, j.created_at), ('RUNNING', 1, 'worker', j.started_at),
                    (j.state, 1, 'worker', j.finished_at)) AS e (state, attempt, actor, at)
WHERE e.at IS NOT NULL
ORDER BY j.seq, e.at
"""

_OTHERS = """
INSERT INTO attempts (job_id, attempt, state, reason, exit_code, host, started_at, finished_at, cpu_seconds)
    SELECT id, 1, state, reason, exit_code, 'node-1', started_at, finished_at, 58.5 FROM jobs WHERE finished_at > started_at;
INSERT INTO arrays (id, owner, digest, name, size, spec, created_at)
    SELECT array_id, min(owner), '\\x00', 'fit', count(*), '{"inputs": []}', min(created_at)
    FROM jobs WHERE array_id IS NOT NULL GROUP BY array_id;
SELECT issue_tickets(ARRAY(SELECT id FROM jobs WHERE state = 'QUEUED'));
"""

_INDEXES = """
SELECT c.relname AS name, pg_get_indexdef(c.oid) AS made_by FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid IN ('jobs'::regclass, 'events'::regclass)
  AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid)
"""


def fill(address: str, jobs: int) -> None:
    """Put ``jobs`` jobs with their history into an empty database that has the schema.

    The indexes are made when the rows are there, which takes a third of the time.
    """
    with psycopg.connect(connection_info(address), autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off; SET maintenance_work_mem = '256MB'")
        indexes = connection.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        connection.execute("ALTER TABLE jobs DISABLE TRIGGER USER")
        parameters = {"jobs": jobs, "owners": OWNERS, "spec": SPEC, "worker": uuid.uuid4()}
        connection.execute(_JOBS, parameters)
        connection.execute(_EVENTS, parameters)
        connection.execute("ALTER TABLE jobs ENABLE TRIGGER USER")
        for _, made_by in indexes:
            connection.execute(made_by.encode())
        connection.execute(_OTHERS.encode())
        connection.execute("VACUUM ANALYZE")
