//! Who may depend on whom: edges point down only, and each heavy library has one room that names it.

use super::{Finding, Package, Repository};

/// The rooms and the rooms they may name, as the map in ARCHITECTURE.md draws them.
const ROOMS: &[(&str, &[&str])] = &[
    ("asof-model", &[]),
    ("asof-compute", &["asof-model"]),
    ("asof-registry", &["asof-compute", "asof-model"]),
    ("asof-online", &["asof-compute", "asof-model"]),
    ("asof-engine", &["asof-compute", "asof-model"]),
    ("asof-flow", &["asof-engine", "asof-online", "asof-registry", "asof-compute", "asof-model"]),
    ("asof-serve", &["asof-online", "asof-registry", "asof-compute", "asof-model"]),
    (
        "asof-server",
        &["asof-serve", "asof-flow", "asof-engine", "asof-registry", "asof-compute", "asof-model"],
    ),
    // The composition root: it opens every room once and hands the handles down.
    (
        "asof",
        &[
            "asof-server",
            "asof-serve",
            "asof-flow",
            "asof-engine",
            "asof-online",
            "asof-registry",
            "asof-compute",
            "asof-model",
        ],
    ),
    ("asof-python", &["asof", "asof-compute", "asof-model"]),
    ("asof-testkit", &["asof-compute", "asof-model"]),
    ("xtask", &[]),
];

/// What only tests may name beside a room's own edges.
const FOR_TESTS: &str = "asof-testkit";
/// Edges that only tests have: what `flow` wrote is read back through the read path.
const TEST_EDGES: &[(&str, &str)] = &[("asof-flow", "asof-serve")];

/// Libraries, by the beginning of their name, and the only rooms that may name them.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("datafusion", &["asof-engine"]),
    ("deltalake", &["asof-engine"]),
    ("delta_kernel", &["asof-engine"]),
    ("ballista", &["asof-engine"]),
    ("axum", &["asof-server"]),
    ("tonic", &["asof-server"]),
    ("utoipa", &["asof-server"]),
    ("pyo3", &["asof-python"]),
    ("sqlx", &["asof-registry"]),
    ("rusqlite", &["asof-registry"]),
    ("fjall", &["asof-online"]),
    ("lsm-tree", &["asof-online"]),
    ("redb", &["asof-online"]),
    ("heed", &["asof-online"]),
    ("redis", &["asof-online"]),
    ("rdkafka", &["asof-flow"]),
];

/// Libraries a room may not name at all: the nouns do no compute, the algebra neither IO nor async.
const UNKNOWN_TO: &[(&str, &[&str])] = &[
    ("asof-model", &["arrow", "parquet", "tokio", "futures", "object_store", "async-trait"]),
    ("asof-compute", &["tokio", "futures", "object_store", "async-trait", "sqlparser", "parquet"]),
    ("asof-online", &["sqlparser"]),
    ("asof-serve", &["object_store", "parquet"]),
];

/// Every edge between two rooms is drawn in [`ROOMS`]; every package of the workspace is a room.
pub(super) fn between_crates(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &repository.packages {
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == package.name) else {
            findings.push(Finding::new(
                &package.name,
                "this crate is not on the map; a crate is a boundary, a build firewall or an artefact: \
                 draw it in crates/xtask/src/tidy/edges.rs and ARCHITECTURE.md",
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let room = ROOMS.iter().any(|(name, _)| *name == dependency.name);
            let tests = dependency.kind.as_deref() == Some("dev")
                && (dependency.name == FOR_TESTS
                    || dependency.name == package.name
                    || TEST_EDGES.contains(&(package.name.as_str(), dependency.name.as_str())));
            if room && !tests && !allowed.contains(&dependency.name.as_str()) {
                findings.push(Finding::new(
                    &package.name,
                    format!(
                        "depends on `{}`, an edge the map does not have; edges point down only",
                        dependency.name
                    ),
                ));
            }
        }
    }
    findings
}

/// Each heavy library is named by its room only, tests included.
pub(super) fn to_libraries(repository: &Repository) -> Vec<Finding> {
    repository.packages.iter().flat_map(libraries_of).collect()
}

fn libraries_of(package: &Package) -> Vec<Finding> {
    let mut findings = Vec::new();
    let named =
        |library: &str, name: &str| name == library || name.strip_prefix(library).is_some_and(separated);
    for dependency in &package.dependencies {
        for (library, rooms) in LIBRARIES {
            if named(library, &dependency.name) && !rooms.contains(&package.name.as_str()) {
                findings.push(Finding::new(
                    &package.name,
                    format!("names `{}`; only {} may", dependency.name, rooms.join(", ")),
                ));
            }
        }
        let normal = dependency.kind.as_deref() != Some("dev");
        for (_, libraries) in UNKNOWN_TO.iter().filter(|(room, _)| normal && *room == package.name) {
            if libraries.iter().any(|library| named(library, &dependency.name)) {
                findings.push(Finding::new(
                    &package.name,
                    format!("names `{}`, which this room knows nothing of", dependency.name),
                ));
            }
        }
    }
    findings
}

/// Whether what follows a library's name makes it one of its family: `datafusion-proto` is one of
/// `datafusion`, `redistribute` is none of `redis`.
fn separated(rest: &str) -> bool {
    rest.starts_with(['-', '_'])
}

#[cfg(test)]
mod tests {
    use super::super::{Dependency, Rule};
    use super::*;

    fn check(rule: Rule, package: &str, on: &str, kind: Option<&str>) -> usize {
        let dependency = Dependency { name: on.to_owned(), kind: kind.map(str::to_owned) };
        let package = Package { name: package.to_owned(), dependencies: vec![dependency] };
        rule(&Repository { packages: vec![package], ..Repository::default() }).len()
    }

    #[test]
    fn edges_point_down_only() {
        let cases = [
            ("asof-flow", "asof-engine", None, 0),
            ("asof-engine", "asof-compute", None, 0),
            ("asof-model", "asof-compute", None, 1),
            ("asof-engine", "asof-registry", None, 1),
            ("asof-serve", "asof-engine", None, 1),
            ("asof-serve", "asof-engine", Some("dev"), 1),
            ("asof-serve", "asof-testkit", Some("dev"), 0),
            ("asof-serve", "asof-testkit", None, 1),
            ("asof-server", "asof-online", None, 1),
            ("asof-engine", "tokio", None, 0),
        ];
        for (from, to, kind, expected) in cases {
            assert_eq!(check(between_crates, from, to, kind), expected, "{from} -> {to} {kind:?}");
        }
    }

    #[test]
    fn a_crate_off_the_map_is_found() {
        assert_eq!(check(between_crates, "asof-extras", "tokio", None), 1);
    }

    #[test]
    fn each_heavy_library_has_its_room() {
        let cases = [
            ("asof-engine", "datafusion", None, 0),
            ("asof-engine", "datafusion-proto", None, 0),
            ("asof-server", "datafusion", None, 1),
            ("asof", "datafusion-common", Some("dev"), 1),
            ("asof", "deltalake-core", None, 1),
            ("asof-server", "axum", None, 0),
            ("asof", "axum", None, 1),
            ("asof-engine", "pyo3", None, 1),
            ("asof-engine", "redistribute", None, 0),
            ("asof-model", "arrow", None, 1),
            ("asof-model", "arrow-schema", None, 1),
            ("asof-compute", "tokio", None, 1),
            ("asof-compute", "tokio", Some("dev"), 0),
        ];
        for (from, to, kind, expected) in cases {
            assert_eq!(check(to_libraries, from, to, kind), expected, "{from} -> {to} {kind:?}");
        }
    }
}
