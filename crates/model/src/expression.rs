//! SQL expressions as users write them: parsed for names, shape and carets; never evaluated here.
//!
//! A column is named as the data has it: letters keep their case, and double quotes are needed only
//! where a name is not a plain word. Function names may be written in any case.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use sqlparser::ast::{
    CastKind, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Query, SetExpr, Spanned, Statement, Visit, VisitMut, Visitor, VisitorMut,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::{Explain, Kind};

/// A SQL expression over the columns of one row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression {
    /// The text as written.
    pub text: String,
}

/// Why a text is no expression, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// A stable identifier, e.g. `expression_syntax`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The byte in the text where it is wrong.
    pub offset: usize,
    /// How many bytes are wrong; 0 at the end of the text.
    pub length: usize,
    /// The way out.
    pub hint: Option<String>,
}

impl Explain for ExpressionError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
    fn code(&self) -> &'static str {
        self.code
    }
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// A longer text is refused: the tree of a chain of operators grows with it.
const MOST_TOKENS: usize = 4_000;
/// A deeper tree is refused, so that walking one never runs out of stack.
const DEEPEST: usize = 128;

/// Functions whose value is not decided by the row.
const NOT_OF_THE_ROW: [&str; 9] = [
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "today",
    "localtimestamp",
    "localtime",
    "random",
    "uuid",
];

/// Functions over many rows.
const OVER_MANY_ROWS: [&str; 28] = [
    "count",
    "sum",
    "avg",
    "mean",
    "min",
    "max",
    "stddev",
    "stddev_samp",
    "stddev_pop",
    "var",
    "variance",
    "var_samp",
    "var_pop",
    "median",
    "array_agg",
    "string_agg",
    "first_value",
    "last_value",
    "nth_value",
    "row_number",
    "rank",
    "dense_rank",
    "lag",
    "lead",
    "count_distinct",
    "approx_distinct",
    "bool_and",
    "bool_or",
];

impl Expression {
    /// Checks a text: one expression over one row, without subqueries, aggregates or functions whose
    /// value depends on when they are asked.
    ///
    /// # Errors
    /// [`ExpressionError`] with the place in the text.
    pub fn parse(text: impl Into<String>) -> Result<Expression, ExpressionError> {
        let text = text.into();
        let mut tree = parse_tree(&text)?;
        let mut shape = Shape { text: &text, depth: 0, wrong: None };
        let _ = tree.visit(&mut shape);
        if let Some(wrong) = shape.wrong {
            return Err(wrong);
        }
        // Some texts are read and yet written so that they read otherwise, `a. 0` among them.
        let _ = VisitMut::visit(&mut tree, &mut Normalise);
        if parse_tree(&tree.to_string()).is_err() {
            return Err(ExpressionError {
                code: "expression_syntax",
                message: "this has no one reading".to_owned(),
                offset: 0,
                length: text.len().max(1),
                hint: Some(
                    "put double quotes around names with other signs than letters, digits and `_`".to_owned(),
                ),
            });
        }
        Ok(Expression { text })
    }

    /// The column of this name, quoted where it needs to be.
    pub fn column(name: &str) -> Expression {
        Expression { text: quote_identifier(name) }
    }

    /// The text in one spelling: two texts that differ in spacing, comments, the case of keywords and
    /// functions or needless quotes have one canonical text. A text that does not parse is its own.
    pub fn canonical(&self) -> String {
        let Ok(mut tree) = parse_tree(&self.text) else { return self.text.clone() };
        while let Expr::Nested(inside) = tree {
            tree = *inside;
        }
        let _ = VisitMut::visit(&mut tree, &mut Normalise);
        tree.to_string()
    }

    /// The columns it names, each once, in alphabetical order. Of `a.b` it is `a`.
    pub fn columns(&self) -> BTreeSet<String> {
        self.column_places().into_iter().map(|(name, ..)| name).collect()
    }

