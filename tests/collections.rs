//! Money that was taken elsewhere: every payment of every file is booked once, whatever happens, and nothing that is wrong
//! between a statement, the bank and the ledger goes untold. The oracle is what the files were made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::crash::provision;
use crate::harness::{
    Served, evidence, full, seeded, shared_deadline, urja, urja_begun, urja_ok, wait_for, written,
};

const HEADER: &str = "account_number,amount_rupees,payment_id,paid_on\n";
const DAY: &str = "2026-04-02";
/// Before the first close of a day.
const MORNING: &str = "2026-04-02T05:00:00+05:30";

/// A head-end with accounts, in the morning of the second charged day.
struct Till {
    dir: tempfile::TempDir,
    served: Served,
    accounts: Vec<String>,
    files: u32,
}

impl Till {
    fn open(test: &str, accounts: &str) -> (Till, u64, impl FnMut() -> u64) {
        let dir = tempfile::tempdir().unwrap();
        let (seed, random) = seeded(test);
        let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
        provision(&data, &out, seed, accounts);
        let served = Served::start(&data, &[]);
        urja_ok(&data, &["clock", MORNING]);
        let rows = served.sql("SELECT account_number FROM account ORDER BY 1");
        let accounts = rows.iter().map(|row| row["account_number"].as_str().unwrap().to_owned()).collect();
        (Till { dir, served, accounts, files: 0 }, seed, random)
    }

    fn data(&self) -> &Path {
        &self.served.data
    }

    /// The command that brings a file of these payments: account, paise, id.
    fn import(&mut self, batch: &str, payments: &[(String, i64, String)]) -> Vec<String> {
        self.files += 1;
        let mut csv = HEADER.to_owned();
        for (account, paise, id) in payments {
            writeln!(csv, "{account},{},{id},{DAY}", rupees(*paise)).unwrap();
        }
        let file = written(self.dir.path(), &format!("{}.csv", self.files), &csv);
        let sum = rupees(payments.iter().map(|(_, paise, _)| paise).sum());
        let lines = payments.len().to_string();
        [
            "collect",
            "import",
            &file,
            "--channel",
            "bbps",
            "--batch",
            batch,
            "--lines",
            &lines,
            "--rupees",
            &sum,
        ]
        .into_iter()
        .chain(["--by", "A. Singh"])
        .map(str::to_owned)
        .collect()
    }

