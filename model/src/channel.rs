//! Channels: the quantities a reading can hold, each an integer in the unit its name ends with.

use std::hash::{Hash, Hasher};

/// A quantity of a reading. In a block (interval) energy channels are the energy *of the interval*; in daily and
/// instantaneous readings they are the cumulative register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Channel {
    /// Active energy imported, Wh.
    ImportWh = 0,
    /// Active energy exported, Wh.
    ExportWh = 1,
    /// Apparent energy imported, VAh.
    ImportVah = 2,
    /// Apparent energy exported, VAh.
    ExportVah = 3,
    /// Voltage of a single-phase meter, tenths of a volt.
    VoltageDv = 4,
    /// Voltage of phase R, tenths of a volt.
    VoltageRDv = 5,
    /// Voltage of phase Y, tenths of a volt.
    VoltageYDv = 6,
    /// Voltage of phase B, tenths of a volt.
    VoltageBDv = 7,
    /// Phase current of a single-phase meter, mA.
    CurrentMa = 8,
    /// Neutral current, mA.
    NeutralCurrentMa = 9,
    /// Current of phase R, mA.
    CurrentRMa = 10,
    /// Current of phase Y, mA.
    CurrentYMa = 11,
    /// Current of phase B, mA.
    CurrentBMa = 12,
    /// Active power, W.
    PowerW = 13,
    /// Apparent power, VA.
    PowerVa = 14,
    /// Reactive power, signed, var.
    PowerVar = 15,
    /// Power factor, signed, thousandths.
    PowerFactorMilli = 16,
    /// Power factor of phase R, signed, thousandths.
    PowerFactorRMilli = 17,
    /// Power factor of phase Y, signed, thousandths.
    PowerFactorYMilli = 18,
    /// Power factor of phase B, signed, thousandths.
    PowerFactorBMilli = 19,
    /// Supply frequency, mHz.
    FrequencyMhz = 20,
    /// Maximum demand register, W.
    DemandW = 21,
    /// Maximum demand register, VA.
    DemandVa = 22,
    /// Reactive energy of quadrant 1, varh.
    ReactiveQ1Varh = 23,
    /// Reactive energy of quadrant 2, varh.
    ReactiveQ2Varh = 24,
    /// Reactive energy of quadrant 3, varh.
    ReactiveQ3Varh = 25,
    /// Reactive energy of quadrant 4, varh.
    ReactiveQ4Varh = 26,
    /// Cumulative time under power, minutes.
    PowerOnMin = 27,
    /// Count of power failures.
    PowerFailCount = 28,
    /// Cumulative duration of power failures, minutes.
    PowerFailMin = 29,
    /// Cumulative count of tamper events.
    TamperCount = 30,
    /// Cumulative count of billing resets.
    BillingCount = 31,
    /// Cumulative count of programmings.
    ProgrammingCount = 32,
    /// Load switch: 1 connected, 0 disconnected.
    RelayState = 33,
    /// Load limit, W.
    LoadLimitW = 34,
    /// Meter health indicator, as the meter gives it.
    MeterHealth = 35,
}

impl Channel {
    /// All channels, by index.
    pub const ALL: [Channel; 36] = [
        Channel::ImportWh,
        Channel::ExportWh,
        Channel::ImportVah,
        Channel::ExportVah,
        Channel::VoltageDv,
        Channel::VoltageRDv,
        Channel::VoltageYDv,
        Channel::VoltageBDv,
        Channel::CurrentMa,
        Channel::NeutralCurrentMa,
        Channel::CurrentRMa,
        Channel::CurrentYMa,
        Channel::CurrentBMa,
        Channel::PowerW,
        Channel::PowerVa,
        Channel::PowerVar,
        Channel::PowerFactorMilli,
        Channel::PowerFactorRMilli,
        Channel::PowerFactorYMilli,
        Channel::PowerFactorBMilli,
        Channel::FrequencyMhz,
        Channel::DemandW,
        Channel::DemandVa,
        Channel::ReactiveQ1Varh,
        Channel::ReactiveQ2Varh,
        Channel::ReactiveQ3Varh,
        Channel::ReactiveQ4Varh,
        Channel::PowerOnMin,
        Channel::PowerFailCount,
        Channel::PowerFailMin,
        Channel::TamperCount,
        Channel::BillingCount,
        Channel::ProgrammingCount,
        Channel::RelayState,
        Channel::LoadLimitW,
        Channel::MeterHealth,
    ];

