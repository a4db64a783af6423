-- The one truth about every job. Procrastinate's tables carry tickets only.
CREATE TABLE jobs (
    id uuid PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    owner text NOT NULL,
    submit_key text,
    -- of the whole request: the same key with another body is refused
    digest bytea NOT NULL,
    state text NOT NULL DEFAULT 'QUEUED'
        CHECK (state IN ('PENDING', 'QUEUED', 'STAGING', 'RUNNING', 'ARCHIVING', 'FINISHED', 'FAILED', 'CANCELLED')),
    reason text,
    exit_code integer,
    name text,
    queue text NOT NULL,
    priority integer NOT NULL,
    cores integer NOT NULL,
    tags text[] NOT NULL,
    meta jsonb NOT NULL,
    spec jsonb NOT NULL,
    -- seconds between SIGTERM and SIGKILL; the reaper waits for it too
    grace double precision NOT NULL,
    requeue boolean NOT NULL,
    -- the fencing token: only the worker that made this attempt can finish it
    attempt integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL,
    -- attempts that ended because their worker was lost
    lost integer NOT NULL DEFAULT 0,
    worker_id uuid,
    cancel_requested_at timestamptz,
    cancel_reason text,
    -- who made the last change: an owner, or the name of a part of the server
    actor text NOT NULL,
    -- the ETag
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- when the state last changed
    changed_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    CHECK ((state IN ('STAGING', 'RUNNING', 'ARCHIVING')) = (worker_id IS NOT NULL)),
    CHECK (cancel_requested_at IS NULL OR worker_id IS NOT NULL)
) WITH (fillfactor = 85);

CREATE UNIQUE INDEX jobs_key ON jobs (owner, submit_key) WHERE submit_key IS NOT NULL;
CREATE INDEX jobs_owner ON jobs (owner, seq DESC);
CREATE INDEX jobs_active ON jobs (owner, state, seq DESC)
    WHERE state IN ('PENDING', 'QUEUED', 'STAGING', 'RUNNING', 'ARCHIVING');
CREATE INDEX jobs_queued ON jobs (changed_at) WHERE state = 'QUEUED';
CREATE INDEX jobs_worker ON jobs (worker_id) WHERE worker_id IS NOT NULL;

-- How far running jobs are. Apart from jobs, because it changes often and is no part of the record's version.
-- Unlogged: after a crash of Postgres the next report of a running job fills it again.
CREATE UNLOGGED TABLE progress (
    job_id uuid PRIMARY KEY,
    attempt integer NOT NULL,
    done double precision NOT NULL,
    total double precision,
    message text,
    at timestamptz NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
) WITH (fillfactor = 50);
CREATE INDEX progress_xid ON progress (xid);

-- The history, and the source of the stream of changes: xid says what was committed since a given snapshot, which a
-- plain sequence cannot, because transactions do not commit in the order of their numbers.
CREATE TABLE events (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    job_id uuid NOT NULL,
    owner text NOT NULL,
    state text NOT NULL,
    attempt integer NOT NULL,
    cancel_requested boolean NOT NULL,
    reason text,
    actor text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_job ON events (job_id, seq);
CREATE INDEX events_xid ON events (xid);

CREATE TABLE workers (
    id uuid PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    cores integer NOT NULL,
    -- none for all
    queues text[] NOT NULL,
    busy integer NOT NULL DEFAULT 0,
    running integer NOT NULL DEFAULT 0,
    -- takes no more jobs
    closing boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE tokens (
    id uuid PRIMARY KEY,
    hash bytea NOT NULL UNIQUE,
    name text NOT NULL,
    owner text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
CREATE INDEX tokens_owner ON tokens (owner, created_at);

-- One row of history and one notification for each change, however many jobs a statement touches: a notification takes
-- a lock that all commits of the database share, so it is sent once a statement, never once a row.
CREATE FUNCTION note_new_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (job_id, owner, state, attempt, cancel_requested, reason, actor)
        SELECT id, owner, state, attempt, cancel_requested_at IS NOT NULL, reason, actor FROM new_rows ORDER BY seq;
    NOTIFY hpcjobs_events;
    RETURN NULL;
END $$;

CREATE FUNCTION note_changed_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (job_id, owner, state, attempt, cancel_requested, reason, actor)
        SELECT n.id, n.owner, n.state, n.attempt, n.cancel_requested_at IS NOT NULL,
               CASE WHEN n.cancel_requested_at IS NOT NULL THEN n.cancel_reason ELSE n.reason END, n.actor
        FROM new_rows n ORDER BY n.seq;
    NOTIFY hpcjobs_events;
    RETURN NULL;
END $$;

-- What was deleted leaves nothing.
CREATE FUNCTION forget_deleted_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM events USING old_rows o WHERE events.job_id = o.id;
    DELETE FROM progress USING old_rows o WHERE progress.job_id = o.id;
    RETURN NULL;
END $$;

CREATE FUNCTION note_progress() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY hpcjobs_events;
    RETURN NULL;
END $$;

CREATE TRIGGER note_new AFTER INSERT ON jobs REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_new_jobs();
CREATE TRIGGER note_changed AFTER UPDATE ON jobs REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_changed_jobs();
CREATE TRIGGER forget_deleted AFTER DELETE ON jobs REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION forget_deleted_jobs();
CREATE TRIGGER note_progress AFTER INSERT OR UPDATE ON progress
    FOR EACH STATEMENT EXECUTE FUNCTION note_progress();
