//! Commands as a user types them.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::harness::{Served, shared, urja, urja_ok, written};

const ACCOUNTS: &str = "account_number,category,sanctioned_kw,from,opening_register_kwh,opening_balance_rupees,connection,\
    division,opening_arrears_rupees\n\
    PUVVNL1000000001,lmv1-urban,4,2026-04-01,1000.5,500,prepaid,,\n\
    PUVVNL1000000002,lmv1-rural,2,2026-04-01,0,-12.50,prepaid,,2500\n";
const METERS: &str = "system_title,serial,guek,gak,profile,policy,account_number,policy_reason\n\
    55524a0000000001,URJ0001,7a1f93c2e85b06d4419ce2f07b3d8a56,0b94d7e2316fa85cc4e01b7f92d6385a,is15959-d1,authenticated,PUVVNL1000000001,\n\
    55524a0000000002,URJ0002,c1e6027fb39d54a8ee1b70c95f2a4d83,91d3f0b8247c6ae55d0b4e1cf7386a29,is15959-d1,authenticated,PUVVNL1000000002,\n";

/// The published example of a ciphered get-request in general-glo form; keys and title are those of the standard.
const GUEK: &str = "000102030405060708090a0b0c0d0e0f";
const GAK: &str = "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf";

/// The same question under another key, by the GCM of `cryptography`: as ded-get-request, and in general-glo form with the
/// broadcast bit.
const OTHER_KEY: &str = "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf";
const DED_GET: &str = "d01e30000000018ca6df3d168bd6ef125263b1ccd0b4c239766c9ea5e6c20d47";
const BROADCAST_GET: &str =
    "db084d4d4d0000bc614e1e70000000018ca6df3d168bd6ef125263b1cc3f267eac18d58a368d5e7f86";

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A directory with tariffs, two accounts and two meters.
pub fn registered(dir: &Path) -> std::path::PathBuf {
    let data = dir.join("data");
    // A driven clock goes on from the last fact: it is set by the process that takes the first.
    let served = Served::start(&data, &[]);
    urja_ok(&data, &["clock", "2026-04-01T00:00:00+05:30"]);
    for tariff in ["lmv1-urban", "lmv1-rural", "lmv1-lifeline"] {
        assert_eq!(urja_ok(&data, &["tariff", "apply", tariff])["outcome"], "applied");
    }
    let accounts = written(dir, "accounts.csv", ACCOUNTS);
    assert_eq!(urja_ok(&data, &["account", "import", &accounts])["added"], 2);
    let meters = written(dir, "meters.csv", METERS);
    assert_eq!(urja_ok(&data, &["meter", "import", &meters])["added"], 2);
    assert_eq!(served.terminate(), 0);
    data
}

#[test]
fn new_keys_are_taken_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let data = registered(dir.path());
    let line = |title: &str, first: &str| {
        format!("{title},{first}1f93c2e85b06d4419ce2f07b3d8a56,{first}94d7e2316fa85cc4e01b7f92d6385a\n")
    };
    let header = "system_title,guek,gak\n".to_owned();
    let bad = header.clone() + &line("55524a0000000001", "11") + &line("55524a00000000ff", "22");
    let refused = urja(&data, &["meter", "rekey", &written(dir.path(), "bad.csv", &bad)]);
    assert!(
        !refused.status.success() && text(&refused).contains("line 3, system_title"),
        "{}",
        text(&refused)
    );
    let file = written(dir.path(), "keys.csv", &(header + &line("55524a0000000001", "11")));
    assert_eq!(urja_ok(&data, &["meter", "rekey", &file])["rekeyed"], 1);
    let again = urja_ok(&data, &["meter", "rekey", &file]);
    assert_eq!((&again["rekeyed"], &again["unchanged"]), (&0.into(), &1.into()));
}

#[test]
fn decode_prints_a_tree_and_tells_a_bad_frame_with_kind_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    let good = "0001000100400011 0f4000000100 02020905 4142434445 1101";
    let out = urja(dir.path(), &["--json", "decode", good]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert!(text(&out).contains("data-notification"), "{}", text(&out));
    let cut = urja(dir.path(), &["decode", "--framing", "apdu", "0f4000000100020209"]);
    assert_eq!(cut.status.code(), Some(2));
    assert!(text(&cut).contains("byte"), "{}", text(&cut));
    let nothing = urja(dir.path(), &["decode", "zz"]);
    assert!(!nothing.status.success() && text(&nothing).contains("hexadecimal"));
}

