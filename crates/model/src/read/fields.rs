//! The keys of one map, checked against their table, and the readers of plain values.

use std::collections::BTreeMap;

use granit_parser::ScalarStyle;

use super::source::quoted_column;
use crate::keys::{Key, Table, Takes};
use crate::located::inside;
use crate::nearest::did_you_mean;
use crate::yaml::{Data, Document, Node, open_brackets, quote, span_of};
use crate::{Diagnostic, Diagnostics, Expression, ExpressionError, Length, Name, Reference, Span};

/// Reads one document and collects what is wrong with it.
pub(super) struct Reader<'a> {
    pub(super) document: &'a Document,
    pub(super) out: &'a mut Diagnostics,
    /// Whether an error was found: the definition cannot be used.
    pub(super) failed: bool,
    /// Whether of a source that is wrong elsewhere it is known where its rows are and what columns it has.
    pub(super) readable: bool,
    /// Whether its columns are known by their names alone.
    pub(super) untyped: bool,
}

/// The keys of a map that its table knows.
pub(super) struct Fields<'a> {
    pub(super) table: &'static Table,
    /// What the map is of, for messages: ``view `seller_profile` ``.
    pub(super) what: String,
    entries: BTreeMap<&'static str, (&'a Node, &'a Node)>,
}

impl<'a> Fields<'a> {
    /// The value of a key that was written.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.table.key(key).is_some(), "{key} is not in the table");
        self.entries.get(key).map(|(_, value)| *value)
    }

    /// The key itself, where it was written.
    pub(super) fn key(&self, key: &str) -> Option<&'a Node> {
        self.entries.get(key).map(|(key, _)| *key)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(document: &'a Document, out: &'a mut Diagnostics) -> Reader<'a> {
        Reader { document, out, failed: false, readable: false, untyped: false }
    }

    pub(super) fn place(&self, node: &Node) -> Span {
        span_of(&self.document.path, &self.document.text, node.range.clone())
    }

    /// Reports an error at a node.
    pub(super) fn wrong(&mut self, node: &Node, code: &str, message: String, hint: Option<String>) {
        self.failed = true;
        if !matches!(node.data, Data::Broken) {
            let span = self.place(node);
            self.out.push(Diagnostic::error(code, message).at(span).maybe_hint(hint));
        }
    }

    pub(super) fn warn(&mut self, node: &Node, code: &str, message: String, hint: &str) {
        let span = self.place(node);
        self.out.push(Diagnostic::warning(code, message).at(span).hint(hint));
    }

    pub(super) fn expected(&mut self, node: &Node, what: &str, expected: &str, hint: Option<String>) {
        let message = format!("{what} takes {expected}, not {}", self.shown(node));
        self.wrong(node, "wrong_value", message, hint);
    }

    /// A short value itself, else what it is.
    fn shown(&self, node: &Node) -> String {
        match node.scalar() {
            Some(value) if !node.is_nothing() && value.chars().count() <= 60 && !value.contains('\n') => {
                format!("`{value}`")
            }
            _ => node.shape().to_owned(),
        }
    }

    /// The entries of a map with text keys, duplicates reported.
    pub(super) fn entries(
        &mut self,
        node: &'a Node,
        what: &str,
    ) -> Option<Vec<(&'a str, &'a Node, &'a Node)>> {
        let Data::Map { entries, .. } = &node.data else {
            self.expected(node, what, "a map", None);
            return None;
        };
        let mut found: Vec<(&str, &Node, &Node)> = Vec::new();
        for (key, value) in entries {
            let Some(name) = key.scalar() else {
                self.failed = true;
                continue;
            };
            if let Some((_, first, _)) = found.iter().find(|(other, ..)| *other == name) {
                let line = self.place(first).line;
                self.wrong(
                    key,
                    "duplicate_key",
                    format!("key `{name}` is written twice in {what}"),
                    Some(format!("it stands on line {line} already; keep one of them")),
                );
            } else {
                found.push((name, key, value));
            }
        }
        Some(found)
    }

    /// The keys of a map by its table. Unknown, unbuilt and missing keys are reported.
    pub(super) fn fields(&mut self, node: &'a Node, table: &'static Table, what: &str) -> Option<Fields<'a>> {
        let mut fields = Fields { table, what: what.to_owned(), entries: BTreeMap::new() };
        let entries = self.entries(node, what)?;
        let torn = self.torn(node, what, |name| {
            let takes = &table.key(name)?.takes;
            Some(matches!(
                takes,
                Takes::Expression | Takes::Call | Takes::Time | Takes::EventTime | Takes::Query
            ))
        });
        for (name, key, value) in entries {
            let Some(known) = table.key(name) else {
                if torn && value.is_nothing() {
                    continue;
                }
                let names = table.keys.iter().filter(|key| !matches!(key.takes, Takes::NotYet(_)));
                let hint = did_you_mean(name, names.map(|key| key.name), "its keys are");
                self.wrong(key, "unknown_key", format!("{what} has no key `{name}`"), hint);
                continue;
            };
            if let Takes::NotYet(instead) = known.takes {
                let message = format!("`{name}` in {what} is not built yet");
                self.wrong(key, "not_built_yet", message, Some(instead.to_owned()));
                continue;
            }
            if value.is_nothing() && !matches!(known.takes, Takes::EventTime) {
                let message = format!("`{name}` in {what} has no value");
                self.wrong(key, "empty_value", message, Some(format!("it takes {}", takes(known))));
                continue;
            }
            fields.entries.insert(known.name, (key, value));
        }
        let written = |name: &str| node.get(name).is_some();
        for key in table.keys.iter().filter(|key| key.required && !written(key.name)) {
            let first = match &node.data {
                Data::Map { entries, .. } => entries.first().map_or(node, |(key, _)| key),
                _ => node,
            };
            let hint = format!("it takes {}", takes(key));
            self.wrong(first, "missing_key", format!("{what} has no `{}`", key.name), Some(hint));
        }
        Some(fields)
    }

    /// In `{expr: coalesce(a, b)}` YAML ends the value at the comma: the rest looks like a key. `known`:
    /// whether a key takes an expression; none where there is no such key.
    pub(super) fn torn(&mut self, node: &Node, what: &str, known: impl Fn(&str) -> Option<bool>) -> bool {
        let Data::Map { entries, flow: true } = &node.data else { return false };
        let mut found = false;
        for (nth, (key, value)) in entries.iter().enumerate() {
            let is_expression = key.scalar().and_then(&known).unwrap_or(true);
            let Some(text) = value.scalar().filter(|_| is_expression && is_plain(value)) else { continue };
            let mut open = open_brackets(text);
            let rest: Vec<&(Node, Node)> = entries[nth + 1..]
                .iter()
                .take_while(|(key, value)| {
                    let torn_off = |key: &str| open > 0 && value.range.is_empty() && known(key).is_none();
                    let found = key.scalar().is_some_and(torn_off);
                    open += key.scalar().map_or(0, open_brackets);
                    found
                })
                .collect();
            if let Some((last, _)) = rest.last()
                && open_brackets(text) > 0
            {
                let whole = self.document.text[value.range.start..last.range.end].to_owned();
                let key = key.scalar().unwrap_or_default();
                let message = format!("YAML ends the expression of `{key}` in {what} at a comma");
                let hint = format!("quote this expression: `{key}: {}`", quote(&whole));
                self.wrong(value, "quote_expression", message, Some(hint));
                found = true;
            }
        }
        found
    }

    pub(super) fn text(&mut self, fields: &Fields<'a>, key: &str) -> Option<String> {
        let node = fields.get(key)?;
        match node.scalar() {
            Some(value) if !value.trim().is_empty() => Some(value.trim_end().to_owned()),
            _ => {
                self.expected(node, &format!("`{key}` in {}", fields.what), "a text", None);
                None
            }
        }
    }

    pub(super) fn texts(&mut self, fields: &Fields<'a>, key: &str) -> Vec<String> {
        let Some(node) = fields.get(key) else { return Vec::new() };
        let what = format!("`{key}` in {}", fields.what);
        let Data::List(items) = &node.data else {
            self.expected(
                node,
                &what,
                "a list of words",
                node.scalar().map(|word| format!("write `{key}: [{word}]`")),
            );
            return Vec::new();
        };
        let mut found: Vec<String> = Vec::new();
        for item in items {
            match item.scalar() {
                Some(word) if !item.is_nothing() && !found.iter().any(|other| other == word) => {
                    found.push(word.to_owned());
                }
                Some(word) if !item.is_nothing() => {
                    self.wrong(item, "duplicate_value", format!("{what} holds `{word}` twice"), None);
                }
                _ => self.expected(item, &format!("an item of {what}"), "a word", None),
            }
        }
        found
    }

    pub(super) fn name_of(&mut self, node: &Node, what: &str) -> Option<Name> {
        let Some(text) = node.scalar().filter(|_| !node.is_nothing()) else {
            self.expected(node, what, "a name", None);
            return None;
        };
        match Name::new(text) {
            Ok(name) => Some(name),
            Err(_) => {
                let message = format!("{what}: `{text}` is not a name");
                self.wrong(node, "bad_name", message, Some(name_hint(text)));
                None
            }
        }
    }

    pub(super) fn name(&mut self, fields: &Fields<'a>, key: &str) -> Option<Name> {
        let node = fields.get(key)?;
        self.name_of(node, &format!("`{key}` in {}", fields.what))
    }

    pub(super) fn reference(&mut self, fields: &Fields<'a>, key: &str) -> Option<Reference> {
        let node = fields.get(key)?;
        let Some(text) = node.scalar() else {
            self.expected(node, &format!("`{key}` in {}", fields.what), "a name or `project.name`", None);
            return None;
        };
        let parts: Result<Vec<Name>, _> = text.split('.').map(Name::new).collect();
        match parts.as_deref() {
            Ok([name]) => Some(Reference { project: None, name: name.clone() }),
            Ok([project, name]) => Some(Reference { project: Some(project.clone()), name: name.clone() }),
            _ => {
                let message = format!("`{key}` in {}: `{text}` is not a name or `project.name`", fields.what);
                self.wrong(node, "bad_name", message, Some(name_hint(text)));
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, fields: &Fields<'a>, key: &str) -> Option<bool> {
        let node = fields.get(key)?;
        match node.scalar().filter(|_| is_plain(node)) {
            Some("true") => Some(true),
            Some("false") => Some(false),
            other => {
                let hint = match other.map(str::to_lowercase).as_deref() {
                    Some("yes" | "on" | "y" | "true" | "1") => Some("write `true`".to_owned()),
                    Some("no" | "off" | "n" | "false" | "0") => Some("write `false`".to_owned()),
                    _ if node.scalar().is_some() => {
                        Some("write it without quotes: `true` or `false`".to_owned())
                    }
                    _ => None,
                };
                self.expected(node, &format!("`{key}` in {}", fields.what), "`true` or `false`", hint);
                None
            }
        }
    }

    pub(super) fn choice(&mut self, fields: &Fields<'a>, key: &str) -> Option<&'static str> {
        let node = fields.get(key)?;
        let Some(Key { takes: Takes::Choice(words), .. }) = fields.table.key(key) else { return None };
        let found = words.iter().find(|word| node.scalar() == Some(**word));
        if found.is_none() {
            let hint = did_you_mean(node.scalar().unwrap_or_default(), words.iter().copied(), "it is one of");
            self.expected(
                node,
                &format!("`{key}` in {}", fields.what),
                &format!("one of {}", words.join(", ")),
                hint,
            );
        }
        found.copied()
    }

    /// A length of time that is not zero.
    pub(super) fn length(&mut self, fields: &Fields<'a>, key: &str) -> Option<Length> {
        self.length_of(fields.get(key)?, &format!("`{key}` in {}", fields.what))
    }

    /// The same, of a value: `what` it is, for messages.
    pub(super) fn length_of(&mut self, node: &Node, what: &str) -> Option<Length> {
        let Some(text) = node.scalar() else {
            self.expected(node, what, "a length of time", Some("e.g. `90d`".to_owned()));
            return None;
        };
        match Length::parse(text) {
            Ok(length) if length.micros() > 0 => Some(length),
            Ok(_) => {
                self.wrong(
                    node,
                    "wrong_value",
                    format!("{what} is longer than zero"),
                    Some("leave it out, or write e.g. `90d`".to_owned()),
                );
                None
            }
            Err(_) => {
                let number = text.parse::<u64>().is_ok();
                let hint = if number {
                    format!("a number needs a unit: `{text}s`, `{text}h`, `{text}d`")
                } else {
                    "write a whole number and a unit: 90d, 1h, 15m, 30s, 500ms".to_owned()
                };
                self.expected(node, what, "a length of time", Some(hint));
                None
            }
        }
    }

    pub(super) fn expression(&mut self, fields: &Fields<'a>, key: &str) -> Option<Expression> {
        let node = fields.get(key)?;
        self.expression_of(node, key, &format!("`{key}` in {}", fields.what))
    }

    /// An expression, with the caret inside it; what YAML broke is shown with its quotes.
    pub(super) fn expression_of(&mut self, node: &Node, key: &str, what: &str) -> Option<Expression> {
        self.sql_of(node, key, what, |text| Expression::parse(text))
    }

    /// What `parse` makes of a text of SQL.
    pub(super) fn sql_of<T>(
        &mut self,
        node: &Node,
        key: &str,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, ExpressionError>,
    ) -> Option<T> {
        let Some(text) = node.scalar() else {
            let written = self.first_line(node);
            let hint = match &node.data {
                Data::List(_) | Data::Map { .. } if !written.is_empty() => {
                    Some(format!("quote this expression: `{key}: {}`", quote(&written)))
                }
                _ => None,
            };
            self.expected(node, what, "an expression", hint);
            return None;
        };
        match parse(text.trim_end()) {
            Ok(found) => Some(found),
            Err(error) => {
                self.wrong_expression(node, key, what, &error);
                None
            }
        }
    }

    pub(super) fn wrong_expression(&mut self, node: &Node, key: &str, what: &str, error: &ExpressionError) {
        self.failed = true;
        if let Some(whole) = self.cut_by_comment(node) {
            let span = self.place(node);
            let message = format!("YAML ends {what} at ` #`, where a comment begins");
            let hint = format!("quote this expression: `{key}: {}`", quote(&whole));
            self.out.push(Diagnostic::error("quote_expression", message).at(span).hint(hint));
            return;
        }
        let span = inside(self.document, node, error.offset..error.offset + error.length);
        let message = format!("{what}: {}", error.message);
        let of_one = error.code == "expression_syntax" && key != "sql";
        let spaced = || node.scalar().filter(|_| of_one).and_then(|text| spaced_column(text, key));
        let hint = error.hint.clone().or_else(spaced);
        self.out.push(Diagnostic::error(error.code, message).at(span).maybe_hint(hint));
    }

    /// The whole text of a plain value that a `#` cut short.
    fn cut_by_comment(&self, node: &Node) -> Option<String> {
        let text = &self.document.text;
        let rest = text[node.range.end..].lines().next()?;
        (is_plain(node) && rest.trim_start().starts_with('#') && rest.starts_with(' '))
            .then(|| format!("{}{}", &text[node.range.clone()], rest.trim_end()))
    }

    fn first_line(&self, node: &Node) -> String {
        let text = &self.document.text[node.range.clone()];
        text.lines().next().unwrap_or_default().trim_end().to_owned()
    }
}

/// What to say of words that may be the name of a column with spaces in it.
fn spaced_column(text: &str, key: &str) -> Option<String> {
    let words: Vec<&str> = text.trim_end().split(' ').collect();
    let is_word = |word: &&str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let of_sql = [
        "and", "or", "not", "is", "in", "like", "between", "case", "when", "then", "else", "end", "select",
        "from", "asc", "desc", "null",
    ];
    let spoken = |word: &&str| of_sql.contains(&word.to_lowercase().as_str());
    (words.len() > 1 && words.iter().all(is_word) && !words.iter().any(spoken)).then(|| {
        let column = quoted_column(&words.join(" "));
        format!("if it is the name of a column, quote it twice: `{key}: {column}`")
    })
}

/// What a key takes, for hints and the reference page.
pub(crate) fn takes(key: &Key) -> String {
    match key.takes {
        Takes::Name => "a name".to_owned(),
        Takes::Reference => "a name, or `project.name`".to_owned(),
        Takes::Text => "a text".to_owned(),
        Takes::Texts => "a list of words".to_owned(),
        Takes::Expression => "a SQL expression".to_owned(),
        Takes::Query => "a SQL query".to_owned(),
        Takes::Length => "a length of time, e.g. `90d`".to_owned(),
        Takes::History => "a length of time, `all` or `none`".to_owned(),
        Takes::WindowLength => "a length of time from `1m` to `365d`, or `all`".to_owned(),
        Takes::Resolution => "a length of time, or `none`".to_owned(),
        Takes::Windows => "a list of windows, e.g. `[1h, 7d, all]`".to_owned(),
        Takes::Call => "a call of an aggregate, e.g. `mean(price)`".to_owned(),
        Takes::Constant => "a number, a text, `true` or `false`".to_owned(),
        Takes::Bool => "`true` or `false`".to_owned(),
        Takes::Choice(words) => format!("one of {}", words.join(", ")),
        Takes::Past => "a path, or `{path, format, options, until}`".to_owned(),
        Takes::Instant => "a time, e.g. `2025-01-01T00:00:00Z`".to_owned(),
        Takes::Time => "a column, `{column, unit, zone}` or an expression".to_owned(),
        Takes::EventTime => "a column, `{column, unit, zone}`, an expression, or `none`".to_owned(),
        Takes::KeyTypes => "a map of key to type, e.g. `{seller_id: int64}`".to_owned(),
        Takes::ColumnTypes => "a map of column to type, e.g. `{price: float64}`".to_owned(),
        Takes::KeyColumns => "a map of entity key to column".to_owned(),
        Takes::KeyNames => "a map of entity key to its name in requests".to_owned(),
        Takes::Features => "`\"*\"`, a list of columns, or a map of name to expression".to_owned(),
        Takes::DerivedFeatures => "a map of name to expression".to_owned(),
        Takes::Labels => "a list of labels, e.g. `- {from: view.feature, after: 7d}`".to_owned(),
        Takes::Picks => "a list of features, e.g. `- view.feature`".to_owned(),
        Takes::Options => "a map of option to value".to_owned(),
        Takes::Size => "a number of bytes, e.g. `8GB`".to_owned(),
        Takes::Count => "a whole number, at least 1".to_owned(),
        Takes::Share => "a number from 0 to 1".to_owned(),
        Takes::NotYet(_) => "nothing yet".to_owned(),
    }
}

pub(super) fn is_plain(node: &Node) -> bool {
    matches!(&node.data, Data::Scalar { style: ScalarStyle::Plain, .. })
}

/// A name near the text, and the rule.
pub(super) fn name_hint(text: &str) -> String {
    let mut near = String::new();
    for letter in text.chars() {
        if letter.is_ascii_uppercase()
            && near.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        {
            near.push('_');
        }
        near.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' });
    }
    let near = near.trim_matches(|c: char| c == '_' || c.is_ascii_digit()).to_owned();
    let rule = "a name starts with a lower-case letter and has at most 63 lower-case letters, digits and underscores";
    match Name::new(near) {
        Ok(near) if near.as_str() != text => format!("{rule}, e.g. `{near}`"),
        _ => rule.to_owned(),
    }
}
