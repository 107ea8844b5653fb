//! Small random worlds: a source's rows, views over it, a spine that asks at every edge.
//!
//! A world holds many cases that share nothing but the views: each case has keys of its own, so one
//! run of a path under test answers all of them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Float64Type;
use asof_compute::{RowDigester, order_keys};
use asof_model::{Column, DataType, Timestamp};

use crate::Random;

/// Before all time.
pub const BEFORE_ALL: i64 = i64::MIN;
/// Never known.
pub const NEVER: i64 = i64::MAX;

/// One row of the source.
#[derive(Debug, Clone)]
pub struct Row {
    /// Event time; [`BEFORE_ALL`] without a clock.
    pub e: i64,
    /// Visible at; [`NEVER`] where `available_at` is null.
    pub v: i64,
    /// The `order_by` column.
    pub o: Option<i64>,
    /// The position; none in place.
    pub s: Option<i64>,
    /// A delete.
    pub delete: bool,
    /// A key.
    pub shop: Option<i64>,
    /// A key.
    pub user: Option<String>,
    /// A value.
    pub x: Option<f64>,
    /// A value.
    pub n: Option<i64>,
    /// What `where` looks at: `ok`, `spam` or null.
    pub state: Option<&'static str>,
    /// `valid_until`.
    pub until: Option<i64>,
    /// The canonical digest of the row.
    pub digest: [u8; 16],
}

/// A key's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyValue {
    /// Of an int64 key.
    Int(i64),
    /// Of a string key.
    Text(String),
}

/// A view in a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The source's columns its keys are read from: `shop`, `user`.
    pub keys: Vec<&'static str>,
    /// The spine's columns it is asked with.
    pub spine_keys: Vec<&'static str>,
    /// `where: state <> 'spam'`.
    pub filter: bool,
    /// In microseconds.
    pub ttl: Option<i64>,
}

/// One spine row.
#[derive(Debug, Clone, PartialEq)]
pub struct SpineRow {
    /// A key.
    pub shop: Option<i64>,
    /// The same key in another role.
    pub other_shop: Option<i64>,
    /// A key.
    pub user: Option<String>,
    /// The time asked.
    pub t: i64,
}

/// Rows, views and a spine, in cases.
#[derive(Debug, Clone)]
pub struct World {
    /// The rows of all cases.
    pub rows: Vec<Row>,
    /// The views asked, all over the one source.
    pub views: Vec<View>,
    /// The spine rows of all cases.
    pub spine: Vec<SpineRow>,
    /// Per case, its rows and its spine rows.
    pub cases: Vec<(Range<usize>, Range<usize>)>,
    /// The source has no event time.
    pub clockless: bool,
    /// The source has no `available_at`.
    pub assumed: bool,
    /// Rows are read in place: none has a position.
    pub in_place: bool,
}

impl Row {
    /// Whether it has an event time.
    pub fn has_clock(&self) -> bool {
        self.e != BEFORE_ALL
    }

    /// Its key in a view.
    pub fn key(&self, view: &View) -> Vec<Option<KeyValue>> {
        let value = |column: &&str| match *column {
            "shop" => self.shop.map(KeyValue::Int),
            _ => self.user.clone().map(KeyValue::Text),
        };
        view.keys.iter().map(value).collect()
    }
}

impl View {
    /// The view's `where`.
    pub fn passes(&self, row: &Row) -> bool {
        !self.filter || row.state.is_some_and(|state| state != "spam")
    }

    /// The key a spine row asks it with.
    pub fn asked(&self, spine: &SpineRow) -> Vec<Option<KeyValue>> {
        let value = |column: &&str| match *column {
            "shop" => spine.shop.map(KeyValue::Int),
            "other_shop" => spine.other_shop.map(KeyValue::Int),
            _ => spine.user.clone().map(KeyValue::Text),
        };
        self.spine_keys.iter().map(value).collect()
    }
}

impl World {
    /// A world of so many cases, some of them with rows that were accepted and have positions.
    pub fn random(random: &mut Random, cases: usize) -> World {
        World::made(random, cases, false)
    }

    /// A world of so many cases whose rows are read in place.
    pub fn random_in_place(random: &mut Random, cases: usize) -> World {
        World::made(random, cases, true)
    }

