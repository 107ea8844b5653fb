use asof_flow::FlowError;
use asof_model::{Explain, History, Kind, Length, Principal};
use asof_online::GenerationState;

use crate::fixture::{Node, Row, Shape, name, row};

#[test]
fn only_what_is_new_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    node.write("data/a.csv", &[row(1, 10, 1, 100), row(2, 20, 2, 200), row(1, 5, 3, 50)]);
    node.apply(&Shape::default());
    let report = node.materialize().unwrap();
    assert_eq!((report.units, report.rows_read, report.rows, report.keys), (1, 3, 2, 2));
    assert_eq!(report.rebuilt, None);
    let first = report.generation;

    let again = node.materialize().unwrap();
    assert_eq!((again.units, again.rows_read, again.rows_added, again.rows), (0, 0, 0, 2));

    node.write("data/b.csv", &[row(2, 30, 4, 300), row(3, 2_000, 5, 400)]);
    let status = node.runtime.block_on(node.flow.status(&Principal::owner(), None)).unwrap();
    assert_eq!(
        (status[0].units_behind, status[0].rows_behind),
        (Some(1), None),
        "CSV rows are not known unread"
    );
    let report = node.materialize().unwrap();
    assert_eq!((report.units, report.rows_read), (1, 2));
    assert_eq!((report.rows_added, report.rows_removed, report.rows, report.keys), (2, 1, 3, 3));
    assert_eq!((report.rebuilt, report.generation), (None, first));

    let reader = node.reader();
    assert_eq!(
        node.answers(&reader, &[Some(1), Some(2), Some(3), Some(4), None], None),
        [
            ("present", Some(10), Some(100), Some(200)),
            ("present", Some(30), Some(300), Some(600)),
            ("not_found", None, None, None),
            ("not_found", None, None, None),
            ("no_key", None, None, None),
        ]
    );
    node.clock.set(2_000);
    assert_eq!(node.answers(&reader, &[Some(3)], None), [("present", Some(2_000), Some(400), Some(800))]);

    let status = node.runtime.block_on(node.flow.status(&Principal::owner(), None)).unwrap();
    let status = &status[0];
    assert!(status.materialized);
    assert_eq!(
        (status.rows, status.keys, status.units_behind, status.rows_behind),
        (Some(3), Some(3), Some(0), Some(0))
    );
    assert_eq!((status.newest.map(|at| at.0), status.age_micros), (Some(30), Some(1_970)));
    assert_eq!((status.success_age_micros, &status.last_error), (Some(1_000), &None));
}

#[test]
fn a_changed_file_is_rebuilt_aside() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    node.write("data/b.csv", &[row(1, 20, 2, 200), row(2, 20, 3, 300)]);
    node.apply(&Shape::default());
    let first = node.materialize().unwrap();
    // The newest row of item 1 and item 2 are taken back.
    node.write("data/b.csv", &[row(3, 20, 4, 400)]);
    let second = node.materialize().unwrap();
    assert_eq!(second.rebuilt.as_deref(), Some("file `data/b.csv` changed"));
    assert_ne!(second.generation, first.generation);
    assert_eq!((second.units, second.rows), (2, 2));
    let prices = |items: &[Option<i64>]| -> Vec<_> {
        node.answers(&node.reader(), items, None).into_iter().map(|answer| answer.2).collect()
    };
    assert_eq!(prices(&[Some(1), Some(2), Some(3)]), [Some(100), None, Some(400)]);

    std::fs::remove_file(node.root.join("data/b.csv")).unwrap();
    let third = node.materialize().unwrap();
    assert!(third.rebuilt.unwrap().ends_with("data/b.csv` is no longer there"));
    assert_eq!(prices(&[Some(1), Some(3)]), [Some(100), None]);

    // A new version of the view is another generation, and the old one goes.
    node.apply(&Shape { version: "2", double: "price + price", ..Shape::default() });
    let error = node
        .reader()
        .prepare(
            &node.registry.catalog(),
            &name("shop"),
            &asof_model::Ask::Features(vec!["price.*".into()]),
            false,
        )
        .map(|_| ());
    assert!(error.is_ok());
    let fourth = node.materialize().unwrap();
    assert_eq!(fourth.rebuilt, None);
    assert_eq!(prices(&[Some(1)]), [Some(100)]);
    let records = node.store.snapshot().unwrap().generations().unwrap();
    let states: Vec<_> = records.iter().map(|record| (record.id.0, record.state)).collect();
    assert_eq!(states, [(fourth.generation, GenerationState::Live)]);
    assert_eq!(node.store.usage().unwrap().generations.len(), 1);
}

