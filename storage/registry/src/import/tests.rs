use std::path::Path;

use model::{AccountId, Fact, Instant, MeterId, OutboxId, SystemTitle};

use super::*;
use crate::Registry;
use crate::database::tests::open;

const TARIFFS: [&str; 2] = ["lmv1-urban", "lmv1-rural"];
const KNOWN: Known<'static> = Known { profiles: &[("is15959-d1", 1800), ("is15959-d1-15min", 900)] };
const ACCOUNT_HEADER: &str =
    "account_number,category,sanctioned_kw,from,opening_register_kwh,opening_balance_rupees,connection\n";
const METER_HEADER: &str = "system_title,serial,guek,gak,profile,policy,account_number,policy_reason\n";

const UNTIL: Instant = Instant(77);

struct Fixture {
    _directory: tempfile::TempDir,
    registry: Registry,
}

impl Fixture {
    async fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        Fixture { _directory: directory, registry }
    }

    /// With the accounts 1 to 5 and no meter.
    async fn with_accounts() -> Fixture {
        let fixture = Fixture::new().await;
        let lines: Vec<String> = (1..=5).map(account_line).collect();
        fixture.accounts(&lines).await.unwrap();
        fixture
    }

    async fn accounts<S: AsRef<str>>(&self, lines: &[S]) -> Result<Imported, ImportError> {
        let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        let csv = format!("{ACCOUNT_HEADER}{}\n", lines.join("\n"));
        self.registry.import_accounts(csv.as_bytes(), &TARIFFS).await
    }

    async fn meters<S: AsRef<str>>(&self, lines: &[S]) -> Result<Imported, ImportError> {
        let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        let csv = format!("{METER_HEADER}{}\n", lines.join("\n"));
        self.registry.import_meters(csv.as_bytes(), &KNOWN).await
    }

    async fn rekey<S: AsRef<str>>(&self, lines: &[S]) -> Result<Imported, ImportError> {
        let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        let csv = format!("system_title,guek,gak\n{}\n", lines.join("\n"));
        self.registry.rekey_meters(csv.as_bytes(), UNTIL).await
    }

    async fn records(&self) -> Vec<crate::MeterRecord> {
        self.registry.meter_keys(MeterId(0), 100).await.unwrap()
    }

    async fn facts(&self) -> Vec<(OutboxId, Fact)> {
        self.registry.outbox_after(OutboxId(0), 1000).await.unwrap()
    }
}

fn account_line(number: u32) -> String {
    format!("PUVVNL{number:010},lmv1-urban,4,2026-06-01,100.5,-12.34,prepaid")
}

/// A key that is not weak, different for every number.
fn key(number: u32) -> String {
    blake3::hash(&number.to_le_bytes()).to_hex()[..32].to_owned()
}

fn meter_line(number: u32) -> String {
    let (guek, gak) = (key(2 * number), key(2 * number + 1));
    format!("48584500{number:08x},SA{number:07},{guek},{gak},is15959-d1,authenticated,PUVVNL{number:010},")
}

fn faults(outcome: Result<Imported, ImportError>) -> Vec<String> {
    match outcome {
        Err(ImportError::Lines(lines)) => lines.listed.iter().map(ToString::to_string).collect(),
        other => panic!("no bad lines: {other:?}"),
    }
}

