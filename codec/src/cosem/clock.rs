//! Class 8, Clock, and the two signs of a deviation.

use super::{Field, LogicalName, NoData, ValueError, Wire};
use crate::axdr::{DateTime, Writer};

class! {
    8
    attributes AttributeValue {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// Date and time of day as the meter has them.
        2 Time time: DateTime,
        /// Minutes between local time and UTC, in the sign of the meter: see [`DeviationSign`].
        3 TimeZone time_zone: i16,
        /// Status of the clock.
        4 Status status: ClockStatus,
        /// When daylight saving begins; may hold wildcards.
        5 DaylightSavingsBegin daylight_savings_begin: DateTime,
        /// When daylight saving ends; may hold wildcards.
        6 DaylightSavingsEnd daylight_savings_end: DateTime,
        /// Minutes of daylight saving.
        7 DaylightSavingsDeviation daylight_savings_deviation: i8,
        /// Whether daylight saving is used.
        8 DaylightSavingsEnabled daylight_savings_enabled: bool,
        /// Where the clock has its rate from.
        9 ClockBase clock_base: ClockBase,
    }
    methods {
        /// Sets the time to the nearest quarter of an hour.
        1 AdjustToQuarter adjust_to_quarter: NoData,
        /// Sets the time to the nearest start of a measuring period.
        2 AdjustToMeasuringPeriod adjust_to_measuring_period: NoData,
        /// Sets the time to the nearest minute.
        3 AdjustToMinute adjust_to_minute: NoData,
        /// Sets the time to the preset one, within its interval.
        4 AdjustToPresetTime adjust_to_preset_time: NoData,
        /// Presets a time for [`Method::AdjustToPresetTime`].
        5 PresetAdjustingTime preset_adjusting_time: PresetTime,
        /// Moves the time by so many seconds, −900 to 900.
        6 ShiftTime shift_time: i16,
    }
    calls Call
}

structure! {
    /// A time to be set later, and the interval in which it may be.
    pub struct PresetTime {
        /// The time to set.
        pub preset_time: DateTime,
        /// From when it may be set.
        pub validity_interval_start: DateTime,
        /// Until when it may be set.
        pub validity_interval_end: DateTime,
    }
}

codes! {
    /// What the clock counts.
    pub enum ClockBase {
        /// Not said.
        NotDefined = 0,
        /// A crystal of its own.
        Crystal = 1,
        /// The mains at 50 Hz.
        Mains50Hz = 2,
        /// The mains at 60 Hz.
        Mains60Hz = 3,
        /// Satellites.
        Gps = 4,
        /// A radio transmitter.
        Radio = 5,
    }
}

/// The status byte of a clock, as in a [`DateTime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClockStatus(pub u8);

impl ClockStatus {
    /// The time could not be recovered.
    pub const INVALID: u8 = 0x01;
    /// The time may be wrong.
    pub const DOUBTFUL: u8 = 0x02;
    /// Another clock base is in use.
    pub const OTHER_BASE: u8 = 0x04;
    /// The status itself is not valid.
    pub const STATUS_INVALID: u8 = 0x08;
    /// Daylight saving is in force.
    pub const DAYLIGHT_SAVING: u8 = 0x80;

    /// Whether `bit` is set; never in a status that is not specified (0xff).
    #[must_use]
    pub const fn has(self, bit: u8) -> bool {
        self.0 != DateTime::STATUS_UNSPECIFIED && self.0 & bit != 0
    }
}

impl<'a> Wire<'a> for ClockStatus {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        u8::read(field).map(Self)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.0.write(writer);
    }
}

/// Which way a meter counts its deviation and time zone. The Blue Book counts from local time to UTC, so that India is
/// −330; the meters of India (and of Italy and Saudi Arabia) count the other way and say +330.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviationSign {
    /// Of the standard: UTC = local time + deviation.
    LocalToUtc,
    /// Of India: local time = UTC + deviation.
    UtcToLocal,
}

impl DeviationSign {
    /// Minutes by which local time is ahead of UTC, for a deviation as on the wire. `None` where it is not specified.
    #[must_use]
    pub const fn ahead_of_utc_min(self, deviation_min: i16) -> Option<i16> {
        match (self, deviation_min) {
            (_, DateTime::DEVIATION_UNSPECIFIED) => None,
            (Self::UtcToLocal, minutes) => Some(minutes),
            (Self::LocalToUtc, minutes) => Some(-minutes),
        }
    }

    /// The deviation on the wire for a local time so many minutes ahead of UTC.
    #[must_use]
    pub const fn deviation_min(self, ahead_of_utc_min: i16) -> i16 {
        match self {
            Self::UtcToLocal => ahead_of_utc_min,
            Self::LocalToUtc => ahead_of_utc_min.saturating_neg(),
        }
    }

    /// The sign that a meter must have which stands where local time is `ahead_of_utc_min` and sends this deviation.
    /// `None` where the deviation says neither: 0, not specified, or another zone.
    #[must_use]
    pub const fn of(deviation_min: i16, ahead_of_utc_min: i16) -> Option<Self> {
        match deviation_min {
            0 | DateTime::DEVIATION_UNSPECIFIED => None,
            minutes if minutes == ahead_of_utc_min => Some(Self::UtcToLocal),
            minutes if minutes == ahead_of_utc_min.saturating_neg() => Some(Self::LocalToUtc),
            _ => None,
        }
    }
}
