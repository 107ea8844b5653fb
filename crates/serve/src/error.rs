//! What can go wrong in this room, by what the caller can do about it.

use asof_compute::DerivationError;
use asof_model::{Address, DataType, Explain, Kind, SelectError, Timestamp};

/// The room's result.
pub type Result<T, E = ServeError> = std::result::Result<T, E>;

/// Why a request was not answered. Never holds a key or a value.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// What is asked for does not exist, or its columns collide.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A key column that the selection needs is not there.
    #[error("the key column `{key}` ({data_type}) is missing; {readers} is read by it")]
    MissingKey {
        /// The key's name in requests.
        key: String,
        /// Its type.
        data_type: DataType,
        /// A view that needs it.
        readers: Address,
    },
    /// A key column that nothing asked for needs.
    #[error("the key column `{key}` is no key of what is asked")]
    ExtraKey {
        /// Its name.
        key: String,
        /// The keys there are.
        known: String,
    },
    /// What derived features take of the request is not there.
    #[error("the request has no `{column}` ({data_type}), which derived features read")]
    MissingRequest {
        /// Its name.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// What the request brings for derived features is of another type.
    #[error("`{column}` of the request is {expected}, not {found}")]
    RequestType {
        /// Its name.
        column: String,
        /// The type declared.
        expected: DataType,
        /// The Arrow type given.
        found: String,
    },
    /// A derived feature cannot be computed of this request.
    #[error(transparent)]
    Derived(#[from] DerivationError),
    /// The same key column twice.
    #[error("the key column `{key}` is given twice")]
    KeyTwice {
        /// Its name.
        key: String,
    },
    /// Key columns of several lengths.
    #[error(
        "the key columns differ in length: `{first}` has {first_rows} values, `{second}` has {second_rows}"
    )]
    UnequalLengths {
        /// One column.
        first: String,
        /// Its values.
        first_rows: usize,
        /// Another.
        second: String,
        /// Its values.
        second_rows: usize,
    },
    /// A key column of another type.
    #[error("the key column `{key}` is {expected}, not {found}")]
    KeyType {
        /// Its name.
        key: String,
        /// The type of the entity's key.
        expected: DataType,
        /// The Arrow type given.
        found: String,
    },
    /// One name for keys of two types.
    #[error("the key `{key}` is {first_type} for view `{first}` and {second_type} for view `{second}`")]
    KeyConflict {
        /// Its name in requests.
        key: String,
        /// One view.
        first: Address,
        /// Its type there.
        first_type: DataType,
        /// Another.
        second: Address,
        /// Its type there.
        second_type: DataType,
    },
    /// The view has no finished materialisation of the version asked for.
    #[error("view `{view}` is not materialised in its present version")]
    NotMaterialized {
        /// The view.
        view: Address,
    },
    /// `as_of` lies before what the view keeps online.
    #[error("view `{view}` answers online from {from} on, not as of {as_of}")]
    BeyondHistory {
        /// The view.
        view: Address,
        /// Asked.
        as_of: Timestamp,
        /// The earliest that is answered.
        from: Timestamp,
    },
    /// `as_of` lies in the future.
    #[error("as_of {as_of} is after the present, {now}")]
    AfterNow {
        /// Asked.
        as_of: Timestamp,
        /// The present T.
        now: Timestamp,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] asof_online::Error),
    /// A stored row cannot be read.
    #[error("view `{view}`: {source}")]
    Row {
        /// The view.
        view: Address,
        /// Why.
        source: asof_compute::RowError,
    },
    /// Keys cannot be read as bytes.
    #[error(transparent)]
    Compute(#[from] asof_compute::ComputeError),
}

impl Explain for ServeError {
    fn kind(&self) -> Kind {
        match self {
            ServeError::MissingKey { .. }
            | ServeError::ExtraKey { .. }
            | ServeError::MissingRequest { .. }
            | ServeError::RequestType { .. }
            | ServeError::KeyTwice { .. }
            | ServeError::UnequalLengths { .. }
            | ServeError::KeyType { .. }
            | ServeError::KeyConflict { .. }
            | ServeError::BeyondHistory { .. }
            | ServeError::AfterNow { .. } => Kind::Invalid,
            ServeError::NotMaterialized { .. } => Kind::Unavailable,
            ServeError::Derived(error) => error.kind(),
            ServeError::Select(error) => error.kind(),
            ServeError::Store(error) => error.kind(),
            ServeError::Row { .. } => Kind::Internal,
            ServeError::Compute(error) => error.kind(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            ServeError::MissingKey { .. } => "missing_key",
            ServeError::ExtraKey { .. } => "unknown_key",
            ServeError::MissingRequest { .. } => "missing_request_column",
            ServeError::RequestType { .. } => "bad_request_value",
            ServeError::Derived(error) => error.code(),
            ServeError::KeyTwice { .. } => "key_twice",
            ServeError::UnequalLengths { .. } => "unequal_lengths",
            ServeError::KeyType { .. } => "bad_key_type",
            ServeError::KeyConflict { .. } => "key_conflict",
            ServeError::NotMaterialized { .. } => "view_not_materialized",
            ServeError::BeyondHistory { .. } => "beyond_history",
            ServeError::AfterNow { .. } => "as_of_after_now",
            ServeError::Select(error) => error.code(),
            ServeError::Store(error) => error.code(),
            ServeError::Row { .. } => "online_row_damaged",
            ServeError::Compute(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ServeError::MissingKey { key, .. } => {
                Some(format!("add the column `{key}`, one value per entity"))
            }
            ServeError::ExtraKey { known, .. } => Some(format!("it takes {known}")),
            ServeError::MissingRequest { column, .. } => {
                Some(format!("add `{column}` to `request`, one value per entity"))
            }
            ServeError::RequestType { expected, .. } => Some(format!("give the values as {expected}")),
            ServeError::Derived(error) => error.hint(),
            ServeError::KeyTwice { .. } => Some("give each key column once".to_owned()),
            ServeError::UnequalLengths { .. } => Some("every column has one value per entity".to_owned()),
            ServeError::KeyType { expected, .. } => Some(format!("give the values as {expected}")),
            ServeError::KeyConflict { .. } => Some(
                "read one of them in another role: {from: VIEW, keys: {KEY: OTHER_NAME}} in a service"
                    .to_owned(),
            ),
            ServeError::NotMaterialized { view } => Some(format!("run `asof materialize {}`", view.name)),
            ServeError::BeyondHistory { view, .. } => Some(format!(
                "ask offline: `asof train` with a spine that holds the keys and this time; or give view `{}` a longer `history`",
                view.name
            )),
            ServeError::AfterNow { .. } => Some("leave out as_of for the present".to_owned()),
            ServeError::Select(error) => error.hint(),
            ServeError::Store(error) => error.hint(),
            ServeError::Row { view, .. } => Some(format!("run `asof materialize {}` again", view.name)),
            ServeError::Compute(error) => error.hint(),
        }
    }
}
