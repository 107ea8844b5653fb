//! What expressions give of rows, whatever rows come with them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use asof_engine::expression::{Purpose, compile};

use crate::project::{Folder, columns, said};

/// Rows (ok, x, n, i).
fn rows() -> RecordBatch {
    let ok: ArrayRef = Arc::new(BooleanArray::from(vec![
        Some(true),
        Some(false),
        Some(true),
        Some(false),
        None,
        Some(true),
    ]));
    let x: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), Some(0), Some(20), Some(0), Some(2), Some(0)]));
    let n: ArrayRef = Arc::new(Int64Array::from(vec![1, i64::MAX, i64::MIN, -1, 0, 1]));
    let i: ArrayRef = Arc::new(Int32Array::from(vec![1, i32::MAX, i32::MIN, -1, 0, 1]));
    RecordBatch::try_from_iter_with_nullable([
        ("ok", ok, true),
        ("x", x, true),
        ("n", n, true),
        ("i", i, true),
    ])
    .unwrap()
}

/// Every row alone, and every run of rows together: a run gives what its rows give, or fails as one of
/// them does.
fn check(folder: &Folder, text: &str, expected: [&str; 6]) {
    let columns = columns(&[("ok", "bool"), ("x", "int64"), ("n", "int64"), ("i", "int32")]);
    let compiled = compile(&folder.engine, text, &columns, false, Purpose::Feature).unwrap();
    let all = rows();
    let bound = compiled.bind(&all.schema()).unwrap();
    for from in 0..6 {
        for to in from + 1..=6 {
            let wanted = &expected[from..to];
            match bound.evaluate(&all.slice(from, to - from)) {
                Ok(found) => {
                    let found: Vec<String> =
                        (0..found.len()).map(|row| array_value_to_string(&found, row).unwrap()).collect();
                    assert_eq!(found, wanted, "{text}, rows {from} to {to}");
                }
                Err(error) => {
                    let told = said(&error);
                    let fails = wanted.iter().find(|row| row.contains(' '));
                    assert!(
                        fails.is_some_and(|reason| told.contains(reason)),
                        "{text}, rows {from} to {to}: {told}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_row_is_evaluated_as_if_it_were_alone() {
    let folder = Folder::new();
    let (zero, range) = ("division by zero", "a number is out of range");
    check(&folder, "ok and 10 / x > 1", ["true", "false", "false", "false", "", zero]);
    check(&folder, "not ok or 10 / x > 1", ["true", "true", "false", "true", "true", zero]);
    check(&folder, "x > 0 and ok and 10 / x > 1", ["true", "false", "false", "false", "", "false"]);
    check(&folder, "x = 0 or 10 / x > 1", ["true", "true", "false", "true", "true", "true"]);
    check(&folder, "case when x <> 0 then 10 / x end", ["2", "", "0", "", "5", ""]);
    check(&folder, "coalesce(nullif(x, 0), 10 / x)", ["5", zero, "20", zero, "2", zero]);
    check(&folder, "n + 1", ["2", range, "-9223372036854775807", "0", "1", "2"]);
    check(&folder, "n - 1", ["0", "9223372036854775806", range, "-2", "-1", "0"]);
    check(&folder, "n * 2", ["2", range, range, "-2", "0", "2"]);
    check(&folder, "i * i", ["1", range, range, "1", "0", "1"]);
    check(&folder, "-n", ["-1", "-9223372036854775807", range, "1", "0", "-1"]);
    check(&folder, "abs(n)", ["1", "9223372036854775807", range, "1", "0", "1"]);
    check(&folder, "9223372036854775807 + 1", [range; 6]);
    check(&folder, "x > 0 and 9223372036854775807 * x > 0", [range, "false", range, "false", range, "false"]);
}
