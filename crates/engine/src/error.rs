//! What can go wrong in this room, by what the caller can do about it.

use std::path::Path;
use std::sync::Arc;

use arrow::error::ArrowError;
use asof_model::{Explain, Kind, Stale};
use datafusion::error::DataFusionError;

/// The room's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the engine could not do what it was asked. Texts never hold a cell of data.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// What was asked cannot be done as written; asking again unchanged cannot help.
    #[error("{message}")]
    Invalid {
        /// A stable identifier, e.g. `source_file_missing`.
        code: &'static str,
        /// The kind of thing, its name, the offending value.
        message: String,
        /// The nearest valid value, or what to do.
        hint: Option<String>,
    },
    /// The named thing does not exist.
    #[error("{what} `{name}` not found")]
    NotFound {
        /// The kind of thing, e.g. `source`.
        what: &'static str,
        /// Its name as asked.
        name: String,
        /// The nearest that exists, or what to do.
        hint: Option<String>,
    },
    /// A row of a source breaks a rule; the source's file has to be mended.
    #[error("source `{source_name}`: {place}: {reason}")]
    BadRow {
        /// The source.
        source_name: String,
        /// File, row and column, e.g. `data/a.csv, row 17, column `price``. Rows count from 1.
        place: String,
        /// What is wrong, without the cell.
        reason: String,
        /// What to do.
        hint: Option<String>,
    },
    /// What was read is no longer what was read at the start, or what a record names.
    #[error("{what} `{name}` {change}")]
    Changed {
        /// The kind of thing, e.g. `file`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What happened, e.g. `changed while it was read`.
        change: String,
    },
    /// Something was changed by somebody else first, or is not in the state required.
    #[error("{message}")]
    Conflict {
        /// A stable identifier.
        code: &'static str,
        /// What stands against it.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A limit on bytes, rows, nodes or memory was reached.
    #[error("{what} is over the limit of {limit}")]
    Exhausted {
        /// What is too large.
        what: String,
        /// The limit with its unit.
        limit: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The operation ran out of its time.
    #[error("{what} took longer than {limit}")]
    Timeout {
        /// The operation.
        what: String,
        /// The limit with its unit.
        limit: String,
    },
    /// A file or folder cannot be used now.
    #[error("cannot {doing} `{path}`: {reason}")]
    Io {
        /// What was tried, e.g. `read the file`.
        doing: &'static str,
        /// The path.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// What the store of live rows says, which stands outside of this room.
    #[error("{message}")]
    Live {
        /// What the caller can do.
        kind: Kind,
        /// Its stable identifier.
        code: &'static str,
        /// Its words.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A defect in Asof or damage to its stores.
    #[error("{what}")]
    Internal {
        /// What was found.
        what: String,
        /// The error below, if any.
        #[source]
        below: Option<Arc<DataFusionError>>,
    },
}

/// Why nothing more can be written.
const FULL: &str = "the disk is full";

/// The data file that a scan found no more. What reads its footer gives the words of the error that it met, and not the
/// error.
fn missing_file(error: &DataFusionError) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = cause {
        if let Some(object_store::Error::NotFound { path, .. }) = at.downcast_ref() {
            return Some(path.clone());
        }
        cause = at.source();
    }
    let text = error.find_root().to_string();
    let (file, reason) = text.split_once("Failed to fetch metadata for file ")?.1.split_once(": ")?;
    reason.contains("not found").then(|| file.to_owned())
}

impl Error {
    /// [`Error::Invalid`] without a hint.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Error {
        Error::Invalid { code, message: message.into(), hint: None }
    }

    /// [`Error::Io`].
    pub fn io(doing: &'static str, path: &Path, error: &std::io::Error) -> Error {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => FULL.to_owned(),
            _ => error.to_string(),
        };
        Error::Io { doing, path: path.display().to_string(), reason }
    }

    /// Whether a disk had no room left.
    fn is_full(reason: &str) -> bool {
        // Writers of files give the system's words within their own.
        reason == FULL || ["(os error 28)", "(os error 122)"].iter().any(|full| reason.contains(full))
    }

    /// [`Error::Live`]: an error of the store of live rows.
    pub fn live(error: &dyn Explain) -> Error {
        let (kind, code, hint) = (error.kind(), error.code(), error.hint());
        Error::Live { kind, code, message: error.to_string(), hint }
    }

    /// [`Error::Internal`] without an error below.
    pub fn internal(what: impl Into<String>) -> Error {
        Error::Internal { what: what.into(), below: None }
    }

    /// The same error with this hint, where it can carry one.
    #[must_use]
    pub fn with_hint(mut self, text: impl Into<String>) -> Error {
        match &mut self {
            Error::Invalid { hint, .. }
            | Error::NotFound { hint, .. }
            | Error::BadRow { hint, .. }
            | Error::Conflict { hint, .. }
            | Error::Exhausted { hint, .. } => *hint = Some(text.into()),
            _ => {}
        }
        self
    }

    /// The same error, with paths below a folder written as from that folder.
    #[must_use]
    pub(crate) fn without(mut self, root: &Path) -> Error {
        let root = format!("{}/", root.display());
        match &mut self {
            Error::Invalid { message: text, .. }
            | Error::NotFound { name: text, .. }
            | Error::Changed { name: text, .. }
            | Error::Conflict { message: text, .. }
            | Error::Io { path: text, .. }
            | Error::Internal { what: text, .. } => *text = text.replace(&root, ""),
            Error::BadRow { .. } | Error::Exhausted { .. } | Error::Timeout { .. } | Error::Live { .. } => {}
        }
        self
    }

    /// Ours, wherever it stands within an error of DataFusion's.
    pub(crate) fn within(error: &DataFusionError) -> Option<&Error> {
        match error {
            DataFusionError::External(inner) => inner
                .downcast_ref::<Error>()
                .or_else(|| inner.downcast_ref::<DataFusionError>().and_then(Error::within)),
            DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
                ArrowError::ExternalError(inner) => inner
                    .downcast_ref::<Error>()
                    .or_else(|| inner.downcast_ref::<DataFusionError>().and_then(Error::within)),
                _ => None,
            },
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                Error::within(inner)
            }
            DataFusionError::Shared(inner) => Error::within(inner),
            DataFusionError::Collection(all) => all.iter().find_map(Error::within),
            _ => None,
        }
    }
}

