//! The independent meter in all the ways in which it can differ or fail, and what it holds compared with its model, which
//! computes every value apart from any session.

use codec::axdr::Value;
use codec::cosem::image_transfer;
use codec::cosem::india::time;
use codec::cosem::profile_generic::{self, Buffer, Cell, Column};
use codec::security::association::Protect;

use super::*;

const SERIAL: &str = "HX000001";
/// What the meter's clock shows when it starts: no test runs into the end of a month.
const NOW: &str = "2026-06-20T14:07:00";
const PERIOD_S: u32 = 1800;
/// Columns of the model, in the order of the block load, behind the clock.
const BLOCK: [&str; 7] = ["v", "wh", "vah", "whx", "vahx", "i", "inn"];
/// The same of the daily load.
const DAILY: [&str; 4] = ["wh", "vah", "whx", "vahx"];

/// Starts the independent meter with its clock at [`NOW`].
fn independent(args: &[&str]) -> Option<Meter> {
    Meter::start(Make::Independent, &[&["--now", NOW, "--serial", SERIAL], args].concat())
}

/// A session as utility client with the independent meter.
fn opened(args: &[&str]) -> Option<(Meter, Line)> {
    let meter = independent(args)?;
    let mut line = Line::new(&meter, UTILITY, utility());
    line.associate().unwrap();
    Some((meter, line))
}

/// A row as the model says it: wall clock and values.
#[derive(Debug, PartialEq)]
struct Row {
    time: String,
    values: Vec<i64>,
}

/// What the meter must hold from `from` to `to`; `skip_every` as it was told.
fn truth(profile: &str, columns: &[&str], from: &str, to: &str, skip_every: u32) -> Vec<Row> {
    let script = "import sys, json; import meter_model as mm, datetime as dt\n\
        serial, profile, period, skip = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[6])\n\
        at = lambda text: dt.datetime.fromisoformat(text).replace(tzinfo=mm.IST)\n\
        row, step = (mm.block_row, period) if profile == 'block' else (mm.daily_row, 86400)\n\
        for t in mm.times(at(sys.argv[4]), at(sys.argv[5]), step):\n\
        \x20   if profile == 'block' and skip and mm.slot(t, period) % skip == 0: continue\n\
        \x20   r = row(serial, t, period); r['t'] = t.isoformat()[:19]; print(json.dumps(r))\n";
    let out = python()
        .env("PYTHONPATH", root().join("../shared/peers"))
        .args(["-c", script, SERIAL, profile, &PERIOD_S.to_string(), from, to, &skip_every.to_string()])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let values = columns.iter().map(|name| row[name].as_i64().unwrap()).collect();
        Row { time: row["t"].as_str().unwrap().to_owned(), values }
    };
    String::from_utf8(out.stdout).unwrap().lines().map(row).collect()
}

/// As in the model: energies of a float meter are in kilo.
fn integer(cell: Cell<'_>) -> i64 {
    match cell.unwrap() {
        Value::F32(bits) => format!("{:.0}", f64::from(f32::from_bits(bits)) * 1000.0).parse().unwrap(),
        Value::U16(number) => number.into(),
        Value::U32(number) => number.into(),
        other => panic!("{other:?}"),
    }
}

fn wall_clock(time: DateTime) -> String {
    let part = |part: Option<u8>| part.unwrap();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        time.year().unwrap(),
        part(time.month()),
        part(time.day()),
        part(time.hour()),
        part(time.minute()),
        part(time.second())
    )
}

/// The rows of a buffer as the codec makes them good, and the deviations of their clocks.
fn held(buffer: &OwnedData, columns: &OwnedData, period_s: u32) -> (Vec<Row>, Vec<Option<i16>>) {
    let columns: Vec<Column> = profile_generic::capture_objects(columns.data().value())
        .unwrap()
        .iter()
        .map(|column| Column::of(&column))
        .collect();
    let mut rows = Buffer::of(buffer.data().value()).unwrap().rows(columns, period_s);
    let (mut held, mut deviations) = (vec![], vec![]);
    while let Some(cells) = rows.next_row().unwrap() {
        let time = cells[0].unwrap().date_time().unwrap();
        deviations.push(time.deviation_min());
        held.push(Row {
            time: wall_clock(time),
            values: cells[1..].iter().map(|cell| integer(*cell)).collect(),
        });
    }
    (held, deviations)
}