    /// Every mention of a column with its place: name, byte offset and length in the text.
    pub fn column_places(&self) -> Vec<(String, usize, usize)> {
        let Ok(tree) = parse_tree(&self.text) else { return Vec::new() };
        let mut found = Columns { text: &self.text, found: Vec::new() };
        let _ = tree.visit(&mut found);
        found.found
    }

    /// Every name it mentions with its place: the parts between the points, byte offset and length. What a derived
    /// feature reads.
    pub fn names(&self) -> Vec<(Vec<String>, usize, usize)> {
        let Ok(tree) = parse_tree(&self.text) else { return Vec::new() };
        let mut found = Names { text: &self.text, found: Vec::new() };
        let _ = tree.visit(&mut found);
        found.found
    }

    /// The column, where the whole expression is the name of one.
    pub fn as_column(&self) -> Option<String> {
        match parse_tree(&self.text) {
            Ok(Expr::Identifier(column)) => Some(column.value),
            _ => None,
        }
    }
}

impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The tables a query names and how it names them: name parts, byte offset and length.
pub(crate) type Tables = Vec<(Vec<String>, usize, usize)>;

/// Checks the text of a source's query: one read-only `SELECT`. Returns the tables it reads that it
/// does not define itself.
pub(crate) fn parse_query(text: &str) -> Result<Tables, ExpressionError> {
    let mut parser = parser_of(text)?;
    let statement = parser.parse_statement().map_err(|error| syntax(text, &error, "a query"))?;
    let next = parser.next_token();
    let next = if next.token == Token::SemiColon { parser.next_token() } else { next };
    if next.token != Token::EOF {
        return Err(trailing(text, &next.token, next.span.start, "the end of the query"));
    }
    let Statement::Query(query) = &statement else {
        return Err(ExpressionError {
            code: "query_not_select",
            message: "a source's `sql` reads: it is one SELECT".to_owned(),
            offset: 0,
            length: text.split_whitespace().next().map_or(0, str::len),
            hint: None,
        });
    };
    let mut reads = Relations { text, own: Vec::new(), found: Vec::new(), depth: 0, wrong: None };
    let _ = query.visit(&mut reads);
    if let Some(wrong) = reads.wrong {
        return Err(wrong);
    }
    let Relations { own, found, .. } = reads;
    Ok(found.into_iter().filter(|(parts, ..)| parts.len() > 1 || !own.contains(&parts[0])).collect())
}

/// The query in one spelling, as [`Expression::canonical`].
pub(crate) fn canonical_query(text: &str) -> String {
    let statement = parser_of(text)
        .and_then(|mut parser| parser.parse_statement().map_err(|error| syntax(text, &error, "a query")));
    let Ok(mut statement) = statement else { return text.to_owned() };
    let _ = VisitMut::visit(&mut statement, &mut Normalise);
    statement.to_string()
}

/// A name as it stands in SQL: quoted where it is not a plain word.
pub(crate) fn quote_identifier(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Whether a name needs no quotes: a plain word that, alone, parses as a column.
fn is_plain(name: &str) -> bool {
    let word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    word && Parser::new(&GenericDialect {})
        .try_with_sql(&format!("{name} + {name}"))
        .and_then(|mut parser| {
            let tree = parser.parse_expr()?;
            parser.expect_token(&Token::EOF)?;
            Ok(tree)
        })
        .is_ok_and(|tree| match tree {
            Expr::BinaryOp { left, right, .. } => {
                matches!((*left, *right), (Expr::Identifier(a), Expr::Identifier(b)) if a.value == name && b.value == name)
            }
            _ => false,
        })
}

fn parser_of(text: &str) -> Result<Parser<'static>, ExpressionError> {
    let dialect: &'static GenericDialect = &GenericDialect {};
    let tokens = all_tokens_of(text)?;
    let words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if words > MOST_TOKENS {
        return Err(too_deep(
            text,
            format!("it has {words} words and signs, at most {MOST_TOKENS} are read"),
        ));
    }
    let joined = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) => matches!(word.keyword, Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT),
        _ => false,
    };
    if tokens.iter().filter(|token| joined(token)).count() > DEEPEST {
        return Err(too_deep(text, format!("it joins more than {DEEPEST} queries into one")));
    }
    Ok(Parser::new(dialect).with_tokens_with_locations(tokens))
}

