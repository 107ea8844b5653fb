//! The types of files' columns as the model has them, and their values in those types.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, FixedSizeBinaryArray, GenericListArray, ListArray, StructArray,
    new_null_array,
};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Field, Float32Type, Float64Type, TimeUnit as ArrowUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use asof_compute::{arrow_type, from_arrow_type};
use asof_model::DataType;

use super::instants::{BadValue, OUTSIDE, instants, readable};

/// The model's type of a file's column; none where it has none (times of day, lengths of time, unions).
pub(crate) fn model_type(field: &Field) -> Option<DataType> {
    nested_type(field, 0)
}

/// How deep a type may nest ([`DataType::parse`]); the model has no type for what nests deeper.
const DEEPEST_TYPE: usize = 16;

fn nested_type(field: &Field, depth: usize) -> Option<DataType> {
    if depth > DEEPEST_TYPE {
        return None;
    }
    let extension = field.metadata().get("ARROW:extension:name").map(String::as_str);
    match (extension, field.data_type()) {
        (Some("arrow.uuid"), ArrowType::FixedSizeBinary(16)) => return Some(DataType::Uuid),
        (Some("arrow.json"), ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View) => {
            return Some(DataType::Json);
        }
        _ => {}
    }
    Some(match field.data_type() {
        ArrowType::Null => DataType::String,
        // Sixteen bytes are a uuid only where the file says so.
        ArrowType::FixedSizeBinary(_) => DataType::Bytes,
        ArrowType::RunEndEncoded(..) => return None,
        ArrowType::Dictionary(_, value) => {
            return nested_type(&Field::new(field.name(), value.as_ref().clone(), true), depth);
        }
        ArrowType::List(item)
        | ArrowType::LargeList(item)
        | ArrowType::ListView(item)
        | ArrowType::LargeListView(item)
        | ArrowType::FixedSizeList(item, _)
        | ArrowType::Map(item, _) => DataType::List(Box::new(nested_type(item, depth + 1)?)),
        ArrowType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| Some((field.name().clone(), nested_type(field, depth + 1)?)))
                .collect::<Option<Vec<_>>>()?,
        ),
        plain => return from_arrow_type(plain),
    })
}

/// Whether values of a file's type can be read as this type at all; single values may still not fit.
pub(crate) fn can_read(from: &ArrowType, to: &DataType) -> bool {
    match (from, to) {
        (ArrowType::Dictionary(_, value), to) => can_read(value, to),
        (ArrowType::Null, _) => true,
        (
            ArrowType::List(item)
            | ArrowType::LargeList(item)
            | ArrowType::ListView(item)
            | ArrowType::LargeListView(item)
            | ArrowType::FixedSizeList(item, _)
            | ArrowType::Map(item, _),
            DataType::List(to),
        ) => can_read(item.data_type(), to),
        (ArrowType::Struct(fields), DataType::Struct(wanted)) => wanted.iter().all(|(name, to)| {
            fields.iter().any(|field| field.name() == name && can_read(field.data_type(), to))
        }),
        (_, DataType::List(_) | DataType::Struct(_)) => false,
        (from, DataType::Timestamp) => readable(from, None, false).is_ok(),
        (from, DataType::Uuid) => {
            matches!(from, ArrowType::FixedSizeBinary(16) | ArrowType::Binary) || text(from)
        }
        (from, DataType::Json) => text(from),
        (from, DataType::Bytes) => {
            matches!(
                from,
                ArrowType::Binary
                    | ArrowType::LargeBinary
                    | ArrowType::BinaryView
                    | ArrowType::FixedSizeBinary(_)
            )
        }
        (ArrowType::Boolean, to) => matches!(to, DataType::Bool | DataType::String),
        (from, DataType::Bool) => text(from),
        (from, DataType::String) => {
            text(from) || from.is_numeric() || matches!(from, ArrowType::Date32 | ArrowType::Date64)
        }
        (ArrowType::Date32 | ArrowType::Date64 | ArrowType::Timestamp(..), to) => {
            matches!(to, DataType::Date)
        }
        (from, DataType::Date) => text(from),
        (from, to) => (from.is_numeric() || text(from)) && can_cast_types(from, &arrow_type(to)),
    }
}

fn text(kind: &ArrowType) -> bool {
    matches!(kind, ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View)
}

