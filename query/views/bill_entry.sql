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
-- head           | -         | account of the ledger: energy, fixed, subsidy, surcharge, duty, rebate, minimum, green; cash of a recharge, arrears of what of it pays old dues off
-- amount_rupees  | rupees    | what it adds to the balance; a charge is below zero
-- energy_kwh     | kWh       | energy the entry charges, on its line of head energy
WITH line AS (
    SELECT
        p.*,
        CAST(date_trunc('month', p.usage_date) AS DATE) AS of_month,
        -- A day is closed on the next one.
        CAST(date_trunc('month', CAST(civil_day(p.booked_at) - INTERVAL '1 day' AS DATE)) AS DATE) AS booked_month
    FROM ledger_posting AS p
    WHERE p.kind <> 'arrears'
)

SELECT
    l.account_id,
    a.account_number,
    CASE WHEN l.kind = 'correction' THEN greatest(l.booked_month, l.of_month) ELSE l.of_month END AS month,
    l.position,
    l.kind,
    l.usage_date,
    l.of_month,
    l.head,
    rupees(-l.amount_paise) AS amount_rupees,
    CASE WHEN l.head = 'energy' THEN kwh(c.energy_wh) END AS energy_kwh
FROM line AS l
LEFT JOIN ledger_posting AS c
    ON c.position = l.position AND c.account_id = l.account_id AND c.usage_date = l.usage_date AND c.head = 'consumer'
LEFT JOIN account AS a ON a.account_id = l.account_id
WHERE l.head <> 'consumer'
