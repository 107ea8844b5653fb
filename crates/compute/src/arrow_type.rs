//! The types users write as Arrow types, and any physical layout of them brought to the one form.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryBuilder, ListArray, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType as ArrowType, Field, Fields, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use asof_model::DataType;

use crate::ComputeError;

/// The time zone of every timestamp Asof holds.
const UTC: &str = "UTC";

/// The one Arrow type that holds values of a type: `uuid` is `FixedSizeBinary(16)`, `json` is `Utf8`,
/// `timestamp` is `Timestamp(Microsecond, "UTC")`.
pub fn arrow_type(of: &DataType) -> ArrowType {
    match of {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int8 => ArrowType::Int8,
        DataType::Int16 => ArrowType::Int16,
        DataType::Int32 => ArrowType::Int32,
        DataType::Int64 => ArrowType::Int64,
        DataType::UInt8 => ArrowType::UInt8,
        DataType::UInt16 => ArrowType::UInt16,
        DataType::UInt32 => ArrowType::UInt32,
        DataType::UInt64 => ArrowType::UInt64,
        DataType::Float32 => ArrowType::Float32,
        DataType::Float64 => ArrowType::Float64,
        DataType::Decimal { precision, scale } => ArrowType::Decimal128(*precision, *scale),
        DataType::String | DataType::Json => ArrowType::Utf8,
        DataType::Bytes => ArrowType::Binary,
        DataType::Date => ArrowType::Date32,
        DataType::Timestamp => ArrowType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        DataType::Uuid => ArrowType::FixedSizeBinary(16),
        DataType::List(item) => ArrowType::List(Arc::new(Field::new_list_field(arrow_type(item), true))),
        DataType::Struct(fields) => ArrowType::Struct(
            fields.iter().map(|(name, kind)| Field::new(name, arrow_type(kind), true)).collect::<Fields>(),
        ),
    }
}

/// The type that values of an Arrow type have, whatever their layout (dictionary, view, large, run-end);
/// none where Asof has no such type. `Utf8` is a string, `FixedSizeBinary(16)` a uuid.
pub fn from_arrow_type(found: &ArrowType) -> Option<DataType> {
    Some(match found {
        ArrowType::Boolean => DataType::Bool,
        ArrowType::Int8 => DataType::Int8,
        ArrowType::Int16 => DataType::Int16,
        ArrowType::Int32 => DataType::Int32,
        ArrowType::Int64 => DataType::Int64,
        ArrowType::UInt8 => DataType::UInt8,
        ArrowType::UInt16 => DataType::UInt16,
        ArrowType::UInt32 => DataType::UInt32,
        ArrowType::UInt64 => DataType::UInt64,
        ArrowType::Float16 | ArrowType::Float32 => DataType::Float32,
        ArrowType::Float64 => DataType::Float64,
        ArrowType::Decimal32(precision, scale)
        | ArrowType::Decimal64(precision, scale)
        | ArrowType::Decimal128(precision, scale)
        | ArrowType::Decimal256(precision, scale) => {
            let good = *precision <= 38 && *scale >= 0 && scale.unsigned_abs() <= *precision;
            return good.then_some(DataType::Decimal { precision: *precision, scale: *scale });
        }
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => DataType::String,
        ArrowType::FixedSizeBinary(16) => DataType::Uuid,
        ArrowType::Binary
        | ArrowType::LargeBinary
        | ArrowType::BinaryView
        | ArrowType::FixedSizeBinary(_) => DataType::Bytes,
        ArrowType::Date32 | ArrowType::Date64 => DataType::Date,
        ArrowType::Timestamp(_, _) => DataType::Timestamp,
        ArrowType::Dictionary(_, value) => return from_arrow_type(value),
        ArrowType::RunEndEncoded(_, value) => return from_arrow_type(value.data_type()),
        ArrowType::List(item)
        | ArrowType::LargeList(item)
        | ArrowType::ListView(item)
        | ArrowType::LargeListView(item)
        | ArrowType::FixedSizeList(item, _) => DataType::List(Box::new(from_arrow_type(item.data_type())?)),
        ArrowType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| Some((field.name().clone(), from_arrow_type(field.data_type())?)))
                .collect::<Option<Vec<_>>>()?,
        ),
        _ => return None,
    })
}

