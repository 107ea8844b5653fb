//! The record of a training set: everything needed to say what it holds, and to make it again.
//! Stored as JSON with a format number (`docs/formats/training-set.md`); the registry keeps it, the
//! engine makes and rebuilds it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    Address, Ask, Column, Definitions, DerivedVersion, Name, Question, Revision, ServiceVersion,
    SourceVersion, StoredSelection, Timestamp, VersionId, ViewVersion,
};

/// One training set, as it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingSet {
    /// The format of this record; see [`TrainingSet::FORMAT`].
    pub format: u32,
    /// Its id: twelve hex digits.
    pub id: String,
    /// The project it was asked in.
    pub project: Name,
    /// When it was finished.
    pub created_at: Timestamp,
    /// Who asked for it.
    pub created_by: String,
    /// What it holds and what it was made from.
    pub recipe: Recipe,
    /// What came out.
    pub outcome: Outcome,
}

impl TrainingSet {
    /// The newest format this program writes; it reads every one up to it.
    pub const FORMAT: u32 = 1;
}

/// What a training set was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The registry's revision it was resolved against.
    pub revision: Revision,
    /// What was asked, as the user said it.
    pub ask: Ask,
    /// Whether full names were asked for.
    #[serde(default)]
    pub full_names: bool,
    /// The service asked for, as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceVersion>,
    /// The readings and output columns.
    pub selection: StoredSelection,
    /// Every view read, as it was then.
    pub views: Vec<ViewVersion>,
    /// Every derived that was computed, as it was then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derived: Vec<DerivedVersion>,
    /// Every source read, as it was then.
    pub sources: Vec<SourceVersion>,
    /// Per project, the folder that relative paths of its sources start from.
    pub roots: BTreeMap<Name, PathBuf>,
    /// The spine.
    pub spine: SpineRecord,
    /// Which rows count.
    pub question: Question,
    /// What a null key in the spine did.
    #[serde(default)]
    pub on_null_key: OnNullKey,
    /// What a value over a window that is out of range, or over its cap, did.
    #[serde(default, skip_serializing_if = "OnOverflow::is_refuse")]
    pub on_overflow: OnOverflow,
    /// What a spine row whose labels are not mature did.
    #[serde(default, skip_serializing_if = "OnImmature::is_keep")]
    pub on_immature: OnImmature,
    /// T when it was asked for, of one with labels over pushed sources: these are not mature past it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Timestamp>,
    /// What was read of each source.
    pub cuts: Vec<SourceCut>,
    /// The version of the program.
    pub code_version: String,
    /// The format the set was written in.
    pub output: FileFormat,
}

impl Recipe {
    /// The definitions it was made of, asked in this project.
    pub fn definitions(&self, project: &Name) -> Definitions {
        Definitions {
            project: project.clone(),
            revision: self.revision,
            ask: self.ask.clone(),
            full_names: self.full_names,
            service: self.service.clone(),
            selection: self.selection.clone(),
            views: self.views.clone(),
            derived: self.derived.clone(),
            sources: self.sources.clone(),
            roots: self.roots.clone(),
        }
    }
}

/// What came out of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Rows, which are the spine's, but for those that were dropped.
    pub rows: u64,
    /// Rows of the spine that were dropped, since a label of theirs is not mature.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// All columns in order: the spine's, then the features, then the labels.
    pub columns: Vec<Column>,
    /// The content hash over schema and rows in order, 64 hex digits (`docs/formats/training-set.md`).
    pub content_hash: String,
    /// Counts per reading.
    pub counts: Vec<ReadingCounts>,
    /// Counts per label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<LabelCounts>,
    /// What a careful user should look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The rows a training set was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpineRecord {
    /// BLAKE3 of its kept bytes, 64 hex digits; the file is `spines/HASH` below the data directory.
    pub hash: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes as kept.
    pub bytes: u64,
    /// The format of the kept bytes.
    pub format: FileFormat,
    /// The column its times are read from.
    pub time_column: String,
    /// The unit of an integer time column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_unit: Option<crate::TimeUnit>,
    /// The name of the file it came from, if it came from one; for people only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The query it came from, if it came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
}

/// A file format of spines and training sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// Arrow IPC: a stream when written, a stream or a file when read.
    Arrow,
}

impl FileFormat {
    /// Every format, in the order of the documentation.
    pub const ALL: [FileFormat; 4] =
        [FileFormat::Parquet, FileFormat::Csv, FileFormat::Ndjson, FileFormat::Arrow];

