-- A job of which many are made: its jobs share one spec, which is kept here.
CREATE TABLE arrays (
    id uuid PRIMARY KEY,
    owner text NOT NULL,
    submit_key text,
    digest bytea NOT NULL,
    name text,
    size integer NOT NULL,
    spec jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX arrays_key ON arrays (owner, submit_key) WHERE submit_key IS NOT NULL;

ALTER TABLE jobs
    -- of a job of an array: only what was changed in this one
    ADD COLUMN array_id uuid,
    ADD COLUMN array_index integer,
    ADD COLUMN item jsonb,
    -- not before
    ADD COLUMN start_at timestamptz,
    -- not later
    ADD COLUMN expires_at timestamptz,
    -- the jobs that this one still waits for
    ADD COLUMN waiting_for integer NOT NULL DEFAULT 0,
    -- seconds before the second attempt; doubled before each further one
    ADD COLUMN backoff double precision NOT NULL DEFAULT 0,
    -- the exit codes that are worth another attempt; NULL for all
    ADD COLUMN retry_on integer[],
    ADD COLUMN has_inputs boolean NOT NULL DEFAULT false,
    ADD CHECK ((array_id IS NULL) = (array_index IS NULL)),
    ADD CHECK (state = 'PENDING' OR waiting_for = 0);
UPDATE jobs SET has_inputs = jsonb_array_length(spec -> 'inputs') > 0;

CREATE INDEX jobs_array ON jobs (array_id, array_index) WHERE array_id IS NOT NULL;
CREATE INDEX jobs_due ON jobs (start_at) WHERE state = 'PENDING' AND start_at IS NOT NULL;
CREATE INDEX jobs_expiring ON jobs (expires_at) WHERE expires_at IS NOT NULL AND state IN ('PENDING', 'QUEUED');
CREATE INDEX jobs_ready ON jobs (queue, priority DESC, seq) WHERE state = 'QUEUED';
CREATE INDEX jobs_ended ON jobs (finished_at) WHERE state IN ('FINISHED', 'FAILED', 'CANCELLED');
CREATE INDEX jobs_tags ON jobs USING gin (tags) WHERE tags <> '{}';
CREATE INDEX jobs_state ON jobs (state, seq DESC);
CREATE INDEX jobs_owner_state ON jobs (owner, state, seq DESC);
-- finds what a name begins with, too, whatever the database's collation
CREATE INDEX jobs_name ON jobs (name text_pattern_ops) WHERE name IS NOT NULL;
-- the rows lie nearly in this order, so that a summary of each stretch of them is enough, and costs next to nothing
CREATE INDEX jobs_created ON jobs USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
-- what these were for is found by state
DROP INDEX jobs_active, jobs_queued;

CREATE TABLE dependencies (
    job_id uuid NOT NULL,
    -- the job that is waited for
    parent_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('ok', 'any', 'failed')),
    -- NULL until the parent has ended
    met boolean,
    PRIMARY KEY (job_id, parent_id)
);
CREATE INDEX dependencies_parent ON dependencies (parent_id) WHERE met IS NULL;

