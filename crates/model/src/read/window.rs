//! Views with windows: what they may not be, and how windows and constants are written.

use std::collections::BTreeMap;

use super::fields::{Fields, Reader, is_plain};
use crate::keys;
use crate::window::expansions;
use crate::yaml::{Data, Node, quote};
use crate::{Call, Features, Length, Literal, Name, NamedWindow, View, Window};

/// Whether a view, by the keys of its document, has windows or aggregates.
pub(super) fn is_window(view: &Fields<'_>) -> bool {
    let aggregate = |(_, value): &(Node, Node)| value.get("agg").is_some() || value.get("windows").is_some();
    let aggregates = match view.get("features").map(|node| &node.data) {
        Some(Data::Map { entries, .. }) => entries.iter().any(aggregate),
        _ => false,
    };
    aggregates || view.key("windows").is_some()
}

impl<'a> Reader<'a> {
    /// The list of windows under `windows`; none where none is written. What a window does not say, the view
    /// says.
    pub(super) fn windows(&mut self, fields: &Fields<'a>, view: &Fields<'a>) -> Option<Vec<NamedWindow>> {
        let node = fields.get("windows")?;
        let what = format!("`windows` of {}", fields.what);
        let items = match &node.data {
            Data::List(items) if !items.is_empty() => items,
            Data::List(_) => {
                let message = format!("{what} takes a list of windows, not an empty one");
                self.wrong(node, "wrong_value", message, Some("e.g. `[1h, 7d, all]`".to_owned()));
                return Some(Vec::new());
            }
            _ => {
                let hint = node.scalar().map(|one| format!("write `windows: [{one}]`"));
                self.expected(node, &what, "a list of windows", hint.or(Some("e.g. `[1h, 7d, all]`".into())));
                return Some(Vec::new());
            }
        };
        let mut found: Vec<NamedWindow> = Vec::new();
        for item in items {
            let Some(window) = self.window(item, &what, view) else { continue };
            if let Some(other) = found.iter().find(|other| other.suffix() == window.suffix()) {
                let message = format!("two windows in {what} are named `{}`", other.suffix());
                let hint = if other.window == window.window {
                    "remove one of them".to_owned()
                } else {
                    "give one of them another name with `as:`".to_owned()
                };
                self.wrong(item, "duplicate_value", message, Some(hint));
            } else {
                found.push(window);
            }
        }
        Some(found)
    }

    fn window(&mut self, node: &'a Node, what: &str, view: &Fields<'a>) -> Option<NamedWindow> {
        let what = format!("a window in {what}");
        let include_now = matches!(view.get("include_now"), Some(it) if it.scalar() == Some("true"));
        let resolution =
            view.get("resolution").and_then(Node::scalar).and_then(|text| Length::parse(text).ok());
        if !matches!(node.data, Data::Map { .. }) {
            let length = self.window_length(node, &what)?;
            let window = Window { length, offset: Length::default(), include_now, resolution: None };
            let window = self.with_resolution(node, &what, window, resolution, false)?;
            return Some(NamedWindow { window, alias: None });
        }
        let fields = self.fields(node, &keys::WINDOW, &what)?;
        let alias = self.name(&fields, "as");
        let include_now = self.boolean(&fields, "include_now").unwrap_or(include_now);
        let offset = self.length(&fields, "offset").unwrap_or_default();
        let own = match fields.get("resolution") {
            Some(node) if node.scalar() == Some("none") => Some(None),
            Some(_) => self.length(&fields, "resolution").map(Some),
            None => None,
        };
        let at = fields.get("length")?;
        let length = self.window_length(at, &format!("`length` in {what}"))?;
        let window = Window { length, offset, include_now, resolution: None };
        let at = fields.get("resolution").unwrap_or(at);
        let window = self.with_resolution(at, &what, window, own.unwrap_or(resolution), own.is_some())?;
        Some(NamedWindow { window, alias })
    }

