//! What is wrong with a definition: where, what, and the way out. All of them at once.

use serde::{Deserialize, Serialize};

/// One text of a project: `asof.yaml` or a file below `features/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectFile {
    /// The path relative to the project's folder, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// A place in a file: a range of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The path relative to the project's folder.
    pub file: String,
    /// The first line is 1.
    pub line: usize,
    /// The first column is 1, counted in characters.
    pub column: usize,
    /// How many characters the caret underlines; at least 1.
    pub length: usize,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The definitions cannot be applied.
    Error,
    /// They can; a careful user would look.
    Warning,
}

/// One finding about definitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable identifier, e.g. `view_not_found`.
    pub code: String,
    /// Where; none where it concerns the whole project.
    pub span: Option<Span>,
    /// The kind of thing, its name, the offending value.
    pub message: String,
    /// The nearest valid value, or what to do.
    pub hint: Option<String>,
}

/// Findings in the order of their places.
pub type Diagnostics = Vec<Diagnostic>;
