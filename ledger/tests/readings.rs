//! Readings: verdicts, late and wrong clocks, revisions, events, and the count of frames.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use ledger::{Limits, Outcome};
use model::row::{Head, PostingKind};
use model::view::Tally;
use model::*;
use proptest::prelude::*;
use world::*;

fn tcp(world: &World) -> Tally {
    world.fold.tallies()[Source::Tcp.index()]
}

fn qualities(world: &World) -> Vec<Quality> {
    let quality = |row: &Row| match row {
        Row::Interval(row) | Row::Daily(row) | Row::Instant(row) => Some(row.quality),
        Row::Revision(row) => Some(row.quality),
        _ => None,
    };
    world.rows.iter().filter_map(quality).collect()
}

/// A frame with a counter of its own.
fn pushed(counter: u32, late: bool, readings: Vec<Reading>) -> Fact {
    Fact::Frame(AcceptedFrame { late, ..frame(1, counter, readings) })
}

#[test]
fn a_repeated_reading_moves_nothing_and_is_counted() {
    let mut world = World::with_account("2026-06-01T10:35:00");
    world.apply(pushed(5, false, vec![interval("2026-06-01T10:30:00", 500)]));
    let before = world.view(1);
    world.apply(pushed(4, false, vec![interval("2026-06-01T10:30:00", 500)]));
    assert_eq!(world.view(1).month_energy_wh, before.month_energy_wh);
    assert_eq!(world.keys.len(), 1);
    let tally = tcp(&world);
    assert_eq!((tally.received, tally.stored, tally.repeated, tally.contested), (2, 1, 1, 0));
}

#[test]
fn a_repetition_under_a_higher_rank_is_kept_and_moves_nothing() {
    let mut world = World::with_account("2026-06-01T10:35:00");
    world.apply(pushed(4, false, vec![interval("2026-06-01T10:30:00", 500)]));
    let before = world.view(1);
    world.apply(pushed(6, false, vec![interval("2026-06-01T10:30:00", 500)]));
    world.apply(pushed(5, false, vec![interval("2026-06-01T10:30:00", 700)]));
    assert_eq!(world.view(1).month_energy_wh, before.month_energy_wh);
    let tally = tcp(&world);
    assert_eq!((tally.received, tally.stored, tally.repeated, tally.contested), (3, 3, 0, 0));
}

#[test]
fn a_revision_moves_the_difference_by_rank_and_not_by_arrival() {
    let mut world = World::with_account("2026-06-01T10:35:00");
    world.apply(pushed(10, false, vec![interval("2026-06-01T10:30:00", 500)]));
    world.apply(pushed(11, false, vec![interval("2026-06-01T10:30:00", 300)]));
    assert_eq!((world.view(1).month_energy_wh, world.view(1).month_demand_w), (300, 600));
    world.apply(pushed(9, false, vec![interval("2026-06-01T10:30:00", 900)]));
    assert_eq!((world.view(1).month_energy_wh, world.view(1).month_demand_w), (300, 600));
    let revisions: Vec<_> = world
        .rows
        .iter()
        .filter_map(|row| match row {
            Row::Revision(row) => {
                Some((row.rank.counter, row.values.get(Channel::ImportWh), row.frame < row.position))
            }
            _ => None,
        })
        .collect();
    assert_eq!(revisions, [(11, Some(300), true), (9, Some(900), true)]);
    assert_eq!(tcp(&world).stored, 3);
}

#[test]
fn an_interval_that_comes_during_a_look_up_keeps_its_demand() {
    let mut world = World::with_account("2026-06-01T12:35:00");
    world.push(1, vec![interval("2026-06-01T10:30:00", 900)]);
    world.answers_at_once = false;
    world.push(1, vec![interval("2026-06-01T10:30:00", 100)]);
    let contested = world.waiting.remove(0);
    let answer = world.look_up(&contested);
    world.push(1, vec![interval("2026-06-01T11:00:00", 400)]);
    world.apply(Fact::Resolved(answer));
    assert_eq!(world.view(1).month_demand_w, 800);
    assert_eq!(world.view(1).month_energy_wh, 500);
}

