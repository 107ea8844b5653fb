//! What can go wrong while values are read, encoded or folded.

use asof_model::{DataType, Explain, Kind};

/// An error of the algebra. Never holds a cell of data.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// An array is not of the type a key, column or feature has.
    #[error("column of type {found} cannot be read as {expected}")]
    WrongType {
        /// The type agreed.
        expected: DataType,
        /// The Arrow type found.
        found: String,
    },
    /// A value of a column does not fit the type it is read as.
    #[error("a value of the column of type {found} does not fit {expected}: {reason}")]
    OutOfRange {
        /// The type agreed.
        expected: DataType,
        /// The Arrow type found.
        found: String,
        /// What Arrow says, without the value.
        reason: String,
    },
    /// An Arrow type Asof has no name for.
    #[error("Arrow type {found} is not supported")]
    Unsupported {
        /// The Arrow type.
        found: String,
    },
    /// A spine or history larger than addresses reach.
    #[error("{what} has {found} rows, and at most {limit} can be answered at once")]
    TooLarge {
        /// The spine, or a file.
        what: &'static str,
        /// How many rows.
        found: u64,
        /// How many are possible.
        limit: u64,
    },
    /// Stored bytes are not what this version writes.
    #[error("stored {what} cannot be read: {reason}")]
    Damaged {
        /// What the bytes hold.
        what: &'static str,
        /// What is wrong with them.
        reason: String,
    },
}

impl Explain for ComputeError {
    fn kind(&self) -> Kind {
        match self {
            ComputeError::WrongType { .. }
            | ComputeError::OutOfRange { .. }
            | ComputeError::Unsupported { .. } => Kind::Invalid,
            ComputeError::TooLarge { .. } => Kind::Exhausted,
            ComputeError::Damaged { .. } => Kind::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            ComputeError::WrongType { .. } => "wrong_type",
            ComputeError::OutOfRange { .. } => "value_out_of_range",
            ComputeError::Unsupported { .. } => "unsupported_type",
            ComputeError::TooLarge { .. } => "too_many_rows",
            ComputeError::Damaged { .. } => "damaged",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ComputeError::WrongType { expected, .. } | ComputeError::OutOfRange { expected, .. } => {
                Some(format!("give the column as {expected}, or change the type in the definition"))
            }
            ComputeError::Unsupported { .. } => {
                Some("leave the column out, or cast it where it is made".to_owned())
            }
            ComputeError::TooLarge { .. } => Some("ask in several parts".to_owned()),
            ComputeError::Damaged { .. } => None,
        }
    }
}
