//! Rows of a window view as they are stored, read back for its plan.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::DataType as ArrowType;
use asof_model::{DataType, Feature, Timestamp};

use crate::aggregate::{Constant, FunctionCall, aggregate};
use crate::window_plan::{PlanRows, PlannedCall, WindowPlan};
use crate::{ColumnBuilder, ComputeError, RowError, RowLayout, RowOrder, arrow_type, literal_array};

/// The columns that are stored of a row for features over windows: the distinct arguments, then the distinct
/// filters, each once by its text, in the order they are first used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowColumns {
    /// Texts of expressions over a row.
    pub arguments: Vec<String>,
    /// Texts of conditions over a row; stored as whether they are true.
    pub filters: Vec<String>,
    /// For each feature its argument and its filter.
    pub used: Vec<(Option<usize>, Option<usize>)>,
}

impl WindowColumns {
    /// Of these features.
    pub fn of<'a>(features: impl IntoIterator<Item = &'a Feature>) -> WindowColumns {
        fn place(list: &mut Vec<String>, text: &str) -> usize {
            list.iter().position(|other| other == text).unwrap_or_else(|| {
                list.push(text.to_owned());
                list.len() - 1
            })
        }
        let mut found = WindowColumns { arguments: Vec::new(), filters: Vec::new(), used: Vec::new() };
        for feature in features {
            let call = feature.aggregate.as_ref().map(|aggregate| &aggregate.call);
            let argument = call.and_then(|call| call.argument.as_ref());
            let filter = call.and_then(|call| call.filter.as_ref());
            let used = (
                argument.map(|it| place(&mut found.arguments, &it.text)),
                filter.map(|it| place(&mut found.filters, &it.text)),
            );
            found.used.push(used);
        }
        found
    }
}

/// How the rows of a window view are stored, and what is kept of them.
#[derive(Debug, Clone)]
pub struct StoredWindows {
    plan: Arc<WindowPlan>,
    layout: RowLayout,
    arguments: usize,
}

impl StoredWindows {
    /// Of these features, all over one window each, with their types; `arguments` are the types of
    /// [`WindowColumns::arguments`].
    ///
    /// # Errors
    /// [`ComputeError`] where a feature is no aggregate over a window, or one of other types.
    pub fn new<'a>(
        features: impl IntoIterator<Item = (&'a Feature, &'a DataType)>,
        arguments: &[DataType],
    ) -> Result<StoredWindows, ComputeError> {
        let features: Vec<(&Feature, &DataType)> = features.into_iter().collect();
        let columns = WindowColumns::of(features.iter().map(|(feature, _)| *feature));
        let damaged = |reason: String| ComputeError::Damaged { what: "window view", reason };
        if columns.arguments.len() != arguments.len() {
            let (found, expected) = (arguments.len(), columns.arguments.len());
            return Err(damaged(format!("{found} types for {expected} arguments")));
        }
        let mut calls = Vec::with_capacity(features.len());
        for ((feature, data_type), (argument, filter)) in features.iter().zip(&columns.used) {
            let lacks = || damaged(format!("feature `{}` is no aggregate over a window", feature.name));
            let over = feature.aggregate.as_ref().ok_or_else(lacks)?;
            let window = over.windows.first().ok_or_else(lacks)?.window;
            let member = aggregate(&over.call.function).ok_or_else(lacks)?;
            let asked = FunctionCall {
                argument: argument.and_then(|at| arguments.get(at)).cloned(),
                constants: over.call.parameters.iter().map(Constant::from).collect(),
            };
            let wrong = |error: crate::CallError| damaged(format!("feature `{}`: {error}", feature.name));
            let function = member.function(&asked).map_err(wrong)?;
            let default = feature.default.as_ref().map(|it| literal_array(it, data_type)).transpose()?;
            calls.push(PlannedCall { function, argument: *argument, filter: *filter, window, default });
        }
        let mut types: Vec<ArrowType> = arguments.iter().map(arrow_type).collect();
        types.extend(columns.filters.iter().map(|_| ArrowType::Boolean));
        let layout = RowLayout::new(&types).map_err(|error| damaged(error.to_string()))?;
        Ok(StoredWindows { plan: Arc::new(WindowPlan::new(calls)), layout, arguments: arguments.len() })
    }

    /// What is kept of rows.
    pub fn plan(&self) -> &Arc<WindowPlan> {
        &self.plan
    }

    /// The layout of a row: its arguments, then its filters.
    pub fn layout(&self) -> &RowLayout {
        &self.layout
    }

    /// No rows yet, to be read back.
    ///
    /// # Errors
    /// [`ComputeError`] where the layout has no builders.
    pub fn rows(&self) -> Result<StoredRows<'_>, ComputeError> {
        let builders = (0..self.layout.types().len()).map(|column| self.layout.builder(column, 64));
        let builders = builders.collect::<Result<Vec<_>, _>>().map_err(|error| damaged(&error))?;
        let needs_order = self.plan.needs_order();
        Ok(StoredRows { of: self, builders, event_times: Vec::new(), orders: Vec::new(), needs_order })
    }
}

fn damaged(error: &RowError) -> ComputeError {
    ComputeError::Damaged { what: "stored row", reason: error.to_string() }
}

/// Stored rows on their way into a [`PlanRows`].
#[derive(Debug)]
pub struct StoredRows<'a> {
    of: &'a StoredWindows,
    builders: Vec<ColumnBuilder>,
    event_times: Vec<i64>,
    orders: Vec<RowOrder>,
    needs_order: bool,
}

impl StoredRows<'_> {
    /// How many rows so far.
    pub fn len(&self) -> usize {
        self.event_times.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.event_times.is_empty()
    }

    /// Takes in a row, and gives its number; `order` is asked where anything is asked in the order of rows.
    ///
    /// # Errors
    /// [`ComputeError::Damaged`] where the values are not of the layout.
    pub fn push(
        &mut self,
        event_time: Timestamp,
        values: &[u8],
        order: impl FnOnce() -> RowOrder,
    ) -> Result<u32, ComputeError> {
        let layout = &self.of.layout;
        for (column, builder) in self.builders.iter_mut().enumerate() {
            let append = |builder| layout.append(column, layout.bytes(values, column)?, builder);
            append(builder).map_err(|error| damaged(&error))?;
        }
        if self.needs_order {
            self.orders.push(order());
        }
        self.event_times.push(event_time.0);
        Ok(self.event_times.len() as u32 - 1)
    }

    /// The rows as the plan reads them.
    ///
    /// # Errors
    /// [`ComputeError::Damaged`] where text is not UTF-8.
    pub fn finish(self) -> Result<PlanRows, ComputeError> {
        let mut columns = Vec::with_capacity(self.builders.len());
        for builder in self.builders {
            columns.push(builder.finish().map_err(|error| damaged(&error))?);
        }
        let filters = columns.split_off(self.of.arguments.min(columns.len()));
        let filters = filters.iter().map(|it: &ArrayRef| it.as_boolean().clone()).collect();
        Ok(PlanRows {
            arguments: columns,
            filters,
            event_times: self.event_times.into(),
            orders: self.orders.into(),
        })
    }
}
