-- Which cloudlets hold a client's deployment, so that every replica leads it there.
CREATE TABLE holders (
    application uuid NOT NULL,
    key bytea NOT NULL CHECK (length(key) = 32),
    -- {"chosen": [cloudlet], "doubtful": [cloudlet]}
    holding json NOT NULL,
    used timestamptz NOT NULL,
    PRIMARY KEY (application, key)
);
CREATE INDEX holders_used ON holders (used);

-- Changed holders: application and key, 48 bytes.
ALTER TABLE changes ADD COLUMN held bytea[] NOT NULL DEFAULT '{}';