    fn made(random: &mut Random, cases: usize, in_place: bool) -> World {
        let clockless = random.chance(6);
        let assumed = random.chance(20);
        let ttl = |random: &mut Random| (!random.chance(40)).then(|| random.between(0, 10));
        let by_shop = View {
            keys: vec!["shop"],
            spine_keys: vec!["shop"],
            filter: random.chance(40),
            ttl: ttl(random),
        };
        let in_role = View { spine_keys: vec!["other_shop"], ..by_shop.clone() };
        let by_both = View {
            keys: vec!["shop", "user"],
            spine_keys: vec!["shop", "user"],
            filter: random.chance(40),
            ttl: ttl(random),
        };
        let by_user = View {
            keys: vec!["user"],
            spine_keys: vec!["user"],
            filter: random.chance(40),
            ttl: ttl(random),
        };
        let mut world = World {
            rows: Vec::new(),
            views: vec![by_shop, in_role, by_both, by_user],
            spine: Vec::new(),
            cases: Vec::new(),
            clockless,
            assumed,
            in_place,
        };
        for case in 0..cases {
            let rows = world.random_rows(random, case as i64);
            let spine = world.random_spine(random, case as i64, &rows);
            let (first_row, first_spine) = (world.rows.len(), world.spine.len());
            world.rows.extend(rows);
            world.spine.extend(spine);
            world.cases.push((first_row..world.rows.len(), first_spine..world.spine.len()));
        }
        world.take_digests();
        world
    }

    fn random_rows(&self, random: &mut Random, case: i64) -> Vec<Row> {
        let bases = [0, 0, 0, 0, -20, -200_000, Timestamp::FIRST.0, Timestamp::LAST.0 - 24];
        let base = *random.pick(&bases);
        let stored = random.chance(30) && !self.in_place;
        let ordered = random.chance(40);
        let count = *random.pick(&[0, 1, 2, 3, 4, 5, 6, 8, 10, 14]);
        let mut rows: Vec<Row> = Vec::new();
        for number in 0..count {
            if !rows.is_empty() && !stored && random.chance(10) {
                // Equal in all five.
                rows.push(random.pick(&rows).clone());
                continue;
            }
            let mut e = base + random.between(0, 24);
            if !rows.is_empty() && random.chance(35) {
                e = random.pick(&rows).e;
            }
            let v = if self.assumed {
                e
            } else if random.chance(6) {
                NEVER
            } else {
                within(e + *random.pick(&[0, 0, 0, 1, 2, 5, 12, -3]))
            };
            let delete = random.chance(18);
            rows.push(Row {
                e,
                v,
                o: if ordered && !random.chance(25) {
                    Some(*random.pick(&[0, 0, 1, 1, i64::MIN]))
                } else {
                    None
                },
                s: stored.then_some(case * 100 + number),
                delete,
                shop: random
                    .pick(&[Some(1), Some(1), Some(1), Some(2), None])
                    .map(|key: i64| key + case * 10),
                user: random
                    .pick(&[Some("a"), Some("b"), Some("b"), Some(""), None])
                    .map(|key| format!("{case}{key}")),
                x: *random.pick(&[None, Some(0.0), Some(-0.0), Some(f64::NAN), Some(1.5), Some(-2.0)]),
                n: if random.chance(20) { None } else { Some(random.between(-3, 5)) },
                state: *random.pick(&[None, Some("ok"), Some("ok"), Some("ok"), Some("spam")]),
                until: (!random.chance(60)).then(|| within(e + random.between(-2, 10))),
                digest: [0; 16],
            });
        }
        if self.clockless {
            // One row a key of every view; their v, where it is not e, stays.
            let mut kept: Vec<Row> = Vec::new();
            for mut row in rows {
                let known = |other: &Row| other.shop == row.shop || other.user == row.user;
                if kept.iter().any(known) {
                    continue;
                }
                if self.assumed {
                    row.v = BEFORE_ALL;
                }
                row.e = BEFORE_ALL;
                kept.push(row);
            }
            rows = kept;
        }
        rows
    }

    fn random_spine(&self, random: &mut Random, case: i64, rows: &[Row]) -> Vec<SpineRow> {
        // Every time at which something may change, and the instants around it.
        let mut edges = vec![0, 7, -1];
        for row in rows {
            let mut around = |time: i64| edges.extend([time - 1, time, time + 1]);
            for time in [Some(row.e), Some(row.v), row.until].into_iter().flatten() {
                if time != BEFORE_ALL && time != NEVER {
                    around(time);
                }
            }
            for ttl in self.views.iter().filter_map(|view| view.ttl).filter(|_| row.has_clock()) {
                around(row.e + ttl);
            }
        }
        let mut spine: Vec<SpineRow> = Vec::new();
        for _ in 0..random.between(1, 8) {
            if !spine.is_empty() && random.chance(10) {
                spine.push(random.pick(&spine).clone());
                continue;
            }
            let t = (*random.pick(&edges)).clamp(Timestamp::FIRST.0, Timestamp::LAST.0);
            let mut shop =
                || random.pick(&[Some(1), Some(1), Some(2), Some(3), None]).map(|key: i64| key + case * 10);
            let (shop, other_shop) = (shop(), shop());
            let user = random.pick(&[Some("a"), Some("b"), Some("b"), Some(""), Some("z"), None]);
            spine.push(SpineRow { shop, other_shop, user: user.map(|key| format!("{case}{key}")), t });
        }
        spine
    }

