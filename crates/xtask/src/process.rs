//! Running other programs: every call says what it ran when it fails.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// A program to be started, without what cargo says of this one: build scripts of dependencies watch these
/// variables, and cargo would build them, and all that stands on them, anew.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a program in `root`, its output going where ours goes.
pub(crate) fn run(root: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    run_with(root, program, arguments, &[])
}

/// As [`run`], with further environment variables.
pub(crate) fn run_with(
    root: &Path,
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<(), String> {
    let mut command = command(program);
    command.args(arguments).current_dir(root).envs(environment.iter().copied());
    let status = command.status().map_err(|error| cannot_start(program, &error))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", line(program, arguments))) }
}

/// What a program prints on standard output; an error if it fails or is not there.
pub(crate) fn output(root: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let done = command(program)
        .args(arguments)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| cannot_start(program, &error))?;
    if !done.status.success() {
        return Err(format!("`{}` ended with {}", line(program, arguments), done.status));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs a program, shows its lines as they come, and gives them back: the parts whose last lines are
/// repeated at the end. Both of its outputs are read; their order is kept by the shell that joins them.
pub(crate) fn tee(
    root: &Path,
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<(bool, Vec<String>), String> {
    let mut child = command("sh")
        .args(["-c", r#"exec "$@" 2>&1"#, "sh", program])
        .args(arguments)
        .current_dir(root)
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_start(program, &error))?;
    let mut lines = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for read in BufReader::new(stdout).split(b'\n') {
            let bytes = read.map_err(|error| format!("cannot read the output of `{program}`: {error}"))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let mut out = std::io::stdout().lock();
            // A closed standard output is no reason to stop the tests.
            let _ = writeln!(out, "{text}");
            lines.push(text);
        }
    }
    let status = child.wait().map_err(|error| cannot_start(program, &error))?;
    Ok((status.success(), lines))
}

/// Whether a program is on the path.
pub(crate) fn exists(program: &str) -> bool {
    command("sh")
        .args(["-c", r#"command -v "$1""#, "sh", program])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a cargo subcommand is installed.
pub(crate) fn has_cargo_command(name: &str) -> bool {
    command("cargo")
        .args([name, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn line(program: &str, arguments: &[&str]) -> String {
    std::iter::once(program).chain(arguments.iter().copied()).collect::<Vec<_>>().join(" ")
}

fn cannot_start(program: &str, error: &std::io::Error) -> String {
    format!("cannot start the program `{program}`: {error}")
}
