//! What goes wrong on demand with a meter's answers, over a broker: the head-end says what came, or reads again, and never
//! takes a wrong value for the meter's. Over TCP and UDP it is `fleet/tests/faults.rs`.

use std::time::{Duration, Instant};

use codec::apdu::acse::Mechanism;
use fleet::meter::{Door, Fault, SimulatedClock, Trouble, When};
use fleet::{Faults, Fleet, FleetOptions, Mix, MqttTarget, Target};

use crate::harness::{Served, seeded, urja, urja_ok, wait_for};

/// The answer to the sixth request, which is what is asked for: before it are the counter and the association.
const ASKED: When = When::At(6);
const METERS: u32 = 16;
/// A slow answer takes ten seconds.
const SLOW: Duration = Duration::from_secs(9);

fn goes_wrong(served: &Served, door: &Door, trouble: Trouble) {
    let serial = door.identity.serial.as_str();
    let read = |what: &str| {
        let out = urja(&served.data, &["--json", "read", serial, what]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        match out.status.success() {
            true => Ok(serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()),
            false => Err(said),
        }
    };
    let right = |found: &serde_json::Value| assert_eq!(found["value"], serial);
    wait_for("the meter is read", || read("serial").ok().map(|found| right(&found)));
    let set = |faults| door.meter.lock().unwrap().set_faults(faults);
    // A buffer is read behind its columns and their scalers.
    let (what, when) =
        if trouble == Trouble::LowMemory { ("block", When::Every(1)) } else { ("serial", ASKED) };
    set(vec![Fault { trouble, when }]);
    let begun = Instant::now();
    let found = read(what);
    match (trouble, &found) {
        (Trouble::Busy | Trouble::LowMemory, Err(said)) => {
            assert!(said.contains("temporary-failure"), "{trouble:?}: {said}");
        }
        (Trouble::Busy | Trouble::LowMemory, Ok(found)) => panic!("{trouble:?}: {found}"),
        // The session goes on above the counter that the meter names.
        (Trouble::Behind, Err(said)) => panic!("{trouble:?}: {said}"),
        (Trouble::Slow, _) => assert!(begun.elapsed() >= SLOW, "{found:?}"),
        (_, Ok(found)) => right(found),
        (_, Err(said)) => assert!(said.contains("the meter"), "{trouble:?}: {said}"),
    }
    set(Vec::new());
    wait_for("the meter is read again", || read("serial").ok().map(|found| right(&found)));
}

#[test]
fn every_fault_over_a_broker_is_noticed_and_the_next_read_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, _) = seeded("meter faults");
    let served = Served::start(&dir.path().join("data"), &["--broker", "127.0.0.1:0"]);
    let broker = served.address("broker");
    let broker = MqttTarget::new(&broker.ip().to_string(), broker.port());
    let mut options = FleetOptions::new(seed, METERS, "2026-04-01".parse().unwrap());
    options.mix = Mix { transport_policy_ppm: 0, ..Mix::default() };
    options.faults = Faults::NONE;
    options.targets = vec![Target::Mqtt(MqttTarget { meters_per_connection: 1, ..broker })];
    let start = options.calendar.at(options.from, 12, 0);
    let shutdown = options.shutdown.clone();

    let mut fleet = Fleet::new(options.clone()).unwrap();
    fleet.skip_until(start).unwrap();
    let mut doors = fleet::meter::doors(&options, fleet.meters(), &[], start).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let clock = runtime.block_on(async { SimulatedClock::new(start, 1) });
    fleet.dial_in(&mut doors, clock);
    urja_ok(&served.data, &["clock", &start.to_string()]);
    for tariff in ["lmv1-urban", "lmv1-rural", "lmv1-lifeline"] {
        urja_ok(&served.data, &["tariff", "apply", tariff]);
    }
    fleet.write_registry_files(dir.path()).unwrap();
    let access = dir.path().join("access.csv");
    fleet::meter::write_access(&doors, std::fs::File::create(&access).unwrap()).unwrap();
    urja_ok(&served.data, &["account", "import", &dir.path().join("accounts.csv").display().to_string()]);
    urja_ok(&served.data, &["meter", "import", &access.display().to_string()]);
    let living = std::thread::spawn(move || runtime.block_on(fleet.live(start, 1)).unwrap());

    // A meter each, for the head-end waits long for an answer that does not come; some meters have another mechanism.
    let aes = doors.iter().filter(|door| door.access.mechanism == Mechanism::Manufacturer);
    let aes: Vec<&Door> = aes.take(Trouble::ALL.len()).collect();
    assert_eq!(aes.len(), Trouble::ALL.len());
    std::thread::scope(|scope| {
        for (trouble, door) in Trouble::ALL.into_iter().zip(aes) {
            let served = &served;
            scope.spawn(move || goes_wrong(served, door, trouble));
        }
    });
    shutdown.cancel();
    living.join().unwrap();
    assert_eq!(served.number("SELECT count(*) FROM quarantine"), 0, "answers are no pushes");
    assert_eq!(served.terminate(), 0);
}
