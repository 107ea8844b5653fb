//! What a command ends with when it fails: the same shape whether the node that said so is in this process
//! or another one.

use std::borrow::Cow;

use asof_model::{Diagnostics, Explain, Kind, ProjectFile};
use asof_server::FailureBody;

/// Why a command failed.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What went wrong.
    pub body: Box<FailureBody>,
    /// The texts its diagnostics point into.
    pub files: Vec<ProjectFile>,
}

impl Problem {
    /// A problem found here.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Problem {
        Problem {
            body: Box::new(FailureBody {
                kind: Cow::Borrowed(kind.name()),
                code: Cow::Borrowed(code),
                message: message.into(),
                hint: None,
                diagnostics: Vec::new(),
            }),
            files: Vec::new(),
        }
    }

    /// A wrong flag or argument, or something given that cannot be used.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Problem {
        Problem::new(Kind::Invalid, code, message)
    }

    /// A file or folder that cannot be used.
    pub fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Problem {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            std::io::ErrorKind::PermissionDenied => Kind::Forbidden,
            _ => Kind::Unavailable,
        };
        if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
            let message = format!("cannot {doing} `{}`: the disk is full", path.display());
            return Problem::new(Kind::Exhausted, "disk_full", message)
                .hint("free space and try again; nothing was lost");
        }
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Problem::new(kind, "file_unusable", format!("cannot {doing} `{}`: {reason}", path.display()))
    }

    /// With what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.body.hint = Some(hint.into());
        self
    }

    /// With the texts its diagnostics point into.
    pub fn in_files(mut self, files: &[ProjectFile]) -> Problem {
        self.files = files.to_vec();
        self
    }

    /// With findings about definitions.
    pub fn diagnostics(mut self, diagnostics: Diagnostics) -> Problem {
        self.body.diagnostics = diagnostics;
        self
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        Kind::from_name(&self.body.kind).unwrap_or(Kind::Internal)
    }
}

impl Problem {
    /// What a node says, in the words of the command line.
    pub fn said(mut body: FailureBody) -> Problem {
        body.hint = body.hint.map(|hint| hint.replace("(`full_names: true`)", "(`--full-names`)"));
        Problem { body: Box::new(body), files: Vec::new() }
    }
}

impl<E: Explain> From<E> for Problem {
    fn from(error: E) -> Problem {
        let mut problem = Problem::new(error.kind(), error.code(), error.to_string());
        problem.body.hint = error.hint();
        problem
    }
}
