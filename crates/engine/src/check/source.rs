//! A source against its data: files, columns, times.

use arrow::datatypes::DataType as ArrowType;
use asof_model::{
    Column, DataType, Definition, Diagnostic, Explain, Format, Located, Place, Source, TimeRule,
};

use super::Check;

use crate::expression::{Purpose, compile};
use crate::source::columns::can_read;
use crate::source::infer::{Found, infer};
use crate::source::instants::{readable, zone};
use crate::source::opened::columns_of;
use crate::source::{Opened, open};
use asof_model::nearest;

impl Check<'_> {
    /// A source of files or of a Delta table.
    pub(super) async fn source(&mut self, at: &Located<Definition>, source: &Source) {
        let mut look = self.version(source);
        // A stored source is looked at where its files come from.
        look.definition.store = false;
        let opened = match open(self.engine, &self.catalog, &look, None, 0).await {
            Ok(opened) => opened,
            Err(error) => {
                let missing = matches!(error.code(), "source_file_missing" | "source_no_files");
                if missing && source.store && !source.schema.is_empty() {
                    // Its files come later; the schema says what they will have.
                    let raw = source
                        .schema
                        .iter()
                        .map(|it| (it.name.clone(), text_or_own(&it.data_type)))
                        .collect();
                    let found = Found { columns: source.schema.clone(), raw, ..Found::default() };
                    return self.found(at, source, found, false);
                }
                let error = if missing && source.store {
                    error.with_hint("put a first file there, or declare the columns in `schema`")
                } else {
                    error
                };
                let key = match error.code() {
                    "source_option" => "options",
                    _ => "path",
                };
                return self.failed(&error, source, at.at(&[key]));
            }
        };
        let text = matches!(source.place, Place::Files { format: Format::Csv | Format::Ndjson, .. });
        let found = match opened {
            Opened::Files(files) => {
                let name = source.name.to_string();
                self.engine.blocking(move || infer(&name, &files)).await
            }
            other => Ok(of_schema(&other)),
        };
        match found {
            Ok(found) => self.found(at, source, found, text),
            Err(error) => self.failed(&error, source, at.at(&["path"])),
        }
    }

    /// A query over other sources. False: it reads one that is not known yet; one that never will be is
    /// reported where names are resolved.
    pub(super) async fn query(&mut self, at: &Located<Definition>, source: &Source) -> bool {
        let version = self.version(source);
        match open(self.engine, &self.catalog, &version, None, 0).await {
            Ok(opened) => {
                let found = of_schema(&opened);
                self.found(at, source, found, false);
            }
            Err(error) if error.code() == "source_not_found" => return false,
            Err(error) => self.failed(&error, source, at.at(&["sql"])),
        }
        true
    }

    /// The columns found, against what is declared of them. `text`: the format has no types of its own.
    fn found(&mut self, at: &Located<Definition>, source: &Source, found: Found, text: bool) {
        let name = &source.name;
        for (column, kind) in &found.left_out {
            if source.schema.iter().any(|declared| declared.name == *column) {
                continue;
            }
            let message = format!("source `{name}`: column `{column}` is {kind}, and is left out");
            self.out.push(
                Diagnostic::warning("column_left_out", message)
                    .at(at.span())
                    .hint("a source with `sql` can cast it to a type there is"),
            );
        }
        let mut columns = found.columns.clone();
        let mut good = true;
        if !source.schema.is_empty() {
            for declared in &source.schema {
                let there = found.raw.iter().find(|(column, _)| *column == declared.name);
                let problem = match there {
                    None => Some(
                        Diagnostic::error(
                            "column_not_found",
                            format!("source `{name}`: `schema` column `{}` is not in the data", declared.name),
                        )
                        .maybe_hint(did_you_mean(&declared.name, &found.columns)),
                    ),
                    Some((_, kind)) if !text && !can_read(kind, &declared.data_type) => Some(
                        Diagnostic::error(
                            "column_type",
                            format!(
                                "source `{name}`: `schema` column `{}` is {kind} in the data, which cannot be read as {}",
                                declared.name, declared.data_type
                            ),
                        )
                        .hint("declare the type it has, or convert it in a source with `sql`"),
                    ),
                    Some(_) => None,
                };
                if let Some(problem) = problem {
                    self.out.push(problem.at(at.key(&["schema", &declared.name])));
                    good = false;
                }
            }
            columns = source.schema.clone();
        }
        let rules = [
            ("event_time", &source.event_time),
            ("available_at", &source.available_at),
            ("valid_until", &source.valid_until),
        ];
        for (key, rule) in rules {
            let Some(rule) = rule else { continue };
            let what = format!("{key} of source `{name}`");
            match rule {
                TimeRule::Column { name: column, unit, zone: named } => {
                    let length = column.len();
                    let span = at.inside(&[key], 0..length);
                    let Some(declared) = columns.iter().find(|it| it.name == *column) else {
                        let message = format!("{what}: column `{column}` not found");
                        let left_out = found.left_out.iter().find(|(other, _)| other == column);
                        let hint = match left_out {
                            Some((_, kind)) => Some(format!("it is {kind}, which is not a time")),
                            None => did_you_mean(column, &columns),
                        };
                        self.out
                            .push(Diagnostic::error("column_not_found", message).at(span).maybe_hint(hint));
                        good = false;
                        continue;
                    };
                    if let Some(named) = named
                        && let Err(reason) = zone(named)
                    {
                        let message = format!("{what}: {reason}");
                        let zones = jiff::tz::db().available().map(|it| it.to_string()).collect::<Vec<_>>();
                        let hint = nearest(named, zones.iter().map(String::as_str))
                            .map_or("e.g. `America/New_York`, `UTC`".to_owned(), |near| {
                                format!("did you mean `{near}`?")
                            });
                        self.out.push(
                            Diagnostic::error("time_zone", message).at(at.at(&[key, "zone"])).hint(hint),
                        );
                        good = false;
                    }
                    let kind = found.raw.iter().find(|(other, _)| other == column).map(|(_, kind)| kind);
                    let kind = kind.cloned().unwrap_or_else(|| text_or_own(&declared.data_type));
                    let not_times = text && declared.data_type == DataType::String;
                    let refused = match readable(&kind, *unit, named.is_some()) {
                        Err(reason) => Some(reason),
                        Ok(()) if not_times => Some("it holds text that is not a time".to_owned()),
                        Ok(()) => None,
                    };
                    if let Some(reason) = refused {
                        let message =
                            format!("{what}: column `{column}` is {}: {reason}", declared.data_type);
                        let hint = if kind.is_integer() && unit.is_none() {
                            format!("write `{key}: {{column: {column}, unit: s}}`, or ms, us, ns")
                        } else {
                            "name a column of times, or write an expression that makes one".to_owned()
                        };
                        self.out.push(Diagnostic::error("not_a_time", message).at(span).hint(hint));
                        good = false;
                    }
                }
                TimeRule::Expression(text) => {
                    good &= self.expression(at, key, &text.text, &columns, Purpose::Time, &what);
                }
            }
        }
        let more = [
            ("order_by", &source.order_by, Purpose::Order),
            ("delete_when", &source.delete_when, Purpose::Condition),
        ];
        for (key, text, purpose) in more {
            if let Some(text) = text {
                let what = format!("{key} of source `{name}`");
                good &= self.expression(at, key, &text.text, &columns, purpose, &what);
            }
        }
        // With a broken rule the columns still stand, so that views over them are checked as well.
        let _ = good;
        self.put(source, columns);
    }

    fn expression(
        &mut self,
        at: &Located<Definition>,
        key: &str,
        text: &str,
        columns: &[Column],
        purpose: Purpose,
        what: &str,
    ) -> bool {
        match compile(self.engine, text, columns, false, purpose) {
            Ok(_) => true,
            Err(problem) => {
                let span = at.inside(&[key], problem.start..problem.start + problem.length);
                self.problem(problem, what, span);
                false
            }
        }
    }
}

/// What an opened table or query has.
fn of_schema(opened: &Opened) -> Found {
    let Some(schema) = opened.schema() else { return Found::default() };
    let (columns, left_out) = columns_of(&schema);
    let raw = schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
    Found { columns, raw, left_out, rows: 0 }
}

fn text_or_own(kind: &DataType) -> ArrowType {
    crate::source::infer::text_type(kind)
}

/// The nearest column, or the columns there are.
pub(super) fn did_you_mean(name: &str, columns: &[Column]) -> Option<String> {
    let all = || columns.iter().map(|column| column.name.as_str());
    if let Some(near) = nearest(name, all()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let some: Vec<String> = all().take(8).map(|name| format!("`{name}`")).collect();
    let more = if columns.len() > 8 { ", ..." } else { "" };
    (!some.is_empty()).then(|| format!("its columns are {}{more}", some.join(", ")))
}
