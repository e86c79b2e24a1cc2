-- Lines of the ledger by the bill they stand on. Money stands on the bill of its own month, a day's charge on that of the
-- day's month, and what came late for a month whose bill was made on the next one: a bill is never changed, and each line
-- stands on one bill alone. The lines of a bill add up to what it changes the balance by.
--
-- account_id     | -         | the account
-- account_number | -         | number on the consumer's bill
-- month          | civil day | first day of the bill's month
-- position       | -         | record that made the entry
-- kind           | -         | opening, recharge, reversal, usage, correction
-- usage_date     | civil day | civil day charged, or the day of the money
-- of_month       | civil day | first day of the month of that day; a correction's is mostly an earlier one
-- head           | -         | account of the ledger: energy, fixed, subsidy, surcharge, duty, rebate, minimum, green; cash of a recharge, suspense of one that was assigned to the account later or went to another one, arrears of what of it pays old dues off
-- amount_rupees  | rupees    | what it adds to the balance; a charge is below zero
-- energy_kwh     | kWh       | energy the entry charges, on its line of head energy
WITH line AS (
    -- What an entry of days charges for energy stands on its consumer line, also where it costs nothing.
    SELECT
        c.position, c.booked_at, c.account_id, c.kind, c.usage_date, 'energy' AS head,
        coalesce(e.amount_paise, 0) AS amount_paise, c.energy_wh
    FROM ledger_posting AS c
    LEFT JOIN ledger_posting AS e
        ON e.position = c.position AND e.account_id = c.account_id AND e.usage_date = c.usage_date AND e.head = 'energy'
    WHERE c.head = 'consumer' AND c.kind IN ('usage', 'correction')
    UNION ALL
    SELECT
        position, booked_at, account_id, kind, usage_date, head, amount_paise, CAST(NULL AS BIGINT) AS energy_wh
    FROM ledger_posting
    WHERE head NOT IN ('consumer', 'energy') AND kind <> 'arrears' AND account_id <> 0
),

dated AS (
    SELECT
        *,
        CAST(date_trunc('month', usage_date) AS DATE) AS of_month,
        -- A day is closed on the next one.
        CAST(date_trunc('month', CAST(civil_day(booked_at) - INTERVAL '1 day' AS DATE)) AS DATE) AS booked_month
    FROM line
)

SELECT
    d.account_id,
    a.account_number,
    CASE WHEN d.kind = 'correction' THEN greatest(d.booked_month, d.of_month) ELSE d.of_month END AS month,
    d.position,
    d.kind,
    d.usage_date,
    d.of_month,
    d.head,
    rupees(-d.amount_paise) AS amount_rupees,
    kwh(d.energy_wh) AS energy_kwh
FROM dated AS d
LEFT JOIN account AS a ON a.account_id = d.account_id
