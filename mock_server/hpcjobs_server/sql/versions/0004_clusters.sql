ALTER TABLE jobs
    -- the kind of cluster that its present attempt was handed to; NULL where a worker runs it itself
    ADD COLUMN cluster text,
    -- the cluster's own id of it, as soon as it is known
    ADD COLUMN cluster_job text,
    -- whether a cancel is also for work that has started
    ADD COLUMN cancel_abort boolean NOT NULL DEFAULT true,
    DROP CONSTRAINT jobs_state_check,
    ADD CONSTRAINT jobs_state_check CHECK (state IN (
        'PENDING', 'QUEUED', 'STAGING', 'RUNNING', 'PAUSED', 'ARCHIVING', 'FINISHED', 'FAILED', 'CANCELLED')),
    DROP CONSTRAINT jobs_check,
    -- a job that waits in a cluster's queue is QUEUED and has a worker, which watches it
    ADD CONSTRAINT jobs_check CHECK (CASE WHEN worker_id IS NULL
        THEN state NOT IN ('STAGING', 'RUNNING', 'PAUSED', 'ARCHIVING')
        ELSE state IN ('STAGING', 'RUNNING', 'PAUSED', 'ARCHIVING') OR (state = 'QUEUED' AND cluster IS NOT NULL) END);

CREATE INDEX jobs_cluster ON jobs (cluster) WHERE worker_id IS NOT NULL AND cluster IS NOT NULL;

ALTER TABLE workers
    -- the kind of cluster that it hands jobs to; its cores are the jobs that it hands over at once
    ADD COLUMN cluster text;

-- As before, but for jobs that a cluster has in its queue already.
CREATE OR REPLACE FUNCTION issue_tickets(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM procrastinate_defer_jobs_v1(array_agg(
        ROW(j.queue, 'hpcjobs.run', j.priority, NULL, j.id || ':' || j.attempt,
            jsonb_build_object('job', j.id, 'attempt', j.attempt, 'cores', j.cores, 'queue', j.queue),
            j.start_at
        )::procrastinate_job_to_defer_v1 ORDER BY j.seq))
    FROM jobs j
    WHERE j.id = ANY(ids) AND j.worker_id IS NULL
      AND (j.state = 'QUEUED' OR (j.state = 'PENDING' AND j.waiting_for = 0))
      AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs p
                      WHERE p.queueing_lock = j.id || ':' || j.attempt AND p.status = 'todo')
    HAVING count(*) > 0;
EXCEPTION WHEN unique_violation THEN
    NULL;
END $$;

CREATE OR REPLACE FUNCTION admit(name_ text) RETURNS void LANGUAGE plpgsql AS $$
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
            SELECT j.id FROM jobs j WHERE j.state = 'QUEUED' AND j.queue = name_ AND j.worker_id IS NULL
              AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs p
                              WHERE p.queueing_lock = j.id || ':' || j.attempt AND p.status = 'todo')
              AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs p
                              WHERE p.queueing_lock = j.id || ':' || j.attempt AND p.status = 'doing')
            ORDER BY j.priority DESC, j.seq LIMIT room));
    END IF;
END $$;