CREATE TABLE queues (
    name text PRIMARY KEY,
    paused boolean NOT NULL DEFAULT false,
    reason text,
    -- jobs of it that may run at once; NULL for no limit
    max_running integer CHECK (max_running > 0),
    -- seconds that each of its jobs may run
    max_walltime double precision CHECK (max_walltime > 0),
    actor text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- Every attempt that has ended.
CREATE TABLE attempts (
    job_id uuid NOT NULL,
    attempt integer NOT NULL,
    state text NOT NULL,
    reason text,
    exit_code integer,
    host text,
    started_at timestamptz,
    finished_at timestamptz NOT NULL DEFAULT now(),
    cpu_seconds double precision,
    peak_memory bigint,
    PRIMARY KEY (job_id, attempt)
);

-- The jobs whose records were deleted and whose files are still there.
CREATE TABLE removals (
    job_id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now()
);

-- Issues tickets for jobs; see queue.py, which does the same within a statement. Where another one issued one of them
-- in this very moment, none is issued: a sweep finds what is missing.
CREATE FUNCTION issue_tickets(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM procrastinate_defer_jobs_v1(array_agg(
        ROW(j.queue, 'hpcjobs.run', j.priority, NULL, j.id || ':' || j.attempt,
            jsonb_build_object('job', j.id, 'attempt', j.attempt, 'cores', j.cores, 'queue', j.queue),
            j.start_at
        )::procrastinate_job_to_defer_v1 ORDER BY j.seq))
    FROM jobs j
    WHERE j.id = ANY(ids) AND (j.state = 'QUEUED' OR (j.state = 'PENDING' AND j.waiting_for = 0))
      AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs p
                      WHERE p.queueing_lock = j.id || ':' || j.attempt AND p.status = 'todo')
    HAVING count(*) > 0;
EXCEPTION WHEN unique_violation THEN
    NULL;
END $$;

-- Offers a queue's best jobs for the places that are free in it. Those of a paused queue, or beyond its limit, have no
-- ticket: whoever takes a ticket there is one too many drops it.
CREATE FUNCTION admit(name_ text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    q queues%ROWTYPE;
    room integer;
BEGIN
    SELECT * INTO q FROM queues WHERE name = name_;
    IF NOT FOUND OR q.paused THEN
        RETURN;
    END IF;
    room := coalesce(q.max_running, 10000)
        - (SELECT count(*) FROM jobs WHERE worker_id IS NOT NULL AND queue = name_)
        - (SELECT count(*) FROM procrastinate_jobs p WHERE p.queue_name = name_ AND p.status = 'todo'
           AND (p.scheduled_at IS NULL OR p.scheduled_at <= now()));
    IF room > 0 THEN
        PERFORM issue_tickets(ARRAY(
            -- asked for by each status of its own, because the index of one of them serves: together they would be
            -- looked for by comparing every job with every ticket
            SELECT j.id FROM jobs j WHERE j.state = 'QUEUED' AND j.queue = name_
              AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs p
                              WHERE p.queueing_lock = j.id || ':' || j.attempt AND p.status = 'todo')
              AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs p
                              WHERE p.queueing_lock = j.id || ':' || j.attempt AND p.status = 'doing')
            ORDER BY j.priority DESC, j.seq LIMIT room));
    END IF;
END $$;