#[test]
fn decode_says_whether_a_tag_was_verified() {
    let dir = tempfile::tempdir().unwrap();
    // general-glo of the standard's get-request.
    let glo = "db084d4d4d0000bc614e1e3001234567411312ff935a47566827c467bc7d825c3be4a77c3fcc056b6b";
    let keys = ["--guek", GUEK, "--gak", GAK];
    let verified =
        urja(dir.path(), &[&["--json", "decode", "--framing", "apdu"], &keys[..], &[glo]].concat());
    assert!(text(&verified).contains("verified"), "{}", text(&verified));
    assert!(text(&verified).contains("get-request-normal"), "{}", text(&verified));
    let flipped = glo.replace("411312", "411313");
    let refused =
        urja(dir.path(), &[&["--json", "decode", "--framing", "apdu"], &keys[..], &[&flipped]].concat());
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
}

#[test]
fn decode_opens_what_is_under_a_dedicated_or_the_broadcast_key_and_says_where_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let decode = |args: &[&str]| urja(dir.path(), &[&["--json", "decode"], args].concat());
    for (hex, flag) in [(DED_GET, "--dedicated-key"), (BROADCAST_GET, "--gbek")] {
        let title = ["--gak", GAK, "--system-title", "4d4d4d0000bc614e"];
        let opened = decode(&[&[flag, OTHER_KEY], &title[..], &[hex]].concat());
        assert_eq!(opened.status.code(), Some(0), "{}", text(&opened));
        assert!(text(&opened).contains("get-request-normal"), "{}", text(&opened));
        assert!(text(&opened).contains("\"verified\""), "{}", text(&opened));
        let closed = decode(&[&["--guek", GUEK], &title[..], &[hex]].concat());
        assert_eq!(closed.status.code(), Some(0), "{}", text(&closed));
        assert!(text(&closed).contains("not verified"), "{}", text(&closed));
        let wrong = decode(&[&[flag, GUEK], &title[..], &[hex]].concat());
        assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
    }
    let short = decode(&["--dedicated-key", "00", DED_GET]);
    assert!(text(&short).contains("--dedicated-key takes 32"), "{}", text(&short));
}

/// Whether a node of this name is below, with what its tag proved.
fn found<'a>(node: &'a Value, name: &str) -> Option<&'a Value> {
    let children = node["children"].as_array().into_iter().flatten();
    if node["name"] == name { Some(node) } else { children.into_iter().find_map(|child| found(child, name)) }
}

#[test]
fn every_capture_and_every_push_of_the_fixtures_goes_through_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeMap::new();
    let bills = crate::harness::root().join("codec/tests/billing.jsonl");
    for file in [shared("fixtures/captures.jsonl"), shared("fixtures/india_push.jsonl"), Some(bills)] {
        let Some(path) = file else { return };
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let fixture: Value = serde_json::from_str(line).unwrap();
            let id = fixture.get("name").unwrap_or(&fixture["id"]);
            let (guek, gak) = (fixture["guek"].as_str(), fixture["gak"].as_str());
            let mut args = vec!["--json", "decode"];
            for (flag, key) in [("--guek", guek), ("--gak", gak)] {
                args.extend(key.map(|key| [flag, key]).into_iter().flatten());
            }
            args.push(fixture["hex"].as_str().unwrap());
            let out = urja(dir.path(), &args);
            assert_eq!(out.status.code(), Some(0), "{id}: {}", text(&out));
            let root: Value = serde_json::from_slice(&out.stdout).unwrap();
            let ciphered =
                found(&root, "general-glo-ciphering").map(|glo| glo["authentication"].as_str().unwrap());
            let expected = match (fixture["cipher"].as_str(), guek, gak) {
                (Some("plain"), ..) | (None, None, _) => None,
                (Some("20"), ..) | (None, Some(_), None) => Some("unauthenticated"),
                _ => Some("verified"),
            };
            assert_eq!(ciphered, expected, "{id}");
            // One capture is a link without an APDU.
            let body = found(&root, "data-notification");
            assert_eq!(body.is_some(), id != "amshan/hdlc_frame_empty_info", "{id}: {root}");
            // The same with its framing named, and never with another.
            let framing = match &fixture["hex"].as_str().unwrap()[..2] {
                "7e" | "7E" => "hdlc",
                "68" => "mbus",
                "00" => "wrapper",
                _ => "apdu",
            };
            for named in ["hdlc", "mbus", "wrapper"] {
                let out = urja(dir.path(), &[&args[..], &["--framing", named]].concat());
                let expected = if named == framing { Some(0) } else { Some(2) };
                assert_eq!(out.status.code(), expected, "{id} as {named}: {}", text(&out));
                if named == framing {
                    assert_eq!(
                        serde_json::from_slice::<Value>(&out.stdout).unwrap(),
                        root,
                        "{id} as {named}"
                    );
                }
            }
            *seen.entry(framing).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.values().sum::<u32>(), 71 + 16);
    assert!(["hdlc", "mbus", "wrapper"].iter().all(|framing| seen[framing] > 0), "{seen:?}");
}