#[tokio::test]
async fn an_account_and_its_terms_are_one_change() {
    let fixture = Fixture::new().await;
    let imported = fixture.accounts(&[account_line(7), account_line(3)]).await.unwrap();
    assert_eq!(imported, Imported { added: 2, updated: 0, unchanged: 0, outbox: Some(OutboxId(2)) });
    let facts = fixture.facts().await;
    let [(OutboxId(1), Fact::AccountTerms(first)), (OutboxId(2), Fact::AccountTerms(second))] =
        facts.as_slice()
    else {
        panic!("{facts:?}");
    };
    assert_eq!((first.account, second.account), (AccountId(1), AccountId(2)));
    assert_eq!((first.outbox, first.tariff.as_str(), first.sanctioned_w), (OutboxId(1), "lmv1-urban", 4000));
    assert_eq!((first.from.to_string().as_str(), first.opening_register_wh), ("2026-06-01", 100_500));
    assert_eq!(first.opening_balance.0, -1234);
    let number = "PUVVNL0000000007".parse().unwrap();
    assert_eq!(fixture.registry.account_by_number(&number).await.unwrap(), Some(AccountId(1)));
    let info = fixture.registry.accounts(AccountId(0), 10).await.unwrap();
    assert_eq!((info.len(), info[0].discom(), info[0].number.as_str()), (2, "PUVVNL", "PUVVNL0000000007"));
}

#[tokio::test]
async fn a_meter_its_keys_and_its_terms_are_one_change() {
    let fixture = Fixture::with_accounts().await;
    let transport =
        format!("4858450000000009,SA9,{},{},is15959-d1-15min,transport,,mutual TLS", key(90), key(91));
    let imported = fixture.meters(&[meter_line(4), transport]).await.unwrap();
    assert_eq!(imported, Imported { added: 2, updated: 0, unchanged: 0, outbox: Some(OutboxId(7)) });

    let records = fixture.registry.meter_keys(MeterId(0), 10).await.unwrap();
    assert_eq!((records[0].meter, records[1].meter), (MeterId(1), MeterId(2)));
    assert_eq!((hex::encode(records[0].keys.guek), hex::encode(records[0].keys.gak)), (key(8), key(9)));
    assert_eq!((records[0].account, records[0].authenticated), (Some(AccountId(4)), true));
    assert_eq!((records[1].account, records[1].authenticated, records[1].period_s), (None, false, 900));

    let facts = fixture.facts().await;
    let Some((OutboxId(6), Fact::MeterTerms(terms))) = facts.get(5) else { panic!("{facts:?}") };
    assert_eq!((terms.meter, terms.account, terms.period_s), (MeterId(1), Some(AccountId(4)), 1800));
    assert_eq!((terms.outbox, terms.key_epoch, terms.authenticated), (OutboxId(6), 1, true));
    let title = SystemTitle([0x48, 0x58, 0x45, 0, 0, 0, 0, 9]);
    assert_eq!(fixture.registry.meter_by_title(title).await.unwrap().unwrap().meter, MeterId(2));
    assert_eq!(fixture.registry.meters(MeterId(1), 10).await.unwrap()[0].serial, "SA9");
}

#[tokio::test]
async fn no_key_lies_readable_in_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(directory.path()).await;
    let line = format!("4858450000000009,SA9,{},{},is15959-d1,authenticated,", key(90), key(91));
    let csv = format!("system_title,serial,guek,gak,profile,policy,account_number\n{line}\n");
    registry.import_meters(csv.as_bytes(), &KNOWN).await.unwrap();
    registry.close().await;
    let bytes = read_all(directory.path());
    for number in [90, 91] {
        let text = key(number);
        let plain = hex::decode(&text).unwrap();
        for needle in [plain.as_slice(), text.as_bytes()] {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "key {number} is readable");
        }
    }
}

