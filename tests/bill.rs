//! Monthly bills: every posting stands on one of them, what comes late stands on the next, and one that was made stays as it was.

use model::CivilDay;
use serde_json::Value;

use crate::harness::{Served, seeded, urja, urja_ok};
use crate::relay::{Household, clock};

/// The last days of one month and the first of the next are lived through.
const FIRST: &str = "2026-05-20";
const METERS: u32 = 3;

/// A head-end, and the account numbers of the households.
struct Books {
    served: Served,
    accounts: Vec<String>,
}

impl Books {
    fn ok(&self, args: &[&str]) -> Value {
        urja_ok(&self.served.data, args)
    }

    fn bill(&self, account: &str, month: &str) -> Value {
        self.ok(&["bill", account, month])
    }

    fn close(&self, day: CivilDay, household: &Household) {
        let calendar = &household.fleet.options().calendar;
        clock(&self.served, calendar.end_of(day).plus_seconds(6 * 3600 + 60));
    }
}

fn paise(bill: &Value, key: &str) -> i64 {
    bill[key].as_i64().unwrap_or_else(|| panic!("no {key} in {bill}"))
}

/// What of a bill cannot change any more.
fn lines(bill: &Value) -> (&Value, i64, i64) {
    (&bill["lines"], paise(bill, "opening_balance_paise"), paise(bill, "closing_balance_paise"))
}

