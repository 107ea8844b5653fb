//! `cargo xtask test`: installs what the tests need and runs all of them, in parts, minutes printed for each.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;

use crate::{install, process, tidy};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only these parts, by name (repeatable); all of them otherwise.
    #[arg(long = "only", value_name = "PART")]
    only: Vec<String>,
}

/// Where the Python comparisons and their pinned requirements are.
const PEERS: &str = "tests/peers";
/// The Python environment of the tests.
const ENVIRONMENT: &str = ".venv";

/// One part: its name and what it does. It may give lines that are repeated at the very end.
struct Part {
    name: &'static str,
    run: fn(&Path) -> Result<Vec<String>, Failed>,
}

/// A part that failed: why, and lines to repeat at the end.
struct Failed {
    why: String,
    summary: Vec<String>,
}

impl From<String> for Failed {
    fn from(why: String) -> Failed {
        Failed { why, summary: Vec::new() }
    }
}

/// The parts in their order: cheap ones first; what builds shares one profile and one set of features.
const PARTS: &[Part] = &[
    Part { name: "install", run: installed },
    Part { name: "tidy", run: |root| Ok(tidy::run(root).map(|()| Vec::new())?) },
    Part { name: "format", run: |root| cargo(root, &["fmt", "--all", "--check"]) },
    Part {
        name: "clippy",
        run: |root| cargo(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    },
    Part { name: "build", run: |root| cargo(root, &["build", "--workspace", "--all-targets"]) },
    Part { name: "tests", run: rust_tests },
    Part { name: "doctests", run: |root| cargo(root, &["test", "--workspace", "--doc", "--quiet"]) },
    Part { name: "peers", run: peers },
];

/// Runs the parts. A part that fails does not stop the others, so one run shows all that is wrong;
/// only a failed installation or build stops what needs it.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    if let Some(unknown) =
        options.only.iter().find(|name| PARTS.iter().all(|part| part.name != name.as_str()))
    {
        let known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        return Err(format!("part `{unknown}` of the tests not found; the parts are {}", known.join(", ")));
    }
    let begun = Instant::now();
    let mut rows: Vec<(&str, Duration, &str)> = Vec::new();
    let mut summary = Vec::new();
    let mut reasons = Vec::new();
    let mut stopped = false;
    for part in PARTS {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == part.name) {
            continue;
        }
        if stopped {
            rows.push((part.name, Duration::ZERO, "not run"));
            continue;
        }
        println!("\n=== {}", part.name);
        let started = Instant::now();
        let outcome = match (part.run)(root) {
            Ok(lines) => {
                summary.extend(lines);
                "passed"
            }
            Err(failed) => {
                println!("{}", failed.why);
                stopped = matches!(part.name, "install" | "build");
                summary.extend(failed.summary);
                reasons.push(format!("{}: {}", part.name, failed.why));
                "FAILED"
            }
        };
        rows.push((part.name, started.elapsed(), outcome));
    }
    println!("\n=== minutes");
    for (name, took, outcome) in &rows {
        println!("{name:<10} {:>6.1}  {outcome}", took.as_secs_f64() / 60.0);
    }
    println!("{:<10} {:>6.1}", "all", begun.elapsed().as_secs_f64() / 60.0);
    for reason in &reasons {
        println!("failed: {}", reason.lines().next().unwrap_or(reason));
    }
    println!();
    for line in &summary {
        println!("{line}");
    }
    if reasons.is_empty() { Ok(()) } else { Err(format!("{} of {} parts failed", reasons.len(), rows.len())) }
}

