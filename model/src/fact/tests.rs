use proptest::prelude::*;

use super::*;
use crate::Channel;

fn samples() -> Vec<(Fact, &'static str)> {
    let values = |pairs: &[(Channel, i64)]| pairs.iter().copied().collect::<Values>();
    let reading = Reading {
        kind: ReadingKind::Interval,
        end: Instant(1_000_000),
        deviation_min: Some(-330),
        clock_status: 0xFF,
        quality: Quality::OFF_GRID,
        values: values(&[(Channel::ImportWh, 120), (Channel::VoltageDv, -2)]),
    };
    let digest = Digest([0xAB; 16]);
    vec![
        (
            Fact::Frame(AcceptedFrame {
                meter: MeterId(7),
                source: Source::Udp,
                key_epoch: 2,
                counter: Some(0x0123_4567),
                late: true,
                digest,
                pushed_at: Some(Instant(5)),
                readings: [reading].into(),
                event_word: Some(EventWord([1; 16])),
                raw: vec![0xDB, 8].into(),
            }),
            "01010900000000000000070000000102000167452301\
             01abababababababababababababababab010500000000000000010001\
             40420f000000000001b6feff040000001100000000000000\
             7800000000000000feffffffffffffff010101010101010101010101010101010102000000db08",
        ),
        (
            Fact::Repeated(RepeatedFrame {
                meter: MeterId(7),
                source: Source::Mqtt,
                key_epoch: 1,
                counter: None,
                digest,
            }),
            "0201090000000000000007000000020100 00abababababababababababababababab",
        ),
        (
            Fact::Quarantined(QuarantinedFrame {
                source: Source::Tcp,
                title: Some(SystemTitle(*b"GXM00001")),
                meter: None,
                reason: QuarantineReason::TagMismatch,
                detail: "tag".into(),
                digest,
                raw: vec![1],
            }),
            "0301090000000000000000 0147584d3030303031 00 03 03000000746167 abababababababababababababababab 0100000001",
        ),
        (
            Fact::Resolved(Resolution {
                contested: Position(3),
                index: 1,
                verdict: Verdict::Revised {
                    before: values(&[(Channel::ImportWh, 1)]),
                    after: values(&[(Channel::ImportWh, 2)]),
                    demand_without_w: Some(9),
                },
            }),
            "04010900000000000000 0300000000000000 0100 03 0100000000000000 0100000000000000 0100000000000000 \
             0200000000000000 01 0900000000000000",
        ),
        (
            Fact::MeterTerms(MeterTerms {
                outbox: OutboxId(4),
                meter: MeterId(7),
                title: SystemTitle(*b"GXM00001"),
                account: Some(AccountId(9)),
                profile: "d1".into(),
                period_s: 1800,
                authenticated: true,
                key_epoch: 1,
            }),
            "05010900000000000000 0400000000000000 07000000 47584d3030303031 01 09000000 020000006431 08070000 01 0100",
        ),
        (
            Fact::AccountTerms(AccountTerms {
                outbox: OutboxId(5),
                account: AccountId(9),
                connection: ConnectionType::Prepaid,
                tariff: "t".into(),
                sanctioned_w: 4000,
                from: CivilDay(20_000),
                opening_register_wh: 1,
                opening_balance: Paise(-1),
            }),
            "06010900000000000000 0500000000000000 09000000 01 0100000074 a00f0000 204e0000 0100000000000000 \
             ffffffffffffffff",
        ),
        (
            Fact::TariffVersion(TariffVersion {
                name: "t".into(),
                from: CivilDay(20_000),
                digest,
                body: "x".into(),
            }),
            "07010900000000000000 0100000074 204e0000 abababababababababababababababab 0100000078",
        ),
        (
            Fact::DayClosed(DayClosed {
                day: CivilDay(20_000),
                first: AccountId(1),
                last: AccountId(9),
                complete: true,
            }),
            "08010900000000000000 204e0000 01000000 09000000 01",
        ),
        (
            Fact::Recharge(Recharge {
                account: AccountId(9),
                amount: Paise(50_000),
                payment_id: "p1".into(),
            }),
            "09010900000000000000 09000000 50c3000000000000 020000007031",
        ),
        (
            Fact::CreditPolicy(CreditPolicyVersion {
                from: CivilDay(20_000),
                digest: Digest([0xcd; 16]),
                body: "x".into(),
            }),
            "0a010900000000000000 204e0000 cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd 0100000078",
        ),
        (
            Fact::NoticeSent(NoticeSent { account: AccountId(9), level: NoticeLevel::USED_UP, round: 258 }),
            "0b010900000000000000 09000000 ff 0201",
        ),
        (
            Fact::Arrears(Arrears { outbox: OutboxId(5), account: AccountId(9), amount: Paise(50_000) }),
            "0c010900000000000000 0500000000000000 09000000 50c3000000000000",
        ),
        (
            Fact::PaymentReversed(PaymentReversed {
                payment_id: "p1".into(),
                reason: ReversalReason::Chargeback,
            }),
            "0d010900000000000000 02 020000007031",
        ),
        (
            Fact::SuspenseReceived(SuspenseReceived { payment_id: "p1".into(), amount: Paise(50_000) }),
            "0e010900000000000000 50c3000000000000 020000007031",
        ),
        (
            Fact::SuspenseAssigned(SuspenseAssigned { payment_id: "p1".into(), account: AccountId(9) }),
            "0f010900000000000000 09000000 020000007031",
        ),
        (
            Fact::PaymentMisdirected(PaymentMisdirected { payment_id: "p1".into(), account: AccountId(9) }),
            "10010900000000000000 09000000 020000007031",
        ),
    ]
}

fn encoded(fact: &Fact) -> Vec<u8> {
    let mut out = Vec::new();
    fact.encode(Instant(9), &mut out);
    out
}

#[test]
fn every_kind_has_its_golden_bytes_and_reads_back() {
    for (fact, golden) in samples() {
        let bytes = encoded(&fact);
        let golden: String = golden.split_whitespace().collect();
        assert_eq!(hex::encode(&bytes), golden, "{}", fact.name());
        let record = Record::decode(Position(1), &bytes).unwrap();
        assert_eq!(record, Record { position: Position(1), received_at: Instant(9), fact });
    }
}

#[test]
fn a_record_cut_anywhere_is_refused() {
    for (fact, _) in samples() {
        let bytes = encoded(&fact);
        for length in 0..bytes.len() {
            assert!(
                Record::decode(Position(1), &bytes[..length]).is_err(),
                "{} cut at {length}",
                fact.name()
            );
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Record::decode(Position(1), &longer), Err(DecodeError::Trailing(1)));
    }
}

#[test]
fn unknown_kind_and_version_are_refused_by_name() {
    assert_eq!(Record::decode(Position(1), &[99, 1]), Err(DecodeError::UnknownKind(99)));
    let mut bytes = encoded(&samples()[8].0);
    bytes[1] = 7;
    let error = Record::decode(Position(1), &bytes).unwrap_err();
    assert_eq!(error.to_string(), "unknown version 7 of record kind \"recharge\"");
}

proptest! {
    #[test]
    fn any_bytes_decode_to_an_error_or_to_themselves(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 1_u8..10) {
        let mut bytes = bytes;
        if bytes.len() > 2 { bytes[0] = kind; bytes[1] = 1; }
        if let Ok(record) = Record::decode(Position(1), &bytes) {
            let mut again = Vec::new();
            record.fact.encode(record.received_at, &mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}
