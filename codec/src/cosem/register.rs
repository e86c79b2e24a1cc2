//! Class 3, Register: a value with scaler and unit. What the other registers share is here too.

use super::{LogicalName, NoData};
use crate::axdr::Value;

class! {
    3
    attributes AttributeValue<'a> {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// The value, of any type.
        2 Value value: Value<'a>,
        /// What the value is multiplied by, and its unit.
        3 ScalerUnit scaler_unit: ScalerUnit,
    }
    methods {
        /// Sets the value to its default.
        1 Reset reset: NoData,
    }
    calls Call
}

structure! {
    /// The value counts in units of 10^`scaler` times `unit`.
    pub struct ScalerUnit {
        /// Power of ten.
        pub scaler: i8,
        /// Unit.
        pub unit: Unit,
    }
}

impl ScalerUnit {
    /// `value` as a count of 10^`exponent` units: value × 10^(scaler − exponent), rounded half to even where digits
    /// are lost. `None` where it does not fit. A value of −1 W with scaler 2 is −100 000 at exponent −3.
    #[must_use]
    pub fn scaled(self, value: i64, exponent: i8) -> Option<i64> {
        times_power_of_ten(value, i32::from(self.scaler) - i32::from(exponent))
    }
}

/// `value` × 10^`power` in integers, rounded half to even where digits are lost; `None` where it does not fit.
#[must_use]
pub fn times_power_of_ten(value: i64, power: i32) -> Option<i64> {
    let factor = 10_i64.checked_pow(power.unsigned_abs());
    match (factor, power >= 0) {
        (Some(factor), true) => value.checked_mul(factor),
        (Some(divisor), false) => Some(divided_half_even(value, divisor)),
        (None, true) => (value == 0).then_some(0),
        // The divisor is 10^19 or more, and 2 × |value| is at most 1.85 × 10^19: only at 10^19 can a half be passed.
        (None, false) if power == -19 => Some(i64::from(value.unsigned_abs() > HALF) * value.signum()),
        (None, false) => Some(0),
    }
}

/// One half of 10^19.
const HALF: u64 = 5_000_000_000_000_000_000;

const fn divided_half_even(value: i64, divisor: i64) -> i64 {
    let (quotient, remainder) = (value.div_euclid(divisor), value.rem_euclid(divisor));
    let up = match (remainder, divisor - remainder) {
        (below, above) if below == above => quotient & 1 == 1,
        (below, above) => below > above,
    };
    quotient + up as i64
}

codes! {
    /// Units, by their code; those that a meter of electricity uses have names here.
    pub enum Unit {
        /// Year.
        Year = 1,
        /// Month.
        Month = 2,
        /// Week.
        Week = 3,
        /// Day.
        Day = 4,
        /// Hour.
        Hour = 5,
        /// Minute.
        Minute = 6,
        /// Second.
        Second = 7,
        /// Degree of an angle.
        Degree = 8,
        /// Degree Celsius.
        Celsius = 9,
        /// The local currency.
        Currency = 10,
        /// Watt.
        Watt = 27,
        /// Volt-ampere.
        VoltAmpere = 28,
        /// Var.
        Var = 29,
        /// Watt-hour.
        WattHour = 30,
        /// Volt-ampere-hour.
        VoltAmpereHour = 31,
        /// Var-hour.
        VarHour = 32,
        /// Ampere.
        Ampere = 33,
        /// Coulomb.
        Coulomb = 34,
        /// Volt.
        Volt = 35,
        /// Hertz.
        Hertz = 44,
        /// A number without unit.
        Count = 255,
    }
}

impl Unit {
    /// Its symbol; empty for a count and where none is known.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Year => "a",
            Self::Month => "mo",
            Self::Week => "wk",
            Self::Day => "d",
            Self::Hour => "h",
            Self::Minute => "min",
            Self::Second => "s",
            Self::Degree => "°",
            Self::Celsius => "°C",
            Self::Currency => "currency",
            Self::Watt => "W",
            Self::VoltAmpere => "VA",
            Self::Var => "var",
            Self::WattHour => "Wh",
            Self::VoltAmpereHour => "VAh",
            Self::VarHour => "varh",
            Self::Ampere => "A",
            Self::Coulomb => "C",
            Self::Volt => "V",
            Self::Hertz => "Hz",
            Self::Count | Self::Other(_) => "",
        }
    }
}
