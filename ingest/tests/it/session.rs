//! Sessions over TCP with a meter in a program of other people's (`tests/peers/meter.py`); without it they are skipped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use codec::apdu::{AttributeDescriptor, MethodDescriptor, SelectedAttribute};
use codec::axdr::{Data, Value};
use codec::cosem::india::control::RELAY;
use codec::cosem::india::profile::BLOCK_LOAD;
use codec::cosem::{ClassId, LogicalName};
use codec::security::association::Refusal;
use codec::session::client::{Effect, Error};
use ingest::{Client, LinkError, SessionError, SessionOptions, Sessions};
use registry::{Kek, Known, MeterAccess, MeterFraming, Registry};

const TITLE: &str = "505852000000aa01";
const GUEK: &str = "411a36e7fa67784cd3d2c52e656e5644";
const GAK: &str = "5f0017d36bcf9185daaad6cb7271d511";
const CLOCK: LogicalName = LogicalName([0, 0, 1, 0, 0, 255]);

struct Meter {
    child: Child,
    port: u16,
}

impl Drop for Meter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Meter {
    fn start(args: &[&str]) -> Option<Meter> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let venv = root.join(".venv/bin/python3");
        let python = if venv.exists() { venv } else { PathBuf::from("python3") };
        let imports =
            Command::new(&python).args(["-c", "import gurux_dlms, dlms_cosem, cryptography"]).output();
        if !imports.is_ok_and(|out| out.status.success()) {
            let what = "Python packages of tests/peers/requirements.txt";
            assert!(std::env::var("CI").as_deref() != Ok("true"), "must be there: {what}");
            println!("skipped: not there: {what}");
            return None;
        }
        let mut child = Command::new(python)
            .arg(root.join("tests/peers/meter.py"))
            .args(["0", TITLE, GUEK, GAK])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        Some(Meter { child, port: u16::try_from(said["port"].as_u64().unwrap()).unwrap() })
    }

    async fn registered(&self, dir: &Path) -> (Registry, MeterAccess) {
        self.registered_as(dir, "hls2,never").await
    }

    /// With this mechanism of client 48, and this in the column `reader`.
    async fn registered_as(&self, dir: &Path, asked: &str) -> (Registry, MeterAccess) {
        let registry = open(dir).await;
        let head =
            "system_title,serial,guek,gak,profile,policy,account_number,address,lls,hls,mechanism,reader\n";
        let port = self.port;
        let line = format!(
            "{TITLE},PX000001,{GUEK},{GAK},is15959-d1,authenticated,,127.0.0.1:{port},Urja1234,1234567890123456,\
             {asked}\n"
        );
        let known = Known { profiles: &[("is15959-d1", 1800)] };
        registry.import_meters(format!("{head}{line}").as_bytes(), &known).await.unwrap();
        let meter = registry.meter_access("PX000001").await.unwrap().unwrap();
        (registry, meter)
    }
}

async fn open(dir: &Path) -> Registry {
    let kek = Kek::from_hex("8f0c2b1e77aa49d3905fe6c4b1a3d20e5c6f7081922db4e5a6b7c8d9eafb0c1d").unwrap();
    Registry::open(&dir.join("registry.db"), kek).await.unwrap()
}

fn options() -> SessionOptions {
    SessionOptions { answer: Duration::from_secs(2), ..SessionOptions::default() }
}

fn whole(class: u16, instance: LogicalName, attribute: i8) -> SelectedAttribute<'static> {
    SelectedAttribute::whole(AttributeDescriptor { class: ClassId(class), instance, attribute })
}

