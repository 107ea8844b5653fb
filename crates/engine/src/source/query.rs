//! Sources with `sql`: a query over other sources, of the project or of others (`project.source`), planned
//! over one snapshot of them.
//!
//! Names are matched as they are written. It runs on one thread over rows in one order (files by their
//! names, rows as they stand), so that sums of floats, `limit`, `row_number()` and the like come out the
//! same each time and on each machine.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use asof_model::{Catalog, Cut, Name, SourceVersion};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::catalog::memory::MemorySchemaProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{SchemaError, TableReference};
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::ScanColumns;
use super::opened::{Opened, open};
use super::rules::{FileRules, Rules};
use crate::integers::NoWrapping;
use crate::{Engine, Error, Result, growth};
use asof_model::nearest;

/// A query, planned; its sources open.
pub(crate) struct Query {
    pub inputs: Vec<(Arc<SourceVersion>, Opened)>,
    name: Name,
    context: SessionContext,
    plan: LogicalPlan,
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query").field("inputs", &self.inputs.len()).finish_non_exhaustive()
    }
}

/// A longer query is refused before it is parsed.
const MOST_BYTES: usize = 64 << 10;
/// More words and signs are refused before anything recurses into them.
const MOST_TOKENS: usize = 8_000;
/// How deep it may nest.
const DEEPEST: usize = 50;

impl Query {
    /// Parses, opens the sources it names and plans.
    pub(crate) async fn open(
        engine: &Engine,
        catalog: &Catalog,
        source: &SourceVersion,
        text: &str,
        at: Option<&Cut>,
        depth: usize,
    ) -> Result<Query> {
        let name = &source.address.name;
        let wrong = |code: &'static str, message: String| {
            Error::invalid(code, format!("source `{name}`: its `sql` {message}"))
        };
        let one = "it is one `select` over sources";
        let statement = parse(text).map_err(|message| wrong("sql_syntax", message).with_hint(one))?;
        let home = &source.address.project;
        let context = engine.named_session(1, home.as_str());
        context.add_analyzer_rule(Arc::new(NoWrapping));
        let state = context.state();
        let references = state
            .resolve_table_references(&statement)
            .map_err(|e| wrong("sql_syntax", crate::expression::plain(&e)).with_hint(one))?;
        let mut inputs: Vec<(Arc<SourceVersion>, Opened)> = Vec::new();
        for reference in references {
            let (project, called) = match &reference {
                TableReference::Bare { table } => (home.as_str(), table),
                TableReference::Partial { schema, table } => (&**schema, table),
                TableReference::Full { .. } => {
                    let message = format!("reads `{reference}`, which is no source");
                    return Err(
                        wrong("source_not_found", message).with_hint("write `source` or `project.source`")
                    );
                }
            };
            let state = catalog.projects.get(project);
            let input = state.and_then(|state| state.sources.get(&**called));
            let Some(input) = input.filter(|input| input.address != source.address) else {
                return Err(not_there(catalog, source, project, called, &wrong));
            };
            if inputs.iter().any(|(other, _)| other.address == input.address) {
                continue;
            }
            let cut = match at {
                Some(Cut::Sql(cuts)) => {
                    cuts.iter().find(|cut| cut.source == input.address).map(|cut| &cut.cut)
                }
                _ => None,
            };
            let opened = open(engine, catalog, input, cut, depth + 1).await?;
            let table = SourceTable::new(engine, input, opened.clone());
            // A bare name stands in the schema of its own project.
            if let Some(schemas) = context.catalog(crate::query::CATALOG)
                && schemas.schema(project).is_none()
            {
                schemas.register_schema(project, Arc::new(MemorySchemaProvider::new()))?;
            }
            context.register_table(TableReference::partial(project, &**called), Arc::new(table))?;
            inputs.push((Arc::clone(input), opened));
        }
        let plan = state.statement_to_plan(statement).await.map_err(|error| {
            let Unplanned { code, message, hint } = unplanned(&error, &state);
            wrong(code, message).with_hint(hint)
        })?;
        let read_only =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        read_only
            .verify_plan(&plan)
            .map_err(|_| wrong("sql_not_read_only", "does more than read".to_owned()).with_hint(one))?;
        if let Some(function) = changing(&plan)? {
            let message = format!("calls `{function}`, which gives another answer each time it runs");
            return Err(wrong("function_not_deterministic", message)
                .with_hint("a source gives the same rows each time: take it from a column"));
        }
        let plan = growth::bounded_plan(plan, engine.bounds())?;
        growth::check_plan(&plan).map_err(|error| {
            wrong("sql_too_large", format!("makes too much: {error}"))
                .with_hint("it is made for each row: make it smaller")
        })?;
        Ok(Query { inputs, name: name.clone(), context, plan })
    }

    /// The columns it gives.
    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(self.plan.schema().inner())
    }

    /// A plan of these of its columns.
    pub(crate) async fn plan(&self, columns: &[String]) -> Result<Arc<dyn ExecutionPlan>> {
        let frame = DataFrame::new(self.context.state(), self.plan.clone());
        let chosen: Vec<Expr> = columns
            .iter()
            .map(|name| {
                Expr::Column(datafusion::common::Column::from(
                    self.plan.schema().qualified_field_with_unqualified_name(name).unwrap_or_else(|_| {
                        // Found missing when it is planned.
                        self.plan.schema().qualified_field(0)
                    }),
                ))
            })
            .collect();
        let frame = if chosen.is_empty() { frame } else { frame.select(chosen)? };
        frame.create_physical_plan().await.map_err(|e| match Error::within(&e) {
            Some(ours) => ours.clone(),
            // Only what the query says is known yet, no row.
            None => Error::invalid(
                "sql_type",
                format!(
                    "source `{}`: its `sql` cannot be planned: {}",
                    self.name,
                    crate::expression::plain(&e)
                ),
            ),
        })
    }
}

