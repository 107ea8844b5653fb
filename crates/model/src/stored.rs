//! The stored form of a version: JSON with a format number, the same bytes for the same version
//! (`docs/formats/definition.md`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Explain, Kind, Version};

/// The newest format of stored versions; readers know this and all before it. What has nothing of a newer
/// format is written in the one before, so that its bytes stay as they are.
pub const VERSION_FORMAT: u32 = 2;

/// A stored version that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoredVersionError {
    /// Written by a newer Asof.
    #[error("a stored version has format {found}, and this program reads up to {VERSION_FORMAT}")]
    Format {
        /// The format found.
        found: u64,
    },
    /// Not a version.
    #[error("a stored version cannot be read: {reason}")]
    Broken {
        /// What is wrong.
        reason: String,
    },
}

impl Explain for StoredVersionError {
    fn kind(&self) -> Kind {
        Kind::Internal
    }
    fn code(&self) -> &'static str {
        match self {
            StoredVersionError::Format { .. } => "stored_version_format",
            StoredVersionError::Broken { .. } => "stored_version_broken",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            StoredVersionError::Format { .. } => Some("use the newer Asof that wrote it".to_owned()),
            StoredVersionError::Broken { .. } => Some("restore the registry from a backup".to_owned()),
        }
    }
}

impl Version {
    /// The stored form: JSON with sorted keys and a format number, the same bytes for the same version.
    pub fn to_json(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(fields) = &mut value {
            fields.insert("format".to_owned(), json!(self.format()));
        }
        canonical_json(&value)
    }

    /// The least format whose readers understand it: one of format 1 would take an aggregate for an expression,
    /// answer null in place of a default, and count every version of an event.
    pub fn format(&self) -> u32 {
        let newer = match self {
            Version::Entity(_) => false,
            Version::Derived(_) => true,
            Version::Service(it) => !it.selection.steps.is_empty() || !it.selection.labels.is_empty(),
            Version::Source(it) => {
                it.definition.id.is_some() || matches!(it.definition.place, crate::Place::Push { .. })
            }
            Version::View(it) => {
                it.features.iter().any(|it| it.feature.aggregate.is_some() || it.feature.default.is_some())
            }
        };
        if newer { VERSION_FORMAT } else { 1 }
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`StoredVersionError`] where it was written by a newer program or is damaged.
    pub fn from_json(text: &str) -> Result<Version, StoredVersionError> {
        let broken = |error: serde_json::Error| StoredVersionError::Broken { reason: error.to_string() };
        let value: Value = serde_json::from_str(text).map_err(broken)?;
        match value.get("format").and_then(Value::as_u64) {
            Some(1 | 2) => serde_json::from_value(value).map_err(broken),
            Some(found) => Err(StoredVersionError::Format { found }),
            None => Err(StoredVersionError::Broken { reason: "it has no `format`".to_owned() }),
        }
    }
}

/// JSON with the keys of every object sorted and no spaces: equal values have equal bytes.
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            out.push('{');
            for (at, (key, value)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}
