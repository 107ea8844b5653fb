//! What can go wrong while data moves.

use std::time::Duration;

use asof_model::{Address, Explain, Kind};
use asof_registry::RegistryError;

/// The room's result.
pub type Result<T, E = FlowError> = std::result::Result<T, E>;

/// Why data could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// Reading, checking or storing rows.
    #[error(transparent)]
    Engine(#[from] asof_engine::Error),
    /// The record of definitions and runs.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The online store.
    #[error(transparent)]
    Online(#[from] asof_online::Error),
    /// A view could not be materialised; the others asked for were.
    #[error("view `{view}`: {source}{}", match .others { 0 => String::new(), n => format!(" ({n} more views failed)") })]
    View {
        /// The view.
        view: Address,
        /// Why.
        source: Box<FlowError>,
        /// How many more views failed.
        others: usize,
    },
    /// A source without event time has two rows of one key.
    #[error(
        "source `{source_name}` has no event time, and more than one row of a key ({keys}) of view `{view}`"
    )]
    SecondRow {
        /// The source.
        source_name: Address,
        /// The view.
        view: Address,
        /// The key's columns.
        keys: String,
    },
    /// A row's values cannot be kept.
    #[error("view `{view}`: {source}")]
    Row {
        /// The view.
        view: Address,
        /// Why.
        source: asof_compute::RowError,
    },
    /// As many operations go on as may, and as many wait.
    #[error(
        "the node does as many long operations at once as it may ({at_once}), and {waiting} more wait for their turn: \
         this one ({operation}) was not begun"
    )]
    Busy {
        /// What was asked for.
        operation: &'static str,
        /// How many go on.
        at_once: usize,
        /// How many wait.
        waiting: usize,
    },
    /// The node is told to stop.
    #[error("the node is stopping, so the operation was not finished")]
    Stopping,
    /// A defect in Asof.
    #[error("{what}")]
    Internal {
        /// What was found.
        what: String,
    },
    /// A file of the serving log cannot be used.
    #[error("file `{file}` of the serving log cannot be read: {reason}")]
    ServingLog {
        /// The file, below the folder of the log.
        file: String,
        /// Why.
        reason: String,
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
    /// The principal may not see the project.
    #[error("project `{project}` is not yours")]
    Forbidden {
        /// The project.
        project: String,
    },
}

impl Explain for FlowError {
    fn kind(&self) -> Kind {
        match self {
            FlowError::Engine(error) => error.kind(),
            FlowError::Registry(error) => error.kind(),
            FlowError::Online(error) => error.kind(),
            FlowError::View { source, .. } => source.kind(),
            FlowError::SecondRow { .. } | FlowError::ServingLog { .. } => Kind::Invalid,
            FlowError::Busy { .. } => Kind::Exhausted,
            FlowError::Stopping => Kind::Unavailable,
            FlowError::Row { .. } | FlowError::Internal { .. } => Kind::Internal,
            FlowError::NotFound { .. } => Kind::NotFound,
            FlowError::Forbidden { .. } => Kind::Forbidden,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            FlowError::Engine(error) => error.code(),
            FlowError::Registry(error) => error.code(),
            FlowError::Online(error) => error.code(),
            FlowError::View { source, .. } => source.code(),
            FlowError::SecondRow { .. } => "second_row",
            FlowError::ServingLog { .. } => "serving_log_broken",
            FlowError::Busy { .. } => "too_many_operations",
            FlowError::Stopping => "stopping",
            FlowError::Row { .. } => "row_not_kept",
            FlowError::Internal { .. } => "internal",
            FlowError::NotFound { .. } => "not_found",
            FlowError::Forbidden { .. } => "forbidden",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            FlowError::Engine(error) => error.retry_after(),
            FlowError::Registry(error) => error.retry_after(),
            FlowError::Online(error) => error.retry_after(),
            FlowError::View { source, .. } => source.retry_after(),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            FlowError::Engine(error) => error.hint(),
            FlowError::Registry(error) => error.hint(),
            FlowError::Online(error) => error.hint(),
            FlowError::View { source, .. } if source.code() == "expression_failed" => Some(
                "online every row that the view's `where` keeps may have to answer, so the features of all of them \
                 are evaluated, where `asof train` evaluates only rows that answer: leave the row out with `where`, \
                 or guard the expression, e.g. with `try_cast`, `nullif` or `case`"
                    .to_owned(),
            ),
            FlowError::View { source, .. } => source.hint(),
            FlowError::SecondRow { .. } => Some(
                "give the source an `event_time`, or the view a `where` that leaves one row a key".to_owned(),
            ),
            FlowError::ServingLog { .. } => Some(
                "use the Asof that wrote it or a newer one, or move the file out of the folder `serving-log` of the node"
                    .to_owned(),
            ),
            FlowError::Busy { .. } => Some(
                "ask again when some have ended, which `asof status` shows; `operations` in asof.yaml says how many go on \
                 at once"
                    .to_owned(),
            ),
            FlowError::Stopping => Some(
                "ask again when it is up: what was done is kept, and the rest is gone on with".to_owned(),
            ),
            FlowError::Row { .. } | FlowError::Internal { .. } => None,
            FlowError::NotFound { hint, .. } => hint.clone(),
            FlowError::Forbidden { .. } => {
                Some("ask the owner of the project for a token that may".to_owned())
            }
        }
    }
}
