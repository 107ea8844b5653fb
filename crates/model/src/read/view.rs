//! Views and their features.

use std::collections::BTreeMap;

use super::fields::{Fields, Reader, is_plain, name_hint};
use super::source::quoted_column;
use super::window::is_window;
use crate::keys;
use crate::yaml::{Data, Node, open_brackets, quote};
use crate::{About, Aggregate, Call, Expression, Feature, Features, History, Length, Literal, Name, View};

/// A feature but for its name.
pub(super) struct Body {
    pub(super) expression: Expression,
    pub(super) aggregate: Option<Aggregate>,
    pub(super) default: Option<Literal>,
    pub(super) sensitivity: Option<String>,
    pub(super) about: About,
}

impl Body {
    pub(super) fn of(expression: Expression) -> Body {
        Body { expression, aggregate: None, default: None, sensitivity: None, about: About::default() }
    }

    pub(super) fn named(self, name: Name) -> Feature {
        let Body { expression, aggregate, default, sensitivity, about } = self;
        Feature { name, expression, aggregate, default, sensitivity, about }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn view(&mut self, node: &'a Node, what: &str) -> Option<View> {
        let fields = self.fields(node, &keys::VIEW, what)?;
        let name = self.name(&fields, "view");
        let entity = self.reference(&fields, "entity");
        let source = self.reference(&fields, "source");
        let keys = self.by_key(&fields, "keys");
        let mut columns: BTreeMap<&str, &Name> = BTreeMap::new();
        for (key, (column, at)) in &keys {
            if let Some(other) = columns.insert(column.as_str(), key) {
                let message =
                    format!("keys `{other}` and `{key}` of {what} are both read from column `{column}`");
                self.wrong(
                    at,
                    "duplicate_value",
                    message,
                    Some("each key has a column of its own".to_owned()),
                );
            }
        }
        let windows = self.windows(&fields, &fields);
        let ttl = self.length(&fields, "ttl");
        let retention = self.length(&fields, "retention");
        let view = View {
            keys: keys.into_iter().map(|(key, (column, _))| (key, column)).collect(),
            filter: self.expression(&fields, "where"),
            windows: windows.unwrap_or_default(),
            ttl,
            history: self.history(&fields),
            refresh: self.length(&fields, "refresh"),
            retention,
            features: self.features(&fields)?,
            about: self.about(&fields),
            name: name?,
            entity: entity?,
            source: source?,
        };
        if is_window(&fields) {
            self.window_view(&view, &fields);
        } else {
            self.latest_view(&view, &fields);
        }
        Some(view)
    }

    /// What a view without windows may not be.
    fn latest_view(&mut self, view: &View, fields: &Fields<'a>) {
        let what = &fields.what;
        for key in ["include_now", "resolution"] {
            if let Some(at) = fields.key(key) {
                let message = format!("`{key}` of {what} is of windows, and it has none");
                self.wrong(at, "no_windows", message, Some("write `windows: [7d]`, or remove it".to_owned()));
            }
        }
        if let (Some(retention), Some(at)) = (view.retention, fields.get("retention")) {
            match view.ttl {
                Some(ttl) if retention < ttl => self.wrong(
                    at,
                    "retention_too_short",
                    format!("`retention` of {what} is {retention}, less than its ttl of {ttl}"),
                    Some(format!(
                        "rows that still answer would be gone: write at least `{ttl}`, or leave it out"
                    )),
                ),
                None if fields.get("ttl").is_none() => self.wrong(
                    at,
                    "retention_without_ttl",
                    format!("`retention` of {what} would drop rows that still answer: it has no ttl"),
                    Some("set a `ttl`, or leave `retention` out".to_owned()),
                ),
                _ => {}
            }
        }
    }

    fn history(&mut self, fields: &Fields<'a>) -> History {
        let Some(node) = fields.get("history") else { return History::None };
        match node.scalar() {
            Some("all") => History::All,
            Some("none") => History::None,
            Some(text) if Length::parse(text).is_ok_and(|length| length.micros() > 0) => {
                self.length(fields, "history").map_or(History::None, History::Length)
            }
            other => {
                let found = other.unwrap_or(node.shape());
                let message = format!(
                    "`history` in {} takes a length of time, `all` or `none`, not `{found}`",
                    fields.what
                );
                self.wrong(node, "wrong_value", message, Some("e.g. `history: 30d`".to_owned()));
                History::None
            }
        }
    }

    fn features(&mut self, fields: &Fields<'a>) -> Option<Features> {
        let node = fields.get("features")?;
        let what = &fields.what;
        let windows = is_window(fields);
        match &node.data {
            Data::Scalar { value, .. } if value == "*" && windows => {
                self.not_aggregates(node, what);
                None
            }
            Data::List(items) if !items.is_empty() && windows => {
                self.not_aggregates(node, what);
                None
            }
            Data::Scalar { value, .. } if value == "*" => Some(Features::Star),
            Data::List(items) if !items.is_empty() => self.listed(items, what),
            Data::Map { entries, .. } if !entries.is_empty() => {
                if self.torn(node, what, |_| None) {
                    return None;
                }
                let mut found = Vec::new();
                for (name, key, value) in self.entries(node, &format!("`features` of {what}"))? {
                    if name.contains('.') && Name::new(name).is_err() {
                        let message = format!("feature `{name}` of {what}: the view's name is not repeated");
                        let last = name.rsplit('.').next().unwrap_or_default();
                        self.wrong(key, "bad_name", message, Some(format!("write `{last}`")));
                        continue;
                    }
                    let known = self.name_of(key, &format!("a feature of {what}"));
                    let feature = format!("feature `{name}` of {what}");
                    let read = self.feature(fields, name, (key, value), &feature);
                    if let (Some(body), Some(name)) = (read, known) {
                        found.push(body.named(name));
                    }
                }
                Some(Features::Named(found))
            }
            _ => {
                let message = format!(
                    "`features` in {what} takes `\"*\"`, a list of columns, or a map of name to expression, not {}",
                    match node.scalar() {
                        Some(value) => format!("`{value}`"),
                        None => format!("{} without entries", node.shape()),
                    }
                );
                let hint = match node.scalar() {
                    Some(value) if Name::new(value).is_ok() => Some(format!("write `features: [{value}]`")),
                    _ => None,
                };
                self.wrong(node, "wrong_value", message, hint);
                None
            }
        }
    }

    /// A feature but for its name.
    fn feature(
        &mut self,
        view: &Fields<'a>,
        name: &str,
        (key, value): (&'a Node, &'a Node),
        what: &str,
    ) -> Option<Body> {
        if value.is_nothing() {
            let hint = format!("a column of that name is `{name}: {name}`");
            self.wrong(key, "empty_value", format!("{what} has no expression"), Some(hint));
            return None;
        }
        if !matches!(value.data, Data::Map { .. }) {
            if is_window(view) {
                self.not_an_aggregate(value, name, what);
                return None;
            }
            return Some(Body::of(self.expression_of(value, name, what)?));
        }
        let fields = self.fields(value, &keys::FEATURE, what)?;
        let sensitivity = self.text(&fields, "sensitivity");
        let about = self.about(&fields);
        let default = self.constant(&fields, "default");
        let windows = self.windows(&fields, view);
        let (expression, aggregate) = match (fields.get("expr"), fields.get("agg")) {
            (Some(_), Some(agg)) => {
                let message = format!("{what} has both `expr` and `agg`");
                let hint = "`expr` is the latest value, `agg` an aggregate over windows: keep one";
                self.wrong(agg, "conflicting_keys", message, Some(hint.to_owned()));
                return None;
            }
            (Some(node), None) if is_window(view) => {
                self.not_an_aggregate(node, name, what);
                return None;
            }
            (Some(_), None) => (self.expression(&fields, "expr")?, None),
            (None, Some(node)) => {
                let call = self.sql_of(node, "agg", &format!("`agg` in {what}"), Call::parse);
                if windows.is_none() && view.get("windows").is_none() {
                    let hint = "write e.g. `windows: [7d]` beside it, or for the whole view";
                    let message = format!("{what} is an aggregate and has no windows");
                    self.wrong(fields.key("agg")?, "no_windows", message, Some(hint.to_owned()));
                }
                let text = node.scalar().unwrap_or_default().trim_end().to_owned();
                (Expression { text }, Some(Aggregate { call: call?, windows: windows.unwrap_or_default() }))
            }
            (None, None) => {
                let written = |key: &str| value.get(key).is_some();
                if !written("expr") && !written("agg") {
                    let (missing, hint) = match is_window(view) {
                        true => ("agg", "it takes a call of an aggregate, e.g. `count(*)`"),
                        false => ("expr", "it takes a SQL expression"),
                    };
                    let first = match &value.data {
                        Data::Map { entries, .. } => entries.first().map_or(value, |(key, _)| key),
                        _ => value,
                    };
                    self.wrong(first, "missing_key", format!("{what} has no `{missing}`"), Some(hint.into()));
                }
                return None;
            }
        };
        Some(Body { expression, aggregate, default, sensitivity, about })
    }

    /// `features: [a, b]`: columns as they are.
    fn listed(&mut self, items: &'a [Node], what: &str) -> Option<Features> {
        let mut found: Vec<Feature> = Vec::new();
        let mut at = 0;
        while at < items.len() {
            let item = &items[at];
            at += 1;
            let Some(text) = item.scalar().filter(|_| !item.is_nothing()) else {
                let message = format!("an item of `features` in {what} is a column, not {}", item.shape());
                let hint = "an expression has a name: write `features` as a map, `name: expression`";
                self.wrong(item, "wrong_value", message, Some(hint.to_owned()));
                continue;
            };
            if text == "*" {
                let message = format!("`*` in the list of features of {what}");
                self.wrong(
                    item,
                    "wrong_value",
                    message,
                    Some("all columns are `features: \"*\"`".to_owned()),
                );
                continue;
            }
            if is_plain(item) && open_brackets(text) > 0 {
                // YAML cut an expression at its commas: take it together again for the hint.
                let mut end = item.range.end;
                let mut open = open_brackets(text);
                while open > 0 && at < items.len() {
                    open += items[at].scalar().map_or(0, open_brackets);
                    end = items[at].range.end;
                    at += 1;
                }
                let whole = &self.document.text[item.range.start..end];
                let message = format!("an item of `features` in {what} is a column, not an expression");
                let hint =
                    format!("write `features` as a map, and quote this expression: `name: {}`", quote(whole));
                self.wrong(item, "quote_expression", message, Some(hint));
                continue;
            }
            match Name::new(text) {
                Ok(name) if found.iter().any(|other| other.name == name) => {
                    self.wrong(
                        item,
                        "duplicate_value",
                        format!("feature `{name}` of {what} is listed twice"),
                        None,
                    );
                }
                Ok(name) => {
                    found.push(Body::of(Expression::column(name.as_str())).named(name));
                }
                Err(_) if text.contains('(') => {
                    let message = format!("an item of `features` in {what} is a column, not an expression");
                    let hint = format!("write `features` as a map: `name: {}`", quote(text));
                    self.wrong(item, "wrong_value", message, Some(hint));
                }
                Err(_) => {
                    let message = format!("an item of `features` in {what}: `{text}` is not a name");
                    let near = name_hint(text);
                    let name =
                        near.rsplit_once("e.g. `").map_or("name", |(_, near)| near.trim_end_matches('`'));
                    let hint = format!("write `features` as a map: `{name}: {}`", quoted_column(text));
                    self.wrong(item, "bad_name", message, Some(hint));
                }
            }
        }
        Some(Features::Named(found))
    }
}
