-- The ledger by head, from all postings. The amounts add up to zero.
--
-- head          | -      | account of the ledger
-- postings      | -      | number of lines
-- amount_rupees | rupees | sum of the lines
SELECT head, count(*) AS postings, rupees(sum(amount_paise)) AS amount_rupees
FROM ledger_posting
GROUP BY head
