//! The commit pipeline: what is durable before an answer, what a frame can and cannot do, and what a restart keeps.

use std::time::Duration;

use codec::security::SecurityControl;
use ingest::{Disposition, EvidenceOptions, Readiness, Refused, StartError};
use model::row::PostingKind;
use model::{Channel, Fact, Paise, Position, QuarantineReason, Recharge, Row, Source, Verdict};

use crate::frames::{Meter, june, received, wrap};
use crate::lake::first_values;
use crate::world::{World, assert_conserved, within};

const TAG: Disposition = Disposition::Quarantined(QuarantineReason::TagMismatch);
const POLICY: Disposition = Disposition::Quarantined(QuarantineReason::PolicyRefused);
const UNKNOWN: Disposition = Disposition::Quarantined(QuarantineReason::UnknownTitle);

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_frame_stands_in_the_journal_and_in_the_state() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    for counter in 1..=20 {
        let frame = meter
            .frame(counter, &meter.block(june(5, 11, 30).plus_seconds(-1800 * i64::from(counter)), counter));
        let acked = world.send(frame.clone()).await;
        assert_eq!(acked.disposition, Disposition::Accepted);
        assert_eq!(acked.confirm.map(|id| id.id()), Some(1));
        let position = acked.position.unwrap();
        assert!(world.pipeline.stats().durable_position >= position.0);
        let (fact, _) = &world.journaled()[usize::try_from(position.0).unwrap() - 1];
        assert!(
            matches!(fact, Fact::Frame(stored) if stored.raw == frame && stored.counter == Some(counter))
        );
        assert!(world.look(|fold| fold.position()).await >= position);
    }
    assert_eq!(first_values(&world.rows().await).len(), 20);
    let tally = world.tally(Source::Tcp).await;
    assert_eq!((tally.received, tally.stored), (20, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_answered_counted_and_have_no_record() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let frame = meter.frame(7, &meter.block(june(5, 11, 30), 100));
    let mut tickets = Vec::new();
    // Many at once, so that copies meet the first one before its sync.
    for _ in 0..10 {
        tickets
            .push(world.pipeline.submit(received(Source::Tcp, june(5, 12, 0), frame.clone())).await.unwrap());
    }
    let mut accepted = 0;
    for ticket in tickets {
        let acked = within(ticket).await.unwrap();
        accepted += u32::from(acked.disposition == Disposition::Accepted);
        assert!(acked.confirm.is_some(), "a copy is confirmed too");
    }
    assert_eq!(accepted, 1);
    let by_udp = world.send_by(Source::Udp, frame).await;
    assert_eq!((by_udp.disposition, by_udp.position), (Disposition::Redelivered, None));
    let frames = world.journaled().iter().filter(|(fact, _)| matches!(fact, Fact::Frame(_))).count();
    assert_eq!(frames, 1);
    // The counts of copies come with the next group that has a record.
    world.send(meter.frame(8, &meter.block(june(5, 12, 0), 100))).await;
    let tally = world.tally(Source::Tcp).await;
    assert_eq!((tally.received, tally.stored, tally.repeated), (11, 2, 9));
    assert_conserved(&tally);
    assert_conserved(&world.tally(Source::Udp).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_frame_changes_nothing_but_the_evidence() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    world.send(meter.frame(10, &meter.block(june(5, 11, 0), 100))).await;
    let before = world
        .look(|fold| (fold.counter_windows().collect::<Vec<_>>(), fold.meters().collect::<Vec<_>>()))
        .await;

    // The highest counter there is, under keys that are not the meter's.
    let thief = Meter { guek: [0x5a; 16], ..meter.clone() };
    assert_eq!(world.disposition(thief.frame(u32::MAX, &meter.block(june(5, 11, 30), 1))).await, TAG);
    let good = meter.frame(11, &meter.block(june(5, 11, 30), 100));
    for index in [8 + 10 + 2, 8 + 12 + 3, good.len() - 1] {
        let mut flipped = good.clone();
        flipped[index] ^= 1;
        let disposition = world.disposition(flipped).await;
        assert!(matches!(disposition, Disposition::Quarantined(_)), "{index}: {disposition:?}");
    }
    let after = world
        .look(|fold| (fold.counter_windows().collect::<Vec<_>>(), fold.meters().collect::<Vec<_>>()))
        .await;
    assert_eq!(before, after);
    let acked = world.send(good).await;
    assert_eq!(acked.disposition, Disposition::Accepted);
    let late =
        world.journaled().into_iter().any(|(fact, _)| matches!(fact, Fact::Frame(frame) if frame.late));
    assert!(!late, "the forged counter moved no mark");
    assert_eq!(first_values(&world.rows().await).len(), 2);
    assert_conserved(&world.tally(Source::Tcp).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_beyond_its_bounds_is_counted_and_not_kept() {
    let meter = Meter::new(1);
    let world = World::with(|options| {
        options.evidence = EvidenceOptions { title_burst: 3, title_per_hour: 2, ..options.evidence };
    })
    .await;
    world.register(&[&meter]).await;
    let thief = Meter { guek: [0x5a; 16], ..meter.clone() };
    let forge = |counter| thief.frame(counter, &meter.block(june(5, 11, 30), 1));
    let refused = Disposition::Refused(QuarantineReason::TagMismatch);
    for (counter, expected) in [(1, TAG), (2, TAG), (3, TAG), (4, refused), (5, refused)] {
        let acked = world.send(forge(counter)).await;
        assert_eq!((acked.disposition, acked.confirm), (expected, None), "{counter}");
    }
    assert_eq!(world.disposition(forge(2)).await, Disposition::Redelivered, "what is kept costs nothing");
    // The counts of what is refused come with the next group that has a record; the meter's own frames go on.
    let acked = world.send(meter.frame(10, &meter.block(june(5, 11, 0), 100))).await;
    assert_eq!(acked.disposition, Disposition::Accepted);
    let tally = world.tally(Source::Tcp).await;
    assert_eq!((tally.received, tally.stored, tally.quarantined, tally.refused), (7, 1, 3, 2));
    assert_conserved(&tally);
    let kept = world.journaled().iter().filter(|(fact, _)| matches!(fact, Fact::Quarantined(_))).count();
    assert_eq!(kept, 3);
    world.clock.set(june(5, 13, 0));
    assert_eq!(world.disposition(forge(6)).await, TAG, "an hour later there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn less_protection_than_the_policy_asks_for_is_refused() {
    let (strict, loose) = (Meter::new(1), Meter::of_transport(2));
    let world = World::of(&[&strict, &loose]).await;
    let block = |meter: &Meter| meter.block(june(5, 11, 30), 100);
    let encrypted = |meter: &Meter| wrap(&meter.protect(SecurityControl::ENCRYPTED, 5, &block(meter)));
    let tagged = |meter: &Meter| wrap(&meter.protect(SecurityControl::AUTHENTICATED, 6, &block(meter)));
    assert_eq!(world.disposition(wrap(&block(&strict))).await, POLICY);
    assert_eq!(world.disposition(encrypted(&strict)).await, POLICY);
    assert_eq!(world.disposition(tagged(&strict)).await, Disposition::Accepted);
    assert_eq!(world.disposition(wrap(&block(&loose))).await, Disposition::Accepted);
    assert_eq!(world.disposition(encrypted(&loose)).await, Disposition::Accepted);
    world.settled().await;
    let rows = world.rows().await;
    let evidence: Vec<_> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Quarantine(row) => Some((row.title, row.meter.is_some(), row.detail.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(evidence.len(), 2);
    assert!(
        evidence.iter().all(|(title, has_meter, _)| *title == Some(strict.title) && *has_meter),
        "{evidence:?}"
    );
    let unauthenticated = rows
        .iter()
        .filter(|row| matches!(row, Row::Interval(row) if row.quality.has(model::Quality::UNAUTHENTICATED)));
    assert_eq!(unauthenticated.count(), 1, "the second of the loose meter is repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_belongs_to_one_meter_carries_no_other() {
    let (meter, other, strict) = (Meter::of_transport(1), Meter::of_transport(2), Meter::new(3));
    let world = World::of(&[&meter, &other, &strict]).await;
    let send = async |bytes: Vec<u8>, bound: &Meter| {
        let mut frame = received(Source::Tcp, june(5, 12, 0), bytes);
        frame.identity = Some(bound.title);
        within(world.pipeline.submit(frame).await.unwrap()).await.unwrap().disposition
    };
    let mismatch = Disposition::Quarantined(QuarantineReason::IdentityMismatch);
    let block = |meter: &Meter| meter.block(june(5, 11, 30), 100);
    assert_eq!(send(other.frame(1, &block(&other)), &meter).await, mismatch);
    assert_eq!(send(meter.frame(1, &block(&meter)), &meter).await, Disposition::Accepted);
    // In the clear there is no title: the link says whose it is, whatever the device id.
    assert_eq!(send(wrap(&meter.block(june(5, 12, 0), 7)), &other).await, Disposition::Accepted);
    assert_eq!(send(wrap(&block(&meter)), &strict).await, POLICY);
    let meters: Vec<_> = first_values(&world.rows().await).into_iter().map(|(meter, ..)| meter.0).collect();
    assert_eq!(meters, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_in_the_clear_of_an_unknown_device_is_evidence() {
    let world = World::new().await;
    let meter = Meter::of_transport(1);
    assert_eq!(world.disposition(wrap(&meter.block(june(5, 11, 30), 100))).await, UNKNOWN);
    let Some((Fact::Quarantined(kept), _)) = world.journaled().pop() else { panic!() };
    assert_eq!((kept.title, &*kept.detail), (None, "no meter is registered for device id \"HXESN0000001\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_used_twice_with_other_values_is_a_security_event() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let end = june(5, 11, 30);
    world.send(meter.frame(7, &meter.block(end, 100))).await;
    // The same push under other ports: other bytes, the same values.
    let mut same = meter.frame(7, &meter.block(end, 100));
    same[5] = 48;
    let acked = world.send(same).await;
    assert_eq!(acked.disposition, Disposition::Repeated);
    let reused = world.send(meter.frame(7, &meter.block(end, 101))).await;
    assert_eq!(reused.disposition, Disposition::Quarantined(QuarantineReason::CounterReused));
    assert_eq!(reused.confirm, None);
    assert_conserved(&world.tally(Source::Tcp).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn overtaken_frames_are_late_below_the_window_and_bring_readings_only() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    world.send(meter.frame(1000, &meter.event(june(5, 11, 0), 0x10))).await;
    let end = june(5, 9, 30);
    for counter in [936, 935, 2] {
        let at = end.plus_seconds(-1800 * i64::from(counter));
        let acked = world.send(meter.frame(counter, &meter.block(at, counter))).await;
        assert_eq!(acked.disposition, Disposition::Accepted, "{counter}");
    }
    let late: Vec<_> = world
        .journaled()
        .into_iter()
        .filter_map(|(fact, _)| match fact {
            Fact::Frame(frame) => Some((frame.counter.unwrap(), frame.late)),
            _ => None,
        })
        .collect();
    assert_eq!(late, [(1000, false), (936, false), (935, true), (2, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_under_replaced_keys_are_taken_until_the_new_ones_are_used_and_for_a_time_after() {
    let old = Meter::new(1);
    let new = old.with_keys_of(100);
    let world = World::of(&[&old]).await;
    let block = |hour: u8| old.block(june(4, hour, 0), u32::from(hour));
    assert_eq!(world.disposition(old.frame(50, &block(1))).await, Disposition::Accepted);
    assert_eq!(world.disposition(new.frame(1, &block(2))).await, TAG, "the new keys are not known yet");
    world.rekey(&new, june(6, 0, 0)).await;
    assert_eq!(world.disposition(old.frame(51, &block(3))).await, Disposition::Accepted);
    assert_eq!(world.disposition(new.frame(1, &block(2))).await, Disposition::Accepted, "looked at again");
    assert_eq!(world.disposition(old.frame(52, &block(4))).await, Disposition::Accepted);
    assert_eq!(world.disposition(old.frame(51, &block(5))).await, Disposition::Accepted, "as any late one");
    let frames = |world: &World| -> Vec<_> {
        let frames = world.journaled().into_iter().filter_map(|(fact, _)| match fact {
            Fact::Frame(frame) => Some((frame.key_epoch, frame.counter.unwrap(), frame.late)),
            _ => None,
        });
        frames.collect()
    };
    let before = frames(&world);
    assert_eq!(before, [(1, 50, false), (1, 51, false), (2, 1, false), (1, 52, true), (1, 51, true)]);
    let world = world.crash().await;
    assert_eq!(world.disposition(old.frame(53, &block(6))).await, Disposition::Accepted);
    assert_eq!(frames(&world).last(), Some(&(1, 53, true)));
    world.clock.set(june(6, 0, 1));
    let replaced = Disposition::Quarantined(QuarantineReason::ReplacedKey);
    assert_eq!(world.disposition(old.frame(54, &block(7))).await, replaced);
    assert_eq!(world.disposition(new.frame(2, &block(8))).await, Disposition::Accepted);
    assert_conserved(&world.tally(Source::Tcp).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_tag_the_keys_that_make_sense_of_a_frame_are_taken() {
    let old = Meter::of_transport(1);
    let new = old.with_keys_of(100);
    let world = World::of(&[&old]).await;
    world.rekey(&new, june(6, 0, 0)).await;
    let encrypted = |meter: &Meter, counter: u32, end: model::Instant| {
        let apdu = meter.block(end, 5);
        wrap(&meter.protect(codec::security::SecurityControl::ENCRYPTED, counter, &apdu))
    };
    let at = |meter: &Meter, counter: u32, hour: u8| encrypted(meter, counter, june(4, hour, 0));
    assert_eq!(world.disposition(at(&old, 7, 1)).await, Disposition::Accepted);
    assert_eq!(world.disposition(at(&new, 1, 2)).await, Disposition::Accepted);
    // One that cannot be used makes sense as well: it is kept for good, and its meter told so.
    let acked = world.send(encrypted(&old, 8, "2099-01-01T00:30:00+05:30".parse().unwrap())).await;
    let far = Disposition::Quarantined(QuarantineReason::FarAhead);
    assert_eq!((acked.disposition, acked.confirm.is_some()), (far, true));
    let epochs: Vec<u16> = world
        .journaled()
        .into_iter()
        .filter_map(|(fact, _)| if let Fact::Frame(frame) = fact { Some(frame.key_epoch) } else { None })
        .collect();
    assert_eq!(epochs, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_far_ahead_is_evidence_and_one_a_day_ahead_is_stored() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let far = Disposition::Quarantined(QuarantineReason::FarAhead);
    let end = "2099-01-01T00:30:00+05:30".parse().unwrap();
    let acked = world.send(meter.frame(1, &meter.block(end, 700))).await;
    assert_eq!((acked.disposition, acked.confirm.is_some()), (far, true), "kept for good");
    assert_eq!(world.disposition(meter.frame(2, &meter.block(june(8, 12, 30), 700))).await, far);
    assert_eq!(
        world.disposition(meter.frame(3, &meter.block(june(7, 0, 0), 700))).await,
        Disposition::Accepted
    );
    assert_conserved(&world.tally(Source::Tcp).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_frame_are_kept_with_kind_and_offset() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let good = meter.frame(1, &meter.block(june(5, 11, 30), 100));
    for (bytes, says) in [
        (good[..20].to_vec(), "truncated at byte 8"),
        (wrap(&[0x77, 1, 2]), "unsupported apdu 0x77 at byte 8"),
        ([&good[..], &[0]].concat(), &*format!("trailing bytes at byte {}", good.len())),
        (meter.frame(2, b"\x0f\0\0\0\0\0\x42"), "in plaintext: unknown data tag 0x42 at byte 6"),
        (meter.frame(3, &meter.block(june(5, 11, 30), 1)[..20]), "in plaintext:"),
    ] {
        let acked = world.send(bytes.clone()).await;
        assert_eq!(acked.disposition, Disposition::Quarantined(QuarantineReason::Undecodable), "{says}");
        let Some((Fact::Quarantined(kept), _)) = world.journaled().pop() else { panic!("{says}") };
        assert_eq!(kept.raw, bytes);
        assert!(kept.detail.contains(says), "{} instead of {says}", kept.detail);
    }
    let mut unfit = Vec::new();
    codec::axdr::Writer::new(&mut unfit)
        .structure(4)
        .null()
        .octet_string(&[0, 9, 25, 9, 0, 255])
        .null()
        .null();
    let unfit = meter.frame(4, &[b"\x0f\x40\0\0\x01\0", &unfit[..]].concat());
    let acked = world.send(unfit).await;
    assert_eq!(acked.disposition, Disposition::Quarantined(QuarantineReason::ProfileMismatch));
    assert!(acked.confirm.is_some(), "it is kept for good, so the meter need not send it again");
    let acked = world.send(meter.frame(1, &meter.block(june(5, 11, 30), 100))).await;
    assert_eq!(acked.disposition, Disposition::Accepted, "what could not be used spent no counter");
    assert_conserved(&world.tally(Source::Tcp).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_an_unknown_title_wait_and_are_taken_in_when_it_is_registered() {
    let meter = Meter::new(1);
    let world = World::new().await;
    let frames: Vec<_> = (1..=5)
        .map(|counter| {
            meter.frame(counter, &meter.block(june(5, 9, 0).plus_seconds(1800 * i64::from(counter)), counter))
        })
        .collect();
    for frame in &frames {
        let acked = world.send(frame.clone()).await;
        assert_eq!((acked.disposition, acked.confirm), (UNKNOWN, None));
        assert_eq!(
            world.disposition(frame.clone()).await,
            Disposition::Redelivered,
            "journaled once per digest"
        );
    }
    // Whether they are stored already or still on the way there, none is missed.
    world.register(&[&meter]).await;
    world.until("all are taken in", |fold| fold.tallies()[Source::Waiting.index()].stored == 5).await;
    assert_eq!(first_values(&world.rows().await).len(), 5);
    let stored = async {
        while world.registry.waiting_counts().await.unwrap().frames > 0 {
            tokio::task::yield_now().await;
        }
    };
    within(stored).await;
    assert_eq!(world.registry.waiting_counts().await.unwrap().taken, 5);
    // A copy that comes now is one of a frame that was taken in.
    assert_eq!(world.disposition(frames[0].clone()).await, Disposition::Redelivered);
    for source in Source::ALL {
        assert_conserved(&world.tally(source).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_frames_survive_a_crash_before_they_are_stored_or_taken_in() {
    let meter = Meter::new(1);
    let world = World::new().await;
    for counter in 1..=3 {
        let block = meter.block(june(5, 9, 0).plus_seconds(1800 * i64::from(counter)), counter);
        world.send(meter.frame(counter, &block)).await;
    }
    let world = world.crash().await;
    assert_eq!(world.registry.waiting_counts().await.unwrap().frames, 3);
    world.register(&[&meter]).await;
    world.until("all are taken in", |fold| fold.tallies()[Source::Waiting.index()].stored == 3).await;
    let sections = world.sections().await;
    let world = world.crash().await;
    assert_eq!(world.sections().await, sections, "the replay takes nothing in twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_replays_to_the_same_state_byte_for_byte() {
    let meters: Vec<Meter> = (1..=20).map(Meter::new).collect();
    let world = World::new().await;
    world.apply_tariff().await;
    for meter in &meters {
        world.register_account(meter).await;
    }
    let push = async |world: &World, from: u32| {
        for counter in from..from + 5 {
            for meter in &meters {
                let end = june(5, 0, 0).plus_seconds(1800 * i64::from(counter));
                world.send(meter.frame(counter, &meter.block(end, 100 + counter))).await;
            }
        }
    };
    push(&world, 1).await;
    let recharge =
        Recharge { account: model::AccountId(3), amount: Paise(50_000), payment_id: "p1".to_owned() };
    world.pipeline.append(Fact::Recharge(recharge)).await.unwrap();
    world.pipeline.close_due_days().await.unwrap();
    // A part before a checkpoint, a part after it.
    let checkpoint = world.pipeline.checkpoint().await.unwrap();
    assert_eq!(world.lake.commits(), 1);
    push(&world, 6).await;
    world.send(meters[0].frame(3, &meters[0].block(june(5, 1, 30), 999))).await;
    world.settled().await;
    let (sections, rows) = (world.sections().await, world.rows().await);
    assert!(world.look(|fold| fold.position()).await > checkpoint);

    let world = world.crash().await;
    assert_eq!(world.sections().await, sections);
    assert_eq!(world.rows().await, rows, "the rows that the crash took are made again, and no others");
    let world = world.crash().await;
    assert_eq!(world.sections().await, sections);

    let copy = meters[4].frame(9, &meters[4].block(june(5, 4, 30), 109));
    assert_eq!(world.disposition(copy).await, Disposition::Redelivered, "copies are known after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_leaves_nothing_to_replay() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    world.send(meter.frame(1, &meter.block(june(5, 11, 30), 100))).await;
    let position = world.look(|fold| fold.position()).await;
    let sections = world.sections().await;
    let world = world.stop_and_start(|_| {}).await.unwrap();
    assert_eq!(world.pipeline.stats().checkpoint_position, position.0);
    assert_eq!(world.sections().await, sections);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_missed_while_down_are_closed_before_anything_else() {
    let meter = Meter::new(1);
    let world = World::new().await;
    world.apply_tariff().await;
    world.register_account(&meter).await;
    let closed = world.pipeline.close_due_days().await.unwrap();
    let days: Vec<_> = closed.iter().map(ToString::to_string).collect();
    assert_eq!(days, ["2026-06-01", "2026-06-02", "2026-06-03", "2026-06-04"], "each in its turn");
    assert_eq!(world.pipeline.close_due_days().await.unwrap(), []);

    let world = world.stop_and_start(|clock| clock.set(june(9, 6, 0))).await.unwrap();
    assert_eq!(
        world.look(|fold| fold.next_close().to_string()).await,
        "2026-06-09",
        "at 06:00 sharp the day is due"
    );
    world.clock.set(june(10, 5, 59));
    assert_eq!(world.pipeline.close_due_days().await.unwrap(), []);
    let usage =
        |row: &Row| matches!(row, Row::Posting(row) if row.kind == PostingKind::Usage && row.line == 0);
    assert_eq!(world.rows().await.iter().filter(|row| usage(row)).count(), 8);
    assert_eq!(world.look(|fold| fold.standing().trial_balance).await, Paise::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_differing_value_becomes_a_revision_and_the_higher_rank_is_in_force() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let end = june(5, 11, 30);
    for (counter, import_wh) in [(10, 100), (12, 120), (11, 110), (13, 120)] {
        world.send(meter.frame(counter, &meter.block(end, import_wh))).await;
    }
    world.settled().await;
    let verdicts: Vec<_> = world
        .journaled()
        .into_iter()
        .filter_map(|(fact, _)| match fact {
            Fact::Resolved(resolution) => Some(match resolution.verdict {
                Verdict::Revised { before, after, .. } => {
                    (before.get(Channel::ImportWh).unwrap(), after.get(Channel::ImportWh).unwrap())
                }
                other => panic!("{other:?}"),
            }),
            _ => None,
        })
        .collect();
    assert_eq!(verdicts, [(100, 120), (120, 120), (120, 120)]);
    assert_conserved(&world.tally(Source::Tcp).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn contested_readings_stay_open_until_they_can_be_looked_up_also_over_a_restart() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let end = june(5, 11, 30);
    world.send(meter.frame(10, &meter.block(end, 100))).await;
    world.lake.fail_lookups(true);
    for counter in [11, 12] {
        world.send(meter.frame(counter, &meter.block(end, 100 + counter))).await;
    }
    assert_eq!(world.look(|fold| fold.contested_len()).await, 2);
    world.pipeline.checkpoint().await.unwrap();
    let world = world.crash().await;
    world.settled().await;
    let tally = world.tally(Source::Tcp).await;
    assert_eq!((tally.received, tally.stored, tally.contested), (3, 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_lake_stops_neither_answers_nor_money_only_the_checkpoint() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    world.lake.fail_commits(true);
    world.send(meter.frame(1, &meter.block(june(5, 11, 30), 100))).await;
    let error = world.pipeline.checkpoint().await.unwrap_err();
    assert_eq!(error.to_string(), "the lake cannot be committed");
    assert!(world.pipeline.stats().checkpoint_failing);
    assert_eq!(
        world.send(meter.frame(2, &meter.block(june(5, 12, 0), 100))).await.disposition,
        Disposition::Accepted
    );
    world.lake.fail_commits(false);
    let position = world.pipeline.checkpoint().await.unwrap();
    assert_eq!(position, world.look(|fold| fold.position()).await);
    assert!(!world.pipeline.stats().checkpoint_failing);
    assert_eq!(world.pipeline.checkpoint().await.unwrap(), position, "nothing moved, nothing is written");
    assert_eq!(world.lake.commits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_that_cannot_go_on_stops_everything_and_nothing_durable_is_lost() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    world.send(meter.frame(1, &meter.block(june(5, 11, 30), 100))).await;
    let sections = world.sections().await;
    let mut failed = world.pipeline.failed();
    world.lake.fail_for_good();
    world.pipeline.checkpoint().await.unwrap_err();
    let failure = within(failed.wait_for(Option::is_some)).await.unwrap().clone();
    assert_eq!(failure.unwrap().to_string(), "the lake failed: no space for data files");
    let frame = received(Source::Tcp, june(5, 12, 0), meter.frame(2, &meter.block(june(5, 12, 0), 100)));
    assert_eq!(world.pipeline.submit(frame).await.unwrap_err(), Refused::Stopped);
    assert_eq!(world.pipeline.readiness(), Readiness::Stopped);
    let world = world.crash().await;
    assert_eq!(world.sections().await, sections);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_far_behind_slows_frames_and_lets_control_facts_pass() {
    let meter = Meter::new(1);
    let world = World::with(|options| {
        options.queue_frames = 2;
        options.queue_bytes = 4 << 20;
    })
    .await;
    world.register(&[&meter]).await;
    world.hold_frames().await;
    assert_eq!(world.pipeline.readiness(), Readiness::LakeBehind);
    let frame = |counter: u32| {
        received(Source::Udp, june(5, 12, 0), meter.frame(counter, &meter.block(june(5, 11, 30), counter)))
    };
    let mut submitter = world.pipeline.submitter();
    let waiting = [submitter.try_submit(frame(1)).unwrap(), submitter.try_submit(frame(2)).unwrap()];
    assert_eq!(submitter.try_submit(frame(3)).unwrap_err(), Refused::Full);
    within(world.recharge("p2")).await;
    world.lake.claim_hot_bytes(0);
    for ticket in waiting {
        assert_eq!(within(ticket).await.unwrap().disposition, Disposition::Accepted);
    }
    assert_eq!(world.pipeline.readiness(), Readiness::Ready);
    world.settled().await;
    let tally = world.tally(Source::Udp).await;
    assert_eq!((tally.received, tally.refused), (3, 1));
    assert_conserved(&tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_do_not_belong_together_are_refused_at_the_start() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    world.send(meter.frame(1, &meter.block(june(5, 11, 30), 100))).await;
    let options = world.options.clone();
    let registry = world.registry.clone();
    let clock = world.clock.clone();
    world.pipeline.clone().shutdown().await.unwrap();
    let start = async |options: &ingest::PipelineOptions| {
        let lake = std::sync::Arc::new(crate::lake::FakeLake::default());
        let profiles = profiles::Profile::builtin().into();
        ingest::Pipeline::start(options.clone(), clock.clone(), lake, registry.clone(), profiles)
            .await
            .unwrap_err()
    };
    let refused = start(&options).await;
    assert!(matches!(refused, StartError::LakeBehind { committed: Position(0), .. }), "{refused}");
    let mut small = options.clone();
    small.group_bytes = 8 << 20;
    assert!(matches!(start(&small).await, StartError::GroupBytes { .. }));
    std::fs::remove_dir_all(options.data_dir.join("journal")).unwrap();
    let refused = start(&options).await;
    assert!(matches!(refused, StartError::JournalBehind { last: Position(0), .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_when_the_last_handle_goes_is_still_made_durable() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let mut tickets = Vec::new();
    for counter in 1..=50 {
        let block = meter.block(june(5, 11, 30).plus_seconds(-1800 * i64::from(counter)), counter);
        let frame = received(Source::Tcp, june(5, 12, 0), meter.frame(counter, &block));
        tickets.push(world.pipeline.submit(frame).await.unwrap());
    }
    let world = world.crash().await;
    for ticket in tickets {
        within(ticket).await.unwrap();
    }
    assert_eq!(world.tally(Source::Tcp).await.stored, 50);
    world.pipeline.clone().halt().await;
    let refused = world.pipeline.submit(received(Source::Tcp, june(5, 12, 0), Vec::new())).await;
    assert_eq!(refused.unwrap_err(), Refused::Stopped);
    let stopped =
        tokio::time::timeout(Duration::from_secs(5), world.pipeline.look(|fold| fold.position())).await;
    assert!(stopped.unwrap().is_err());
}
