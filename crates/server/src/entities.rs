//! Reads the `entities` of a request into typed key columns, and its `request` into what derived features read, strictly: a value is what its column's type says
//! or the whole request is refused. The text of an error says where, never the value.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, FixedSizeBinaryBuilder,
    Float32Builder, Float64Builder, ListArray, PrimitiveBuilder, StringBuilder, StructArray,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, Field, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use asof_compute::arrow_type;
use asof_model::{DataType, Timestamp, nearest};
use base64::Engine as _;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::Failure;

/// The object as it stands in the text: names in order, each with its text.
#[derive(Debug)]
pub(crate) struct RawColumns<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawColumns<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawColumns<'a>, D::Error> {
        struct Columns;
        impl<'de> Visitor<'de> for Columns {
            type Value = RawColumns<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns, e.g. {\"key\": [1, 2]}")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawColumns<'de>, A::Error> {
                let mut columns: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    let value = map.next_value()?;
                    if columns.iter().any(|(other, _)| *other == name) {
                        return Err(serde::de::Error::custom(format_args!("`{name}` stands twice")));
                    }
                    columns.push((name, value));
                }
                Ok(RawColumns(columns))
            }
        }
        deserializer.deserialize_map(Columns)
    }
}

/// A text borrowed from the request where it has no escapes.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// A key that the request must bring, with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) data_type: &'a DataType,
}

