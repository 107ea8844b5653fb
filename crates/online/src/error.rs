//! What can go wrong in this room, by what the caller can do about it.

use asof_model::{Explain, Kind};

use crate::GenerationId;

/// The room's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store could not do what it was asked. Never holds a key or a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the directory open.
    #[error("the online store `{path}` is open in another process{}", .holder.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Owned {
        /// The directory.
        path: String,
        /// The process, as it wrote itself down.
        holder: Option<String>,
    },
    /// Written by a newer Asof.
    #[error("the online store `{path}` has format {found}; this Asof reads up to {known}")]
    Newer {
        /// The directory.
        path: String,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// There is no such generation.
    #[error("generation {id} of the online store not found")]
    NoGeneration {
        /// As asked.
        id: GenerationId,
    },
    /// The place a backup should go to is taken.
    #[error("the backup's folder `{path}` exists and is not empty")]
    BackupExists {
        /// The folder.
        path: String,
    },
    /// The disk is full.
    #[error("no space left on the disk of the online store `{path}`")]
    Full {
        /// The directory.
        path: String,
    },
    /// A file cannot be used; nothing of the operation was acknowledged.
    #[error("cannot {doing} the online store `{path}`: {reason}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The directory.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The files are not what this program wrote.
    #[error("the online store `{path}` is damaged: {what}")]
    Damaged {
        /// The directory.
        path: String,
        /// What was found.
        what: String,
    },
    /// A generation, key or batch is larger than the format holds.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// The thing.
        what: &'static str,
        /// Its greatest length.
        limit: usize,
    },
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Error::Owned { .. } | Error::BackupExists { .. } => Kind::Conflict,
            Error::Newer { .. } | Error::TooLong { .. } => Kind::Invalid,
            Error::NoGeneration { .. } => Kind::NotFound,
            Error::Full { .. } => Kind::Exhausted,
            Error::Io { .. } => Kind::Unavailable,
            Error::Damaged { .. } => Kind::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Error::Owned { .. } => "online_store_owned",
            Error::Newer { .. } => "online_store_newer",
            Error::NoGeneration { .. } => "generation_not_found",
            Error::BackupExists { .. } => "backup_exists",
            Error::Full { .. } => "disk_full",
            Error::Io { .. } => "online_store_unavailable",
            Error::Damaged { .. } => "online_store_damaged",
            Error::TooLong { .. } => "online_row_too_long",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Owned { .. } => Some("stop that process, or use its data through it".to_owned()),
            Error::Newer { .. } => Some("use the Asof that wrote it, or a newer one".to_owned()),
            Error::BackupExists { .. } => Some("name a folder that does not exist yet".to_owned()),
            Error::Full { .. } => Some("free space and try again; nothing was lost".to_owned()),
            Error::Damaged { .. } => {
                Some("restore a backup, or remove the folder and materialise again".to_owned())
            }
            Error::NoGeneration { .. } | Error::Io { .. } | Error::TooLong { .. } => None,
        }
    }
}
