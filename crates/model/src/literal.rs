//! Constants as users write them: a default, or what follows the argument of an aggregate.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DataType, Timestamp, float_text};

/// A constant of a call or a default. Two that are written alike are equal, so `1` is not `1.0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Literal {
    /// `true`, `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(Double),
    /// A text; also how a date, an instant or a number of many digits is written.
    Text(String),
}

/// A finite float that is equal to itself: minus zero is zero. Stored as the shortest text that reads back as
/// the same float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Double(u64);

impl Double {
    /// The float, where it is finite.
    pub fn new(value: f64) -> Option<Double> {
        // Minus zero plus zero is zero.
        value.is_finite().then(|| Double((value + 0.0).to_bits()))
    }

    /// The float.
    pub fn value(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl TryFrom<String> for Double {
    type Error = String;
    fn try_from(text: String) -> Result<Double, String> {
        text.parse().ok().and_then(Double::new).ok_or_else(|| format!("`{text}` is not a finite number"))
    }
}

impl From<Double> for String {
    fn from(double: Double) -> String {
        double.to_string()
    }
}

impl fmt::Display for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&float_text(self.value()))
    }
}

impl fmt::Display for Literal {
    /// As it stands in SQL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Bool(value) => write!(f, "{value}"),
            Literal::Int(value) => write!(f, "{value}"),
            Literal::Float(value) => write!(f, "{value}"),
            Literal::Text(value) => write!(f, "'{}'", value.replace('\'', "''")),
        }
    }
}

impl Literal {
    /// Reads a number: whole numbers of 64 bits, and finite floats. None where a whole number is greater, which
    /// a float would round.
    pub(crate) fn number(text: &str) -> Option<Literal> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().map(Literal::Int);
        }
        let begins = digits.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || byte == b'.');
        text.parse().ok().filter(|_| begins).and_then(Double::new).map(Literal::Float)
    }

    /// Whether it can be a value of a type: a whole number in the type's range, a text that reads as a date,
    /// an instant, a uuid or a number of many digits.
    pub fn fits(&self, data_type: &DataType) -> bool {
        use DataType as T;
        let within = |low: i64, high: i64| matches!(self, Literal::Int(it) if (low..=high).contains(it));
        match (data_type, self) {
            (T::Bool, Literal::Bool(_)) | (T::String, Literal::Text(_)) => true,
            (T::Json, Literal::Text(text)) => serde_json::from_str::<serde_json::Value>(text).is_ok(),
            (T::Int8, _) => within(i64::from(i8::MIN), i64::from(i8::MAX)),
            (T::Int16, _) => within(i64::from(i16::MIN), i64::from(i16::MAX)),
            (T::Int32, _) => within(i64::from(i32::MIN), i64::from(i32::MAX)),
            (T::Int64, _) => within(i64::MIN, i64::MAX),
            (T::UInt8, _) => within(0, i64::from(u8::MAX)),
            (T::UInt16, _) => within(0, i64::from(u16::MAX)),
            (T::UInt32, _) => within(0, i64::from(u32::MAX)),
            (T::UInt64, Literal::Text(text)) => text.parse::<u64>().is_ok(),
            (T::UInt64, _) => within(0, i64::MAX),
            (T::Float32, Literal::Float(it)) => (it.value() as f32).is_finite(),
            (T::Float32 | T::Float64, Literal::Int(_) | Literal::Float(_)) => true,
            (T::Decimal { precision, scale }, it) => {
                let text = match it {
                    Literal::Int(it) => it.to_string(),
                    Literal::Float(it) => it.to_string(),
                    Literal::Text(text) => text.clone(),
                    Literal::Bool(_) => return false,
                };
                fits_decimal(&text, *precision, *scale)
            }
            (T::Date, Literal::Text(text)) => text.len() == 10 && Timestamp::parse(text).is_ok(),
            (T::Timestamp, Literal::Text(text)) => Timestamp::parse(text).is_ok(),
            (T::Uuid, Literal::Text(text)) => is_uuid(text),
            _ => false,
        }
    }
}

/// Whether a number is exact in so many digits, so many of them behind the point.
fn fits_decimal(text: &str, precision: u8, scale: i8) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let before = whole.trim_start_matches('0').len();
    let behind = part.trim_end_matches('0').len();
    let (precision, scale) = (usize::from(precision), usize::try_from(scale).unwrap_or(0));
    plain(whole)
        && plain(part)
        && !(whole.is_empty() && part.is_empty())
        && behind <= scale
        && before + scale <= precision
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_or_finite() {
        let float = |value: f64| Some(Literal::Float(Double::new(value).unwrap()));
        for (text, found) in [
            ("10", Some(Literal::Int(10))),
            ("-3", Some(Literal::Int(-3))),
            ("0.5", float(0.5)),
            ("-0.0", float(0.0)),
            ("1e3", float(1000.0)),
            ("9223372036854775808", None),
            ("1e999", None),
            ("nan", None),
            ("inf", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(Literal::number(text), found, "{text}");
        }
    }

    #[test]
    fn a_constant_fits_the_types_that_hold_it() {
        let text = |text: &str| Literal::Text(text.to_owned());
        let float = |value| Literal::Float(Double::new(value).unwrap());
        for (literal, data_type, fits) in [
            (Literal::Int(0), "int64", true),
            (Literal::Int(0), "float64", true),
            (Literal::Int(128), "int8", false),
            (Literal::Int(-1), "uint64", false),
            (text("18446744073709551615"), "uint64", true),
            (Literal::Int(0), "string", false),
            (Literal::Int(0), "bool", false),
            (float(0.5), "int64", false),
            (float(0.5), "float32", true),
            (float(1e300), "float32", false),
            (float(0.25), "decimal(4,2)", true),
            (float(0.125), "decimal(4,2)", false),
            (text("99.99"), "decimal(4,2)", true),
            (Literal::Int(100), "decimal(4,2)", false),
            (text("none"), "string", true),
            (text("2020-01-01"), "date", true),
            (text("2020-01-01T00:00:00Z"), "timestamp", true),
            (text("yesterday"), "timestamp", false),
            (text("123e4567-e89b-12d3-a456-426614174000"), "uuid", true),
            (text("x"), "uuid", false),
            (text("x"), "list<string>", false),
            (Literal::Bool(true), "bool", true),
        ] {
            assert_eq!(literal.fits(&DataType::parse(data_type).unwrap()), fits, "{literal} {data_type}");
        }
    }
}