fn read_all(directory: &Path) -> Vec<u8> {
    std::fs::read_dir(directory)
        .unwrap()
        .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

#[tokio::test]
async fn one_bad_line_leaves_everything_as_it_was() {
    let fixture = Fixture::with_accounts().await;
    let mut lines: Vec<String> = (10..2000).map(account_line).collect();
    lines[1500] = "PUVVNL123,lmv1-urban,4,2026-06-01,0,0,prepaid".to_owned();
    let faults = faults(fixture.accounts(&lines).await);
    assert_eq!(
        faults,
        [
            "line 1502, account_number: an account number is 2 to 8 capital letters of the discom and 10 digits"
        ]
    );
    assert_eq!(fixture.registry.account_count().await.unwrap(), 5);
    assert_eq!(fixture.facts().await.len(), 5);

    lines.remove(1500);
    let imported = fixture.accounts(&lines).await.unwrap();
    assert_eq!((imported.added, imported.outbox), (1989, Some(OutboxId(1994))));
    let ids: Vec<u32> = fixture
        .registry
        .accounts(AccountId(0), 5000)
        .await
        .unwrap()
        .iter()
        .map(|info| info.account.0)
        .collect();
    assert!(ids.iter().copied().eq(1..=1994), "ids are dense");
}

#[tokio::test]
async fn every_bad_field_of_an_account_is_told() {
    let fixture = Fixture::new().await;
    let outcome = fixture.accounts(&["PUVVNL0000000001,lmv9,0,2026-02-30,-1,1.005,free"]).await;
    assert_eq!(
        faults(outcome),
        [
            "line 2, category: no tariff is named \"lmv9\"; known are lmv1-urban, lmv1-rural",
            "line 2, sanctioned_kw: 0 is out of range",
            "line 2, from: not a date such as 2026-06-01: \"2026-02-30\"",
            "line 2, opening_register_kwh: -1 is out of range",
            "line 2, opening_balance_rupees: more than 2 decimals",
            "line 2, connection: neither prepaid nor postpaid",
        ]
    );
    let outcome = fixture.accounts(&["PUVVNL0000000001,lmv1-urban,1e3,1999-12-31,,1000000001,prepaid"]).await;
    assert_eq!(
        faults(outcome),
        [
            "line 2, sanctioned_kw: not a number such as 12.5",
            "line 2, from: 1999-12-31 is not between 2000 and 2099",
            "line 2, opening_register_kwh: not a number such as 12.5",
            "line 2, opening_balance_rupees: 1000000001 is out of range",
        ]
    );
}

#[tokio::test]
async fn every_bad_field_of_a_meter_is_told_and_no_key_is_shown() {
    let fixture = Fixture::with_accounts().await;
    let zeros = "0".repeat(32);
    let outcome = fixture
        .meters(&[
            format!("nonsense,,{zeros},12,d1,open,12,"),
            format!("4858450000000001,A B,{k},{k},is15959-d1,transport,PUVVNL0000000099,", k = key(1)),
            format!(
                "4858450000000002,SA2,{},{},is15959-d1,authenticated,PUVVNL0000000098,why",
                key(2),
                key(3)
            ),
            format!("4858450000000003,SA3,{},{},is15959-d1,authenticated,PUVVNL0000000099,", key(4), key(5)),
        ])
        .await;
    assert_eq!(
        faults(outcome),
        [
            "line 2, system_title: a system title is 16 hexadecimal digits",
            "line 2, serial: a serial is 1 to 32 letters, digits, '-', '_', '.' or '/'",
            "line 2, guek: all bytes are equal",
            "line 2, gak: a key is 32 hexadecimal digits",
            "line 2, profile: no profile is named \"d1\"; known are is15959-d1, is15959-d1-15min",
            "line 2, policy: neither authenticated nor transport",
            "line 2, account_number: an account number is 2 to 8 capital letters of the discom and 10 digits",
            "line 3, serial: a serial is 1 to 32 letters, digits, '-', '_', '.' or '/'",
            "line 3, gak: the same key as guek",
            "line 3, policy_reason: the policy transport needs a reason",
            "line 4, policy_reason: only the policy transport has a reason",
            "line 5, account_number: no account has the number PUVVNL0000000099; known are PUVVNL0000000001, \
         PUVVNL0000000002, PUVVNL0000000003, PUVVNL0000000004, PUVVNL0000000005",
        ]
    );
}

#[tokio::test]
async fn weak_keys_are_refused() {
    let fixture = Fixture::new().await;
    let line =
        |guek: &str, gak: &str| format!("4858450000000001,SA1,{guek},{gak},is15959-d1,authenticated,,");
    let outcome =
        fixture.meters(&[line("000102030405060708090a0b0c0d0e0f", "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF")]).await;
    assert_eq!(
        faults(outcome),
        ["line 2, guek: the bytes count in equal steps", "line 2, gak: the bytes count in equal steps",]
    );
    let outcome =
        fixture.meters(&[line("31323334353637383930313233343536", "2B7E151628AED2A6ABF7158809CF4F3C")]).await;
    assert_eq!(
        faults(outcome),
        ["line 2, guek: the key is text, not random bytes", "line 2, gak: the key is a published test key",]
    );
}

#[tokio::test]
async fn repeats_within_the_file_are_refused_with_the_line_they_repeat() {
    let fixture = Fixture::with_accounts().await;
    let again = format!(
        "4858450000000001,SA0000001,{},{},is15959-d1,authenticated,PUVVNL0000000001,",
        key(3),
        key(2)
    );
    let outcome = fixture.meters(&[meter_line(1), meter_line(2), again]).await;
    assert_eq!(
        faults(outcome),
        [
            "line 4, system_title: the same as in line 2",
            "line 4, serial: the same as in line 2",
            "line 4, guek: the same as in line 2",
            "line 4, gak: the same as in line 2",
            "line 4, account_number: the same as in line 2",
        ]
    );
    let outcome = fixture.accounts(&[account_line(8), account_line(9), account_line(8)]).await;
    assert_eq!(faults(outcome), ["line 4, account_number: the same as in line 2"]);
}

#[tokio::test]
async fn what_another_meter_has_is_refused() {
    let fixture = Fixture::with_accounts().await;
    fixture.meters(&[meter_line(1)]).await.unwrap();
    // The encryption key of the one is the authentication key of the other.
    let line = format!(
        "4858450000000002,SA0000001,{},{},is15959-d1,authenticated,PUVVNL0000000001,",
        key(9),
        key(2)
    );
    assert_eq!(
        faults(fixture.meters(&[line]).await),
        [
            "line 2, serial: registered with the system title 4858450000000001",
            "line 2, account_number: the account has the meter 4858450000000001",
            "line 2, gak: the key is in use by another meter",
        ]
    );
}

#[tokio::test]
async fn the_same_file_again_changes_nothing() {
    let fixture = Fixture::with_accounts().await;
    let meters = [meter_line(1), meter_line(2)];
    fixture.meters(&meters).await.unwrap();
    let before = fixture.facts().await;
    let imported = fixture.meters(&meters).await.unwrap();
    assert_eq!(imported, Imported { added: 0, updated: 0, unchanged: 2, outbox: None });
    let accounts = [account_line(1), account_line(6), account_line(2)];
    let imported = fixture.accounts(&accounts).await.unwrap();
    assert_eq!(imported, Imported { added: 1, updated: 0, unchanged: 2, outbox: Some(OutboxId(8)) });
    assert_eq!(fixture.facts().await.len(), before.len() + 1);
}

#[tokio::test]
async fn a_registered_line_that_differs_is_refused_with_what_differs() {
    let fixture = Fixture::with_accounts().await;
    fixture.meters(&[meter_line(1)]).await.unwrap();
    let line = format!("4858450000000001,SA7,{},{},is15959-d1-15min,transport,,field trial", key(2), key(99));
    assert_eq!(
        faults(fixture.meters(&[line]).await),
        [
            "line 2, serial: registered is \"SA0000001\", here stands \"SA7\"",
            "line 2, profile: registered is \"is15959-d1\", here stands \"is15959-d1-15min\"",
            "line 2, policy: registered is \"authenticated\", here stands \"transport\"",
            "line 2, policy_reason: registered is \"\", here stands \"field trial\"",
            "line 2, account_number: registered is \"PUVVNL0000000001\", here stands \"\"",
            "line 2, gak: differs from the registered key",
        ]
    );
    let outcome = fixture.accounts(&["PUVVNL0000000001,lmv1-rural,4.5,2026-07-01,100,0,postpaid"]).await;
    assert_eq!(
        faults(outcome),
        [
            "line 2, category: registered is lmv1-urban, here stands lmv1-rural",
            "line 2, sanctioned_kw: registered is 4000 W, here stands 4500 W",
            "line 2, from: registered is 2026-06-01, here stands 2026-07-01",
            "line 2, opening_register_kwh: registered is 100500 Wh, here stands 100000 Wh",
            "line 2, opening_balance_rupees: registered is -1234 paise, here stands 0 paise",
            "line 2, connection: registered is prepaid, here stands postpaid",
        ]
    );
}

#[tokio::test]
async fn the_list_of_faults_is_bounded_and_their_number_is_told() {
    let fixture = Fixture::new().await;
    let lines: Vec<String> = (0..700).map(|number| account_line(number).replace("prepaid", "")).collect();
    let Err(ImportError::Lines(lines)) = fixture.accounts(&lines).await else { panic!("imported") };
    assert_eq!((lines.listed.len(), lines.total), (MAX_LISTED_FAULTS, 700));
    assert_eq!(lines.to_string(), "line 2, connection: neither prepaid nor postpaid (and 699 more faults)");
}

#[tokio::test]
async fn a_moved_row_of_keys_is_found_out() {
    let fixture = Fixture::with_accounts().await;
    fixture.meters(&[meter_line(1), meter_line(2)]).await.unwrap();
    sqlx::query("UPDATE meter SET wrapped_keys = (SELECT wrapped_keys FROM meter WHERE id = 1) WHERE id = 2")
        .execute(&fixture.registry.pool)
        .await
        .unwrap();
    let refused = fixture.registry.meter_keys(MeterId(0), 10).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the registry is damaged: the keys of meter 4858450000000002 are those of another meter or epoch"
    );
}

