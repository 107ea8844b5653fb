//! What aggregates answer, by example.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType as ArrowType;
use arrow::util::display::array_value_to_string;
use asof_compute::{
    Constant, FunctionCall, Input, Op, Outcome, Position, RowDigest, RowOrder, aggregate, arrow_type,
};
use asof_model::{DataType, Timestamp};

use super::laws::{finished, fold};

/// Rows by time and value, `null` for none; what an aggregate of them is, as text.
fn answer(name: &str, of: &str, constants: &[Constant], rows: &[(i64, &str)]) -> (String, Outcome) {
    let of = DataType::parse(of).unwrap();
    let texts: StringArray = rows.iter().map(|(_, text)| (*text != "null").then_some(*text)).collect();
    let texts: ArrayRef = Arc::new(texts);
    let order = |time: i64| RowOrder {
        event_time: Timestamp(time),
        visible_at: Timestamp(time),
        order_by: Box::default(),
        position: Position::NONE,
        op: Op::Value,
        digest: RowDigest::default(),
    };
    // Texts of times would need to know of zones.
    let texts = if of == DataType::Timestamp { cast(&texts, &ArrowType::Int64).unwrap() } else { texts };
    let input = Input {
        values: Some(cast(&texts, &arrow_type(&of)).unwrap()),
        event_times: rows.iter().map(|(time, _)| *time).collect(),
        orders: rows.iter().map(|(time, _)| order(*time)).collect(),
    };
    let call = FunctionCall { argument: Some(of), constants: constants.to_vec() };
    let function = aggregate(name).unwrap().function(&call).unwrap();
    let (value, outcome) = finished(&function, &fold(&function, &input, 0..rows.len()));
    let zoned = matches!(value.data_type(), ArrowType::Timestamp(..));
    let value = if zoned { cast(&value, &ArrowType::Int64).unwrap() } else { value };
    (array_value_to_string(&value, 0).unwrap(), outcome)
}