/// An array of any layout as the one Arrow type of `to`: dictionaries and views unpacked, integers
/// widened or narrowed where every value fits, nanoseconds floored, naive times read as UTC, uuids
/// also from their text.
///
/// # Errors
/// [`ComputeError::WrongType`] where the type cannot be read so, [`ComputeError::OutOfRange`] where a
/// value does not fit.
pub fn conform(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ComputeError> {
    let target = arrow_type(to);
    if *array.data_type() == target {
        return Ok(Arc::clone(array));
    }
    let wrong = || ComputeError::WrongType { expected: to.clone(), found: array.data_type().to_string() };
    let cast = |array: &ArrayRef, target: &ArrowType| {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(array, target, &strict).map_err(|_| ComputeError::OutOfRange {
            expected: to.clone(),
            found: array.data_type().to_string(),
            reason: "the cast would change it".to_owned(),
        })
    };
    let inner = match array.data_type() {
        ArrowType::Dictionary(_, value) => Some(value.as_ref().clone()),
        ArrowType::RunEndEncoded(_, value) => Some(value.data_type().clone()),
        _ => None,
    };
    if let Some(inner) = inner {
        return conform(&cast(array, &inner)?, to);
    }
    if !readable(array.data_type(), to) {
        return Err(wrong());
    }
    match (array.data_type(), to) {
        (ArrowType::Null, _) => Ok(new_null_array(&target, array.len())),
        (ArrowType::Timestamp(TimeUnit::Nanosecond, _), DataType::Timestamp) => {
            let floored: TimestampMicrosecondArray =
                array.as_primitive::<TimestampNanosecondType>().unary(|nanos| nanos.div_euclid(1_000));
            Ok(Arc::new(floored.with_timezone(UTC)))
        }
        (ArrowType::Timestamp(TimeUnit::Microsecond, _), DataType::Timestamp) => {
            Ok(Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone(UTC)))
        }
        (ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View, DataType::Uuid) => {
            let text = cast(array, &ArrowType::Utf8)?;
            let mut builder = FixedSizeBinaryBuilder::with_capacity(array.len(), 16);
            for value in text.as_string::<i32>() {
                match value.map(parse_uuid) {
                    None => builder.append_null(),
                    Some(Some(bytes)) => builder.append_value(bytes).map_err(|_| wrong())?,
                    Some(None) => {
                        return Err(ComputeError::OutOfRange {
                            expected: to.clone(),
                            found: array.data_type().to_string(),
                            reason: "it is not 32 hexadecimal digits".to_owned(),
                        });
                    }
                }
            }
            Ok(Arc::new(builder.finish()))
        }
        (ArrowType::FixedSizeBinary(_), DataType::Bytes) => {
            Ok(Arc::new(array.as_fixed_size_binary().iter().collect::<BinaryArray>()))
        }
        (_, DataType::Decimal { .. }) => {
            let out = cast(array, &target)?;
            // Arrow rounds what has more places: another number is another key.
            let back = cast(&out, array.data_type())?;
            if not_distinct(&back, array).is_ok_and(|same| same.true_count() == same.len()) {
                return Ok(out);
            }
            Err(ComputeError::OutOfRange {
                expected: to.clone(),
                found: array.data_type().to_string(),
                reason: "it has more decimal places".to_owned(),
            })
        }
        (_, DataType::List(item)) => {
            let inner = match array.data_type() {
                ArrowType::List(inner)
                | ArrowType::LargeList(inner)
                | ArrowType::ListView(inner)
                | ArrowType::LargeListView(inner)
                | ArrowType::FixedSizeList(inner, _) => Arc::clone(inner),
                _ => return Err(wrong()),
            };
            let list = cast(array, &ArrowType::List(inner))?;
            let list = list.as_list::<i32>();
            let values = conform(list.values(), item)?;
            let field = Arc::new(Field::new_list_field(arrow_type(item), true));
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(field, offsets, values, nulls).map_err(|_| wrong())?))
        }
        (ArrowType::Struct(_), DataType::Struct(wanted)) => {
            let whole = array.as_struct();
            let values = whole.columns().iter().zip(wanted).map(|(value, (_, to))| conform(value, to));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            let ArrowType::Struct(fields) = target else { return Err(wrong()) };
            let nulls = whole.nulls().cloned();
            Ok(Arc::new(StructArray::try_new(fields, values, nulls).map_err(|_| wrong())?))
        }
        _ => cast(array, &target),
    }
}

/// Whether values of an Arrow type are of the same nature as a type, so that a cast can only fail by
/// range, never invent.
fn readable(found: &ArrowType, to: &DataType) -> bool {
    use DataType as T;
    if matches!(found, ArrowType::Null) {
        return true;
    }
    let Some(natural) = from_arrow_type(found) else { return false };
    match (&natural, to) {
        (natural, to) if natural == to => true,
        (T::String, T::Json | T::Uuid) => true,
        (T::Uuid, T::Bytes) => true,
        (T::Bytes, T::Uuid) => {
            matches!(found, ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView)
        }
        (T::Float32, T::Float64) => true,
        (T::List(from), T::List(into)) => from == into || readable(&arrow_type(from), into),
        (T::Struct(from), T::Struct(into)) => {
            from.len() == into.len()
                && from.iter().zip(into).all(|((a, from), (b, into))| {
                    a == b && (from == into || readable(&arrow_type(from), into))
                })
        }
        (T::Decimal { .. }, T::Decimal { .. }) => true,
        (from, into) => is_integer(from) && is_integer(into),
    }
}