/// The words and signs of a text, comments and spaces left out.
pub(crate) fn tokens_of(text: &str) -> Result<Vec<TokenWithSpan>, ExpressionError> {
    let mut tokens = all_tokens_of(text)?;
    tokens.retain(|it| !matches!(it.token, Token::Whitespace(_) | Token::EOF));
    Ok(tokens)
}

fn all_tokens_of(text: &str) -> Result<Vec<TokenWithSpan>, ExpressionError> {
    let mut tokens = Vec::new();
    if let Err(error) = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location_into_buf(&mut tokens)
    {
        let offset = offset_of(text, error.location);
        let unclosed = error.message.starts_with("Unterminated string literal");
        return Err(ExpressionError {
            code: "expression_syntax",
            message: if unclosed {
                "a text in single quotes is not closed".to_owned()
            } else {
                lower_first(&error.message)
            },
            offset,
            length: text[offset..].chars().next().map_or(0, char::len_utf8),
            hint: unclosed.then(|| "close it with `'`; a quote inside is written twice: `''`".to_owned()),
        });
    }
    Ok(tokens)
}

pub(crate) fn parse_tree(text: &str) -> Result<Expr, ExpressionError> {
    if text.trim().is_empty() {
        return Err(ExpressionError {
            code: "expression_empty",
            message: "the expression is empty".to_owned(),
            offset: 0,
            length: 0,
            hint: Some("write a column or a SQL expression over the columns of the source".to_owned()),
        });
    }
    let mut parser = parser_of(text)?;
    let tree = parser.parse_expr().map_err(|error| syntax(text, &error, "an expression"))?;
    let next = parser.next_token();
    if next.token != Token::EOF {
        return Err(trailing(text, &next.token, next.span.start, "the end of the expression"));
    }
    Ok(tree)
}

fn too_deep(text: &str, why: String) -> ExpressionError {
    ExpressionError {
        code: "expression_too_deep",
        message: format!("the expression is too large: {why}"),
        offset: 0,
        length: text.len(),
        hint: Some("compute parts of it where the data is made, or in a `sql` source".to_owned()),
    }
}

fn trailing(text: &str, token: &Token, at: Location, expected: &str) -> ExpressionError {
    let offset = offset_of(text, at);
    let word = token.to_string();
    let hint = match word.to_lowercase().as_str() {
        "as" => Some("a feature is named by its key: `name: expression`".to_owned()),
        "when" if text[..offset].trim_end().to_lowercase().ends_with("case") => {
            Some("a `case` is `case when ... then ... else ... end`".to_owned())
        }
        "=" | "==" => Some("write one comparison, `a = b`, and join several with AND or OR".to_owned()),
        _ => None,
    };
    ExpressionError {
        code: "expression_syntax",
        message: format!("expected {expected}, found `{word}`"),
        offset,
        length: word.len().min(text.len().saturating_sub(offset)),
        hint,
    }
}

