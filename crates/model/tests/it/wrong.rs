//! Every wrong definition, with the exact words a user reads.

use std::fmt::Write;

use asof_model::{Catalog, Project, ProjectFile, has_errors, render};

use crate::shop::{CONFIG, FEATURES, applied, apply, file, shop};
use crate::wrong_cases as cases;

/// Renders each case; a case without an error, or an error without a place, fails.
fn snapshot(
    group: &str,
    cases: &[(&str, &str)],
    files_of: impl Fn(&str) -> Vec<ProjectFile>,
    against: &Catalog,
) {
    let mut out = String::new();
    for (name, text) in cases {
        let files = files_of(text);
        let (_, found) = apply(&files, against);
        assert!(has_errors(&found), "{group}/{name} is not refused");
        for it in &found {
            assert!(it.span.is_some() || it.code == "no_project", "{group}/{name}: no place: {it:?}");
            assert!(!it.message.is_empty() && !it.code.is_empty());
        }
        let _ = write!(out, "### {name}\n{}\n", render(&found, &files, false));
    }
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(group, out);
    });
}

fn definitions(group: &str, cases: &[(&str, &str)]) {
    snapshot(group, cases, shop, &Catalog::default());
}

#[test]
fn yaml() {
    definitions("yaml", cases::YAML);
}

#[test]
fn documents() {
    definitions("documents", cases::DOCUMENTS);
}

#[test]
fn entities() {
    definitions("entities", cases::ENTITIES);
}

#[test]
fn sources() {
    definitions("sources", cases::SOURCES);
}

#[test]
fn times() {
    definitions("times", cases::TIMES);
}

#[test]
fn views() {
    definitions("views", cases::VIEWS);
}

#[test]
fn features() {
    definitions("features", cases::FEATURES);
}

#[test]
fn expressions() {
    definitions("expressions", cases::EXPRESSIONS);
}

#[test]
fn services() {
    definitions("services", cases::SERVICES);
}

#[test]
fn windows() {
    definitions("windows", crate::wrong_windows::WINDOWS);
}

#[test]
fn pushed() {
    definitions("pushed", cases::PUSHED);
}

#[test]
fn derived() {
    definitions("derived", crate::wrong_derived::DERIVED);
}

#[test]
fn config() {
    let files = |text: &str| vec![file("asof.yaml", text), file("features/shop.yaml", FEATURES)];
    snapshot("config", cases::CONFIG, files, &Catalog::default());
}

#[test]
fn other_projects() {
    let other = applied(
        &[file("asof.yaml", "project: market\n"), file("features/shop.yaml", FEATURES)],
        &Catalog::default(),
    );
    snapshot("other_projects", cases::OTHER_PROJECTS, shop, &other);
}

#[test]
fn there_are_many_cases_and_no_two_alike() {
    let mut all: Vec<&str> =
        cases::ALL.iter().flat_map(|group| group.iter().map(|(_, text)| *text)).collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "two cases are the same text");
    assert!(count >= 150, "{count} cases");
}

#[test]
fn a_folder_without_its_file_is_refused() {
    let (project, found) = Project::read(&[file("features/shop.yaml", FEATURES)]);
    assert!(project.is_none());
    assert_eq!(found.iter().map(|it| it.code.as_str()).collect::<Vec<_>>(), ["no_project"]);
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    let found = ProjectFile::from_bytes("features/a.yaml", b"entity: a\nkeys: \xff".to_vec()).unwrap_err();
    let span = found.span.unwrap();
    assert_eq!((found.code.as_str(), span.line, span.column), ("not_utf8", 2, 7));
}

#[test]
fn all_problems_of_a_folder_come_at_once_in_order() {
    let files = vec![
        file("asof.yaml", &format!("{CONFIG}memry: 1GB\n")),
        file(
            "features/a.yaml",
            "view: a\nentity: seler\nsource: [\n---\nview: b\nentity: nobody\nsource: nothing\nttl: 1\nfeatures: {x: 'a +'}\n",
        ),
        file("features/b.yaml", "entity: e\nkeys: {a: int}\n"),
    ];
    let (_, found) = Project::read(&files);
    let places: Vec<String> = found
        .iter()
        .map(|it| {
            it.span.as_ref().map(|at| format!("{}:{} {}", at.file, at.line, it.code)).unwrap_or_default()
        })
        .collect();
    assert_eq!(
        places,
        [
            "asof.yaml:2 unknown_key",
            "features/a.yaml:3 yaml_syntax",
            "features/a.yaml:6 entity_not_found",
            "features/a.yaml:7 source_not_found",
            "features/a.yaml:8 wrong_value",
            "features/a.yaml:9 expression_syntax",
            "features/b.yaml:2 bad_type",
        ]
    );
}

#[test]
fn what_stands_on_a_broken_thing_is_not_called_missing() {
    let more = "source: broken\npath: x.parquet\nevent_tme: t\n---\nview: v\nentity: seller\nsource: broken\nfeatures: [a]\n---\nservice: s\nfeatures: [v.a]\n";
    let (_, found) = apply(&shop(more), &Catalog::default());
    assert!(!found.iter().any(|it| it.code.ends_with("_not_found")), "{found:#?}");
}

#[test]
fn colours_are_only_there_when_asked_for() {
    let files = shop("view: a\n");
    let (_, found) = Project::read(&files);
    assert!(!render(&found, &files, false).contains('\u{1b}'));
    assert!(render(&found, &files, true).contains("\u{1b}[1;31merror"));
}