/// Reads the columns, in the order of `wanted`; all of one length, 1 to `most`.
///
/// # Errors
/// A column missing or too many, lengths that differ, or a value that is not of its key's type.
pub(crate) fn read(
    given: &RawColumns<'_>,
    wanted: &[Wanted<'_>],
    asked: &str,
    most: usize,
) -> Result<(Vec<ArrayRef>, usize), Failure> {
    for (name, _) in &given.0 {
        if !wanted.iter().any(|key| key.name == name) {
            return Err(extra(name, wanted, asked));
        }
    }
    let mut length: Option<(usize, &str)> = None;
    let mut arrays = Vec::with_capacity(wanted.len());
    for key in wanted {
        let Some((_, text)) = given.0.iter().find(|(name, _)| name == key.name) else {
            return Err(Failure::invalid(
                "missing_key",
                format!("`entities` has no column `{}` ({}), which {asked} needs", key.name, key.data_type),
            )
            .hint(format!("{asked} takes {}", listed(wanted))));
        };
        let values: Vec<&RawValue> = serde_json::from_str(text.get()).map_err(|_| {
            Failure::invalid(
                "bad_key_column",
                format!("`entities.{}` is {}, not a list of values", key.name, json_kind(text.get())),
            )
            .hint(format!("write \"{}\": [VALUE]", key.name))
        })?;
        match length {
            None if values.is_empty() => {
                return Err(Failure::invalid("no_entities", format!("`entities.{}` is empty", key.name))
                    .hint("ask for at least one entity"));
            }
            None if values.len() > most => {
                return Err(Failure::invalid(
                    "too_many_entities",
                    format!("`entities.{}` has {} values; the limit is {most}", key.name, values.len()),
                )
                .hint("split the request, or use `asof train` for many rows"));
            }
            None => length = Some((values.len(), key.name)),
            Some((expected, first)) if expected != values.len() => {
                return Err(Failure::invalid(
                    "unequal_lengths",
                    format!(
                        "the columns of `entities` differ in length: `{first}` has {expected} values, `{}` has {}",
                        key.name,
                        values.len()
                    ),
                )
                .hint("every column has one value per entity asked for"));
            }
            Some(_) => {}
        }
        let place = |index: usize, wrong: Wrong| {
            let message = format!(
                "`entities.{}[{index}]` is {wrong}; the key `{}` is {}",
                key.name, key.name, key.data_type
            );
            Failure::invalid("bad_key_value", message).hint(form(key.data_type))
        };
        arrays.push(column(key.data_type, &values, &place)?);
    }
    Ok((arrays, length.map_or(0, |(length, _)| length)))
}

/// Reads what a request brings for derived features, in the order of `wanted`; as many values each as there are
/// entities, or, where none are asked for, 1 to `most`.
///
/// # Errors
/// A column missing or too many, another number of values, or one that is not of its column's type.
pub(crate) fn read_request(
    given: Option<&RawColumns<'_>>,
    wanted: &[Wanted<'_>],
    keys: &[Wanted<'_>],
    asked: &str,
    rows: Option<usize>,
    most: usize,
) -> Result<(Vec<ArrayRef>, Option<usize>), Failure> {
    let given = given.map(|columns| columns.0.as_slice()).unwrap_or_default();
    for (name, _) in given {
        if wanted.iter().any(|column| column.name == name) {
            continue;
        }
        let message = format!("`request` has a column `{name}`, which no feature of {asked} reads");
        let failure = Failure::invalid("unknown_request_column", message);
        let near = nearest(name, wanted.iter().map(|column| column.name));
        return Err(match near {
            _ if keys.iter().any(|key| key.name == name) => {
                failure.hint(format!("`{name}` is a key: it stands in `entities`"))
            }
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None if wanted.is_empty() => failure.hint("leave `request` out: nothing asked for reads any"),
            None => failure.hint(format!("{asked} takes {}", listed(wanted))),
        });
    }
    let mut rows = rows;
    let mut arrays = Vec::with_capacity(wanted.len());
    for Wanted { name, data_type } in wanted {
        let Some((_, text)) = given.iter().find(|(other, _)| other == name) else {
            let message = format!(
                "`request` has no column `{name}` ({data_type}), which {asked} needs for derived features"
            );
            return Err(Failure::invalid("missing_request_column", message)
                .hint(format!("add \"request\": {{\"{name}\": [VALUE]}}, one value per entity")));
        };
        let values: Vec<&RawValue> = serde_json::from_str(text.get()).map_err(|_| {
            let message = format!("`request.{name}` is {}, not a list of values", json_kind(text.get()));
            Failure::invalid("bad_request_value", message).hint(format!("write \"{name}\": [VALUE]"))
        })?;
        let expected = *rows.get_or_insert(values.len());
        if values.len() != expected {
            let message =
                format!("`request.{name}` has {} values, not one for each entity ({expected})", values.len());
            return Err(
                Failure::invalid("unequal_lengths", message).hint("every column has one value per entity")
            );
        }
        if expected == 0 || expected > most {
            let message = format!("`request.{name}` has {expected} values; 1 to {most} are answered at once");
            return Err(Failure::invalid("too_many_entities", message).hint("split the request"));
        }
        let place = |index: usize, wrong: Wrong| {
            let message = format!("`request.{name}[{index}]` is {wrong}; `{name}` is {data_type}");
            Failure::invalid("bad_request_value", message).hint(form(data_type))
        };
        arrays.push(column(data_type, &values, &place)?);
    }
    Ok((arrays, rows))
}

fn extra(name: &str, wanted: &[Wanted<'_>], asked: &str) -> Failure {
    let failure = Failure::invalid(
        "unknown_key",
        format!("`entities` has a column `{name}`, which is no key of {asked}"),
    );
    let near = nearest(name, wanted.iter().map(|key| key.name));
    match near {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint(format!("{asked} takes {}", listed(wanted))),
    }
}

fn listed(wanted: &[Wanted<'_>]) -> String {
    let keys: Vec<String> = wanted.iter().map(|key| format!("`{}` ({})", key.name, key.data_type)).collect();
    keys.join(", ")
}

/// What a JSON text is, for people.
pub(crate) fn json_kind(text: &str) -> &'static str {
    match text.trim_start().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(_) if text.contains(['.', 'e', 'E']) => "a number with a fraction or exponent",
        _ => "a whole number",
    }
}

/// Why one value is not of its type: what it is instead, or what is wrong with it.
type Wrong = Cow<'static, str>;

/// How a wrong value is told, by its place in the column.
type Place<'a> = &'a dyn Fn(usize, Wrong) -> Failure;

fn column(data_type: &DataType, values: &[&RawValue], place: Place<'_>) -> Result<ArrayRef, Failure> {
    macro_rules! each {
        ($builder:expr, $read:expr) => {{
            let mut builder = $builder;
            for (index, value) in values.iter().enumerate() {
                let text = value.get();
                if text == "null" {
                    builder.append_null();
                } else {
                    builder.append_value($read(text).map_err(|wrong| place(index, wrong))?);
                }
            }
            Arc::new(builder.finish()) as ArrayRef
        }};
    }
    let count = values.len();
    Ok(match data_type {
        DataType::Bool => each!(BooleanBuilder::with_capacity(count), |text: &str| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(Wrong::from(json_kind(other))),
        }),
        DataType::Int8 => integers::<Int8Type>(values, place)?,
        DataType::Int16 => integers::<Int16Type>(values, place)?,
        DataType::Int32 => integers::<Int32Type>(values, place)?,
        DataType::Int64 => integers::<Int64Type>(values, place)?,
        DataType::UInt8 => integers::<UInt8Type>(values, place)?,
        DataType::UInt16 => integers::<UInt16Type>(values, place)?,
        DataType::UInt32 => integers::<UInt32Type>(values, place)?,
        DataType::UInt64 => integers::<UInt64Type>(values, place)?,
        DataType::Decimal { precision, scale } => {
            let builder = Decimal128Builder::with_capacity(count)
                .with_precision_and_scale(*precision, *scale)
                .map_err(|error| place(0, error.to_string().into()))?;
            each!(builder, |text: &str| decimal(text, *precision, *scale))
        }
        DataType::String => each!(StringBuilder::with_capacity(count, 16 * count), string),
        DataType::Bytes => each!(BinaryBuilder::new(), |text: &str| {
            base64::engine::general_purpose::STANDARD
                .decode(string(text)?.as_bytes())
                .map_err(|_| Wrong::from("a string that is not base64"))
        }),
        DataType::Date => each!(Date32Builder::with_capacity(count), |text: &str| {
            let text = string(text)?;
            let wrong = || Wrong::from("a string that is no date");
            if text.len() != 10 {
                return Err(wrong());
            }
            let instant = Timestamp::parse(&text).map_err(|_| wrong())?;
            i32::try_from(instant.0.div_euclid(86_400_000_000)).map_err(|_| wrong())
        }),
        DataType::Timestamp => {
            each!(TimestampMicrosecondBuilder::with_capacity(count).with_timezone("UTC"), |text: &str| {
                let instant = Timestamp::parse(&string(text)?);
                instant.map(|instant| instant.0).map_err(|_| Wrong::from("a string that is no time"))
            })
        }
        DataType::Uuid => {
            let mut builder = FixedSizeBinaryBuilder::with_capacity(count, 16);
            for (index, value) in values.iter().enumerate() {
                if value.get() == "null" {
                    builder.append_null();
                } else {
                    let bytes = uuid(value.get()).map_err(|wrong| place(index, wrong))?;
                    builder.append_value(bytes).map_err(|error| place(index, error.to_string().into()))?;
                }
            }
            Arc::new(builder.finish())
        }
        DataType::Float32 => each!(Float32Builder::with_capacity(count), float::<f32>),
        DataType::Float64 => each!(Float64Builder::with_capacity(count), float::<f64>),
        DataType::Json => each!(StringBuilder::with_capacity(count, 16 * count), json),
        DataType::List(item) => {
            let (mut items, mut owners, mut lengths) = (Vec::new(), Vec::new(), Vec::with_capacity(count));
            for (index, value) in values.iter().enumerate() {
                let before = items.len();
                if value.get() != "null" {
                    let found: Vec<&RawValue> = serde_json::from_str(value.get())
                        .map_err(|_| place(index, json_kind(value.get()).into()))?;
                    items.extend(found);
                }
                owners.resize(items.len(), index);
                lengths.push(items.len() - before);
            }
            let values_of = |at: usize, wrong: Wrong| {
                place(owners.get(at).copied().unwrap_or_default(), format!("a list with {wrong}").into())
            };
            let child = column(item, &items, &values_of)?;
            let field = Arc::new(Field::new_list_field(arrow_type(item), true));
            let list = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), child, nulls(values));
            Arc::new(list.map_err(|error| place(0, error.to_string().into()))?)
        }
        DataType::Struct(fields) => {
            let mut objects: Vec<Option<RawColumns<'_>>> = Vec::with_capacity(count);
            for (index, value) in values.iter().enumerate() {
                let object =
                    (value.get() != "null").then(|| serde_json::from_str::<RawColumns<'_>>(value.get()));
                let object = object.transpose().map_err(|_| place(index, json_kind(value.get()).into()))?;
                let known = |name: &str| fields.iter().any(|(field, _)| field == name);
                if object.iter().flat_map(|it| &it.0).any(|(name, _)| !known(name)) {
                    return Err(place(index, "an object with a field that the type does not have".into()));
                }
                objects.push(object);
            }
            let mut children = Vec::with_capacity(fields.len());
            for (name, data_type) in fields {
                let of = |object: &Option<RawColumns<'_>>| -> Option<String> {
                    let found = object.as_ref()?.0.iter().find(|(field, _)| field == name);
                    found.map(|(_, value)| value.get().to_owned())
                };
                let texts: Vec<String> =
                    objects.iter().map(|it| of(it).unwrap_or_else(|| "null".to_owned())).collect();
                let raw: Vec<&RawValue> = texts
                    .iter()
                    .map(|text| serde_json::from_str(text))
                    .collect::<Result<_, _>>()
                    .map_err(|_| place(0, "no JSON".into()))?;
                let of_field = |at: usize, wrong: Wrong| {
                    place(at, format!("an object whose `{name}` is {wrong}").into())
                };
                children.push(column(data_type, &raw, &of_field)?);
            }
            let kinds = fields.iter().map(|(name, kind)| Field::new(name, arrow_type(kind), true));
            let made = StructArray::try_new_with_length(kinds.collect(), children, nulls(values), count);
            Arc::new(made.map_err(|error| place(0, error.to_string().into()))?)
        }
    })
}