    /// The length of a window; none of `all`.
    fn window_length(&mut self, node: &Node, what: &str) -> Option<Option<Length>> {
        if node.scalar() == Some("all") {
            return Some(None);
        }
        let length = self.length_of(node, what)?;
        if (Window::SHORTEST..=Window::LONGEST).contains(&length) {
            return Some(Some(length));
        }
        let message =
            format!("{what} is {length}, and windows are {} to {} long", Window::SHORTEST, Window::LONGEST);
        let hint = if length < Window::SHORTEST {
            "write `1m` or more; the newest rows of a key are what `last` and `last_n` give"
        } else {
            "write `365d` or less, or `all` for the whole history"
        };
        self.wrong(node, "bad_window", message, Some(hint.to_owned()));
        None
    }

    /// The window with a resolution that it can have. `all` has no lower edge to floor, so what the view says
    /// does not concern it.
    fn with_resolution(
        &mut self,
        at: &Node,
        what: &str,
        window: Window,
        resolution: Option<Length>,
        is_own: bool,
    ) -> Option<Window> {
        match (window.length, resolution) {
            (None, Some(_)) if is_own => {
                let message = format!("{what} is `all`, which has no lower edge, and has a `resolution`");
                self.wrong(at, "bad_window", message, Some("remove `resolution`".to_owned()));
                None
            }
            (None, _) => Some(window),
            (Some(length), Some(resolution)) if resolution > length => {
                let message = format!("{what} is {length} long, and its `resolution` is {resolution}");
                let hint = if is_own {
                    format!("write at most `{length}`, or remove it for an exact edge")
                } else {
                    format!("the view's holds for it: write `{{length: {length}, resolution: none}}`")
                };
                self.wrong(at, "bad_window", message, Some(hint));
                None
            }
            _ => Some(Window { resolution, ..window }),
        }
    }

    /// A constant: a number, `true`, `false`, or a text.
    pub(super) fn constant(&mut self, fields: &Fields<'a>, key: &str) -> Option<Literal> {
        let node = fields.get(key)?;
        let what = format!("`{key}` in {}", fields.what);
        let Some(text) = node.scalar() else {
            self.expected(node, &what, "a number, a text, `true` or `false`", None);
            return None;
        };
        if !is_plain(node) {
            return Some(Literal::Text(text.to_owned()));
        }
        let begins = |letter: char| letter.is_ascii_digit() || matches!(letter, '-' | '+' | '.');
        match text {
            "true" => Some(Literal::Bool(true)),
            "false" => Some(Literal::Bool(false)),
            _ => Literal::number(text).or_else(|| {
                // A date is a text; what only digits and a point make is a number that no float holds.
                let number = text.starts_with(begins)
                    && text[1..].chars().all(|letter| letter.is_ascii_digit() || letter == '.');
                if !number {
                    return Some(Literal::Text(text.to_owned()));
                }
                let message = format!("{what}: `{text}` is a number that does not fit into 64 bits");
                let hint =
                    format!("write it as a text, `{key}: \"{text}\"`: it is read in the feature's type");
                self.wrong(node, "wrong_value", message, Some(hint));
                None
            }),
        }
    }

    /// `"*"` or a list of columns in a view with windows.
    pub(super) fn not_aggregates(&mut self, node: &Node, what: &str) {
        let message = format!("{what} has windows, and its `features` are columns of one row");
        let hint = "write them as a map, `name: {agg: last(column)}`, or make a view without windows of them";
        self.wrong(node, "not_an_aggregate", message, Some(hint.to_owned()));
    }

    /// A feature of a view with windows that is an expression over one row.
    pub(super) fn not_an_aggregate(&mut self, node: &Node, name: &str, what: &str) {
        let text = node.scalar().unwrap_or_default().trim_end();
        let message = format!("{what} is not an `agg`, and the view has windows");
        let called = Call::parse(text).is_ok();
        let written = |call: &str| match call.contains([',', '#', '{', '}', '[', ']']) || call.contains(": ")
        {
            true => quote(call),
            false => call.to_owned(),
        };
        let hint = if called {
            format!("write `{name}: {{agg: {}}}` if it is one; ", written(text))
        } else {
            format!(
                "write `{name}: {{agg: {}}}` for the newest in a window; ",
                written(&format!("last({text})"))
            )
        };
        let hint = format!("{hint}the latest value of all stands in a view without windows");
        self.wrong(node, "not_an_aggregate", message, Some(hint));
    }

