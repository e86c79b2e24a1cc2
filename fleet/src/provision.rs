//! The meters of a fleet and their accounts, and the files by which a registry learns of them.

use std::borrow::Borrow;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use codec::security::Keys;
use model::{AccountNumber, Calendar, CivilDay, Instant, Paise, SystemTitle};

use crate::options::Mix;
use crate::program::Program;
use crate::rng::Rng;
use crate::supply::Supply;

/// One simulated meter and the account it measures for.
#[derive(Clone)]
pub struct SimulatedMeter {
    /// Its number in the fleet, from 0.
    pub index: u32,
    /// DLMS system title: `URJ` and five bytes.
    pub title: SystemTitle,
    /// Serial number; also the node of its topics.
    pub serial: String,
    /// COSEM device id: the manufacturer's letters and the serial number.
    pub device_id: String,
    /// Global unicast encryption key.
    pub guek: [u8; 16],
    /// Global authentication key.
    pub gak: [u8; 16],
    /// Name of its profile.
    pub profile: String,
    /// Capture period of its intervals, seconds.
    pub period_s: u32,
    /// What its pushes must carry to be taken in.
    pub policy: Policy,
    /// Security control of its pushes; `None` for plain ones.
    pub security_control: Option<u8>,
    /// The consumer's account.
    pub account: AccountNumber,
    /// What the account is charged as.
    pub category: Category,
    /// Sanctioned load, W.
    pub sanctioned_w: u32,
    /// First civil day that is charged.
    pub from: CivilDay,
    /// Register of active energy imported at the start of `from`, Wh.
    pub opening_register_wh: i64,
    /// Register of apparent energy imported at the start of `from`, VAh.
    pub opening_register_vah: i64,
    /// Balance taken over; positive is the consumer's credit.
    pub opening_balance: Paise,
    /// Whether energy goes out as float32 in kWh.
    pub float_energy: bool,
    /// Whether block pushes always are the buffer of a profile.
    pub nested: bool,
    /// Whether block pushes never are.
    pub flat: bool,
    /// How the rows of a buffer are encoded.
    pub row_style: RowStyle,
    /// Whether clocks are written with the tag of a date-time instead of that of an octet-string.
    pub tagged_time: bool,
    /// How it writes its deviation.
    pub deviation: Deviation,
    /// Whether its pushes ask for a confirm.
    pub confirmed: bool,
    /// Whether it speaks HDLC instead of the wrapper.
    pub hdlc: bool,
    /// What its keys were replaced by, where a head-end did that; clones share it.
    pub replaced: ReplacedKeys,
    /// Its relay, where it answers, and when that was open; clones share it.
    pub supply: Supply,
    /// What it was told to do by itself, where it answers; clones share it.
    pub program: Program,
}

impl SimulatedMeter {
    /// When billing cycles close on that day. None closes as the meter begins.
    pub(crate) fn closes(&self, day: CivilDay, calendar: &Calendar) -> Vec<Instant> {
        let mut closes = self.program.closes(day, calendar);
        if day == self.from {
            closes.retain(|close| *close > calendar.start_of(day));
        }
        closes
    }
}

/// The keys that a head-end gave a meter in the place of its own. Clones tell of the same.
#[derive(Clone, Default)]
pub struct ReplacedKeys(Arc<Mutex<Option<Keys>>>);

impl ReplacedKeys {
    pub(crate) fn set(&self, keys: Keys) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys);
    }

    pub(crate) fn keys(&self) -> Option<Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for ReplacedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplacedKeys(..)")
    }
}

/// Without the keys.
impl fmt::Debug for SimulatedMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, serial, profile) = (self.title, &self.serial, &self.profile);
        write!(f, "SimulatedMeter({} {title} {serial} {profile} {})", self.index, self.account)
    }
}

/// Tariff category of a domestic account (LMV-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// Urban.
    Urban,
    /// Rural.
    Rural,
    /// Lifeline: at most 1 kW.
    Lifeline,
}

impl Category {
    /// Name of the tariff it is charged under.
    #[must_use]
    pub fn tariff(self) -> &'static str {
        match self {
            Category::Urban => "lmv1-urban",
            Category::Rural => "lmv1-rural",
            Category::Lifeline => "lmv1-lifeline",
        }
    }
}

/// What a meter's pushes must carry to be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// An authentication tag.
    Authenticated,
    /// Nothing: the link binds the meter.
    Transport,
}

impl Policy {
    /// The word in the registry's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Policy::Authenticated => "authenticated",
            Policy::Transport => "transport",
        }
    }
}