impl From<Stale> for Error {
    fn from(stale: Stale) -> Error {
        Error::Conflict { code: stale.code(), message: stale.to_string(), hint: stale.hint() }
    }
}

impl From<DataFusionError> for Error {
    /// Ours come back as they were; DataFusion's own become [`Error::Exhausted`] or
    /// [`Error::Internal`]. Whoever runs what a user wrote catches the user's mistakes before this.
    ///
    /// The words of an error that a row may have caused hold the cell (`Cannot cast string 'x'`), and
    /// this text goes to logs and records: of such an error only its sort and our place are kept.
    #[track_caller]
    fn from(error: DataFusionError) -> Error {
        let place = std::panic::Location::caller();
        if let Some(file) = missing_file(&error) {
            let change = "is not there any more: it was removed, or its table was vacuumed".to_owned();
            return Error::Changed { what: "data file", name: file, change };
        }
        if let Some(ours) = Error::within(&error) {
            return ours.clone();
        }
        let what = match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => {
                return Error::Exhausted {
                    what: "the memory of this operation".to_owned(),
                    limit: "the engine's `memory`".to_owned(),
                    hint: Some("raise `memory` in asof.yaml, or ask for less at once".to_owned()),
                };
            }
            // These speak of plans and files.
            DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Configuration(_)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::IoError(_) => {
                return Error::Internal { what: error.strip_backtrace(), below: Some(Arc::new(error)) };
            }
            DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
                ArrowError::SchemaError(text)
                | ArrowError::ParquetError(text)
                | ArrowError::IpcError(text)
                | ArrowError::IoError(text, _) => text.clone(),
                ArrowError::CastError(_) | ArrowError::ParseError(_) => "a value cannot be cast".to_owned(),
                ArrowError::DivideByZero => "division by zero".to_owned(),
                ArrowError::ArithmeticOverflow(_) => "a number is out of range".to_owned(),
                ArrowError::InvalidArgumentError(_) => "an array does not fit".to_owned(),
                _ => "a value cannot be computed".to_owned(),
            },
            DataFusionError::ExecutionJoin(_) => "a task ended".to_owned(),
            DataFusionError::Internal(_) => "DataFusion met a defect of its own".to_owned(),
            _ => "a value cannot be computed".to_owned(),
        };
        Error::internal(format!("{what} (at {}:{})", place.file(), place.line()))
    }
}