/// Says that a query reads what is no source, and what it may have meant.
fn not_there(
    catalog: &Catalog,
    source: &SourceVersion,
    project: &str,
    called: &str,
    wrong: &dyn Fn(&'static str, String) -> Error,
) -> Error {
    let (home, name) = (&source.address.project, &source.address.name);
    let own = home.as_str() == project;
    let asked = if own { called.to_owned() } else { format!("{project}.{called}") };
    let error = wrong("source_not_found", format!("reads source `{asked}`, which is not there"));
    let Some(state) = catalog.projects.get(project) else {
        let projects = catalog.projects.keys().map(Name::as_str);
        return error.with_hint(match nearest(project, projects) {
            Some(near) => format!("there is no project `{project}`: did you mean `{near}.{called}`?"),
            None => format!("there is no project `{project}`: apply it first"),
        });
    };
    let known = state.sources.keys().map(Name::as_str).filter(|other| !own || *other != name.as_str());
    error.with_hint(match nearest(called, known) {
        Some(near) if own => format!("did you mean `{near}`?"),
        Some(near) => format!("did you mean `{project}.{near}`?"),
        None => "it reads sources of its own project by their names, those of others as `project.source`"
            .to_owned(),
    })
}

/// Why a query cannot be planned.
struct Unplanned {
    code: &'static str,
    message: String,
    hint: String,
}

fn unplanned(error: &DataFusionError, state: &SessionState) -> Unplanned {
    let near = |wanted: &str, names: &[&str], what: &str| match nearest(wanted, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let some: Vec<String> = names.iter().take(8).map(|name| format!("`{name}`")).collect();
            format!("{what} {}{}", some.join(", "), if names.len() > 8 { ", ..." } else { "" })
        }
    };
    let root = error.find_root();
    if let DataFusionError::SchemaError(schema, _) = root
        && let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref()
    {
        let names: Vec<&str> = valid_fields.iter().map(|it| it.name.as_str()).collect();
        let hint = match names.as_slice() {
            [] => "there is no column at all: is `from` left out, or misspelt?".to_owned(),
            names => near(&field.name, names, "the columns are"),
        };
        let message = format!("names column `{}`, which is not there", field.name);
        return Unplanned { code: "column_not_found", message, hint };
    }
    let text = crate::expression::plain(error);
    if let Some(name) = text.strip_prefix("Invalid function '").and_then(|rest| rest.split('\'').next()) {
        let functions = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
        let mut names: Vec<&str> =
            functions.chain(state.window_functions().keys()).map(String::as_str).collect();
        names.sort_unstable();
        return Unplanned {
            code: "function_not_found",
            message: format!("calls function `{name}`, which is not there"),
            hint: near(name, &names, "the functions are DataFusion's, among them"),
        };
    }
    let hint = "try it with `asof sql`, which knows the same sources and functions".to_owned();
    Unplanned { code: "sql_type", message: format!("cannot be planned: {text}"), hint }
}