#[test]
fn the_demand_of_one_answer_is_not_taken_for_a_new_interval_by_the_next() {
    let mut world = World::with_account("2026-06-01T12:35:00");
    world.apply(pushed(1, false, vec![interval("2026-06-01T10:30:00", 400)]));
    world.answers_at_once = false;
    world.apply(pushed(2, false, vec![interval("2026-06-01T10:30:00", 900)]));
    world.apply(pushed(3, false, vec![interval("2026-06-01T10:30:00", 100)]));
    world.answer(0);
    assert_eq!(world.view(1).month_demand_w, 1_800);
    world.answer(0);
    assert_eq!(world.view(1).month_demand_w, 200);
}

#[test]
fn demand_before_the_accounts_first_day_never_counts() {
    let mut world = World::new("2026-06-15T12:35:00");
    world.account(1, "lmv1-urban", "2026-06-15", 0);
    world.meter(1, Some(1));
    world.push(1, vec![interval("2026-06-15T10:30:00", 900)]);
    world.answers_at_once = false;
    world.push(1, vec![interval("2026-06-15T10:30:00", 100)]);
    let contested = world.waiting.remove(0);
    assert_eq!(contested.demand_after, at("2026-06-15T00:00:00"));
    let answer = world.look_up(&contested);
    world.push(1, vec![interval("2026-06-14T10:30:00", 400)]);
    world.apply(Fact::Resolved(answer));
    assert_eq!((world.view(1).month_demand_w, world.view(1).month_energy_wh), (200, 100));
}

#[test]
fn an_answer_that_comes_after_the_late_days_still_moves_its_reading() {
    let mut world = World::with_account("2026-05-30T10:00:00");
    world.push(1, vec![interval("2026-05-30T10:00:00", 400)]);
    world.close_until("2026-07-12");
    world.answers_at_once = false;
    world.until("2026-07-13T10:00:00").push(1, vec![interval("2026-05-30T10:00:00", 1_000)]);
    world.close_until("2026-07-20");
    assert_eq!(world.charged_wh(1, month("2026-05")), 400);
    world.answer(0);
    world.close_until("2026-07-21");
    assert_eq!(world.charged_wh(1, month("2026-05")), 1_000);
}

#[test]
fn contested_readings_of_a_meter_are_handed_out_one_by_one() {
    let mut world = World::with_account("2026-06-01T12:35:00");
    let ends = ["2026-06-01T10:30:00", "2026-06-01T11:00:00"];
    world.push(1, ends.map(|end| interval(end, 500)).to_vec());
    world.answers_at_once = false;
    world.push(1, ends.map(|end| interval(end, 700)).to_vec());
    let frame = world.fold.position();
    assert_eq!(world.waiting.len(), 1);
    assert_eq!((world.fold.contested_len(), world.fold.open_contested()), (2, world.waiting.clone()));
    assert_eq!((tcp(&world).stored, tcp(&world).contested), (1, 1));
    let first = &world.waiting[0];
    assert_eq!((first.position, first.index), (frame, 0));
    assert_eq!(
        (first.demand_after, first.demand_upto),
        (at("2026-06-01T00:00:00"), at("2026-07-01T00:00:00"))
    );

    // An answer to the one that was not handed out yet has no effect.
    let early = Resolution { contested: frame, index: 1, verdict: Verdict::Repeated };
    assert_eq!(world.apply(Fact::Resolved(early)), Outcome::NotOpen);
    world.answer(0);
    assert_eq!(world.waiting.len(), 1);
    assert_eq!(world.waiting[0].index, 1);
    assert_eq!((tcp(&world).stored, tcp(&world).contested), (1, 1));
    world.answer(0);
    assert_eq!((tcp(&world).stored, tcp(&world).contested), (2, 0));
    assert_eq!(world.fold.contested_len(), 0);
    assert_eq!(world.view(1).month_energy_wh, 1_400);
}