#[tokio::test]
async fn a_meter_is_dialled_read_and_switched_and_every_session_begins_above_the_last() {
    let Some(meter) = Meter::start(&[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (registry, access) = meter.registered(dir.path()).await;
    let sessions = Sessions::new(registry.clone(), None, options());
    let mut bounds = vec![];
    for client in [Client::UTILITY, Client::READER, Client::UTILITY] {
        let mut session = sessions.open(&access, client, None).await.unwrap();
        let clock = session.get(whole(8, CLOCK, 2)).await.unwrap();
        assert!(clock.data().value().date_time().is_some());
        if client == Client::UTILITY {
            let method = MethodDescriptor { class: ClassId(70), instance: RELAY, method: 1 };
            session.action(method, Data::new(&[0x0f, 0]).ok()).await.unwrap();
            let output = session.get(whole(70, RELAY, 2)).await.unwrap();
            assert_eq!(output.data().value(), Value::Bool(false));
        }
        session.close().await;
        bounds.push(registry.send_bound(access.meter, access.key_epoch, 48).await.unwrap());
    }
    assert!(bounds[0] >= 1000 && bounds[1] == bounds[0] && bounds[2] > bounds[0], "{bounds:?}");
    registry.close().await;
    // What was reserved is there after a restart.
    let registry = open(dir.path()).await;
    assert_eq!(registry.send_bound(access.meter, access.key_epoch, 48).await.unwrap(), bounds[2]);
}

#[tokio::test]
async fn a_meter_is_asked_at_each_level_of_authentication() {
    let Some(meter) = Meter::start(&["--hls", "5"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (registry, access) = meter.registered_as(dir.path(), "hls5,always").await;
    let sessions = Sessions::new(registry, None, options());
    for client in [Client::PUBLIC, Client::READER, Client::registered(&access.asking)] {
        let mut session = sessions.open(&access, client, None).await.unwrap();
        let clock = session.get(whole(8, CLOCK, 2)).await.unwrap();
        assert!(clock.data().value().date_time().is_some(), "{client}");
        let method = MethodDescriptor { class: ClassId(70), instance: RELAY, method: 1 };
        let cut = session.action(method, Data::new(&[0x0f, 0]).ok()).await;
        assert_eq!(cut.is_ok(), client.sap == 48, "{client}: {cut:?}");
        session.close().await;
    }
    let mut session = sessions.open_to_read(&access, None).await.unwrap();
    assert!(session.get(whole(8, CLOCK, 2)).await.is_ok() && session.instead().is_none());
    let method = MethodDescriptor { class: ClassId(70), instance: RELAY, method: 2 };
    assert!(session.action(method, Data::new(&[0x0f, 0]).ok()).await.is_err(), "a reader switches nothing");
    session.close().await;
}

#[tokio::test]
async fn reads_go_as_the_reader_where_the_meter_refuses_the_mechanism_and_only_if_that_is_said() {
    let Some(meter) = Meter::start(&["--hls", "5"]) else { return };
    for (asked, lets_in) in [("hls2,fallback", true), ("hls2,never", false)] {
        let dir = tempfile::tempdir().unwrap();
        let (registry, access) = meter.registered_as(dir.path(), asked).await;
        let sessions = Sessions::new(registry, None, options());
        let refused = |error: &SessionError| {
            assert!(matches!(error, SessionError::NotLetIn { client: Client::UTILITY, .. }), "{error}");
            assert!(error.hint().unwrap().contains("column mechanism"), "{error}: {:?}", error.hint());
        };
        match sessions.open_to_read(&access, None).await {
            Ok(mut session) if lets_in => {
                refused(session.instead().unwrap());
                assert!(session.get(whole(8, CLOCK, 2)).await.is_ok());
                session.close().await;
            }
            Err(error) if !lets_in => refused(&error),
            Ok(_) => panic!("{asked}: let in"),
            Err(error) => panic!("{asked}: {error}"),
        }
        let command = sessions.open(&access, Client::registered(&access.asking), None).await;
        refused(&command.err().unwrap());
    }
}

#[tokio::test]
async fn a_meter_is_read_and_switched_in_hdlc_whatever_its_frames_and_windows_are() {
    for (max_info, window, physical) in [("128", "1", None), ("64", "3", Some(17)), ("2030", "7", Some(200))]
    {
        // A push comes in between.
        let args = ["--max-info", max_info, "--window", window, "--fault", "push%6"];
        let Some(meter) = Meter::start(&args) else { return };
        let dir = tempfile::tempdir().unwrap();
        let (registry, mut access) = meter.registered(dir.path()).await;
        access.asking.framing = MeterFraming::Hdlc;
        access.asking.hdlc_address.physical = physical;
        let sessions = Sessions::new(registry, None, SessionOptions { hdlc_window: 7, ..options() });
        for client in [Client::UTILITY, Client::READER] {
            let mut session = sessions.open(&access, client, None).await.unwrap();
            let clock = session.get(whole(8, CLOCK, 2)).await.unwrap();
            assert!(clock.data().value().date_time().is_some());
            let rows = session.get(whole(7, BLOCK_LOAD, 2)).await.unwrap();
            let Value::Array(rows) = rows.data().value() else { panic!() };
            assert!(rows.len() > 100, "{}", rows.len());
            let method = MethodDescriptor { class: ClassId(70), instance: RELAY, method: 1 };
            let cut = session.action(method, Data::new(&[0x0f, 0]).ok()).await;
            assert_eq!(cut.is_ok(), client == Client::UTILITY, "{cut:?}");
            session.close().await;
        }
    }
}

/// Passes one connection on to a meter and keeps what the meter says; later connections get that, an answer a question.
async fn recorder(meter: u16) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut recorded: Vec<Vec<u8>> = vec![];
        let mut buffer = [0; 4096];
        let (mut client, _) = listener.accept().await.unwrap();
        let mut meter = tokio::net::TcpStream::connect(("127.0.0.1", meter)).await.unwrap();
        while let Ok(length @ 1..) = client.read(&mut buffer).await {
            meter.write_all(&buffer[..length]).await.unwrap();
            let Ok(length @ 1..) = meter.read(&mut buffer).await else { break };
            recorded.push(buffer[..length].to_vec());
            client.write_all(&buffer[..length]).await.unwrap();
        }
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            for answer in &recorded {
                let Ok(1..) = client.read(&mut buffer).await else { break };
                client.write_all(answer).await.unwrap();
            }
        }
    });
    port
}

