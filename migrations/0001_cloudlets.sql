-- What a cloudlet says of itself, and what was found out about its endpoint. Changes rarely.
CREATE TABLE cloudlets (
    id uuid PRIMARY KEY,
    -- As reported, without load and time.
    info json NOT NULL,
    -- Addresses of the endpoint's host, and where those are as [latitude, longitude].
    addresses json NOT NULL,
    places json NOT NULL,
    registered timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What every report renews. No index on what changes, and room in each page, so that renewals stay in their page.
CREATE TABLE pulses (
    id uuid PRIMARY KEY REFERENCES cloudlets ON DELETE CASCADE,
    resources json NOT NULL,
    -- Grows with every report of a cloudlet, by the clock of the database.
    heard timestamptz NOT NULL
) WITH (fillfactor = 50);

-- What replicas have to read again. Which entries are new to a reader is told by its last snapshot and `xid`, so that
-- the order of commits does not matter.
CREATE TABLE changes (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    -- The replica that knows this already; none: all have to read it.
    writer uuid,
    reported uuid[] NOT NULL DEFAULT '{}',
    members uuid[] NOT NULL DEFAULT '{}'
);
CREATE INDEX changes_xid ON changes (xid);

CREATE FUNCTION announce_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('sinfonia_changes', coalesce(NEW.writer::text, ''));
    RETURN NULL;
END $$;
CREATE TRIGGER announce_change AFTER INSERT ON changes FOR EACH ROW EXECUTE FUNCTION announce_change();

-- Whoever changes the membership, by whatever statement, is followed.
CREATE FUNCTION log_members() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO changes (members) SELECT array_agg(id) FROM touched HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER log_joined AFTER INSERT ON cloudlets
    REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION log_members();
CREATE TRIGGER log_changed AFTER UPDATE ON cloudlets
    REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION log_members();
CREATE TRIGGER log_gone AFTER DELETE ON cloudlets
    REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION log_members();

-- Since when reports could be taken without a gap: silence before that is not the cloudlets' own.
CREATE TABLE service (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    alive timestamptz NOT NULL DEFAULT clock_timestamp(),
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Changes that were visible then have been read by everybody a while later, and are removed.
    mark pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
    marked timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO service DEFAULT VALUES;