/// The values of a file's column in the model's type.
///
/// # Errors
/// [`BadValue`] at the first value that the type cannot hold exactly.
pub(crate) fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, BadValue> {
    let target = arrow_type(to);
    if *array.data_type() == target {
        return match to {
            DataType::Date => in_years(Arc::clone(array)),
            DataType::Timestamp => Ok(Arc::new(instants(array, None, None)?)),
            _ => Ok(Arc::clone(array)),
        };
    }
    let wrong = |row: usize| BadValue { row, reason: format!("is not a value of type {to}") };
    let first_wrong = |_| wrong(0);
    match (array.data_type(), to) {
        (ArrowType::Null, _) => Ok(new_null_array(&target, array.len())),
        (ArrowType::Dictionary(_, value), _) => {
            let plain = arrow::compute::cast(array, value).map_err(first_wrong)?;
            convert(&plain, to)
        }
        (_, DataType::Timestamp) => Ok(Arc::new(instants(array, None, None)?)),
        (ArrowType::Timestamp(..), DataType::Date) => {
            let micros = instants(array, None, None)?;
            Ok(Arc::new(micros.unary::<_, Date32Type>(|n| n.div_euclid(86_400_000_000) as i32)))
        }
        (_, DataType::Date) if text(array.data_type()) => dates(array),
        (_, DataType::Date) => in_years(cast_exactly(array, &target, to)?),
        (_, DataType::Uuid) if text(array.data_type()) => uuids(array),
        (ArrowType::Binary, DataType::Uuid) => {
            let out = arrow::compute::cast(array, &target).map_err(first_wrong)?;
            match (0..array.len()).find(|row| array.is_valid(*row) && out.is_null(*row)) {
                Some(row) => Err(wrong(row)),
                None => Ok(out),
            }
        }
        (_, DataType::Bool) if text(array.data_type()) => cast_exactly(array, &target, to),
        (_, DataType::List(item)) => list(array, item),
        (ArrowType::Struct(_), DataType::Struct(wanted)) => structure(array, wanted),
        _ => cast_exactly(array, &target, to),
    }
}

/// Dates, all of the years 0001 to 9999: no text has others.
fn in_years(dates: ArrayRef) -> Result<ArrayRef, BadValue> {
    /// Days since 1970 of 0001-01-01 and of 9999-12-31.
    const YEARS: std::ops::RangeInclusive<i32> = -719_162..=2_932_896;
    let days = dates.as_primitive::<Date32Type>();
    match (0..days.len()).find(|row| days.is_valid(*row) && !YEARS.contains(&days.value(*row))) {
        Some(row) => Err(BadValue { row, reason: OUTSIDE.to_owned() }),
        None => Ok(dates),
    }
}

/// Values whose floats have one form each: -0 is +0, every NaN the canonical one. Rows are told equal so
/// (`asof_compute::RowDigester`), and which of equal rows answers must not be seen in the answer.
pub(crate) fn canonical(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match array.data_type() {
        ArrowType::Float32 => {
            let floats = array.as_primitive::<Float32Type>();
            let form = |x: f32| if x.is_nan() { f32::NAN } else { x + 0.0 };
            if floats.values().iter().all(|x| form(*x).to_bits() == x.to_bits()) {
                return Ok(Arc::clone(array));
            }
            Arc::new(floats.unary::<_, Float32Type>(form))
        }
        ArrowType::Float64 => {
            let floats = array.as_primitive::<Float64Type>();
            let form = |x: f64| if x.is_nan() { f64::NAN } else { x + 0.0 };
            // Some at once: whether to go on is not asked after each.
            let formed =
                |some: &[f64]| some.iter().fold(true, |all, x| all & (form(*x).to_bits() == x.to_bits()));
            if floats.values().chunks(1_024).all(formed) {
                return Ok(Arc::clone(array));
            }
            Arc::new(floats.unary::<_, Float64Type>(form))
        }
        ArrowType::List(item) if has_floats(item.data_type()) => {
            let list = array.as_list::<i32>();
            let values = canonical(list.values())?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?)
        }
        ArrowType::Struct(fields) if has_floats(array.data_type()) => {
            let whole = array.as_struct();
            let values = whole.columns().iter().map(canonical).collect::<Result<_, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), values, whole.nulls().cloned())?)
        }
        _ => Arc::clone(array),
    })
}

fn has_floats(kind: &ArrowType) -> bool {
    match kind {
        ArrowType::Float32 | ArrowType::Float64 => true,
        ArrowType::List(item) => has_floats(item.data_type()),
        ArrowType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        _ => false,
    }
}

