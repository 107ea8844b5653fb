//! What can go wrong in this room, by what the caller can do about it.

use std::time::Duration;

use asof_model::{Explain, Kind, Timestamp};

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
    #[error("no space left on the disk of the online store `{path}`{}", kept_free(*.reserve))]
    Full {
        /// The directory.
        path: String,
        /// Bytes that are kept free, so that what is in memory can be written; 0 where it was the disk that refused.
        reserve: u64,
    },
    /// More waits to be written than the store holds back.
    #[error("the live store `{path}` has {waiting} bytes waiting to be written, and takes no more now")]
    Busy {
        /// The directory.
        path: String,
        /// Bytes that wait.
        waiting: usize,
        /// When to ask again.
        retry_after: Duration,
    },
    /// The idempotency key was used for another batch.
    #[error("the idempotency key was used for another batch of this source, at {at}")]
    KeyReused {
        /// `v` of that batch.
        at: Timestamp,
    },
    /// A write to disk failed, so that it is not known what is there: nothing is acknowledged any more.
    #[error("the live store `{path}` has stopped: {reason}")]
    Stopped {
        /// The directory.
        path: String,
        /// What failed.
        reason: String,
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
    /// The files are not what this program wrote, and hold rows that may stand nowhere else.
    #[error("the live store `{path}` is damaged: {what}")]
    LiveDamaged {
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

fn kept_free(reserve: u64) -> String {
    match reserve {
        0 => String::new(),
        bytes => format!(": {} MB of it are kept free for the rows that are in memory", bytes / 1_000_000),
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Error::Owned { .. } | Error::BackupExists { .. } | Error::KeyReused { .. } => Kind::Conflict,
            Error::Newer { .. } | Error::TooLong { .. } => Kind::Invalid,
            Error::NoGeneration { .. } => Kind::NotFound,
            Error::Full { .. } | Error::Busy { .. } => Kind::Exhausted,
            Error::Io { .. } | Error::Stopped { .. } => Kind::Unavailable,
            Error::Damaged { .. } | Error::LiveDamaged { .. } => Kind::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Error::Owned { .. } => "online_store_owned",
            Error::Newer { .. } => "online_store_newer",
            Error::NoGeneration { .. } => "generation_not_found",
            Error::BackupExists { .. } => "backup_exists",
            Error::Full { .. } => "disk_full",
            Error::Busy { .. } => "live_store_busy",
            Error::KeyReused { .. } => "idempotency_key_reused",
            Error::Stopped { .. } => "live_store_stopped",
            Error::Io { .. } => "online_store_unavailable",
            Error::Damaged { .. } => "online_store_damaged",
            Error::LiveDamaged { .. } => "live_store_damaged",
            Error::TooLong { .. } => "online_row_too_long",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Busy { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Owned { .. } => Some("stop that process, or use its data through it".to_owned()),
            Error::Newer { .. } => Some("use the Asof that wrote it, or a newer one".to_owned()),
            Error::BackupExists { .. } => Some("name a folder that does not exist yet".to_owned()),
            Error::Full { .. } => Some("free space and try again; nothing was lost".to_owned()),
            Error::Busy { retry_after, .. } => {
                Some(format!("send it again in {} ms; nothing of it was stored", retry_after.as_millis()))
            }
            Error::KeyReused { .. } => {
                Some("send another batch with a key of its own, or the first one as it was".to_owned())
            }
            Error::Stopped { .. } => Some(
                "look at the disk, then restart; what was acknowledged is there, and sending again with the same \
                 idempotency key is safe"
                    .to_owned(),
            ),
            Error::Damaged { .. } => {
                Some("restore a backup, or remove the folder and materialise again".to_owned())
            }
            Error::LiveDamaged { .. } => Some(
                "keep the folder, and restore a backup: rows pushed since the last flush stand nowhere else"
                    .to_owned(),
            ),
            Error::NoGeneration { .. } | Error::Io { .. } | Error::TooLong { .. } => None,
        }
    }
}