    /// Place in bit sets and arrays.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Name of the column and of the key in a meter profile, for example `import_wh`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Channel::ImportWh => "import_wh",
            Channel::ExportWh => "export_wh",
            Channel::ImportVah => "import_vah",
            Channel::ExportVah => "export_vah",
            Channel::VoltageDv => "voltage_dv",
            Channel::VoltageRDv => "voltage_r_dv",
            Channel::VoltageYDv => "voltage_y_dv",
            Channel::VoltageBDv => "voltage_b_dv",
            Channel::CurrentMa => "current_ma",
            Channel::NeutralCurrentMa => "neutral_current_ma",
            Channel::CurrentRMa => "current_r_ma",
            Channel::CurrentYMa => "current_y_ma",
            Channel::CurrentBMa => "current_b_ma",
            Channel::PowerW => "power_w",
            Channel::PowerVa => "power_va",
            Channel::PowerVar => "power_var",
            Channel::PowerFactorMilli => "power_factor_milli",
            Channel::PowerFactorRMilli => "power_factor_r_milli",
            Channel::PowerFactorYMilli => "power_factor_y_milli",
            Channel::PowerFactorBMilli => "power_factor_b_milli",
            Channel::FrequencyMhz => "frequency_mhz",
            Channel::DemandW => "demand_w",
            Channel::DemandVa => "demand_va",
            Channel::ReactiveQ1Varh => "reactive_q1_varh",
            Channel::ReactiveQ2Varh => "reactive_q2_varh",
            Channel::ReactiveQ3Varh => "reactive_q3_varh",
            Channel::ReactiveQ4Varh => "reactive_q4_varh",
            Channel::PowerOnMin => "power_on_min",
            Channel::PowerFailCount => "power_fail_count",
            Channel::PowerFailMin => "power_fail_min",
            Channel::TamperCount => "tamper_count",
            Channel::BillingCount => "billing_count",
            Channel::ProgrammingCount => "programming_count",
            Channel::RelayState => "relay_state",
            Channel::LoadLimitW => "load_limit_w",
            Channel::MeterHealth => "meter_health",
        }
    }

    /// Power of ten of the channel's unit relative to the unit the COSEM scaler counts in: a `*_dv` channel is in
    /// 10⁻¹ V, a `*_ma` channel in 10⁻³ A. A wire value with scaler `s` becomes `value · 10^(s − exponent)`.
    #[must_use]
    pub fn exponent(self) -> i8 {
        match self {
            Channel::VoltageDv | Channel::VoltageRDv | Channel::VoltageYDv | Channel::VoltageBDv => -1,
            Channel::CurrentMa
            | Channel::NeutralCurrentMa
            | Channel::CurrentRMa
            | Channel::CurrentYMa
            | Channel::CurrentBMa
            | Channel::PowerFactorMilli
            | Channel::PowerFactorRMilli
            | Channel::PowerFactorYMilli
            | Channel::PowerFactorBMilli
            | Channel::FrequencyMhz => -3,
            _ => 0,
        }
    }

    /// The channel of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

/// The channels of one reading and their values, in the order of the channels.
///
/// Readings of up to [`INLINE`] channels, which nearly all are, take no memory of their own: there is one for each row of
/// the lake.
#[derive(Clone, Debug, Default)]
pub struct Values {
    set: u64,
    store: Store,
}

/// Channels that need no memory of their own.
const INLINE: usize = 8;

#[derive(Clone, Debug)]
enum Store {
    /// As many of the first as there are channels; the others are zero.
    Inline([i64; INLINE]),
    /// More than those.
    Heap(Vec<i64>),
}

impl Default for Store {
    fn default() -> Store {
        Store::Inline([0; INLINE])
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Values) -> bool {
        self.set == other.set && self.as_slice() == other.as_slice()
    }
}

impl Eq for Values {}

impl Hash for Values {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.set, self.as_slice()).hash(state);
    }
}

impl Values {
    /// No channel at all.
    #[must_use]
    pub fn new() -> Values {
        Values::default()
    }

    /// Which channels are there, as a bit set by [`Channel::index`].
    #[must_use]
    #[inline]
    pub fn set(&self) -> u64 {
        self.set
    }

