-- What was booked on each account, in its order, with the balance after each entry: openings, recharges, days, corrections.
--
-- account_id     | -         | the account
-- account_number | -         | number on the consumer's bill
-- position       | -         | record that made the entry
-- booked_at      | UTC       | when it was booked
-- kind           | -         | what the entry is about: opening, recharge, reversal, usage, correction
-- usage_date     | civil day | civil day charged, or the day of the money
-- energy_kwh     | kWh       | energy the entry charges
-- amount_rupees  | rupees    | what it adds to the balance; a charge is below zero
-- balance_rupees | rupees    | sum of the account's entries so far
-- payment_id     | -         | id of the payment at its source, for a recharge and its reversal
SELECT
    p.account_id,
    a.account_number,
    p.position,
    p.booked_at,
    p.kind,
    p.usage_date,
    kwh(p.energy_wh) AS energy_kwh,
    rupees(p.amount_paise) AS amount_rupees,
    rupees(sum(p.amount_paise) OVER (
        PARTITION BY p.account_id
        ORDER BY p.position, p.line
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )) AS balance_rupees,
    p.payment_id
FROM ledger_posting AS p
LEFT JOIN account AS a ON a.account_id = p.account_id
WHERE p.head = 'consumer'