#[test]
fn an_end_off_the_grid_is_another_key_of_the_same_slot() {
    let mut world = World::with_account("2026-06-01T10:35:00");
    world.push(1, vec![interval("2026-06-01T10:30:00", 500)]);
    world.push(1, vec![interval("2026-06-01T10:29:00", 40)]);
    assert_eq!(world.keys.len(), 2);
    assert_eq!(qualities(&world), [Quality::GOOD, Quality::OFF_GRID]);
    assert_eq!(world.view(1).month_energy_wh, 540);
    assert_eq!(tcp(&world).stored, 2);
}

#[test]
fn a_clock_some_seconds_fast_loses_and_doubles_nothing_and_leaves_no_gap() {
    let mut world = World::with_account("2026-06-01T10:35:00");
    // Right, then seven seconds fast, then set right again.
    for (end, now, wh) in [
        ("2026-06-01T10:30:00", "2026-06-01T10:31:00", 1),
        ("2026-06-01T11:00:07", "2026-06-01T11:01:00", 10),
        ("2026-06-01T11:30:07", "2026-06-01T11:31:00", 100),
        ("2026-06-01T12:00:00", "2026-06-01T12:01:00", 1_000),
    ] {
        world.until(now).push(1, vec![interval(end, wh)]);
    }
    assert_eq!(world.view(1).month_energy_wh, 1_111);
    assert_eq!(qualities(&world), [Quality::GOOD, Quality::OFF_GRID, Quality::OFF_GRID, Quality::GOOD]);
    let first = at("2026-06-01T10:30:00");
    assert!(world.fold.gaps(9).iter().all(|gap| gap.last_end < first), "{:?}", world.fold.gaps(9));
}

#[test]
fn a_clock_more_than_a_minute_off_is_told() {
    let mut world = World::with_account("2026-06-01T10:35:00");
    let drift = Quality::CLOCK_DRIFT;
    for (end, wh) in [("2026-06-01T10:31:00", 1), ("2026-06-01T10:01:01", 2), ("2026-06-01T10:28:59", 4)] {
        world.push(1, vec![interval(end, wh)]);
    }
    world.push(1, vec![reading(ReadingKind::Instant, at("2026-06-01T10:36:01"), values(9))]);
    let off = Quality::OFF_GRID;
    assert_eq!(qualities(&world), [off, off.with(drift), off.with(drift), drift]);
    assert_eq!(world.view(1).month_energy_wh, 7);
}

#[test]
fn a_meter_speaks_under_its_old_keys_until_it_uses_the_new_ones() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    let word = |byte: u8, key_epoch: u16, counter: u32| {
        let event_word = Some(EventWord([byte; 16]));
        Fact::Frame(AcceptedFrame { event_word, key_epoch, ..frame(1, counter, vec![]) })
    };
    world.apply(word(1, 1, 50));
    let mut terms = world.meter_terms(1, Some(1));
    terms.key_epoch = 2;
    assert_eq!(world.apply(Fact::MeterTerms(terms)), Outcome::TermsApplied);
    let late = |world: &World| {
        let mut events = world.rows.iter().filter_map(|row| match row {
            Row::Event(event) => Some(event.late),
            _ => None,
        });
        events.next_back().unwrap()
    };
    world.apply(word(2, 1, 51));
    assert!(!late(&world), "nothing came under the new keys yet");
    world.apply(word(3, 2, 1));
    assert!(!late(&world));
    world.apply(word(4, 1, 52));
    assert!(late(&world), "the meter has gone over");
    let window = world.fold.counter_windows().find(|(meter, _)| *meter == MeterId(1)).unwrap().1;
    assert_eq!((window.key_epoch, window.high), (2, 1));
}