    fn take(&mut self, batch: &str, payments: &[(String, i64, String)]) -> Value {
        let args = self.import(batch, payments);
        urja_ok(self.data(), &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs it and gives code and report.
    fn reconcile(&self, day: &str, statement: &str, bank: Option<&str>) -> (i32, Value) {
        let mut args = vec!["--json", "reconcile", "run", "bbps", day, "--statement", statement];
        args.extend(bank.iter().flat_map(|bank| ["--bank", bank]));
        args.extend(["--by", "A. Singh"]);
        let out = urja(self.data(), &args);
        let report = serde_json::from_slice(&out.stdout);
        (out.status.code().unwrap(), report.unwrap_or_else(|_| panic!("{out:?}")))
    }

    fn head(&self, head: &str) -> i64 {
        self.served.number(&format!(
            "SELECT coalesce(sum(amount_paise), 0) FROM ledger_posting WHERE head = '{head}'"
        ))
    }

    fn refused(&self, args: &[&str], text: &str) {
        let out = urja(self.data(), args);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains(text), "{args:?}: {said}");
    }
}

fn rupees(paise: i64) -> String {
    format!("{}.{:02}", paise / 100, paise % 100)
}

fn payment(account: &str, paise: i64, id: &str) -> (String, i64, String) {
    (account.to_owned(), paise, id.to_owned())
}

fn state(batch: &Value, state: &str) -> u64 {
    batch["states"][state]["lines"].as_u64().unwrap_or_default()
}

#[test]
fn a_file_is_booked_once_and_what_is_nobodys_waits_in_suspense_for_its_account() {
    let (mut till, _, _) = Till::open("till", "3");
    let [first, second, _] = &till.accounts.clone()[..] else { panic!("three accounts") };
    let opening = till.head("consumer");
    let payments = [
        payment(first, 50_000, "t1"),
        payment(second, 10_050, "t2"),
        payment("PUVVNL0000000000", 30_000, "t3"),
        payment("the shop at the corner", 100, "t4"),
    ];
    // Whoever took the money says what is in it: another sum, and nothing is taken.
    let mut args = till.import("b0", &payments);
    let sum = args.iter().position(|arg| arg == "901.50").unwrap();
    args[sum] = "902.50".into();
    till.refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), "4 payments of ₹901.50");
    assert_eq!(till.head("cash"), 0);
    let taken = till.take("b1", &payments);
    assert_eq!((state(&taken, "booked"), state(&taken, "suspense")), (2, 2), "{taken}");
    assert_eq!((till.head("cash"), till.head("suspense")), (-90_150, 30_100));
    assert_eq!(till.head("consumer"), opening + 60_050);

    // Brought again, it is there; another file under its name is refused; a line in another file is not booked twice.
    let again = till.import("b1", &payments);
    till.files -= 1;
    let again = urja_ok(till.data(), &again.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(again["outcome"], "exists");
    let other = till.import("b1", &payments[..1]);
    till.refused(&other.iter().map(String::as_str).collect::<Vec<_>>(), "another file came as batch");
    let next = [payments[0].clone(), payment(second, 99_999, "t2"), payment(second, 20_000, "t5")];
    let taken = till.take("b2", &next);
    let states = ["repeated", "conflict", "booked"].map(|name| state(&taken, name));
    assert_eq!(states, [1, 1, 1], "{taken}");
    let lines =
        urja_ok(till.data(), &["collect", "lines", "bbps", "b2", "--state", "conflict"])["lines"].clone();
    assert_eq!(lines[0]["payment_id"], "bbps:t2");
    assert!(lines[0]["said"].as_str().unwrap().contains("line 3 of batch b1"), "{lines}");
    assert_eq!(till.head("cash"), -110_150);
    // Money that waits for a person holds a cut, until that person has dealt with it.
    urja_ok(till.data(), &["credit", "apply", "builtin"]);
    let holds = || {
        let due = urja_ok(till.data(), &["credit", "due", "--account", second]);
        due.to_string().contains("payment_in_flight")
    };
    assert!(holds());
    assert_eq!(urja_ok(till.data(), &["collect", "open"])["counts"], json!({ "conflict": 1 }));
    let settle = ["collect", "settle", "bbps", "b2", "3", "--reason", "a typing error", "--by", "A. Singh"];
    assert_eq!(urja_ok(till.data(), &settle)["outcome"], "settled");
    till.refused(&settle, "neither a conflict nor refused");
    assert!(!holds());

    // What is in suspense is found with its file, assigned once, and given back.
    let suspense = urja_ok(till.data(), &["collect", "suspense"]);
    assert_eq!((&suspense["payments"], &suspense["amount_paise"]), (&2.into(), &30_100.into()));
    assert_eq!(suspense["held"][1]["files"][0]["account_number"], "the shop at the corner");
    let assign = ["collect", "assign", "bbps:t3", first, "--by", "A. Singh"];
    assert_eq!(urja_ok(till.data(), &assign)["outcome"], "assigned");
    assert_eq!(urja_ok(till.data(), &assign)["outcome"], "exists");
    till.refused(&["collect", "assign", "bbps:t3", second, "--by", "A. Singh"], "it is booked to");
    till.refused(&["collect", "assign", "bbps:t9", second, "--by", "A. Singh"], "no payment of the id");
    urja_ok(till.data(), &["reverse", "bbps:t4", "refunded", "--by", "A. Singh"]);
    till.refused(&["collect", "assign", "bbps:t4", second, "--by", "A. Singh"], "taken back out of it");
    assert_eq!((till.head("cash"), till.head("suspense")), (-110_050, 0));

    // Booked to a wrong account: through suspense to the right one, and the cash stays where it is.
    let misdirected = ["collect", "misdirected", "bbps:t1", first, "--by", "A. Singh"];
    till.refused(&["collect", "misdirected", "bbps:t1", second, "--by", "A. Singh"], first);
    urja_ok(till.data(), &misdirected);
    assert_eq!((till.head("cash"), till.head("suspense")), (-110_050, 50_000));
    urja_ok(till.data(), &["collect", "assign", "bbps:t1", second, "--by", "A. Singh"]);
    // Said once more by who did not hear the answer, it takes nothing from whom it is for.
    till.refused(&misdirected, second);
    let balance = |account: &str| {
        till.served.number(&format!(
            "SELECT sum(amount_paise) FROM ledger_posting JOIN account USING (account_id) \
             WHERE head = 'consumer' AND kind <> 'opening' AND account_number = '{account}'"
        ))
    };
    assert_eq!((balance(first), balance(second)), (30_000, 80_050));
    let sum = till.served.number("SELECT sum(amount_paise) FROM ledger_posting");
    assert_eq!(sum, 0);
    // The same after a start, and from the lake alone.
    let balances = "SELECT account_id, booked_paise, accrued_paise FROM account_state ORDER BY 1";
    let before = till.served.sql(balances);
    let data = till.data().to_owned();
    assert_eq!(till.served.terminate(), 0);
    assert_eq!(urja_ok(&data, &["rebuild"])["differences"], json!([]));
    till.served = Served::start(&data, &[]);
    assert_eq!(till.served.sql(balances), before);
    assert_eq!(urja_ok(&data, &["collect", "suspense"])["payments"], 0);
}