/// A cast that may not lose anything: a value that comes out null, or does not come back, is refused. Only
/// what is given as a decimal, a text with a point or an exponent, or a wider float is rounded to the
/// nearest float, as floats are, and that one is finite.
fn cast_exactly(array: &ArrayRef, target: &ArrowType, to: &DataType) -> Result<ArrayRef, BadValue> {
    let wrong = |row: usize| BadValue { row, reason: format!("is not a value of type {to}") };
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let out = cast_with_options(array, target, &options).map_err(|_| wrong(0))?;
    if out.null_count() > array.null_count()
        && let Some(row) = (0..array.len()).find(|row| array.is_valid(*row) && out.is_null(*row))
    {
        return Err(wrong(row));
    }
    let from = array.data_type();
    let narrowing = from.is_numeric()
        && target.is_numeric()
        && !target.is_floating()
        && (from.is_floating() || is_decimal(from) || is_decimal(target));
    // Digits of an integer past a float's are another number, and often another thing's.
    let widening = from.is_integer() && target.is_floating();
    let overflowing = (from.is_floating() || is_decimal(from)) && target.is_floating();
    if text(from)
        && target.is_floating()
        && let Some(row) = first_other(array, &out).map_err(|_| wrong(0))?
    {
        return Err(wrong(row));
    }
    if overflowing && let Some(row) = first_infinite(array, &out, &options).map_err(|_| wrong(0))? {
        return Err(wrong(row));
    }
    // Text beyond a decimal's scale would be rounded: both are compared with all 38 digits behind the point.
    let rounding = text(from) && is_decimal(target);
    if narrowing || rounding || widening {
        let wide = if rounding { &ArrowType::Decimal256(76, 38) } else { from };
        let given = cast_with_options(array, wide, &options).map_err(|_| wrong(0))?;
        let back = cast_with_options(&out, wide, &options).map_err(|_| wrong(0))?;
        let same = arrow::compute::kernels::cmp::not_distinct(&back, &given).map_err(|_| wrong(0))?;
        if let Some(row) = (0..same.len()).find(|row| !same.value(*row)) {
            return Err(wrong(row));
        }
    }
    Ok(out)
}

/// The first finite value that came out infinite.
fn first_infinite(
    given: &ArrayRef,
    out: &ArrayRef,
    options: &CastOptions<'_>,
) -> Result<Option<usize>, arrow::error::ArrowError> {
    let wide = |array: &ArrayRef| cast_with_options(array, &ArrowType::Float64, options);
    let (given, out) = (wide(given)?, wide(out)?);
    let (given, out) = (
        given.as_primitive::<arrow::datatypes::Float64Type>(),
        out.as_primitive::<arrow::datatypes::Float64Type>(),
    );
    Ok((0..out.len()).find(|row| out.value(*row).is_infinite() && !given.value(*row).is_infinite()))
}

/// The first text of a number that its float is not.
fn first_other(given: &ArrayRef, out: &ArrayRef) -> Result<Option<usize>, ArrowError> {
    let plain = arrow::compute::cast(given, &ArrowType::Utf8)?;
    let floats = arrow::compute::cast(out, &ArrowType::Float64)?;
    let (plain, floats) = (plain.as_string::<i32>(), floats.as_primitive::<Float64Type>());
    Ok((0..plain.len()).find(|row| plain.is_valid(*row) && is_another(plain.value(*row), floats.value(*row))))
}

/// Whether a text is a number that this float, the nearest to it, is not: digits of an integer are lost, or
/// it is past all floats.
pub(crate) fn is_another(text: &str, float: f64) -> bool {
    let text = text.trim();
    let digits = text.trim_start_matches(['+', '-']);
    if float.is_infinite() {
        return digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    }
    // Up to seven digits stand in any float.
    if digits.len() < 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let limit = 1e38;
    float.abs() >= limit || text.parse::<i128>().is_ok_and(|whole| float as i128 != whole)
}

fn is_decimal(kind: &ArrowType) -> bool {
    matches!(
        kind,
        ArrowType::Decimal32(..)
            | ArrowType::Decimal64(..)
            | ArrowType::Decimal128(..)
            | ArrowType::Decimal256(..)
    )
}

