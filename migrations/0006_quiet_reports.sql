-- Reports alone wake nobody: they come all the time, replicas look for them twice a second, and a notification makes
-- commits wait for one another.
CREATE OR REPLACE FUNCTION announce_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.members <> '{}' OR NEW.held <> '{}' OR NEW.tokens THEN
        PERFORM pg_notify('sinfonia_changes', coalesce(NEW.writer::text, ''));
    END IF;
    RETURN NULL;
END $$;
