//! Sentences of the contract, each as a few rows and what is answered, worked out by hand.

use asof_model::Question::{self, Event, Known};
use asof_testkit::oracle::{Answer, WindowStatus, latest, latest_n, windows};
use asof_testkit::{Aggregate, Argument, Function, KeyValue, NEVER, Row, Value, View, Window, WindowView};

/// A value of shop 1 at e, known at v.
fn row(e: i64, v: i64, n: i64) -> Row {
    Row {
        e,
        v,
        o: None,
        s: None,
        id: None,
        pushed: false,
        told: None,
        delete: false,
        shop: Some(1),
        user: None,
        x: None,
        n: Some(n),
        state: Some("ok"),
        until: None,
        digest: [n as u8; 16],
    }
}

fn of(id: i64, row: Row) -> Row {
    Row { id: Some(id), ..row }
}

/// A withdrawal that holds its id, its time and nothing else.
fn withdrawal(id: i64, e: i64, v: i64) -> Row {
    Row { id: Some(id), delete: true, shop: None, n: None, state: None, ..row(e, v, 0) }
}

fn view() -> View {
    View { keys: vec!["shop"], spine_keys: vec!["shop"], filter: true, ttl: None, default: None }
}

const SHOP: [Option<KeyValue>; 1] = [Some(KeyValue::Int(1))];

/// The feature `n` at some t.
fn check(rows: &[Row], view: &View, question: Question, expected: &[(i64, &str, Option<i64>)]) {
    for (t, status, n) in expected {
        let answer = latest(rows, view, &SHOP, *t, question);
        assert_eq!((answer.0.name(), latest_n(view, answer)), (*status, *n), "{question:?} at {t}");
    }
}

#[test]
fn a_delete_with_an_id_withdraws_its_event_from_its_v_on() {
    // The delete's own e, 90, does not matter.
    let rows = [row(5, 5, 1), of(1, row(10, 12, 2)), withdrawal(1, 90, 20)];
    let known = [(9, "present", Some(1)), (11, "present", Some(1)), (12, "present", Some(2))];
    check(&rows, &view(), Known, &known);
    check(&rows, &view(), Known, &[(19, "present", Some(2)), (20, "present", Some(1))]);
    // Under event, at every t.
    check(
        &rows,
        &view(),
        Event,
        &[(4, "not_found", None), (12, "present", Some(1)), (20, "present", Some(1))],
    );
}

#[test]
fn a_later_version_brings_it_back() {
    let rows = [of(1, row(10, 10, 2)), withdrawal(1, 10, 20), of(1, row(10, 30, 3))];
    let known = [(19, "present", Some(2)), (20, "not_found", None), (29, "not_found", None)];
    check(&rows, &view(), Known, &known);
    check(&rows, &view(), Known, &[(30, "present", Some(3))]);
    check(&rows, &view(), Event, &[(9, "not_found", None), (10, "present", Some(3))]);
}

#[test]
fn a_version_takes_its_event_with_it() {
    // To a later e: until then nothing of the event is left.
    let rows = [of(1, row(10, 10, 1)), of(1, row(30, 20, 2))];
    let known = [(19, "present", Some(1)), (20, "not_found", None), (30, "present", Some(2))];
    check(&rows, &view(), Known, &known);
    // To another key, to a null key, out of `where`: the same.
    let last = of(1, row(10, 20, 2));
    for last in [
        Row { shop: Some(2), ..last.clone() },
        Row { shop: None, ..last.clone() },
        Row { state: Some("spam"), ..last.clone() },
        Row { state: None, ..last },
    ] {
        let rows = [of(1, row(10, 10, 1)), last];
        check(&rows, &view(), Known, &[(19, "present", Some(1)), (20, "not_found", None)]);
        check(&rows, &view(), Event, &[(19, "not_found", None)]);
    }
}

#[test]
fn versions_are_in_the_order_of_v_o_s_c() {
    let one = of(1, row(10, 20, 1));
    let pair = |first: Row, second: Row, expected: i64| {
        for rows in [[first.clone(), second.clone()], [second.clone(), first.clone()]] {
            for question in [Known, Event] {
                check(&rows, &view(), question, &[(50, "present", Some(expected))]);
            }
        }
    };
    // Not e: the version known last is the last, though its e is earlier.
    pair(one.clone(), of(1, row(5, 21, 2)), 2);
    pair(one.clone(), Row { o: Some(i64::MIN), ..of(1, row(5, 20, 2)) }, 2);
    pair(Row { s: Some(4), ..one.clone() }, Row { s: Some(3), ..of(1, row(11, 20, 2)) }, 1);
    pair(
        Row { s: Some(4), o: Some(0), ..one.clone() },
        Row { s: Some(3), o: Some(1), ..of(1, row(5, 20, 2)) },
        2,
    );
    pair(one.clone(), of(1, row(5, 20, 2)), 2);
    // Never known is after all: event sees it.
    let rows = [one, of(1, row(10, NEVER, 2))];
    check(&rows, &view(), Known, &[(50, "present", Some(1))]);
    check(&rows, &view(), Event, &[(50, "present", Some(2))]);
}

