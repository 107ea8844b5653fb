//! What can go wrong while data moves.

use asof_model::{Explain, Kind};
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
            FlowError::NotFound { .. } => Kind::NotFound,
            FlowError::Forbidden { .. } => Kind::Forbidden,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            FlowError::Engine(error) => error.code(),
            FlowError::Registry(error) => error.code(),
            FlowError::NotFound { .. } => "not_found",
            FlowError::Forbidden { .. } => "forbidden",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            FlowError::Engine(error) => error.hint(),
            FlowError::Registry(error) => error.hint(),
            FlowError::NotFound { hint, .. } => hint.clone(),
            FlowError::Forbidden { .. } => {
                Some("ask the owner of the project for a token that may".to_owned())
            }
        }
    }
}