#[test]
fn files_are_booked_once_through_kills_in_the_midst_of_them() {
    let (mut till, seed, mut random) = Till::open("till-kills", "40");
    let (count, rounds): (u64, u32) = if full() { (25_000, 4) } else { (1_500, 2) };
    let mut oracle: BTreeMap<String, i64> = BTreeMap::new();
    let mut all: Vec<(String, i64, String)> = Vec::new();
    let (mut within, mut held, mut repeated) = (0, 0_i64, 0);
    for round in 0..rounds {
        let mut payments = Vec::new();
        for number in 0..count {
            // One of ten is told by an earlier file as well; one of fifty names an account that nobody has.
            if let Some(before) = all.get(random() as usize % (10 * all.len().max(1))) {
                let is_new = !payments.iter().any(|it: &(String, i64, String)| it.2 == before.2);
                if is_new {
                    repeated += 1;
                    payments.push(before.clone());
                }
                continue;
            }
            let paise = 100 + (random() % 1_000_000) as i64;
            let account = match random() % 50 {
                0 => format!("PUVVNL{:010}", 9_000_000_000 + number),
                at => till.accounts[at as usize % till.accounts.len()].clone(),
            };
            match till.accounts.contains(&account) {
                true => *oracle.entry(account.clone()).or_default() += paise,
                false => held += paise,
            }
            payments.push((account, paise, format!("r{round}-{number}")));
        }
        let args = till.import(&format!("b{round}"), &payments);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut bringing = urja_begun(till.data(), &args);
        let journal = till.data().join("journal");
        let before = journal::verify(&journal).unwrap().last.0;
        wait_for("booking has begun", || (journal::verify(&journal).unwrap().last.0 > before).then_some(()));
        shared_deadline(Duration::from_millis(random() % 30));
        let data = till.data().to_owned();
        till.served.kill();
        let _ = bringing.wait();
        let left = &urja_ok(&data, &["collect", "batches", "--limit", "1"])["batches"][0];
        within += u32::from(state(left, "taken") > 0);
        // Nobody brings it again: a start goes on with what it finds.
        till.served = Served::start(&data, &[]);
        wait_for("everything is booked", || {
            let batch = &urja_ok(&data, &["collect", "batches", "--limit", "1"])["batches"][0];
            (state(batch, "taken") == 0 && batch["lines"] == payments.len()).then_some(())
        });
        all.extend(payments);
    }
    let booked: BTreeMap<String, i64> = till
        .served
        .sql(
            "SELECT account_number, sum(amount_paise) AS paise FROM ledger_posting JOIN account USING (account_id) \
             WHERE kind = 'recharge' AND head = 'consumer' GROUP BY 1",
        )
        .iter()
        .map(|row| (row["account_number"].as_str().unwrap().to_owned(), row["paise"].as_i64().unwrap()))
        .collect();
    assert_eq!(booked, oracle);
    assert_eq!(till.head("suspense"), held);
    assert_eq!(till.head("cash"), -held - oracle.values().sum::<i64>());
    assert_eq!(till.served.number("SELECT sum(amount_paise) FROM ledger_posting"), 0);
    assert!(within > 0, "no kill fell into the booking of a file");
    let result = format!("{} payments, {repeated} of them told twice, each booked once", all.len());
    evidence("files of payments are booked once through kill -9", seed, within, &result);
}

