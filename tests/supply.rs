//! The loop of supply over DLMS: below zero, told, cut by the rules, paid, connected again and read back, with everything that
//! stops a cut or overtakes it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant as Moment};

use fleet::SimulatedMeter;
use fleet::meter::{Behaviour, MeterOptions};
use ledger::credit::builtin_policy;
use model::{Calendar, CivilDay, Instant};
use serde_json::Value;

use crate::harness::{Served, evidence, full, python, seeded, urja, urja_ok, wait_for, wait_within, written};
use crate::relay::{Household, clock};

/// A Monday; none of the days after it is a holiday, and the Saturday after it is a second one.
const FIRST: &str = "2026-05-04";

/// Who lives in a town, and its head-end.
struct Town {
    /// None in between a kill and the next start.
    served: Option<Served>,
    env: Vec<(&'static str, &'static str)>,
    household: Household,
    calendar: Calendar,
    first: CivilDay,
    dir: PathBuf,
    accounts: Vec<String>,
}

/// Where answers are lost, a session takes its time and is tried again.
const LONG: Duration = Duration::from_secs(300);

/// Of this account, and of no other: a balance that lasts.
const RICH: usize = 0;

impl Town {
    /// Everybody but [`RICH`] is below zero and was told two days ago; it is Wednesday, 10:30, and the meters answer.
    fn new(
        dir: &Path,
        seed: u64,
        meters: u32,
        env: &[(&'static str, &'static str)],
        how: impl Fn(&SimulatedMeter, MeterOptions) -> MeterOptions,
    ) -> Town {
        let common = [
            ("URJA_TIME__CLOCK", "driven"),
            ("URJA_RELAY__ENABLED", "true"),
            ("URJA_RELAY__EVERY", "1s"),
            ("URJA_RELAY__TRANSFORMER_PPM_AN_HOUR", "1000000"),
            ("URJA_RELAY__FLEET_PPM_AN_HOUR", "1000000"),
            ("URJA_RELAY__FLEET_PPM_A_DAY", "1000000"),
            ("URJA_SESSION__ANSWER_TIMEOUT", "2s"),
        ];
        let env: Vec<_> = common.iter().chain(env).copied().collect();
        let served = Served::start_with(&dir.join("data"), &[], &env);
        let first: CivilDay = FIRST.parse().unwrap();
        let household = Household::new(&served, seed, &dir.join("truth.jsonl"), meters, first);
        let calendar = household.fleet.options().calendar.clone();
        let mut town = Town {
            served: Some(served),
            env,
            household,
            calendar,
            first,
            dir: dir.to_owned(),
            accounts: Vec::new(),
        };
        town.register();
        town.live_until_wednesday(how);
        town
    }

    fn register(&mut self) {
        clock(self.served(), self.calendar.start_of(self.first));
        for tariff in ["lmv1-urban", "lmv1-rural", "lmv1-lifeline"] {
            self.ok(&["tariff", "apply", tariff]);
        }
        self.household.fleet.write_registry_files(&self.dir).unwrap();
        let accounts = std::fs::read_to_string(self.dir.join("accounts.csv")).unwrap();
        let mut lines = accounts.lines();
        let mut changed = format!("{},division,transformer\n", lines.next().unwrap());
        for (number, line) in lines.enumerate() {
            let mut cells: Vec<&str> = line.split(',').collect();
            self.accounts.push(cells[0].to_owned());
            cells[5] = if number == RICH { "5000" } else { "0.01" };
            changed += &format!("{},EUDD-IV,DT-{}\n", cells.join(","), number / 20);
        }
        self.ok(&["account", "import", &written(&self.dir, "changed.csv", &changed)]);
        self.ok(&["meter", "import", &self.dir.join("meters.csv").display().to_string()]);
        let policy = builtin_policy()
            .replace("emergency_days = 3", "emergency_days = 1")
            .replace("conversion_grace_days = 30", "conversion_grace_days = 0")
            .replace("days = 30", "days = 1");
        self.ok(&["credit", "apply", &written(&self.dir, "policy.toml", &policy)]);
        self.ok(&["credit", "enable", "EUDD-IV", "--by", "A. Singh"]);
        self.ok(&["credit", "approve", "EUDD-IV", "--by", "B. Khan"]);
        // Nobody is cut before a test is ready for it.
        self.ok(&["supply", "freeze", "--reason", "a test begins", "--by", "A. Singh"]);
    }

