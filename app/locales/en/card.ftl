# The consumer's card.
card-title = My electricity
account = Account
account-none = No account is registered yet.
state-good = Good
state-low = Low balance
state-due = Amount due
lasts-days =
    Lasts about { $days ->
        [one] { $days } day
       *[other] { $days } days
    }
lasts-hours = Lasts less than a day
lasts-year = Lasts more than a year
lasts-nothing = Nothing is left
lasts-unknown = How long it lasts is known after the first full day
lasts-how =
    { $per_day } a day, mean of the last { $days ->
        [one] full day
       *[other] { $days } full days
    }
balance = Balance
balance-due = Due
balance-parts = { $booked } booked, less { $accrued } used since
balance-parts-until = { $booked } booked until { $day }, less { $accrued } used since
recharge-now = Recharge now
today = Today
yesterday = Yesterday
today-until = so far, until { $time }
day-booked = whole day, booked
day-open = not booked yet, until { $time }
day-waiting = reading awaited
heard = Meter heard { $time }
heard-never = Meter not heard yet
usage = Usage, last 30 days
usage-until = complete until { $time }
show-units = Units
show-rupees = Rupees
usage-previous = Day before
usage-next = Day after
usage-day = { $day }: { $units } units, { $rupees }
usage-day-so-far = { $day }, so far: { $units } units, { $rupees }
usage-day-none = { $day }: reading awaited
usage-missing =
    { $count ->
        [one] { $count } interval missing
       *[other] { $count } intervals missing
    }
usage-chart = Bars of the last 30 days: { $units } units for { $rupees } in all
usage-sum = { $units } units, { $rupees } in { $days } days
usage-table = As a table
legend-open = not booked yet
legend-missing = reading awaited
column-day = Day
column-units = Units
column-rupees = Rupees
column-state = State
state-booked = booked
state-open = not booked yet
recharge = Recharge
recharge-amount = Other amount
recharge-unit = whole rupees, at least ₹100
recharge-chip-days =
    about { $days ->
        [one] { $days } day
       *[other] { $days } days
    }
recharge-pay = Recharge { $amount }
recharge-pay-none = Recharge
recharge-demo = Demonstration: no real money moves.
recharge-sending = Sending… do not pay again.
recharge-done = { $amount } credited. Balance { $balance }, { $time }.
recharge-reference = Reference number { $id }
recharge-pending = Waiting for confirmation of { $amount }. Do not pay again.
recharge-check = Check again