fn dates(array: &ArrayRef) -> Result<ArrayRef, BadValue> {
    let wrong = |row: usize| BadValue { row, reason: "is not a date as 2013-06-01".to_owned() };
    let plain = arrow::compute::cast(array, &ArrowType::Utf8).map_err(|_| wrong(0))?;
    let plain = plain.as_string::<i32>();
    let mut days = Vec::with_capacity(plain.len());
    for row in 0..plain.len() {
        days.push(match plain.is_valid(row) {
            true => Some(parse_date(plain.value(row)).ok_or_else(|| wrong(row))?),
            false => None,
        });
    }
    Ok(Arc::new(Date32Array::from(days)))
}

/// Days since 1970 of `2013-06-01`.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    if text.len() != 10 || !text.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    let since = date - jiff::civil::date(1970, 1, 1);
    (date.year() >= 1).then_some(since.get_days())
}

fn uuids(array: &ArrayRef) -> Result<ArrayRef, BadValue> {
    let wrong = |row: usize| BadValue { row, reason: "is not a uuid".to_owned() };
    let plain = arrow::compute::cast(array, &ArrowType::Utf8).map_err(|_| wrong(0))?;
    let plain = plain.as_string::<i32>();
    let mut out = Vec::with_capacity(plain.len());
    for row in 0..plain.len() {
        out.push(match plain.is_valid(row) {
            true => Some(parse_uuid(plain.value(row)).ok_or_else(|| wrong(row))?),
            false => None,
        });
    }
    let out =
        FixedSizeBinaryArray::try_from_sparse_iter_with_size(out.into_iter(), 16).map_err(|_| wrong(0))?;
    Ok(Arc::new(out))
}

/// The 16 bytes of `123e4567-e89b-12d3-a456-426614174000`, hyphens optional.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let hyphens = |at: &usize| matches!(at, 8 | 13 | 18 | 23);
    let digits: Vec<u8> = match bytes.len() {
        32 => bytes.to_vec(),
        36 if (0..36).all(|at| hyphens(&at) == (bytes[at] == b'-')) => {
            bytes.iter().copied().filter(|b| *b != b'-').collect()
        }
        _ => return None,
    };
    let mut out = [0; 16];
    for (at, pair) in digits.chunks(2).enumerate() {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(*pair.get(1)?).to_digit(16)?;
        out[at] = (high * 16 + low) as u8;
    }
    Some(out)
}

fn list(array: &ArrayRef, item: &DataType) -> Result<ArrayRef, BadValue> {
    let wrong = |_| BadValue { row: 0, reason: format!("is not a value of type list<{item}>") };
    let field = Arc::new(Field::new_list_field(arrow_type(item), true));
    let plain: ListArray = match array.data_type() {
        ArrowType::List(_) => array.as_list::<i32>().clone(),
        ArrowType::Map(entries, _) => {
            let map = array.as_map();
            ListArray::try_new(
                Arc::clone(entries),
                map.offsets().clone(),
                Arc::new(map.entries().clone()),
                map.nulls().cloned(),
            )
            .map_err(wrong)?
        }
        ArrowType::LargeList(inner)
        | ArrowType::FixedSizeList(inner, _)
        | ArrowType::ListView(inner)
        | ArrowType::LargeListView(inner) => {
            let target = ArrowType::List(Arc::clone(inner));
            arrow::compute::cast(array, &target).map_err(wrong)?.as_list::<i32>().clone()
        }
        _ => return Err(BadValue { row: 0, reason: format!("is not a value of type list<{item}>") }),
    };
    let values = convert(plain.values(), item).map_err(|bad| {
        let offsets = plain.value_offsets();
        let row = (0..plain.len()).find(|row| (bad.row as i32) < offsets[*row + 1]).unwrap_or(0);
        BadValue { row, reason: bad.reason }
    })?;
    let out =
        GenericListArray::<i32>::try_new(field, plain.offsets().clone(), values, plain.nulls().cloned());
    Ok(Arc::new(out.map_err(wrong)?))
}

fn structure(array: &ArrayRef, wanted: &[(String, DataType)]) -> Result<ArrayRef, BadValue> {
    let wrong = || BadValue { row: 0, reason: "lacks a field of its struct".to_owned() };
    let whole = array.as_struct();
    let mut fields = Vec::with_capacity(wanted.len());
    let mut values = Vec::with_capacity(wanted.len());
    for (name, to) in wanted {
        let value = whole.column_by_name(name).ok_or_else(wrong)?;
        fields.push(Field::new(name, arrow_type(to), true));
        values.push(convert(value, to)?);
    }
    let out = StructArray::try_new(fields.into(), values, whole.nulls().cloned()).map_err(|_| wrong())?;
    Ok(Arc::new(out))
}

