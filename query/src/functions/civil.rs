//! Between instants and the civil days of the utility's zone.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use model::{Calendar, CivilDay, Instant};

/// All functions of this file.
pub(super) fn all(calendar: &Arc<Calendar>) -> Vec<ScalarUDF> {
    [Kind::CivilDay, Kind::DayStart, Kind::DayEnd, Kind::LocalTime, Kind::IntervalsOfDay]
        .into_iter()
        .map(|kind| ScalarUDF::new_from_impl(Civil::new(kind, calendar)))
        .collect()
}

/// Type of every instant.
pub(super) fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The error of a call whose arguments the signature should have kept away.
pub(super) fn wrong_arguments<T>(name: &str) -> Result<T> {
    Err(DataFusionError::Internal(format!("arguments of {name} are not those of its signature")))
}

/// A civil day with its bounds, kept while the rows stay within it: readings come meter by meter, day by day.
pub(super) struct Days<'a> {
    calendar: &'a Calendar,
    day: CivilDay,
    start: Instant,
    end: Instant,
}

impl<'a> Days<'a> {
    pub(super) fn new(calendar: &'a Calendar) -> Days<'a> {
        let day = CivilDay(0);
        Days { calendar, day, start: calendar.start_of(day), end: calendar.end_of(day) }
    }

    /// Start and end of the day.
    pub(super) fn bounds(&mut self, day: CivilDay) -> (Instant, Instant) {
        if day != self.day {
            (self.day, self.start, self.end) = (day, self.calendar.start_of(day), self.calendar.end_of(day));
        }
        (self.start, self.end)
    }

    fn holding(&mut self, instant: Instant) -> CivilDay {
        if instant < self.start || instant >= self.end {
            let day = self.calendar.day_of(instant);
            self.bounds(day);
        }
        self.day
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    CivilDay,
    DayStart,
    DayEnd,
    LocalTime,
    IntervalsOfDay,
}

#[derive(Debug)]
struct Civil {
    kind: Kind,
    calendar: Arc<Calendar>,
    signature: Signature,
}

impl Civil {
    fn new(kind: Kind, calendar: &Arc<Calendar>) -> Civil {
        let arguments = match kind {
            Kind::CivilDay | Kind::LocalTime => vec![instant_type()],
            Kind::DayStart | Kind::DayEnd => vec![DataType::Date32],
            Kind::IntervalsOfDay => vec![DataType::Date32, DataType::Int64],
        };
        let signature = Signature::exact(arguments, Volatility::Immutable);
        Civil { kind, calendar: Arc::clone(calendar), signature }
    }
}

impl PartialEq for Civil {
    fn eq(&self, other: &Civil) -> bool {
        self.kind == other.kind && self.calendar.zone_name() == other.calendar.zone_name()
    }
}

impl Eq for Civil {}

impl std::hash::Hash for Civil {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        self.calendar.zone_name().hash(state);
    }
}

impl ScalarUDFImpl for Civil {
    fn name(&self) -> &str {
        match self.kind {
            Kind::CivilDay => "civil_day",
            Kind::DayStart => "day_start",
            Kind::DayEnd => "day_end",
            Kind::LocalTime => "local_time",
            Kind::IntervalsOfDay => "intervals_of_day",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::CivilDay => DataType::Date32,
            Kind::DayStart | Kind::DayEnd => instant_type(),
            Kind::LocalTime => DataType::Timestamp(TimeUnit::Microsecond, None),
            Kind::IntervalsOfDay => DataType::Int64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let result = self.evaluate(&arrays)?;
        Ok(match scalar {
            true => ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}

impl Civil {
    fn evaluate(&self, arrays: &[ArrayRef]) -> Result<ArrayRef> {
        let mut days = Days::new(&self.calendar);
        Ok(match (self.kind, arrays) {
            (Kind::CivilDay, [instants]) => {
                let instants = instants.as_primitive::<TimestampMicrosecondType>();
                let day = |micros: Option<i64>| micros.map(|micros| days.holding(Instant(micros)).0);
                Arc::new(instants.iter().map(day).collect::<Date32Array>())
            }
            (Kind::LocalTime, [instants]) => {
                let instants = instants.as_primitive::<TimestampMicrosecondType>();
                Arc::new(instants.unary::<_, TimestampMicrosecondType>(|micros| {
                    let offset = self.calendar.offset_seconds(Instant(micros));
                    Instant(micros).plus_seconds(i64::from(offset)).0
                }))
            }
            (Kind::DayStart, [dates]) => of_days(dates, |day| days.bounds(day).0),
            (Kind::DayEnd, [dates]) => of_days(dates, |day| days.bounds(day).1),
            (Kind::IntervalsOfDay, [dates, periods]) => {
                let periods: &Int64Array = periods.as_primitive::<Int64Type>();
                let dates: &Date32Array = dates.as_primitive::<Date32Type>();
                Arc::new(
                    dates
                        .iter()
                        .zip(periods)
                        .map(|(date, period)| {
                            let (start, end) = days.bounds(CivilDay(date?));
                            let period_s = period.filter(|seconds| *seconds > 0)?;
                            Some((end.seconds() - start.seconds()) / period_s)
                        })
                        .collect::<Int64Array>(),
                )
            }
            _ => return wrong_arguments(self.name()),
        })
    }
}

fn of_days(dates: &dyn Array, mut instant: impl FnMut(CivilDay) -> Instant) -> ArrayRef {
    let dates = dates.as_primitive::<Date32Type>();
    let instants: TimestampMicrosecondArray =
        dates.iter().map(|date| date.map(|days| instant(CivilDay(days)).0)).collect();
    Arc::new(instants.with_timezone("UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_days_have_as_many_intervals_as_the_zone_gives_them() {
        let berlin = Arc::new(Calendar::new("Europe/Berlin").unwrap());
        let days = ["2026-03-29", "2026-06-01", "2026-10-25"].map(|day| day.parse::<CivilDay>().unwrap());
        let dates: ArrayRef = Arc::new(Date32Array::from(days.map(|day| day.0).to_vec()));
        let periods: ArrayRef = Arc::new(Int64Array::from(vec![1800; 3]));
        let counts =
            Civil::new(Kind::IntervalsOfDay, &berlin).evaluate(&[Arc::clone(&dates), periods]).unwrap();
        assert_eq!(counts.as_primitive::<Int64Type>().values(), &[46, 48, 50]);
        let starts = Civil::new(Kind::DayStart, &berlin).evaluate(&[Arc::clone(&dates)]).unwrap();
        let back = Civil::new(Kind::CivilDay, &berlin).evaluate(&[starts]).unwrap();
        assert_eq!(&back, &dates);
    }

    #[test]
    fn the_day_of_an_instant_does_not_depend_on_the_instants_around_it() {
        let india = Arc::new(Calendar::india());
        let texts = [
            "2026-06-02T00:00:00+05:30",
            "2026-06-01T23:59:59+05:30",
            "1969-12-31T12:00:00Z",
            "2026-06-01T00:00:00+05:30",
        ];
        let instants = texts.map(|text| text.parse::<Instant>().unwrap());
        let column: ArrayRef = Arc::new(
            TimestampMicrosecondArray::from(instants.map(|instant| instant.0).to_vec()).with_timezone("UTC"),
        );
        let days = Civil::new(Kind::CivilDay, &india).evaluate(&[column]).unwrap();
        let expected = instants.map(|instant| india.day_of(instant).0);
        assert_eq!(days.as_primitive::<Date32Type>().values(), &expected);
    }
}