-- Tells the jobs that wait for jobs that have ended. A chain of any length is followed here, in one loop, because
-- triggers that call each other as deep as the chain is long would overflow the stack.
CREATE FUNCTION tell_dependents(ended uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ready uuid[];
BEGIN
    WHILE ended <> '{}' LOOP
        -- in the order of their ids, as everybody locks jobs; by an array and not by a join, which was seen elsewhere to
        -- leave rows out that someone else changed at that moment
        PERFORM 1 FROM jobs WHERE id = ANY(ARRAY(
            SELECT job_id FROM dependencies WHERE parent_id = ANY(ended) AND met IS NULL)) ORDER BY id FOR UPDATE;
        WITH told AS (
            UPDATE dependencies d
            SET met = CASE d.kind WHEN 'any' THEN true WHEN 'ok' THEN p.state = 'FINISHED' ELSE p.state <> 'FINISHED' END
            FROM jobs p WHERE p.id = d.parent_id AND d.parent_id = ANY(ended) AND d.met IS NULL
            RETURNING d.job_id, d.met, CASE WHEN NOT d.met THEN unmet(d.kind, p.id, p.name, p.state) END AS why
        ), news AS (
            SELECT job_id, count(*) AS n, bool_and(met) AS good, min(why) AS why FROM told GROUP BY job_id
        ), changed AS (
            UPDATE jobs j SET
                waiting_for = CASE WHEN news.good THEN greatest(0, j.waiting_for - news.n) ELSE 0 END,
                state = CASE WHEN NOT news.good THEN 'FAILED'
                             WHEN j.waiting_for > news.n OR j.start_at > now() THEN 'PENDING' ELSE 'QUEUED' END,
                reason = news.why, finished_at = CASE WHEN NOT news.good THEN now() END,
                changed_at = CASE WHEN news.good AND (j.waiting_for > news.n OR j.start_at > now())
                                  THEN j.changed_at ELSE now() END,
                actor = 'dependencies', version = j.version + 1
            FROM news WHERE j.id = news.job_id AND j.state = 'PENDING'
            RETURNING j.id, j.state, j.waiting_for
        )
        SELECT coalesce(array_agg(id) FILTER (WHERE state = 'FAILED'), '{}'),
               coalesce(array_agg(id) FILTER (WHERE state <> 'FAILED' AND waiting_for = 0), '{}')
        INTO ended, ready FROM changed;
        PERFORM issue_tickets(ready);
    END LOOP;
END $$;

-- Why a job that waited for another one can never run.
CREATE FUNCTION unmet(kind text, parent uuid, name text, state text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind WHEN 'ok' THEN 'it was to run after job ' ELSE 'it was to run if job ' END || parent
        || coalesce(' (' || name || ')', '')
        || CASE kind WHEN 'ok' THEN ', which is ' || state ELSE ' did not end well, and that is FINISHED' END
$$;

CREATE OR REPLACE FUNCTION note_changed_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one text;
BEGIN
    INSERT INTO events (job_id, owner, state, attempt, cancel_requested, reason, actor)
        SELECT n.id, n.owner, n.state, n.attempt, n.cancel_requested_at IS NOT NULL,
               CASE WHEN n.cancel_requested_at IS NOT NULL THEN n.cancel_reason ELSE n.reason END, n.actor
        FROM new_rows n ORDER BY n.seq;
    NOTIFY hpcjobs_events;
    -- what this itself changes needs no second look
    IF pg_trigger_depth() = 1 THEN
        IF EXISTS (SELECT 1 FROM dependencies d JOIN new_rows n ON n.id = d.parent_id
                   WHERE d.met IS NULL AND n.state IN ('FINISHED', 'FAILED', 'CANCELLED')) THEN
            PERFORM tell_dependents(ARRAY(
                SELECT id FROM new_rows WHERE state IN ('FINISHED', 'FAILED', 'CANCELLED')));
        END IF;
        FOR one IN SELECT q.name FROM queues q WHERE q.max_running IS NOT NULL AND NOT q.paused
                   AND EXISTS (SELECT 1 FROM new_rows n WHERE n.queue = q.name AND n.worker_id IS NULL) LOOP
            PERFORM admit(one);
        END LOOP;
    END IF;
    RETURN NULL;
END $$;

-- What was deleted leaves nothing but its files, which are removed next.
CREATE OR REPLACE FUNCTION forget_deleted_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM events USING old_rows o WHERE events.job_id = o.id;
    DELETE FROM progress USING old_rows o WHERE progress.job_id = o.id;
    DELETE FROM attempts USING old_rows o WHERE attempts.job_id = o.id;
    DELETE FROM dependencies USING old_rows o WHERE dependencies.job_id = o.id;
    INSERT INTO removals (job_id) SELECT id FROM old_rows WHERE attempt > 0 ON CONFLICT DO NOTHING;
    -- one after the other: of two that delete the last jobs of an array, each would see those of the other one
    PERFORM 1 FROM arrays a WHERE a.id IN (SELECT array_id FROM old_rows WHERE array_id IS NOT NULL)
        ORDER BY a.id FOR UPDATE;
    DELETE FROM arrays a WHERE a.id IN (SELECT DISTINCT array_id FROM old_rows WHERE array_id IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.array_id = a.id);
    RETURN NULL;
END $$;