fn installed(root: &Path) -> Result<Vec<String>, Failed> {
    install::packages(root, install::TESTS)?;
    install::virtual_environment(root, ENVIRONMENT, &format!("{PEERS}/requirements.txt"))?;
    Ok(Vec::new())
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<Vec<String>, Failed> {
    Ok(process::run(root, "cargo", arguments).map(|()| Vec::new())?)
}

/// All Rust tests but doctests: by nextest where it is installed, by `cargo test` otherwise.
fn rust_tests(root: &Path) -> Result<Vec<String>, Failed> {
    let nextest = process::has_cargo_command("nextest");
    // A third of the time tests wait: for disks, for processes that they kill, for clocks.
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
    let at_once = (cores + cores / 2).to_string();
    let arguments: &[&str] = if nextest {
        &["nextest", "run", "--workspace", "--no-fail-fast", "--test-threads", &at_once]
    } else {
        println!("cargo-nextest is not installed: running `cargo test` instead");
        &["test", "--workspace", "--all-targets", "--no-fail-fast"]
    };
    let skipped = tidy::target_directory(root)?.join("skipped.txt");
    let _ = std::fs::remove_file(&skipped);
    let environment = [("ASOF_TEST_SKIPPED", install::text(&skipped)?)];
    let environment = environment.each_ref().map(|(name, path)| (*name, path.as_str()));
    let (passed, lines) = process::tee(root, "cargo", arguments, &environment)?;
    // Tests that this machine does not allow.
    let mut summary: Vec<String> =
        std::fs::read_to_string(&skipped).unwrap_or_default().lines().map(str::to_owned).collect();
    summary.extend(if nextest { nextest_summary(&lines) } else { cargo_test_summary(&lines) });
    if passed { Ok(summary) } else { Err(Failed { why: "some Rust tests failed".to_owned(), summary }) }
}

/// The last `Summary` line of nextest and what follows it.
fn nextest_summary(lines: &[String]) -> Vec<String> {
    match lines.iter().rposition(|line| line.trim_start().starts_with("Summary [")) {
        Some(at) => lines[at..].to_vec(),
        None => Vec::new(),
    }
}

/// The totals of all `test result:` lines of `cargo test`, which has no summary of its own.
fn cargo_test_summary(lines: &[String]) -> Vec<String> {
    let mut totals = [0u64; 3];
    let mut binaries = 0;
    for rest in lines.iter().filter_map(|line| line.strip_prefix("test result: ")) {
        binaries += 1;
        for (total, word) in totals.iter_mut().zip([" passed", " failed", " ignored"]) {
            let number = rest.split(word).next().and_then(|before| before.rsplit([' ', ';']).next());
            *total += number.and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    let [passed, failed, ignored] = totals;
    let mut summary: Vec<String> =
        lines.iter().filter(|line| line.starts_with("test ") && line.ends_with("FAILED")).cloned().collect();
    let run = passed + failed;
    summary.push(format!(
        "Summary: {run} tests run in {binaries} binaries: {passed} passed, {failed} failed, {ignored} ignored"
    ));
    summary
}

/// The comparisons with DuckDB, pandas, Polars and Feast, against the binary the build made.
fn peers(root: &Path) -> Result<Vec<String>, Failed> {
    let python = install::virtual_environment(root, ENVIRONMENT, &format!("{PEERS}/requirements.txt"))?;
    let binary = install::text(&tidy::target_directory(root)?.join("debug").join("asof"))?;
    let python = install::text(&python)?;
    let outcome = process::run_with(
        root,
        &python,
        &["-m", "pytest", "-q", "-p", "no:cacheprovider", PEERS],
        &[("ASOF_BINARY", &binary), ("PYTHONDONTWRITEBYTECODE", "1")],
    );
    Ok(outcome.map(|()| Vec::new())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_summary_of_nextest_is_its_last_lines() {
        let output = lines(
            "   PASS a\n     Summary [ 1.2s] 3 tests run: 2 passed, 1 failed\n        FAIL b\nerror: test run failed",
        );
        assert_eq!(nextest_summary(&output).len(), 3);
        assert!(nextest_summary(&output)[0].contains("3 tests run"));
        assert!(nextest_summary(&lines("nothing")).is_empty());
    }

    #[test]
    fn the_summary_of_cargo_test_adds_up_its_binaries() {
        let output = lines(
            "test a ... ok\ntest b ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n\
             test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out",
        );
        assert_eq!(
            cargo_test_summary(&output),
            lines("test b ... FAILED\nSummary: 14 tests run in 2 binaries: 13 passed, 1 failed, 2 ignored")
        );
    }
}