fn at(year: u16, month: u8, day: u8, hour: u8, minute: u8) -> DateTime {
    DateTime::new(year, month, day, 0xff, hour, minute, 0, 0, i16::MIN, DateTime::STATUS_UNSPECIFIED)
}

/// The block load from 06:00 of one day to 06:00 of the next.
fn block_of_a_day(line: &mut Line) -> Result<OwnedData, (Error, Effect)> {
    let (from, to) = (at(2026, 6, 18, 6, 0), at(2026, 6, 19, 6, 0));
    let range = Selection::Range(RangeDescriptor::times(CaptureObject::clock(time::CLOCK), &from, &to));
    let mut buffer = vec![];
    let attribute = whole(7, profile::BLOCK_LOAD, 2).attribute;
    let access = Some(SelectiveAccess::encode(&range, &mut buffer));
    line.try_get(SelectedAttribute { attribute, access })
}

fn truth_of_that_day(skip_every: u32) -> Vec<Row> {
    truth("block", &BLOCK, "2026-06-18T06:00:00", "2026-06-19T06:00:00", skip_every)
}

fn zero() -> Vec<u8> {
    encoded(|writer| {
        writer.i8(0);
    })
}

#[test]
fn whatever_way_a_meter_writes_its_profiles_they_hold_what_its_model_says() {
    let variants: [(&[&str], u32, Option<i16>); 8] = [
        (&[], 0, Some(330)),
        (&["--encoding", "float"], 0, Some(330)),
        (&["--deviation", "-330"], 0, Some(-330)),
        (&["--deviation", "none"], 0, None),
        (&["--time-tag", "19"], 0, Some(330)),
        (&["--null-compress", "--max-pdu", "300"], 0, Some(330)),
        (&["--skip-every", "5"], 5, Some(330)),
        (
            &[
                "--null-compress",
                "--skip-every",
                "7",
                "--encoding",
                "float",
                "--time-tag",
                "19",
                "--deviation",
                "-330",
            ],
            7,
            Some(-330),
        ),
    ];
    for (args, skip_every, deviation) in variants {
        let Some((_meter, mut line)) = opened(args) else { return };
        let columns = line.get(7, profile::BLOCK_LOAD, 3);
        let Value::U32(period_s) = line.get(7, profile::BLOCK_LOAD, 4).data().value() else {
            panic!("{args:?}")
        };
        assert_eq!(period_s, PERIOD_S);
        let (block, deviations) = held(&block_of_a_day(&mut line).unwrap(), &columns, period_s);
        let expected = truth_of_that_day(skip_every);
        assert!(expected.len() >= 39, "{args:?}");
        assert_eq!(block, expected, "{args:?}");
        assert!(deviations.iter().all(|found| *found == deviation), "{args:?}: {deviations:?}");
        let (daily, _) =
            held(&line.get(7, profile::DAILY_LOAD, 2), &line.get(7, profile::DAILY_LOAD, 3), 86_400);
        assert_eq!(
            daily,
            truth("daily", &DAILY, "2026-06-17T00:00:00", "2026-06-20T00:00:00", 0),
            "{args:?}"
        );
        assert_eq!(time(&line.get(8, CLOCK, 2)).deviation_min(), deviation, "{args:?}");
    }
}

