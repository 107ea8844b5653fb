//! The house's own tool: `cargo xtask tidy`, `test`, `deny`, `bench` and `campaign`.
//!
//! It is not part of the product. It depends on no room of the workspace, so that it builds in seconds
//! and can tell what is wrong when a room does not build.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool whose output is its purpose"
)]

mod bench;
mod campaign;
mod deny;
mod install;
mod process;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What the house is kept with.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the rules of the house: edges, sizes, names, the clock, documentation pairs.
    Tidy,
    /// Install what the tests need and run all of them.
    Test(test::Options),
    /// Check licences, sources and advisories of the dependencies (needs cargo-deny and the network).
    Deny,
    /// Break things on purpose, at length: kill -9, power loss.
    Campaign(campaign::Options),
    /// Measure against the peers, in turn, on this machine, and write docs/benchmarks.md.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let root = root();
    let done = match Arguments::parse().command {
        Command::Tidy => tidy::run(&root),
        Command::Test(options) => test::run(&root, &options),
        Command::Deny => deny::run(&root),
        Command::Campaign(options) => campaign::run(&root, &options),
        Command::Bench(options) => bench::run(&root, &options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder: two above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