    fn live_until_wednesday(&mut self, how: impl Fn(&SimulatedMeter, MeterOptions) -> MeterOptions) {
        let tuesday = self.first.next();
        self.push_day(self.first);
        let notices = self.ok(&["credit", "notices"]);
        let notices = notices["notices"].as_array().unwrap();
        assert_eq!(notices.len(), self.accounts.len() - 1, "{notices:?}");
        for notice in notices {
            let [account, level, round] = ["account", "level", "round"]
                .map(|key| notice[key].as_str().map_or_else(|| notice[key].to_string(), str::to_owned));
            self.ok(&["credit", "told", &account, "--level", &level, "--round", &round]);
        }
        self.push_day(tuesday);
        let now = self.calendar.at(tuesday.next(), 10, 30);
        self.household.push(now.plus_seconds(-600));
        self.household.answer(now, how);
        let access = self.household.access(&self.dir);
        self.ok(&["meter", "import", &access]);
        clock(self.served(), now);
        // From now on the truth is told of their relays.
        self.household.push(now);
    }

    /// Everything of a day is sent, and it is closed the next morning.
    fn push_day(&mut self, day: CivilDay) {
        let midnight = self.calendar.end_of(day);
        clock(self.served(), midnight.plus_seconds(1800));
        self.household.push(midnight.plus_seconds(1800));
        self.served().wait_number(
            &format!("SELECT count(*) FROM daily_reading WHERE usage_date = '{day}'"),
            self.accounts.len() as i64,
        );
        clock(self.served(), midnight.plus_seconds(6 * 3600 + 60));
    }

    fn served(&self) -> &Served {
        self.served.as_ref().unwrap()
    }

    fn ok(&self, args: &[&str]) -> Value {
        urja_ok(&self.served().data, args)
    }

    fn thaw(&self) {
        self.ok(&["supply", "thaw", "--by", "A. Singh"]);
        let same = urja(&self.served().data, &["supply", "thaw", "--by", "a. singh"]);
        assert!(String::from_utf8_lossy(&same.stderr).contains("another person"), "{same:?}");
        self.ok(&["supply", "thaw", "--by", "B. Khan"]);
    }

    /// Newest first.
    fn commands(&self, number: usize) -> Vec<Value> {
        let answer = self.ok(&["supply", "list", "--account", &self.accounts[number]]);
        answer["commands"].as_array().unwrap().clone()
    }

    /// The newest command of an account, once it is of that kind and state.
    fn wait_for(&self, number: usize, kind: &str, state: &str) -> Value {
        wait_for(&format!("{kind} of account {number} is {state}"), || {
            let newest = self.commands(number).into_iter().next()?;
            (newest["kind"] == kind && newest["state"] == state).then_some(newest)
        })
    }

    /// How the relay of a meter stands; a session of the loop may be in the way.
    fn relay(&self, number: usize) -> Value {
        let serial = &self.household.doors[number].identity.serial;
        wait_for("the relay is read", || {
            let out = urja(&self.served().data, &["--json", "relay", serial, "status"]);
            out.status.success().then(|| serde_json::from_slice(&out.stdout).unwrap())
        })
    }

    /// What the page shows them to pay, in rupees.
    fn shown(&self, number: usize) -> i64 {
        let preview = self.ok(&["recharge", &self.accounts[number], "1", "--preview"]);
        let paise = preview["amount_to_keep_paise"].as_i64().unwrap();
        assert_eq!(paise % 100, 0);
        paise / 100
    }