#[tokio::test]
async fn a_recorded_session_is_refused_after_a_restart_of_the_head_end_whoever_it_asked_as() {
    let Some(meter) = Meter::start(&[]) else { return };
    for client in [Client::READER, Client::UTILITY] {
        let dir = tempfile::tempdir().unwrap();
        let (registry, access) = meter.registered(dir.path()).await;
        let to = format!("127.0.0.1:{}", recorder(meter.port).await);
        let sessions = Sessions::new(registry.clone(), None, options());
        let mut session = sessions.open(&access, client, Some(&to)).await.unwrap();
        assert!(session.get(whole(8, CLOCK, 2)).await.is_ok());
        session.close().await;
        let kept = registry.received(access.meter, access.key_epoch, client.sap).await.unwrap();
        assert_eq!(kept.is_some(), client == Client::READER, "a challenge needs no memory");
        registry.close().await;
        let registry = open(dir.path()).await;
        let sessions = Sessions::new(registry.clone(), None, options());
        let refused = sessions.open(&access, client, Some(&to)).await.err().unwrap();
        let SessionError::Meter { error, .. } = refused else { panic!("{refused}") };
        match client {
            Client::READER => assert!(matches!(error, Error::Unprotected(Refusal::Replay(_))), "{error}"),
            _ => assert!(matches!(error, Error::Proof(_)), "{error}"),
        }
        // The meter itself is let in as ever.
        let mut session = sessions.open(&access, client, None).await.unwrap();
        assert!(session.get(whole(8, CLOCK, 2)).await.is_ok());
        session.close().await;
    }
}

#[tokio::test]
async fn a_second_session_with_a_meter_is_told_that_it_is_busy() {
    let Some(meter) = Meter::start(&[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (registry, access) = meter.registered(dir.path()).await;
    let sessions = Sessions::new(registry, None, options());
    let first = sessions.open(&access, Client::UTILITY, None).await.unwrap();
    let second = sessions.clone().open(&access, Client::UTILITY, None).await;
    assert!(matches!(second, Err(SessionError::Busy(_))));
    first.close().await;
    sessions.open(&access, Client::UTILITY, None).await.unwrap().close().await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_said_before_anything_is_sent() {
    let Some(meter) = Meter::start(&[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (registry, mut access) = meter.registered(dir.path()).await;
    let sessions = Sessions::new(registry, None, options());
    let nowhere = sessions.open(&access, Client::UTILITY, Some("127.0.0.1:1")).await;
    assert!(matches!(nowhere, Err(SessionError::Link(LinkError::Connect { .. }))));
    access.address = None;
    assert!(matches!(sessions.open(&access, Client::UTILITY, None).await, Err(SessionError::NoAddress(_))));
    access.secrets.hls.clear();
    let to = format!("127.0.0.1:{}", meter.port);
    let refused = sessions.open(&access, Client::UTILITY, Some(&to)).await;
    assert!(matches!(refused, Err(SessionError::NoSecret { .. })));
}

#[tokio::test]
async fn an_action_without_an_answer_says_that_its_effect_is_unknown() {
    let Some(meter) = Meter::start(&["--fault", "drop@6"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (registry, access) = meter.registered(dir.path()).await;
    let sessions = Sessions::new(registry, None, options());
    let mut session = sessions.open(&access, Client::UTILITY, None).await.unwrap();
    let method = MethodDescriptor { class: ClassId(70), instance: RELAY, method: 1 };
    let failed = session.action(method, Data::new(&[0x0f, 0]).ok()).await.unwrap_err();
    assert_eq!(failed.effect(), Effect::Unknown);
    assert!(matches!(failed, SessionError::Meter { error: Error::Disconnected, .. }), "{failed}");
}