fn is_integer(of: &DataType) -> bool {
    use DataType as T;
    matches!(of, T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64)
}

/// 32 hexadecimal digits, with hyphens anywhere between them or none.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut digits = 0;
    for letter in text.bytes().filter(|b| *b != b'-') {
        let digit = char::from(letter).to_digit(16)?;
        let byte = bytes.get_mut(digits / 2)?;
        *byte = *byte << 4 | u8::try_from(digit).ok()?;
        digits += 1;
    }
    (digits == 32).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Decimal128Array, DictionaryArray, Int64Array, StringArray, StringViewArray, TimestampNanosecondArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Int8Type;

    #[test]
    fn every_type_comes_back() {
        for text in [
            "bool",
            "int8",
            "uint64",
            "float32",
            "float64",
            "decimal(10,2)",
            "string",
            "bytes",
            "date",
            "timestamp",
            "uuid",
            "list<int8>",
            "struct<a: list<string>, b: uuid>",
        ] {
            let kind = DataType::parse(text).unwrap();
            assert_eq!(from_arrow_type(&arrow_type(&kind)), Some(kind), "{text}");
        }
    }

    #[test]
    fn layouts_conform() {
        let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]));
        let dictionary: DictionaryArray<Int8Type> = vec![Some("a"), None, Some("b")].into_iter().collect();
        let view = StringViewArray::from(vec![Some("a"), None, Some("b")]);
        for other in [Arc::new(dictionary) as ArrayRef, Arc::new(view)] {
            assert_eq!(&conform(&other, &DataType::String).unwrap(), &words);
        }
        let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![-1, 1_999]));
        let micros = conform(&nanos, &DataType::Timestamp).unwrap();
        assert_eq!(micros.as_primitive::<TimestampMicrosecondType>().values().as_ref(), &[-1, 1]);
        let uuid: ArrayRef = Arc::new(StringArray::from(vec!["00000000-0000-0000-0000-0000000000ff"]));
        assert_eq!(conform(&uuid, &DataType::Uuid).unwrap().as_fixed_size_binary().value(0)[15], 255);
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![300]));
        assert!(matches!(conform(&wide, &DataType::Int8), Err(ComputeError::OutOfRange { .. })));
        // A decimal of another scale is the same number or none.
        let money = DataType::parse("decimal(10,2)").unwrap();
        for (value, scale, good) in
            [(10_050, 4, false), (10_000, 4, true), (15, 1, true), (-10_049, 4, false)]
        {
            let given =
                Decimal128Array::from(vec![Some(value), None]).with_precision_and_scale(12, scale).unwrap();
            let found = conform(&(Arc::new(given) as ArrayRef), &money);
            assert_eq!(found.is_ok(), good, "{value} / 10^{scale}: {found:?}");
        }
        // So within lists and structs, and nanoseconds are floored there too.
        let item = |kind: ArrowType| Arc::new(Field::new_list_field(kind, true));
        let nested = |values: ArrayRef| -> ArrayRef {
            let lengths = OffsetBuffer::from_lengths([values.len()]);
            Arc::new(ListArray::new(item(values.data_type().clone()), lengths, values, None))
        };
        let list = DataType::List(Box::new(DataType::Timestamp));
        let found = conform(&nested(Arc::clone(&nanos)), &list).unwrap();
        assert_eq!(found.as_list::<i32>().values(), &micros);
        let given = Decimal128Array::from(vec![10_050]).with_precision_and_scale(12, 4).unwrap();
        assert!(conform(&nested(Arc::new(given)), &DataType::List(Box::new(money))).is_err());
        let part = |value: ArrayRef| -> ArrayRef {
            Arc::new(StructArray::from(vec![(
                Arc::new(Field::new("a", value.data_type().clone(), true)),
                value,
            )]))
        };
        let found =
            conform(&part(nanos), &DataType::Struct(vec![("a".to_owned(), DataType::Timestamp)])).unwrap();
        assert_eq!(found.as_struct().column(0), &micros);
        assert!(matches!(conform(&words, &DataType::Int64), Err(ComputeError::WrongType { .. })));
        assert!(matches!(conform(&wide, &DataType::Timestamp), Err(ComputeError::WrongType { .. })));
    }
}