    fn pay(&self, number: usize, rupees: i64, payment: &str) -> Value {
        self.ok(&["recharge", &self.accounts[number], &rupees.to_string(), "--payment-id", payment])
    }

    /// Moves of a meter's relay that the meter itself tells, oldest first.
    fn moves(&self, number: usize) -> Vec<(String, String)> {
        let truth = std::fs::read_to_string(self.dir.join("truth.jsonl")).unwrap();
        let lines = truth.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let word = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
        lines
            .filter(|line| line["line"] == "relay" && line["meter"] == number)
            .map(|line| (word(&line, "state"), word(&line, "cause")))
            .collect()
    }

    fn states(&self, number: usize) -> Vec<String> {
        self.moves(number).into_iter().map(|(state, _)| state).collect()
    }

    fn kill_and_start(&mut self) {
        // The old one goes first: a directory has one owner.
        let data = self.served.take().unwrap().kill();
        self.served = Some(Served::start_with(&data, &[], &self.env));
    }

    fn terminate(mut self) {
        assert_eq!(self.served.take().unwrap().terminate(), 0);
    }

    /// Waits until the cut of an account has come so far: nowhere, queued, gone out, read back.
    fn wait_phase(&self, number: usize, phase: u64) {
        let is_there = |row: &Value| match phase {
            1 => true,
            2 => row["sent_at"].is_string(),
            _ => row["state"] == "confirmed",
        };
        wait_within(LONG, "a cut comes so far", || {
            (phase == 0 || self.commands(number).iter().any(is_there)).then_some(())
        });
    }

    /// Two rounds of cuts go by from now on: what could have been queued is.
    fn wait_rounds(&self) {
        let rounds = || {
            let (_, page) = self.served().get("health", "/metrics");
            let line = page.lines().find(|line| line.starts_with("urja_supply_rounds_total{lane=\"cuts\"}"));
            line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
        };
        let before: f64 = rounds();
        wait_for("rounds go by", || (rounds() >= before + 2.0).then_some(()));
    }
}

fn time(row: &Value, key: &str) -> Instant {
    row[key].as_str().unwrap_or_else(|| panic!("no {key} in {row}")).parse().unwrap()
}

#[test]
fn who_is_due_is_cut_and_has_supply_back_with_the_amount_that_was_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, _) = seeded("supply_loop");
    let town = Town::new(dir.path(), seed, 5, &[], |_, how| how);
    let (payer, protected, dodger) = (1, 2, 3);
    let account = town.accounts[protected].clone();
    let hold = ["credit", "hold", &account, "protected", "--reason", "dialysis", "--by", "A. Singh"];
    town.ok(&hold);
    assert_eq!(town.ok(&["credit", "due"])["due"], 3);
    // Frozen: rounds go by and nothing is queued.
    town.wait_rounds();
    assert_eq!(town.ok(&["supply", "list"])["commands"], Value::Array(Vec::new()));
    town.thaw();

    let cut = town.wait_for(payer, "cut", "confirmed");
    assert_eq!((&cut["genuine"], &cut["reason"]), (&true.into(), &"balance".into()), "{cut}");
    assert!(time(&cut, "event_at") >= time(&cut, "sent_at"), "by the meter's own log: {cut}");
    assert!(cut["evidence"]["booked_paise"].as_i64().unwrap() < 0, "{cut}");
    for number in [dodger, 4] {
        town.wait_for(number, "cut", "confirmed");
    }
    assert_eq!(town.relay(payer)["supplied"], false);
    for untouched in [RICH, protected] {
        assert_eq!(town.commands(untouched), Vec::<Value>::new());
        assert_eq!(town.relay(untouched)["supplied"], true);
    }
    assert_eq!(town.ok(&["supply", "status"])["without_supply"], 3);

    // One rupee less than shown is not enough, and then that rupee is.
    let shown = town.shown(dodger);
    town.pay(dodger, shown - 1, "short");
    town.pay(payer, town.shown(payer), "whole");
    let back = town.wait_for(payer, "reconnect", "confirmed");
    assert_eq!(back["reason"], "paid");
    assert!(time(&back, "event_at") >= time(&back, "sent_at"), "{back}");
    assert_eq!(town.relay(payer)["supplied"], true);
    assert!(town.commands(payer)[1]["restored_at"].is_string(), "{:?}", town.commands(payer));
    assert_eq!(town.commands(dodger).len(), 1, "a rupee is missing");
    town.pay(dodger, 1, "last");
    town.wait_for(dodger, "reconnect", "confirmed");
    assert_eq!(town.moves(payer), [("disconnected", "remote"), ("connected", "remote")].map(own));

    // Who has supply again is not cut by what was decided before, and each step stands in SQL.
    let rows = town.served().sql(
        "SELECT kind, state, since, queued_at, sent_at, confirmed_at FROM supply_command \
         JOIN account USING (account_id)",
    );
    assert_eq!(rows.len(), 5, "{rows:?}");
    assert!(rows.iter().all(|row| row["state"] == "confirmed" && row["sent_at"].is_string()), "{rows:?}");
    assert_eq!(town.ok(&["supply", "status"])["without_supply"], 1);

    // By hand.
    town.ok(&["relay", &town.household.doors[4].identity.serial, "connect"]);
    assert_eq!(town.ok(&["supply", "status"])["without_supply"], 0);
    town.wait_rounds();
    assert_eq!(town.relay(4)["supplied"], true, "what a person did is not undone in the next round");
    town.terminate();
}

