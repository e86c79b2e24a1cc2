-- What each charge of a day goes back to: the readings of the day and the frames that brought them. A row is an entry of
-- the ledger and a reading; an entry without any has one row. Registers are those at both midnights. Readings that charge
-- nothing are left out: those that came too late (quality bit 8) or whose time has not come (256), registers that are off
-- their midnight (4) or went back (128). Where a reading was revised, the value in force and its frame are shown; `known`
-- tells whether it was in force when the entry was booked: what came later is charged by a correction.
--
-- account_id      | -         | the account
-- account_number  | -         | number on the consumer's bill
-- usage_date      | civil day | day that is charged
-- position        | -         | record that made the entry
-- booked_at       | UTC       | when it was booked
-- kind            | -         | usage or correction
-- amount_rupees   | rupees    | what the entry takes from the balance
-- energy_kwh      | kWh       | energy the entry charges
-- tariff_digest   | -         | tariff version that rated it, hexadecimal
-- meter_id        | -         | the meter
-- reading         | -         | interval, opening_register, closing_register
-- read_at         | UTC       | end of the interval, or the midnight of the register
-- reading_kwh     | kWh       | energy of the interval, or the register
-- quality         | -         | bits of the reading's quality
-- frame_position  | -         | record of the frame that brought the reading
-- received_at     | UTC       | when the frame was received
-- source          | -         | the way it came
-- frame_digest    | -         | first 16 bytes of the BLAKE3 hash of the frame, hexadecimal
-- known           | -         | whether this value was in force when the entry was booked
WITH first_meter AS (
    SELECT account_id, min(meter_id) AS meter_id
    FROM meter
    WHERE account_id IS NOT NULL
    GROUP BY account_id
),

entry AS (
    SELECT
        p.account_id, a.account_number, m.meter_id, p.usage_date, p.position, p.booked_at, p.kind, p.amount_paise,
        p.energy_wh, p.tariff_digest
    FROM ledger_posting AS p
    LEFT JOIN account AS a ON a.account_id = p.account_id
    LEFT JOIN first_meter AS m ON m.account_id = p.account_id
    WHERE p.head = 'consumer' AND p.kind IN ('usage', 'correction')
),

midnight AS (
    SELECT meter_id, usage_date, read_at, import_wh, quality, position
    FROM daily_register
    WHERE import_wh IS NOT NULL AND (quality & (4 + 8 + 128)) = 0 AND ((quality & 256) = 0 OR read_at <= now())
),

reading AS (
    SELECT meter_id, usage_date, 'interval' AS reading, interval_end AS read_at, import_wh, quality, position
    FROM public.interval
    WHERE import_wh IS NOT NULL AND (quality & 8) = 0 AND ((quality & 256) = 0 OR interval_end <= now())
    UNION ALL
    SELECT meter_id, usage_date, 'closing_register', read_at, import_wh, quality, position
    FROM midnight
    UNION ALL
    SELECT
        meter_id, CAST(usage_date + INTERVAL '1 day' AS DATE), 'opening_register', read_at, import_wh, quality, position
    FROM midnight
),

-- A later value is in force from the record on that answered for its frame.
answer AS (
    SELECT meter_id, kind, interval_end, frame_position, max(position) AS position
    FROM interval_revision
    GROUP BY meter_id, kind, interval_end, frame_position
)

SELECT
    e.account_id,
    e.account_number,
    e.usage_date,
    e.position,
    e.booked_at,
    e.kind,
    rupees(-e.amount_paise) AS amount_rupees,
    kwh(e.energy_wh) AS energy_kwh,
    e.tariff_digest,
    e.meter_id,
    r.reading,
    r.read_at,
    kwh(r.import_wh) AS reading_kwh,
    r.quality,
    r.position AS frame_position,
    f.received_at,
    f.source,
    encode(f.digest, 'hex') AS frame_digest,
    coalesce(v.position, r.position) < e.position AS known
FROM entry AS e
LEFT JOIN reading AS r ON r.meter_id = e.meter_id AND r.usage_date = e.usage_date
LEFT JOIN frame AS f ON f.position = r.position
LEFT JOIN answer AS v
    ON v.frame_position = r.position AND v.meter_id = r.meter_id AND v.interval_end = r.read_at
    AND v.kind = CASE r.reading WHEN 'interval' THEN 'interval' ELSE 'daily' END