    /// The source's own columns, as its definition would have them.
    pub fn columns() -> Vec<Column> {
        let column = |name: &str, data_type| Column { name: name.to_owned(), data_type };
        vec![
            column("at", DataType::Timestamp),
            column("seen", DataType::Timestamp),
            column("rank", DataType::Int64),
            column("gone", DataType::Bool),
            column("shop", DataType::Int64),
            column("user", DataType::String),
            column("x", DataType::Float64),
            column("n", DataType::Int64),
            column("state", DataType::String),
            column("ends", DataType::Timestamp),
        ]
    }

    /// The rows as a file of the source has them.
    pub fn table(rows: &[Row]) -> RecordBatch {
        let time = |of: &dyn Fn(&Row) -> Option<i64>| -> ArrayRef {
            let times = rows.iter().map(|row| of(row).filter(|t| *t != BEFORE_ALL && *t != NEVER));
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        };
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("at", time(&|row| Some(row.e))),
            ("seen", time(&|row| Some(row.v))),
            ("rank", Arc::new(rows.iter().map(|row| row.o).collect::<Int64Array>())),
            ("gone", Arc::new(rows.iter().map(|row| Some(row.delete)).collect::<BooleanArray>())),
            ("shop", Arc::new(rows.iter().map(|row| row.shop).collect::<Int64Array>())),
            ("user", Arc::new(rows.iter().map(|row| row.user.as_deref()).collect::<StringArray>())),
            ("x", Arc::new(rows.iter().map(|row| row.x).collect::<Float64Array>())),
            ("n", Arc::new(rows.iter().map(|row| row.n).collect::<Int64Array>())),
            ("state", Arc::new(rows.iter().map(|row| row.state).collect::<StringArray>())),
            ("ends", time(&|row| row.until)),
        ];
        nullable(columns)
    }

    /// The rows as a scan gives them: the fixed columns, then the source's own.
    pub fn scanned(&self, rows: &[Row]) -> RecordBatch {
        let time = |of: &dyn Fn(&Row) -> Option<i64>| -> ArrayRef {
            let times = rows.iter().map(of);
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        };
        let given = |time: i64| (time != NEVER && time != BEFORE_ALL).then_some(time);
        let order_by: ArrayRef = Arc::new(rows.iter().map(|row| row.o).collect::<Int64Array>());
        let order_by = match order_keys(&order_by) {
            Ok(keys) => keys,
            Err(_) => BinaryArray::from_iter_values(rows.iter().map(|_| b"")),
        };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("__e", time(&|row| given(row.e))),
            ("__v", time(&|row| given(row.v))),
            ("__o", Arc::new(order_by)),
            ("__s", Arc::new(rows.iter().map(|row| row.s).collect::<Int64Array>())),
            ("__op", Arc::new(rows.iter().map(|row| Some(row.delete)).collect::<BooleanArray>())),
            ("__until", time(&|row| row.until)),
        ];
        let table = World::table(rows);
        let schema = table.schema();
        for (field, column) in schema.fields().iter().zip(table.columns()) {
            let column: ArrayRef = match column.as_primitive_opt::<Float64Type>() {
                // Whatever the file has, a scan gives floats in one form.
                Some(floats) => {
                    let form = |x: f64| if x.is_nan() { f64::NAN } else { x + 0.0 };
                    Arc::new(floats.unary::<_, Float64Type>(form))
                }
                None => Arc::clone(column),
            };
            columns.push((field.name(), column));
        }
        nullable(columns)
    }

    /// Takes the digests of all rows again, after some were changed.
    pub fn take_digests(&mut self) {
        let digester = RowDigester::new(&World::columns());
        if let Ok(digests) = digester.digest(&World::table(&self.rows)) {
            for (row, digest) in self.rows.iter_mut().zip(digests) {
                row.digest = digest.0;
            }
        }
    }

    /// The spine as a file has it: `shop`, `other_shop`, `user`, `t`.
    pub fn spine_table(&self) -> RecordBatch {
        let times: TimestampMicrosecondArray = self.spine.iter().map(|row| Some(row.t)).collect();
        nullable(vec![
            ("shop", Arc::new(self.spine.iter().map(|row| row.shop).collect::<Int64Array>())),
            ("other_shop", Arc::new(self.spine.iter().map(|row| row.other_shop).collect::<Int64Array>())),
            ("user", Arc::new(self.spine.iter().map(|row| row.user.as_deref()).collect::<StringArray>())),
            ("t", Arc::new(times.with_timezone("UTC"))),
        ])
    }
}

/// The nearest instant a row may carry.
fn within(time: i64) -> i64 {
    time.clamp(Timestamp::FIRST.0, Timestamp::LAST.0)
}

/// A batch whose columns may all be null.
fn nullable(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    match RecordBatch::try_from_iter_with_nullable(columns) {
        Ok(batch) => batch,
        Err(_) => RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
    }
}
