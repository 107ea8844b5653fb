//! Bars on long work when a person watches; silence, or JSON lines, else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printer::Printer;

/// The bar of one operation.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    phase: String,
}

impl Bar {
    /// Hidden until its operation tells how far it is.
    pub(crate) fn new(printer: Printer, what: &str) -> Bar {
        let target = if printer.watched {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(spinner());
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Bar { bar, phase: String::new() }
    }

    /// How far the operation is.
    pub(crate) fn at(&mut self, phase: &str, done: u64, total: Option<u64>, unit: &str) {
        if self.phase != phase {
            self.phase = phase.to_owned();
            self.bar.set_style(match (total, unit) {
                (None, _) => spinner(),
                (Some(_), "bytes") => bytes(),
                (Some(_), _) => rows(),
            });
            self.bar.reset();
            self.bar.set_message(phase.to_owned());
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    /// Takes the bar away.
    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn spinner() -> ProgressStyle {
    styled("{spinner:.green} {msg}  {human_pos} {elapsed:.dim}").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

fn rows() -> ProgressStyle {
    styled("{spinner:.green} {msg:14} {bar:32.green/dim} {human_pos}/{human_len} rows  {eta:.dim}")
        .progress_chars("━╸─")
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

fn bytes() -> ProgressStyle {
    styled("{spinner:.green} {msg:14} {bar:32.green/dim} {bytes}/{total_bytes}  {eta:.dim}")
        .progress_chars("━╸─")
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

fn styled(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
