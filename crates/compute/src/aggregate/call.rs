//! How an aggregate is asked for.

use asof_model::DataType;

/// An argument's type and constants, from which an [`super::Aggregate`] makes a [`super::Function`].
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionCall {
    /// The type of the argument; none where it is `*`.
    pub argument: Option<DataType>,
    /// What follows the argument.
    pub constants: Vec<Constant>,
}

/// A constant in a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// A truth value.
    Bool(bool),
}

/// Why an aggregate cannot be called so.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// It needs an argument, and was given `*`.
    #[error("{aggregate} takes a value of every row, not `*`")]
    NoArgument {
        /// The aggregate.
        aggregate: &'static str,
    },
    /// It does not take values of this type.
    #[error("{aggregate} takes {takes}, not {found}")]
    Argument {
        /// The aggregate.
        aggregate: &'static str,
        /// What it takes.
        takes: &'static str,
        /// The type given.
        found: DataType,
    },
    /// Another number of constants, or other ones.
    #[error("{aggregate} is called as `{usage}`: {reason}")]
    Constants {
        /// The aggregate.
        aggregate: &'static str,
        /// How it is called.
        usage: &'static str,
        /// What is wrong with them.
        reason: String,
    },
}

impl FunctionCall {
    /// The argument's type, of an aggregate that needs one.
    pub(crate) fn argument(&self, of: &'static str) -> Result<&DataType, CallError> {
        self.argument.as_ref().ok_or(CallError::NoArgument { aggregate: of })
    }

    /// Nothing, of an aggregate that takes no constants.
    pub(crate) fn no_constants(&self, of: &'static str, usage: &'static str) -> Result<(), CallError> {
        if self.constants.is_empty() {
            return Ok(());
        }
        let reason = "it takes no constants".to_owned();
        Err(CallError::Constants { aggregate: of, usage, reason })
    }
}
