//! Parsing an expression: its names resolved, what a definition may not hold refused.

use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use datafusion::logical_expr::Volatility;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, Query, Spanned, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, Tokenizer};

use super::Problem;
use super::problem::place;
use asof_model::nearest;

/// A larger expression is refused before anything recurses into it.
const MOST_TOKENS: usize = 4_000;
/// How deep parentheses and calls may nest.
const DEEPEST: usize = 50;

/// What the names in an expression are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Columns of a source; behind a point a field of a struct.
    OfColumns,
    /// Features, with the points in their names, and what a request brings.
    OfFeatures,
}

/// The expression, every column name written exactly as the column has it.
pub(super) fn read(text: &str, names: &[&str], of: Names, state: &SessionState) -> Result<SqlExpr, Problem> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|e| {
        let at = place(text, e.location.line, e.location.column);
        Problem::at(at, 1, "expression_syntax", e.message)
    })?;
    let meant = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if meant > MOST_TOKENS {
        let problem = Problem::whole(text, "expression_too_large", format!("has {meant} words and signs"));
        return Err(problem.hint(format!("at most {MOST_TOKENS} are allowed; split it")));
    }
    let mut parser = Parser::new(&dialect).with_recursion_limit(DEEPEST).with_tokens_with_locations(tokens);
    let wrong = |parser: &Parser<'_>, message: String| {
        let token = parser.peek_token();
        let at = match token.token {
            Token::EOF => text.len().saturating_sub(1),
            _ => place(text, token.span.start.line, token.span.start.column),
        };
        Problem::at(at, 1, "expression_syntax", message)
    };
    let mut expression = parser.parse_expr().map_err(|e| {
        let message = e.to_string();
        let message = message.trim_start_matches("sql parser error: ");
        let message = message.split(" at Line:").next().unwrap_or_default().to_owned();
        wrong(&parser, message)
    })?;
    if parser.peek_token().token != Token::EOF {
        let found = parser.peek_token();
        return Err(wrong(&parser, format!("does not end before `{found}`")));
    }
    let mut checker = Checker { text, names, of, state, functions: Vec::new() };
    match VisitMut::visit(&mut expression, &mut checker) {
        ControlFlow::Break(problem) => Err(*problem),
        ControlFlow::Continue(()) => Ok(expression),
    }
}

struct Checker<'a> {
    text: &'a str,
    names: &'a [&'a str],
    of: Names,
    state: &'a SessionState,
    functions: Vec<&'a str>,
}

impl Checker<'_> {
    fn problem(&self, span: Span, code: &'static str, message: impl Into<String>) -> Box<Problem> {
        Box::new(Problem::spanning(self.text, span, code, message))
    }

    fn resolve(&self, ident: &mut Ident) -> Result<(), Box<Problem>> {
        let exact = self.names.contains(&ident.value.as_str());
        if !exact {
            let mut alike = self.names.iter().filter(|name| name.eq_ignore_ascii_case(&ident.value));
            match (ident.quote_style, alike.next(), alike.next()) {
                (None, Some(one), None) => ident.value = (*one).to_owned(),
                _ => {
                    let problem = self.problem(
                        ident.span,
                        "column_not_found",
                        format!("column `{}` not found", ident.value),
                    );
                    return Err(Box::new(problem.hint_nearest(
                        &ident.value,
                        self.names.iter().copied(),
                        "columns",
                    )));
                }
            }
        }
        ident.quote_style = Some('"');
        Ok(())
    }

    fn function(&mut self, name: &str, span: Span) -> Result<(), Box<Problem>> {
        let name = name.to_ascii_lowercase();
        if let Some(function) = self.state.scalar_functions().get(&name) {
            if function.signature().volatility == Volatility::Immutable {
                return Ok(());
            }
            let problem = self.problem(
                span,
                "function_not_deterministic",
                format!("function `{name}` gives another answer each time it runs"),
            );
            let hint = match name.as_str() {
                "random" | "rand" | "uuid" => {
                    "a feature is the same in training and serving: take it from a column"
                }
                _ if self.of == Names::OfFeatures => "use `request_time`, the time asked",
                _ => "use the row's own `event_time`, or a column",
            };
            return Err(Box::new(problem.hint(hint)));
        }
        if self.state.aggregate_functions().contains_key(&name) {
            let problem = self.problem(
                span,
                "aggregate_in_expression",
                format!("function `{name}` is an aggregate, and an expression reads one row"),
            );
            return Err(Box::new(problem.hint("use a source with `sql` for it")));
        }
        if self.state.window_functions().contains_key(&name) {
            let problem = self.problem(
                span,
                "window_in_expression",
                format!("function `{name}` is a window function, and an expression reads one row"),
            );
            return Err(Box::new(problem.hint("use a source with `sql` for it")));
        }
        if self.functions.is_empty() {
            self.functions = self.state.scalar_functions().keys().map(String::as_str).collect();
            self.functions.sort_unstable();
        }
        let problem = self.problem(span, "function_not_found", format!("function `{name}` not found"));
        let near = nearest(&name, self.functions.iter().copied()).map(str::to_owned);
        Err(Box::new(match near {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint("the functions are DataFusion's scalar functions"),
        }))
    }
}

impl VisitorMut for Checker<'_> {
    type Break = Box<Problem>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let problem = self.problem(
            query.span(),
            "subquery_in_expression",
            "holds a subquery, and an expression reads one row",
        );
        ControlFlow::Break(Box::new(problem.hint("use a source with `sql` for it")))
    }

    fn pre_visit_expr(&mut self, expression: &mut SqlExpr) -> ControlFlow<Self::Break> {
        let checked = match expression {
            SqlExpr::Identifier(ident) => self.resolve(ident),
            SqlExpr::CompoundIdentifier(parts) if self.of == Names::OfFeatures => {
                let whole: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
                let span = Span::union_iter(parts.iter().map(|part| part.span));
                let mut name = Ident::with_span(span, whole.join("."));
                let resolved = self.resolve(&mut name);
                *expression = SqlExpr::Identifier(name);
                resolved
            }
            SqlExpr::CompoundIdentifier(parts) => match parts.first_mut() {
                Some(first) => self.resolve(first),
                None => Ok(()),
            },
            SqlExpr::Function(function) => {
                let span = function.name.span();
                if function.over.is_some() {
                    let problem = self.problem(
                        span,
                        "window_in_expression",
                        "holds `over`, and an expression reads one row",
                    );
                    Err(Box::new(problem.hint("use a source with `sql` for it")))
                } else {
                    let name = function.name.to_string();
                    self.function(&name, span)
                }
            }
            SqlExpr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
                let problem = self.problem(value.span, "expression_syntax", "holds a placeholder");
                Err(Box::new(problem.hint("write the value itself")))
            }
            _ => Ok(()),
        };
        match checked {
            Ok(()) => ControlFlow::Continue(()),
            Err(problem) => ControlFlow::Break(problem),
        }
    }
}
