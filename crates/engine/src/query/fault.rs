//! Errors of queries, in words that never hold a cell.
//!
//! What fails while a query is planned speaks of its text, which its writer knows. What fails while
//! it runs may speak of rows that a filter should have hidden (an optimiser moves a cast before the
//! filter), so of those errors only the sort is told.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use asof_model::nearest;

use crate::Error;
use crate::integers::{self, RunsOver};

/// An error of planning.
pub(super) fn planning(error: DataFusionError, tables: &[String]) -> Error {
    if let Some(ours) = Error::within(&error) {
        return ours.clone();
    }
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => memory(),
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let names: Vec<&str> = valid_fields.iter().map(|it| it.name.as_str()).collect();
                let near = nearest(&field.name, names.iter().copied());
                let hint = near.map_or_else(
                    || format!("the columns are {}", shown(&names)),
                    |near| format!("did you mean `{near}`?"),
                );
                Error::NotFound { what: "column", name: field.flat_name(), hint: Some(hint) }
            }
            other => Error::invalid("sql_plan", sentence(&other.to_string())),
        },
        DataFusionError::Plan(text) => {
            match text.strip_prefix("table '").and_then(|it| it.split_once('\'')) {
                Some((table, " not found")) => {
                    let table = table.strip_prefix("asof.").unwrap_or(table);
                    let own = table.rsplit('.').next().unwrap_or(table);
                    let near = nearest(table, tables.iter().map(String::as_str))
                        .or_else(|| nearest(own, tables.iter().map(String::as_str)));
                    let hint = near.map_or_else(
                        || "`show tables` lists what can be read".to_owned(),
                        |near| format!("did you mean `{near}`?"),
                    );
                    Error::NotFound { what: "table", name: table.to_owned(), hint: Some(hint) }
                }
                _ => Error::invalid("sql_plan", sentence(text)),
            }
        }
        DataFusionError::NotImplemented(text) => {
            Error::invalid("sql_not_supported", format!("this SQL is not supported: {}", sentence(text)))
        }
        DataFusionError::Internal(_) => Error::internal("the query cannot be planned"),
        other => Error::invalid("sql_plan", sentence(&other.message())),
    }
}

/// An error of running.
pub(super) fn running(error: DataFusionError) -> Error {
    on_row(error, "the query")
}

/// An error of running a query, in words that never hold a cell. `what` fails, e.g. `the query`.
pub(crate) fn on_row(error: DataFusionError, what: &str) -> Error {
    if let Some(ours) = Error::within(&error) {
        return ours.clone();
    }
    let failed = |reason: &str, hint: &str| {
        Error::invalid("sql_failed", format!("{what} fails on a row: {reason}")).with_hint(hint)
    };
    let cast = |text: &str| {
        let to = text.rsplit(" to value of ").next().and_then(|rest| rest.strip_suffix(" type"));
        let to = to.filter(|it| {
            it.len() < 40 && it.chars().all(|c| c.is_ascii_alphanumeric() || "(), ".contains(c))
        });
        let reason = to.map_or_else(
            || "a value cannot be cast".to_owned(),
            |to| format!("a value cannot be cast to {to}"),
        );
        failed(&reason, "use `try_cast`, which gives null instead")
    };
    let runs_over = |reason: &str| {
        Error::invalid("integer_overflow", format!("{what} fails on a row: {reason}")).with_hint(
            "cast to a wider type first, e.g. `cast(x as decimal(38, 0))`, or `cast(x as double)` where it need \
             not be exact",
        )
    };
    match error.find_root() {
        DataFusionError::External(root) if root.is::<RunsOver>() => runs_over(&root.to_string()),
        DataFusionError::ResourcesExhausted(_) => memory(),
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::ComputeError(text) if integers::is_of_abs(text) => {
                runs_over("the answer of `abs` is out of range")
            }
            ArrowError::DivideByZero => failed("division by zero", "guard it: `x / nullif(y, 0)`"),
            ArrowError::ArithmeticOverflow(_) => {
                failed("a number is out of range", "cast to a wider type first")
            }
            ArrowError::CastError(text) => cast(text),
            ArrowError::ParseError(_) => cast(""),
            ArrowError::MemoryError(_) => memory(),
            _ => failed("a value cannot be computed", "look at the functions it calls"),
        },
        DataFusionError::ExecutionJoin(_) => Error::internal("the query ended by a defect"),
        _ => failed("a value cannot be computed", "look at the functions it calls"),
    }
}

fn memory() -> Error {
    Error::Exhausted {
        what: "the memory of a query".to_owned(),
        limit: "what one query may take".to_owned(),
        hint: Some("filter or aggregate earlier, or ask for fewer columns".to_owned()),
    }
}

/// The first line, without the prefixes that say which part of the planner speaks.
fn sentence(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = ["Error during planning: ", "Schema error: ", "SQL error: "]
        .iter()
        .fold(line, |line, prefix| line.trim_start_matches(prefix));
    line.replace("asof.", "").trim().to_owned()
}

fn shown(names: &[&str]) -> String {
    let mut text = names.iter().take(12).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > 12 {
        text.push_str(", ...");
    }
    text
}
