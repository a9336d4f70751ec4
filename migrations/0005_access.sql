-- Whose a token is: the same for those that replaced each other.
ALTER TABLE tokens ADD COLUMN principal uuid;

-- Whose a client's deployment is; none: nobody's in particular.
ALTER TABLE holders ADD COLUMN owner uuid;

-- Whether tokens have changed: there are few, so all are read again.
ALTER TABLE changes ADD COLUMN tokens boolean NOT NULL DEFAULT false;

CREATE FUNCTION log_tokens() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO changes (tokens) VALUES (true);
    RETURN NULL;
END $$;
CREATE TRIGGER log_tokens AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tokens
    FOR EACH STATEMENT EXECUTE FUNCTION log_tokens();
