//! The functions statements may use: DataFusion's without those that make much out of little, and a few of the trade.
//!
//! | function | gives |
//! |---|---|
//! | `kwh(wh)` | kWh with three decimals, exactly |
//! | `rupees(paise)` | rupees with two decimals, exactly |
//! | `civil_day(instant)` | the civil day of the utility's zone that holds the instant |
//! | `day_start(day)`, `day_end(day)` | the instants between which a civil day lies |
//! | `local_time(instant)` | wall-clock time in the utility's zone, to look at |
//! | `intervals_of_day(day, period_s)` | how many intervals a civil day has |
//! | `quarters(interval_end, day)` | aggregate: which quarter hours of the day an interval ends at |
//! | `complete_until(quarters, day, period_s)` | end of the last interval before the first one missing |
//! | `generate_series(..)`, `range(..)` in FROM | as in DataFusion, up to [`series::MAX_ROWS`] rows |

mod bounded;
mod civil;
mod exact;
mod quarters;
pub(crate) mod series;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableFunction;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use model::Calendar;

/// Functions whose result is longer than their arguments by a number in the statement, without a use here.
const LEFT_OUT: [&str; 4] = ["array_repeat", "array_resize", "generate_series", "range"];

/// Functions of the same kind that people do use: with a bound on what they give.
const BOUNDED: [&str; 3] = ["repeat", "lpad", "rpad"];

/// The scalar functions.
pub(crate) fn scalar(calendar: &Arc<Calendar>) -> Vec<Arc<ScalarUDF>> {
    let library = SessionStateDefaults::default_scalar_functions()
        .into_iter()
        .filter(|function| !LEFT_OUT.contains(&function.name()))
        .map(|function| match BOUNDED.contains(&function.name()) {
            true => Arc::new(bounded::bounded(function)),
            false => function,
        });
    let ours = [exact::kwh(), exact::rupees(), quarters::complete_until(calendar)]
        .into_iter()
        .chain(civil::all(calendar))
        .map(Arc::new);
    library.chain(ours).collect()
}

/// The aggregate functions.
pub(crate) fn aggregate(calendar: &Arc<Calendar>) -> Vec<Arc<AggregateUDF>> {
    let mut functions = SessionStateDefaults::default_aggregate_functions();
    functions.push(Arc::new(quarters::quarters(calendar)));
    functions
}

/// The functions that stand for a table.
pub(crate) fn table() -> HashMap<String, Arc<TableFunction>> {
    series::all().into_iter().map(|function| (function.name().to_owned(), Arc::new(function))).collect()
}
