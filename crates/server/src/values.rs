//! Writes columns of features as JSON, by hand: this is the one answer that is asked for a hundred
//! thousand times a second. Integers keep all their digits, floats are the shortest text that reads back
//! as the same number, and what JSON has no number for is a string.

use std::io::Write as _;

use arrow::array::ArrayRef;
use arrow::datatypes::{Decimal128Type, DecimalType as _};
use asof_compute::{RowLayout, RowValue, arrow_type, conform};
use asof_model::{DataType, Timestamp, special_float};
use base64::Engine as _;

/// How integers of 64 bits are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ints {
    /// As JSON numbers with all their digits.
    #[default]
    Number,
    /// As strings, for languages whose numbers are floats.
    String,
}

/// A value that is not of the type it should be of.
#[derive(Debug)]
pub(crate) struct Unwritable;

/// Writes `[v, v, ...]`.
///
/// # Errors
/// [`Unwritable`], and whatever `values` gives.
pub(crate) fn write_list<'a, E: From<Unwritable>>(
    out: &mut Vec<u8>,
    data_type: &DataType,
    values: impl Iterator<Item = Result<Option<RowValue<'a>>, E>>,
    ints: Ints,
) -> Result<(), E> {
    out.push(b'[');
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_value(out, data_type, value?, ints)?;
    }
    out.push(b']');
    Ok(())
}

/// Writes the values of an array, of whatever layout it is.
///
/// # Errors
/// [`Unwritable`] where its values are not of the type.
pub(crate) fn write_array(
    out: &mut Vec<u8>,
    data_type: &DataType,
    array: &ArrayRef,
    ints: Ints,
) -> Result<(), Unwritable> {
    let columns = [conform(array, data_type).map_err(|_| Unwritable)?];
    let layout = RowLayout::new(&[arrow_type(data_type)]).map_err(|_| Unwritable)?;
    let encoder = layout.encoder(&columns).map_err(|_| Unwritable)?;
    let mut rows = vec![Vec::new(); encoder.rows()];
    for (at, row) in rows.iter_mut().enumerate() {
        encoder.encode(at, row).map_err(|_| Unwritable)?;
    }
    let value = |row| layout.value(0, row).map_err(|_| Unwritable);
    let values = rows.iter().map(|row| {
        layout.bytes(row, 0).map_err(|_| Unwritable).and_then(|bytes| bytes.map(value).transpose())
    });
    write_list(out, data_type, values, ints)
}

