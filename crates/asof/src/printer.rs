//! What a command says: data to stdout, all else to stderr; colours and bars only where a person watches.

use std::io::{IsTerminal as _, Write as _};

use console::Style;
use serde::Serialize;

use crate::problem::Problem;

/// Where and how a command speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    /// JSON lines instead of text.
    pub json: bool,
    /// Whether stdout takes colours.
    pub color: bool,
    /// Whether stderr takes colours and moving bars.
    pub watched: bool,
}

impl Printer {
    /// As the flags and the terminal have it.
    pub(crate) fn new(json: bool, color: Option<bool>) -> Printer {
        let color_of = |terminal: bool| color.unwrap_or(terminal && console::colors_enabled());
        let watched = std::io::stderr().is_terminal() && !json;
        console::set_colors_enabled_stderr(color_of(std::io::stderr().is_terminal()));
        console::set_colors_enabled(color_of(std::io::stdout().is_terminal()));
        Printer { json, color: color_of(std::io::stdout().is_terminal()) && !json, watched }
    }

    /// Whether a person can be asked.
    pub(crate) fn can_ask(self) -> bool {
        self.watched && std::io::stdin().is_terminal()
    }

    /// A line of data.
    pub(crate) fn line(self, text: impl std::fmt::Display) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// Data as one line of JSON.
    pub(crate) fn json_line(self, value: &impl Serialize) {
        let mut line = serde_json::to_vec(value).unwrap_or_default();
        line.push(b'\n');
        self.bytes(&line);
    }

    /// Data as it is. A reader that has gone away ends the program quietly, as it does `cat`.
    pub(crate) fn bytes(self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// A line for the person, on stderr.
    pub(crate) fn say(self, text: impl std::fmt::Display) {
        let mut out = std::io::stderr().lock();
        // Nothing is left to do where even stderr is gone.
        let _ = writeln!(out, "{text}");
    }

    /// A line on stderr that begins with a word in colour.
    pub(crate) fn note(self, word: &str, style: Style, text: impl std::fmt::Display) {
        self.say(format!("{} {text}", style.for_stderr().apply_to(word)));
    }

    /// A warning.
    pub(crate) fn warn(self, text: impl std::fmt::Display) {
        self.note("warning:", Style::new().yellow().bold(), text);
    }

    /// A hint below what was said.
    pub(crate) fn hint(self, text: impl std::fmt::Display) {
        self.note("   hint:", Style::new().cyan(), text);
    }

    /// Why the command failed.
    pub(crate) fn problem(self, problem: &Problem) {
        if self.json {
            let line =
                serde_json::to_string(&serde_json::json!({"error": *problem.body})).unwrap_or_default();
            self.say(line);
            return;
        }
        if !problem.body.diagnostics.is_empty() {
            let color = console::colors_enabled_stderr();
            self.say(asof_model::render(&problem.body.diagnostics, &problem.files, color).trim_end());
        }
        self.note("error:", Style::new().red().bold(), &problem.body.message);
        if let Some(hint) = &problem.body.hint {
            self.hint(hint);
        }
    }
}
