//! Every decision of credit control over a simulated year, against a separately written table of rules in Python.

use std::fmt::Write as _;
use std::path::Path;

use ledger::credit::{CreditPolicy, Holds, amount_to_keep, builtin_policy, decide};
use ledger::{Effects, Fold, Limits, Outcome};
use model::{
    AcceptedFrame, AccountId, AccountTerms, Arrears, Calendar, Channel, CivilDay, ConnectionType,
    CreditPolicyVersion, DayClosed, Digest, Fact, Instant, MeterId, MeterTerms, NoticeSent, OutboxId, Paise,
    Quality, Reading, ReadingKind, Recharge, Record, Source, SystemTitle, TariffVersion,
};
use serde_json::{Value, json};

use crate::command::registered;
use crate::harness::{Served, evidence, full, peer, seeded, urja, urja_ok, written};

/// The days that are lived through: into a year whose holidays are not known.
const FIRST: &str = "2026-01-01";
const LAST: &str = "2027-01-04";
const HOUSEHOLDS: u32 = 10;
const ASKED_A_DAY: u64 = 3;

#[test]
fn every_decision_of_a_year_is_that_of_a_separate_table_of_rules() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, mut random) = seeded("credit_year");
    let years = if full() { 40 } else { 4 };
    let (mut asked, mut due, mut differing, mut events) = (0, 0, 0, 0);
    for year in 0..years {
        let body = policy_of(year);
        let mut lived = Year::new(&body, &mut random);
        lived.live(&mut random);
        let policy = written(dir.path(), "policy.toml", &body);
        let Some(expected) = by_table(dir.path(), &policy, &lived.events) else { return };
        assert_eq!(lived.answers.len(), expected.len());
        for (ours, expected) in lived.answers.iter().zip(&expected) {
            if ours != expected {
                differing += 1;
                eprintln!("year {year}: {ours}, by the table {expected}");
            }
        }
        asked += expected.len();
        events += lived.events.lines().count() - expected.len();
        due += expected.iter().filter(|answer| answer["reasons"].as_array().unwrap().is_empty()).count();
    }
    assert_eq!(differing, 0, "of {asked} decisions, seed {seed}");
    assert!(due > asked / 200, "{due} of {asked}: hardly anybody was ever due");
    let told = format!("0 differing in {asked} decisions, {due} of them to cut, after {events} events");
    let promise = "every decision of credit control over a year is that of a separate table of rules";
    evidence(promise, seed, u32::try_from(events).unwrap(), &told);
}

/// The built-in policy, and others.
fn policy_of(year: usize) -> String {
    let changes: [&[(&str, &str)]; 4] = [
        &[],
        &[("emergency_days = 3", "emergency_days = 0"), ("to = \"13:00\"", "to = \"24:00\"")],
        &[
            ("sundays = false", "sundays = true"),
            ("second_saturdays = false", "second_saturdays = true"),
            ("silent_days = 2", "silent_days = 0"),
            ("fresh_hours = 24", "fresh_hours = 5"),
        ],
        &[
            ("from = \"10:00\"", "from = \"00:00\""),
            ("days_left = 3", "days_left = 9"),
            ("percent = \"30 %\"", "percent = \"33.3333 %\""),
            ("conversion_grace_days = 30", "conversion_grace_days = 0"),
            ("max_load_kw = \"2\"", "max_load_kw = \"3.5\""),
        ],
    ];
    changes[year % changes.len()].iter().fold(builtin_policy().to_owned(), |body, (before, after)| {
        assert!(body.contains(before), "{before}");
        body.replacen(before, after, 1)
    })
}

