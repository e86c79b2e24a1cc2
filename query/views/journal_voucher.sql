-- The ledger's entries of each civil day by kind and head: what the utility's books take over. Debit and credit of a day
-- are equal.
--
-- booked_on     | civil day | day on which the entries were booked
-- kind          | -         | what they are about: opening, recharge, usage, correction, arrears, reversal, suspense
-- head          | -         | account of the ledger
-- entries       | -         | number of lines
-- debit_rupees  | rupees    | sum of what they take from the consumers' balance, or from another head for it
-- credit_rupees | rupees    | sum of what they add to it
SELECT
    civil_day(booked_at) AS booked_on,
    kind,
    head,
    count(*) AS entries,
    rupees(coalesce(sum(-amount_paise) FILTER (WHERE amount_paise < 0), 0)) AS debit_rupees,
    rupees(coalesce(sum(amount_paise) FILTER (WHERE amount_paise > 0), 0)) AS credit_rupees
FROM ledger_posting
GROUP BY civil_day(booked_at), kind, head