fn own((state, cause): (&str, &str)) -> (String, String) {
    (state.to_owned(), cause.to_owned())
}

#[test]
fn a_relay_that_waits_for_its_button_is_not_restored_before_it_is_pressed() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, _) = seeded("supply_button");
    let with_button = |_: &SimulatedMeter, how: MeterOptions| MeterOptions {
        relay_mode: 3,
        button_after_s: Some(8),
        ..how
    };
    let town = Town::new(dir.path(), seed, 2, &[], with_button);
    town.thaw();
    town.wait_for(1, "cut", "confirmed");
    town.pay(1, town.shown(1), "whole");
    let ready = town.wait_for(1, "reconnect", "ready");
    assert!(ready["ready_at"].is_string() && ready["confirmed_at"].is_null(), "{ready}");
    assert!(ready["said"].as_str().unwrap().contains("press the button"), "{ready}");
    assert_eq!(town.ok(&["supply", "status"])["without_supply"], 1);
    let back = town.wait_for(1, "reconnect", "confirmed");
    assert_eq!(town.states(1), ["disconnected", "ready", "connected"]);
    assert_eq!(back["ready_at"], ready["ready_at"], "the clock runs on");
    assert_eq!(town.ok(&["supply", "status"])["without_supply"], 0);
    town.terminate();
}