#[test]
fn a_register_that_is_not_of_midnight_anchors_nothing() {
    let mut world = World::with_account("2026-06-01T10:35:00");
    let noon = reading(ReadingKind::Daily, at("2026-06-01T10:30:00"), values(9_000));
    world.push(1, vec![noon]);
    assert_eq!(world.view(1).month_energy_wh, 0);
    assert_eq!(qualities(&world), [Quality::OFF_GRID.with(Quality::CLOCK_DRIFT)]);
}

#[test]
fn late_data_of_a_closed_month_is_booked_as_a_correction_of_that_month() {
    let mut world = World::with_account("2026-05-30T10:00:00");
    world.until("2026-06-10T00:20:00").push(1, vec![register("2026-06-09", 20_000)]);
    world.close_until("2026-06-09");
    assert_eq!((world.charged_wh(1, month("2026-05")), world.charged_wh(1, month("2026-06"))), (0, 20_000));

    // The register of the end of May moves energy from June to May.
    world.until("2026-06-11T01:00:00").push(1, vec![register("2026-05-31", 12_000)]);
    assert_eq!(world.view(1).month_energy_wh, 8_000);
    let outcome = world.close("2026-06-10");
    assert!(matches!(outcome, Outcome::DayClosed { corrections: 1, charged: 1, .. }));
    assert_eq!(
        (world.charged_wh(1, month("2026-05")), world.charged_wh(1, month("2026-06"))),
        (12_000, 8_000)
    );
    let corrections: Vec<_> = world
        .postings()
        .filter(|line| line.kind == PostingKind::Correction && line.head == Head::Consumer)
        .map(|line| (line.usage_date.to_string(), line.energy_wh))
        .collect();
    assert_eq!(corrections, [("2026-05-31".into(), Some(12_000))]);

    // A demand of a closed month counts for that month too.
    world.until("2026-06-11T12:00:00").push(1, vec![interval("2026-05-30T20:00:00", 2_500)]);
    world.close("2026-06-11");
    let fixed = world.charged(1, month("2026-05"))[&Head::Fixed];
    assert_eq!(fixed, (11_000 * 5 * 2 + 15) / 31);
    assert_eq!(world.charged_wh(1, month("2026-05")), 12_000);
}

#[test]
fn data_older_than_the_late_days_is_stored_and_not_charged() {
    let mut world = World::with_account("2026-05-01T10:00:00");
    world.close_until("2026-06-19");
    world.until("2026-06-20T10:00:00");
    let push = |world: &mut World, end: &str| {
        world.push(1, vec![interval(end, 1_000)]);
        world.view(1)
    };
    push(&mut world, "2026-05-05T12:00:00");
    push(&mut world, "2026-05-06T12:00:00");
    assert_eq!(qualities(&world), [Quality::TOO_LATE, Quality::GOOD]);
    world.close_until("2026-06-20");
    assert_eq!(world.charged_wh(1, month("2026-05")), 1_000);
    assert_eq!(world.keys.len(), 2);
    assert_eq!(tcp(&world).stored, 2);
    // Again, after its gap was forgotten: contested, found, and not a second reading.
    push(&mut world, "2026-05-05T12:00:00");
    assert_eq!(world.keys.len(), 2);
    assert_eq!(world.charged_wh(1, month("2026-05")), 1_000);
}

#[test]
fn a_wrong_clock_moves_no_money_and_does_not_close_the_door() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    world.push(1, vec![interval("2026-06-01T10:00:00", 10)]);
    world.push(1, vec![interval("2026-06-01T10:30:00", 700), interval("2031-01-01T00:00:00", 800)]);
    let future = Quality::FUTURE.with(Quality::CLOCK_DRIFT);
    assert_eq!(qualities(&world), [Quality::GOOD, future, future]);
    assert_eq!(world.view(1).month_energy_wh, 10);
    // The true value of the same key, in its time: it is found to be stored already, and charged now.
    world.until("2026-06-01T10:31:00").push(1, vec![interval("2026-06-01T10:30:00", 700)]);
    assert_eq!(world.view(1).month_energy_wh, 710);
    world.until("2026-06-01T11:01:00").push(1, vec![interval("2026-06-01T11:00:00", 5)]);
    assert_eq!(world.view(1).month_energy_wh, 715);
    world.push(1, vec![interval("2026-06-01T11:00:00", 5)]);
    assert_eq!(world.view(1).month_energy_wh, 715);
    assert_eq!(world.keys.len(), 4);
    assert_eq!(tcp(&world), Tally { received: 5, stored: 5, ..Tally::default() });
}