/// How the rows of a profile buffer are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowStyle {
    /// An array of structures, every cell written out.
    Rows,
    /// As rows, but a clock that follows the one before by the capture period is null.
    NullClock,
    /// A compact array.
    Compact,
    /// As rows, but energies are written as differences to the row before where they fit 16 bits.
    Delta,
}

/// How a meter in India writes its deviation from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deviation {
    /// Minutes ahead of UTC, as Indian meters do.
    Ahead,
    /// Minutes from local time to UTC, as the Blue Book has it.
    BlueBook,
    /// Not specified.
    Unspecified,
}

const PURPOSE_FLEET: u64 = 1;
const PURPOSE_METER: u64 = 2;
/// Up to here a float32 in kWh tells every Wh apart; openings stay well below.
const FLOAT_OPENING_MAX_WH: i64 = 9_000_000;

/// Makes the meters of a fleet. The same arguments give the same meters, and a larger fleet begins with the smaller.
#[must_use]
pub fn provision(seed: u64, meters: u32, from: CivilDay, mix: &Mix) -> Vec<SimulatedMeter> {
    let mut rng = Rng::keyed(seed, &[PURPOSE_FLEET]);
    let fleet = Identity { code: rng.below(65_536) as u16, account_base: rng.below(10_000_000_000) };
    (0..meters).map(|index| make(seed, index, from, mix, &fleet)).collect()
}

/// What the ids of one fleet have in common, so that two fleets hardly ever share one.
struct Identity {
    code: u16,
    account_base: u64,
}

impl Identity {
    fn title(&self, index: u32) -> SystemTitle {
        let [c1, c0] = self.code.to_be_bytes();
        let [_, i2, i1, i0] = index.to_be_bytes();
        SystemTitle([b'U', b'R', b'J', c1, c0, i2, i1, i0])
    }

    fn serial(&self, index: u32) -> String {
        format!("{:05}{index:06}", self.code)
    }

    /// The step is coprime to the number of numbers, so none comes twice.
    fn account(&self, index: u32) -> AccountNumber {
        let digits = (self.account_base + u64::from(index) * 7_654_321) % 10_000_000_000;
        format!("PUVVNL{digits:010}").parse().expect("six letters and ten digits are an account number")
    }
}

fn make(seed: u64, index: u32, from: CivilDay, mix: &Mix, fleet: &Identity) -> SimulatedMeter {
    let rng = &mut Rng::keyed(seed, &[PURPOSE_METER, u64::from(index)]);
    let (guek, gak) = (rng.bytes(), rng.bytes());
    let category = category(rng);
    let sanctioned_w = sanctioned_w(category, rng);
    let (profile, period_s) = profile(category, sanctioned_w, mix, rng);
    let (policy, security_control) = security(mix, rng);
    let float_energy = rng.chance(mix.float_ppm);
    let (opening_register_wh, opening_register_vah) = opening_registers(sanctioned_w, float_energy, rng);
    let nested = rng.chance(mix.nested_ppm);
    let serial = fleet.serial(index);
    SimulatedMeter {
        index,
        title: fleet.title(index),
        device_id: format!("URJ{serial}"),
        serial,
        guek,
        gak,
        profile: profile.to_owned(),
        period_s,
        policy,
        security_control,
        account: fleet.account(index),
        category,
        sanctioned_w,
        from,
        opening_register_wh,
        opening_register_vah,
        opening_balance: opening_balance(category, rng),
        float_energy,
        nested,
        flat: !nested && rng.chance(mix.flat_ppm),
        row_style: row_style(rng),
        tagged_time: rng.chance(100_000),
        deviation: deviation(mix, rng),
        confirmed: rng.chance(mix.confirmed_ppm),
        hdlc: mix.hdlc,
        replaced: ReplacedKeys::default(),
        supply: Supply::default(),
        program: Program::default(),
    }
}

fn category(rng: &mut Rng) -> Category {
    match rng.below(100) {
        0..45 => Category::Urban,
        45..85 => Category::Rural,
        _ => Category::Lifeline,
    }
}

fn sanctioned_w(category: Category, rng: &mut Rng) -> u32 {
    let kilowatts = match category {
        Category::Urban => *rng.pick(&[1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 7, 8]),
        Category::Rural => *rng.pick(&[1, 1, 1, 2, 2, 2, 2, 3, 4]),
        Category::Lifeline => 1,
    };
    kilowatts * 1000
}