#[test]
fn a_delete_without_an_id_ends_the_key_at_its_e() {
    let delete = Row { delete: true, state: None, n: None, ..row(20, 20, 0) };
    let rows = [row(10, 10, 1), delete.clone(), row(30, 30, 2)];
    let answers = [(19, "present", Some(1)), (20, "not_found", None), (30, "present", Some(2))];
    for question in [Known, Event] {
        check(&rows, &view(), question, &answers);
    }
    // Last among rows equal in (e, v, o, s), whatever the content.
    let rows = [delete, row(20, 20, 9)];
    check(&rows, &view(), Known, &[(20, "not_found", None)]);
}

#[test]
fn default_replaces_null_of_not_found_and_expired_only() {
    let view = View { ttl: Some(5), default: Some(7), ..view() };
    let rows = [Row { n: None, ..row(10, 10, 0) }];
    let answers = [(9, "not_found", Some(7)), (10, "present", None), (15, "present", None)];
    check(&rows, &view, Known, &answers);
    check(&rows, &view, Known, &[(16, "expired", Some(7))]);
    let answer = latest(&rows, &view, &[None], 10, Known);
    assert_eq!((answer.0.name(), latest_n(&view, answer)), ("no_key", None));
}

const WINDOW: Window = Window { length: Some(10), offset: 0, include_now: false, resolution: None };

fn aggregate(function: Function, argument: Option<Argument>) -> Aggregate {
    Aggregate { function, argument, filter: false, default: None }
}

fn asked(rows: &[Row], window: Window, aggregate: Aggregate, t: i64, question: Question) -> Answer {
    let view = WindowView { view: view(), windows: vec![window], aggregates: vec![aggregate] };
    windows(rows, &view, &SHOP, t, question).remove(0)
}