#[test]
fn a_wrong_value_ahead_of_its_time_is_replaced_in_full() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    world.push(1, vec![interval("2026-06-01T12:00:00", 700)]);
    world.until("2026-06-01T12:01:00").push(1, vec![interval("2026-06-01T12:00:00", 300)]);
    assert_eq!((world.view(1).month_energy_wh, world.view(1).month_demand_w), (300, 600));
}

#[test]
fn a_register_that_goes_back_waits_and_the_next_good_one_wins() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    world.until("2026-06-02T00:20:00").push(1, vec![register("2026-06-01", 5_000)]);
    world.until("2026-06-03T00:20:00").push(1, vec![register("2026-06-02", 4_000)]);
    assert_eq!(qualities(&world), [Quality::GOOD, Quality::REGISTER_WENT_BACK]);
    assert_eq!(world.view(1).month_energy_wh, 5_000);
    // A revision that rises is taken.
    world.push(1, vec![register("2026-06-02", 7_000)]);
    assert_eq!(world.view(1).month_energy_wh, 7_000);
}

#[test]
fn channels_are_filled_by_union() {
    let mut world = World::with_account("2026-06-01T10:35:00");
    let voltage = [(Channel::VoltageDv, 2_301)].into_iter().collect::<Values>();
    world.push(1, vec![reading(ReadingKind::Interval, at("2026-06-01T10:30:00"), voltage)]);
    assert_eq!(world.view(1).month_energy_wh, 0);
    world.apply(pushed(0, true, vec![interval("2026-06-01T10:30:00", 500)]));
    assert_eq!(world.view(1).month_energy_wh, 500);
}

#[test]
fn event_words_give_rows_for_what_changed_and_late_ones_no_state() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    let word = |byte: u8, counter: u32, late: bool| {
        let mut word = EventWord::default();
        word.0[0] = byte;
        Fact::Frame(AcceptedFrame { event_word: Some(word), late, ..frame(1, counter, vec![]) })
    };
    world.apply(word(0b1000_0000, 10, false));
    world.apply(word(0b1000_0000, 11, false));
    world.apply(word(0b0100_0000, 9, false));
    world.apply(word(0b0010_0000, 1, true));
    world.apply(word(0b0000_0000, 12, false));
    let events: Vec<_> = world
        .rows
        .iter()
        .filter_map(|row| match row {
            Row::Event(row) => Some((row.bit, row.occurred, row.late)),
            _ => None,
        })
        .collect();
    assert_eq!(
        events,
        [
            (0, true, false),
            (0, false, true),
            (1, true, true),
            (0, false, true),
            (2, true, true),
            (0, false, false),
        ]
    );
    assert_eq!(tcp(&world).stored, 5);
}

#[test]
fn a_meter_is_heard_by_fresh_frames_alone() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    world.apply(pushed(5, true, vec![]));
    assert_eq!(world.fold.meter(MeterId(1)).unwrap().heard_at, None);
    let mut ahead = interval("2026-06-02T10:00:00", 1);
    ahead.quality = Quality::UNAUTHENTICATED;
    world.apply(pushed(6, false, vec![ahead]));
    assert_eq!(world.fold.meter(MeterId(1)).unwrap().heard_at, None);
    world.apply(pushed(7, false, vec![]));
    let view = world.fold.meter(MeterId(1)).unwrap();
    assert_eq!((view.heard_at, view.counter), (Some(world.now), Some(7)));
    assert_eq!(world.view(1).heard_at, Some(world.now));
    let windows: Vec<_> = world.fold.counter_windows().collect();
    assert_eq!(windows[0].1.high, 7);
}