#[tokio::test]
async fn the_outbox_gives_facts_in_order_and_knows_what_is_pending() {
    let fixture = Fixture::with_accounts().await;
    let ids = |facts: Vec<(OutboxId, Fact)>| facts.into_iter().map(|(id, _)| id.0).collect::<Vec<_>>();
    let registry = &fixture.registry;
    assert_eq!(ids(registry.outbox_after(OutboxId(2), 2).await.unwrap()), [3, 4]);
    assert_eq!(
        (registry.outbox_last().await.unwrap(), registry.outbox_pending().await.unwrap()),
        (OutboxId(5), 5)
    );
    registry.outbox_drained(OutboxId(4)).await.unwrap();
    registry.outbox_drained(OutboxId(3)).await.unwrap();
    assert_eq!(registry.outbox_pending().await.unwrap(), 1);
    assert_eq!(ids(registry.outbox_after(OutboxId(4), 10).await.unwrap()), [5]);
}

#[tokio::test]
async fn ten_thousand_meters_import_as_one_change() {
    let fixture = Fixture::new().await;
    let accounts: Vec<String> = (1..=10_000).map(account_line).collect();
    assert_eq!(fixture.accounts(&accounts).await.unwrap().added, 10_000);
    let meters: Vec<String> = (1..=10_000).map(meter_line).collect();
    let imported = fixture.meters(&meters).await.unwrap();
    assert_eq!(
        imported,
        Imported { added: 10_000, updated: 0, unchanged: 0, outbox: Some(OutboxId(20_000)) }
    );
    let mut after = MeterId(0);
    let mut seen = 0;
    loop {
        let records = fixture.registry.meter_keys(after, 3000).await.unwrap();
        let Some(last) = records.last() else { break };
        (after, seen) = (last.meter, seen + records.len());
    }
    assert_eq!((after, seen), (MeterId(10_000), 10_000));
}