fn counted(rows: &[Row], window: Window, t: i64) -> i64 {
    let answer = asked(rows, window, aggregate(Function::Count, None), t, Known);
    assert_eq!(answer.status, WindowStatus::Present);
    match answer.value {
        Value::Int(count) => count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn windows_are_half_open() {
    // By window: the first t that counts a row of e = 20, and the last.
    let check = |window: Window, e: i64, first: i64, last: i64| {
        let rows = [row(e, -1000, 1)];
        for (t, count) in [(first - 1, 0), (first, 1), (last, 1), (last + 1, 0)] {
            assert_eq!(counted(&rows, window, t), count, "{window:?} at {t}");
        }
    };
    check(WINDOW, 20, 21, 30);
    check(Window { offset: 3, ..WINDOW }, 20, 24, 33);
    let now = Window { include_now: true, ..WINDOW };
    check(now, 20, 20, 29);
    check(Window { offset: 3, ..now }, 20, 23, 32);
    // Floored to multiples of 4: a row of 20 stays until the edge is floored to 24.
    let floored = Window { resolution: Some(4), ..WINDOW };
    check(floored, 20, 21, 33);
    check(floored, 23, 24, 33);
    check(Window { include_now: true, ..floored }, 20, 20, 32);
    // Toward minus infinity: -3 is floored to -4.
    check(floored, -4, -3, 9);
    check(floored, -1, 0, 9);
    check(floored, -5, -4, 5);
    let all = Window { length: None, ..WINDOW };
    assert_eq!(counted(&[row(-1_000_000, -1_000_000, 1)], all, 1_000_000), 1);
    // *known* compares v with t, not with t - f.
    let late = [row(20, 30, 1)];
    let offset = Window { offset: 5, ..WINDOW };
    assert_eq!([29, 30, 35, 36].map(|t| counted(&late, offset, t)), [0, 1, 1, 0]);
}

#[test]
fn all_rows_of_a_window_count_and_one_of_an_event() {
    let one = row(20, 20, 1);
    assert_eq!(counted(&[one.clone(), one.clone()], WINDOW, 25), 2);
    let event = of(1, one.clone());
    assert_eq!(counted(&[event.clone(), event.clone()], WINDOW, 25), 1);
    // Past its valid_until it counts all the same; withdrawn, it does not.
    assert_eq!(counted(&[Row { until: Some(21), ..one }], WINDOW, 25), 1);
    let rows = [event, withdrawal(1, 500, 23)];
    assert_eq!([21, 22, 23, 24].map(|t| counted(&rows, WINDOW, t)), [1, 1, 0, 0]);
}

#[test]
fn what_windows_answer() {
    let x = |e: i64, x: f64| Row { x: Some(x), n: Some(e), digest: [e as u8; 16], ..row(e, 0, 0) };
    let rows = [x(21, 0.1), x(22, f64::NAN), x(23, -0.0), Row { x: None, ..x(24, 0.0) }, x(25, 0.1)];
    let check = |rows: &[Row], function: Function, argument: Argument, expected: Value| {
        let found = asked(rows, WINDOW, aggregate(function, Some(argument)), 30, Known);
        assert_eq!(found, Answer { status: WindowStatus::Present, value: expected }, "{function:?}");
    };
    let (float, int) = (Value::float, Value::Int);
    let ints = |of: &[i64]| Value::List(of.iter().copied().map(Value::Int).collect());
    use Argument::{N, X};
    check(&rows, Function::Count, X, int(4));
    check(&rows, Function::CountDistinct(3), X, int(3));
    check(&rows, Function::Sum, X, float(f64::NAN));
    check(&rows, Function::Min, X, float(0.0));
    check(&rows, Function::Max, X, float(f64::NAN));
    check(&rows, Function::Histogram(3), X, {
        Value::Counts(vec![(float(0.0), 1), (float(0.1), 2), (float(f64::NAN), 1)])
    });
    check(&rows, Function::Sum, N, int(115));
    check(&rows, Function::Mean, N, float(23.0));
    check(&rows, Function::Variance, N, float(2.5));
    check(&rows, Function::VariancePop, N, float(2.0));
    check(&rows, Function::StddevPop, N, float(2.0_f64.sqrt()));
    check(&rows[..1], Function::Stddev, N, Value::Null);
    check(&rows[..1], Function::StddevPop, N, float(0.0));
    check(&rows, Function::First, N, int(21));
    check(&rows, Function::Last, N, int(25));
    check(&rows, Function::FirstN(2), N, ints(&[21, 22]));
    check(&rows, Function::LastN(2), N, ints(&[24, 25]));
    check(&rows, Function::LastN(9), X, Value::List([0.1, f64::NAN, -0.0, 0.1].map(float).to_vec()));
    check(&rows, Function::CollectList(5), N, ints(&[21, 22, 23, 24, 25]));
    // The order of rows is that of section 1, not that of coming.
    let mut turned = rows.clone();
    turned.reverse();
    check(&turned, Function::LastN(2), N, ints(&[24, 25]));

    let status = |rows: &[Row], aggregate: Aggregate| {
        let found = asked(rows, WINDOW, aggregate, 30, Known);
        (found.status.name(), found.value)
    };
    let null = |status| (status, Value::Null);
    let nulls = [Row { x: None, ..row(20, 0, 1) }];
    for rows in [&nulls[..], &[]] {
        for function in [Function::Sum, Function::Mean, Function::Max, Function::Variance, Function::Last] {
            let sum = aggregate(function, Some(X));
            assert_eq!(status(rows, sum.clone()), null("null"));
            let default = Aggregate { default: Some(float(2.0)), ..sum };
            assert_eq!(status(rows, default), ("present", float(2.0)));
        }
        assert_eq!(status(rows, aggregate(Function::CountDistinct(1), Some(X))), ("present", int(0)));
        assert_eq!(status(rows, aggregate(Function::CollectList(1), Some(X))), null("null"));
    }
    let default = Some(int(0));
    let over = |function| Aggregate { default: default.clone(), ..aggregate(function, Some(N)) };
    for function in [Function::CountDistinct(4), Function::Histogram(4), Function::CollectList(4)] {
        assert_eq!(status(&rows, over(function)), null("overflow"));
    }
    let great = [row(20, 0, i64::MAX), row(21, 0, 1)];
    assert_eq!(status(&great, over(Function::Sum)), null("overflow"));
    // Judged at finish: whatever the parts, the sum is within range.
    let back = [row(20, 0, i64::MAX), row(21, 0, 1), row(22, 0, -1)];
    assert_eq!(status(&back, over(Function::Sum)), ("present", int(i64::MAX)));
    let view = WindowView { view: view(), windows: vec![WINDOW], aggregates: vec![over(Function::Count)] };
    let found = windows(&rows, &view, &[None], 30, Known);
    assert_eq!(found, [Answer { status: WindowStatus::NoKey, value: Value::Null }]);
}