#[test]
fn a_frame_of_a_meter_without_terms_is_evidence() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    world.push(9, vec![interval("2026-06-01T10:00:00", 1)]);
    assert!(matches!(
        world.rows.last(),
        Some(Row::Quarantine(row)) if row.reason == QuarantineReason::NoTerms && row.raw == [1, 2, 3]
    ));
    assert_eq!(tcp(&world).quarantined, 1);
}

#[test]
fn frames_without_a_record_are_counted_by_the_group() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    let mut counts = [SourceCounts::default(); 4];
    counts[Source::Mqtt.index()] = SourceCounts { received: 5, redelivered: 3, refused: 2 };
    world.fold.begin_group(&counts);
    let tally = world.fold.tallies()[Source::Mqtt.index()];
    assert_eq!(tally, Tally { received: 5, repeated: 3, refused: 2, ..Tally::default() });
}

#[test]
fn what_is_missing_is_listed_since_the_accounts_first_day() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    assert_eq!(world.fold.meter(MeterId(1)).unwrap().complete_until, None);
    world.until("2026-06-04T00:20:00");
    for half_hour in 1..=96 {
        let end = at("2026-06-01T00:00:00").plus_seconds(half_hour * 1800);
        if !(40..=41).contains(&half_hour) {
            world.push(1, vec![reading(ReadingKind::Interval, end, values(1))]);
        }
    }
    world.push(1, vec![interval("2026-06-04T00:00:00", 1)]);
    let view = world.fold.meter(MeterId(1)).unwrap();
    assert_eq!(view.complete_until, Some(at("2026-06-01T19:30:00")));
    let gaps = world.fold.gaps(10);
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        (gaps[0].first_end, gaps[0].last_end, gaps[0].slots),
        (at("2026-06-01T20:00:00"), at("2026-06-01T20:30:00"), 2)
    );
    world.push(1, vec![interval("2026-06-01T20:00:00", 1), interval("2026-06-01T20:30:00", 1)]);
    let view = world.fold.meter(MeterId(1)).unwrap();
    assert_eq!(view.complete_until, Some(at("2026-06-03T00:00:00")));
    assert!(world.fold.gaps(10).is_empty());
}

#[test]
fn a_second_meter_of_an_account_moves_no_money() {
    let mut world = World::with_account("2026-06-01T10:35:00");
    world.meter(2, Some(1));
    world.push(2, vec![interval("2026-06-01T10:30:00", 900)]);
    assert_eq!((world.view(1).month_energy_wh, world.view(1).month_demand_w), (0, 0));
    assert_eq!(world.keys.len(), 1);
}