/// sqlparser gives the place as the last words of its message.
fn syntax(text: &str, error: &ParserError, what: &str) -> ExpressionError {
    let raw = match error {
        ParserError::RecursionLimitExceeded => {
            return too_deep(text, "it is nested too deep, at most 50 levels are read".to_owned());
        }
        ParserError::ParserError(raw) | ParserError::TokenizerError(raw) => raw,
    };
    let (said, place) = match raw.rsplit_once(" at Line: ") {
        Some((said, place)) => (said, parse_location(place)),
        None => (raw.as_str(), None),
    };
    let (expected, found) =
        match said.strip_prefix("Expected: ").and_then(|said| said.split_once(", found: ")) {
            Some((expected, found)) => (Some(expected), Some(found)),
            None => (None, None),
        };
    let at_end = found == Some("EOF") || place.is_none();
    let offset = match place {
        Some(place) if !at_end => offset_of(text, place),
        _ => text.trim_end().len(),
    };
    let found_text = match found {
        Some("EOF") | None => None,
        Some(found) => Some(found),
    };
    let message = match (expected, found_text) {
        (Some(expected), Some(found)) => format!("expected {}, found `{found}`", lower_first(expected)),
        (Some(expected), None) => format!("expected {}, found the end of {what}", lower_first(expected)),
        (None, _) => lower_first(said),
    };
    let length = found_text.map_or(0, str::len).min(text.len() - offset);
    ExpressionError { code: "expression_syntax", message, offset, length, hint: None }
}

fn parse_location(text: &str) -> Option<Location> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !letters.as_str().starts_with(|c: char| c.is_uppercase()) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// The byte of a place given in lines and characters from 1.
pub(crate) fn offset_of(text: &str, at: Location) -> usize {
    if at.line == 0 {
        return text.len();
    }
    let lines_before = usize::try_from(at.line - 1).unwrap_or(usize::MAX);
    let line_start = match lines_before {
        0 => 0,
        n => text.match_indices('\n').nth(n - 1).map_or(text.len(), |(at, _)| at + 1),
    };
    let column = usize::try_from(at.column.saturating_sub(1)).unwrap_or(usize::MAX);
    text[line_start..].char_indices().nth(column).map_or(text.len(), |(at, _)| line_start + at)
}

/// Offset and length of a node of the tree.
fn place_of(text: &str, node: &impl Spanned) -> (usize, usize) {
    let span = node.span();
    let start = offset_of(text, span.start);
    let end = offset_of(text, span.end).max(start);
    if span.start.line == 0 { (0, text.len()) } else { (start, end - start) }
}

/// Refuses what an expression over one row cannot hold.
struct Shape<'a> {
    text: &'a str,
    depth: usize,
    wrong: Option<ExpressionError>,
}

impl Shape<'_> {
    fn refuse(
        &mut self,
        code: &'static str,
        place: (usize, usize),
        message: String,
        hint: &str,
    ) -> ControlFlow<()> {
        self.wrong = Some(ExpressionError {
            code,
            message,
            offset: place.0,
            length: place.1,
            hint: Some(hint.to_owned()),
        });
        ControlFlow::Break(())
    }
}