#[test]
fn what_cannot_answer_is_not_kept_and_what_is_left_out_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    let never = Row { v: None, ..row(1, 30, 3, 300) };
    let no_key = Row { item: None, ..row(1, 31, 4, 300) };
    let gone = Row { gone: true, ..row(2, 900, 6, 0) };
    let rows = [
        row(1, 10, 1, 100),
        row(1, 500, 2, 200),
        never,
        no_key,
        row(2, 800, 5, 500),
        gone,
        row(3, 990, 7, 13),
        row(3, 400, 8, 600),
        row(3, 5_000, 9, 700),
    ];
    node.write("data/a.csv", &rows);
    for (shape, kept, past_retention, keys) in [
        (Shape::default(), 4, 0, 3),
        (Shape { history: History::All, version: "2", ..Shape::default() }, 6, 0, 3),
        (
            Shape { history: History::Length(Length::from_micros(450)), version: "3", ..Shape::default() },
            5,
            0,
            3,
        ),
        (Shape { ttl: Some(450), retention: Some(450), version: "4", ..Shape::default() }, 2, 3, 2),
    ] {
        node.apply(&shape);
        let report = node.materialize().unwrap();
        assert_eq!(
            (report.rows, report.keys, report.past_retention, report.never_known, report.null_keys),
            (kept, keys, past_retention, 1, 1),
            "{shape:?}"
        );
    }
}

#[test]
fn more_than_memory_is_staged_and_seen_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::open(folder.path());
    node.flow = node.flow.clone().with_batch_bytes(1);
    let rows = |from: i64| -> Vec<Row> {
        (0..20_000).map(|n| row(n % 500, from + n / 500, from * 100_000 + n, n)).collect()
    };
    node.write("data/a.csv", &rows(1));
    node.apply(&Shape::default());
    let first = node.materialize().unwrap();
    assert_eq!((first.rows_read, first.rows, first.keys), (20_000, 500, 500));
    node.write("data/b.csv", &rows(100));
    let second = node.materialize().unwrap();
    assert_eq!(
        (second.rows_read, second.rows_added, second.rows_removed, second.rows),
        (20_000, 500, 500, 500)
    );
    assert_eq!(second.generation, first.generation);
    let records = node.store.snapshot().unwrap().generations().unwrap();
    assert_eq!(records.len(), 1, "what was staged is gone");
    assert_eq!(
        node.answers(&node.reader(), &[Some(7)], None),
        [("present", Some(139), Some(19_507), Some(39_014))]
    );
}

#[test]
fn facts_have_one_row_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    node.write("data/a.csv", &[row(1, 0, 1, 100), row(2, 0, 2, 200), row(2, 0, 3, 13)]);
    node.apply(&Shape { clock: false, ..Shape::default() });
    let report = node.materialize().unwrap();
    assert_eq!((report.rows, report.keys), (2, 2));
    assert_eq!(node.answers(&node.reader(), &[Some(2)], None), [("present", None, Some(200), Some(400))]);
    node.write("data/b.csv", &[row(1, 0, 1, 100)]);
    let error = node.materialize().unwrap_err();
    assert_eq!(
        error.to_string(),
        "view `shop.price`: source `shop.prices` has no event time, and more than one row of a key (item) of view `shop.price`"
    );
    assert_eq!((error.kind(), error.code()), (Kind::Invalid, "second_row"));
    // What was online stays.
    assert_eq!(node.answers(&node.reader(), &[Some(2)], None), [("present", None, Some(200), Some(400))]);
    assert_eq!(node.store.snapshot().unwrap().generations().unwrap().len(), 1);
    std::fs::remove_file(node.root.join("data/b.csv")).unwrap();
    assert_eq!(node.materialize().unwrap().rows, 2);
}

