//! Nothing a user can write ends the process.

use asof_model::{Call, Catalog, Expression, Project, has_errors, render};
use proptest::prelude::*;

use crate::shop::{FEATURES, apply, file, shop};

/// Bits of YAML and SQL, so that texts get past the first letter.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "view: ",
            "entity: ",
            "source: ",
            "service: ",
            "features:",
            "features: ",
            "keys: ",
            "where: ",
            "path: ",
            "sql: ",
            "event_time: ",
            "ttl: ",
            "schema: ",
            "windows: ",
            "agg: ",
            "default: ",
            "resolution: ",
            "{length: 7d, offset: ",
            "as: ",
            "all",
            "count(*)",
            " filter (where ",
            "distinct ",
            "derived: ",
            "request: ",
            "request_time",
            "labels: ",
            "after: ",
            "push: ",
            "past: ",
            "id: ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            ": ",
            "\n",
            "\n  ",
            "\n    ",
            "- ",
            "---\n",
            "|\n",
            ">-\n",
            "\"",
            "'",
            "#",
            " #",
            "&a ",
            "*a",
            "!t ",
            "? ",
            "a",
            "b.c",
            "a.*",
            "seller",
            "90d",
            "true",
            "null",
            "~",
            "select ",
            " from ",
            "case when ",
            "(",
            ")",
            "coalesce(",
            " + ",
            "\t",
            "\r\n",
            "é",
            "\u{feff}",
            "\\",
            "\\u00e9",
            "\u{85}",
            "\u{2028}",
            "%",
            "@",
            "`",
            "<<: ",
            "...\n",
            "0",
            "project: ",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Reads, resolves and renders; every place must lie in its file.
fn survives(text: &str) {
    for files in [shop(text), vec![file("asof.yaml", text), file("features/a.yaml", FEATURES)]] {
        let (_, found) = apply(&files, &Catalog::default());
        for it in &found {
            if let Some(span) = &it.span {
                let file = files.iter().find(|file| file.path == span.file).unwrap();
                let line = file.text.split('\n').nth(span.line - 1).unwrap();
                assert!(span.column <= line.chars().count() + 1 && span.length >= 1, "{span:?} in {line:?}");
            }
        }
        render(&found, &files, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_survives_any_text(text in pieces()) {
        survives(&text);
    }

    #[test]
    fn reading_survives_a_wound_in_good_text(at in 0..FEATURES.len(), cut in 0usize..6, put in pieces()) {
        let mut from = at;
        while !FEATURES.is_char_boundary(from) { from -= 1; }
        let mut to = (from + cut).min(FEATURES.len());
        while !FEATURES.is_char_boundary(to) { to -= 1; }
        survives(&format!("{}{}{}", &FEATURES[..from], put, &FEATURES[to.max(from)..]));
    }

    #[test]
    fn an_expression_is_its_canonical_text(text in "[-a-z0-9 +*/()'.,=<>]{0,24}") {
        if let Ok(expression) = Expression::parse(text) {
            let canonical = expression.canonical();
            let again = Expression::parse(canonical.clone()).unwrap();
            prop_assert_eq!(again.canonical(), canonical);
            prop_assert_eq!(again.columns(), expression.columns());
        }
    }

    #[test]
    fn a_call_is_its_canonical_text(text in "[a-c]{1,2}\\(( ?(distinct )?[-a-d0-9 +*()'.,]{0,16})\\)( filter \\(where [a-c=<> ()]{0,8}\\))?") {
        if let Ok(call) = Call::parse(&text) {
            let canonical = call.canonical();
            let again = Call::parse(&canonical).unwrap();
            prop_assert_eq!(again.canonical(), canonical);
            prop_assert_eq!((again.function, again.parameters), (call.function, call.parameters));
        }
    }

    #[test]
    fn any_column_can_be_named(name in "[^\\x00]{1,12}") {
        let expression = Expression::column(&name);
        prop_assert_eq!(expression.as_column(), Some(name));
    }
}

#[test]
fn depth_is_an_error_and_never_the_end_of_the_process() {
    let deep = 1_000;
    let indented: String = (0..deep).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    for text in [
        format!("entity: {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("entity: {}", "{a: ".repeat(deep)),
        "- ".repeat(deep),
        indented,
        format!(
            "view: v\nentity: seller\nsource: sellers\nwhere: {}id{}\nfeatures: [tier]",
            "(".repeat(deep),
            ")".repeat(deep)
        ),
        format!(
            "view: v\nentity: seller\nsource: sellers\nwhere: {}true\nfeatures: [tier]",
            "not ".repeat(deep)
        ),
        format!(
            "view: v\nentity: seller\nsource: sellers\nfeatures:\n  a: {}",
            vec!["id"; 100_000].join(" + ")
        ),
        format!("source: s\nevent_time: t\nsql: {}1", "select * from (".repeat(deep)),
        format!("source: s\nevent_time: t\nsql: {}", vec!["select 1"; deep].join(" union all ")),
        format!("entity: e\nkeys: {{a: '{}int64{}'}}", "list<".repeat(deep), ">".repeat(deep)),
    ] {
        let files = shop(&text);
        let (_, found) = Project::read(&files);
        assert!(has_errors(&found), "{}", &text[..60.min(text.len())]);
        assert!(render(&found, &files, false).len() < 4_000);
    }
}

#[test]
fn a_great_file_is_read_in_one_pass() {
    let views: String = (0..2_000)
        .map(|n| format!("---\nview: v{n}\nentity: seller\nsource: sellers\nkeys: {{seller_id: id}}\nfeatures: {{a: tier, b: upper(tier)}}\n"))
        .collect();
    let (versions, found) = apply(&shop(&views), &Catalog::default());
    assert!(found.is_empty());
    assert_eq!(versions.len(), 2_007);
}
