//! A relay that the head-end opens and closes, and the household behind it: what is stored, billed by and told by the
//! truth is what the household drew.

use std::net::SocketAddr;
use std::path::Path;

use fleet::meter::{Door, MeterOptions, SimulatedClock};
use fleet::{Faults, Fleet, FleetOptions, Mix, SimulatedMeter, Target};
use model::{CivilDay, Instant};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::harness::{Served, seeded, urja_ok, wait_for};

const FIRST: &str = "2026-04-01";
const DAYS: i32 = 3;
const METERS: usize = 4;

/// A fleet in which every meter can be asked, and what drives its time.
pub struct Household {
    runtime: Runtime,
    /// The meters, and what they push.
    pub fleet: Fleet,
    /// Where they answer.
    pub doors: Vec<Door>,
}

impl Household {
    /// So many meters, from that day on.
    pub fn new(served: &Served, seed: u64, truth: &Path, meters: u32, first: CivilDay) -> Household {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let mut options = FleetOptions::new(seed, meters, first);
        options.mix =
            Mix { transport_policy_ppm: 0, three_phase_ppm: 0, quarter_hour_ppm: 0, ..Mix::default() };
        options.faults = Faults::NONE;
        options.truth = Some(truth.to_owned());
        options.targets = vec![Target::Tcp { address: served.address("tcp"), meters_per_connection: 1 }];
        Household { runtime, fleet: Fleet::new(options).unwrap(), doors: Vec::new() }
    }

    /// The meters answer from `now` on, and behave so.
    pub fn answer(&mut self, now: Instant, how: impl Fn(&SimulatedMeter, MeterOptions) -> MeterOptions) {
        let options = self.fleet.options().clone();
        self.doors = fleet::meter::doors_as(&options, self.fleet.meters(), how, now).unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let clock = self.runtime.block_on(async { SimulatedClock::new(now, 1) });
        self.runtime.block_on(fleet::meter::open(&options, &mut self.doors, at, clock)).unwrap();
    }

    /// Where the meters can be asked: the file for `urja meter import`.
    pub fn access(&self, dir: &Path) -> String {
        let access = dir.join("access.csv");
        fleet::meter::write_access(&self.doors, std::fs::File::create(&access).unwrap()).unwrap();
        access.display().to_string()
    }

    fn register(&self, served: &Served, dir: &Path) {
        self.fleet.write_registry_files(dir).unwrap();
        let access = self.access(dir);
        for tariff in ["lmv1-urban", "lmv1-rural", "lmv1-lifeline"] {
            urja_ok(&served.data, &["tariff", "apply", tariff]);
        }
        urja_ok(&served.data, &["account", "import", &dir.join("accounts.csv").display().to_string()]);
        urja_ok(&served.data, &["meter", "import", &access]);
    }

    /// The meter that draws most at the hours that are looked at: some stand in houses that are locked up.
    fn busy(&self) -> usize {
        let FleetOptions { seed, faults, calendar, from, .. } = self.fleet.options();
        let drawn = |number: &usize| {
            let household = fleet::Household::new(*seed, &self.fleet.meters()[*number], faults);
            let sum = |day: CivilDay, first: usize, end: usize| -> i64 {
                household.day(day, calendar).intervals[first..end].iter().map(|interval| interval.wh).sum()
            };
            sum(*from, 0, 24).min(sum(from.next(), 2, 48))
        };
        (0..METERS).max_by_key(drawn).unwrap()
    }

    /// Everything up to `until` is sent and confirmed.
    pub fn push(&mut self, until: Instant) {
        self.runtime.block_on(self.fleet.push_until(until, |_| ())).unwrap();
    }
}

/// Moves the head-end's clock.
pub fn clock(served: &Served, at: Instant) {
    urja_ok(&served.data, &["clock", &at.to_string()]);
}

/// Energy of the day's intervals as the truth tells it, of one meter.
fn used(truth: &Path, meter: u32, day: CivilDay) -> Vec<i64> {
    let text = std::fs::read_to_string(truth).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let is_it = |line: &Value| {
        line["line"] == "used" && line["meter"] == meter && line["day"] == day.to_string().as_str()
    };
    let found: Vec<Value> = lines.filter(is_it).collect();
    assert_eq!(found.len(), 1, "meter {meter} on {day}");
    serde_json::from_value(found[0]["wh"].clone()).unwrap()
}

