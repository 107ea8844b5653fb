use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use asof_compute::Status;
use asof_model::{Ask, Clock, DataType, Explain, History, Length, Timestamp};
use asof_serve::{EntityColumns, Features, PreparedSelection, Reader, ServeError};

use crate::fixture::{TestClock, Times, catalog, name, put, selection, store, view};

fn integers(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn entities(columns: Vec<(&str, ArrayRef)>) -> EntityColumns {
    EntityColumns::new(columns.into_iter().map(|(key, array)| (key.to_owned(), array)).collect()).unwrap()
}

fn column(features: &Features, name: &str) -> ArrayRef {
    features.columns().find(|column| column.about.name == name).unwrap().array().unwrap()
}

/// The column at a position.
fn nth(features: &Features, at: usize) -> ArrayRef {
    features.columns().nth(at).unwrap().array().unwrap()
}

fn statuses(features: &Features) -> Vec<Vec<&'static str>> {
    features.readings.iter().map(|it| it.status.iter().map(|status| status.name()).collect()).collect()
}

#[test]
fn one_row_answers_for_all_columns_of_a_view() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let prices = view(
        "prices",
        &[("item", DataType::Int64)],
        &[("price", DataType::Float64), ("currency", DataType::String)],
        Some(10),
        History::None,
    );
    let users = view(
        "users",
        &[("user", DataType::String), ("shard", DataType::Int64)],
        &[("age", DataType::Int64)],
        None,
        History::None,
    );
    put(
        store.as_ref(),
        1,
        &prices,
        &[integers(&[Some(1), Some(1), Some(2), Some(3), Some(4), Some(4)])],
        &[
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(2.5), Some(3.5), Some(4.5), Some(9.0)])),
            texts(&[Some("eur"), Some("usd"), Some("eur"), None, Some("eur"), None]),
        ],
        &[
            Times(100, 100, None, false),
            Times(101, 101, None, false),
            Times(85, 85, None, false),
            Times(99, 99, Some(105), false),
            Times(100, 100, None, false),
            Times(101, 101, None, true),
        ],
    );
    put(
        store.as_ref(),
        2,
        &users,
        &[texts(&[Some("ann"), Some("ann")]), integers(&[Some(1), Some(2)])],
        &[integers(&[Some(41), Some(42)])],
        &[Times(i64::MIN, i64::MIN, None, false), Times(i64::MIN, i64::MIN, None, false)],
    );
    let prepared = PreparedSelection::new(selection(&[
        (&prices, &["item"]),
        (&users, &["buyer", "shard"]),
        (&users, &["seller", "shard"]),
    ]))
    .unwrap();
    assert_eq!(
        prepared.keys().iter().map(|key| key.name.as_str()).collect::<Vec<_>>(),
        ["item", "buyer", "shard", "seller"]
    );
    let reader = Reader::new(store, TestClock::at(105));
    let found = reader
        .read(
            &prepared,
            &entities(vec![
                ("shard", integers(&[Some(2), Some(1), Some(1), None, Some(9), Some(1)])),
                ("item", integers(&[Some(1), Some(2), Some(3), Some(4), None, Some(5)])),
                ("buyer", texts(&[Some("ann"); 6])),
                ("seller", texts(&[Some("ann"), Some("bob"), None, None, Some("ann"), Some("ann")])),
            ]),
            None,
        )
        .unwrap();
    assert_eq!(found.at, Timestamp(105));
    // The first row's price is null in the row that answers: not mixed from the one before.
    let price = column(&found, "prices__price");
    assert_eq!(price.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [None; 6]);
    let currency = column(&found, "prices__currency");
    assert_eq!(
        currency.as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some("usd"), None, None, None, None, None]
    );
    assert_eq!(
        statuses(&found),
        [
            ["present", "expired", "expired", "not_found", "no_key", "not_found"],
            ["present", "present", "present", "no_key", "not_found", "present"],
            ["present", "not_found", "no_key", "no_key", "not_found", "present"],
        ]
    );
    let times: Vec<_> = found.readings[0].event_time.iter().map(|at| at.map(|at| at.0)).collect();
    assert_eq!(times, [Some(101), Some(85), Some(99), None, None, None]);
    assert_eq!(found.readings[1].event_time, [None; 6], "facts have no time");
    assert_eq!(*found.readings[2].keys, ["seller", "shard"]);
    assert_eq!(&*found.readings[2].view, "users");
    let ages = nth(&found, 2);
    assert_eq!(ages.as_primitive::<Int64Type>().value(0), 42);
    assert_eq!(nth(&found, 3).null_count(), 4);
}

