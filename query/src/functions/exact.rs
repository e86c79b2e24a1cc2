//! Integers shown in larger units without rounding: the same digits with a decimal point.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// `kwh(wh)`.
pub(super) fn kwh() -> ScalarUDF {
    Shifted::function("kwh", 3)
}

/// `rupees(paise)`.
pub(super) fn rupees() -> ScalarUDF {
    Shifted::function("rupees", 2)
}

/// Digits of the largest i64.
const DIGITS: u8 = 19;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Shifted {
    name: &'static str,
    decimals: i8,
    signature: Signature,
}

impl Shifted {
    fn function(name: &'static str, decimals: i8) -> ScalarUDF {
        let signature = Signature::exact(vec![DataType::Int64], Volatility::Immutable);
        ScalarUDF::new_from_impl(Shifted { name, decimals, signature })
    }
}

impl ScalarUDFImpl for Shifted {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(DIGITS, self.decimals))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [integers] = &ColumnarValue::values_to_arrays(&args.args)?[..] else {
            return super::civil::wrong_arguments(self.name);
        };
        let digits = integers.as_primitive::<Int64Type>().unary::<_, Decimal128Type>(i128::from);
        Ok(ColumnarValue::Array(Arc::new(digits.with_precision_and_scale(DIGITS, self.decimals)?)))
    }
}