#[test]
fn a_bad_line_keeps_the_whole_file_out_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    urja_ok(&data, &["tariff", "apply", "lmv1-urban"]);
    let bad = ACCOUNTS.replace("lmv1-rural", "lmv9-moon");
    let file = written(dir.path(), "accounts.csv", &bad);
    let out = urja(&data, &["account", "import", &file]);
    assert!(!out.status.success());
    assert!(text(&out).contains("line 3") && text(&out).contains("lmv9-moon"), "{}", text(&out));
    let rows = urja_ok(&data, &["sql", "SELECT count(*) AS n FROM account"]);
    assert_eq!(rows[0]["n"], 0);
}

#[test]
fn weak_and_repeated_keys_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let _served = Served::start(&data, &[]);
    urja_ok(&data, &["clock", "2026-04-01T00:00:00+05:30"]);
    for tariff in ["lmv1-urban", "lmv1-rural"] {
        urja_ok(&data, &["tariff", "apply", tariff]);
    }
    urja_ok(&data, &["account", "import", &written(dir.path(), "accounts.csv", ACCOUNTS)]);
    let weak = METERS.replace("7a1f93c2e85b06d4419ce2f07b3d8a56", GUEK);
    let repeated = METERS.replace("c1e6027fb39d54a8ee1b70c95f2a4d83", "7a1f93c2e85b06d4419ce2f07b3d8a56");
    for (what, content, line) in [("weak", weak, "line 2"), ("repeated", repeated, "line 3")] {
        let out = urja(&data, &["meter", "import", &written(dir.path(), "meters.csv", &content)]);
        assert!(!out.status.success(), "{what}");
        assert!(text(&out).contains(line) && text(&out).contains("guek"), "{what}: {}", text(&out));
        assert!(!text(&out).contains("7a1f93c2"), "a key is shown: {}", text(&out));
    }
}

#[test]
fn the_same_import_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = registered(dir.path());
    let again = urja_ok(&data, &["meter", "import", &dir.path().join("meters.csv").display().to_string()]);
    assert_eq!((again["added"].as_i64(), again["unchanged"].as_i64()), (Some(0), Some(2)));
    let again =
        urja_ok(&data, &["account", "import", &dir.path().join("accounts.csv").display().to_string()]);
    assert_eq!((again["added"].as_i64(), again["unchanged"].as_i64()), (Some(0), Some(2)));
}

#[test]
fn a_recharge_is_booked_once_and_a_differing_repeat_says_how() {
    let dir = tempfile::tempdir().unwrap();
    let data = registered(dir.path());
    let args = |rupees: &'static str| ["recharge", "PUVVNL1000000001", rupees, "--payment-id", "pay-1"];
    // 700 rupees less what the open day has accrued: 330.00 / 30 fixed, duty and rebate on it.
    let balance = Some(70_000 - 1_133);
    let first = urja_ok(&data, &args("200"));
    assert_eq!((first["outcome"].as_str(), first["balance_paise"].as_i64()), (Some("posted"), balance));
    let again = urja_ok(&data, &args("200"));
    assert_eq!((again["outcome"].as_str(), again["balance_paise"].as_i64()), (Some("exists"), balance));
    let differs = urja(&data, &args("300"));
    assert!(!differs.status.success());
    assert!(text(&differs).contains("200"), "{}", text(&differs));
    let unknown = urja(&data, &["recharge", "PUVVNL1999999999", "200", "--payment-id", "pay-2"]);
    assert!(!unknown.status.success() && text(&unknown).contains("not registered"), "{}", text(&unknown));
    let rows = urja_ok(&data, &["sql", "SELECT sum(amount_paise) AS n FROM ledger_posting"]);
    assert_eq!(rows[0]["n"], 0);
}

