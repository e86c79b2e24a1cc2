-- What each meter used on each civil day: energy, where the figure comes from, how complete the day is, the highest
-- demand and the charge booked for the day. Energy is the difference of the registers at the two midnights where both are
-- known, else the sum of the intervals. The charge is shown once, at the first meter of its account.
--
-- meter_id             | -         | the meter
-- account_id           | -         | the account it measures for
-- account_number       | -         | number on the consumer's bill
-- usage_date           | civil day | the day
-- import_kwh           | kWh       | energy imported; empty where neither registers nor intervals are known
-- source               | -         | where import_kwh comes from: register, intervals, none
-- intervals_expected   | -         | intervals the day has
-- intervals_present    | -         | intervals that are there
-- completeness         | -         | intervals present of those expected, 0 to 1
-- complete_until       | UTC       | end of the last interval of the day before the first one missing
-- max_demand_w         | W         | highest average power of an interval
-- charge_rupees        | rupees    | charge booked for the day, corrections included; empty while the day is not closed
-- interval_kwh         | kWh       | sum of the intervals that are there
-- opening_register_kwh | kWh       | register of energy imported at the start of the day
-- closing_register_kwh | kWh       | register of energy imported at the end of the day
WITH first_meter AS (
    SELECT account_id, min(meter_id) AS meter_id
    FROM meter
    WHERE account_id IS NOT NULL
    GROUP BY account_id
),

-- Registers at midnight. One below an earlier one (quality bit 128) is none to reckon with.
midnight AS (
    SELECT meter_id, usage_date, import_wh
    FROM daily_register
    WHERE (quality & (4 + 128)) = 0 AND ((quality & 256) = 0 OR read_at <= now())
),

-- What is known of a day, from four places. Off-grid readings (quality bit 4) are no slot and no midnight; readings of
-- the future (256), from a clock that is wrong, count once their time has come.
part AS (
    SELECT
        meter_id, usage_date,
        sum(import_wh) AS interval_wh,
        max(import_wh) AS highest_wh,
        count(import_wh) FILTER (WHERE (quality & 4) = 0) AS present,
        quarters(interval_end, usage_date) FILTER (WHERE import_wh IS NOT NULL) AS quarters,
        CAST(NULL AS BIGINT) AS opening_wh,
        CAST(NULL AS BIGINT) AS closing_wh,
        CAST(NULL AS BIGINT) AS charge_paise
    FROM public.interval
    WHERE (quality & 256) = 0 OR interval_end <= now()
    GROUP BY meter_id, usage_date
    UNION ALL
    SELECT meter_id, usage_date, NULL, NULL, NULL, NULL, NULL, import_wh, NULL
    FROM midnight
    UNION ALL
    SELECT meter_id, CAST(usage_date + INTERVAL '1 day' AS DATE), NULL, NULL, NULL, NULL, import_wh, NULL, NULL
    FROM midnight
    UNION ALL
    SELECT first_meter.meter_id, p.usage_date, NULL, NULL, NULL, NULL, NULL, NULL, -p.amount_paise
    FROM first_meter
    JOIN ledger_posting AS p ON p.account_id = first_meter.account_id
    WHERE p.head = 'consumer' AND p.kind IN ('usage', 'correction')
),

-- A register at the start of a day alone is no news of that day.
day AS (
    SELECT
        meter_id, usage_date,
        sum(interval_wh) AS interval_wh,
        max(highest_wh) AS highest_wh,
        coalesce(sum(present), 0) AS present,
        max(quarters) AS quarters,
        max(opening_wh) AS opening_wh,
        max(closing_wh) AS closing_wh,
        sum(charge_paise) AS charge_paise
    FROM part
    GROUP BY meter_id, usage_date
    HAVING max(present) IS NOT NULL OR max(closing_wh) IS NOT NULL OR max(charge_paise) IS NOT NULL
),

-- A register that went back (another meter, a fault) is no difference.
figure AS (
    SELECT
        *,
        CASE
            WHEN closing_wh >= opening_wh THEN 'register'
            WHEN interval_wh IS NOT NULL THEN 'intervals'
            ELSE 'none'
        END AS source
    FROM day
),

known_meter AS (
    SELECT meter.meter_id, meter.account_id, account.account_number, meter.period_s
    FROM meter
    LEFT JOIN account ON account.account_id = meter.account_id
)

SELECT
    f.meter_id,
    m.account_id,
    m.account_number,
    f.usage_date,
    kwh(CASE f.source WHEN 'register' THEN f.closing_wh - f.opening_wh WHEN 'intervals' THEN f.interval_wh END)
        AS import_kwh,
    f.source,
    intervals_of_day(f.usage_date, m.period_s) AS intervals_expected,
    f.present AS intervals_present,
    least(1.0, CAST(f.present AS DOUBLE) / intervals_of_day(f.usage_date, m.period_s)) AS completeness,
    complete_until(f.quarters, f.usage_date, m.period_s) AS complete_until,
    f.highest_wh * 3600 / m.period_s AS max_demand_w,
    rupees(f.charge_paise) AS charge_rupees,
    kwh(f.interval_wh) AS interval_kwh,
    kwh(f.opening_wh) AS opening_register_kwh,
    kwh(f.closing_wh) AS closing_register_kwh
FROM known_meter AS m
RIGHT JOIN figure AS f ON f.meter_id = m.meter_id
