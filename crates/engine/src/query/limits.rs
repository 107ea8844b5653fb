//! What one query may take, and the check of a text against it before anything recurses over it.
//!
//! A parser and a planner recurse with the depth of what they are given, and a chain such as
//! `1+1+1...` is as deep as it is long: unchecked, 8 kB of text ends the process. So tokens are
//! counted first (no recursion), then the tree is measured on a thread with a big stack, and only a
//! tree within the limits is planned.

use std::ops::ControlFlow;
use std::time::Duration;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, SetExpr, ShowStatementOptions, Statement, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::{Engine, Error, Result};

/// What one query may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlLimits {
    /// Bytes of its text.
    pub bytes: usize,
    /// Tokens of its text: names, numbers, operators, commas.
    pub tokens: usize,
    /// How deep expressions nest, operators in a row included.
    pub depth: usize,
    /// Tables read, each mention once, with what a `with` names counted wherever it is mentioned.
    pub relations: usize,
    /// From its acceptance to its last row.
    pub time: Duration,
    /// Bytes its operators hold in memory; sorts, joins and aggregates spill to disk beyond.
    pub memory: usize,
    /// Rows it gives.
    pub rows: u64,
}

impl Default for SqlLimits {
    fn default() -> SqlLimits {
        SqlLimits {
            bytes: 256 << 10,
            tokens: 20_000,
            depth: 200,
            relations: 200,
            time: Duration::from_secs(60),
            memory: 512 << 20,
            rows: 1_000_000,
        }
    }
}

impl SqlLimits {
    /// What one query of this engine may take: of its memory no more than a quarter.
    pub fn of(engine: &Engine) -> SqlLimits {
        let usual = SqlLimits::default();
        let part = usize::try_from(engine.config().memory / 4).unwrap_or(usize::MAX);
        SqlLimits { memory: usual.memory.min(part), ..usual }
    }
}

fn too_much(what: impl Into<String>, limit: impl Into<String>, hint: &str) -> Error {
    Error::Exhausted { what: what.into(), limit: limit.into(), hint: Some(hint.to_owned()) }
}

const SPLIT: &str = "ask in several queries, or use `in (...)` instead of many `or`";

/// Reads a text as one query within the limits. Needs a big stack: a tree within the limit of
/// tokens may be as deep as it has tokens.
///
/// # Errors
/// [`Error::Exhausted`] over a limit; [`Error::Invalid`] where it is no single query that only reads.
pub(super) fn read(text: &str, limits: &SqlLimits) -> Result<Statement> {
    if text.len() > limits.bytes {
        let limit = format!("{} bytes", limits.bytes);
        return Err(too_much(format!("a query of {} bytes", text.len()), limit, SPLIT));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize_with_location()
        .map_err(|error| syntax(&error.message, Some((error.location.line, error.location.column))))?;
    let words = tokens.iter().filter(|it| !matches!(it.token, Token::Whitespace(_))).count();
    if words > limits.tokens {
        let limit = format!("{} tokens", limits.tokens);
        return Err(too_much(format!("a query of {words} tokens"), limit, SPLIT));
    }
    let chained = |wanted: &[Keyword]| {
        tokens
            .iter()
            .filter(|it| matches!(&it.token, Token::Word(word) if wanted.contains(&word.keyword)))
            .count()
    };
    // Unions are as deep as they are many, and no visitor sees them.
    let unions = chained(&[Keyword::UNION, Keyword::INTERSECT, Keyword::EXCEPT, Keyword::MINUS]);
    if unions > limits.relations {
        let limit = format!("{} set operations", limits.relations);
        return Err(too_much(format!("a query with {unions} unions"), limit, SPLIT));
    }
    // One `case` within another is parsed past the parser's own limit.
    if chained(&[Keyword::CASE]) > limits.depth {
        return Err(too_much("the number of `case` in a query", format!("{}", limits.depth), SPLIT));
    }
    // Nested types are parsed without a limit of their own.
    if chained(&[Keyword::ARRAY, Keyword::STRUCT, Keyword::MAP]) > limits.relations {
        let limit = format!("{} mentions of array, struct and map", limits.relations);
        return Err(too_much("a query with nested types", limit, SPLIT));
    }
    let mut first = tokens.iter().filter_map(|it| match &it.token {
        Token::Word(word) => Some(word.value.to_lowercase()),
        _ => None,
    });
    // Not all forms of it are parsed, and none is allowed.
    if first.next().as_deref() == Some("create") && first.next().as_deref() == Some("external") {
        return Err(only_queries("create external table"));
    }
    let statements = Parser::new(&GenericDialect {})
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|error| match error {
            ParserError::RecursionLimitExceeded => too_much(
                "the nesting of a query",
                "50 levels of parentheses, functions and subqueries",
                SPLIT,
            ),
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => syntax(&text, None),
        })?;
    let mut statements = statements.into_iter();
    let (Some(statement), None) = (statements.next(), statements.next()) else {
        return Err(Error::invalid("sql_one_query", "the text is not one query")
            .with_hint("send one query at a time"));
    };
    only_reads(&statement)?;
    measure(&statement, limits)?;
    match statement {
        Statement::ShowTables { .. } => tables(),
        other => Ok(other),
    }
}