#[test]
fn a_tariff_starts_on_a_first_of_month_or_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let body =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/tariffs/lmv1-urban.toml"))
            .unwrap();
    let from = body.lines().find(|line| line.starts_with("from")).unwrap().to_owned();
    let file = written(dir.path(), "tariff.toml", &body.replace(&from, "from = \"2026-04-15\""));
    let out = urja(&data, &["tariff", "apply", &file]);
    assert!(!out.status.success() && text(&out).contains("first of"), "{}", text(&out));
    let file = written(dir.path(), "tariff.toml", &format!("nonsense = 1\n{body}"));
    let out = urja(&data, &["tariff", "apply", &file]);
    assert!(
        !out.status.success() && text(&out).contains("nonsense") && text(&out).contains("line 1"),
        "{}",
        text(&out)
    );
    assert_eq!(urja_ok(&data, &["tariff", "apply", "lmv1-urban"])["outcome"], "applied");
    assert_eq!(urja_ok(&data, &["tariff", "apply", "lmv1-urban"])["outcome"], "exists");
}

#[test]
fn statements_that_change_anything_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = registered(dir.path());
    for statement in [
        "DROP TABLE frame",
        "CREATE TABLE t AS SELECT 1",
        "INSERT INTO frame SELECT * FROM frame",
        "COPY (SELECT 1) TO '/tmp/urja-must-not-be-there.csv'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; SELECT 2",
    ] {
        let out = urja(&data, &["sql", statement]);
        assert!(!out.status.success(), "{statement} was taken");
    }
    assert!(!Path::new("/tmp/urja-must-not-be-there.csv").exists());
}

#[test]
fn sql_prints_a_table_json_and_csv() {
    let dir = tempfile::tempdir().unwrap();
    let data = registered(dir.path());
    let statement = "SELECT account_number, sanctioned_w FROM account ORDER BY 1";
    let table = urja(&data, &["sql", statement]);
    assert!(text(&table).starts_with("account_number") && text(&table).contains("----"), "{}", text(&table));
    let csv = urja(&data, &["sql", statement, "--csv"]);
    assert!(
        String::from_utf8_lossy(&csv.stdout)
            .starts_with("account_number,sanctioned_w\r\nPUVVNL1000000001,4000\r\n"),
        "{}",
        text(&csv)
    );
    let json = urja_ok(&data, &["sql", statement]);
    assert_eq!(json[1]["account_number"], "PUVVNL1000000002");
}

#[test]
fn a_second_owner_is_refused_and_commands_go_to_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let data = registered(dir.path());
    let served = Served::start(&data, &[]);
    let second = urja(&data, &["serve", "--tcp", "127.0.0.1:0", "--udp", "", "--http", "", "--health", ""]);
    assert!(!second.status.success() && text(&second).contains("lock"), "{}", text(&second));
    let paid = urja_ok(&data, &["recharge", "PUVVNL1000000002", "100", "--payment-id", "pay-9"]);
    // 87.50 rupees less the fixed charge that the open day has accrued.
    assert_eq!(paid["balance_paise"], 8_750 - 464);
    assert_eq!(served.number("SELECT balance_paise FROM account_state WHERE account_id = 2"), 8_750 - 464);
    assert_eq!(served.terminate(), 0);
}

#[test]
fn health_and_metrics_answer_and_name_no_meter() {
    let dir = tempfile::tempdir().unwrap();
    let data = registered(dir.path());
    let served = Served::start(&data, &[]);
    assert_eq!(served.get("health", "/health/livez").0, 200);
    assert_eq!(served.get("health", "/health/readyz").0, 200);
    let (status, metrics) = served.get("health", "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE") && !metrics.contains("55524a"), "{metrics}");
}

#[test]
fn a_bad_configuration_is_refused_with_file_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), "urja.toml", "[lake]\ncommit_evry = \"30s\"\n");
    let out = urja(dir.path(), &["config", "check", &file]);
    assert!(!out.status.success());
    assert!(text(&out).contains("urja.toml") && text(&out).contains("commit_evry"), "{}", text(&out));
    let example = urja(dir.path(), &["config", "example"]);
    let file = written(dir.path(), "urja.toml", &text(&example));
    assert!(urja(dir.path(), &["config", "check", &file]).status.success());
}
