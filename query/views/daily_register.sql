-- Registers the meters captured at midnight (daily load profile), each key once, with the values in force: per channel
-- the value of the highest rank among all that were received, never the last to arrive.
--
-- position         | -         | frame that brought the value in force; where several did, the one of the highest rank
-- meter_id         | -         | the meter
-- read_at          | UTC       | when the registers were captured; midnight closes the day before
-- usage_date       | civil day | civil day the registers close
-- revisions        | -         | number of later, different values that were received
-- import_kwh       | kWh       | register of active energy imported
-- deviation_min    | min       | deviation from UTC as the meter sent it; empty when not specified
-- clock_status     | -         | clock status byte as the meter sent it; 255 when not specified
-- quality          | -         | bits: 1 clock_doubtful, 2 deviation_unexpected, 4 off_grid, 8 too_late, 16 counter_late, 32 unauthenticated, 64 estimated, 128 register_went_back, 256 future, 512 clock_drift
-- import_wh        | Wh        | active energy imported
-- export_wh        | Wh        | active energy exported
-- import_vah       | VAh       | apparent energy imported
-- export_vah       | VAh       | apparent energy exported
-- demand_w         | W         | register of maximum active demand
-- demand_va        | VA        | register of maximum apparent demand
-- reactive_q1_varh | varh      | reactive energy of quadrant 1
-- reactive_q2_varh | varh      | reactive energy of quadrant 2
-- reactive_q3_varh | varh      | reactive energy of quadrant 3
-- reactive_q4_varh | varh      | reactive energy of quadrant 4
-- other_channels   | -         | channels without a column here, as a JSON object of integers
WITH revision AS (
    SELECT *
    FROM interval_revision
    WHERE kind = 'daily'
),

-- All values of the few keys that have more than one: the first, ranked by the frame that brought it, and the later.
candidate AS (
    SELECT
        r.position, r.meter_id, r.read_at, r.usage_date,
        r.deviation_min, r.clock_status, r.quality,
        CASE WHEN (r.quality & 64) = 64 THEN 1 ELSE 2 END AS rank_class,
        coalesce(f.key_epoch, 0) AS key_epoch,
        coalesce(f.counter, 0) AS counter,
        coalesce(f.digest, X'') AS frame_digest,
        r.import_wh, r.export_wh, r.import_vah, r.export_vah, r.demand_w, r.demand_va, r.reactive_q1_varh,
        r.reactive_q2_varh, r.reactive_q3_varh, r.reactive_q4_varh, r.other_channels
    FROM (SELECT DISTINCT meter_id, interval_end, usage_date FROM revision) AS revised
    JOIN daily_reading AS r
        ON r.meter_id = revised.meter_id AND r.read_at = revised.interval_end AND r.usage_date = revised.usage_date
    LEFT JOIN frame AS f ON f.position = r.position
    UNION ALL
    SELECT
        frame_position, meter_id, interval_end, usage_date,
        deviation_min, clock_status, quality,
        rank_class, key_epoch, counter, frame_digest,
        import_wh, export_wh, import_vah, export_vah, demand_w, demand_va, reactive_q1_varh,
        reactive_q2_varh, reactive_q3_varh, reactive_q4_varh, other_channels
    FROM revision
),

ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY meter_id, read_at, usage_date
            ORDER BY rank_class DESC, key_epoch DESC, counter DESC, frame_digest DESC, position DESC
        ) AS place
    FROM candidate
),

-- Per channel the value of the highest rank that has one.
settled AS (
    SELECT
        first_value(position ORDER BY place) AS position,
        meter_id, read_at, usage_date,
        count(*) - 1 AS revisions,
        first_value(deviation_min ORDER BY place) AS deviation_min,
        first_value(clock_status ORDER BY place) AS clock_status,
        first_value(quality ORDER BY place) AS quality,
        first_value(import_wh ORDER BY place) FILTER (WHERE import_wh IS NOT NULL) AS import_wh,
        first_value(export_wh ORDER BY place) FILTER (WHERE export_wh IS NOT NULL) AS export_wh,
        first_value(import_vah ORDER BY place) FILTER (WHERE import_vah IS NOT NULL) AS import_vah,
        first_value(export_vah ORDER BY place) FILTER (WHERE export_vah IS NOT NULL) AS export_vah,
        first_value(demand_w ORDER BY place) FILTER (WHERE demand_w IS NOT NULL) AS demand_w,
        first_value(demand_va ORDER BY place) FILTER (WHERE demand_va IS NOT NULL) AS demand_va,
        first_value(reactive_q1_varh ORDER BY place) FILTER (WHERE reactive_q1_varh IS NOT NULL) AS reactive_q1_varh,
        first_value(reactive_q2_varh ORDER BY place) FILTER (WHERE reactive_q2_varh IS NOT NULL) AS reactive_q2_varh,
        first_value(reactive_q3_varh ORDER BY place) FILTER (WHERE reactive_q3_varh IS NOT NULL) AS reactive_q3_varh,
        first_value(reactive_q4_varh ORDER BY place) FILTER (WHERE reactive_q4_varh IS NOT NULL) AS reactive_q4_varh,
        first_value(other_channels ORDER BY place) FILTER (WHERE other_channels IS NOT NULL) AS other_channels
    FROM ranked
    GROUP BY meter_id, read_at, usage_date
)

SELECT
    position, meter_id, read_at, usage_date, 0 AS revisions, kwh(import_wh) AS import_kwh,
    deviation_min, clock_status, quality,
    import_wh, export_wh, import_vah, export_vah, demand_w, demand_va, reactive_q1_varh, reactive_q2_varh,
    reactive_q3_varh, reactive_q4_varh, other_channels
FROM daily_reading AS r
WHERE NOT EXISTS (
    SELECT 1
    FROM revision AS v
    WHERE v.meter_id = r.meter_id AND v.interval_end = r.read_at AND v.usage_date = r.usage_date
)
UNION ALL
SELECT
    position, meter_id, read_at, usage_date, revisions, kwh(import_wh),
    deviation_min, clock_status, quality,
    import_wh, export_wh, import_vah, export_vah, demand_w, demand_va, reactive_q1_varh, reactive_q2_varh,
    reactive_q3_varh, reactive_q4_varh, other_channels
FROM settled
