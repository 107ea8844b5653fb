//! `cargo xtask bench`: the peers and Asof in turn on one machine, by the scripts under `bench/`.

use std::path::Path;

use clap::Args;

use crate::{install, process, tidy};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Arguments of `bench/run.py`, as they are; `-- --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the release binary and the floor server, installs the peers, and hands over to `bench/run.py`.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    install::packages(root, install::BENCH)?;
    let target = tidy::target_directory(root)?;
    let folder = install::text(&target.join("bench-venv"))?;
    let python = install::virtual_environment(root, &folder, "bench/requirements.txt")?;
    let dry = options.rest.iter().any(|it| matches!(it.as_str(), "--dry-run" | "--help" | "-h"));
    if !dry {
        process::run(root, "cargo", &["build", "--release", "--package", "asof"])?;
        let (floor, into) = ("benches/floor/Cargo.toml", install::text(&target.join("floor"))?);
        let build = ["build", "--release", "--quiet", "--manifest-path", floor, "--target-dir", &into];
        process::run(root, "cargo", &build)?;
    }
    let mut arguments = vec!["bench/run.py".to_owned()];
    arguments.push("--release".to_owned());
    arguments.push(install::text(&target.join("release"))?);
    arguments.extend(options.rest.iter().cloned());
    let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
    process::run_with(root, &install::text(&python)?, &borrowed, &[("PYTHONDONTWRITEBYTECODE", "1")])
}
