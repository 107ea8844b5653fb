//! A thing that knows where it was written.

use std::ops::Range;
use std::sync::Arc;

use crate::yaml::{Data, Document, Node, offset_in_file, span_of};
use crate::{Name, Span};

/// A value and the document it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    document: Arc<Document>,
}

impl<T> Located<T> {
    pub(crate) fn new(value: T, document: Arc<Document>) -> Located<T> {
        Located { value, document }
    }

    /// Where the thing begins: the value of its first key, which is its name.
    pub fn span(&self) -> Span {
        match &self.document.root.data {
            Data::Map { entries, .. } if !entries.is_empty() => self.place(entries[0].1.range.clone()),
            _ => self.place(self.document.root.range.clone()),
        }
    }

    /// Where the value of a key stands, e.g. `["ttl"]`, `["features", "tier"]` or, in a list, its
    /// position: `["features", "0"]`. Of what is not written, the nearest thing around it.
    pub fn at(&self, path: &[&str]) -> Span {
        match self.find(path) {
            Some(node) => self.place(node.range.clone()),
            None => self.span(),
        }
    }

    /// Where a key itself stands.
    pub fn key(&self, path: &[&str]) -> Span {
        if let Some((last, before)) = path.split_last()
            && let Some(parent) = self.find(before)
            && let Data::Map { entries, .. } = &parent.data
            && let Some((key, _)) = entries.iter().find(|(key, _)| key.scalar() == Some(last))
        {
            return self.place(key.range.clone());
        }
        self.at(path)
    }

    /// Where bytes of an expression stand: the expression is the value of the key, or of `expr`, `agg` or
    /// `column` below it.
    pub fn inside(&self, path: &[&str], bytes: Range<usize>) -> Span {
        let Some(node) = self.find(path) else { return self.span() };
        let below = ["expr", "agg", "column"].into_iter().find_map(|key| node.get(key));
        self.inside_node(below.unwrap_or(node), bytes)
    }

    /// Where a feature of a view, or bytes of its expression, stand. Of a feature named with its window,
    /// `NAME_WINDOW`, it is the one written as `NAME`.
    pub fn feature(&self, name: &Name, bytes: Option<Range<usize>>) -> Span {
        let path = ["features", self.written(name)];
        match bytes {
            Some(bytes) => self.inside(&path, bytes),
            None => self.key(&path),
        }
    }

    /// Where the value of a key of a feature of a view stands.
    pub fn feature_key(&self, name: &Name, key: &str) -> Span {
        self.at(&["features", self.written(name), key])
    }

    /// The name under which a feature is written: itself, else the longest that it begins with.
    fn written<'a>(&'a self, name: &'a Name) -> &'a str {
        let Some(Data::Map { entries, .. }) = self.find(&["features"]).map(|node| &node.data) else {
            return name.as_str();
        };
        let begins = |key: &&str| name.as_str().strip_prefix(*key).is_some_and(|rest| rest.starts_with('_'));
        let keys = || entries.iter().filter_map(|(key, _)| key.scalar());
        if keys().any(|key| key == name.as_str()) {
            return name.as_str();
        }
        keys().filter(begins).max_by_key(|key| key.len()).unwrap_or(name.as_str())
    }

    fn inside_node(&self, node: &Node, bytes: Range<usize>) -> Span {
        inside(&self.document, node, bytes)
    }

    fn place(&self, range: Range<usize>) -> Span {
        span_of(&self.document.path, &self.document.text, range)
    }

    /// The node at a path, or the deepest one on the way to it.
    fn find(&self, path: &[&str]) -> Option<&Node> {
        let mut node = &self.document.root;
        for step in path {
            let next = match &node.data {
                Data::Map { .. } => node.get(step),
                Data::List(items) => items
                    .iter()
                    .find(|item| item.scalar() == Some(step))
                    .or_else(|| step.parse::<usize>().ok().and_then(|at| items.get(at))),
                Data::Scalar { .. } | Data::Broken => None,
            };
            match next {
                Some(next) => node = next,
                None if std::ptr::eq(node, &self.document.root) => return None,
                None => return Some(node),
            }
        }
        Some(node)
    }
}

/// Where bytes of a scalar's value stand in its file.
pub(crate) fn inside(document: &Document, node: &Node, bytes: Range<usize>) -> Span {
    let start = offset_in_file(&document.text, node, bytes.start);
    let end =
        if bytes.is_empty() { start + 1 } else { offset_in_file(&document.text, node, bytes.end - 1) + 1 };
    span_of(&document.path, &document.text, start..end.max(start + 1))
}
