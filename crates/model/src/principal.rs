//! Who asks. Every operation that reads or changes anything takes one.

use crate::Name;

/// Who asks for an operation. Today the only one is the local owner; roles and grants come with
/// their own issue and will not change a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name written into records, e.g. `owner`.
    pub name: String,
    /// The projects it may see; none means all of them.
    pub projects: Option<Vec<Name>>,
}

impl Principal {
    /// The owner of the process and its files.
    pub fn owner() -> Principal {
        Principal { name: "owner".to_owned(), projects: None }
    }
}
