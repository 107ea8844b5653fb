//! SQL expressions as users write them: parsed for names, shape and carets; never evaluated here.

use serde::{Deserialize, Serialize};

/// A SQL expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression {
    /// The text as written.
    pub text: String,
}
