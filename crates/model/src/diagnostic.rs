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

impl ProjectFile {
    /// Takes the bytes of a file, which must be UTF-8.
    ///
    /// # Errors
    /// A diagnostic that names the file and the line of the first byte that is not.
    pub fn from_bytes(path: impl Into<String>, bytes: Vec<u8>) -> Result<ProjectFile, Diagnostic> {
        let path = path.into();
        String::from_utf8(bytes).map(|text| ProjectFile { path: path.clone(), text }).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let before = &error.as_bytes()[..good];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
            Diagnostic::error("not_utf8", format!("file `{path}` is not UTF-8 text"))
                .at(Span { file: path, line, column, length: 1 })
                .hint("save the file as UTF-8")
        })
    }
}

impl Diagnostic {
    /// An error without a place yet.
    pub fn error(code: &str, message: impl Into<String>) -> Diagnostic {
        let severity = Severity::Error;
        Diagnostic { severity, code: code.to_owned(), span: None, message: message.into(), hint: None }
    }

    /// A warning without a place yet.
    pub fn warning(code: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// The same at a place.
    #[must_use]
    pub fn at(self, span: Span) -> Diagnostic {
        Diagnostic { span: Some(span), ..self }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Diagnostic {
        Diagnostic { hint: Some(hint.into()), ..self }
    }

    /// The same with a hint, if there is one.
    #[must_use]
    pub fn maybe_hint(self, hint: Option<String>) -> Diagnostic {
        Diagnostic { hint: hint.or(self.hint), ..self }
    }

    /// Whether definitions with this finding cannot be applied.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Whether any finding is an error.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(Diagnostic::is_error)
}
