# The status page.
status-title = Urja: what is coming in
status-heading = What is coming in
status-live = Live
status-stale = No answer
status-card = Open a consumer's card
meters-heard = Meters heard
meters-of = { $heard } of { $registered }
meters-recent = { $count } of them in the last { $minutes } minutes
meters-last = last one { $time }
frames-received = Frames received
frames-rate = { $rate } a second
frames-waiting = { $count } waiting for registration
rows-total = Rows in the tables
gap-ranges =
    { $count ->
        [one] { $count } range of intervals missing
       *[other] { $count } ranges of intervals missing
    }
balance-all = Balances, booked
accounts-count =
    { $count ->
        [one] { $count } account
       *[other] { $count } accounts
    }
conservation = Every frame is accounted for
conservation-why = received = stored + repeated + quarantined + refused + contested
source = Source
source-tcp = TCP
source-udp = UDP
source-mqtt = MQTT
source-waiting = Taken in after waiting
received = Received
stored = Stored
repeated = Repeated
quarantined = Quarantined
refused = Refused
contested = Contested
adds-up = Adds up
adds-up-yes = ✓ yes
adds-up-no = ✗ no
charges = Charges
charges-recharged = Recharged
charges-charged = Charged
charges-accrued = Used since, not booked yet
charges-closed = Days booked until
charges-sum = Sum of all postings
charges-sum-zero = { $sum } (✓ balanced)
charges-sum-broken = { $sum } (✗ must be zero)
positions = Positions in the journal
positions-durable = Synced
positions-applied = Applied
positions-committed = In files
tables = Rows by table
table = Table
rows = Rows