/// Single-phase meters but for larger urban connections; the rare variants are single-phase.
fn profile(category: Category, sanctioned_w: u32, mix: &Mix, rng: &mut Rng) -> (&'static str, u32) {
    let (three, quarter, start) = (
        rng.chance(mix.three_phase_ppm),
        rng.chance(mix.quarter_hour_ppm),
        rng.chance(mix.start_stamped_ppm),
    );
    if three && category == Category::Urban && sanctioned_w >= 5000 {
        ("is15959-d2", 1800)
    } else if quarter {
        ("is15959-d1-15min", 900)
    } else if start {
        ("is15959-d1-start", 1800)
    } else {
        ("is15959-d1", 1800)
    }
}

fn security(mix: &Mix, rng: &mut Rng) -> (Policy, Option<u8>) {
    let (transport, plain, clear) =
        (rng.chance(mix.transport_policy_ppm), rng.chance(500_000), rng.chance(mix.authenticated_only_ppm));
    match (transport, plain, clear) {
        (true, true, _) => (Policy::Transport, None),
        (true, false, _) => (Policy::Transport, Some(0x20)),
        (false, _, true) => (Policy::Authenticated, Some(0x10)),
        (false, _, false) => (Policy::Authenticated, Some(0x30)),
    }
}

fn opening_registers(sanctioned_w: u32, float_energy: bool, rng: &mut Rng) -> (i64, i64) {
    let most = i64::from(sanctioned_w) * 6_000;
    let most = if float_energy { most.min(FLOAT_OPENING_MAX_WH) } else { most };
    let wh = rng.between(200_000, most);
    (wh, wh + wh * rng.between(4, 12) / 100)
}

/// A few owe, most have a few weeks left.
fn opening_balance(category: Category, rng: &mut Rng) -> Paise {
    let rupees = match category {
        Category::Urban => rng.between(-300, 2500),
        Category::Rural => rng.between(-200, 1200),
        Category::Lifeline => rng.between(-50, 400),
    };
    Paise(rupees * 100 + rng.between(0, 99))
}

fn row_style(rng: &mut Rng) -> RowStyle {
    *rng.pick(&[
        RowStyle::Rows,
        RowStyle::Rows,
        RowStyle::Rows,
        RowStyle::Compact,
        RowStyle::NullClock,
        RowStyle::Delta,
    ])
}

fn deviation(mix: &Mix, rng: &mut Rng) -> Deviation {
    let (blue_book, unspecified) =
        (rng.chance(mix.blue_book_deviation_ppm), rng.chance(mix.no_deviation_ppm));
    match (unspecified, blue_book) {
        (true, _) => Deviation::Unspecified,
        (false, true) => Deviation::BlueBook,
        (false, false) => Deviation::Ahead,
    }
}

/// Writes the file that `urja account import` reads.
///
/// # Errors
/// As `out` gives them.
pub fn write_accounts(meters: &[impl Borrow<SimulatedMeter>], mut out: impl Write) -> io::Result<()> {
    writeln!(
        out,
        "account_number,category,sanctioned_kw,from,opening_register_kwh,opening_balance_rupees,connection"
    )?;
    for meter in meters.iter().map(Borrow::borrow) {
        let (account, tariff, from) = (&meter.account, meter.category.tariff(), meter.from);
        let load = thousandths(i64::from(meter.sanctioned_w));
        let register = thousandths(meter.opening_register_wh);
        let balance = hundredths(meter.opening_balance.0);
        writeln!(out, "{account},{tariff},{load},{from},{register},{balance},prepaid")?;
    }
    out.flush()
}

/// Writes the file that `urja meter import` reads. It holds the keys.
///
/// # Errors
/// As `out` gives them.
pub fn write_meters(meters: &[impl Borrow<SimulatedMeter>], mut out: impl Write) -> io::Result<()> {
    writeln!(out, "{METER_COLUMNS}")?;
    for meter in meters.iter().map(Borrow::borrow) {
        writeln!(out, "{}", meter_row(meter))?;
    }
    out.flush()
}

/// Columns of a meter's registration.
pub(crate) const METER_COLUMNS: &str =
    "system_title,serial,guek,gak,profile,policy,account_number,policy_reason";

/// A meter in these columns.
pub(crate) fn meter_row(meter: &SimulatedMeter) -> String {
    let (guek, gak) = (hex::encode(meter.guek), hex::encode(meter.gak));
    let (title, serial, profile) = (meter.title, &meter.serial, &meter.profile);
    let (policy, account) = (meter.policy.name(), &meter.account);
    let reason = match meter.policy {
        Policy::Authenticated => "",
        Policy::Transport => "simulated meter without authentication",
    };
    format!("{title},{serial},{guek},{gak},{profile},{policy},{account},{reason}")
}