/// Tickets wait, for their meters cannot be reached; meanwhile what they were decided on changes.
#[test]
fn what_was_due_is_asked_again_right_before_it_goes_out() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, _) = seeded("supply_asked_again");
    let town = Town::new(dir.path(), seed, 5, &[], |_, how| how);
    let (held, disputed, payer, late) = (1, 2, 3, 4);
    // The hours are nearly over: all are taken in one round.
    let now = town.calendar.at(town.first.plus(2), 12, 44);
    clock(town.served(), now.plus_seconds(59));
    let access = std::fs::read_to_string(town.household.access(&town.dir)).unwrap();
    let nowhere = town.household.doors.iter().fold(access.clone(), |access, door| {
        access.replace(&format!(",{}", door.address.unwrap()), ",127.0.0.1:9")
    });
    let nowhere = written(&town.dir, "nowhere.csv", &nowhere);
    assert_eq!(town.ok(&["meter", "import", &nowhere])["updated"], 5);
    town.thaw();
    for number in [held, disputed, payer, late] {
        wait_for("a ticket is tried in vain", || {
            let newest = town.commands(number).into_iter().next()?;
            (newest["state"] == "queued" && newest["tries"].as_u64()? > 0).then_some(())
        });
    }
    for (number, kind) in [(held, "protected"), (disputed, "disputed")] {
        let account = &town.accounts[number];
        town.ok(&["credit", "hold", account, kind, "--reason", "a test", "--by", "A. Singh"]);
    }
    town.pay(payer, town.shown(payer), "whole");
    town.ok(&["meter", "import", &written(&town.dir, "again.csv", &access)]);
    for (number, words) in
        [(held, "the consumer is protected"), (disputed, "a dispute is open"), (payer, "not below zero")]
    {
        let cancelled = town.wait_for(number, "cut", "cancelled");
        assert!(cancelled["said"].as_str().unwrap().contains(words), "{cancelled}");
    }
    town.wait_for(late, "cut", "confirmed");
    for number in [held, disputed, payer] {
        assert!(town.states(number).is_empty());
    }

    // A ticket that is not sent in its time is not sent at all.
    town.pay(late, town.shown(late), "late");
    town.wait_for(late, "reconnect", "confirmed");
    town.ok(&["meter", "import", &nowhere]);
    for (number, kind) in [(held, "protected"), (disputed, "disputed")] {
        town.ok(&["credit", "release", &town.accounts[number], kind, "--by", "A. Singh"]);
    }
    for number in [held, disputed] {
        town.wait_for(number, "cut", "queued");
    }
    clock(town.served(), now.plus_seconds(59 + 16 * 60));
    for number in [held, disputed] {
        town.wait_for(number, "cut", "expired");
        assert!(town.states(number).is_empty());
    }
    town.terminate();
}

/// Its answer says that it opened, and its contacts stay closed.
#[test]
fn a_relay_that_does_not_move_is_told_as_failed_and_a_payment_ends_the_matter() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, _) = seeded("supply_stuck");
    let stuck = |_: &SimulatedMeter, how: MeterOptions| MeterOptions { relay: Behaviour::Stuck, ..how };
    let town = Town::new(dir.path(), seed, 2, &[], stuck);
    town.thaw();
    let failed = town.wait_for(1, "cut", "failed");
    assert!(failed["sent_at"].is_string() && failed["confirmed_at"].is_null(), "{failed}");
    // It may try once more, and then the meter's budget is spent.
    wait_for("a second try fails", || {
        let failed = town.commands(1).iter().filter(|row| row["state"] == "failed").count();
        (failed == 2).then_some(())
    });
    town.wait_rounds();
    assert_eq!(town.commands(1).len(), 2);
    // Contacts may be slower than an answer: who pays is connected, whatever was said of the cut.
    town.pay(1, town.shown(1), "whole");
    town.wait_for(1, "reconnect", "confirmed");
    assert!(town.commands(1).iter().skip(1).all(|row| row["restored_at"].is_string()));
    town.terminate();
}

#[test]
fn a_forged_ticket_cuts_nobody_and_freezes_all_cuts() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, _) = seeded("supply_forged");
    let town = Town::new(dir.path(), seed, 2, &[], |_, how| how);
    town.thaw();
    town.wait_for(1, "cut", "confirmed");
    let forged = "import sqlite3, sys, os\n\
        db = sqlite3.connect(sys.argv[1], timeout=30)\n\
        db.execute(\"INSERT INTO supply_command (id, account_id, meter_id, kind, reason, evidence, since, queued_at, \
        expires_at, seal, state) VALUES (?, 1, 1, 'cut', 'balance', '{}', 0, 0, 4000000000000000, ?, 'queued')\", \
        (os.urandom(16), os.urandom(32)))\n\
        db.commit()\n";
    let out = python()
        .args(["-c", forged, &town.served().data.join("registry.db").display().to_string()])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let refused = town.wait_for(RICH, "cut", "refused");
    assert_eq!(refused["genuine"], false, "{refused}");
    let status = town.ok(&["supply", "status"]);
    assert!(status["frozen"]["reason"].as_str().unwrap().contains("not genuine"), "{status}");
    assert_eq!(status["frozen"]["by"], "urja");
    // Who was cut by a genuine one and pays has supply back all the same.
    town.pay(1, town.shown(1), "whole");
    town.wait_for(1, "reconnect", "confirmed");
    assert_eq!(town.relay(RICH)["supplied"], true);
    assert!(town.states(RICH).is_empty());
    town.terminate();
}

