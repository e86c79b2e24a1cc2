//! How far a day is complete, without sorting its intervals: a set of the quarter hours at which one ends.
//!
//! Meters capture every 15, 30 or 60 minutes, and a civil day has at most 100 quarter hours, so that 16 bytes a meter
//! and day hold the set, as a number. Intervals of other periods have no bits; for them `complete_until` gives null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Int64Type, TimestampMicrosecondType,
};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, EmitTo, GroupsAccumulator,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use model::{Calendar, CivilDay, Instant};

use super::civil::{Days, instant_type, wrong_arguments};

const QUARTER_S: i64 = 900;
/// More quarter hours than any civil day has, and no more than the digits below hold.
const QUARTERS: i64 = 120;
const DIGITS: u8 = 38;
const SET: DataType = DataType::Decimal128(DIGITS, 0);

/// `quarters(interval_end, day)`.
pub(super) fn quarters(calendar: &Arc<Calendar>) -> AggregateUDF {
    let signature = Signature::exact(vec![instant_type(), DataType::Date32], Volatility::Immutable);
    AggregateUDF::new_from_impl(Quarters { calendar: Zone(Arc::clone(calendar)), signature })
}

/// `complete_until(quarters, day, period_s)`.
pub(super) fn complete_until(calendar: &Arc<Calendar>) -> ScalarUDF {
    let arguments = vec![SET, DataType::Date32, DataType::Int64];
    let signature = Signature::exact(arguments, Volatility::Immutable);
    ScalarUDF::new_from_impl(CompleteUntil { calendar: Zone(Arc::clone(calendar)), signature })
}

/// A calendar that is compared by its zone.
#[derive(Clone, Debug)]
struct Zone(Arc<Calendar>);

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.0.zone_name() == other.0.zone_name()
    }
}

impl Eq for Zone {}

impl std::hash::Hash for Zone {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.zone_name().hash(state);
    }
}

/// The bit of an interval that ends then; none off the quarter hours of the day.
fn bit(end: Instant, day_start: Instant) -> i128 {
    let micros = end.0 - day_start.0;
    let quarter_us = QUARTER_S * 1_000_000;
    let quarter = micros / quarter_us;
    match micros % quarter_us == 0 && (1..=QUARTERS).contains(&quarter) {
        true => 1 << (quarter - 1),
        false => 0,
    }
}