    /// The values of the channels that are there, in their order.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[i64] {
        match &self.store {
            Store::Inline(values) => &values[..self.len().min(INLINE)],
            Store::Heap(values) => values,
        }
    }

    /// Whether no channel is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// The value of a channel, if it is there.
    #[must_use]
    #[inline]
    pub fn get(&self, channel: Channel) -> Option<i64> {
        let bit = 1_u64 << channel.index();
        (self.set & bit != 0).then(|| self.as_slice()[self.rank(bit)])
    }

    /// Puts a value in place of what the channel held.
    pub fn insert(&mut self, channel: Channel, value: i64) {
        let bit = 1_u64 << channel.index();
        let (rank, len) = (self.rank(bit), self.len());
        let is_new = self.set & bit == 0;
        if is_new && len == INLINE {
            self.store = Store::Heap(self.as_slice().to_vec());
        }
        match &mut self.store {
            Store::Heap(values) if is_new => values.insert(rank, value),
            Store::Heap(values) => values[rank] = value,
            Store::Inline(values) => {
                if is_new {
                    values.copy_within(rank..len, rank + 1);
                }
                values[rank] = value;
            }
        }
        self.set |= bit;
    }

    /// Takes a channel out.
    pub fn remove(&mut self, channel: Channel) {
        let bit = 1_u64 << channel.index();
        if self.set & bit != 0 {
            let kept = self.iter().filter(|(other, _)| *other != channel);
            *self = kept.collect();
        }
    }

    /// The channels that are there and their values.
    pub fn iter(&self) -> impl Iterator<Item = (Channel, i64)> + '_ {
        Channel::ALL
            .into_iter()
            .filter(|channel| self.set & (1 << channel.index()) != 0)
            .zip(self.as_slice().iter().copied())
    }

    /// Rebuilds what [`Values::set`] and [`Values::as_slice`] gave; `None` where they do not belong together or name
    /// a channel that does not exist.
    #[must_use]
    pub fn from_parts(set: u64, values: &[i64]) -> Option<Values> {
        let known = set >> Channel::ALL.len() == 0;
        if !known || set.count_ones() as usize != values.len() {
            return None;
        }
        let store = if values.len() <= INLINE {
            let mut inline = [0; INLINE];
            inline[..values.len()].copy_from_slice(values);
            Store::Inline(inline)
        } else {
            Store::Heap(values.to_vec())
        };
        Some(Values { set, store })
    }

    /// The channels of `set`, each with its value at its own place in `all`; bits without a channel count for nothing.
    #[must_use]
    pub fn of_channels(set: u64, all: &[i64; Channel::ALL.len()]) -> Values {
        let set = set & ((1 << Channel::ALL.len()) - 1);
        let mut left = set;
        let mut next = || {
            let index = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            all.get(index).copied()
        };
        let mut inline = [0; INLINE];
        for place in &mut inline {
            let Some(value) = next() else { break };
            *place = value;
        }
        let store = match next() {
            None => Store::Inline(inline),
            Some(value) => {
                let others = std::iter::from_fn(next);
                Store::Heap(inline.into_iter().chain(std::iter::once(value)).chain(others).collect())
            }
        };
        Values { set, store }
    }

    fn len(&self) -> usize {
        self.set.count_ones() as usize
    }

    fn rank(&self, bit: u64) -> usize {
        (self.set & (bit - 1)).count_ones() as usize
    }
}

impl FromIterator<(Channel, i64)> for Values {
    fn from_iter<I: IntoIterator<Item = (Channel, i64)>>(items: I) -> Values {
        let mut values = Values::new();
        for (channel, value) in items {
            values.insert(channel, value);
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_listed_by_index_and_found_by_name() {
        for (index, channel) in Channel::ALL.into_iter().enumerate() {
            assert_eq!(channel.index(), index);
            assert_eq!(Channel::from_name(channel.name()), Some(channel));
        }
    }

    #[test]
    fn values_keep_the_order_of_the_channels_however_they_came() {
        let mut values: Values = [(Channel::VoltageDv, 2301), (Channel::ImportWh, 120)].into_iter().collect();
        assert_eq!(values.as_slice(), [120, 2301]);
        values.insert(Channel::ImportWh, 121);
        assert_eq!(values.get(Channel::ImportWh), Some(121));
        assert_eq!(values.get(Channel::CurrentMa), None);
        assert_eq!(Values::from_parts(values.set(), values.as_slice()).as_ref(), Some(&values));
        values.remove(Channel::ImportWh);
        assert_eq!(values.iter().collect::<Vec<_>>(), [(Channel::VoltageDv, 2301)]);
    }

    #[test]
    fn values_beyond_those_that_need_no_memory_are_kept_alike() {
        let mut values = Values::new();
        for (count, channel) in Channel::ALL.into_iter().rev().enumerate() {
            values.insert(channel, channel.index() as i64 * 7);
            assert_eq!(values.as_slice().len(), count + 1);
            assert!(values.iter().all(|(channel, value)| value == channel.index() as i64 * 7));
            assert_eq!(Values::from_parts(values.set(), values.as_slice()).as_ref(), Some(&values));
        }
        for channel in Channel::ALL.into_iter().skip(3) {
            values.insert(channel, 1);
            values.remove(channel);
            assert_eq!(values.get(channel), None);
        }
        let few: Values =
            [(Channel::ExportWh, 7), (Channel::ImportVah, 14), (Channel::ImportWh, 0)].into_iter().collect();
        assert_eq!(values, few);
    }

    #[test]
    fn values_taken_from_the_places_of_their_channels_are_those_put_in_one_by_one() {
        let all = std::array::from_fn(|index| index as i64 * 7 - 50);
        let mut set = 1_u64;
        for step in 0..2000 {
            // Sets of every size, the last with bits that are no channel's.
            set = set.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            let set = if step % 3 == 0 { set } else { set & set.rotate_left(7) & set.rotate_left(23) };
            let expected: Values = Channel::ALL
                .into_iter()
                .filter(|channel| set & (1 << channel.index()) != 0)
                .map(|channel| (channel, all[channel.index()]))
                .collect();
            assert_eq!(Values::of_channels(set, &all), expected, "{set:b}");
        }
        assert!(Values::of_channels(0, &all).is_empty());
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        assert_eq!(Values::from_parts(0b11, &[1]), None);
        assert_eq!(Values::from_parts(1 << 63, &[1]), None);
    }
}
