-- How a meter is asked, as its import said it; empty where it said nothing.
ALTER TABLE meter_access ADD COLUMN client       TEXT NOT NULL DEFAULT ''; -- address of the client that the head-end is
ALTER TABLE meter_access ADD COLUMN mechanism    TEXT NOT NULL DEFAULT ''; -- how that client proves who it is
ALTER TABLE meter_access ADD COLUMN reader       TEXT NOT NULL DEFAULT ''; -- when reads go as the meter reader
ALTER TABLE meter_access ADD COLUMN framing      TEXT NOT NULL DEFAULT ''; -- wrapper or hdlc
ALTER TABLE meter_access ADD COLUMN hdlc_address TEXT NOT NULL DEFAULT ''; -- of the meter in hdlc
ALTER TABLE meter_access ADD COLUMN block_window TEXT NOT NULL DEFAULT ''; -- blocks of a general block transfer at once

-- The highest invocation counter that was accepted from the meter for this client, where no challenge makes an answer
-- fresh; nothing where that was never needed.
ALTER TABLE send_counter ADD COLUMN received INTEGER;
