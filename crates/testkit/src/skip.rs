//! Tests that a machine does not allow, or lacks something for: each is said, and said again at the end of all.

use std::io::Write as _;
use std::process::Command;

/// Whether a program may do this here. Where not, the test that asks is skipped, and why is said as [`skip`] says it.
pub fn is_permitted(program: &str, arguments: &[&str]) -> bool {
    let tried = Command::new(program).args(arguments).output();
    let is_permitted = tried.as_ref().is_ok_and(|output| output.status.success());
    if !is_permitted {
        skip(&format!("{program} {arguments:?} is not permitted here: {tried:?}"));
    }
    is_permitted
}

/// Says that a test is skipped, and why; `cargo xtask test` gathers it in the file that `ASOF_TEST_SKIPPED` names.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "it speaks for tests, and what runs them says where it gathers what they skip"
)]
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: skipped: {}", thread.name().unwrap_or("a test"), why.trim().replace('\n', " "));
    eprintln!("{line}");
    if let Ok(path) = std::env::var("ASOF_TEST_SKIPPED") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        // What cannot be written was said above.
        let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    }
}
