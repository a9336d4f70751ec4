-- History of what cloudlets reported. Partitions are one day (UTC) each, made ahead and dropped by tier1.
CREATE TABLE metrics (
    cloudlet uuid NOT NULL,
    at timestamptz NOT NULL,
    resources json NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX metrics_cloudlet_at ON metrics (cloudlet, at);

-- When the history got its last entry.
ALTER TABLE pulses ADD COLUMN sampled timestamptz NOT NULL DEFAULT '-infinity';
