-- What each division of the utility was charged for and paid, by the month in which it was booked. Money in suspense belongs
-- to no division: `trial_balance` has it.
--
-- month              | civil day | first day of the month of booking
-- division           | -         | division of the accounts; their distribution company where they have none
-- accounts           | -         | accounts with an entry in the month
-- energy_kwh         | kWh       | energy that was charged, corrections included
-- energy_rupees      | rupees    | energy charge, gross
-- fixed_rupees       | rupees    | fixed charge
-- minimum_rupees     | rupees    | what was missing to the minimum charge
-- green_rupees       | rupees    | adder for energy of renewable sources
-- subsidy_rupees     | rupees    | government subsidy, below zero
-- surcharge_rupees   | rupees    | fuel and power purchase adjustment surcharge
-- duty_rupees        | rupees    | electricity duty
-- rebate_rupees      | rupees    | prepaid rebate, below zero
-- charged_rupees     | rupees    | all of these: what the consumers were charged
-- received_rupees    | rupees    | recharges less what went back
-- paid_off_rupees    | rupees    | what of that paid old dues off
WITH entry AS (
    SELECT
        CAST(date_trunc('month', civil_day(p.booked_at)) AS DATE) AS month,
        a.division,
        p.account_id,
        p.head,
        p.amount_paise,
        CASE WHEN p.kind IN ('usage', 'correction') THEN 'charge' ELSE 'money' END AS kind,
        p.energy_wh
    FROM ledger_posting AS p
    JOIN account AS a ON a.account_id = p.account_id
    WHERE p.kind IN ('usage', 'correction', 'recharge', 'reversal')
)

SELECT
    month,
    division,
    count(DISTINCT account_id) AS accounts,
    kwh(sum(energy_wh)) AS energy_kwh,
    rupees(coalesce(sum(amount_paise) FILTER (WHERE head = 'energy'), 0)) AS energy_rupees,
    rupees(coalesce(sum(amount_paise) FILTER (WHERE head = 'fixed'), 0)) AS fixed_rupees,
    rupees(coalesce(sum(amount_paise) FILTER (WHERE head = 'minimum'), 0)) AS minimum_rupees,
    rupees(coalesce(sum(amount_paise) FILTER (WHERE head = 'green'), 0)) AS green_rupees,
    rupees(coalesce(sum(amount_paise) FILTER (WHERE head = 'subsidy'), 0)) AS subsidy_rupees,
    rupees(coalesce(sum(amount_paise) FILTER (WHERE head = 'surcharge'), 0)) AS surcharge_rupees,
    rupees(coalesce(sum(amount_paise) FILTER (WHERE head = 'duty'), 0)) AS duty_rupees,
    rupees(coalesce(sum(amount_paise) FILTER (WHERE head = 'rebate'), 0)) AS rebate_rupees,
    rupees(coalesce(-sum(amount_paise) FILTER (WHERE kind = 'charge' AND head = 'consumer'), 0)) AS charged_rupees,
    rupees(coalesce(sum(amount_paise) FILTER (WHERE kind = 'money' AND head IN ('consumer', 'arrears')), 0)) AS received_rupees,
    rupees(coalesce(sum(amount_paise) FILTER (WHERE kind = 'money' AND head = 'arrears'), 0)) AS paid_off_rupees
FROM entry
GROUP BY month, division