#[test]
fn a_household_that_is_cut_off_uses_nothing_until_it_is_connected_again_and_everybody_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, _) = seeded("relay");
    let env = [("URJA_TIME__CLOCK", "driven"), ("URJA_RELAY__ENABLED", "true")];
    let served = Served::start_with(&dir.path().join("data"), &[], &env);
    let truth = dir.path().join("truth.jsonl");
    let mut household = Household::new(&served, seed, &truth, METERS as u32, FIRST.parse().unwrap());
    let calendar = household.fleet.options().calendar.clone();
    let first: CivilDay = FIRST.parse().unwrap();
    let noon = calendar.at(first, 12, 5);

    clock(&served, calendar.start_of(first));
    household.answer(noon, |_, how| how);
    household.register(&served, dir.path());
    clock(&served, noon);
    household.push(noon);
    let busy = household.busy();
    let serial = household.doors[busy].identity.serial.clone();
    let relay = |command: &str| urja_ok(&served.data, &["relay", &serial, command]);
    assert_eq!(relay("disconnect")["supplied"], false);
    clock(&served, calendar.end_of(first).plus_seconds(1800));
    household.push(calendar.end_of(first).plus_seconds(1800));
    assert_eq!(relay("connect")["supplied"], true);
    for day in (1..DAYS).map(|ahead| first.plus(ahead)) {
        clock(&served, calendar.end_of(day).plus_seconds(1800));
        household.push(calendar.end_of(day).plus_seconds(1800));
    }
    clock(&served, calendar.end_of(first.plus(DAYS - 1)).plus_seconds(6 * 3600));
    let statement = "SELECT count(*) FROM interval_reading";
    wait_for("every interval is stored", || {
        (served.number(statement) >= METERS as i64 * 48 * i64::from(DAYS)).then_some(())
    });

    let of_meter = |number: usize| {
        format!(
            "meter_id = (SELECT meter_id FROM meter WHERE serial = '{}')",
            household.doors[number].identity.serial
        )
    };
    for number in 0..METERS {
        let meter = of_meter(number);
        let mut register = household.doors[number].identity.opening_register_wh;
        for day in (0..DAYS).map(|ahead| first.plus(ahead)) {
            let expected = used(&truth, number as u32, day);
            let rows = served.sql(&format!(
                "SELECT import_wh, voltage_dv, current_ma FROM interval WHERE {meter} AND usage_date = '{day}' \
                 ORDER BY interval_end"
            ));
            let wh: Vec<i64> = rows.iter().map(|row| row["import_wh"].as_i64().unwrap()).collect();
            assert_eq!(wh, expected, "{meter} on {day}");
            register += wh.iter().sum::<i64>();
            let stored = served.number(&format!(
                "SELECT import_wh FROM daily_reading WHERE {meter} AND usage_date = '{day}'"
            ));
            assert_eq!(stored, register, "{meter} on {day}");
            let charged = served.number(&format!(
                "SELECT cast(round(import_kwh * 1000) AS bigint) FROM daily_usage WHERE {meter} AND usage_date = '{day}'"
            ));
            assert_eq!(charged, wh.iter().sum::<i64>(), "{meter} on {day}");
            if number == busy && day == first {
                // Open from 12:05 on, and into the next day.
                assert!(wh[..24].iter().sum::<i64>() > 0 && wh[25..].iter().all(|wh| *wh == 0), "{wh:?}");
                for row in &rows[25..] {
                    assert_eq!(row["current_ma"].as_i64().unwrap_or(0), 0, "{row}");
                    assert!(
                        row["voltage_dv"].as_i64().unwrap() > 2000,
                        "the supply side has its voltage: {row}"
                    );
                }
            } else if number == busy && day == first.next() {
                assert_eq!(wh[0], 0, "{wh:?}");
                assert!(wh[2..].iter().sum::<i64>() > 0, "{wh:?}");
            }
        }
    }
    assert_eq!(served.number("SELECT cast(sum(abs(difference)) AS bigint) FROM conservation"), 0);
    assert_eq!(served.number("SELECT coalesce(sum(amount_paise), 0) FROM ledger_posting"), 0);
    assert_eq!(served.number("SELECT count(*) FROM quarantine"), 0);
}