impl From<ArrowError> for Error {
    #[track_caller]
    fn from(error: ArrowError) -> Error {
        Error::from(DataFusionError::from(error))
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> DataFusionError {
        DataFusionError::External(Box::new(error))
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            // What a path names and is not there, wherever the path was written.
            Error::Invalid {
                code: "source_file_missing" | "source_no_files" | "project_folder_missing",
                ..
            } => Kind::NotFound,
            Error::Invalid { .. } | Error::BadRow { .. } => Kind::Invalid,
            Error::NotFound { .. } => Kind::NotFound,
            Error::Changed { .. } | Error::Conflict { .. } => Kind::Conflict,
            Error::Exhausted { .. } => Kind::Exhausted,
            Error::Timeout { .. } => Kind::Timeout,
            Error::Io { reason, .. } if Error::is_full(reason) => Kind::Exhausted,
            Error::Io { .. } => Kind::Unavailable,
            Error::Live { kind, .. } => *kind,
            Error::Internal { .. } => Kind::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Error::Invalid { code, .. } | Error::Conflict { code, .. } | Error::Live { code, .. } => code,
            Error::NotFound { .. } => "not_found",
            Error::BadRow { .. } => "bad_row",
            Error::Changed { .. } => "changed",
            Error::Exhausted { .. } => "limit_reached",
            Error::Timeout { .. } => "timeout",
            Error::Io { reason, .. } if Error::is_full(reason) => "disk_full",
            Error::Io { .. } => "file_unavailable",
            Error::Internal { .. } => "internal",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Invalid { hint, .. }
            | Error::NotFound { hint, .. }
            | Error::BadRow { hint, .. }
            | Error::Conflict { hint, .. }
            | Error::Live { hint, .. }
            | Error::Exhausted { hint, .. } => hint.clone(),
            Error::Changed { .. } => Some("run it again when nobody writes to it".to_owned()),
            Error::Timeout { .. } => Some("ask for less at once, or allow more time".to_owned()),
            Error::Io { reason, .. } if reason == "permission denied" => {
                Some("let the user that Asof runs as use it".to_owned())
            }
            Error::Io { reason, .. } if Error::is_full(reason) => {
                Some("free space and try again; nothing was lost".to_owned())
            }
            Error::Io { .. } | Error::Internal { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use asof_model::Explain;

    use super::*;

    #[test]
    fn a_full_disk_is_named_whoever_met_it() {
        let path = Path::new("d/a.parquet");
        let met = std::io::Error::from_raw_os_error(28);
        let within = Error::Io {
            doing: "write",
            path: "its output".to_owned(),
            reason: format!("Arrow: External: {met}"),
        };
        for full in [Error::io("write", path, &met), within] {
            assert_eq!((full.kind(), full.code()), (Kind::Exhausted, "disk_full"), "{full}");
            assert!(full.hint().is_some_and(|hint| hint.contains("free space")));
        }
        assert_eq!(Error::io("read", path, &std::io::Error::from_raw_os_error(5)).code(), "file_unavailable");
    }
}