#[test]
fn budgets_and_hours_hold_who_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, _) = seeded("supply_budget");
    let small = [("URJA_RELAY__FLEET_PPM_AN_HOUR", "0"), ("URJA_RELAY__FLEET_PPM_A_DAY", "500000")];
    let town = Town::new(dir.path(), seed, 6, &small, |_, how| how);
    town.thaw();
    let sent = "SELECT count(*) FROM supply_command WHERE sent_at IS NOT NULL AND kind = 'cut'";
    town.served().wait_number(sent, 1);
    town.wait_rounds();
    assert_eq!(town.served().number(sent), 1, "one an hour");
    assert_eq!(town.ok(&["supply", "status"])["budget_left"], 0);
    clock(town.served(), town.calendar.at(town.first.plus(2), 11, 31));
    town.served().wait_number(sent, 2);
    clock(town.served(), town.calendar.at(town.first.plus(2), 12, 32));
    town.served().wait_number(sent, 3);
    // The day's budget is spent, and then the hours are over.
    clock(town.served(), town.calendar.at(town.first.plus(2), 13, 40));
    town.wait_rounds();
    assert_eq!(town.served().number(sent), 3);
    town.terminate();
}

/// Payments at any moment of a cut: before it is queued, while it waits, is under way and is done; over meters whose answers
/// get lost, and a head-end that is killed. In the end supply is where it was paid for, and nowhere else was it given back.
#[test]
fn whoever_pays_at_any_moment_of_a_cut_has_supply_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, mut random) = seeded("supply_race");
    let meters = if full() { 60 } else { 12 };
    // Every third meter loses answers, so that what a cut did is not known at once.
    let with_faults = |meter: &SimulatedMeter, how: MeterOptions| {
        let faults: &[&str] = if meter.index % 3 == 1 { &["drop~60000", "silent~20000"] } else { &[] };
        MeterOptions { faults: faults.iter().map(|fault| fault.parse().unwrap()).collect(), ..how }
    };
    let mut town = Town::new(dir.path(), seed, meters, &[], with_faults);
    // The hours are nearly over: all are taken in one round.
    clock(town.served(), town.calendar.at(town.first.plus(2), 12, 59).plus_seconds(59));
    let shown: Vec<i64> = (0..town.accounts.len()).map(|number| town.shown(number)).collect();
    let mut payers: Vec<usize> = (1..town.accounts.len()).filter(|number| number % 3 != 0).collect();
    let unpaid: Vec<usize> = (1..town.accounts.len()).filter(|number| number % 3 == 0).collect();
    for place in (1..payers.len()).rev() {
        payers.swap(place, random() as usize % (place + 1));
    }
    town.thaw();
    let (early, late) = payers.split_at(payers.len() / 2);
    for some in [early, late] {
        let phases: Vec<(usize, u64)> = some.iter().map(|number| (*number, random() % 4)).collect();
        std::thread::scope(|scope| {
            for (number, phase) in phases {
                let (town, shown) = (&town, &shown);
                scope.spawn(move || {
                    town.wait_phase(number, phase);
                    town.pay(number, shown[number], &format!("pay-{number}"));
                });
            }
        });
        if some.as_ptr() == early.as_ptr() {
            town.kill_and_start();
        }
    }
    for &number in &unpaid {
        wait_within(LONG, "who did not pay is cut", || {
            (town.relay(number)["supplied"] == false).then_some(())
        });
    }
    for &number in &payers {
        wait_within(LONG, "who paid has supply, and nothing is open", || {
            let is_open = town.commands(number).iter().any(|row| {
                ["queued", "sent", "ready"].contains(&row["state"].as_str().unwrap())
                    || row["kind"] == "cut" && row["sent_at"].is_string() && row["restored_at"].is_null()
            });
            (!is_open && town.relay(number)["supplied"] == true).then_some(())
        });
    }
    assert_eq!(town.relay(RICH)["supplied"], true);
    assert!(town.states(RICH).is_empty());
    let mut overtaken = 0;
    for &number in &payers {
        let moves = town.moves(number);
        assert!(moves.len() <= 2, "one cut and one reconnection at most: {moves:?}");
        overtaken += usize::from(moves.is_empty());
    }
    for &number in &unpaid {
        assert_eq!(town.states(number), ["disconnected"]);
    }
    let result = format!(
        "{} paid and supplied, {overtaken} of them never cut; {} unpaid and cut; killed once",
        payers.len(),
        unpaid.len()
    );
    assert!(overtaken < payers.len(), "nobody was cut at all");
    let promise = "whoever pays at any moment of a cut has supply in the end, and nobody else";
    evidence(promise, seed, u32::try_from(payers.len()).unwrap() + 1, &result);
    town.terminate();
}

