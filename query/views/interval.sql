-- Intervals of the meters (block load profile), each key once, with the values in force: per channel the value of the
-- highest rank among all that were received (edit over on demand over push over estimate, then key epoch and counter,
-- then digest), never the last to arrive. Interval is a word of SQL too: give the view an alias to qualify its columns.
--
-- position           | -         | frame that brought the value in force; where several did, the one of the highest rank
-- meter_id           | -         | the meter
-- interval_end       | UTC       | end of the interval
-- usage_date         | civil day | civil day the interval is counted to: the day of the instant just before its end
-- revisions          | -         | number of later, different values that were received
-- import_kwh         | kWh       | active energy imported in the interval
-- deviation_min      | min       | deviation from UTC as the meter sent it; empty when not specified
-- clock_status       | -         | clock status byte as the meter sent it; 255 when not specified
-- quality            | -         | bits: 1 clock_doubtful, 2 deviation_unexpected, 4 off_grid, 8 too_late, 16 counter_late, 32 unauthenticated, 64 estimated, 128 register_went_back, 256 future, 512 clock_drift
-- import_wh          | Wh        | active energy imported
-- export_wh          | Wh        | active energy exported
-- import_vah         | VAh       | apparent energy imported
-- export_vah         | VAh       | apparent energy exported
-- voltage_dv         | 0.1 V     | voltage of a single-phase meter
-- voltage_r_dv       | 0.1 V     | voltage of phase R
-- voltage_y_dv       | 0.1 V     | voltage of phase Y
-- voltage_b_dv       | 0.1 V     | voltage of phase B
-- current_ma         | mA        | phase current of a single-phase meter
-- neutral_current_ma | mA        | neutral current
-- current_r_ma       | mA        | current of phase R
-- current_y_ma       | mA        | current of phase Y
-- current_b_ma       | mA        | current of phase B
-- power_factor_milli | 0.001     | power factor, signed
-- reactive_q1_varh   | varh      | reactive energy of quadrant 1
-- reactive_q2_varh   | varh      | reactive energy of quadrant 2
-- reactive_q3_varh   | varh      | reactive energy of quadrant 3
-- reactive_q4_varh   | varh      | reactive energy of quadrant 4
-- meter_health       | -         | meter health indicator, as the meter gives it
-- other_channels     | -         | channels without a column here, as a JSON object of integers
WITH revision AS (
    SELECT *
    FROM interval_revision
    WHERE kind = 'interval'
),

-- All values of the few keys that have more than one: the first, ranked by the frame that brought it, and the later.
candidate AS (
    SELECT
        r.position, r.meter_id, r.interval_end, r.usage_date,
        r.deviation_min, r.clock_status, r.quality,
        CASE WHEN (r.quality & 64) = 64 THEN 1 ELSE 2 END AS rank_class,
        coalesce(f.key_epoch, 0) AS key_epoch,
        coalesce(f.counter, 0) AS counter,
        coalesce(f.digest, X'') AS frame_digest,
        r.import_wh, r.export_wh, r.import_vah, r.export_vah, r.voltage_dv, r.voltage_r_dv, r.voltage_y_dv,
        r.voltage_b_dv, r.current_ma, r.neutral_current_ma, r.current_r_ma, r.current_y_ma, r.current_b_ma,
        r.power_factor_milli, r.reactive_q1_varh, r.reactive_q2_varh, r.reactive_q3_varh, r.reactive_q4_varh,
        r.meter_health, r.other_channels
    FROM (SELECT DISTINCT meter_id, interval_end, usage_date FROM revision) AS revised
    JOIN interval_reading AS r
        ON r.meter_id = revised.meter_id AND r.interval_end = revised.interval_end AND r.usage_date = revised.usage_date
    LEFT JOIN frame AS f ON f.position = r.position
    UNION ALL
    SELECT
        frame_position, meter_id, interval_end, usage_date,
        deviation_min, clock_status, quality,
        rank_class, key_epoch, counter, frame_digest,
        import_wh, export_wh, import_vah, export_vah, voltage_dv, voltage_r_dv, voltage_y_dv, voltage_b_dv,
        current_ma, neutral_current_ma, current_r_ma, current_y_ma, current_b_ma, power_factor_milli,
        reactive_q1_varh, reactive_q2_varh, reactive_q3_varh, reactive_q4_varh, meter_health, other_channels
    FROM revision
),

ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY meter_id, interval_end, usage_date
            ORDER BY rank_class DESC, key_epoch DESC, counter DESC, frame_digest DESC, position DESC
        ) AS place
    FROM candidate
),