    /// What a view with windows may not be, and what its features would be called.
    pub(super) fn window_view(&mut self, view: &View, fields: &Fields<'a>) {
        let what = &fields.what;
        if let Some(at) = fields.key("ttl") {
            let message = format!("{what} has windows and a `ttl`");
            let hint = "the length of a window says how long a row counts: remove `ttl`";
            self.wrong(at, "conflicting_keys", message, Some(hint.to_owned()));
        }
        let Features::Named(features) = &view.features else { return };
        let entries: BTreeMap<&str, (&Node, &Node)> = match fields.get("features").map(|node| &node.data) {
            Some(Data::Map { entries, .. }) => {
                entries.iter().filter_map(|(key, value)| Some((key.scalar()?, (key, value)))).collect()
            }
            _ => BTreeMap::new(),
        };
        let mut names: BTreeMap<String, &Name> = BTreeMap::new();
        for (feature, name, window) in expansions(view, features) {
            let Some((key, value)) = entries.get(feature.name.as_str()) else { continue };
            let at = value.get("windows").unwrap_or(key);
            let ending = window.map(NamedWindow::suffix).unwrap_or_default();
            if Name::new(name.as_str()).is_err() {
                let message =
                    format!("feature `{}` of {what} with its window is `{name}`, no name", feature.name);
                let hint =
                    "names have at most 63 letters: shorten it, or give the window a short name with `as:`";
                self.wrong(at, "bad_name", message, Some(hint.to_owned()));
            } else if let Some(other) = names.insert(name.clone(), &feature.name) {
                let message = format!(
                    "features `{other}` and `{}` of {what} would both be `{name}` with their windows",
                    feature.name
                );
                let hint =
                    format!("rename one, or give its window another ending than `{ending}`: `as: other`");
                self.wrong(at, "feature_twice", message, Some(hint));
            }
        }
        let used = |windows: &[NamedWindow]| {
            features.iter().any(|it| {
                it.aggregate
                    .as_ref()
                    .is_some_and(|it| it.windows_in(view) == windows && it.windows.is_empty())
            })
        };
        if let Some(at) = fields.key("windows")
            && !features.is_empty()
            && !self.failed
            && !used(&view.windows)
        {
            let message = format!("`windows` of {what} are those of no feature");
            self.warn(at, "unused_key", message, "every feature has its own: remove them");
        }
        self.retained(view, fields);
    }

    /// Rows that a window may still ask for are not to be gone.
    fn retained(&mut self, view: &View, fields: &Fields<'a>) {
        let (Some(retention), Some(at)) = (view.retention, fields.get("retention")) else { return };
        let Features::Named(features) = &view.features else { return };
        let all = features.iter().filter_map(|it| it.aggregate.as_ref()).flat_map(|it| it.windows_in(view));
        let what = &fields.what;
        let mut longest = None;
        for window in all {
            let Some(reach) = window.window.reach() else {
                let message = format!(
                    "`retention` of {what} would drop rows that still count: a window of it is `all`"
                );
                self.wrong(at, "retention_too_short", message, Some("leave `retention` out".to_owned()));
                return;
            };
            longest = longest.max(Some(reach));
        }
        if let Some(reach) = longest.filter(|reach| retention < *reach) {
            let message =
                format!("`retention` of {what} is {retention}, and a window of it reaches {reach} back");
            let hint =
                format!("rows that still count would be gone: write at least `{reach}`, or leave it out");
            self.wrong(at, "retention_too_short", message, Some(hint));
        }
    }
}
