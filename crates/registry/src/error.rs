//! What can go wrong with the registry.

use std::path::PathBuf;

use asof_model::{Address, Explain, Kind, Name, Revision, ThingKind};

use crate::ChangeRecord;

/// The result of everything the registry does.
pub type Result<T> = std::result::Result<T, RegistryError>;

/// What can go wrong with the registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Somebody else changed the project, or a thing it stands on, first.
    #[error("project `{project}` cannot be applied on revision {}: {}", base.0, told(changes, *now))]
    Conflict {
        /// The project applied.
        project: Name,
        /// The revision the apply was made against.
        base: Revision,
        /// The revision that stands.
        now: Revision,
        /// What changed since base, oldest first.
        changes: Vec<ChangeRecord>,
    },
    /// A thing to be removed is used.
    #[error("{kind} `{thing}` cannot be removed: it is used by {}", used_by.join(", "))]
    InUse {
        /// The kind of thing.
        kind: ThingKind,
        /// The thing.
        thing: Address,
        /// Who uses it, e.g. "service `shop.pricing`".
        used_by: Vec<String>,
    },
    /// A version stands on a thing that is not there, or on another version of it.
    #[error("{user} stands on {kind} `{thing}`, {problem}")]
    Dangling {
        /// Who stands on it, e.g. "view `shop.prices`".
        user: String,
        /// The kind of thing.
        kind: ThingKind,
        /// The thing.
        thing: Address,
        /// "which does not exist", or which version stands.
        problem: String,
    },
    /// A version was put into an apply of another project.
    #[error("{kind} `{thing}` does not belong to project `{project}`")]
    Foreign {
        /// The kind of thing.
        kind: ThingKind,
        /// The thing.
        thing: Address,
        /// The project applied.
        project: Name,
    },
    /// The same thing stands twice in one apply.
    #[error("{kind} `{thing}` stands twice in one apply")]
    Twice {
        /// The kind of thing.
        kind: ThingKind,
        /// The thing.
        thing: Address,
    },
    /// A folder whose path is not text.
    #[error("the folder of project `{project}` has a path that is not UTF-8: `{}`", root.display())]
    BadRoot {
        /// The project.
        project: Name,
        /// The folder.
        root: PathBuf,
    },
    /// Nothing of this name exists.
    #[error("{what} `{name}` not found")]
    NotFound {
        /// The kind of thing, e.g. `training set`.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// Names near it.
        nearest: Vec<String>,
    },
    /// A shortened id that several things begin with.
    #[error("{what} `{name}` is not the beginning of one id but of {}", candidates.len())]
    Ambiguous {
        /// The kind of thing.
        what: &'static str,
        /// The beginning asked for.
        name: String,
        /// Ids that begin so.
        candidates: Vec<String>,
    },
    /// An id is taken.
    #[error("{what} `{id}` exists already")]
    Exists {
        /// The kind of thing.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// A run that is not running cannot end.
    #[error("run `{id}` cannot be finished: it is {state}")]
    NotRunning {
        /// The run.
        id: String,
        /// Its state.
        state: &'static str,
    },
    /// The principal may not see the project.
    #[error("project `{project}` is not open to `{principal}`")]
    Forbidden {
        /// The project.
        project: Name,
        /// Who asked.
        principal: String,
    },
    /// The file was written by a newer program.
    #[error("the registry `{}` has version {found} of its tables; this program knows up to version {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// A stored record has a format this program does not know.
    #[error("{what} `{id}` is stored in format {found}; this program knows up to format {known}")]
    NewerRecord {
        /// The kind of record.
        what: &'static str,
        /// Its id.
        id: String,
        /// Its format.
        found: i64,
        /// The newest format this program knows.
        known: i64,
    },
    /// The file is something else.
    #[error("`{}` is not a registry of Asof", path.display())]
    NotARegistry {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("the registry `{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A commit failed earlier; nothing is written until the file is opened again.
    #[error("the registry `{}` stopped writing after a failed commit", path.display())]
    Stopped {
        /// The file.
        path: PathBuf,
    },
    /// The backup's file exists.
    #[error("cannot back up the registry to `{}`: it exists", path.display())]
    BackupExists {
        /// The file.
        path: PathBuf,
    },
    /// The database or its file failed.
    #[error("the registry failed {doing}")]
    Storage {
        /// What was being done, e.g. "reading the catalog".
        doing: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The file system failed.
    #[error("the registry failed {doing} `{}`", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn told(changes: &[ChangeRecord], now: Revision) -> String {
    const SHOWN: usize = 8;
    if changes.is_empty() {
        return format!("revision {} stands", now.0);
    }
    let mut told: Vec<String> = Vec::new();
    let mut last = None;
    for change in changes.iter().take(SHOWN) {
        if last != Some(change.revision) {
            told.push(format!("revision {} by `{}` at {}", change.revision.0, change.by, change.at));
            last = Some(change.revision);
        }
        match &change.thing {
            Some((kind, thing)) => told.push(format!("{} {kind} `{thing}`", change.action.name())),
            None => told.push(format!("moved the folder of project `{}`", change.project)),
        }
    }
    if changes.len() > SHOWN {
        told.push(format!("and {} more", changes.len() - SHOWN));
    }
    told.join(", ")
}

impl RegistryError {
    pub(crate) fn storage(doing: &'static str) -> impl FnOnce(sqlx::Error) -> RegistryError {
        move |source| RegistryError::Storage { doing, source }
    }

    /// Whether the disk had no room left: nothing of the write is there then.
    pub(crate) fn is_full(&self) -> bool {
        /// What SQLite gives where it finds no room: for rows, and for the index of its log in memory that is shared.
        const SQLITE_FULL: [&str; 2] = ["13", "4874"];
        match self {
            RegistryError::Storage { source, .. } => {
                let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
                code.is_some_and(|code| SQLITE_FULL.contains(&code.as_ref()))
            }
            RegistryError::File { source, .. } => {
                use std::io::ErrorKind::{QuotaExceeded, StorageFull};
                matches!(source.kind(), StorageFull | QuotaExceeded)
            }
            _ => false,
        }
    }
}

impl Explain for RegistryError {
    fn kind(&self) -> Kind {
        match self {
            RegistryError::Conflict { .. }
            | RegistryError::InUse { .. }
            | RegistryError::Exists { .. }
            | RegistryError::NotRunning { .. }
            | RegistryError::Dangling { .. }
            | RegistryError::BackupExists { .. } => Kind::Conflict,
            RegistryError::Foreign { .. }
            | RegistryError::Twice { .. }
            | RegistryError::BadRoot { .. }
            | RegistryError::Ambiguous { .. }
            | RegistryError::Newer { .. }
            | RegistryError::NewerRecord { .. }
            | RegistryError::NotARegistry { .. } => Kind::Invalid,
            RegistryError::NotFound { .. } => Kind::NotFound,
            RegistryError::Forbidden { .. } => Kind::Forbidden,
            full if full.is_full() => Kind::Exhausted,
            RegistryError::Stopped { .. } | RegistryError::Storage { .. } | RegistryError::File { .. } => {
                Kind::Unavailable
            }
            RegistryError::Damaged { .. } => Kind::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            RegistryError::Conflict { .. } => "apply_conflict",
            RegistryError::InUse { .. } => "thing_in_use",
            RegistryError::Dangling { .. } => "stands_on_nothing",
            RegistryError::Foreign { .. } => "foreign_thing",
            RegistryError::Twice { .. } => "thing_twice",
            RegistryError::BadRoot { .. } => "bad_root",
            RegistryError::NotFound { what: "training set", .. } => "training_set_not_found",
            RegistryError::NotFound { what: "run", .. } => "run_not_found",
            RegistryError::NotFound { what: "project", .. } => "project_not_found",
            RegistryError::NotFound { .. } => "thing_not_found",
            RegistryError::Ambiguous { .. } => "ambiguous_id",
            RegistryError::Exists { .. } => "id_exists",
            RegistryError::NotRunning { .. } => "run_not_running",
            RegistryError::Forbidden { .. } => "project_forbidden",
            RegistryError::Newer { .. } => "registry_newer",
            RegistryError::NewerRecord { .. } => "record_newer",
            RegistryError::NotARegistry { .. } => "not_a_registry",
            RegistryError::Damaged { .. } => "registry_damaged",
            RegistryError::Stopped { .. } => "registry_stopped",
            RegistryError::BackupExists { .. } => "backup_exists",
            full if full.is_full() => "disk_full",
            RegistryError::Storage { .. } | RegistryError::File { .. } => "registry_unavailable",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            RegistryError::Conflict { now, .. } => {
                Some(format!("run `asof plan` again: it compares your folder with revision {}", now.0))
            }
            RegistryError::InUse { .. } => Some(
                "remove what uses it first, in the same apply where it is of the same project".to_owned(),
            ),
            RegistryError::Dangling { .. } => Some("run `asof plan` again".to_owned()),
            RegistryError::NotFound { nearest, .. } if !nearest.is_empty() => {
                Some(format!("did you mean {}?", quoted(nearest)))
            }
            RegistryError::NotFound { what: "thing", .. } => Some(
                "`asof list` lists what is defined, `asof search TEXT` looks in descriptions too".to_owned(),
            ),
            RegistryError::Ambiguous { candidates, .. } => {
                Some(format!("write one of {}", quoted(candidates)))
            }
            RegistryError::Newer { .. } | RegistryError::NewerRecord { .. } => {
                Some("use a newer asof, or restore the backup made before the upgrade".to_owned())
            }
            RegistryError::Damaged { .. } => Some("restore a backup: asof restore DIR".to_owned()),
            RegistryError::Stopped { .. } => Some("look at the disk, then restart the node".to_owned()),
            RegistryError::BackupExists { .. } => Some("name a file that does not exist yet".to_owned()),
            full if full.is_full() => Some("free space and try again; nothing was changed".to_owned()),
            _ => None,
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}
