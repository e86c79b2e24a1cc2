//! The names of events and of the bits of the event status word, as IS 15959 has them.
//!
//! The bodies of the standard were not at hand: numbers and names are those on which implementations for India agree
//! (dlms.md 6.6, 6.7). Amendments and makers number some of them differently, and reserve bits for themselves; those
//! have no name here.

/// An event: what its code in a log means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its code.
    pub code: u16,
    /// What happened.
    pub name: &'static str,
}

/// A bit of the event status word: a state, which two events begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusBit {
    /// Its number: 0 is the most significant of the first byte.
    pub bit: u8,
    /// What is the case while it is up.
    pub name: &'static str,
    /// Code of the event with which it goes up; `None` where none is known.
    pub occurred: Option<u16>,
    /// Code of the event with which it goes down; `None` where there is none.
    pub restored: Option<u16>,
}

impl Event {
    /// The event of that code; `None` for one of a maker's own, or unknown.
    #[must_use]
    pub fn of(code: u16) -> Option<&'static Event> {
        let place = EVENTS.binary_search_by_key(&code, |event| event.code).ok()?;
        EVENTS.get(place)
    }
}

impl StatusBit {
    /// The bit of that number; `None` for one that is reserved.
    #[must_use]
    pub fn of(bit: u8) -> Option<&'static StatusBit> {
        STATUS_BITS.iter().find(|known| known.bit == bit)
    }

    /// Those that are up in a word, known or not, each with its number.
    pub fn up(word: &[u8; 16]) -> impl Iterator<Item = (u8, Option<&'static StatusBit>)> {
        let is_up =
            |bit: &u8| word.get(usize::from(*bit / 8)).is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0);
        (0..128).filter(is_up).map(|bit| (bit, StatusBit::of(bit)))
    }
}

const fn event(code: u16, name: &'static str) -> Event {
    Event { code, name }
}

const fn bit(bit: u8, name: &'static str, occurred: Option<u16>, restored: Option<u16>) -> StatusBit {
    StatusBit { bit, name, occurred, restored }
}

/// The events, by code.
pub const EVENTS: &[Event] = &[
    event(1, "R phase voltage missing"),
    event(2, "R phase voltage restored"),
    event(3, "Y phase voltage missing"),
    event(4, "Y phase voltage restored"),
    event(5, "B phase voltage missing"),
    event(6, "B phase voltage restored"),
    event(7, "over voltage"),
    event(8, "over voltage restored"),
    event(9, "low voltage"),
    event(10, "low voltage restored"),
    event(11, "voltage unbalance"),
    event(12, "voltage unbalance restored"),
    event(51, "R phase current reverse"),
    event(52, "R phase current reverse restored"),
    event(53, "Y phase current reverse"),
    event(54, "Y phase current reverse restored"),
    event(55, "B phase current reverse"),
    event(56, "B phase current reverse restored"),
    event(57, "R phase CT open"),
    event(58, "R phase CT open restored"),
    event(59, "Y phase CT open"),
    event(60, "Y phase CT open restored"),
    event(61, "B phase CT open"),
    event(62, "B phase CT open restored"),
    event(63, "current unbalance"),
    event(64, "current unbalance restored"),
    event(65, "current bypass"),
    event(66, "current bypass restored"),
    event(67, "over current"),
    event(68, "over current restored"),
    event(69, "earth loading"),
    event(70, "earth loading restored"),
    event(101, "power failure"),
    event(102, "power restored"),
    event(151, "real time clock set"),
    event(152, "demand integration period set"),
    event(153, "profile capture period set"),
    event(154, "billing date set"),
    event(155, "time of day calendar set"),
    event(157, "new firmware activated"),
    event(158, "load limit set"),
    event(159, "load limit function enabled"),
    event(160, "load limit function disabled"),
    event(161, "LLS secret of the meter reader changed"),
    event(162, "HLS key of the utility setting changed"),
    event(163, "HLS key of the firmware upgrade changed"),
    event(164, "global key changed"),
    event(165, "event status word filter set"),
    event(166, "maximum demand reset"),
    event(167, "metering mode set"),
    event(169, "image activation schedule set"),
    event(177, "metering mode set to forwarded only"),
    event(178, "metering mode set to import and export"),
    event(201, "magnetic disturbance"),
    event(202, "magnetic disturbance restored"),
    event(203, "neutral disturbance"),
    event(204, "neutral disturbance restored"),
    event(205, "very low power factor"),
    event(206, "very low power factor restored"),
    event(207, "neutral missing"),
    event(208, "neutral missing restored"),
    event(209, "communication module removed"),
    event(210, "communication module restored"),
    event(211, "payment mode set to postpaid"),
    event(212, "payment mode set to prepaid"),
    event(213, "metering mode set to forwarded only"),
    event(214, "metering mode set to import and export"),
    event(215, "overload"),
    event(216, "overload restored"),
    event(251, "meter cover open"),
    event(253, "load switch welded"),
    event(301, "load switch disconnected"),
    event(302, "load switch connected"),
];