#[test]
fn t_is_one_and_never_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let prices =
        view("prices", &[("item", DataType::Int64)], &[("price", DataType::Int64)], None, History::None);
    put(
        store.as_ref(),
        1,
        &prices,
        &[integers(&[Some(1), Some(1), Some(1)])],
        &[integers(&[Some(1), Some(2), Some(3)])],
        &[Times(10, 10, None, false), Times(20, 20, None, false), Times(12, 30, None, false)],
    );
    let prepared = PreparedSelection::new(selection(&[(&prices, &["item"])])).unwrap();
    let clock = TestClock::at(15);
    let reader = Reader::new(store, Arc::clone(&clock) as Arc<dyn Clock>);
    let asked = entities(vec![("item", integers(&[Some(1)]))]);
    let read = |clock_at| {
        clock.set(clock_at);
        let found = reader.read(&prepared, &asked, None).unwrap();
        (found.at.0, nth(&found, 0).as_primitive::<Int64Type>().value(0))
    };
    assert_eq!(read(15), (15, 1), "a future-dated row does not hide today's");
    assert_eq!(read(25), (25, 2));
    assert_eq!(read(17), (25, 2), "a clock set back");
    assert_eq!(read(40), (40, 2), "a late row is late");
}

#[test]
fn as_of_is_answered_within_history() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let make = |name, history| {
        view(name, &[("item", DataType::Int64)], &[("price", DataType::Int64)], Some(100), history)
    };
    let all = make("everything", History::All);
    let some = make("recent", History::Length(Length::from_micros(50)));
    let none = make("present", History::None);
    for (id, view) in [(1, &all), (2, &some), (3, &none)] {
        put(
            store.as_ref(),
            id,
            view,
            &[integers(&[Some(1), Some(1)])],
            &[integers(&[Some(1), Some(2)])],
            &[Times(10, 10, None, false), Times(60, 70, None, false)],
        );
    }
    let reader = Reader::new(store, TestClock::at(100));
    let asked = entities(vec![("item", integers(&[Some(1)]))]);
    let read = |view, as_of| {
        let prepared = PreparedSelection::new(selection(&[(view, &["item"])])).unwrap();
        reader.read(&prepared, &asked, Some(Timestamp(as_of))).map(|found| {
            let value = nth(&found, 0);
            (found.at.0, value.is_valid(0).then(|| value.as_primitive::<Int64Type>().value(0)))
        })
    };
    assert_eq!(read(&all, 69).unwrap(), (69, Some(1)));
    assert_eq!(read(&all, 70).unwrap(), (70, Some(2)));
    assert_eq!(read(&all, 5).unwrap(), (5, None));
    assert_eq!(read(&some, 50).unwrap(), (50, Some(1)));
    assert_eq!(read(&none, 100).unwrap(), (100, Some(2)));
    for (view, as_of, message) in [
        (
            &some,
            49,
            "view `shop.recent` answers online from 1970-01-01T00:00:00.000050Z on, not as of 1970-01-01T00:00:00.000049Z",
        ),
        (
            &none,
            99,
            "view `shop.present` answers online from 1970-01-01T00:00:00.000100Z on, not as of 1970-01-01T00:00:00.000099Z",
        ),
        (&all, 101, "as_of 1970-01-01T00:00:00.000101Z is after the present, 1970-01-01T00:00:00.000100Z"),
    ] {
        let error = read(view, as_of).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind().http_status(), 400);
        assert!(error.hint().is_some());
    }
    assert!(matches!(read(&some, 49), Err(ServeError::BeyondHistory { .. })));
}

#[test]
fn a_request_is_answered_whole_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let prices =
        view("prices", &[("item", DataType::Int64)], &[("price", DataType::Int64)], None, History::None);
    let other =
        view("other", &[("item", DataType::String)], &[("price", DataType::Int64)], None, History::None);
    put(store.as_ref(), 1, &prices, &[integers(&[])], &[integers(&[])], &[]);
    let reader = Reader::new(store, TestClock::at(100));
    let item = || integers(&[Some(1)]);
    let prepared = |readings: &[_]| PreparedSelection::new(selection(readings));
    let one = prepared(&[(&prices, &["item"][..])]).unwrap();
    let two = prepared(&[(&prices, &["item"][..]), (&other, &["name"][..])]).unwrap();
    let check = |error: ServeError, message: &str, code: &str, status: u16| {
        assert_eq!(error.to_string(), message);
        assert_eq!((error.code(), error.kind().http_status()), (code, status), "{message}");
        assert!(error.hint().is_some(), "{message}");
    };
    let read = |selection, columns| reader.read(selection, &entities(columns), None).map(|_| ()).unwrap_err();
    check(
        read(&one, vec![]),
        "the key column `item` (int64) is missing; shop.prices is read by it",
        "missing_key",
        400,
    );
    check(
        read(&one, vec![("item", item()), ("itme", item())]),
        "the key column `itme` is no key of what is asked",
        "unknown_key",
        400,
    );
    check(
        read(&one, vec![("item", Arc::new(Int32Array::from(vec![1])))]),
        "the key column `item` is int64, not Int32",
        "bad_key_type",
        400,
    );
    check(
        read(&two, vec![("item", item()), ("name", texts(&[Some("a")]))]),
        "view `shop.other` is not materialised in its present version",
        "view_not_materialized",
        503,
    );
    check(
        prepared(&[(&prices, &["item"][..]), (&other, &["item"][..])]).map(|_| ()).unwrap_err(),
        "the key `item` is int64 for view `shop.prices` and string for view `shop.other`",
        "key_conflict",
        400,
    );
    let made = |columns: Vec<(&str, ArrayRef)>| {
        EntityColumns::new(columns.into_iter().map(|(key, array)| (key.to_owned(), array)).collect())
            .map(|_| ())
            .unwrap_err()
    };
    check(made(vec![("a", item()), ("a", item())]), "the key column `a` is given twice", "key_twice", 400);
    check(
        made(vec![("a", item()), ("b", integers(&[]))]),
        "the key columns differ in length: `a` has 1 values, `b` has 0",
        "unequal_lengths",
        400,
    );
    // An empty view is materialised and knows nobody.
    let found = reader.read(&one, &entities(vec![("item", item())]), None).unwrap();
    assert_eq!(found.readings[0].status, [Status::NotFound]);
    // No entities, no rows.
    let found = reader.read(&one, &entities(vec![("item", integers(&[]))]), None).unwrap();
    assert_eq!((nth(&found, 0).len(), found.readings[0].status.len()), (0, 0));
}