/// How long it takes from the answer to a recharge until its reconnection is queued, and until the relay is read back.
#[test]
fn a_recharge_queues_its_reconnection_at_once_and_reads_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, _) = seeded("supply_clock");
    let meters = if full() { 200 } else { 8 };
    let town = Town::new(dir.path(), seed, meters, &[("URJA_RELAY__CUTS_AT_ONCE", "64")], |_, how| how);
    // The hours are nearly over: all are taken in one round.
    clock(town.served(), town.calendar.at(town.first.plus(2), 12, 59).plus_seconds(59));
    town.thaw();
    let cut = "SELECT count(*) FROM supply_command WHERE kind = 'cut' AND state = 'confirmed'";
    town.served().wait_number(cut, i64::from(meters) - 1);
    let shown: Vec<i64> = (0..town.accounts.len()).map(|number| town.shown(number)).collect();
    let mut paid: HashMap<i64, Moment> = HashMap::new();
    let (mut queued, mut back) = (HashMap::new(), HashMap::new());
    let mut look = |paid: &HashMap<i64, Moment>| {
        let rows = town.served().sql(
            "SELECT account_id, confirmed_at IS NOT NULL AS back FROM supply_command WHERE kind = 'reconnect'",
        );
        for row in rows {
            let account = row["account_id"].as_i64().unwrap();
            let Some(since) = paid.get(&account) else { continue };
            queued.entry(account).or_insert_with(|| since.elapsed());
            if row["back"] == true {
                back.entry(account).or_insert_with(|| since.elapsed());
            }
        }
        back.len()
    };
    for (number, rupees) in shown.iter().enumerate().skip(1) {
        // Ids are dense, in the order of the file.
        paid.insert(number as i64 + 1, Moment::now());
        town.pay(number, *rupees, &format!("pay-{number}"));
        look(&paid);
    }
    wait_for("all are read back", || (look(&paid) == paid.len()).then_some(()));
    let p99 = |times: &HashMap<i64, Duration>| {
        let mut times: Vec<Duration> = times.values().copied().collect();
        times.sort_unstable();
        times[(times.len() * 99).div_ceil(100) - 1].as_secs_f64()
    };
    assert_eq!(queued.len(), paid.len());
    let result = format!(
        "{} recharges: reconnection queued p99 {:.2} s, relay read back p99 {:.2} s after the recharge was asked for",
        paid.len(),
        p99(&queued),
        p99(&back)
    );
    let promise = "a recharge queues its reconnection at once, and the relay is read back";
    evidence(promise, seed, u32::try_from(paid.len()).unwrap(), &result);
    town.terminate();
}