#[test]
fn answers_are_these() {
    let check = |name: &str, of: &str, constants: &[Constant], values: &[&str], expected: &str| {
        let rows: Vec<(i64, &str)> = (0..).zip(values.iter().copied()).collect();
        assert_eq!(
            answer(name, of, constants, &rows),
            (expected.to_owned(), Outcome::Present),
            "{name}({of}, {constants:?}) of {values:?}"
        );
    };
    let int = Constant::Int;
    for (of, values, min, max) in [
        ("int8", vec!["3", "null", "-128", "127"], "-128", "127"),
        ("uint64", vec!["18446744073709551615", "0"], "0", "18446744073709551615"),
        (
            "int64",
            vec!["-9223372036854775808", "9223372036854775807"],
            "-9223372036854775808",
            "9223372036854775807",
        ),
        ("float64", vec!["1.5", "NaN", "-inf", "0.1"], "-inf", "NaN"),
        ("float64", vec!["-0.0", "-0.0"], "0.0", "0.0"),
        ("float32", vec!["0.1", "2.5", "-7"], "-7.0", "2.5"),
        ("decimal(10,2)", vec!["1.50", "-0.01", "20"], "-0.01", "20.00"),
        ("bool", vec!["true", "false"], "false", "true"),
        ("string", vec!["b", "", "ab", "sixteen letters!"], "", "sixteen letters!"),
        ("date", vec!["2026-01-02", "1969-12-31"], "1969-12-31", "2026-01-02"),
        // Microseconds.
        ("timestamp", vec!["7", "-1", "null"], "-1", "7"),
    ] {
        check("min", of, &[], &values, min);
        check("max", of, &[], &values, max);
    }
    let letters = ["b", "a", "null", "b", "c", "c", "d"];
    check("first", "string", &[], &["null", "b", "a"], "b");
    check("last", "string", &[], &["b", "a", "null"], "a");
    check("first_n", "string", &[int(2)], &letters, "[b, a]");
    check("last_n", "string", &[int(3)], &letters, "[c, c, d]");
    check("last_n", "string", &[int(9)], &letters, "[b, a, b, c, c, d]");
    check("count_distinct", "string", &[], &letters, "4");
    check("count_distinct", "float64", &[], &["0.0", "-0.0", "NaN", "NaN"], "2");
    check("count_distinct", "string", &[int(4)], &letters, "4");
    check("approx_distinct", "string", &[], &letters, "4");
    check("approx_distinct", "float32", &[], &["0.0", "-0.0", "NaN", "1"], "3");
    check(
        "histogram",
        "string",
        &[],
        &letters,
        "[{value: a, count: 1}, {value: b, count: 2}, {value: c, count: 2}, {value: d, count: 1}]",
    );
    check(
        "histogram",
        "int16",
        &[int(2)],
        &["7", "-7", "7"],
        "[{value: -7, count: 1}, {value: 7, count: 2}]",
    );
    check(
        "approx_top_k",
        "string",
        &[int(3)],
        &letters,
        "[{value: b, count: 2}, {value: c, count: 2}, {value: a, count: 1}]",
    );
    check("approx_top_k", "int64", &[int(1)], &["1", "2", "2"], "[{value: 2, count: 2}]");
    check("collect_list", "string", &[], &letters, "[a, b, b, c, c, d]");
    check("collect_list", "float64", &[int(4)], &["NaN", "-1", "-0.0", "-inf"], "[-inf, -1.0, 0.0, NaN]");
    let numbers = ["-5", "3", "4", "null", "200", "1000"];
    for (share, expected) in [
        (0.0, "-5.0"),
        (0.2, "-5.0"),
        (0.21, "3.0"),
        (0.5, "4.0"),
        (0.8, "200.0"),
        // 1000 is 1111101000: cut to eight digits, itself.
        (1.0, "1000.0"),
    ] {
        check("approx_quantile", "int64", &[Constant::Float(share)], &numbers, expected);
    }
    check("approx_quantile", "decimal(10,2)", &[Constant::Float(0.5)], &["1.25", "2.50", "9.99"], "2.5");
    // 1.1001001 to eight digits, toward 0.
    check("approx_quantile", "float64", &[Constant::Float(0.5)], &["-1.575"], "-1.5703125");
    check("approx_quantile", "float64", &[Constant::Float(1.0)], &["1", "NaN", "inf"], "NaN");
    check("approx_quantile", "float64", &[Constant::Float(0.5)], &["1", "NaN", "inf"], "inf");
}

#[test]
fn rows_are_first_and_last_in_their_order() {
    let rows = [(5, "e"), (1, "a"), (9, "null"), (3, "c"), (4, "d"), (2, "b"), (0, "null")];
    for (name, constants, expected) in [
        ("first", vec![], "a"),
        ("last", vec![], "e"),
        ("first_n", vec![Constant::Int(2)], "[a, b]"),
        ("last_n", vec![Constant::Int(2)], "[d, e]"),
    ] {
        assert_eq!(answer(name, "string", &constants, &rows).0, expected);
    }
}

#[test]
fn more_than_the_cap_is_an_overflow() {
    let rows = [(0, "a"), (1, "b"), (2, "b")];
    for (name, constants, over) in [
        ("count_distinct", vec![2], false),
        ("count_distinct", vec![1], true),
        ("histogram", vec![2], false),
        ("histogram", vec![1], true),
        ("approx_top_k", vec![1, 2], false),
        ("approx_top_k", vec![1, 1], true),
        ("collect_list", vec![3], false),
        ("collect_list", vec![2], true),
    ] {
        let constants: Vec<Constant> = constants.into_iter().map(Constant::Int).collect();
        let (text, outcome) = answer(name, "string", &constants, &rows);
        assert_eq!(outcome == Outcome::Overflow, over, "{name} {constants:?}");
        assert_eq!(text.is_empty(), over, "{name} {constants:?}: an overflow is null");
    }
}