/// Writes one value, or null.
fn write_value(
    out: &mut Vec<u8>,
    data_type: &DataType,
    value: Option<RowValue<'_>>,
    ints: Ints,
) -> Result<(), Unwritable> {
    let quoted = ints == Ints::String;
    macro_rules! number {
        ($kind:ty, $bytes:expr) => {
            number(out, <$kind>::from_le_bytes(exactly($bytes)?))
        };
    }
    match (data_type, value) {
        (_, None) => out.extend_from_slice(b"null"),
        (DataType::Bool, Some(RowValue::Bool(value))) => {
            out.extend_from_slice(if value { b"true" } else { b"false" });
        }
        (DataType::Float64, Some(RowValue::Fixed(bytes))) => {
            let value = f64::from_le_bytes(exactly(bytes)?);
            if !special(out, value) {
                number(out, value);
            }
        }
        (DataType::Float32, Some(RowValue::Fixed(bytes))) => {
            let value = f32::from_le_bytes(exactly(bytes)?);
            if !special(out, f64::from(value)) {
                number(out, value);
            }
        }
        (DataType::Int64, Some(RowValue::Fixed(bytes))) if quoted => {
            quoted_number(out, i64::from_le_bytes(exactly(bytes)?));
        }
        (DataType::UInt64, Some(RowValue::Fixed(bytes))) if quoted => {
            quoted_number(out, u64::from_le_bytes(exactly(bytes)?));
        }
        (DataType::Int8, Some(RowValue::Fixed(bytes))) => number!(i8, bytes),
        (DataType::Int16, Some(RowValue::Fixed(bytes))) => number!(i16, bytes),
        (DataType::Int32, Some(RowValue::Fixed(bytes))) => number!(i32, bytes),
        (DataType::Int64, Some(RowValue::Fixed(bytes))) => number!(i64, bytes),
        (DataType::UInt8, Some(RowValue::Fixed(bytes))) => number!(u8, bytes),
        (DataType::UInt16, Some(RowValue::Fixed(bytes))) => number!(u16, bytes),
        (DataType::UInt32, Some(RowValue::Fixed(bytes))) => number!(u32, bytes),
        (DataType::UInt64, Some(RowValue::Fixed(bytes))) => number!(u64, bytes),
        (DataType::Decimal { precision, scale }, Some(RowValue::Fixed(bytes))) => {
            let value = i128::from_le_bytes(exactly(bytes)?);
            text(out, &Decimal128Type::format_decimal(value, *precision, *scale));
        }
        (DataType::String | DataType::Json, Some(RowValue::Bytes(bytes))) => {
            text(out, std::str::from_utf8(bytes).map_err(|_| Unwritable)?);
        }
        (DataType::Bytes, Some(RowValue::Bytes(bytes))) => base64_text(out, bytes),
        (DataType::Date, Some(RowValue::Fixed(bytes))) => date(out, i32::from_le_bytes(exactly(bytes)?)),
        (DataType::Timestamp, Some(RowValue::Fixed(bytes))) => {
            time(out, i64::from_le_bytes(exactly(bytes)?));
        }
        (DataType::Uuid, Some(RowValue::Fixed(bytes))) => uuid(out, bytes),
        (DataType::List(item), Some(RowValue::List(items))) => {
            let items = (0..items.len()).map(|at| items.get(at).map_err(|_| Unwritable));
            write_list(out, item, items, ints)?;
        }
        (DataType::Struct(fields), Some(RowValue::Struct(found))) => {
            out.push(b'{');
            for (at, (name, data_type)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                text(out, name);
                out.push(b':');
                write_value(out, data_type, found.get(at).map_err(|_| Unwritable)?, ints)?;
            }
            out.push(b'}');
        }
        _ => return Err(Unwritable),
    }
    Ok(())
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Unwritable> {
    bytes.try_into().map_err(|_| Unwritable)
}

/// Writes a JSON number; writing to a `Vec` and finite numbers cannot fail.
fn number<T: serde::Serialize>(out: &mut Vec<u8>, value: T) {
    let _ = serde_json::to_writer(out, &value);
}

fn quoted_number<T: serde::Serialize>(out: &mut Vec<u8>, value: T) {
    out.push(b'"');
    number(out, value);
    out.push(b'"');
}

/// Writes a float that JSON has no number for.
fn special(out: &mut Vec<u8>, value: f64) -> bool {
    let Some(special) = special_float(value) else { return false };
    text(out, special);
    true
}

/// Writes a JSON string.
pub(crate) fn text(out: &mut Vec<u8>, value: &str) {
    let _ = serde_json::to_writer(out, value);
}

fn base64_text(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(value).as_bytes());
    out.push(b'"');
}

/// Writes an instant as RFC 3339 with microseconds.
pub(crate) fn time(out: &mut Vec<u8>, micros: i64) {
    let _ = write!(out, "\"{}\"", Timestamp(micros));
}

/// Writes a date as ISO 8601 has it: beyond the years 0000 to 9999 with a sign.
fn date(out: &mut Vec<u8>, days: i32) {
    // Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days: years begin with
    // March, eras are of 400 years.
    let days = i64::from(days) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let sign = if (0..=9999).contains(&year) {
        ""
    } else if year < 0 {
        "-"
    } else {
        "+"
    };
    let _ = write!(out, "\"{sign}{:04}-{month:02}-{day:02}\"", year.abs());
}

