//! Values as case files write them: no two of one type are written alike, to the bit.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use asof_model::{Timestamp, float_text, float32_text};

/// A cell: nothing for null, `''` for a text without letters, `[a b]` for a list, `{a:1 b:2}` for a list of pairs.
pub(super) fn text(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return String::new();
    }
    macro_rules! whole {
        ($of:ty) => {
            array.as_primitive::<$of>().value(row).to_string()
        };
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => whole!(Int8Type),
        DataType::Int16 => whole!(Int16Type),
        DataType::Int32 => whole!(Int32Type),
        DataType::Int64 => whole!(Int64Type),
        DataType::UInt8 => whole!(UInt8Type),
        DataType::UInt16 => whole!(UInt16Type),
        DataType::UInt32 => whole!(UInt32Type),
        DataType::UInt64 => whole!(UInt64Type),
        DataType::Float32 => {
            let float = array.as_primitive::<Float32Type>().value(row);
            assert!(!float.is_nan() || float.to_bits() == f32::NAN.to_bits(), "a NaN of another form");
            format!("{}f", float32_text(float))
        }
        DataType::Float64 => {
            let float = array.as_primitive::<Float64Type>().value(row);
            assert!(!float.is_nan() || float.to_bits() == f64::NAN.to_bits(), "a NaN of another form");
            float_text(float)
        }
        DataType::Decimal128(_, _) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Date32 => {
            let days = i64::from(array.as_primitive::<Date32Type>().value(row));
            Timestamp(days * 86_400_000_000).to_string().split('T').next().unwrap().to_owned()
        }
        DataType::Timestamp(_, _) => {
            let time = Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row)).to_string();
            time.replace(".000000Z", "Z")
        }
        DataType::Utf8 => match array.as_string::<i32>().value(row) {
            "" => "''".to_owned(),
            text => text.to_owned(),
        },
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let all = |of: &dyn Fn(usize) -> String| (0..items.len()).map(of).collect::<Vec<_>>().join(" ");
            match items.as_struct_opt() {
                Some(pairs) => {
                    let [value, count] = [0, 1].map(|at| pairs.column(at));
                    format!("{{{}}}", all(&|at| format!("{}:{}", text(value, at), text(count, at))))
                }
                None => format!("[{}]", all(&|at| text(&items, at))),
            }
        }
        other => panic!("no case file writes values of {other}"),
    }
}

#[test]
fn values_of_one_type_are_written_apart() {
    use arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, StringArray};
    use std::sync::Arc;
    let floats = Float64Array::from(vec![Some(0.0), Some(-0.0), Some(0.1 + 0.2), Some(f64::NAN), None]);
    let written = |array: &dyn Array| (0..array.len()).map(|row| text(array, row)).collect::<Vec<_>>();
    assert_eq!(written(&floats), ["0.0", "-0.0", "0.30000000000000004", "NaN", ""]);
    assert_eq!(written(&StringArray::from(vec![Some(""), None, Some("a")])), ["''", "", "a"]);
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), None, Some(2)]),
        Some(vec![]),
        None,
    ]));
    assert_eq!(written(&lists), ["[1  2]", "[]", ""]);
    assert_eq!(written(&Int64Array::from(vec![-3])), ["-3"]);
}
