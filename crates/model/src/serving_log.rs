//! The serving log: what was answered online, kept so that it can be looked at and answered again. The read path
//! writes it, whoever checks it reads it; the bytes are `docs/formats/serving-log.md`.

use serde::{Deserialize, Serialize};

use crate::{Definitions, Length, Timestamp};

/// The newest format this program writes, `docs/formats/serving-log.md`; it reads every one up to it.
pub const SERVING_LOG_FORMAT: u32 = 1;

/// What is logged, and for how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServingLogOptions {
    /// The share of keys whose rows are logged: 0 none, 1 all.
    pub sample: f64,
    /// How long files are kept.
    pub keep: Length,
}

impl Default for ServingLogOptions {
    fn default() -> ServingLogOptions {
        ServingLogOptions { sample: 0.01, keep: Length::days(30) }
    }
}

/// What stands in the metadata of each file's schema, by [`LogHeader::ENTRY`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogHeader {
    /// The format; see [`SERVING_LOG_FORMAT`].
    pub format: u32,
    /// What was asked, with every version that it reads.
    pub definitions: Definitions,
}

impl LogHeader {
    /// The key of the metadata it stands under, as JSON.
    pub const ENTRY: &'static str = "asof.serving_log";
}

/// The columns of a file beside what was asked and answered.
pub mod log_columns {
    /// T of the request: Timestamp(us, UTC).
    pub const AS_OF: &str = "as_of";
    /// The clock when it was asked: Timestamp(us, UTC).
    pub const ASKED_AT: &str = "asked_at";
    /// The greatest position that was readable of pushed rows: Int64; null where the node takes none.
    pub const POSITION: &str = "position";
    /// What of each reading's source was readable beside that: JSON, a list of [`super::ReadableUnits`].
    pub const CUTS: &str = "cuts";
    /// The keys: a struct.
    pub const KEYS: &str = "keys";
    /// What the request brought: a struct, there only where derived features read it.
    pub const REQUEST: &str = "request";
    /// The features as they were answered: a struct.
    pub const FEATURES: &str = "features";
    /// The status of each feature as it was answered, null of what is derived: a struct.
    pub const STATUS: &str = "status";
}

/// What a reading was answered from: a generation of its view, and what had been read into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadableUnits {
    /// The number of the generation.
    pub generation: u32,
    /// Per unit (a file, a stretch of a stored source) what was read of it, in the words of
    /// `docs/formats/online-store.md`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<(String, String)>,
}

/// The folder of the log below the node's data directory.
pub const SERVING_LOG_FOLDER: &str = "serving-log";

/// A file of the log is ended after so long, in microseconds.
pub const LOG_FILE_LONGEST: i64 = 3_600_000_000;

/// The time at which a file of the log was begun, by its name; none of what is no such file.
pub fn log_file_begun(name: &str) -> Option<Timestamp> {
    let micros = name.strip_suffix(".arrows")?.split('-').next()?;
    micros.parse().ok().map(Timestamp)
}
