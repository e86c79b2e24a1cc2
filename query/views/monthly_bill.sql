-- What stands on each account's bill of a month, line by line. A month that is not over is the bill so far.
--
-- account_id     | -         | the account
-- account_number | -         | number on the consumer's bill
-- month          | civil day | first day of the bill's month
-- kind           | -         | opening, recharge, reversal, usage, correction
-- of_month       | civil day | the month the line is for; of a correction mostly an earlier one
-- head           | -         | account of the ledger
-- entries        | -         | number of entries
-- energy_kwh     | kWh       | energy they charge, on the line of head energy
-- amount_rupees  | rupees    | what they add to the balance; a charge is below zero
SELECT
    account_id, account_number, month, kind, of_month, head,
    count(*) AS entries,
    sum(energy_kwh) AS energy_kwh,
    sum(amount_rupees) AS amount_rupees
FROM bill_entry
GROUP BY account_id, account_number, month, kind, of_month, head
