//! What was read of a view's source.

use std::collections::BTreeMap;

use asof_model::{Cut, FileIdentity};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What was read of a view's source, unit by unit; each as [`super::UnitRead::seen`] said it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewProgress {
    /// By the names of units.
    pub units: BTreeMap<String, Vec<u8>>,
}

/// The format of what is said of a unit, JSON; `docs/formats/online-store.md`.
const FORMAT: u32 = 1;

/// What was read of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Seen {
    /// This file.
    File(FileIdentity),
    /// A stored source, up to this position.
    Stored {
        /// The last one read.
        position: i64,
    },
    /// All of it, as it was at this cut.
    Whole(Cut),
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    seen: Seen,
}

impl Seen {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&Written { format: FORMAT, seen: self.clone() })
            .map_err(|error| Error::internal(format!("what was read cannot be written down: {error}")))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Seen> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |error: serde_json::Error| {
            Error::internal(format!("what was read before cannot be understood: {error}"))
        };
        let found: Format = serde_json::from_slice(bytes).map_err(damaged)?;
        if found.format > FORMAT {
            return Err(Error::invalid(
                "progress_newer",
                format!("what was read before has format {}; this Asof reads up to {FORMAT}", found.format),
            )
            .with_hint("use the Asof that materialised it, or a newer one"));
        }
        let written: Written = serde_json::from_slice(bytes).map_err(damaged)?;
        Ok(written.seen)
    }
}