#[test]
fn a_view_that_fails_says_why_and_keeps_what_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    node.apply_views(&[
        ("aside", &Shape { double: "1000 / (price - 200)", ..Shape::default() }),
        ("price", &Shape::default()),
    ]);
    node.materialize().unwrap();
    node.write("data/b.csv", &[row(1, 20, 2, 200)]);
    let error = node.materialize().unwrap_err();
    let FlowError::View { view, others: 0, .. } = &error else { panic!("{error}") };
    assert_eq!(view.name.as_str(), "aside");
    assert_eq!(error.code(), "expression_failed");
    let hint = error.hint().unwrap();
    assert!(hint.contains("leave the row out with `where`") && hint.contains("`try_cast`"), "{hint}");
    let status = node.runtime.block_on(node.flow.status(&Principal::owner(), Some(&name("shop")))).unwrap();
    let failure = status[0].last_error.as_ref().unwrap();
    assert_eq!((failure.error.code.as_str(), failure.at.0), ("expression_failed", 1_000));
    assert_eq!((status[0].rows, status[0].units_behind), (Some(1), Some(1)));
    assert_eq!(
        (status[1].last_error.as_ref(), status[1].units_behind),
        (None, Some(0)),
        "the other one went on"
    );
    assert_eq!(node.answers(&node.reader(), &[Some(1)], None), [("present", Some(20), Some(200), Some(400))]);

    let (owner, shop, asked) = (Principal::owner(), name("shop"), [name("prise")]);
    // Either way out is one: the row is left out, or its value is null.
    let views = [("price <> 200", "1000 / (price - 200)"), ("price > 0", "1000 / nullif(price - 200, 0)")];
    for (version, (filter, double)) in ["2", "3"].into_iter().zip(views) {
        let mended = Shape { version, filter, double, ..Shape::default() };
        node.apply_views(&[("aside", &mended), ("price", &Shape::default())]);
        node.materialize().unwrap();
    }

    let unknown = node.flow.materialize(&owner, &shop, Some(&asked), asof_engine::no_progress());
    let error = node.runtime.block_on(unknown).unwrap_err();
    assert_eq!(error.to_string(), "view `prise` not found");
    assert_eq!(error.hint().unwrap(), "the project's views are `aside`, `price`");
}

/// Who asks for health or metrics is told what was found last; only who asks for the status looks.
#[test]
fn the_last_status_is_told_from_records() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    node.apply(&Shape::default());
    let owner = Principal::owner();
    let standing = || {
        let found = node.runtime.block_on(node.flow.last_status(&owner, None)).unwrap().swap_remove(0);
        (found.rows.unwrap(), found.units_behind, found.rows_behind, found.behind_age_micros)
    };
    let starting = || node.runtime.block_on(node.flow.starting()).unwrap();
    assert_eq!((standing(), starting()), ((0, None, None, None), (1, 1)));
    node.materialize().unwrap();
    node.write("data/b.csv", &[row(2, 20, 2, 200)]);
    node.clock.set(1_500);
    assert_eq!((standing(), starting()), ((1, Some(0), Some(0), Some(500)), (0, 1)));
    let looked = node.runtime.block_on(node.flow.status(&owner, None)).unwrap();
    assert_eq!((looked[0].units_behind, looked[0].behind_age_micros), (Some(1), Some(0)));
    node.clock.set(1_600);
    assert_eq!(standing(), (1, Some(1), None, Some(100)));
    // Another version was never looked at; one that fails is not waited for.
    node.apply(&Shape { version: "2", double: "1 / (price - price)", ..Shape::default() });
    assert_eq!((standing(), starting()), ((0, None, None, None), (1, 1)));
    node.materialize().unwrap_err();
    assert_eq!(starting(), (0, 1));
}