    /// Its name, e.g. `parquet`.
    pub fn name(self) -> &'static str {
        match self {
            FileFormat::Parquet => "parquet",
            FileFormat::Csv => "csv",
            FileFormat::Ndjson => "ndjson",
            FileFormat::Arrow => "arrow",
        }
    }

    /// The format with this name, or of a file name with this ending.
    pub fn from_name(name: &str) -> Option<FileFormat> {
        match name {
            "parquet" | "pq" => Some(FileFormat::Parquet),
            "csv" => Some(FileFormat::Csv),
            "ndjson" | "jsonl" => Some(FileFormat::Ndjson),
            "arrow" | "arrows" | "ipc" | "feather" => Some(FileFormat::Arrow),
            _ => None,
        }
    }
}

/// What a null key in a spine row does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNullKey {
    /// The row is kept, its features are null with status `no_key`.
    #[default]
    Keep,
    /// The training stops and names the row.
    Refuse,
}

/// What a value over a window does that is out of range, or over its cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOverflow {
    /// The training stops and names the feature and the row.
    #[default]
    Refuse,
    /// The value is null.
    Null,
}

impl OnOverflow {
    fn is_refuse(&self) -> bool {
        *self == OnOverflow::Refuse
    }
}

/// What a spine row does, a label of which is not mature: its time lies past what the label's source holds
/// (SEMANTICS section 3.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnImmature {
    /// It is kept, and that label is null.
    #[default]
    Keep,
    /// The training set does not have it.
    Drop,
}

impl OnImmature {
    fn is_keep(&self) -> bool {
        *self == OnImmature::Keep
    }
}

/// What was read of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCut {
    /// The source.
    pub source: Address,
    /// Its version.
    pub source_id: VersionId,
    /// How the visible times of its rows were known.
    pub visible: VisibleTimes,
    /// What was read.
    pub cut: Cut,
}

/// How the visible times of a source's rows are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisibleTimes {
    /// The moment of acceptance was recorded.
    Recorded,
    /// The source names `available_at`.
    Declared,
    /// Taken to be the event time.
    Assumed,
}

/// The part of a source's history that an answer was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Rows of a stored table with `s <= position`, read at a version of it.
    Stored {
        /// The greatest position that counts.
        position: i64,
        /// The version of the Delta table that was read.
        table_version: u64,
        /// Of a pushed source with a `past`, what was read of that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        past: Option<PastCut>,
    },
    /// Files read in place, in the order of their paths.
    Files(Vec<FileIdentity>),
    /// A Delta table read in place at one version of it.
    Delta {
        /// The table's id, from its metadata.
        table_id: String,
        /// The version.
        version: u64,
        /// Its data files.
        files: Vec<FileIdentity>,
    },
    /// A query over other sources.
    Sql(Vec<SourceCut>),
}

/// What was read of the past of a pushed source, in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastCut {
    /// How the visible times of its rows were known.
    pub visible: VisibleTimes,
    /// The files, in the order of their paths.
    pub files: Vec<FileIdentity>,
}

/// Which file was read. Two identities of one path differ where the file was changed or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The path as the reader opens it: absolute, or a URL.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// When it was last changed, as the file system or store says.
    pub modified: Timestamp,
    /// The store's entity tag, if it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// BLAKE3 of the footer of a Parquet file, of the whole of any other, 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// How one view in one role answered the spine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingCounts {
    /// The view, `view` or `project.view`.
    pub view: String,
    /// The names its keys have in the spine, in the entity's order.
    pub keys: Vec<String>,
    /// Spine rows answered by a row.
    pub present: u64,
    /// Spine rows without one.
    pub not_found: u64,
    /// Spine rows whose row was past its ttl or `valid_until`.
    pub expired: u64,
    /// Spine rows with a null key.
    pub no_key: u64,
    /// Values that are null in a row that answers, over all features asked for.
    pub null_values: u64,
    /// Rows of the source whose `available_at` is null.
    pub never_known: u64,
    /// Rows of the source without a key of the view.
    pub null_keys: u64,
    /// Spine rows answered by a row under the question not asked.
    pub other_present: u64,
    /// Spine rows that another row, or none, would answer under the question not asked.
    pub differs: u64,
}

/// How one label was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCounts {
    /// Its name in the output.
    pub label: String,
    /// The view it is read from, `view` or `project.view`.
    pub view: String,
    /// The names the view's keys have in the spine, in the entity's order.
    pub keys: Vec<String>,
    /// Rows answered by a row of the view; over a window those where anything counts, and where the answer is 0 or a default.
    pub present: u64,
    /// Rows without one.
    pub not_found: u64,
    /// Rows whose row was past its ttl or `valid_until`.
    pub expired: u64,
    /// Rows with a null key.
    pub no_key: u64,
    /// Null values in rows that answer.
    pub null_values: u64,
    /// Rows of the spine that are asked past the greatest event time of the source, kept or dropped.
    pub not_mature: u64,
}
