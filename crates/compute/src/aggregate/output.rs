//! What answers are collected in.

use arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveBuilder};
use asof_model::DataType;

use super::Outcome;
use crate::arrow_type;

/// Answers and what each of them is.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The values.
    pub values: ArrayRef,
    /// As many outcomes.
    pub outcomes: Vec<Outcome>,
    /// The values are more than an array holds (2 GiB of text, 2 billion items of lists): all are null and an
    /// overflow. Asked for in several parts they have room.
    pub is_too_large: bool,
}

/// Collects answers into an array.
pub(crate) trait Output: Sized {
    /// Of a type, with room for so many.
    fn new(data_type: &DataType, capacity: usize) -> Self;
    /// The array; none where it would be larger than one can be.
    fn finish(self) -> Option<ArrayRef>;
}

impl<T: ArrowPrimitiveType> Output for PrimitiveBuilder<T> {
    fn new(data_type: &DataType, capacity: usize) -> Self {
        PrimitiveBuilder::with_capacity(capacity).with_data_type(arrow_type(data_type))
    }

    fn finish(mut self) -> Option<ArrayRef> {
        Some(std::sync::Arc::new(PrimitiveBuilder::finish(&mut self)))
    }
}
