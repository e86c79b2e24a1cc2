-- What is needed to ask a meter besides its keys.
CREATE TABLE meter_access (
    meter_id        INTEGER PRIMARY KEY REFERENCES meter (id),
    address         TEXT NOT NULL, -- host:port where the meter is dialled; empty where it dials itself
    wrapped_secrets BLOB NOT NULL  -- title, password, secret of HLS, master key under the data key (RFC 3394)
) STRICT;

-- Invocation counters that were reserved for sending: everything below the bound may have been used. A counter belongs
-- to a key and to the system title of a client, which has one of its own for each client address.
CREATE TABLE send_counter (
    meter_id  INTEGER NOT NULL REFERENCES meter (id),
    key_epoch INTEGER NOT NULL,
    client    INTEGER NOT NULL,
    bound     INTEGER NOT NULL,
    PRIMARY KEY (meter_id, key_epoch, client)
) STRICT, WITHOUT ROWID;
