//! `cargo xtask tidy`: the rules of the house that a compiler does not check. A rule is one function and
//! one line in [`RULES`].

mod dependencies;
mod documents;
mod edges;
mod files;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::process;

/// The workspace as the rules see it: its text files and its packages.
#[derive(Default)]
pub(crate) struct Repository {
    /// Text files, by path relative to the root with `/`, sorted.
    files: Vec<TextFile>,
    /// All other files, by path.
    others: Vec<String>,
    /// The workspace's packages.
    packages: Vec<Package>,
}

/// One text file.
struct TextFile {
    path: String,
    text: String,
}

/// One package of the workspace, as `cargo metadata` tells it.
#[derive(Debug, Clone, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

/// One dependency of a package.
#[derive(Debug, Clone, Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or none for a normal one.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

/// One thing that is wrong: where, and what to do.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    place: String,
    message: String,
}

impl Finding {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { place: place.into(), message: message.into() }
    }
}

/// A rule: what it finds wrong.
type Rule = fn(&Repository) -> Vec<Finding>;

/// Every rule, by name.
const RULES: &[(&str, Rule)] = &[
    ("edges between crates", edges::between_crates),
    ("edges to libraries", edges::to_libraries),
    ("file sizes", files::sizes),
    ("module names", files::module_names),
    ("the injected clock", files::clock),
    ("machine paths", files::machine_paths),
    ("crate documentation", documents::crates),
    ("stored formats", documents::formats),
    ("decisions", documents::decisions),
    ("links", documents::links),
    ("reasons of dependencies", dependencies::reasons),
    ("one version", dependencies::one_version),
    ("manifests", dependencies::manifests),
];

/// Checks every rule and prints what is wrong.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let repository = Repository::read(root)?;
    let mut count = 0;
    for (rule, check) in RULES {
        let mut findings = check(&repository);
        findings.sort();
        count += findings.len();
        for finding in findings {
            println!("tidy: {rule}: {}: {}", finding.place, finding.message);
        }
    }
    match count {
        0 => {
            println!("tidy: {} rules hold over {} files", RULES.len(), repository.files.len());
            Ok(())
        }
        _ => Err(format!("tidy: {count} findings")),
    }
}

/// Where cargo builds to.
pub(crate) fn target_directory(root: &Path) -> Result<PathBuf, String> {
    Ok(metadata(root)?.target_directory)
}

fn metadata(root: &Path) -> Result<Metadata, String> {
    let text =
        process::output(root, "cargo", &["metadata", "--format-version", "1", "--no-deps", "--quiet"])?;
    serde_json::from_str(&text).map_err(|error| format!("cannot read what `cargo metadata` prints: {error}"))
}

/// Folders that hold nothing of ours.
const SKIPPED: &[&str] =
    &[".git", ".venv", ".asof", "target", "bench-data", "__pycache__", ".pytest_cache", "node_modules"];

/// Endings of the files whose text is looked at.
const TEXT: &[&str] = &[
    "rs", "toml", "md", "py", "lua", "yaml", "yml", "json", "sh", "sql", "html", "css", "js", "lock", "txt",
    "snap",
];

impl Repository {
    /// Reads the files under `root` and the packages cargo knows. Links are not followed.
    fn read(root: &Path) -> Result<Repository, String> {
        let mut repository = Repository { packages: metadata(root)?.packages, ..Repository::default() };
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let failed = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
            for entry in std::fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let kind = entry.file_type().map_err(failed)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    repository.add(root, &entry.path())?;
                }
            }
        }
        repository.files.sort_by(|a, b| a.path.cmp(&b.path));
        repository.others.sort();
        Ok(repository)
    }

    fn add(&mut self, root: &Path, path: &Path) -> Result<(), String> {
        let relative = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        let is_text = relative.starts_with(".ci/")
            || path.extension().is_some_and(|ending| TEXT.iter().any(|it| ending == *it));
        if is_text {
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("cannot read {relative}: {error}"))?;
            self.files.push(TextFile { path: relative, text });
        } else {
            self.others.push(relative);
        }
        Ok(())
    }

    /// The text files of one ending.
    fn of(&self, ending: &str) -> impl Iterator<Item = &TextFile> {
        self.files.iter().filter(move |file| file.path.rsplit_once('.').is_some_and(|(_, it)| it == ending))
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// Every file's path, text or not.
    fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str()).chain(self.others.iter().map(String::as_str))
    }

    #[cfg(test)]
    fn of_files(files: &[(&str, &str)]) -> Repository {
        let files =
            files.iter().map(|(path, text)| TextFile { path: (*path).to_owned(), text: (*text).to_owned() });
        Repository { files: files.collect(), ..Repository::default() }
    }
}

#[cfg(test)]
mod tests {
    /// The walk sees the workspace; whether it is tidy is what `cargo xtask tidy` says.
    #[test]
    fn the_walk_sees_files_and_packages() {
        let repository = super::Repository::read(&crate::root()).unwrap();
        assert!(repository.text("Cargo.toml").is_some());
        assert!(repository.text("crates/xtask/src/tidy.rs").is_some());
        assert!(repository.packages.iter().any(|package| package.name == "asof-engine"));
        assert!(repository.paths().all(|path| !path.starts_with("target/")));
    }
}
