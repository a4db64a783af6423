-- A list in any order, from any place in it, both ways: see store/sorting.py, whose clauses have the words of these
-- indexes. A b-tree is read in two orders only, one the reverse of the other. Where many jobs may have the same value,
-- the newest of them come first in both directions, and that takes an index for each; moments are nearly all different,
-- so one index serves both: the few that are alike are sorted as they are found.
--
-- The owner stands last, to be looked at without a look at the row: one owner's jobs are found by the order, and those
-- of others are passed over; where they are few, Postgres fetches them by jobs_owner and sorts them. An index for each
-- owner and order besides would be paid for at every change of every job, because a changed state is in an index and
-- so makes a new entry in all of them.
--
-- Jobs without a value are in them as well, and are read as a part of their own.
CREATE INDEX jobs_started ON jobs (started_at DESC NULLS LAST, seq DESC, owner);
CREATE INDEX jobs_finished ON jobs (finished_at DESC NULLS LAST, seq DESC, owner);
CREATE INDEX jobs_priority ON jobs (priority DESC NULLS LAST, seq DESC, owner);
CREATE INDEX jobs_priority_rising ON jobs (priority ASC NULLS FIRST, seq DESC, owner);
-- the order of the code points, as before, so that they find what a name begins with, too
CREATE INDEX jobs_named ON jobs (name text_pattern_ops DESC NULLS LAST, seq DESC, owner);
CREATE INDEX jobs_named_rising ON jobs (name text_pattern_ops ASC NULLS FIRST, seq DESC, owner);
-- what these were for is found by the new ones
DROP INDEX jobs_name, jobs_ended;
-- Of what has started nearly everything has ended, and of what has not ended nothing is finished; Postgres takes the two
-- for independent and would look through all that has started or finished. These have next to no entries.
CREATE INDEX jobs_started_active ON jobs (started_at DESC NULLS LAST, seq DESC, owner)
    WHERE started_at IS NOT NULL AND state IN ('PENDING', 'QUEUED', 'STAGING', 'RUNNING', 'PAUSED', 'ARCHIVING');
CREATE INDEX jobs_finished_active ON jobs (finished_at DESC NULLS LAST, seq DESC, owner)
    WHERE finished_at IS NOT NULL AND state IN ('PENDING', 'QUEUED', 'STAGING', 'RUNNING', 'PAUSED', 'ARCHIVING');

-- The jobs that waited for a job, when they wait no more; dependencies_parent stays, because whoever ends many jobs
-- looks for those that still wait, and they are few.
CREATE INDEX dependencies_children ON dependencies (parent_id, job_id);