/// What a test does to a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mismatch {
    NotInLedger,
    NotInStatement,
    Amount,
    Account,
    Twice,
    RefundNotInLedger,
    RefundNotInStatement,
}

const MISMATCHES: [Mismatch; 7] = [
    Mismatch::NotInLedger,
    Mismatch::NotInStatement,
    Mismatch::Amount,
    Mismatch::Account,
    Mismatch::Twice,
    Mismatch::RefundNotInLedger,
    Mismatch::RefundNotInStatement,
];

impl Mismatch {
    fn name(self) -> &'static str {
        match self {
            Mismatch::NotInLedger => "missing_in_ledger",
            Mismatch::NotInStatement => "missing_in_statement",
            Mismatch::Amount => "amount_differs",
            Mismatch::Account => "account_differs",
            Mismatch::Twice => "told_before",
            Mismatch::RefundNotInLedger => "refund_missing_in_ledger",
            Mismatch::RefundNotInStatement => "refund_missing_in_statement",
        }
    }
}

const NEXT: &str = "2026-04-03";
const STATEMENT: &str = "payment_id,amount_rupees,kind,account_number,fee_rupees,settlement\n";

fn open(report: &Value) -> BTreeSet<(String, String)> {
    let rows = report["open"].as_array().unwrap();
    let text = |open: &Value, key: &str| open[key].as_str().unwrap().to_owned();
    let open: BTreeSet<_> =
        rows.iter().map(|row| (text(row, "payment_id"), text(row, "difference"))).collect();
    assert_eq!(open.len(), rows.len());
    open
}

fn settlements(report: &Value) -> Vec<&str> {
    let rows = report["bank"]["differ"].as_array().unwrap();
    rows.iter().map(|row| row["settlement"].as_str().unwrap()).collect()
}

