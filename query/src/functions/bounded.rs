//! Text functions whose result grows with a number among their arguments, with a bound on the result: the memory limit
//! does not see what a function makes.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use crate::error::too_large;

/// Most characters of one value.
const MAX_CHARACTERS: i64 = 10_000;

/// The same function, failing where a value would be longer than [`MAX_CHARACTERS`].
pub(super) fn bounded(function: Arc<ScalarUDF>) -> ScalarUDF {
    ScalarUDF::new_from_impl(Bounded { inner: function })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let longest = longest(self.name(), &args)?;
        if longest > MAX_CHARACTERS {
            let name = self.name();
            return Err(too_large(format!("{name} of {longest} characters, at most {MAX_CHARACTERS}")));
        }
        self.inner.invoke_with_args(args)
    }
}

/// Length of the longest result: `repeat` multiplies, the others fill up to a length.
fn longest(name: &str, args: &ScalarFunctionArgs) -> Result<i64> {
    let (Some(text), Some(count)) = (args.args.first(), args.args.get(1)) else {
        return Ok(0);
    };
    let counts = integers(count, args.number_rows)?;
    if name != "repeat" {
        return Ok(counts.into_iter().flatten().max().unwrap_or(0));
    }
    let lengths = integers(&lengths(text)?, args.number_rows)?;
    let results = lengths
        .into_iter()
        .zip(counts)
        .map(|(length, count)| length.unwrap_or(0).saturating_mul(count.unwrap_or(0)));
    Ok(results.max().unwrap_or(0))
}

fn lengths(text: &ColumnarValue) -> Result<ColumnarValue> {
    Ok(match text {
        ColumnarValue::Array(texts) => ColumnarValue::Array(length(texts)?),
        ColumnarValue::Scalar(text) => {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&length(&text.to_array()?)?, 0)?)
        }
    })
}

fn integers(values: &ColumnarValue, rows: usize) -> Result<Vec<Option<i64>>> {
    let array = values.cast_to(&DataType::Int64, None)?.into_array(rows)?;
    Ok(array.as_primitive::<Int64Type>().iter().collect())
}
