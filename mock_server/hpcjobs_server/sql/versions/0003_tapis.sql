ALTER TABLE jobs
    -- left out where the Tapis API lists jobs
    ADD COLUMN hidden boolean NOT NULL DEFAULT false;

ALTER TABLE tokens
    -- the token that this one was got with; it goes with it
    ADD COLUMN parent_id uuid REFERENCES tokens (id) ON DELETE CASCADE,
    -- of no use but to get another token with
    ADD COLUMN refreshes boolean NOT NULL DEFAULT false;
CREATE INDEX tokens_parent ON tokens (parent_id) WHERE parent_id IS NOT NULL;