impl Visitor for Shape<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let place = match query.body.as_ref() {
            SetExpr::Select(select) => {
                (offset_of(self.text, select.select_token.0.span.start), "select".len())
            }
            _ => (0, self.text.len()),
        };
        self.refuse(
            "expression_subquery",
            place,
            "an expression is over one row and cannot hold a query".to_owned(),
            "join the tables in a source with `sql`",
        )
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            self.wrong = Some(too_deep(
                self.text,
                format!("a chain or nest of more than {DEEPEST} operators; use `in (...)` or `case`"),
            ));
            return ControlFlow::Break(());
        }
        match expr {
            Expr::Function(function) => {
                let name = function.name.to_string().to_lowercase();
                let place = place_of(self.text, &function.name);
                if function.over.is_some() || OVER_MANY_ROWS.contains(&name.as_str()) {
                    return self.refuse(
                        "expression_aggregate",
                        place,
                        format!("`{name}` is over many rows, and this expression is over one"),
                        "an aggregate is an `agg`, in a view with windows: `{agg: sum(price), windows: [7d]}`",
                    );
                }
                let star = |argument: &FunctionArg| {
                    matches!(
                        argument,
                        FunctionArg::Unnamed(
                            FunctionArgExpr::Wildcard | FunctionArgExpr::QualifiedWildcard(_)
                        )
                    )
                };
                if let FunctionArguments::List(list) = &function.args
                    && list.args.iter().any(star)
                {
                    return self.refuse(
                        "expression_wildcard",
                        place,
                        format!("`{name}(*)` has no value for one row"),
                        "name a column",
                    );
                }
                if NOT_OF_THE_ROW.contains(&name.as_str()) {
                    return self.refuse(
                        "expression_not_of_the_row",
                        place,
                        format!("`{name}` depends on when it is asked, not on the row"),
                        "in a view use `event_time`, the row's own time",
                    );
                }
            }
            Expr::CompoundFieldAccess { root, .. } if matches!(**root, Expr::Value(_)) => {
                let place = place_of(self.text, expr);
                return self.refuse(
                    "expression_syntax",
                    place,
                    "a number or text has no fields".to_owned(),
                    "name the column that has them",
                );
            }
            Expr::Value(value) if matches!(value.value, sqlparser::ast::Value::Placeholder(_)) => {
                let place = (offset_of(self.text, value.span.start), value.value.to_string().len());
                return self.refuse(
                    "expression_placeholder",
                    place,
                    format!("`{}` stands for nothing here", value.value),
                    "write the value itself",
                );
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

struct Columns<'a> {
    text: &'a str,
    found: Vec<(String, usize, usize)>,
}

impl Visitor for Columns<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let column = match expr {
            Expr::Identifier(column) => Some(column),
            Expr::CompoundIdentifier(parts) => parts.first(),
            _ => None,
        };
        if let Some(column) = column {
            let start = offset_of(self.text, column.span.start);
            let end = offset_of(self.text, column.span.end).max(start);
            self.found.push((column.value.clone(), start, end - start));
        }
        ControlFlow::Continue(())
    }
}

struct Names<'a> {
    text: &'a str,
    found: Vec<(Vec<String>, usize, usize)>,
}

impl Visitor for Names<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let parts = match expr {
            Expr::Identifier(name) => std::slice::from_ref(name),
            Expr::CompoundIdentifier(parts) => parts.as_slice(),
            _ => return ControlFlow::Continue(()),
        };
        if let (Some(first), Some(last)) = (parts.first(), parts.last()) {
            let start = offset_of(self.text, first.span.start);
            let end = offset_of(self.text, last.span.end).max(start);
            self.found.push((parts.iter().map(|it| it.value.clone()).collect(), start, end - start));
        }
        ControlFlow::Continue(())
    }
}

struct Relations<'a> {
    text: &'a str,
    own: Vec<String>,
    found: Tables,
    depth: usize,
    wrong: Option<ExpressionError>,
}

