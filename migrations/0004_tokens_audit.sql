-- Who may do what. Tokens themselves are nowhere, only their SHA-256.
CREATE TABLE tokens (
    id uuid PRIMARY KEY,
    hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    name text NOT NULL,
    scopes text[] NOT NULL,
    -- The only cloudlet it may report for; none: any.
    cloudlet uuid,
    -- The only recipes it may deploy; none: those that are not restricted.
    recipes uuid[],
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires timestamptz,
    revoked timestamptz
);

-- Administrative actions.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    detail json
);
CREATE INDEX audit_at ON audit (at);