/// End of the intervals of `period_s` that follow each other from the start of the day.
fn until(bits: i128, day_start: Instant, period_s: i64) -> Option<Instant> {
    if period_s < QUARTER_S || period_s % QUARTER_S != 0 {
        return None;
    }
    let step = period_s / QUARTER_S;
    let ends = (1..=QUARTERS / step).map(|count| count * step);
    let last = ends.take_while(|quarter| bits & (1 << (quarter - 1)) != 0).last().unwrap_or(0);
    Some(day_start.plus_seconds(last * QUARTER_S))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CompleteUntil {
    calendar: Zone,
    signature: Signature,
}

impl ScalarUDFImpl for CompleteUntil {
    fn name(&self) -> &str {
        "complete_until"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(instant_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [sets, days, periods] = &ColumnarValue::values_to_arrays(&args.args)?[..] else {
            return wrong_arguments(self.name());
        };
        let sets = sets.as_primitive::<Decimal128Type>();
        let days = days.as_primitive::<Date32Type>();
        let periods = periods.as_primitive::<Int64Type>();
        let mut civil = Days::new(&self.calendar.0);
        let rows = sets.iter().zip(days).zip(periods);
        let ends: TimestampMicrosecondArray = rows
            .map(|((bits, day), period_s)| {
                let (start, _) = civil.bounds(CivilDay(day?));
                until(bits.unwrap_or(0), start, period_s?).map(|end| end.0)
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(ends.with_timezone("UTC"))))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Quarters {
    calendar: Zone,
    signature: Signature,
}

impl AggregateUDFImpl for Quarters {
    fn name(&self) -> &str {
        "quarters"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(SET)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let name = format!("{}[quarters]", args.name);
        Ok(vec![Arc::new(Field::new(name, SET, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Sets::new(&self.calendar)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Sets::new(&self.calendar)))
    }
}

/// The sets of all groups; one group where it serves as a plain accumulator.
#[derive(Debug)]
struct Sets {
    calendar: Zone,
    bits: Vec<i128>,
}

impl Sets {
    fn new(calendar: &Zone) -> Sets {
        Sets { calendar: calendar.clone(), bits: Vec::new() }
    }

    fn add(&mut self, values: &[ArrayRef], mut group: impl FnMut(usize) -> Option<usize>) -> Result<()> {
        let [ends, days] = values else {
            return wrong_arguments("quarters");
        };
        let (ends, days) =
            (ends.as_primitive::<TimestampMicrosecondType>(), days.as_primitive::<Date32Type>());
        let calendar = Arc::clone(&self.calendar.0);
        let mut civil = Days::new(&calendar);
        for row in 0..ends.len() {
            let Some(group) = group(row).filter(|_| ends.is_valid(row) && days.is_valid(row)) else {
                continue;
            };
            let (start, _) = civil.bounds(CivilDay(days.value(row)));
            self.bits[group] |= bit(Instant(ends.value(row)), start);
        }
        Ok(())
    }

    fn merge(&mut self, values: &[ArrayRef], mut group: impl FnMut(usize) -> usize) -> Result<()> {
        let [sets] = values else {
            return wrong_arguments("quarters");
        };
        for (row, bits) in sets.as_primitive::<Decimal128Type>().iter().enumerate() {
            self.bits[group(row)] |= bits.unwrap_or(0);
        }
        Ok(())
    }
}

impl Accumulator for Sets {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.bits.resize(1, 0);
        self.add(values, |_| Some(0))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let bits = self.bits.first().copied().unwrap_or(0);
        Ok(ScalarValue::Decimal128(Some(bits), DIGITS, 0))
    }

    fn size(&self) -> usize {
        size_of::<Sets>() + self.bits.capacity() * size_of::<i128>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![Accumulator::evaluate(self)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.bits.resize(1, 0);
        self.merge(states, |_| 0)
    }
}

impl GroupsAccumulator for Sets {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.bits.resize(total_num_groups, 0);
        let passes = |row: usize| opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        self.add(values, |row| passes(row).then(|| group_indices[row]))
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        array_of(emit_to.take_needed(&mut self.bits))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![GroupsAccumulator::evaluate(self, emit_to)?])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.bits.resize(total_num_groups, 0);
        self.merge(values, |row| group_indices[row])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, Array::len);
        let each: Vec<usize> = (0..rows).collect();
        let mut sets = Sets::new(&self.calendar);
        GroupsAccumulator::update_batch(&mut sets, values, &each, opt_filter, rows)?;
        GroupsAccumulator::state(&mut sets, EmitTo::All)
    }

    fn size(&self) -> usize {
        Accumulator::size(self)
    }
}

fn array_of(sets: Vec<i128>) -> Result<ArrayRef> {
    Ok(Arc::new(Decimal128Array::from(sets).with_precision_and_scale(DIGITS, 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_HOUR: i64 = 1800;

    fn set(start: Instant, ends_s: impl IntoIterator<Item = i64>) -> i128 {
        ends_s
            .into_iter()
            .map(|seconds| bit(start.plus_seconds(seconds), start))
            .fold(0, |set, bit| set | bit)
    }

    #[test]
    fn a_day_is_complete_until_the_first_interval_that_is_missing() {
        let start: Instant = "2026-06-01T00:00:00+05:30".parse().unwrap();
        let until_s =
            |bits, period_s| until(bits, start, period_s).map(|end| end.seconds() - start.seconds());
        let whole = set(start, (1..=48).map(|slot| slot * HALF_HOUR));
        assert_eq!(until_s(whole, HALF_HOUR), Some(86_400));
        assert_eq!(until_s(set(start, [1, 2, 4].map(|slot| slot * HALF_HOUR)), HALF_HOUR), Some(3600));
        assert_eq!(until_s(set(start, [2 * HALF_HOUR]), HALF_HOUR), Some(0));
        assert_eq!(until_s(0, HALF_HOUR), Some(0));
        assert_eq!(until_s(set(start, (1..=100).map(|slot| slot * 900)), 900), Some(90_000));
        assert_eq!(until_s(whole, 900), Some(0));
    }

    #[test]
    fn ends_off_the_quarter_hours_and_other_periods_say_nothing() {
        let start: Instant = "2026-06-01T00:00:00+05:30".parse().unwrap();
        assert_eq!(set(start, [0, -1800, 1, 901, 900 * 129]), 0);
        for period_s in [0, -900, 300, 1000] {
            assert_eq!(until(i128::MAX, start, period_s), None);
        }
    }
}
