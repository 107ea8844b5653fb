//! Rules about the manifests: every dependency stands once, with its reason, in one version.

use super::{Finding, Repository};

/// Libraries whose values cross rooms: two versions of one would not meet.
const ONCE: &[&str] = &[
    "arrow",
    "arrow-array",
    "parquet",
    "datafusion",
    "deltalake-core",
    "object_store",
    "sqlparser",
    "tonic",
    "axum",
    "tokio",
];

/// Every dependency of the workspace manifest has a comment that says why it is there: on the line above,
/// or at its end.
pub(super) fn reasons(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut within = false;
    let mut above = "";
    for (number, line) in repository.text("Cargo.toml").unwrap_or("").lines().enumerate() {
        if line.starts_with('[') {
            within = line.trim() == "[workspace.dependencies]";
        } else if within && !line.trim().is_empty() && !line.starts_with('#') {
            let name = line.split([' ', '=']).next().unwrap_or(line);
            let own = line.contains("path = \"crates/");
            let reasoned = above.starts_with("# ") || line.contains("  # ") || line.contains(" # ");
            if !own && !reasoned {
                findings.push(Finding::new(
                    format!("Cargo.toml:{}", number + 1),
                    format!("dependency `{name}` has no reason; say in a comment above it or behind it why it is there"),
                ));
            }
        }
        above = line;
    }
    findings
}

/// The lock file holds one version of each library of [`ONCE`].
pub(super) fn one_version(repository: &Repository) -> Vec<Finding> {
    let lock = repository.text("Cargo.lock").unwrap_or("");
    let names: Vec<&str> =
        lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    ONCE.iter()
        .filter_map(|library| {
            let versions = names.iter().filter(|name| *name == library).count();
            (versions > 1).then(|| {
                Finding::new(
                    "Cargo.lock",
                    format!("holds {versions} versions of `{library}`; one is the rule"),
                )
            })
        })
        .collect()
}

/// A crate takes its dependencies and lints from the workspace, so that reasons and rules stand once.
pub(super) fn manifests(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in
        repository.of("toml").filter(|it| it.path.starts_with("crates/") && it.path.ends_with("/Cargo.toml"))
    {
        if !file.text.contains("[lints]\nworkspace = true") {
            findings.push(Finding::new(
                &file.path,
                "does not take the workspace's lints: add `[lints]` `workspace = true`",
            ));
        }
        let mut within = false;
        for (number, line) in file.text.lines().enumerate() {
            if line.starts_with('[') {
                within = line.contains("dependencies");
            } else if within
                && !line.trim().is_empty()
                && !line.starts_with('#')
                && !line.contains("workspace = true")
            {
                findings.push(Finding::new(
                    format!("{}:{}", file.path, number + 1),
                    "this dependency does not come from the workspace manifest; put it there with its reason",
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Rule;
    use super::*;

    fn check(rule: Rule, path: &str, text: &str, expected: usize) {
        let findings = rule(&Repository::of_files(&[(path, text)]));
        assert_eq!(findings.len(), expected, "{findings:?}");
    }

    #[test]
    fn a_dependency_says_why_it_is_there() {
        let head = "[workspace.dependencies]\n";
        check(reasons, "Cargo.toml", &format!("{head}# Hashes of content.\nblake3 = \"1\"\n"), 0);
        check(reasons, "Cargo.toml", &format!("{head}blake3 = \"1\" # Hashes of content.\n"), 0);
        check(reasons, "Cargo.toml", &format!("{head}asof-model = {{ path = \"crates/model\" }}\n"), 0);
        check(reasons, "Cargo.toml", &format!("{head}# Hashes.\nblake3 = \"1\"\nrand = \"0.9\"\n"), 1);
        check(reasons, "Cargo.toml", "[profile.dev]\nopt-level = 1\n", 0);
    }

    #[test]
    fn two_versions_are_found() {
        let one = "[[package]]\nname = \"arrow\"\nversion = \"59.0.0\"\n";
        check(one_version, "Cargo.lock", one, 0);
        check(one_version, "Cargo.lock", &format!("{one}{one}"), 1);
    }

    #[test]
    fn a_crate_takes_from_the_workspace() {
        let lints = "[lints]\nworkspace = true\n";
        check(
            manifests,
            "crates/x/Cargo.toml",
            &format!("{lints}[dependencies]\ntokio.workspace = true\n"),
            0,
        );
        check(manifests, "crates/x/Cargo.toml", &format!("{lints}[dependencies]\ntokio = \"1\"\n"), 1);
        check(manifests, "crates/x/Cargo.toml", "[dependencies]\n", 1);
    }
}
