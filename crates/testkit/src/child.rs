//! Tests of the same program, run as processes of their own to be killed.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A test that runs until it is killed, and says on its way how far it is. Killed when it is let go of.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
}

impl Child {
    /// Runs a test of this program, also one that is ignored, by its whole name, with more in its environment.
    ///
    /// # Errors
    /// Where the process cannot be made.
    pub fn begin(test: &str, environment: &[(&str, &OsStr)]) -> io::Result<Child> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (to, lines) = channel();
        // Taken as they come: a full pipe would hold up the child.
        if let Some(out) = process.stdout.take() {
            std::thread::spawn(move || {
                BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| to.send(line))
            });
        }
        Ok(Child { process, lines })
    }

    /// Waits until a line has this at its beginning; whether one came before the child ended.
    pub fn says(&self, begin: &str) -> bool {
        self.lines.iter().any(|line| line.starts_with(begin))
    }

    /// Kills it; what it said since it was listened to last.
    ///
    /// # Errors
    /// Where it cannot be killed.
    pub fn kill(mut self) -> io::Result<Vec<String>> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(self.lines.iter().collect())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A test that failed leaves nobody at work.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
