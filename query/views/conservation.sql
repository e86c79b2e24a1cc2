-- Whether every frame and every paisa is accounted for: one row for each way frames come, and their total. The
-- difference and the sum of postings are zero, or something was lost.
--
-- source         | -     | the way the frames came: tcp, udp, mqtt, waiting; total
-- received       | -     | frames received whole
-- stored         | -     | of these, brought a new value, a revision or an event
-- repeated       | -     | of these, redelivered or nothing new
-- quarantined    | -     | of these, kept as evidence without effect
-- refused        | -     | of these, turned away at a bound
-- contested      | -     | of these, waiting for the answer to a contested reading
-- difference     | -     | received less all others; zero
-- postings_paise | paise | sum of all postings over all heads, in the total only; zero
SELECT
    source, received, stored, repeated, quarantined, refused, contested,
    received - (stored + repeated + quarantined + refused + contested) AS difference,
    CAST(NULL AS BIGINT) AS postings_paise
FROM source_tally
UNION ALL
SELECT
    'total', tally.received, tally.stored, tally.repeated, tally.quarantined, tally.refused, tally.contested,
    tally.received - (tally.stored + tally.repeated + tally.quarantined + tally.refused + tally.contested),
    standing.trial_balance_paise
FROM (
    SELECT
        sum(received) AS received,
        sum(stored) AS stored,
        sum(repeated) AS repeated,
        sum(quarantined) AS quarantined,
        sum(refused) AS refused,
        sum(contested) AS contested
    FROM source_tally
) AS tally
CROSS JOIN system.standing AS standing