#[test]
fn a_bill_has_every_line_of_its_month_and_what_comes_late_stands_on_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, _) = seeded("bill");
    let served = Served::start(&dir.path().join("data"), &[]);
    let first: CivilDay = FIRST.parse().unwrap();
    let mut household = Household::new(&served, seed, &dir.path().join("truth.jsonl"), METERS, first);
    let calendar = household.fleet.options().calendar.clone();
    clock(&served, calendar.start_of(first));
    household.fleet.write_registry_files(dir.path()).unwrap();
    for tariff in ["lmv1-urban", "lmv1-rural", "lmv1-lifeline"] {
        urja_ok(&served.data, &["tariff", "apply", tariff]);
    }
    let file = |name: &str| dir.path().join(name).display().to_string();
    urja_ok(&served.data, &["account", "import", &file("accounts.csv")]);
    urja_ok(&served.data, &["meter", "import", &file("meters.csv")]);
    let text = std::fs::read_to_string(dir.path().join("accounts.csv")).unwrap();
    let accounts: Vec<String> =
        text.lines().skip(1).map(|line| line.split(',').next().unwrap().to_owned()).collect();
    let books = Books { served, accounts };

    // Until the 29th all is there in time; of the 30th and 31st nothing is when the month is closed.
    let last_of_may: CivilDay = "2026-05-31".parse().unwrap();
    for day in (0..10).map(|ahead| first.plus(ahead)) {
        let night = calendar.end_of(day).plus_seconds(1800);
        clock(&books.served, night);
        household.push(night);
        books.close(day, &household);
    }
    let payer = &books.accounts[0];
    books.ok(&["recharge", payer, "300", "--payment-id", "may"]);
    assert_eq!(books.bill(payer, "2026-05")["complete"], false);
    for day in [last_of_may.plus(-1), last_of_may] {
        books.close(day, &household);
    }
    let of_may: Vec<Value> = books.accounts.iter().map(|account| books.bill(account, "2026-05")).collect();
    assert!(of_may.iter().all(|bill| bill["complete"] == true), "{of_may:?}");
    let made_at = paise(&of_may[0], "as_of_position");
    let is_paid = |line: &Value| line["kind"] == "recharge" && line["amount_paise"] == 30_000;
    assert!(of_may[0]["lines"].as_array().unwrap().iter().any(is_paid), "{}", of_may[0]);

    let june: CivilDay = "2026-06-01".parse().unwrap();
    for day in (0..6).map(|ahead| june.plus(ahead)) {
        let night = calendar.end_of(day).plus_seconds(1800);
        clock(&books.served, night);
        household.push(night);
        books.close(day, &household);
    }
    // The payment of May bounces in June: an entry of its own, on the bill of June, once.
    let bounced = ["reverse", "may", "bounced", "--by", "A. Singh"];
    let reversed = books.ok(&bounced);
    assert_eq!((&reversed["outcome"], &reversed["amount_paise"]), (&"reversed".into(), &30_000.into()));
    assert_eq!(reversed["account"], payer.as_str());
    assert_eq!(books.ok(&bounced)["outcome"], "exists");
    let of_june = books.bill(payer, "2026-06");
    let is_bounced = |line: &&Value| line["kind"] == "reversal" && line["amount_paise"] == -30_000;
    assert_eq!(of_june["lines"].as_array().unwrap().iter().filter(is_bounced).count(), 1, "{of_june}");
    let unknown = urja(&books.served.data, &["reverse", "nothing", "bounced", "--by", "A. Singh"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no payment of that id"), "{unknown:?}");
    for (account, may) in books.accounts.iter().zip(&of_may) {
        let now = books.bill(account, "2026-05");
        assert_eq!(lines(&now), lines(may), "a bill that was made stays as it was");
        let june = books.bill(account, "2026-06");
        assert_eq!(paise(&june, "opening_balance_paise"), paise(may, "closing_balance_paise"));
        assert!(paise(&june, "true_up_paise") > 0, "two days of May came late: {june}");
        let of_may = |line: &&Value| line["kind"] == "correction" && line["of_month"] == "2026-05-01";
        let energy: i64 = june["lines"]
            .as_array()
            .unwrap()
            .iter()
            .filter(of_may)
            .filter_map(|line| line["energy_wh"].as_i64())
            .sum();
        assert!(energy > 0, "{june}");
        let booked = format!(
            "SELECT booked_paise FROM account_state WHERE account_id = \
             (SELECT account_id FROM account WHERE account_number = '{account}')"
        );
        assert_eq!(paise(&june, "closing_balance_paise"), books.served.number(&booked));
        // What was known when the bill of May was made can be had again, also of the month after it.
        let then = books.ok(&["bill", account, "2026-06", "--as-of", &made_at.to_string()]);
        assert_eq!(then["lines"], Value::Array(Vec::new()));
        assert_eq!(paise(&then, "closing_balance_paise"), paise(may, "closing_balance_paise"));
        let day_cost: i64 = ["05-30", "05-31"]
            .iter()
            .map(|day| paise(&books.ok(&["explain", account, &format!("2026-{day}")]), "energy_wh"))
            .sum();
        assert!(day_cost > 0);
    }
    // By day or by bill: what the days of May cost in all.
    let by_bill = "SELECT CAST(-100 * sum(amount_rupees) AS BIGINT) FROM monthly_bill \
                   WHERE of_month = DATE '2026-05-01' AND kind IN ('usage', 'correction')";
    let by_day = "SELECT CAST(100 * sum(charge_rupees) AS BIGINT) FROM daily_usage WHERE usage_date < DATE '2026-06-01'";
    assert_eq!(books.served.number(by_bill), books.served.number(by_day));
    let words = urja(&books.served.data, &["bill", payer, "2026-06"]);
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("balance before") && words.contains("true-up of 2026-05, energy"), "{words}");
    for (args, wrong) in [
        (["bill", payer, "2026-13"], "no month"),
        (["bill", "PUVVNL0000000000", "2026-06"], "not registered"),
    ] {
        let refused = urja(&books.served.data, &args);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(wrong), "{said}");
    }
    let ahead = urja(&books.served.data, &["bill", payer, "2026-06", "--as-of", "99999999"]);
    assert!(String::from_utf8_lossy(&ahead.stderr).contains("nothing is known yet"), "{ahead:?}");
    assert_eq!(books.served.terminate(), 0);
}
