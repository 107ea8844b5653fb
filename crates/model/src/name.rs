//! Names of things: lower-case identifiers, and how one project refers to another.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A name of a project, entity, source, view, feature, key or service: `[a-z][a-z0-9_]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Checks the text.
    ///
    /// # Errors
    /// [`BadName`] where it is not `[a-z][a-z0-9_]{0,62}`.
    pub fn new(text: impl Into<String>) -> Result<Name, BadName> {
        let text = text.into();
        let mut letters = text.bytes();
        let good = letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && text.len() <= 63
            && letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if good { Ok(Name(text)) } else { Err(BadName { text }) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a name: a name starts with a lower-case letter and has at most 63 lower-case letters, digits and underscores"
)]
pub struct BadName {
    /// The text as given.
    pub text: String,
}

impl TryFrom<String> for Name {
    type Error = BadName;
    fn try_from(text: String) -> Result<Name, BadName> {
        Name::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A thing of a project, by name: `view`, or `project.view` where it is another project's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// None: the project the reference stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// The thing's own name.
    pub name: Name,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(project) = &self.project {
            write!(f, "{project}.")?;
        }
        write!(f, "{}", self.name)
    }
}