#[test]
fn selections_are_kept_per_revision() {
    let folder = tempfile::tempdir().unwrap();
    let prices =
        view("prices", &[("item", DataType::Int64)], &[("price", DataType::Int64)], None, History::None);
    let reader = Reader::new(store(folder.path()), TestClock::at(1));
    let prepare = |revision, feature: &str, full_names| {
        let ask = Ask::Features(vec![feature.to_owned()]);
        reader.prepare(&catalog(revision, &prices), &name("shop"), &ask, full_names)
    };
    let first = prepare(1, "prices.price", false).unwrap();
    assert_eq!(first.selection().columns[0].name, "price");
    assert!(Arc::ptr_eq(&first, &prepare(1, "prices.price", false).unwrap()));
    assert_eq!(prepare(1, "prices.price", true).unwrap().selection().columns[0].name, "prices__price");
    let second = prepare(2, "prices.price", false).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    // A request that still holds the old catalog gets its own, and spoils nothing.
    assert!(!Arc::ptr_eq(&second, &prepare(1, "prices.price", false).unwrap()));
    assert!(Arc::ptr_eq(&second, &prepare(2, "prices.price", false).unwrap()));
    let error = prepare(2, "prices.prise", false).unwrap_err();
    assert_eq!(error.kind().http_status(), 404, "{error}");
}

/// Rows are kept whole or, where they are long, by the values asked for: either way each column is its own.
#[test]
fn long_rows_answer_as_short_ones_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let types = [("title", DataType::String), ("price", DataType::Int64), ("notes", DataType::String)];
    let notes = view("notes", &[("item", DataType::Int64)], &types, None, History::None);
    let long = "long ".repeat(1_000);
    let titles = [Some("one"), Some(long.as_str()), None, Some("four")];
    let said = [None, Some("short"), Some(long.as_str()), Some(long.as_str())];
    let prices = [Some(1), None, Some(3), Some(4)];
    put(
        store.as_ref(),
        1,
        &notes,
        &[integers(&[Some(1), Some(2), Some(3), Some(4)])],
        &[texts(&titles), integers(&prices), texts(&said)],
        &[Times(1, 1, None, false); 4],
    );
    let reader = Reader::new(store, TestClock::at(100));
    let asked = || entities(vec![("item", integers(&[Some(4), Some(9), Some(3), Some(1), None, Some(2)]))]);
    let of = |row: usize| [Some(3), None, Some(2), Some(0), None, Some(1)][row];
    let mut selection = selection(&[(&notes, &["item"])]);
    for columns in [vec![0, 1, 2], vec![2, 0], vec![1], vec![1, 1, 2]] {
        let all = selection.columns.clone();
        selection.columns = columns.iter().map(|at| all[*at].clone()).collect();
        let prepared = PreparedSelection::new(selection.clone()).unwrap();
        selection.columns = all;
        let found = reader.read(&prepared, &asked(), None).unwrap();
        assert_eq!(
            statuses(&found),
            [["present", "not_found", "present", "present", "no_key", "present"]],
            "{columns:?}"
        );
        for (at, column) in columns.iter().enumerate() {
            let array = nth(&found, at);
            let values = found.columns().nth(at).unwrap().values().map(|value| value.unwrap().is_some());
            assert_eq!(values.collect::<Vec<_>>(), (0..6).map(|row| array.is_valid(row)).collect::<Vec<_>>());
            for row in 0..6 {
                match column {
                    1 => {
                        let numbers = array.as_primitive::<Int64Type>();
                        let found = numbers.is_valid(row).then(|| numbers.value(row));
                        assert_eq!(found, of(row).and_then(|row| prices[row]));
                    }
                    _ => {
                        let text = array.as_string::<i32>();
                        let expected = of(row).and_then(|row| [titles, said][*column / 2][row]);
                        assert_eq!(text.is_valid(row).then(|| text.value(row)), expected);
                    }
                }
            }
        }
    }
}