/// Which values are null.
fn nulls(values: &[&RawValue]) -> Option<NullBuffer> {
    Some(values.iter().map(|value| value.get() != "null").collect())
}

/// A float as a JSON number, or as a string: what JSON has no number for is one, and so is each word of a command line.
fn float<T: std::str::FromStr + Into<f64> + Copy>(text: &str) -> Result<T, Wrong> {
    let quoted = text.starts_with('"');
    let digits = if quoted { string(text)? } else { Cow::Borrowed(text) };
    let special = quoted && matches!(&*digits, "NaN" | "Infinity" | "-Infinity");
    let number = digits.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
        && digits.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'-');
    let wrong = || Wrong::from(if quoted { "a string that is no number" } else { json_kind(text) });
    if !special && !number {
        return Err(wrong());
    }
    let value = digits.parse::<T>().map_err(|_| wrong())?;
    if special || value.into().is_finite() {
        Ok(value)
    } else {
        Err(Wrong::from("a number outside its range"))
    }
}

fn integers<T>(values: &[&RawValue], place: Place<'_>) -> Result<ArrayRef, Failure>
where
    T: ArrowPrimitiveType,
    T::Native: std::str::FromStr,
{
    let mut builder = PrimitiveBuilder::<T>::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let text = value.get();
        if text == "null" {
            builder.append_null();
            continue;
        }
        // JavaScript has no whole numbers of 64 bits: it may write them as strings of digits.
        let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        match digits.parse::<T::Native>() {
            Ok(number) if digits.len() == text.len() || !digits.starts_with('+') => {
                builder.append_value(number)
            }
            _ => {
                return Err(place(index, Wrong::from(not_whole(text, digits))));
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Why digits, as they stand in a JSON text or in its string, are no whole number of the type.
fn not_whole(text: &str, digits: &str) -> &'static str {
    let quoted = digits.len() != text.len();
    let number = digits.strip_prefix('-').unwrap_or(digits);
    let fraction = number.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b))
        && number.bytes().any(|b| b.is_ascii_digit());
    if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
        "a number outside its range"
    } else if !quoted {
        json_kind(text)
    } else if digits.is_empty() {
        "an empty string"
    } else if fraction && !digits.starts_with('+') {
        "a string with the digits of a number with a fraction or exponent"
    } else {
        "a string that is no whole number"
    }
}