fn uuid(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::*;
    use arrow::datatypes::{DataType as Arrow, Field, Int32Type};

    #[test]
    fn every_type_is_written_exactly() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(Vec::new()),
        ]);
        let of_struct = StructArray::from(vec![
            (
                Arc::new(Field::new("a", Arrow::Int64, true)),
                Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef,
            ),
            (
                Arc::new(Field::new("b", Arrow::Utf8, true)),
                Arc::new(StringArray::from(vec![Some("x"), Some("y\"")])) as ArrayRef,
            ),
        ]);
        let decimal =
            Decimal128Array::from(vec![Some(-1), Some(12_345), None]).with_precision_and_scale(5, 2).unwrap();
        let time = TimestampMicrosecondArray::from(vec![Some(-1), Some(1_370_088_000_000_000), None])
            .with_timezone("UTC");
        let uuid = FixedSizeBinaryArray::try_from_iter([[255_u8; 16]].into_iter()).unwrap();
        let cases: Vec<(&str, ArrayRef, &str)> = vec![
            (
                "int64",
                Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(i64::MIN), None])),
                "[9223372036854775807,-9223372036854775808,null]",
            ),
            ("uint64", Arc::new(UInt64Array::from(vec![u64::MAX])), "[18446744073709551615]"),
            ("int8", Arc::new(Int8Array::from(vec![-128])), "[-128]"),
            ("bool", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), "[true,null,false]"),
            (
                "float64",
                Arc::new(Float64Array::from(vec![
                    0.1,
                    1.0,
                    -0.0,
                    f64::NAN,
                    f64::INFINITY,
                    f64::NEG_INFINITY,
                    1e300,
                    5e-324,
                ])),
                "[0.1,1.0,-0.0,\"NaN\",\"Infinity\",\"-Infinity\",1e+300,5e-324]",
            ),
            ("float32", Arc::new(Float32Array::from(vec![0.1, f32::MAX])), "[0.1,3.4028235e+38]"),
            ("string", Arc::new(StringArray::from(vec!["é\n\u{1}", "\\"])), "[\"é\\n\\u0001\",\"\\\\\"]"),
            ("string", Arc::new(StringViewArray::from(vec![Some("a"), None])), "[\"a\",null]"),
            ("json", Arc::new(StringArray::from(vec!["{\"a\": 1}"])), "[\"{\\\"a\\\": 1}\"]"),
            ("bytes", Arc::new(BinaryArray::from(vec![b"hi".as_slice()])), "[\"aGk=\"]"),
            (
                "date",
                Arc::new(Date32Array::from(vec![0, -1, 15_857, 11_016, -719_162, 2_932_896])),
                "[\"1970-01-01\",\"1969-12-31\",\"2013-06-01\",\"2000-02-29\",\"0001-01-01\",\"9999-12-31\"]",
            ),
            (
                "date",
                Arc::new(Date32Array::from(vec![2_932_897, -719_529, i32::MAX, i32::MIN])),
                "[\"+10000-01-01\",\"-0001-12-31\",\"+5881580-07-11\",\"-5877641-06-23\"]",
            ),
            (
                "timestamp",
                Arc::new(time),
                "[\"1969-12-31T23:59:59.999999Z\",\"2013-06-01T12:00:00.000000Z\",null]",
            ),
            ("decimal(5,2)", Arc::new(decimal), "[\"-0.01\",\"123.45\",null]"),
            ("uuid", Arc::new(uuid), "[\"ffffffff-ffff-ffff-ffff-ffffffffffff\"]"),
            ("list<int32>", Arc::new(list), "[[1,null],null,[]]"),
            (
                "struct<a: int64, b: string>",
                Arc::new(of_struct),
                "[{\"a\":1,\"b\":\"x\"},{\"a\":null,\"b\":\"y\\\"\"}]",
            ),
        ];
        for (data_type, array, expected) in cases {
            let mut out = Vec::new();
            write_array(&mut out, &DataType::parse(data_type).unwrap(), &array, Ints::Number).unwrap();
            let written = String::from_utf8(out).unwrap();
            assert_eq!(written, expected, "{data_type}");
            serde_json::from_str::<serde_json::Value>(&written).unwrap();
        }
    }

    #[test]
    fn integers_of_64_bits_may_be_strings() {
        let mut out = Vec::new();
        let array = Int64Array::from(vec![Some(9_007_199_254_740_993), None]);
        write_array(&mut out, &DataType::Int64, &(Arc::new(array) as ArrayRef), Ints::String).unwrap();
        assert_eq!(out, br#"["9007199254740993",null]"#);
        out.clear();
        let seven: ArrayRef = Arc::new(Int32Array::from(vec![7]));
        write_array(&mut out, &DataType::Int32, &seven, Ints::String).unwrap();
        assert_eq!(out, b"[7]");
        assert!(write_array(&mut out, &DataType::Bool, &seven, Ints::Number).is_err());
    }

    #[test]
    fn floats_read_back_as_the_same_number() {
        let mut state: u64 = 7;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = f64::from_bits(state);
            if value.is_finite() {
                let mut out = Vec::new();
                write_array(
                    &mut out,
                    &DataType::Float64,
                    &(Arc::new(Float64Array::from(vec![value])) as ArrayRef),
                    Ints::Number,
                )
                .unwrap();
                let read: f64 = std::str::from_utf8(&out[1..out.len() - 1]).unwrap().parse().unwrap();
                assert_eq!(read.to_bits(), value.to_bits());
            }
        }
    }
}