/// Thousandths of a unit as a decimal number without needless zeros.
fn thousandths(value: i64) -> String {
    let text = format!("{}.{:03}", value / 1000, value % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn hundredths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", value.unsigned_abs() / 100, value.unsigned_abs() % 100)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn fleet(seed: u64, meters: u32) -> Vec<SimulatedMeter> {
        provision(seed, meters, "2026-06-01".parse().unwrap(), &Mix::default())
    }

    fn files(meters: &[SimulatedMeter]) -> (String, String) {
        let (mut accounts, mut keys) = (Vec::new(), Vec::new());
        write_accounts(meters, &mut accounts).unwrap();
        write_meters(meters, &mut keys).unwrap();
        (String::from_utf8(accounts).unwrap(), String::from_utf8(keys).unwrap())
    }

    #[test]
    fn the_same_seed_gives_the_same_files_and_another_seed_none_of_their_lines() {
        assert_eq!(files(&fleet(7, 50)), files(&fleet(7, 50)));
        let (accounts, keys) = files(&fleet(7, 50));
        let (other_accounts, other_keys) = files(&fleet(8, 50));
        let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<HashSet<_>>();
        assert!(lines(&accounts).is_disjoint(&lines(&other_accounts)));
        assert!(lines(&keys).is_disjoint(&lines(&other_keys)));
        assert!(lines(&files(&fleet(7, 60)).0).is_superset(&lines(&accounts)));
    }

    #[test]
    fn ids_and_keys_are_never_shared() {
        let meters = fleet(3, 20_000);
        let unique =
            |key: fn(&SimulatedMeter) -> Vec<u8>| meters.iter().map(key).collect::<HashSet<_>>().len();
        assert_eq!(unique(|m| m.title.0.to_vec()), meters.len());
        assert_eq!(unique(|m| m.serial.clone().into_bytes()), meters.len());
        assert_eq!(unique(|m| m.account.as_str().as_bytes().to_vec()), meters.len());
        assert_eq!(unique(|m| m.guek.to_vec()) + unique(|m| m.gak.to_vec()), 2 * meters.len());
        assert!(meters.iter().all(|m| m.guek != m.gak && m.title.0.starts_with(b"URJ")));
    }

    #[test]
    fn load_and_register_fit_the_category() {
        for meter in fleet(5, 5_000) {
            assert!(meter.opening_register_wh > 0, "{meter:?}");
            assert!(meter.opening_register_vah >= meter.opening_register_wh, "{meter:?}");
            assert!(meter.category != Category::Lifeline || meter.sanctioned_w == 1000, "{meter:?}");
            assert!(!meter.float_energy || meter.opening_register_wh <= FLOAT_OPENING_MAX_WH, "{meter:?}");
        }
    }

    #[test]
    fn every_kind_of_meter_appears() {
        let meters = fleet(1, 3_000);
        let share = |holds: fn(&SimulatedMeter) -> bool| meters.iter().filter(|m| holds(m)).count();
        for profile in ["is15959-d1", "is15959-d2", "is15959-d1-15min", "is15959-d1-start"] {
            assert!(meters.iter().any(|m| m.profile == profile), "{profile}");
        }
        assert!(share(|m| m.profile == "is15959-d1") > 2_000);
        assert!(share(|m| m.security_control == Some(0x10)) > 100);
        assert!(share(|m| m.row_style == RowStyle::Compact) > 300);
        assert!(share(|m| m.deviation == Deviation::BlueBook) > 300);
        assert!(share(|m| m.flat) > 30 && share(|m| m.nested) > 300 && share(|m| m.nested && m.flat) == 0);
    }

    #[test]
    fn files_have_the_columns_of_the_registry() {
        let mut meters = fleet(1, 1);
        meters[0].opening_register_wh = 5_120_050;
        meters[0].opening_balance = Paise(-5);
        meters[0].sanctioned_w = 1500;
        let (accounts, keys) = files(&meters);
        let fields: Vec<&str> = accounts.lines().nth(1).unwrap().split(',').collect();
        assert_eq!(fields[2..], ["1.5", "2026-06-01", "5120.05", "-0.05", "prepaid"]);
        let header: Vec<&str> = keys.lines().next().unwrap().split(',').collect();
        assert_eq!(header.len(), keys.lines().nth(1).unwrap().split(',').count());
    }
}