fn rekey_line(number: u32, keys: u32) -> String {
    let title = meter_line(number).split(',').next().unwrap().to_owned();
    format!("{title},{},{}", key(1000 + 2 * keys), key(1001 + 2 * keys))
}

#[tokio::test]
async fn new_keys_are_in_force_and_the_ones_before_stay_beside_them() {
    let fixture = Fixture::with_accounts().await;
    fixture.meters(&[meter_line(1), meter_line(2)]).await.unwrap();
    let before = fixture.records().await;
    let done = fixture.rekey(&[rekey_line(2, 0)]).await.unwrap();
    assert_eq!((done.added, done.unchanged), (1, 0));
    let after = fixture.records().await;
    assert_eq!((after[0].key_epoch, after[0].replaced.len()), (1, 0));
    assert_eq!((after[1].key_epoch, hex::encode(after[1].keys.guek)), (2, key(1000)));
    let replaced = &after[1].replaced[0];
    assert_eq!((replaced.key_epoch, replaced.taken_until), (1, UNTIL));
    assert_eq!((replaced.keys.guek, replaced.keys.gak), (before[1].keys.guek, before[1].keys.gak));
    let facts = fixture.facts().await;
    let Some((last, Fact::MeterTerms(terms))) = facts.last() else { panic!("{facts:?}") };
    assert_eq!((Some(*last), terms.key_epoch, terms.meter), (done.outbox, 2, after[1].meter));
    assert_eq!((terms.account, terms.period_s), (after[1].account, after[1].period_s));
    let again = fixture.rekey(&[rekey_line(2, 0)]).await.unwrap();
    assert_eq!((again.added, again.unchanged, again.outbox), (0, 1, None));
}