/// `show tables`, without the tables that only describe tables.
fn tables() -> Result<Statement> {
    const TEXT: &str = "select table_schema as project, table_name as name, lower(table_type) as kind \
                        from information_schema.tables \
                        where table_schema <> 'information_schema' order by 1, 2";
    let statements = Parser::parse_sql(&GenericDialect {}, TEXT);
    let statement = statements.ok().and_then(|all| all.into_iter().next());
    statement.ok_or_else(|| Error::internal("`show tables` cannot be read"))
}

fn syntax(text: &str, place: Option<(u64, u64)>) -> Error {
    let text = text.trim_start_matches("sql parser error: ");
    match place {
        Some((line, column)) => Error::invalid(
            "sql_syntax",
            format!("the query cannot be read: {text} at line {line}, column {column}"),
        ),
        None => Error::invalid("sql_syntax", format!("the query cannot be read: {text}")),
    }
}

/// Refuses everything but queries, and questions about tables and plans.
fn only_reads(statement: &Statement) -> Result<()> {
    let refused = |what: &str| Err(only_queries(what));
    match statement {
        Statement::Query(_) | Statement::ExplainTable { .. } => Ok(()),
        Statement::ShowTables { show_options, .. } => {
            let plain = ShowStatementOptions {
                show_in: None,
                starts_with: None,
                limit: None,
                limit_from: None,
                filter_position: None,
            };
            if *show_options == plain { Ok(()) } else { refused("show tables ...") }
        }
        Statement::Explain { analyze: true, .. } => refused("explain analyze"),
        Statement::Explain { options: Some(_), .. } => refused("explain (...)"),
        Statement::Explain { statement, .. } => match statement.as_ref() {
            Statement::Query(_) => Ok(()),
            _ => refused("explain"),
        },
        other => {
            let text = other.to_string();
            let words: Vec<&str> = text.split_whitespace().take(2).collect();
            refused(&words.join(" ").to_lowercase())
        }
    }
}