-- Per channel the value of the highest rank that has one.
settled AS (
    SELECT
        first_value(position ORDER BY place) AS position,
        meter_id, interval_end, usage_date,
        count(*) - 1 AS revisions,
        first_value(deviation_min ORDER BY place) AS deviation_min,
        first_value(clock_status ORDER BY place) AS clock_status,
        first_value(quality ORDER BY place) AS quality,
        first_value(import_wh ORDER BY place) FILTER (WHERE import_wh IS NOT NULL) AS import_wh,
        first_value(export_wh ORDER BY place) FILTER (WHERE export_wh IS NOT NULL) AS export_wh,
        first_value(import_vah ORDER BY place) FILTER (WHERE import_vah IS NOT NULL) AS import_vah,
        first_value(export_vah ORDER BY place) FILTER (WHERE export_vah IS NOT NULL) AS export_vah,
        first_value(voltage_dv ORDER BY place) FILTER (WHERE voltage_dv IS NOT NULL) AS voltage_dv,
        first_value(voltage_r_dv ORDER BY place) FILTER (WHERE voltage_r_dv IS NOT NULL) AS voltage_r_dv,
        first_value(voltage_y_dv ORDER BY place) FILTER (WHERE voltage_y_dv IS NOT NULL) AS voltage_y_dv,
        first_value(voltage_b_dv ORDER BY place) FILTER (WHERE voltage_b_dv IS NOT NULL) AS voltage_b_dv,
        first_value(current_ma ORDER BY place) FILTER (WHERE current_ma IS NOT NULL) AS current_ma,
        first_value(neutral_current_ma ORDER BY place) FILTER (WHERE neutral_current_ma IS NOT NULL) AS neutral_current_ma,
        first_value(current_r_ma ORDER BY place) FILTER (WHERE current_r_ma IS NOT NULL) AS current_r_ma,
        first_value(current_y_ma ORDER BY place) FILTER (WHERE current_y_ma IS NOT NULL) AS current_y_ma,
        first_value(current_b_ma ORDER BY place) FILTER (WHERE current_b_ma IS NOT NULL) AS current_b_ma,
        first_value(power_factor_milli ORDER BY place) FILTER (WHERE power_factor_milli IS NOT NULL) AS power_factor_milli,
        first_value(reactive_q1_varh ORDER BY place) FILTER (WHERE reactive_q1_varh IS NOT NULL) AS reactive_q1_varh,
        first_value(reactive_q2_varh ORDER BY place) FILTER (WHERE reactive_q2_varh IS NOT NULL) AS reactive_q2_varh,
        first_value(reactive_q3_varh ORDER BY place) FILTER (WHERE reactive_q3_varh IS NOT NULL) AS reactive_q3_varh,
        first_value(reactive_q4_varh ORDER BY place) FILTER (WHERE reactive_q4_varh IS NOT NULL) AS reactive_q4_varh,
        first_value(meter_health ORDER BY place) FILTER (WHERE meter_health IS NOT NULL) AS meter_health,
        first_value(other_channels ORDER BY place) FILTER (WHERE other_channels IS NOT NULL) AS other_channels
    FROM ranked
    GROUP BY meter_id, interval_end, usage_date
)

SELECT
    position, meter_id, interval_end, usage_date, 0 AS revisions, kwh(import_wh) AS import_kwh,
    deviation_min, clock_status, quality,
    import_wh, export_wh, import_vah, export_vah, voltage_dv, voltage_r_dv, voltage_y_dv, voltage_b_dv,
    current_ma, neutral_current_ma, current_r_ma, current_y_ma, current_b_ma, power_factor_milli,
    reactive_q1_varh, reactive_q2_varh, reactive_q3_varh, reactive_q4_varh, meter_health, other_channels
FROM interval_reading AS r
WHERE NOT EXISTS (
    SELECT 1
    FROM revision AS v
    WHERE v.meter_id = r.meter_id AND v.interval_end = r.interval_end AND v.usage_date = r.usage_date
)
UNION ALL
SELECT
    position, meter_id, interval_end, usage_date, revisions, kwh(import_wh),
    deviation_min, clock_status, quality,
    import_wh, export_wh, import_vah, export_vah, voltage_dv, voltage_r_dv, voltage_y_dv, voltage_b_dv,
    current_ma, neutral_current_ma, current_r_ma, current_y_ma, current_b_ma, power_factor_milli,
    reactive_q1_varh, reactive_q2_varh, reactive_q3_varh, reactive_q4_varh, meter_health, other_channels
FROM settled