#[test]
fn every_mismatch_of_statement_bank_and_ledger_is_told_by_name_until_it_is_mended() {
    let (mut till, seed, mut random) = Till::open("till-statement", "40");
    let wrong = if full() { 1_000 } else { 70 };
    let (mut payments, mut statement) = (Vec::new(), STATEMENT.to_owned());
    let mut transfers: BTreeMap<String, i64> = BTreeMap::new();
    let mut expected: BTreeMap<String, Mismatch> = BTreeMap::new();
    let mut amounts: BTreeMap<String, (String, i64)> = BTreeMap::new();
    let mut line = |id: &str, paise: i64, kind: &str, account: &str, transfer: &str| {
        let (fee, sign) = if kind == "payment" { (250, 1) } else { (0, -1) };
        writeln!(statement, "{id},{},{kind},{account},{},{transfer}", rupees(paise), rupees(fee)).unwrap();
        *transfers.entry(transfer.to_owned()).or_default() += sign * paise - fee;
    };
    for number in 0..2 * wrong {
        let id = format!("p{number}");
        let account = till.accounts[number % 40].clone();
        let other = till.accounts[(number + 1) % 40].clone();
        let (paise, transfer) = (10_000 + (random() % 100_000) as i64, format!("UTR{}", random() % 9));
        let mismatch = (number % 2 == 1).then(|| MISMATCHES[(random() >> 16) as usize % 7]);
        if mismatch != Some(Mismatch::NotInLedger) {
            payments.push(payment(&account, paise, &id));
        }
        if mismatch != Some(Mismatch::NotInStatement) {
            let told = if mismatch == Some(Mismatch::Amount) { paise + 1 } else { paise };
            let whose = if mismatch == Some(Mismatch::Account) { &other } else { &account };
            line(&id, told, "payment", whose, &transfer);
        }
        match mismatch {
            Some(Mismatch::Twice) => line(&id, paise, "payment", &account, &transfer),
            Some(Mismatch::RefundNotInLedger) => line(&id, paise, "refund", &account, &transfer),
            _ => {}
        }
        expected.extend(mismatch.map(|mismatch| (format!("bbps:{id}"), mismatch)));
        amounts.insert(format!("bbps:{id}"), (account, paise));
    }
    let of = |wanted: Mismatch| -> Vec<String> {
        expected.iter().filter(|(_, it)| **it == wanted).map(|(id, _)| id.clone()).collect()
    };
    till.take("b1", &payments);
    for id in of(Mismatch::RefundNotInStatement) {
        urja_ok(till.data(), &["reverse", &id, "refunded", "--by", "A. Singh"]);
    }
    // The bank has every transfer but the first, and of the last a rupee less.
    let (first, last) = (transfers.keys().next().unwrap().clone(), transfers.keys().last().unwrap().clone());
    let bank_of = |short: i64, all: bool| {
        let mut bank = "settlement,amount_rupees\n".to_owned();
        for (transfer, paise) in transfers.iter().filter(|(transfer, _)| all || **transfer != first) {
            let paise = paise - if *transfer == last { short } else { 0 };
            writeln!(bank, "{transfer},{}", rupees(paise)).unwrap();
        }
        bank
    };
    let file = written(till.dir.path(), "statement.csv", &statement);
    let bank = written(till.dir.path(), "bank.csv", &bank_of(100, false));
    let (code, report) = till.reconcile(DAY, &file, Some(&bank));
    assert_eq!((code, &report["ledger_agrees"], &report["bank_agrees"]), (2, &false.into(), &false.into()));
    let names = |left: &BTreeMap<String, Mismatch>| -> BTreeSet<(String, String)> {
        left.iter().map(|(id, mismatch)| (id.clone(), mismatch.name().to_owned())).collect()
    };
    assert_eq!(open(&report), names(&expected));
    assert_eq!(settlements(&report), [&first, &last]);
    assert_eq!(report["bank"]["differ"][0]["may_come"], true);
    let shown = urja(till.data(), &["--json", "reconcile", "show", "bbps"]);
    assert_eq!(serde_json::from_slice::<Value>(&shown.stdout).unwrap(), report);
    // Brought again, the same is open.
    assert_eq!(open(&till.reconcile(DAY, &file, Some(&bank)).1), names(&expected));

    // A day on: what is not mended is still there, with its age.
    urja_ok(till.data(), &["clock", &format!("{NEXT}T05:00:00+05:30")]);
    let nothing = written(till.dir.path(), "nothing.csv", STATEMENT);
    let (_, report) = till.reconcile(NEXT, &nothing, None);
    assert_eq!(open(&report), names(&expected));
    assert!(report["open"].as_array().unwrap().iter().all(|row| row["days"] == 1), "{report}");

    // Everybody does what the report asks for, and the next statement agrees.
    let missing: Vec<_> = of(Mismatch::NotInLedger)
        .iter()
        .map(|id| payment(&amounts[id].0, amounts[id].1, id.strip_prefix("bbps:").unwrap()))
        .collect();
    till.take("b2", &missing);
    for id in of(Mismatch::RefundNotInLedger) {
        urja_ok(till.data(), &["reverse", &id, "refunded", "--by", "A. Singh"]);
    }
    let mut next = STATEMENT.to_owned();
    for (kind, mismatch) in
        [("payment", Mismatch::NotInStatement), ("refund", Mismatch::RefundNotInStatement)]
    {
        for id in of(mismatch) {
            let plain = id.strip_prefix("bbps:").unwrap();
            writeln!(next, "{plain},{},{kind},,,UTR10", rupees(amounts[&id].1)).unwrap();
        }
    }
    for id in of(Mismatch::Account) {
        let number = id.strip_prefix("bbps:p").unwrap().parse::<usize>().unwrap();
        let (wrong, right) = (till.accounts[number % 40].clone(), till.accounts[(number + 1) % 40].clone());
        urja_ok(till.data(), &["collect", "misdirected", &id, &wrong, "--by", "A. Singh"]);
        urja_ok(till.data(), &["collect", "assign", &id, &right, "--by", "A. Singh"]);
    }
    // A wrong amount is taken back, and comes as it should under an id that names the old one.
    let mut mended = Vec::new();
    for id in of(Mismatch::Amount) {
        urja_ok(till.data(), &["reverse", &id, "mistaken", "--by", "A. Singh"]);
        let (account, paise) = &amounts[&id];
        mended.push(payment(account, paise + 1, &format!("{}/corrected", id.strip_prefix("bbps:").unwrap())));
    }
    till.take("b3", &mended);
    let mended: Vec<String> = mended.iter().map(|it| format!("bbps:{}", it.2)).collect();
    for id in of(Mismatch::Amount).iter().chain(&mended).chain(&of(Mismatch::Twice)) {
        urja_ok(till.data(), &["reconcile", "close", "bbps", id, "--reason", "asked", "--by", "A. Singh"]);
    }
    let next = written(till.dir.path(), "next.csv", &next);
    let bank = written(till.dir.path(), "bank2.csv", &bank_of(0, true));
    till.reconcile(DAY, &file, Some(&bank));
    let (_, report) = till.reconcile(NEXT, &next, None);
    let again: BTreeMap<_, _> = expected
        .iter()
        .filter(|(_, it)| [Mismatch::Amount, Mismatch::Twice].contains(it))
        .map(|(id, it)| (id.clone(), *it))
        .collect();
    assert_eq!(open(&report), names(&again), "only what was closed for a statement that was brought again");
    for id in again.keys() {
        urja_ok(till.data(), &["reconcile", "close", "bbps", id, "--reason", "asked", "--by", "A. Singh"]);
    }
    let (code, report) = till.reconcile(NEXT, &next, None);
    assert_eq!((code, &report["ledger_agrees"], open(&report).len()), (0, &true.into(), 0), "{report}");
    let on_its_way: Vec<&str> = if report["bank"]["differ"] == json!([]) { vec![] } else { vec!["UTR10"] };
    assert_eq!(settlements(&report), on_its_way);
    let tomorrow = ["reconcile", "run", "bbps", "2026-04-04", "--statement", &nothing, "--by", "A. Singh"];
    till.refused(&tomorrow, "has not begun");
    let result = format!("{} told by name and nothing else, and again until each was mended", expected.len());
    evidence("every mismatch of a statement is told", seed, expected.len() as u32 + 2, &result);
}