#[test]
fn several_attributes_are_read_at_once_where_the_meter_offers_that_and_only_there() {
    let asked = [
        whole(7, profile::DAILY_LOAD, 2),
        whole(3, LogicalName([1, 2, 3, 4, 5, 6]), 2),
        whole(7, profile::DAILY_LOAD, 3),
    ];
    let Some((_meter, mut line)) = opened(&["--with-list", "--max-pdu", "300"]) else { return };
    line.session.client().get_with_list(&asked).unwrap();
    let Answer::Values(values) = line.answer().unwrap() else { panic!() };
    let [Ok(buffer), Err(DataAccessResult::ObjectUndefined), Ok(columns)] = &values[..] else {
        panic!("{values:?}")
    };
    let (daily, _) = held(buffer, columns, 86_400);
    assert_eq!(daily, truth("daily", &DAILY, "2026-06-17T00:00:00", "2026-06-20T00:00:00", 0));
    let Some((_meter, mut line)) = opened(&[]) else { return };
    let refused = line.session.client().get_with_list(&asked);
    assert!(matches!(refused, Err(CommandError::NotNegotiated(_))), "{refused:?}");
}

#[test]
fn challenges_of_every_length_that_both_sides_know_are_answered() {
    for hls in ["2", "5"] {
        for length in ["8", "16", "32", "64"] {
            // A challenge of half a block is filled up in one way by this stack and in another by others.
            if hls == "2" && length == "8" {
                continue;
            }
            let Some(meter) = independent(&["--hls", hls, "--challenge", length]) else { return };
            let mut config = utility();
            if hls == "5" {
                config.authentication = Authentication::Gmac;
            }
            let mut line = Line::new(&meter, UTILITY, config);
            assert_eq!(line.associate(), Ok(()), "mechanism {hls}, challenge of {length} bytes");
            assert_eq!(wall_clock(time(&line.get(8, CLOCK, 2)))[..13], NOW[..13]);
        }
    }
}

#[test]
fn counters_go_on_from_where_the_meter_and_its_client_stood() {
    let args = ["--client-ic", "5000", "--server-ic", "4294960000"];
    let Some((meter, mut line)) = opened(&args) else { return };
    assert!(counter_of(&mut line) > 5000);
    for _ in 0..3 {
        line.get(3, register::ENERGY_IMPORT, 2);
    }
    assert!(line.aside.is_empty(), "{:?}", line.aside);
    // One who knows better is not led back.
    let mut ahead = Line::resume(&meter, UTILITY, utility(), SendCounter::resume(70_000));
    ahead.associate().unwrap();
    ahead.get(3, register::ENERGY_IMPORT, 2);
    assert!(counter_of(&mut ahead) > 70_000);
    assert!(meter.notes("replay_refused").is_empty());
}

#[test]
fn what_changes_the_meter_is_not_done_on_a_counter_behind_and_not_sent_again() {
    // The first action is pass 3, so that the association is opened twice; the command goes out once.
    let Some((meter, mut line)) = opened(&["--stale-ic", "action"]) else { return };
    assert!(line.aside.iter().any(|event| matches!(event, Event::Resynchronised { .. })), "{:?}", line.aside);
    assert_eq!(meter.notes("stale_ic").len(), 1);
    let zero = zero();
    line.act(70, control::RELAY, 1, Data::new(&zero).unwrap()).unwrap();
    assert_eq!(meter.notes("relay").len(), 1);

    let Some((meter, mut line)) = opened(&["--stale-ic", "set"]) else { return };
    let limit = encoded(|writer| {
        writer.u32(3000);
    });
    let mut set = || {
        line.session.client().set(whole(71, control::LOAD_LIMIT, 4), Data::new(&limit).unwrap()).unwrap();
        line.answer()
    };
    let (error, effect) = set().unwrap_err();
    assert!(matches!(error, Error::Exception(_)), "{error}");
    assert_eq!(effect, Effect::Unknown);
    assert!(meter.notes("write").is_empty() && meter.notes("stale_ic").len() == 1);
    assert_eq!(set(), Ok(Answer::Written));
    assert_eq!(meter.notes("write").len(), 1);
    assert_eq!(line.get(71, control::LOAD_LIMIT, 3).data().value(), Value::U32(3000));
}

