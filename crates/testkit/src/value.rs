//! What window features answer, in a form that compares to the bit.

use std::cmp::Ordering;

/// A float in the one form that answers have: -0 is +0, every NaN the canonical one. Ordered by value, NaN last.
#[derive(Debug, Clone, Copy)]
pub struct Float(f64);

impl Float {
    /// In its one form.
    pub fn new(float: f64) -> Float {
        Float(if float.is_nan() { f64::NAN } else { float + 0.0 })
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Float) -> Ordering {
        // Either both compare, or one of them is NaN, which comes last.
        self.0.partial_cmp(&other.0).unwrap_or_else(|| self.0.is_nan().cmp(&other.0.is_nan()))
    }
}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Float) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Float) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Float {}

/// A value, of a row or of an answer. Equal ones have equal bits; those of one type are in value order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// No value.
    Null,
    /// A whole number.
    Int(i64),
    /// A float.
    Float(Float),
    /// A text.
    Text(String),
    /// Of `first_n`, `last_n`, `collect_list`.
    List(Vec<Value>),
    /// Of `histogram`: values, each with how often it counted.
    Counts(Vec<(Value, i64)>),
}

impl Value {
    /// Of a float, in its one form.
    pub fn float(float: f64) -> Value {
        Value::Float(Float::new(float))
    }
}
