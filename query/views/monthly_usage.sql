-- What each meter used in each calendar month. Between the first and the last register known in the month energy is
-- their difference, whatever is missing between them; the days before and after are added as daily_usage has them.
--
-- meter_id           | -         | the meter
-- account_id         | -         | the account it measures for
-- account_number     | -         | number on the consumer's bill
-- month              | civil day | first day of the month
-- import_kwh         | kWh       | energy imported, as far as it is known
-- days_by_register   | -         | days whose figure is a difference of registers
-- days_by_intervals  | -         | days whose figure is the sum of intervals
-- days_unknown       | -         | days that are known but without a figure
-- intervals_expected | -         | intervals the known days have
-- intervals_present  | -         | intervals that are there
-- completeness       | -         | intervals present of those expected, 0 to 1
-- max_demand_w       | W         | highest average power of an interval
-- charge_rupees      | rupees    | charge booked for the days of the month, corrections included
WITH day AS (
    SELECT
        *,
        CAST(date_trunc('month', usage_date) AS DATE) AS month,
        -- A register at the start of a day stands before the day, one at its end after it.
        CASE
            WHEN opening_register_kwh IS NOT NULL THEN usage_date
            WHEN closing_register_kwh IS NOT NULL THEN CAST(usage_date + INTERVAL '1 day' AS DATE)
        END AS first_at,
        CASE
            WHEN closing_register_kwh IS NOT NULL THEN CAST(usage_date + INTERVAL '1 day' AS DATE)
            WHEN opening_register_kwh IS NOT NULL THEN usage_date
        END AS last_at
    FROM daily_usage
),

bounded AS (
    SELECT
        *,
        min(first_at) OVER (PARTITION BY meter_id, month) AS first_register_at,
        max(last_at) OVER (PARTITION BY meter_id, month) AS last_register_at
    FROM day
),

month AS (
    SELECT
        meter_id, account_id, account_number, month,
        sum(import_kwh) AS by_days,
        sum(import_kwh) FILTER (WHERE usage_date < first_register_at OR usage_date >= last_register_at) AS outside,
        max(CASE WHEN last_at = last_register_at THEN coalesce(closing_register_kwh, opening_register_kwh) END)
            - max(CASE WHEN first_at = first_register_at THEN coalesce(opening_register_kwh, closing_register_kwh) END)
            AS by_registers,
        max(last_register_at) > min(first_register_at) AS between_registers,
        count(*) FILTER (WHERE source = 'register') AS days_by_register,
        count(*) FILTER (WHERE source = 'intervals') AS days_by_intervals,
        count(*) FILTER (WHERE source = 'none') AS days_unknown,
        sum(intervals_expected) AS intervals_expected,
        sum(intervals_present) AS intervals_present,
        max(max_demand_w) AS max_demand_w,
        sum(charge_rupees) AS charge_rupees
    FROM bounded
    GROUP BY meter_id, account_id, account_number, month
)

SELECT
    meter_id, account_id, account_number, month,
    CASE WHEN between_registers AND by_registers >= 0 THEN by_registers + coalesce(outside, 0) ELSE by_days END
        AS import_kwh,
    days_by_register, days_by_intervals, days_unknown,
    intervals_expected, intervals_present,
    least(1.0, CAST(intervals_present AS DOUBLE) / nullif(intervals_expected, 0)) AS completeness,
    max_demand_w, charge_rupees
FROM month
