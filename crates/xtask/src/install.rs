//! What the tests and the bench need beside Rust: Debian packages and a Python virtual environment.
//! Idempotent: what is there is not installed again.

use std::path::{Path, PathBuf};

use crate::process;

/// A program the tests start, and the Debian package that brings it.
pub(crate) struct Needed {
    /// The program looked for on the path.
    pub(crate) program: &'static str,
    /// The Debian package that holds it.
    pub(crate) package: &'static str,
    /// What starts it.
    pub(crate) used_by: &'static str,
}

/// What the tests need.
pub(crate) const TESTS: &[Needed] = &[
    Needed { program: "cc", package: "build-essential", used_by: "the C code of SQLite and zstd" },
    Needed { program: "strace", package: "strace", used_by: "the tests that watch fsync and rename" },
];

/// What the bench needs beside them.
pub(crate) const BENCH: &[Needed] = &[
    Needed { program: "wrk", package: "wrk", used_by: "load on the HTTP servers" },
    Needed { program: "redis-server", package: "redis-server", used_by: "Feast's faster online store" },
];

/// The oldest Python the peers run on.
const PYTHON: (u32, u32) = (3, 11);

/// Installs the packages whose programs are missing: as root through apt-get, else says what to install.
pub(crate) fn packages(root: &Path, needed: &[Needed]) -> Result<(), String> {
    let missing: Vec<&Needed> = needed.iter().filter(|it| !process::exists(it.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|it| it.package).collect();
    let root_user = process::output(root, "id", &["-u"])?.trim() == "0";
    if !root_user || !process::exists("apt-get") {
        let list: Vec<String> = missing
            .iter()
            .map(|it| format!("  {} (package {}): {}", it.program, it.package, it.used_by))
            .collect();
        return Err(format!(
            "these programs are missing and only root can install them:\n{}\ninstall them, e.g. `sudo apt-get \
             install {}`, and run this again",
            list.join("\n"),
            names.join(" ")
        ));
    }
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    process::run_with(root, "apt-get", &["update", "-qq"], &quiet)?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(names);
    process::run_with(root, "apt-get", &arguments, &quiet)
}

/// Makes the virtual environment `folder` hold what `requirements` lists; returns its Python.
/// A copy of the requirements inside the environment says what it holds, so a second call does nothing.
pub(crate) fn virtual_environment(root: &Path, folder: &str, requirements: &str) -> Result<PathBuf, String> {
    let environment = root.join(folder);
    let python = environment.join("bin").join("python");
    let wanted = read(&root.join(requirements))?;
    let stamp = environment.join("requirements.installed");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|held| held == wanted) {
        return Ok(python);
    }
    if !python.exists() {
        let system = system_python(root)?;
        let environment_text = text(&environment)?;
        if process::run(root, &system, &["-m", "venv", &environment_text]).is_err() {
            packages(
                root,
                &[Needed {
                    program: "ensurepip",
                    package: "python3-venv",
                    used_by: "Python virtual environments",
                }],
            )?;
            process::run(root, &system, &["-m", "venv", "--clear", &environment_text])?;
        }
    }
    let python_text = text(&python)?;
    process::run(
        root,
        &python_text,
        &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements],
    )?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    Ok(python)
}

/// The first Python on the path that is new enough.
fn system_python(root: &Path) -> Result<String, String> {
    let script = format!("import sys; sys.exit(sys.version_info[:2] < ({}, {}))", PYTHON.0, PYTHON.1);
    ["python3.11", "python3", "python3.12", "python3.13"]
        .into_iter()
        .find(|name| process::exists(name) && process::output(root, name, &["-c", &script]).is_ok())
        .map(str::to_owned)
        .ok_or_else(|| {
            format!(
                "Python {}.{} or newer is not on the path; install it and run this again",
                PYTHON.0, PYTHON.1
            )
        })
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// A path as text, for a program's argument.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("the path {} is not UTF-8", path.display()))
}
