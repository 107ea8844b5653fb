//! The options of a source's files, named as DuckDB names them.

use std::collections::BTreeMap;

use asof_model::{Format, nearest};

use crate::{Error, Result};

/// Options of every format, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// `key=value` folders are columns. Default true.
    pub hive_partitioning: bool,
    /// Files may lack columns of others (null there), and types are widened. Default false.
    pub union_by_name: bool,
    /// CSV: the byte between cells. Default `,`, or a tab where the file ends in `.tsv`.
    pub delimiter: Option<u8>,
    /// CSV: the first line names the columns. Default true.
    pub header: bool,
    /// CSV: the byte around cells that hold a delimiter. Default `"`.
    pub quote: u8,
    /// CSV: the byte before a quote within a quoted cell; none: the quote itself, doubled.
    pub escape: Option<u8>,
    /// CSV: lines that begin with this byte are left out.
    pub comment: Option<u8>,
    /// CSV: the text of a null cell. Default empty.
    pub null: Option<String>,
}

impl Options {
    /// Reads the options as written.
    ///
    /// # Errors
    /// [`Error::Invalid`] with code `source_option` for one that the format does not have, or a value
    /// it cannot take.
    pub(crate) fn read(format: Format, written: &BTreeMap<String, String>) -> Result<Options> {
        let mut options = Options {
            hive_partitioning: true,
            union_by_name: false,
            delimiter: None,
            header: true,
            quote: b'"',
            escape: None,
            comment: None,
            null: None,
        };
        let known = format.options();
        for (name, value) in written {
            match (name.as_str(), format) {
                ("hive_partitioning", _) => options.hive_partitioning = flag(name, value)?,
                ("union_by_name", _) => options.union_by_name = flag(name, value)?,
                ("delimiter", Format::Csv) => options.delimiter = Some(byte(name, value)?),
                ("header", Format::Csv) => options.header = flag(name, value)?,
                ("quote", Format::Csv) => options.quote = byte(name, value)?,
                ("escape", Format::Csv) => options.escape = Some(byte(name, value)?),
                ("comment", Format::Csv) => options.comment = Some(byte(name, value)?),
                ("null", Format::Csv) => options.null = Some(value.clone()),
                _ => {
                    let error = Error::invalid(
                        "source_option",
                        format!("option `{name}` is not one of format {}", format.name()),
                    );
                    let near = nearest(name, known.iter().copied());
                    return Err(error.with_hint(match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("it has {}", known.join(", ")),
                    }));
                }
            }
        }
        Ok(options)
    }
}

fn flag(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::invalid("source_option", format!("option `{name}` is `{value}`"))
            .with_hint("write true or false")),
    }
}

fn byte(name: &str, value: &str) -> Result<u8> {
    match value.as_bytes() {
        _ if value == "\\t" || value == "tab" => Ok(b'\t'),
        [one] if one.is_ascii() && !matches!(one, b'\n' | b'\r') => Ok(*one),
        _ => Err(Error::invalid("source_option", format!("option `{name}` is `{value}`"))
            .with_hint("write one ASCII character, or `\\t` for a tab")),
    }
}