/// The parser's words without the wrapping they come in.
fn parsed(error: &DataFusionError) -> String {
    let text = crate::expression::plain(error);
    let text = text.trim_start_matches("ParserError(\"").trim_end_matches("\")");
    if text.starts_with("RecursionLimitExceeded") {
        return format!("nests deeper than {DEEPEST}");
    }
    format!("cannot be parsed: {text}")
}

fn parse(text: &str) -> Result<Statement, String> {
    if text.len() > MOST_BYTES {
        return Err(format!("has {} bytes, and at most {MOST_BYTES} are allowed", text.len()));
    }
    let dialect = datafusion::sql::sqlparser::dialect::GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize().map_err(|e| format!("cannot be parsed: {e}"))?;
    let meant = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count();
    if meant > MOST_TOKENS {
        return Err(format!("has {meant} words and signs, and at most {MOST_TOKENS} are allowed"));
    }
    let mut parser = DFParserBuilder::new(text)
        .with_dialect(&dialect)
        .with_recursion_limit(DEEPEST)
        .build()
        .map_err(|e| parsed(&e))?;
    let mut statements = parser.parse_statements().map_err(|e| parsed(&e))?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(Statement::Statement(statement)), true) if matches!(*statement, SqlStatement::Query(_)) => {
            Ok(Statement::Statement(statement))
        }
        (None, _) => Err("is empty".to_owned()),
        (_, false) => Err("holds several statements, and one `select` is wanted".to_owned()),
        _ => Err("is not a `select`".to_owned()),
    }
}

/// A function of the plan whose answer changes from run to run, if there is one.
fn changing(plan: &LogicalPlan) -> Result<Option<String>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::ScalarFunction(function) = part
                    && function.func.signature().volatility != Volatility::Immutable
                {
                    found = Some(function.func.name().to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// An opened source as a table of its columns, for queries. No time rule is applied.
#[derive(Debug)]
pub(crate) struct SourceTable {
    engine: Engine,
    source: Arc<SourceVersion>,
    opened: Opened,
    schema: SchemaRef,
}

impl SourceTable {
    pub(crate) fn new(engine: &Engine, source: &Arc<SourceVersion>, opened: Opened) -> SourceTable {
        let rules = Rules::plain(source.address.name.as_str(), &source.columns);
        let schema = Arc::clone(rules.schema());
        SourceTable { engine: engine.clone(), source: Arc::clone(source), opened, schema }
    }
}

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.source.columns.len()).collect();
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(all);
        let columns = wanted
            .iter()
            .filter_map(|at| self.source.columns.get(*at).map(|column| column.name.clone()))
            .collect();
        let want = ScanColumns { columns, ..ScanColumns::default() };
        let name = self.source.address.name.as_str();
        // A stored source still has rows past the cut, which its rules leave out.
        let given = match self.opened.given() {
            given @ super::rules::Given::Stored(_) => given,
            _ => super::rules::Given::Unwanted,
        };
        let fixed = matches!(given, super::rules::Given::Stored(_));
        let rules = match fixed {
            true => self.opened.rules(&self.engine, &self.source, &want)?,
            false => {
                let (definition, columns) = (&self.source.definition, &self.source.columns);
                FileRules::new(Rules::over(&self.engine, name, definition, columns, &want, given)?, None)
            }
        };
        // One thread, one order: which row is first, and what a sum of floats rounds to, hang on it.
        let plan = self.opened.plan(&self.engine, &rules, 1).await?;
        if !fixed {
            return Ok(plan);
        }
        let schema = plan.schema();
        let own = super::fixed::ALL.len()..schema.fields().len();
        let chosen = own.map(|at| {
            let name = schema.field(at).name().clone();
            let column = datafusion::physical_expr::expressions::Column::new(&name, at);
            (Arc::new(column) as Arc<dyn datafusion::physical_expr::PhysicalExpr>, name)
        });
        let chosen: Vec<_> = chosen.collect();
        Ok(Arc::new(datafusion::physical_plan::projection::ProjectionExec::try_new(chosen, plan)?))
    }
}