/// The bits of the event status word, by number.
pub const STATUS_BITS: &[StatusBit] = &[
    bit(0, "R phase voltage missing", Some(1), Some(2)),
    bit(1, "Y phase voltage missing", Some(3), Some(4)),
    bit(2, "B phase voltage missing", Some(5), Some(6)),
    bit(3, "over voltage", Some(7), Some(8)),
    bit(4, "low voltage", Some(9), Some(10)),
    bit(5, "voltage unbalance", Some(11), Some(12)),
    bit(6, "R phase current reverse", Some(51), Some(52)),
    bit(7, "Y phase current reverse", Some(53), Some(54)),
    bit(8, "B phase current reverse", Some(55), Some(56)),
    bit(9, "current unbalance", Some(63), Some(64)),
    bit(10, "current bypass", Some(65), Some(66)),
    bit(11, "over current", Some(67), Some(68)),
    bit(12, "very low power factor", Some(205), Some(206)),
    bit(51, "earth loading", Some(69), Some(70)),
    bit(81, "magnetic disturbance", Some(201), Some(202)),
    bit(82, "neutral disturbance", Some(203), Some(204)),
    bit(83, "meter cover open", Some(251), None),
    // It goes up with either of them: the relay itself says how it stands.
    bit(84, "load switch disconnected or connected", Some(301), Some(302)),
    bit(85, "last gasp", Some(101), None),
    bit(86, "first breath", Some(102), None),
    bit(87, "billing counter increment", Some(166), None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_bits_rise_and_the_events_of_a_bit_are_there() {
        assert!(EVENTS.is_sorted_by(|one, next| one.code < next.code));
        assert!(STATUS_BITS.is_sorted_by(|one, next| one.bit < next.bit));
        for bit in STATUS_BITS {
            assert_eq!(StatusBit::of(bit.bit), Some(bit));
            for code in bit.occurred.iter().chain(&bit.restored) {
                assert!(Event::of(*code).is_some(), "{} {code}", bit.name);
            }
        }
    }

    #[test]
    fn a_state_and_the_event_that_begins_it_have_one_name() {
        let others = [84, 85, 86, 87];
        for bit in STATUS_BITS.iter().filter(|bit| !others.contains(&bit.bit)) {
            let [began, ended] = [bit.occurred, bit.restored].map(|code| code.and_then(Event::of));
            assert_eq!(began.map(|event| event.name), Some(bit.name));
            assert!(
                ended.is_none_or(
                    |event| event.name == format!("{} restored", bit.name).replace("missing ", "")
                )
            );
        }
    }

    #[test]
    fn what_is_reserved_or_a_makers_own_has_no_name() {
        for code in [0, 13, 81, 156, 252, 303, 889, 996, u16::MAX] {
            assert_eq!(Event::of(code), None, "{code}");
        }
        for bit in [13, 50, 80, 88, 110, 127] {
            assert_eq!(StatusBit::of(bit), None, "{bit}");
        }
    }

    #[test]
    fn the_bits_that_are_up_are_counted_from_the_most_significant_of_the_first_byte() {
        // The filter of a real single-phase meter (dlms.md 6.6).
        let mut word = [0; 16];
        for bit in [3, 4, 6, 11, 12, 51, 81, 82, 83, 84, 85, 86, 87, 110_u8] {
            word[usize::from(bit / 8)] |= 0x80 >> (bit % 8);
        }
        assert_eq!(word[0], 0x1a);
        let up: Vec<(u8, Option<&str>)> =
            StatusBit::up(&word).map(|(bit, known)| (bit, known.map(|known| known.name))).collect();
        assert_eq!(up.len(), 14);
        assert_eq!((up[0], up[13]), ((3, Some("over voltage")), (110, None)));
    }
}
