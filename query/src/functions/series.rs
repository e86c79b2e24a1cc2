//! `generate_series` and `range` in FROM, with a bound: the memory limit does not see the rows they make.

use std::sync::Arc;

use datafusion::catalog::{TableFunction, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::Expr;

use crate::error::too_large;

/// Most rows of one call.
pub(crate) const MAX_ROWS: i128 = 1_000_000;

/// The functions, bounded.
pub(super) fn all() -> Vec<TableFunction> {
    SessionStateDefaults::default_table_functions()
        .into_iter()
        .filter(|function| ["generate_series", "range"].contains(&function.name()))
        .map(|inner| TableFunction::new(inner.name().to_owned(), Arc::new(Bounded(inner))))
        .collect()
}

#[derive(Debug)]
struct Bounded(Arc<TableFunction>);

impl TableFunctionImpl for Bounded {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let rows = rows(args.exprs());
        if rows > MAX_ROWS {
            return Err(too_large(format!("{} of {rows} rows, at most {MAX_ROWS}", self.0.name())));
        }
        self.0.function().call_with_args(args)
    }
}

/// Rows the arguments ask for, at most; where they make no sense the function itself says so.
fn rows(arguments: &[Expr]) -> i128 {
    let numbers: Vec<i128> = arguments.iter().filter_map(number).collect();
    match numbers[..] {
        [end] => end,
        [start, end] => end.saturating_sub(start).abs(),
        [start, end, step] => end.saturating_sub(start).abs() / step.abs().max(1),
        _ => 0,
    }
}

/// A literal as a number: integers as they are, dates and instants and steps between them in nanoseconds.
fn number(argument: &Expr) -> Option<i128> {
    const DAY_NS: i128 = 86_400_000_000_000;
    const SHORTEST_MONTH_DAYS: i128 = 28;
    let Expr::Literal(value, _) = argument else {
        return None;
    };
    match value {
        ScalarValue::Int64(value) => value.map(i128::from),
        ScalarValue::Date32(value) => value.map(|days| i128::from(days) * DAY_NS),
        ScalarValue::TimestampNanosecond(value, _) => value.map(i128::from),
        ScalarValue::IntervalMonthDayNano(value) => value.map(|step| {
            (i128::from(step.months) * SHORTEST_MONTH_DAYS + i128::from(step.days)) * DAY_NS
                + i128::from(step.nanoseconds)
        }),
        _ => None,
    }
}
