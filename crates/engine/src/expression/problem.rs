//! What is wrong with an expression, and where in its text.

use asof_compute::from_arrow_type;
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Spanned, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::ops::ControlFlow;

use asof_model::nearest;

use crate::growth::Bounds;

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A stable identifier, e.g. `column_not_found`.
    pub code: &'static str,
    /// What is wrong; the text around it says which expression.
    pub message: String,
    /// The nearest valid value, or what to do.
    pub hint: Option<String>,
    /// The first byte of the text it concerns.
    pub start: usize,
    /// How many bytes; at least 1 unless the text is empty.
    pub length: usize,
}

impl Problem {
    pub(super) fn at(start: usize, length: usize, code: &'static str, message: impl Into<String>) -> Problem {
        Problem { code, message: message.into(), hint: None, start, length }
    }

    pub(super) fn whole(text: &str, code: &'static str, message: impl Into<String>) -> Problem {
        Problem::at(0, text.len(), code, message)
    }

    pub(super) fn spanning(
        text: &str,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
    ) -> Problem {
        if span.start.line == 0 {
            return Problem::whole(text, code, message);
        }
        let start = place(text, span.start.line, span.start.column);
        let end = place(text, span.end.line, span.end.column);
        Problem::at(start, end.saturating_sub(start).max(1), code, message)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn hint_nearest<'a>(
        self,
        name: &str,
        all: impl Iterator<Item = &'a str> + Clone,
        what: &str,
    ) -> Problem {
        let hint = match nearest(name, all.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let mut some: Vec<String> = all.clone().take(8).map(|name| format!("`{name}`")).collect();
                if all.count() > 8 {
                    some.push("...".to_owned());
                }
                format!("the {what} are {}", some.join(", "))
            }
        };
        self.hint(hint)
    }
}

/// The byte of the text at a line and column (both from 1, columns in characters).
pub(super) fn place(text: &str, line: u64, column: u64) -> usize {
    let line = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let column = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    let within = text.get(start..).unwrap_or_default();
    start + within.char_indices().nth(column).map_or(within.len(), |(at, _)| at)
}

/// Finds the smallest part of an expression that cannot be typed, and says so there.
pub(super) fn locate(
    text: &str,
    expression: &SqlExpr,
    (schema, state, bounds): (&DFSchema, &SessionState, Bounds),
    error: &DataFusionError,
) -> Problem {
    struct Finder<'a> {
        schema: &'a DFSchema,
        state: &'a SessionState,
        bounds: Bounds,
    }
    impl Visitor for Finder<'_> {
        type Break = Box<(SqlExpr, DataFusionError)>;
        fn post_visit_expr(&mut self, part: &SqlExpr) -> ControlFlow<Self::Break> {
            match super::plan(part, self.schema, self.state, self.bounds) {
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(Box::new((part.clone(), error))),
            }
        }
    }
    let found = Visit::visit(expression, &mut Finder { schema, state, bounds });
    match found {
        ControlFlow::Break(found) => {
            let (part, error) = *found;
            let problem = Problem::spanning(text, part.span(), "expression_type", super::plain(&error));
            problem.hint(types(&part, schema))
        }
        ControlFlow::Continue(()) => {
            let problem = Problem::whole(text, "expression_type", super::plain(error));
            problem.hint(types(expression, schema))
        }
    }
}

/// The types of the columns in a part that cannot be typed, and how to have another.
fn types(part: &SqlExpr, schema: &DFSchema) -> String {
    struct Names(Vec<String>);
    impl Visitor for Names {
        type Break = ();
        fn pre_visit_expr(&mut self, part: &SqlExpr) -> ControlFlow<()> {
            if let SqlExpr::Identifier(name) = part
                && !self.0.contains(&name.value)
            {
                self.0.push(name.value.clone());
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(Vec::new());
    // It never breaks off.
    let _ = Visit::visit(part, &mut names);
    let typed: Vec<String> = names
        .0
        .iter()
        .filter_map(|name| {
            let found = schema.field_with_unqualified_name(name).ok()?.data_type().clone();
            let shown = from_arrow_type(&found).map_or_else(|| found.to_string(), |kind| kind.to_string());
            Some(format!("`{name}` is {shown}"))
        })
        .collect();
    match typed.as_slice() {
        [] => "`cast(... as bigint)` and the like make another type".to_owned(),
        all => format!("{}; `cast(... as bigint)` and the like make another type", all.join(", ")),
    }
}
