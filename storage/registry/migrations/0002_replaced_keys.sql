-- Keys that were replaced: frames under them may still be on their way.
CREATE TABLE replaced_key (
    meter_id     INTEGER NOT NULL REFERENCES meter (id),
    key_epoch    INTEGER NOT NULL,
    wrapped_keys BLOB NOT NULL,    -- as in meter
    taken_until  INTEGER NOT NULL, -- microseconds since 1970, UTC: how long, once the meter has used newer keys
    PRIMARY KEY (meter_id, key_epoch)
) STRICT, WITHOUT ROWID;

-- Which of a meter's successive keys it is. A key that was used once is never taken again.
ALTER TABLE meter_key ADD COLUMN key_epoch INTEGER NOT NULL DEFAULT 1;
