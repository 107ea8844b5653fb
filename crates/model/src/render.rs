//! Findings as a person reads them: what, where, the line with a caret, the way out.

use std::fmt::Write;

use crate::{Diagnostic, Diagnostics, ProjectFile, Severity, Span};

/// No more of a message or hint is shown.
const LONGEST: usize = 600;
/// No more of a line than this is shown.
const WIDEST: usize = 140;

/// All findings, then their count. Colours are ANSI's.
pub fn render(diagnostics: &Diagnostics, files: &[ProjectFile], color: bool) -> String {
    let paint = Paint { color };
    let mut out = String::new();
    for diagnostic in diagnostics {
        one(diagnostic, files, &paint, &mut out);
        out.push('\n');
    }
    let errors = diagnostics.iter().filter(|it| it.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let count = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        more => Some(format!("{more} {what}s")),
    };
    let parts: Vec<String> = count(errors, "error").into_iter().chain(count(warnings, "warning")).collect();
    if !parts.is_empty() {
        let _ = writeln!(out, "{}", parts.join(", "));
    }
    out
}

struct Paint {
    color: bool,
}

impl Paint {
    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }
    fn frame(&self, text: &str) -> String {
        self.with("1;34", text)
    }
    fn with(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn one(diagnostic: &Diagnostic, files: &[ProjectFile], paint: &Paint, out: &mut String) {
    let (word, code) = match diagnostic.severity {
        Severity::Error => ("error", "1;31"),
        Severity::Warning => ("warning", "1;33"),
    };
    let head = paint.with(code, &format!("{word}[{}]", diagnostic.code));
    let _ = writeln!(out, "{head}{}", paint.bold(&format!(": {}", printable(&diagnostic.message))));
    let mut margin = 1;
    if let Some(span) = &diagnostic.span {
        margin = span.line.to_string().len();
        let indent = " ".repeat(margin);
        let arrow = paint.frame("-->");
        let _ = writeln!(out, "{indent}{arrow} {}:{}:{}", printable(&span.file), span.line, span.column);
        let file = files.iter().find(|file| file.path == span.file);
        if let Some(line) = file.and_then(|file| file.text.split('\n').nth(span.line.saturating_sub(1))) {
            let (shown, from) = window(line.trim_start_matches('\u{feff}').trim_end_matches('\r'), span);
            let bar = paint.frame("|");
            let _ = writeln!(out, "{indent} {bar}");
            let _ = writeln!(out, "{} {bar} {shown}", paint.frame(&span.line.to_string()));
            let before = " ".repeat(span.column.saturating_sub(1).saturating_sub(from));
            let room = (shown.chars().count() + 1).saturating_sub(before.len()).max(1);
            let caret = paint.with(code, &"^".repeat(span.length.min(room)));
            let _ = writeln!(out, "{indent} {bar} {before}{caret}");
        }
    }
    if let Some(hint) = &diagnostic.hint {
        let indent = " ".repeat(margin);
        let _ = writeln!(out, "{indent} {} {}: {}", paint.frame("="), paint.bold("help"), printable(hint));
    }
}

/// The line, or the part of a long one around the caret, and how many letters are left out before it.
fn window(line: &str, span: &Span) -> (String, usize) {
    let letters: Vec<char> =
        line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let from = if span.column <= WIDEST - 20 { 0 } else { span.column - 40 };
    let from = from.min(letters.len());
    let to = letters.len().min(from + WIDEST);
    (letters[from..to].iter().collect::<String>().trim_end().to_owned(), from)
}

/// Control letters of a definition never reach a terminal, and no text fills it.
fn printable(text: &str) -> String {
    if text.chars().count() > LONGEST + 3 {
        let start: String = text.chars().take(LONGEST).collect();
        return printable(&format!("{start}..."));
    }
    text.chars()
        .map(|letter| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter })
        .collect()
}
