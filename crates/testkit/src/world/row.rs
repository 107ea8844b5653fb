//! Rows, the latest views read of them, and the rows of a spine.

use crate::Float;

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
    /// Names the event within the source; a row without one is an event of its own.
    pub id: Option<i64>,
    /// Its v is the moment of its acceptance, not one that a column says.
    pub pushed: bool,
    /// The `available_at` cell of a pushed row, which decides nothing.
    pub told: Option<i64>,
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
    /// `default:` of the feature `n`.
    pub default: Option<i64>,
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

impl Row {
    /// Whether it has an event time.
    pub fn has_clock(&self) -> bool {
        self.e != BEFORE_ALL
    }

    /// Its `available_at` cell.
    pub fn seen(&self) -> Option<i64> {
        if self.pushed {
            return self.told;
        }
        Some(self.v).filter(|v| *v != NEVER && *v != BEFORE_ALL)
    }

    /// Whether another row has the same id, op and cells; its v and s may be others.
    pub fn says_the_same(&self, other: &Row) -> bool {
        let cells = |row: &Row| (row.e, row.seen(), row.o, row.delete, row.id, row.shop, row.n, row.until);
        cells(self) == cells(other)
            && (&self.user, self.state) == (&other.user, other.state)
            && self.x.map(Float::new) == other.x.map(Float::new)
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