#[test]
fn a_meter_that_drops_its_connection_is_asked_again_on_another() {
    // Asking for the counter takes three requests, the association two: the connection ends behind the first question.
    let Some((meter, mut line)) = opened(&["--drop-after", "6"]) else { return };
    line.get(3, register::ENERGY_IMPORT, 2);
    let zero = zero();
    let (error, effect) = line.act(70, control::RELAY, 1, Data::new(&zero).unwrap()).unwrap_err();
    assert_eq!(error, Error::Disconnected);
    assert_ne!(effect, Effect::None, "it may have gone out");
    line.until(|event| matches!(event, Event::Closed(Some(Error::Disconnected))).then_some(()));
    assert!(meter.notes("relay").is_empty() && meter.notes("dropped").len() == 1);
    let bound = *line.reserved.last().unwrap();
    let mut again = Line::resume(&meter, UTILITY, utility(), SendCounter::resume(bound));
    again.associate().unwrap();
    assert_eq!(again.get(70, control::RELAY, 2).data().value(), Value::Bool(true));
    assert!(meter.notes("replay_refused").is_empty());
}

#[test]
fn a_meter_that_hangs_up_on_silence_is_noticed_before_anything_is_believed() {
    let Some((meter, mut line)) = opened(&["--idle", "0.4"]) else { return };
    let give_up = Instant::now() + Duration::from_secs(20);
    while meter.notes("closed").is_empty() {
        assert!(Instant::now() < give_up, "it does not hang up");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(line.try_get(whole(8, CLOCK, 2)), Err((Error::Disconnected, Effect::None)));
}

#[test]
fn answers_that_come_late_or_in_crumbs_are_whole() {
    for args in [&["--delay-ms", "120"][..], &["--dribble", "--max-pdu", "300"]] {
        let Some((_meter, mut line)) = opened(args) else { return };
        let columns = line.get(7, profile::BLOCK_LOAD, 3);
        let (block, _) = held(&block_of_a_day(&mut line).unwrap(), &columns, PERIOD_S);
        assert_eq!(block, truth_of_that_day(0), "{args:?}");
        assert!(line.aside.is_empty(), "{args:?}: {:?}", line.aside);
    }
}

#[test]
fn of_garbled_answers_none_is_believed_and_the_genuine_ones_are_found() {
    for seed in ["1", "2", "3"] {
        // The first answers open the association, partly in the clear; from the seventh on every answer is ciphered.
        let Some((meter, mut line)) = opened(&["--garble-every", "7", "--seed", seed]) else { return };
        let columns = line.get(7, profile::DAILY_LOAD, 3);
        let expected = truth("daily", &DAILY, "2026-06-17T00:00:00", "2026-06-20T00:00:00", 0);
        for _ in 0..12 {
            match line.try_get(whole(7, profile::DAILY_LOAD, 2)) {
                Ok(buffer) => assert_eq!(held(&buffer, &columns, 86_400).0, expected, "seed {seed}"),
                Err((_, effect)) => assert_eq!(effect, Effect::None, "a question changes nothing"),
            }
        }
        assert!(!meter.notes("garbled").is_empty());
        assert!(!line.aside.is_empty(), "what was garbled is told");
    }
}

#[test]
fn a_reader_is_let_in_in_the_context_alone_that_a_meter_knows() {
    let password = || Authentication::Password(Secret::new(PASSWORD.to_vec()));
    for (context, ciphers) in [("1", false), ("3", true)] {
        let Some(meter) = independent(&["--lls-context", context]) else { return };
        let plain = Config { authentication: password(), ..Config::public(title(&READER)) };
        let ciphered = Config::ciphered(title(&READER), password(), Protection::new(keys()));
        let (wanted, other) = if ciphers { (ciphered, plain) } else { (plain, ciphered) };
        let refused = Line::new(&meter, READER, patient(other)).associate();
        assert!(matches!(refused, Err(Error::Rejected { .. })), "context {context}: {refused:?}");
        let mut line = Line::new(&meter, READER, patient(wanted));
        line.associate().unwrap();
        assert_eq!(line.get(7, profile::BLOCK_LOAD, 4).data().value(), Value::U32(PERIOD_S));
    }
}

#[test]
fn what_is_protected_otherwise_than_agreed_opens_nothing_on_either_side() {
    // A strict meter refuses what has a tag alone; one that takes it answers ciphered, which nobody agreed to.
    for strict in ["1", "0"] {
        let Some(meter) = independent(&["--strict-sc", strict]) else { return };
        let mut config = utility();
        if let Some(protection) = &mut config.protection {
            protection.protect = Protect::Authenticated;
        }
        assert!(Line::new(&meter, UTILITY, config).associate().is_err());
        assert_eq!(meter.notes("bad_sc").is_empty(), strict == "0");
        let mut line = Line::new(&meter, UTILITY, utility());
        line.associate().unwrap();
    }
}

#[test]
fn a_relay_that_fails_says_so_and_stays_as_it_is() {
    let Some((meter, mut line)) = opened(&["--relay-fail"]) else { return };
    let zero = zero();
    let failed = line.act(70, control::RELAY, 1, Data::new(&zero).unwrap());
    assert_eq!(failed, Err((Error::Action(ActionResult::TemporaryFailure), Effect::None)));
    assert_eq!(line.get(70, control::RELAY, 2).data().value(), Value::Bool(true));
    assert_eq!(line.get(70, control::RELAY, 3).data().value(), Value::Enum(1));
    assert!(meter.notes("relay").is_empty() && meter.notes("relay_refused").len() == 1);
}

#[test]
fn blocks_of_an_image_that_a_meter_lost_are_found_and_sent_again() {
    let Some((meter, mut line)) = opened(&["--image-lose", "3"]) else { return };
    let image: Vec<u8> = (0..=255).cycle().take(1990).collect();
    let name = control::IMAGE_TRANSFER;
    let Value::U32(block_len) = line.get(18, name, 2).data().value() else { panic!() };
    let blocks: Vec<&[u8]> = image.chunks(block_len as usize).collect();
    let yes = encoded(|writer| {
        writer.bool(true);
    });
    assert_eq!(line.set(18, name, 5, Data::new(&yes).unwrap()), Answer::Written);
    let start = encoded(|writer| {
        writer.structure(2).octet_string(b"TEST-2").u32(u32::try_from(image.len()).unwrap());
    });
    line.act(18, name, 1, Data::new(&start).unwrap()).unwrap();
    let send = |line: &mut Line, number: usize| {
        let block = encoded(|writer| {
            writer.structure(2).u32(u32::try_from(number).unwrap()).octet_string(blocks[number]);
        });
        line.act(18, name, 2, Data::new(&block).unwrap()).unwrap();
    };
    for number in 0..blocks.len() {
        send(&mut line, number);
    }
    let zero = zero();
    let early = line.act(18, name, 3, Data::new(&zero).unwrap());
    assert!(matches!(early, Err((Error::Action(_), Effect::None))), "some are missing: {early:?}");
    let mut again = 0;
    loop {
        let first = line.get(18, name, 4);
        let Value::U32(first) = first.data().value() else { panic!("{first:?}") };
        if first as usize == blocks.len() {
            break;
        }
        let there = line.get(18, name, 3);
        let there = image_transfer::image_transferred_blocks_status(there.data().value()).unwrap();
        assert_eq!(there.bit(first as usize), Some(false), "both attributes say the same");
        send(&mut line, first as usize);
        again += 1;
    }
    assert_eq!(again, blocks.len() / 3);
    let mut verified = line.act(18, name, 3, Data::new(&zero).unwrap());
    while verified == Err((Error::Action(ActionResult::TemporaryFailure), Effect::None)) {
        verified = line.act(18, name, 3, Data::new(&zero).unwrap());
    }
    verified.unwrap();
    line.act(18, name, 4, Data::new(&zero).unwrap()).unwrap();
    let note = meter.notes("image_verified").remove(0);
    assert_eq!((note["size"].as_u64(), note["crc32"].as_str()), (Some(1990), Some(&crc32(&image)[..])));
    assert_eq!(meter.notes("image_activated").len(), 1);
}

/// CRC-32 as zlib has it, in digits.
fn crc32(bytes: &[u8]) -> String {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    format!("{:08x}", !crc)
}