#[test]
fn a_full_table_of_contested_readings_is_told_and_nothing_is_shed() {
    let mut world =
        World::with_limits("2026-06-01T10:35:00", Limits { max_contested: 1, ..Limits::default() });
    world.account(1, "lmv1-urban", "2026-06-01", 0);
    world.meter(1, Some(1));
    world.answers_at_once = false;
    for wh in 1..4 {
        world.push(1, vec![interval("2026-06-01T10:30:00", wh)]);
    }
    assert!(world.fold.contested_is_full());
    assert_eq!(world.fold.contested_len(), 2);
    while !world.waiting.is_empty() {
        world.answer(0);
    }
    assert!(!world.fold.contested_is_full());
    assert_eq!(world.view(1).month_energy_wh, 3);
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let kind = prop_oneof![Just(ReadingKind::Interval), Just(ReadingKind::Daily), Just(ReadingKind::Instant)];
    let near = (1_770_000_000_i64..1_790_000_000).prop_map(|s| Instant::from_seconds(s / 900 * 900));
    let end = prop_oneof![4 => near, 1 => any::<i64>().prop_map(Instant)];
    let wh = prop_oneof![4 => 0_i64..5_000, 1 => any::<i64>()];
    (kind, end, wh, any::<u32>()).prop_map(|(kind, end, wh, quality)| Reading {
        quality: Quality(quality),
        ..reading(kind, end, values(wh))
    })
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let readings = proptest::collection::vec(any_reading(), 0..5);
    let verdict = prop_oneof![
        Just(Verdict::Repeated),
        Just(Verdict::Absent),
        (any::<i64>(), any::<i64>(), any::<Option<i64>>()).prop_map(|(before, after, demand_without_w)| {
            Verdict::Revised { before: values(before), after: values(after), demand_without_w }
        }),
    ];
    let day_near = prop_oneof![4 => 20_500_i32..20_700, 1 => any::<i32>()].prop_map(CivilDay);
    let id = || prop_oneof![8 => 0_u32..4, 1 => any::<u32>()];
    prop_oneof![
        8 => (id(), any::<u16>(), any::<Option<u32>>(), any::<bool>(), readings, any::<Option<u8>>()).prop_map(
            |(meter, key_epoch, counter, late, readings, word)| Fact::Frame(AcceptedFrame {
                key_epoch: key_epoch % 3,
                counter,
                late,
                event_word: word.map(|byte| EventWord([byte; 16])),
                ..frame(meter, 0, readings)
            })
        ),
        4 => (1_u64..60, 0_u16..3, verdict)
            .prop_map(|(at, index, verdict)| Fact::Resolved(Resolution { contested: Position(at), index, verdict })),
        3 => (any::<u64>(), id(), proptest::option::of(id()), any::<u32>()).prop_map(|(outbox, meter, account, period_s)| {
            Fact::MeterTerms(MeterTerms {
                outbox: OutboxId(outbox % 40),
                meter: MeterId(meter),
                title: SystemTitle::default(),
                account: account.map(AccountId),
                profile: String::new(),
                period_s: if period_s % 2 == 0 { 900 } else { period_s },
                authenticated: true,
                key_epoch: 1,
            })
        }),
        3 => (any::<u64>(), id(), any::<u32>(), day_near.clone(), any::<i64>(), any::<i64>()).prop_map(
            |(outbox, account, sanctioned_w, from, register, balance)| Fact::AccountTerms(AccountTerms {
                outbox: OutboxId(outbox % 40),
                account: AccountId(account),
                connection: ConnectionType::Prepaid,
                tariff: "lmv1-urban".into(),
                sanctioned_w,
                from,
                opening_register_wh: register / 1_000_000,
                opening_balance: Paise(balance / 1_000_000),
            })
        ),
        1 => Just(Fact::TariffVersion(builtin("lmv1-urban"))),
        3 => (day_near, id(), id(), any::<bool>()).prop_map(|(day, first, last, complete)| {
            Fact::DayClosed(DayClosed { day, first: AccountId(first), last: AccountId(last), complete })
        }),
        1 => (id(), any::<i64>(), 0_u8..3).prop_map(|(account, amount, id)| {
            Fact::Recharge(Recharge { account: AccountId(account), amount: Paise(amount), payment_id: id.to_string() })
        }),
    ]
}

proptest! {
    #[test]
    fn no_record_whatever_makes_the_fold_panic(
        facts in proptest::collection::vec((any_fact(), prop_oneof![8 => -100_000_i64..900_000, 1 => any::<i64>()]), 1..60)
    ) {
        let mut world = World::with_account("2026-04-01T10:00:00");
        world.answers_at_once = false;
        world.answers_are_true = false;
        for (fact, step) in facts {
            let now = world.now;
            world.now = now.plus_seconds(step);
            world.apply(fact);
            world.now = if step.abs() < 1_000_000 { world.now } else { now };
            if let Some((first, last)) = world.fold.account_range() {
                let day = world.fold.next_close();
                world.apply(Fact::DayClosed(DayClosed { day, first, last, complete: true }));
            }
            world.fold.accounts().for_each(drop);
            world.fold.meters().for_each(drop);
            assert!(world.fold.gaps(10).len() <= 10);
        }
    }
}
