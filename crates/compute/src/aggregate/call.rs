//! How an aggregate is asked for.

use std::ops::RangeInclusive;

use asof_model::{DataType, Literal};

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

impl From<&Literal> for Constant {
    fn from(literal: &Literal) -> Constant {
        match literal {
            Literal::Int(value) => Constant::Int(*value),
            Literal::Float(value) => Constant::Float(value.value()),
            Literal::Text(value) => Constant::Text(value.clone()),
            Literal::Bool(value) => Constant::Bool(*value),
        }
    }
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

    /// The constants, to be taken one after another.
    pub(crate) fn constants(&self, of: &'static str, usage: &'static str) -> Constants<'_> {
        Constants { aggregate: of, usage, rest: &self.constants }
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

/// The constants of a call that are not taken yet.
pub(crate) struct Constants<'a> {
    aggregate: &'static str,
    usage: &'static str,
    rest: &'a [Constant],
}

impl Constants<'_> {
    /// The next one, a whole number of a range; where none is left, the default.
    pub(crate) fn whole(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
        default: Option<u64>,
    ) -> Result<u64, CallError> {
        let (from, to) = (range.start(), range.end());
        let wanted = match (*from, *to) {
            (from, i64::MAX) => format!("a whole number, at least {from}"),
            (from, to) => format!("a whole number from {from} to {to}"),
        };
        match (self.rest.split_first(), default) {
            (Some((Constant::Int(found), rest)), _) => {
                if !range.contains(found) {
                    return Err(self.wrong(format!("`{name}` is {wanted}, not {found}")));
                }
                self.rest = rest;
                u64::try_from(*found).map_err(|_| self.wrong(format!("`{name}` is {wanted}")))
            }
            (Some(_), _) => Err(self.wrong(format!("`{name}` is {wanted}"))),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.wrong(format!("`{name}` is missing, {wanted}"))),
        }
    }

    /// The next one, a number of a range.
    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<f64, CallError> {
        let wanted = format!("a number from {} to {}", range.start(), range.end());
        let found = match self.rest.first() {
            None => return Err(self.wrong(format!("`{name}` is missing, {wanted}"))),
            Some(Constant::Int(found)) => *found as f64,
            Some(Constant::Float(found)) => *found,
            Some(_) => return Err(self.wrong(format!("`{name}` is {wanted}"))),
        };
        if !range.contains(&found) {
            return Err(self.wrong(format!("`{name}` is {wanted}, not {found}")));
        }
        self.rest = &self.rest[1..];
        Ok(found)
    }

    /// Nothing, where all are taken.
    pub(crate) fn end(&self) -> Result<(), CallError> {
        match self.rest.len() {
            0 => Ok(()),
            1 => Err(self.wrong("there is a constant too many".to_owned())),
            more => Err(self.wrong(format!("there are {more} constants too many"))),
        }
    }

    fn wrong(&self, reason: String) -> CallError {
        CallError::Constants { aggregate: self.aggregate, usage: self.usage, reason }
    }
}
