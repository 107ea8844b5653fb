//! The types a column, key or feature may have, as users write them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A type of a column, key or feature.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DataType {
    /// `bool`
    Bool,
    /// `int8`
    Int8,
    /// `int16`
    Int16,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `uint8`
    UInt8,
    /// `uint16`
    UInt16,
    /// `uint32`
    UInt32,
    /// `uint64`
    UInt64,
    /// `float32`
    Float32,
    /// `float64`
    Float64,
    /// `decimal(precision,scale)`, precision at most 38.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits behind the point, 0 to precision.
        scale: i8,
    },
    /// `string`, UTF-8.
    String,
    /// `bytes`
    Bytes,
    /// `date`, days since 1970-01-01.
    Date,
    /// `timestamp`, UTC microseconds.
    Timestamp,
    /// `uuid`, 16 bytes.
    Uuid,
    /// `json`, text that is a JSON value.
    Json,
    /// `list<T>`
    List(Box<DataType>),
    /// `struct<name: T, ...>`
    Struct(Vec<(String, DataType)>),
}

impl DataType {
    const PLAIN: [(&'static str, DataType); 17] = [
        ("bool", DataType::Bool),
        ("int8", DataType::Int8),
        ("int16", DataType::Int16),
        ("int32", DataType::Int32),
        ("int64", DataType::Int64),
        ("uint8", DataType::UInt8),
        ("uint16", DataType::UInt16),
        ("uint32", DataType::UInt32),
        ("uint64", DataType::UInt64),
        ("float32", DataType::Float32),
        ("float64", DataType::Float64),
        ("string", DataType::String),
        ("bytes", DataType::Bytes),
        ("date", DataType::Date),
        ("timestamp", DataType::Timestamp),
        ("uuid", DataType::Uuid),
        ("json", DataType::Json),
    ];

    /// Whether an entity may be keyed by this type: anything that compares exactly, so no float,
    /// list, struct or json.
    pub fn can_be_key(&self) -> bool {
        !matches!(
            self,
            DataType::Float32 | DataType::Float64 | DataType::List(_) | DataType::Struct(_) | DataType::Json
        )
    }

    /// Reads a type as users write it.
    ///
    /// # Errors
    /// [`BadDataType`] with the nearest type that exists.
    pub fn parse(text: &str) -> Result<DataType, BadDataType> {
        let mut rest = text;
        let found = DataType::parse_prefix(&mut rest, 0);
        match found {
            Some(found) if rest.trim().is_empty() => Ok(found),
            _ => Err(BadDataType { text: text.to_owned() }),
        }
    }

    fn parse_prefix(rest: &mut &str, depth: usize) -> Option<DataType> {
        if depth > 16 {
            return None;
        }
        *rest = rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        *rest = after.trim_start();
        if let Some((_, plain)) = DataType::PLAIN.iter().find(|(name, _)| *name == word) {
            return Some(plain.clone());
        }
        match word {
            "decimal" => {
                let inside = rest.strip_prefix('(')?;
                let (numbers, after) = inside.split_once(')')?;
                let (precision, scale) = numbers.split_once(',')?;
                let precision: u8 = precision.trim().parse().ok()?;
                let scale: i8 = scale.trim().parse().ok()?;
                *rest = after;
                let good =
                    (1..=38).contains(&precision) && (0..=38).contains(&scale) && scale as u8 <= precision;
                good.then_some(DataType::Decimal { precision, scale })
            }
            "list" => {
                *rest = rest.strip_prefix('<')?;
                let item = DataType::parse_prefix(rest, depth + 1)?;
                *rest = rest.trim_start().strip_prefix('>')?;
                Some(DataType::List(Box::new(item)))
            }
            "struct" => {
                *rest = rest.strip_prefix('<')?;
                let mut fields: Vec<(String, DataType)> = Vec::new();
                loop {
                    let (name, after) = rest.split_once(':')?;
                    let name = name.trim().to_owned();
                    if name.is_empty() || fields.iter().any(|(other, _)| *other == name) {
                        return None;
                    }
                    *rest = after;
                    fields.push((name, DataType::parse_prefix(rest, depth + 1)?));
                    *rest = rest.trim_start();
                    if let Some(after) = rest.strip_prefix(',') {
                        *rest = after.trim_start();
                    } else {
                        *rest = rest.strip_prefix('>')?;
                        return Some(DataType::Struct(fields));
                    }
                }
            }
            _ => None,
        }
    }

    /// Every name a type may start with, for hints.
    pub fn names() -> impl Iterator<Item = &'static str> {
        DataType::PLAIN.iter().map(|(name, _)| *name).chain(["decimal(p,s)", "list<T>", "struct<name: T>"])
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            DataType::List(item) => write!(f, "list<{item}>"),
            DataType::Struct(fields) => {
                f.write_str("struct<")?;
                for (i, (name, kind)) in fields.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{name}: {kind}")?;
                }
                f.write_str(">")
            }
            plain => {
                let name =
                    DataType::PLAIN.iter().find(|(_, other)| other == plain).map_or("?", |(name, _)| *name);
                f.write_str(name)
            }
        }
    }
}

/// A text that names no type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a type")]
pub struct BadDataType {
    /// The text as given.
    pub text: String,
}

impl TryFrom<String> for DataType {
    type Error = BadDataType;
    fn try_from(text: String) -> Result<DataType, BadDataType> {
        DataType::parse(&text)
    }
}

impl From<DataType> for String {
    fn from(kind: DataType) -> String {
        kind.to_string()
    }
}

/// A column of a source: its name as the data has it, its type, and whether it may be null.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// The name in the data; any text, not a [`crate::Name`].
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub data_type: DataType,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_and_written() {
        for text in
            ["int64", "decimal(10,2)", "list<list<string>>", "struct<a: int8, b: list<struct<c: uuid>>>"]
        {
            assert_eq!(DataType::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "int",
            "decimal(40,2)",
            "decimal(2,3)",
            "list<>",
            "struct<>",
            "int64 x",
            "struct<a: int8, a: int8>",
        ] {
            assert!(DataType::parse(text).is_err(), "{text}");
        }
    }
}