fn string(text: &str) -> Result<Cow<'_, str>, Wrong> {
    if !text.starts_with('"') {
        return Err(Wrong::from(json_kind(text)));
    }
    serde_json::from_str::<Text<'_>>(text)
        .map(|text| text.0)
        .map_err(|_| Wrong::from("a string with a broken escape"))
}

/// JSON, within a string.
fn json(text: &str) -> Result<Cow<'_, str>, Wrong> {
    let text = string(text)?;
    match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(Wrong::from("a string that is not JSON")),
    }
}

/// A decimal as a string or as a number written without exponent: exact, never through a float.
fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128, Wrong> {
    let given = if text.starts_with('"') { string(text)? } else { Cow::Borrowed(text) };
    let (negative, digits) = match given.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, &*given),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || digits.ends_with('.') {
        let wrong = if text.starts_with('"') { "a string that is no decimal" } else { json_kind(text) };
        return Err(Wrong::from(wrong));
    }
    let scale = usize::from(scale.unsigned_abs());
    let places = fraction.trim_end_matches('0').len();
    if places > scale {
        return Err(Wrong::from(format!("a decimal with {places} places")));
    }
    let mut value: i128 = 0;
    let padded = whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(scale));
    for digit in padded {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i128::from(digit - b'0')))
            .filter(|value| value.ilog10_or_zero() < u32::from(precision))
            .ok_or(Wrong::from("a decimal outside its range"))?;
    }
    Ok(if negative { -value } else { value })
}

