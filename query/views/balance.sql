-- What is left on each account. Booked is every posting so far; accrued is the charge to date of the days that are not
-- closed yet; the balance is booked less accrued.
--
-- account_id           | -         | the account
-- account_number       | -         | number on the consumer's bill
-- category             | -         | category, which is the name of the tariff it is charged under
-- balance_rupees       | rupees    | booked less accrued: what is left
-- booked_rupees        | rupees    | openings, recharges, closed days, corrections and reversals
-- accrued_rupees       | rupees    | charge to date of the days that are not closed
-- arrears_rupees       | rupees    | old dues beside the balance, of which recharges pay a share off
-- booked_until         | civil day | last day that was booked
-- last_recharge_rupees | rupees    | amount of the last recharge
-- last_recharge_at     | UTC       | when the last recharge was received
-- month_kwh            | kWh       | energy of the open month to date
-- heard_at             | UTC       | when its meter was last heard with fresh data
-- as_of_position       | -         | position of the last record in these figures
-- as_of                | UTC       | when these figures were taken
SELECT
    s.account_id,
    a.account_number,
    s.tariff AS category,
    rupees(s.balance_paise) AS balance_rupees,
    rupees(s.booked_paise) AS booked_rupees,
    rupees(s.accrued_paise) AS accrued_rupees,
    rupees(s.arrears_paise) AS arrears_rupees,
    s.booked_until,
    rupees(s.last_recharge_paise) AS last_recharge_rupees,
    s.last_recharge_at,
    kwh(s.month_energy_wh) AS month_kwh,
    s.heard_at,
    s.as_of_position,
    s.as_of
FROM account_state AS s
LEFT JOIN account AS a ON a.account_id = s.account_id