/// What the table of rules answers.
fn by_table(dir: &Path, policy: &str, events: &str) -> Option<Vec<Value>> {
    let events = written(dir, "events.jsonl", events);
    let out = peer("model/credit.py", &[], &["--policy", policy, "--events", &events])?;
    let text = String::from_utf8(out.stdout).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// A few households that live through a year: they use, go silent and come back, pay, are told and asked about.
struct Year {
    fold: Fold,
    calendar: Calendar,
    policy: CreditPolicy,
    now: Instant,
    households: Vec<Household>,
    /// What happened and what was asked, for the table of rules.
    events: String,
    /// What was answered.
    answers: Vec<Value>,
    outbox: u64,
    counter: u32,
    payments: u32,
}

struct Household {
    account: AccountId,
    register_wh: i64,
    wh_a_day: i64,
    /// Days of silence that are left.
    silent_days: u64,
    /// Days after them on which it sends intervals alone.
    interval_days: u64,
    /// A notice that is under way, and when it goes out.
    under_way: Option<(NoticeSent, Instant)>,
}

impl Year {
    fn new(body: &str, random: &mut impl FnMut() -> u64) -> Year {
        let calendar = Calendar::india();
        let first: CivilDay = FIRST.parse().unwrap();
        let mut year = Year {
            fold: Fold::new(calendar.clone(), Limits::default()),
            policy: CreditPolicy::parse(body).unwrap(),
            now: calendar.start_of(first),
            calendar,
            households: Vec::new(),
            events: String::new(),
            answers: Vec::new(),
            outbox: 0,
            counter: 0,
            payments: 0,
        };
        let digest = ledger::digest_of(body);
        let version = CreditPolicyVersion { from: year.policy.from, digest, body: body.to_owned() };
        assert_eq!(year.apply(Fact::CreditPolicy(version)), Outcome::PolicyApplied);
        for (name, body) in ledger::builtin_tariffs() {
            let tariff = ledger::Tariff::parse(body).unwrap();
            let digest = ledger::digest_of(body);
            let version =
                TariffVersion { name: (*name).into(), from: tariff.from, digest, body: (*body).into() };
            assert_eq!(year.apply(Fact::TariffVersion(version)), Outcome::TariffApplied);
        }
        for number in 1..=HOUSEHOLDS {
            year.move_in(number, random);
        }
        year
    }

    fn move_in(&mut self, number: u32, random: &mut impl FnMut() -> u64) {
        let terms =
            [("lmv1-urban", 4000), ("lmv1-rural", 2000), ("lmv1-lifeline", 1000), ("lmv2-urban-small", 2500)];
        let (tariff, sanctioned_w) = terms[random() as usize % terms.len()];
        let is_postpaid = random().is_multiple_of(8);
        let account = AccountId(number);
        let from = self.calendar.day_of(self.now);
        self.outbox += 2;
        let terms = AccountTerms {
            outbox: OutboxId(self.outbox - 1),
            account,
            connection: if is_postpaid { ConnectionType::Postpaid } else { ConnectionType::Prepaid },
            tariff: tariff.into(),
            sanctioned_w,
            from,
            opening_register_wh: 0,
            opening_balance: Paise(0),
        };
        assert_eq!(self.apply(Fact::AccountTerms(terms)), Outcome::TermsApplied);
        let terms = MeterTerms {
            outbox: OutboxId(self.outbox),
            meter: MeterId(number),
            title: SystemTitle(u64::from(number).to_be_bytes()),
            account: Some(account),
            profile: "is15959-d1".into(),
            period_s: 1800,
            authenticated: true,
            key_epoch: 1,
        };
        assert_eq!(self.apply(Fact::MeterTerms(terms)), Outcome::TermsApplied);
        self.event(
            "account",
            account,
            json!({
                "connection": if is_postpaid { "postpaid" } else { "prepaid" },
                "tariff": tariff,
                "sanctioned_w": sanctioned_w,
                "from": from.to_string(),
            }),
        );
        // Some have old dues.
        let owed = [0, 0, 30_000, 1_200_000][random() as usize % 4];
        if owed > 0 {
            self.outbox += 1;
            let arrears = Arrears { outbox: OutboxId(self.outbox), account, amount: Paise(owed) };
            assert_eq!(self.apply(Fact::Arrears(arrears)), Outcome::TermsApplied);
            self.event("arrears", account, json!({ "amount": owed }));
        }
        let wh_a_day = 500 + (random() % 6_000) as i64;
        self.households.push(Household {
            account,
            register_wh: 0,
            wh_a_day,
            silent_days: 0,
            interval_days: 0,
            under_way: None,
        });
    }

    fn live(&mut self, random: &mut impl FnMut() -> u64) {
        let (first, last): (CivilDay, CivilDay) = (FIRST.parse().unwrap(), LAST.parse().unwrap());
        let mut day = first;
        while day <= last {
            let midnight = self.calendar.end_of(day);
            self.now = midnight.plus_seconds(1200);
            (0..self.households.len()).for_each(|index| self.reports(index, day, random));
            self.close(day, midnight.plus_seconds(6 * 3600));
            let mut moments: Vec<i64> =
                (0..ASKED_A_DAY * 10).map(|_| 6 * 3600 + (random() % (18 * 3600)) as i64).collect();
            moments.sort_unstable();
            for second in moments {
                self.now = midnight.plus_seconds(second);
                let index = random() as usize % self.households.len();
                self.post_office(random);
                if random().is_multiple_of(60) {
                    self.pay(index, random);
                }
                self.ask(index, random);
            }
            day = day.next();
        }
    }

    /// The meter sends the register of the day, or is silent for some days and then has intervals alone for some.
    fn reports(&mut self, index: usize, day: CivilDay, random: &mut impl FnMut() -> u64) {
        let house = &mut self.households[index];
        house.register_wh += house.wh_a_day / 2 + (random() % 1_000) as i64;
        if house.silent_days > 0 {
            house.silent_days -= 1;
            return;
        }
        if random().is_multiple_of(25) {
            house.silent_days = random() % 6;
            house.interval_days = random() % 4;
            return;
        }
        let by_interval = house.interval_days > 0;
        house.interval_days = house.interval_days.saturating_sub(1);
        let (account, meter) = (house.account, MeterId(house.account.0));
        let (kind, end, wh) = if by_interval {
            (ReadingKind::Interval, self.calendar.at(day, 12, 0), (random() % 3) as i64 * 40)
        } else {
            (ReadingKind::Daily, self.calendar.end_of(day), house.register_wh)
        };
        self.event(
            "told",
            account,
            json!({ "day": day.to_string(), "by": if by_interval { "interval" } else { "register" } }),
        );
        self.counter += 1;
        let reading = Reading {
            kind,
            end,
            deviation_min: None,
            clock_status: 0,
            quality: Quality::GOOD,
            values: [(Channel::ImportWh, wh)].into_iter().collect(),
        };
        let mut digest = [0; 16];
        digest[..4].copy_from_slice(&self.counter.to_le_bytes());
        let frame = AcceptedFrame {
            meter,
            source: Source::Tcp,
            key_epoch: 1,
            counter: Some(self.counter),
            late: false,
            digest: Digest(digest),
            pushed_at: None,
            readings: [reading].into_iter().collect(),
            event_word: None,
            raw: Vec::new().into(),
        };
        assert_eq!(self.apply(Fact::Frame(frame)), Outcome::Applied);
    }

    fn close(&mut self, day: CivilDay, at: Instant) {
        self.now = at;
        let (first, last) = (AccountId(1), AccountId(HOUSEHOLDS));
        let closed = self.apply(Fact::DayClosed(DayClosed { day, first, last, complete: true }));
        assert!(closed.is_success(), "{closed}");
        for number in 1..=HOUSEHOLDS {
            let view = self.fold.account(AccountId(number)).unwrap();
            let charge = view.recent.iter().find(|recent| recent.closed).map(|recent| recent.charge.0);
            let booked = view.booked.0;
            let day = day.to_string();
            let line = json!({ "day": day, "booked": booked, "charge": charge });
            self.event("day", AccountId(number), line);
        }
    }

    /// Takes up notices that are due, some not at once, and sends those whose moment has come: hours or days later.
    fn post_office(&mut self, random: &mut impl FnMut() -> u64) {
        for notice in self.fold.notices_due(AccountId(0), usize::MAX) {
            let now = self.now;
            let house = &mut self.households[notice.account.0 as usize - 1];
            if house.under_way.is_none() && random().is_multiple_of(4) {
                let out_at = now.plus_seconds((random() % (36 * 3600)) as i64);
                let sent = NoticeSent { account: notice.account, level: notice.level, round: notice.round };
                house.under_way = Some((sent, out_at));
                self.event("take", notice.account, json!({}));
            }
        }
        for index in 0..self.households.len() {
            let now = self.now;
            let is_out = |(_, at): &mut (NoticeSent, Instant)| *at <= now;
            if let Some((sent, _)) = self.households[index].under_way.take_if(is_out) {
                self.apply(Fact::NoticeSent(sent));
                self.event("sent", sent.account, json!({ "at": self.now.seconds() }));
            }
        }
    }

    /// Some pay what they please, some what the page shows them: that always suffices.
    fn pay(&mut self, index: usize, random: &mut impl FnMut() -> u64) {
        let account = self.households[index].account;
        let shown = amount_to_keep(Some(&self.policy), &self.fold.account(account).unwrap());
        let pays_shown = shown > Paise::ZERO && random().is_multiple_of(2);
        let amount = if pays_shown { shown } else { Paise(10_000 + (random() % 60_000) as i64) };
        self.payments += 1;
        let recharge = Recharge { account, amount, payment_id: format!("pay-{}", self.payments) };
        assert!(self.apply(Fact::Recharge(recharge)).is_success());
        let booked = self.fold.account(account).unwrap().booked;
        assert!(!pays_shown || booked > Paise::ZERO, "{shown} was shown, {booked} is left");
        self.event("recharge", account, json!({ "amount": amount.0, "booked": booked.0 }));
    }

    /// Whether supply may be cut now, or at some moment ahead.
    fn ask(&mut self, index: usize, random: &mut impl FnMut() -> u64) {
        let account = self.households[index].account;
        let view = self.fold.account(account).unwrap();
        let mut rarely = || random().is_multiple_of(12);
        let holds = Holds {
            enabled: !rarely(),
            protected: rarely(),
            disputed: rarely(),
            payment_in_flight: rarely(),
            authenticated: !rarely(),
        };
        let ahead_s = if random().is_multiple_of(5) { (random() % (40 * 86_400)) as i64 } else { 0 };
        let at = self.now.plus_seconds(ahead_s);
        let decision = decide(Some(&self.policy), &self.calendar, &view, &holds, at, self.now);
        let Holds { enabled, protected, disputed, payment_in_flight, authenticated } = holds;
        self.event(
            "ask",
            account,
            json!({
                "at": at.seconds(),
                "now": self.now.seconds(),
                "heard_at": view.heard_at.map(Instant::seconds),
                "comes_back": -view.uncorrected.0.min(0),
                "holds": {
                    "enabled": enabled,
                    "protected": protected,
                    "disputed": disputed,
                    "payment_in_flight": payment_in_flight,
                    "authenticated": authenticated,
                },
            }),
        );
        let notice = self.fold.notices_due(account, 1).into_iter().find(|notice| notice.account == account);
        self.answers.push(json!({
            "reasons": decision.hindrances.iter().map(ledger::credit::Hindrance::name).collect::<Vec<_>>(),
            "earliest": decision.earliest.map(Instant::seconds),
            "arrears": view.arrears.0,
            "notice": notice.map(|notice| [notice.level.0, notice.caught_up_days]),
        }));
    }

    fn apply(&mut self, fact: Fact) -> Outcome {
        let record = Record { position: self.fold.position().next(), received_at: self.now, fact };
        let mut effects = Effects::default();
        self.fold.apply(&record, &mut effects).unwrap();
        effects.outcome.unwrap()
    }

    fn event(&mut self, line: &str, account: AccountId, mut content: Value) {
        content["line"] = line.into();
        content["account"] = account.0.into();
        writeln!(self.events, "{content}").unwrap();
    }
}

/// What one account is held by, by name.
fn reasons(answer: &Value, account: &str) -> Vec<String> {
    let rows = answer["accounts"].as_array().unwrap();
    let row = rows.iter().find(|row| row["account"] == account).unwrap_or_else(|| panic!("{answer}"));
    let words = row["reasons"].as_array().unwrap().iter();
    words.map(|reason| reason["reason"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn who_is_told_who_is_due_and_why_not_is_asked_and_answered_on_the_command_line() {
    const FIRST: &str = "PUVVNL1000000001";
    const SECOND: &str = "PUVVNL1000000002";
    let dir = tempfile::tempdir().unwrap();
    let data = registered(dir.path());
    let served = Served::start(&data, &[]);
    let ask = |args: &[&str]| urja_ok(&data, &[&["credit"], args].concat());
    let refused = |args: &[&str], why: &str| {
        let out = urja(&data, &[&["credit"], args].concat());
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && text.contains(why), "{args:?}: {text}");
    };
    let before = ask(&["due", "--account", SECOND]);
    assert_eq!((&before["policy"], reasons(&before, SECOND)), (&Value::Null, vec!["no_policy".to_owned()]));
    assert_eq!(ask(&["notices"])["notices"], json!([]));
    assert_eq!(ask(&["apply", "builtin"])["outcome"], "applied");
    assert_eq!(ask(&["apply", "builtin"])["outcome"], "exists");
    let other = builtin_policy().replacen("emergency_days = 3", "emergency_days = 4", 1);
    refused(&["apply", &written(dir.path(), "other.toml", &other)], "another policy is in force");
    let bad = builtin_policy().replacen("fresh_hours = 24", "fresh_hours = 999", 1);
    let bad = written(dir.path(), "bad.toml", &bad);
    refused(&["apply", &bad], "line 15, fresh_hours");
    let checked = urja(&data, &["--json", "credit", "check", &bad]);
    assert_eq!(checked.status.code(), Some(2));
    assert_eq!(ask(&["list"])["policies"].as_array().unwrap().len(), 1);

    // Five weeks of fixed charges without a reading, to a Friday forenoon.
    urja_ok(&data, &["clock", "2026-05-08T11:00:00+05:30"]);
    let notices = ask(&["notices"])["notices"].clone();
    let levels: Vec<_> = notices.as_array().unwrap().iter().map(|row| row["level"].clone()).collect();
    assert_eq!(levels, [1, 255], "one is low, the other used up: {notices}");
    let answer = ask(&["due", "--all"]);
    assert_eq!((&answer["decided"], &answer["due"]), (&1.into(), &0.into()));
    assert_eq!(reasons(&answer, SECOND), ["not_told", "stale", "awaited", "not_enabled"]);
    assert_eq!(reasons(&ask(&["due", "--account", FIRST]), FIRST)[0], "not_below_zero");

    let round = notices[1]["round"].to_string();
    let told = ["told", SECOND, "--level", "255", "--round", &round];
    assert!(ask(&told)["used_up_told_at"].as_str().unwrap().starts_with("2026-05-08T05:30:00"));
    refused(&told, "no such notice is due");
    let held = ask(&["due", "--all"]);
    assert_eq!(reasons(&held, SECOND), ["emergency_credit", "stale", "awaited", "not_enabled"]);

    refused(&["approve", "PUVVNL", "--by", "B. Khan"], "nobody has asked");
    assert_eq!(ask(&["enable", "PUVVNL", "--by", "A. Singh"])["cuts"], "asked");
    refused(&["approve", "PUVVNL", "--by", "a. singh"], "another person has to");
    assert_eq!(ask(&["approve", "PUVVNL", "--by", "B. Khan"])["cuts"], "enabled");
    assert_eq!(ask(&["divisions"])["divisions"][0]["approved"]["by"], "B. Khan");
    refused(&["enable", " ", "--by", "A. Singh"], "a division has 1 to 64 bytes");

    // Thirty days for a small load: dry run of a month ahead. Never heard, so never cut.
    let ahead = ["due", "--all", "--at", "2026-06-08T11:00:00+05:30"];
    assert_eq!(reasons(&ask(&ahead), SECOND), ["stale", "awaited"]);
    assert_eq!(ask(&ahead)["held"], json!({ "stale": 1, "awaited": 1 }));
    ask(&["hold", SECOND, "protected", "--reason", "dialysis at home", "--by", "A. Singh"]);
    ask(&["hold", SECOND, "disputed", "--reason", "complaint 7", "--by", "A. Singh"]);
    assert_eq!(reasons(&ask(&ahead), SECOND), ["stale", "awaited", "protected", "disputed"]);
    ask(&["release", SECOND, "protected", "--by", "A. Singh"]);
    ask(&["release", SECOND, "disputed", "--by", "A. Singh"]);
    assert_eq!(ask(&["disable", "PUVVNL", "--by", "A. Singh"])["cuts"], "off");
    assert_eq!(reasons(&ask(&ahead), SECOND), ["stale", "awaited", "not_enabled"]);
    refused(&["due", "--at", "2026-05-01T11:00:00+05:30"], "has passed");
    refused(&["release", SECOND, "protected", "--by", "A. Singh"], "is not held");
    let first = ask(&["notices", "--limit", "1"]);
    assert_eq!((&first["notices"][0]["account"], &first["may_have_more"]), (&FIRST.into(), &true.into()));
    assert_eq!(ask(&["notices", "--after", FIRST])["notices"], json!([]), "the other was told");
    refused(&["due", "--at", "tomorrow"], "not an instant");
    refused(&["due", "--account", "PUVVNL9999999999"], "PUVVNL9999999999 is not registered");

    let sql = "SELECT notice_reached, notice_told, silent_days, division, connection FROM account_state AS s \
               JOIN account AS a ON a.account_id = s.account_id ORDER BY s.account_id";
    let rows = urja_ok(&data, &["sql", sql]);
    let second = json!({
        "notice_reached": 255, "notice_told": 255, "silent_days": 37, "division": "PUVVNL", "connection": "prepaid",
    });
    assert_eq!(rows[1], second, "{rows}");

    let amount = answer["accounts"][0]["amount_to_keep_paise"].as_i64().unwrap();
    let rupees = (amount / 100).to_string();
    let shown = urja_ok(&data, &["recharge", SECOND, &rupees, "--preview"]);
    assert_eq!(shown["paid_off_paise"], amount / 10, "a tenth pays old dues off: {shown}");
    assert_eq!(shown["amount_to_keep_paise"], amount);
    let paid = urja_ok(&data, &["recharge", SECOND, &rupees, "--payment-id", "exactly"]);
    for key in ["paid_off_paise", "arrears_paise", "balance_paise"] {
        assert_eq!(paid[key], shown[key], "{key} was shown before");
    }
    let heads =
        "SELECT head, sum(amount_paise) AS paise FROM ledger_posting WHERE head = 'arrears' GROUP BY 1";
    assert_eq!(
        urja_ok(&data, &["sql", heads])[0]["paise"],
        amount / 10 - 250_000,
        "taken over less paid off"
    );
    assert_eq!(served.number("SELECT sum(amount_paise) FROM ledger_posting"), 0);
    let kept = ask(&["due", "--account", SECOND]);
    assert!(reasons(&kept, SECOND).contains(&"not_below_zero".to_owned()), "{kept}");
    assert_eq!(kept["accounts"][0]["amount_to_keep_paise"], 0);
    assert_eq!(served.terminate(), 0);

    // What was said outlasts the process.
    let served = Served::start(&data, &[]);
    assert_eq!(ask(&["list"])["policies"].as_array().unwrap().len(), 1);
    assert!(reasons(&ask(&["due", "--account", SECOND]), SECOND).contains(&"not_told".to_owned()));
    assert_eq!(served.terminate(), 0);
}