trait Digits {
    fn ilog10_or_zero(&self) -> u32;
}

impl Digits for i128 {
    fn ilog10_or_zero(&self) -> u32 {
        self.checked_ilog10().unwrap_or(0)
    }
}

fn uuid(text: &str) -> Result<[u8; 16], Wrong> {
    let wrong = || Wrong::from("a string that is no uuid");
    let text = string(text)?;
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    if groups != [8, 4, 4, 4, 12] && groups != [32] {
        return Err(wrong());
    }
    let mut bytes = [0; 16];
    let mut nibbles = text.bytes().filter(|b| *b != b'-').map(|b| char::from(b).to_digit(16));
    for byte in &mut bytes {
        let (Some(Some(high)), Some(Some(low))) = (nibbles.next(), nibbles.next()) else {
            return Err(wrong());
        };
        *byte = u8::try_from(high * 16 + low).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// How a value of this type is written.
fn form(data_type: &DataType) -> String {
    match data_type {
        DataType::Bool => "write true or false".to_owned(),
        DataType::Decimal { .. } => "write a decimal as a string, e.g. \"12.50\"".to_owned(),
        DataType::String => "write a string in double quotes".to_owned(),
        DataType::Bytes => "write bytes as a string of base64".to_owned(),
        DataType::Date => "write a date as \"2013-06-01\"".to_owned(),
        DataType::Timestamp => "write a time as \"2013-06-01T12:00:00Z\"".to_owned(),
        DataType::Uuid => "write a uuid as \"00000000-0000-0000-0000-000000000000\"".to_owned(),
        DataType::Float32 | DataType::Float64 => {
            "write a number, or \"NaN\", \"Infinity\" or \"-Infinity\" as a string".to_owned()
        }
        DataType::Json => "write JSON as a string, e.g. \"{}\"".to_owned(),
        DataType::List(item) => format!("write a list; of its items: {}", form(item)),
        DataType::Struct(_) => "write an object with the fields of the type".to_owned(),
        _ => "write a whole number without fraction or exponent, or its digits as a string".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array as _, AsArray as _};
    use arrow::util::display::array_value_to_string;

    fn ask(data_type: &str, json: &str) -> Result<ArrayRef, String> {
        let data_type = DataType::parse(data_type).unwrap();
        let given: RawColumns<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let wanted = [Wanted { name: "k", data_type: &data_type }];
        read(&given, &wanted, "service `s`", 3).map(|(mut arrays, _)| arrays.remove(0)).map_err(|failure| {
            let body = failure.body;
            format!("{}: {} ({})", body.code, body.message, body.hint.unwrap_or_default())
        })
    }

    #[test]
    fn values_of_every_key_type_are_read_exactly() {
        for (data_type, json, expected) in [
            (
                "int64",
                "[9223372036854775807, -9223372036854775808, null]",
                "9223372036854775807,-9223372036854775808,",
            ),
            ("int64", r#"["9007199254740993"]"#, "9007199254740993"),
            ("uint64", "[18446744073709551615]", "18446744073709551615"),
            ("int8", "[-128, 127, -0]", "-128,127,0"),
            ("bool", "[true, false, null]", "true,false,"),
            ("string", r#"["a\u00e9\"", ""]"#, "aé\","),
            ("decimal(5,2)", r#"["123.45", -1.5, 7]"#, "123.45,-1.50,7.00"),
            ("decimal(5,2)", r#"["1.500"]"#, "1.50"),
            ("date", r#"["2013-06-01", "1969-12-31"]"#, "2013-06-01,1969-12-31"),
            ("timestamp", r#"["2013-06-01T12:00:00.000001-04:00"]"#, "2013-06-01T16:00:00.000001Z"),
            ("bytes", r#"["aGk="]"#, "6869"),
            ("uuid", r#"["00000000-0000-0000-0000-0000000000ff"]"#, "000000000000000000000000000000ff"),
        ] {
            let array = ask(data_type, &format!("{{\"k\": {json}}}")).unwrap();
            let values: Vec<String> =
                (0..array.len()).map(|row| array_value_to_string(&array, row).unwrap()).collect();
            assert_eq!(values.join(","), expected, "{data_type} {json}");
        }
        assert!(ask("int64", r#"{"k": [null]}"#).unwrap().as_primitive::<Int64Type>().is_null(0));
    }

    fn brought(data_type: &str, json: &str) -> Result<ArrayRef, String> {
        let data_type = DataType::parse(data_type).unwrap();
        let given: RawColumns<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let wanted = [Wanted { name: "k", data_type: &data_type }];
        let read = read_request(Some(&given), &wanted, &[], "service `s`", None, 3);
        read.map(|(mut arrays, _)| arrays.remove(0)).map_err(|failure| {
            let body = failure.body;
            format!("{}: {} ({})", body.code, body.message, body.hint.unwrap_or_default())
        })
    }

    /// What no key can be and a request can bring.
    #[test]
    fn values_of_requests_are_read_exactly() {
        for (data_type, json, expected) in [
            ("float64", "[1, -0.1, null]", "1.0;-0.1;"),
            ("float64", r#"["NaN", "-Infinity", "1e3"]"#, "NaN;-inf;1000.0"),
            ("float32", "[16777217]", "16777216.0"),
            ("json", r#"["{\"a\": 1}", "null", null]"#, r#"{"a": 1};null;"#),
            ("list<int8>", "[[1, null], [], null]", "[1, ];[];"),
            ("list<list<string>>", r#"[[["a"], null]]"#, "[[a], ]"),
            (
                "struct<a: int64, b: list<bool>>",
                r#"[{"b": [true], "a": 7}, {}, null]"#,
                "{a: 7, b: [true]};{a: , b: };",
            ),
        ] {
            let array = brought(data_type, &format!("{{\"k\": {json}}}")).unwrap();
            assert_eq!(*array.data_type(), arrow_type(&DataType::parse(data_type).unwrap()));
            let values: Vec<String> =
                (0..array.len()).map(|row| array_value_to_string(&array, row).unwrap()).collect();
            assert_eq!(values.join(";"), expected, "{data_type} {json}");
        }
        let mut table = String::new();
        for (data_type, json) in [
            ("float64", r#"["zebra"]"#),
            ("float64", "[true]"),
            ("float64", "[1e400]"),
            ("float64", r#"["inf"]"#),
            ("json", r#"["{"]"#),
            ("list<int8>", "[[1], [2, 300]]"),
            ("list<int8>", "[1]"),
            ("struct<a: int64>", r#"[{"a": 1}, {"a": "x"}]"#),
            ("struct<a: int64>", r#"[{"b": 1}]"#),
        ] {
            let error = brought(data_type, &format!("{{\"k\": {json}}}")).expect_err(json);
            assert!(!error.contains("zebra"), "{error}");
            table.push_str(&format!("{data_type} {json}\n    {error}\n"));
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn wrong_values_are_refused_by_place() {
        let mut table = String::new();
        for (data_type, json) in [
            ("int64", r#"{"k": [1, 1.0]}"#),
            ("int64", r#"{"k": [1e3]}"#),
            ("int64", r#"{"k": [9223372036854775808]}"#),
            ("int64", r#"{"k": ["x"]}"#),
            ("int64", r#"{"k": ["1.0"]}"#),
            ("int64", r#"{"k": ["1e3"]}"#),
            ("int64", r#"{"k": ["-"]}"#),
            ("int64", r#"{"k": ["1,2"]}"#),
            ("int64", r#"{"k": [" 1"]}"#),
            ("int64", r#"{"k": ["\"1\""]}"#),
            ("int64", r#"{"k": ["9223372036854775808"]}"#),
            ("int64", r#"{"k": [""]}"#),
            ("int64", r#"{"k": ["+1"]}"#),
            ("int64", r#"{"k": [true]}"#),
            ("int64", r#"{"k": [[1]]}"#),
            ("int64", r#"{"k": 1}"#),
            ("int64", r#"{"k": []}"#),
            ("int64", r#"{"k": [1, 2, 3, 4]}"#),
            ("int64", r#"{"k": [1], "k": [2]}"#),
            ("int64", r#"{"kk": [1]}"#),
            ("int64", r#"{"price": [1]}"#),
            ("int64", "{}"),
            ("uint8", r#"{"k": [256]}"#),
            ("uint8", r#"{"k": [-1]}"#),
            ("bool", r#"{"k": [1]}"#),
            ("string", r#"{"k": [1]}"#),
            ("decimal(5,2)", r#"{"k": ["1.234"]}"#),
            ("decimal(5,2)", r#"{"k": ["1234.5"]}"#),
            ("decimal(5,2)", r#"{"k": [1e2]}"#),
            ("decimal(5,2)", r#"{"k": ["1."]}"#),
            ("date", r#"{"k": ["2013-02-30"]}"#),
            ("date", r#"{"k": ["2013-02-03T00:00:00Z"]}"#),
            ("timestamp", r#"{"k": ["yesterday"]}"#),
            ("timestamp", r#"{"k": [1370044800]}"#),
            ("bytes", r#"{"k": ["%"]}"#),
            ("uuid", r#"{"k": ["0000"]}"#),
        ] {
            let error = ask(data_type, json).expect_err(json);
            table.push_str(&format!("{data_type} {json}\n    {error}\n"));
        }
        insta::assert_snapshot!(table);
    }
}