/// What a tree may be refused for.
enum Fault {
    Depth,
    Relations,
    Writes(&'static str),
}

/// One query on the way down: what its `with` names cost, and what it costs itself.
struct Frame {
    names: Vec<String>,
    known: Vec<(String, usize)>,
    cost: usize,
}

struct Measure {
    depth: usize,
    limits: SqlLimits,
    frames: Vec<Frame>,
}

impl Measure {
    fn spend(&mut self, cost: usize) -> ControlFlow<Fault> {
        if let Some(frame) = self.frames.last_mut() {
            frame.cost = frame.cost.saturating_add(cost);
            if frame.cost > self.limits.relations {
                return ControlFlow::Break(Fault::Relations);
            }
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Measure {
    type Break = Fault;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Fault> {
        let names = query
            .with
            .iter()
            .flat_map(|with| with.cte_tables.iter().map(|it| it.alias.name.value.to_lowercase()))
            .collect();
        self.frames.push(Frame { names, known: Vec::new(), cost: 1 });
        let mut bodies = vec![query.body.as_ref()];
        while let Some(body) = bodies.pop() {
            match body {
                SetExpr::Insert(_) => return ControlFlow::Break(Fault::Writes("insert")),
                SetExpr::Update(_) => return ControlFlow::Break(Fault::Writes("update")),
                SetExpr::Delete(_) => return ControlFlow::Break(Fault::Writes("delete")),
                SetExpr::Merge(_) => return ControlFlow::Break(Fault::Writes("merge")),
                SetExpr::SetOperation { left, right, .. } => bodies.extend([left.as_ref(), right.as_ref()]),
                SetExpr::Select(select) if select.into.is_some() => {
                    return ControlFlow::Break(Fault::Writes("select into"));
                }
                SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) | SetExpr::Table(_) => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Fault> {
        let Some(done) = self.frames.pop() else { return ControlFlow::Continue(()) };
        // The queries of a `with` are visited before its body, in their order.
        if let Some(above) = self.frames.last_mut()
            && let Some(name) = above.names.get(above.known.len())
        {
            above.known.push((name.clone(), done.cost));
            return ControlFlow::Continue(());
        }
        self.spend(done.cost)
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Fault> {
        let name = relation.to_string().to_lowercase();
        let known = self.frames.iter().rev().flat_map(|frame| frame.known.iter().rev());
        let cost = known.into_iter().find(|(other, _)| *other == name).map_or(1, |(_, cost)| *cost);
        self.spend(cost)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Fault> {
        // A table's own name is counted as a relation, a subquery as a query.
        match factor {
            TableFactor::Table { .. } | TableFactor::Derived { .. } => ControlFlow::Continue(()),
            _ => self.spend(1),
        }
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Fault> {
        self.depth += levels(expression);
        if self.depth > self.limits.depth {
            ControlFlow::Break(Fault::Depth)
        } else {
            ControlFlow::Continue(())
        }
    }

    fn post_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Fault> {
        self.depth -= levels(expression);
        ControlFlow::Continue(())
    }
}

/// How deep the plan of an expression is, but for the expressions within: a chain of fields or
/// subscripts is one node of the tree and one of the plan for each link.
fn levels(expression: &Expr) -> usize {
    1 + match expression {
        Expr::CompoundFieldAccess { access_chain, .. } => access_chain.len(),
        Expr::CompoundIdentifier(parts) => parts.len().saturating_sub(3),
        Expr::JsonAccess { path, .. } => path.path.len(),
        _ => 0,
    }
}

fn measure(statement: &Statement, limits: &SqlLimits) -> Result<()> {
    let mut measure = Measure { depth: 0, limits: *limits, frames: Vec::new() };
    match statement.visit(&mut measure) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(Fault::Depth) => {
            Err(too_much("the nesting of an expression", format!("{} levels", limits.depth), SPLIT))
        }
        ControlFlow::Break(Fault::Relations) => {
            Err(too_much("the number of tables in a query", format!("{}", limits.relations), SPLIT))
        }
        ControlFlow::Break(Fault::Writes(what)) => Err(only_queries(what)),
    }
}

fn only_queries(what: &str) -> Error {
    Error::invalid("sql_read_only", format!("`{what}` is not allowed: SQL here only reads"))
        .with_hint("write select ...; data comes in by `asof load`, definitions by `asof apply`")
}

#[cfg(test)]
mod tests {
    use asof_model::Explain;

    use super::*;

    /// On a thread with a stack like the one queries are planned on.
    fn code(text: String) -> Result<(), String> {
        let check =
            move || read(&text, &SqlLimits::default()).map(drop).map_err(|e| format!("{}: {e}", e.code()));
        std::thread::Builder::new().stack_size(256 << 20).spawn(check).unwrap().join().unwrap()
    }

    #[test]
    fn a_deep_text_is_refused_and_ends_nothing() {
        let exponential = (1..40).fold("with a0 as (select 1 as x)".to_owned(), |text, i| {
            let below = i - 1;
            format!("{text}, a{i} as (select * from a{below} union all select * from a{below})")
        });
        for (shape, text) in [
            ("sums", format!("select 1{}", "+1".repeat(4_000))),
            ("longest sums", format!("select 1{}", "+1".repeat(130_000))),
            ("ors", format!("select * from t where a = 0{}", " or a = 1".repeat(2_000))),
            ("unions", vec!["select 1"; 4_000].join(" union all ")),
            ("parentheses", format!("select {}1{}", "(".repeat(5_000), ")".repeat(5_000))),
            ("functions", format!("select {}1{}", "abs(".repeat(5_000), ")".repeat(5_000))),
            (
                "subqueries",
                format!("select * from {}t{}", "(select * from ".repeat(2_000), ")".repeat(2_000)),
            ),
            ("minus", format!("select {}1", "- ".repeat(8_000))),
            ("not", format!("select {}true", "not ".repeat(8_000))),
            ("casts", format!("select 1{}", "::int".repeat(4_000))),
            ("is null", format!("select 1{}", " is null".repeat(4_000))),
            ("subscripts", format!("select a{} from t", "[1]".repeat(6_000))),
            ("fields", format!("select a{} from t", ".b".repeat(6_000))),
            ("paths", format!("select a{} from t", ":b".repeat(6_000))),
            ("types", format!("select cast(a as {}int{}) from t", "array<".repeat(4_000), ">".repeat(4_000))),
            ("case", format!("select {}1{}", "case when true then ".repeat(2_000), " end".repeat(2_000))),
            ("joins", format!("select 1 from t{}", " join t using (a)".repeat(2_000))),
            ("products", format!("select 1 from t{}", ", t".repeat(5_000))),
            ("between", format!("select 1{}", " between 1 and 2".repeat(2_000))),
            ("concat", format!("select 'a'{}", " || 'a'".repeat(3_000))),
            ("with", format!("{exponential} select * from a39")),
            ("statements", "select 1;".repeat(4_000)),
        ] {
            let refused = code(text).err().unwrap_or_else(|| panic!("{shape} is read"));
            let good =
                ["limit_reached", "sql_syntax", "sql_one_query"].iter().any(|it| refused.starts_with(it));
            assert!(good && refused.len() < 500, "{shape}: {refused}");
        }
    }

    #[test]
    fn a_long_but_flat_text_is_read() {
        for text in [
            format!("select * from t where a in ({}1)", "1, ".repeat(5_000)),
            format!("select {}1", "a, ".repeat(5_000)),
            format!("select * from t where a = 0{}", " or a = 1".repeat(90)),
            format!("select 1{}", "+1".repeat(150)),
            "with a as (select 1), b as (select * from a, a as c) select * from b, b as d".to_owned(),
            "explain select 1".to_owned(),
            "show tables".to_owned(),
            "describe t".to_owned(),
            "values (1, 2), (3, 4)".to_owned(),
        ] {
            assert_eq!(code(text.clone()), Ok(()), "{}", &text[..text.len().min(80)]);
        }
    }

    #[test]
    fn what_writes_is_refused() {
        for (text, what) in [
            ("create table t (a int)", "create table"),
            ("create external table t stored as csv location '/etc/passwd'", "create external table"),
            ("CREATE EXTERNAL TABLE t (a int) stored as nothing", "create external table"),
            ("copy (select 1) to '/tmp/x.csv'", "copy (select"),
            ("insert into t values (1)", "insert into"),
            ("delete from t", "delete from"),
            ("update t set a = 1", "update t"),
            ("drop table t", "drop table"),
            ("set datafusion.execution.batch_size = 1", "set datafusion.execution.batch_size"),
            ("explain analyze select 1", "explain analyze"),
            ("explain insert into t values (1)", "explain"),
            ("with x as (insert into t values (1)) select 1", "insert"),
            ("select 1 into t", "select into"),
            ("begin", "begin"),
            ("call f()", "call f()"),
            ("show all", "show all"),
            ("attach 'x' as y", "attach 'x'"),
        ] {
            let refused = code(text.to_owned()).unwrap_err();
            assert!(
                refused.starts_with("sql_read_only") && refused.contains(what)
                    || refused.starts_with("sql_syntax"),
                "{text}: {refused}"
            );
        }
        assert!(code("select 1; select 2".to_owned()).unwrap_err().starts_with("sql_one_query"));
        assert!(code(String::new()).unwrap_err().starts_with("sql_one_query"));
    }
}