/// The field that a source's column has in every scan.
pub(crate) fn field(name: &str, kind: &DataType) -> Field {
    Field::new(name, arrow_type(kind), true)
}

/// Whether this is the type of instants.
pub(crate) fn is_instant(kind: &ArrowType) -> bool {
    matches!(kind, ArrowType::Timestamp(ArrowUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC")
}

/// Instants of an array of that type, for callers that know it is.
pub(crate) fn as_instants(array: &ArrayRef) -> &arrow::array::TimestampMicrosecondArray {
    array.as_primitive::<TimestampMicrosecondType>()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date64Array, Float32Array, Float64Array, Int64Array, StringArray, UInt64Array};

    use super::*;

    #[test]
    fn a_number_is_another_type_only_where_it_stays_the_same_number() {
        let ints = |n: i64| Arc::new(Int64Array::from(vec![Some(1), None, Some(n)])) as ArrayRef;
        let floats = |n: f64| Arc::new(Float64Array::from(vec![Some(1.0), None, Some(n)])) as ArrayRef;
        let days = |n: i32| Arc::new(Date32Array::from(vec![Some(1), None, Some(n)])) as ArrayRef;
        let cases: Vec<(ArrayRef, &str, Option<&str>)> = vec![
            (ints(1 << 53), "float64", None),
            (ints((1 << 53) + 1), "float64", Some("is not a value of type float64")),
            (ints(i64::MAX), "float64", Some("is not a value of type float64")),
            (ints(i64::MIN), "float64", None),
            (ints(1 << 24), "float32", None),
            (ints((1 << 24) + 1), "float32", Some("is not a value of type float32")),
            (
                Arc::new(UInt64Array::from(vec![Some(1), None, Some(u64::MAX)])),
                "float64",
                Some("is not a value of type float64"),
            ),
            (floats(0.1), "float32", None),
            (floats(1e300), "float32", Some("is not a value of type float32")),
            (floats(f64::INFINITY), "float32", None),
            (floats(f64::NAN), "float32", None),
            (Arc::new(Float32Array::from(vec![1.0, f32::MAX])), "float64", None),
            (floats(1.5), "int64", Some("is not a value of type int64")),
            (days(-719_162), "date", None),
            (days(2_932_896), "date", None),
            (days(-719_163), "date", Some("is outside the years 0001 to 9999")),
            (days(i32::MAX), "date", Some("is outside the years 0001 to 9999")),
            (
                Arc::new(Date64Array::from(vec![Some(0), None, Some(253_402_300_800_000)])),
                "date",
                Some("is outside the years 0001 to 9999"),
            ),
        ];
        let texts = |text: &str| Arc::new(StringArray::from(vec![Some("1"), None, Some(text)])) as ArrayRef;
        let mut cases = cases;
        for (text, to, fits) in [
            ("1e300", "float64", true),
            ("1e300", "float32", false),
            ("-1e39", "float32", false),
            ("3.4e38", "float32", true),
            ("1e309", "float64", false),
            (".1e400", "float64", false),
            ("inf", "float32", true),
            ("-Infinity", "float64", true),
            ("nan", "float32", true),
            ("0.1", "float32", true),
            ("16777216", "float32", true),
            ("16777217", "float32", false),
            ("9007199254740992", "float64", true),
            ("9007199254740993", "float64", false),
            ("-9007199254740993", "float64", false),
            ("9007199254740993.5", "float64", true),
            ("100000000000000000000", "float64", true),
            ("100000000000000000001", "float64", false),
            ("170141183460469231731687303715884105727", "float64", false),
        ] {
            let refused = if to == "float64" {
                "is not a value of type float64"
            } else {
                "is not a value of type float32"
            };
            cases.push((texts(text), to, (!fits).then_some(refused)));
        }
        for (array, to, expected) in cases {
            let converted = convert(&array, &DataType::parse(to).unwrap());
            let refused = converted.map(|_| ()).map_err(|bad| (bad.row, bad.reason));
            let expected = expected.map_or(Ok(()), |reason| Err((2, reason.to_owned())));
            assert_eq!(refused, expected, "{array:?} as {to}");
        }
    }
}