#[tokio::test]
async fn of_replaced_keys_the_newest_four_are_kept() {
    let fixture = Fixture::with_accounts().await;
    fixture.meters(&[meter_line(1)]).await.unwrap();
    for keys in 0..6 {
        fixture.rekey(&[rekey_line(1, keys)]).await.unwrap();
    }
    let record = &fixture.records().await[0];
    let epochs: Vec<u16> = record.replaced.iter().map(|replaced| replaced.key_epoch).collect();
    assert_eq!((record.key_epoch, epochs), (7, vec![6, 5, 4, 3]));
}

#[tokio::test]
async fn keys_that_are_or_were_in_use_weak_or_of_nobody_change_nothing() {
    let fixture = Fixture::with_accounts().await;
    fixture.meters(&[meter_line(1), meter_line(2)]).await.unwrap();
    fixture.rekey(&[rekey_line(1, 0)]).await.unwrap();
    let (first, facts) = (meter_line(1), fixture.facts().await.len());
    let fields: Vec<&str> = first.split(',').collect();
    let old = format!("{},{},{}", fields[0], fields[2], fields[3]);
    let others = rekey_line(2, 0);
    let weak = format!("{},{},{}", fields[0], "00".repeat(16), key(2000));
    let nobody = format!("5552540000000099,{},{}", key(2001), key(2002));
    let twice = [rekey_line(2, 5), rekey_line(2, 6)];
    for (lines, reasons) in [
        (
            vec![old],
            vec!["line 2, guek: this meter has or had the key", "line 2, gak: this meter has or had the key"],
        ),
        (
            vec![others],
            vec![
                "line 2, guek: the key is in use by another meter",
                "line 2, gak: the key is in use by another meter",
            ],
        ),
        (vec![weak], vec!["line 2, guek: all bytes are equal"]),
        (
            vec![rekey_line(2, 7), nobody],
            vec!["line 3, system_title: no meter with this system title is registered"],
        ),
        (twice.to_vec(), vec!["line 3, system_title: the same as in line 2"]),
    ] {
        assert_eq!(faults(fixture.rekey(&lines).await), reasons);
    }
    assert_eq!(fixture.facts().await.len(), facts);
    assert!(fixture.records().await[1].replaced.is_empty());
    let registered_with_old_keys = faults(fixture.meters(&[meter_line(1)]).await);
    assert_eq!(registered_with_old_keys.len(), 2, "{registered_with_old_keys:?}");
}