impl Visitor for Relations<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.own.push(table.alias.name.value.clone());
        }
        if !query.locks.is_empty() || query.settings.is_some() || query.format_clause.is_some() {
            self.wrong = Some(ExpressionError {
                code: "query_not_select",
                message: "a source's `sql` reads: it takes no locks, settings or format".to_owned(),
                offset: 0,
                length: 0,
                hint: None,
            });
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &sqlparser::ast::Select) -> ControlFlow<()> {
        if select.into.is_some() {
            self.wrong = Some(ExpressionError {
                code: "query_not_select",
                message: "a source's `sql` reads: it cannot select into a table".to_owned(),
                offset: offset_of(self.text, select.select_token.0.span.start),
                length: "select".len(),
                hint: None,
            });
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let parts: Vec<String> = relation
            .0
            .iter()
            .map(|part| match part {
                ObjectNamePart::Identifier(name) => name.value.clone(),
                other => other.to_string(),
            })
            .collect();
        let (offset, length) = place_of(self.text, relation);
        self.found.push((parts, offset, length));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            self.wrong = Some(too_deep(self.text, format!("more than {DEEPEST} operators in one chain")));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Rewrites a tree into its one spelling.
struct Normalise;

impl Normalise {
    fn name(name: &mut Ident) {
        if name.quote_style.is_some() {
            name.quote_style = if is_plain(&name.value) { None } else { Some('"') };
        }
    }
}

impl VisitorMut for Normalise {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => Normalise::name(name),
            Expr::CompoundIdentifier(parts) => parts.iter_mut().for_each(Normalise::name),
            Expr::Cast { kind, .. } if *kind == CastKind::DoubleColon => *kind = CastKind::Cast,
            Expr::Function(function) => {
                for part in &mut function.name.0 {
                    if let ObjectNamePart::Identifier(name) = part {
                        if name.quote_style.is_none() {
                            name.value = name.value.to_lowercase();
                        }
                        Normalise::name(name);
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        for part in &mut relation.0 {
            if let ObjectNamePart::Identifier(name) = part {
                Normalise::name(name);
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_case_and_quotes_change_nothing() {
        for (text, canonical) in [
            ("tier", "tier"),
            ("\"tier\"", "tier"),
            ("Tier", "Tier"),
            ("\"Product Title\"", "\"Product Title\""),
            ("a+b", "a + b"),
            ("COALESCE( a , 0 )", "coalesce(a, 0)"),
            ("case when a then 1 else 0 end", "CASE WHEN a THEN 1 ELSE 0 END"),
            ("a::int", "CAST(a AS INT)"),
            ("cast(a as int)", "CAST(a AS INT)"),
            ("a != 'it''s' -- why", "a <> 'it''s'"),
            ("((a))", "a"),
            ("\"not\"", "\"not\""),
            ("s.\"f\"", "s.f"),
        ] {
            assert_eq!(Expression::parse(text).unwrap().canonical(), canonical, "{text}");
        }
    }

    #[test]
    fn columns_are_found_with_their_places() {
        let expression = Expression::parse("coalesce(dep_delay, \"Arr Delay\") + s.f\n  - é").unwrap();
        assert_eq!(
            expression.column_places(),
            [
                ("dep_delay".to_owned(), 9, 9),
                ("Arr Delay".to_owned(), 20, 11),
                ("s".to_owned(), 35, 1),
                ("é".to_owned(), 43, 2)
            ]
        );
    }

    #[test]
    fn a_wrong_expression_is_refused_at_its_place() {
        for (text, code, offset) in [
            ("a +", "expression_syntax", 3),
            ("a b", "expression_syntax", 2),
            ("coalesce(a,, b)", "expression_syntax", 11),
            ("note = 'x", "expression_syntax", 7),
            ("a + (select 1)", "expression_subquery", 5),
            ("1 + sum(b)", "expression_aggregate", 4),
            ("b > NOW()", "expression_not_of_the_row", 4),
            ("a = $1", "expression_placeholder", 4),
            ("count(*)", "expression_aggregate", 0),
            ("length(*)", "expression_wildcard", 0),
            ("", "expression_empty", 0),
        ] {
            let error = Expression::parse(text).unwrap_err();
            assert_eq!((error.code, error.offset), (code, offset), "{text}: {error}");
        }
    }

    #[test]
    fn depth_is_an_error_and_never_the_end_of_the_process() {
        let nested = format!("{}a{}", "(".repeat(1_000), ")".repeat(1_000));
        let chained = vec!["a"; 1_900].join(" + ");
        let long = vec!["a"; 500_000].join(" + ");
        let signs = format!("{}a", "- ".repeat(100_000));
        let casts = format!("a{}", "::int".repeat(1_900));
        for text in [nested, chained, long, signs, casts] {
            assert_eq!(Expression::parse(text).unwrap_err().code, "expression_too_deep");
        }
    }

    #[test]
    fn a_query_names_its_tables() {
        let tables =
            parse_query("with x as (select * from flights) select * from x join weather w on true").unwrap();
        assert_eq!(
            tables.iter().map(|(parts, ..)| parts.join(".")).collect::<Vec<_>>(),
            ["flights", "weather"]
        );
        assert_eq!(parse_query("drop table x").unwrap_err().code, "query_not_select");
        assert_eq!(parse_query("select 1; select 2").unwrap_err().code, "expression_syntax");
    }
}
