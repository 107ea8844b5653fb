//! YAML into a tree in which everything knows its place.
//!
//! What definitions need of YAML and no more: maps with plain keys, lists, scalars. Anchors, aliases,
//! tags and directives are refused with a way out. Each document of a file is parsed alone, so one
//! that is broken hides no problem of the others.

use std::ops::Range;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle};

use crate::{Diagnostic, Diagnostics, Span};

/// Deeper documents are refused.
const DEEPEST: usize = 32;

/// One document of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// The file's path, relative to the project's folder.
    pub(crate) path: String,
    /// The whole file.
    pub(crate) text: Arc<str>,
    /// What it holds.
    pub(crate) root: Node,
}

/// A part of a document and the bytes of the file it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) range: Range<usize>,
    pub(crate) data: Data,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    /// A value as decoded, and how it was written.
    Scalar { value: String, style: ScalarStyle },
    /// `[a, b]` or lines of `- a`.
    List(Vec<Node>),
    /// Keys and values in the order written; every key is a scalar.
    Map { entries: Vec<(Node, Node)>, flow: bool },
    /// Reported already: whoever reads it says nothing more.
    Broken,
}

impl Node {
    /// The decoded value of a scalar.
    pub(crate) fn scalar(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Whether there is nothing: no value, `~` or `null`.
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(&self.data, Data::Scalar { value, style: ScalarStyle::Plain }
            if matches!(value.as_str(), "" | "~" | "null"))
    }

    /// What it is, for messages.
    pub(crate) fn shape(&self) -> &'static str {
        match &self.data {
            Data::List(_) => "a list",
            Data::Map { .. } => "a map",
            Data::Scalar { .. } if self.is_nothing() => "nothing",
            Data::Scalar { .. } => "a value",
            Data::Broken => "nothing readable",
        }
    }

    /// The value under a key of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.data {
            Data::Map { entries, .. } => {
                entries.iter().find(|(name, _)| name.scalar() == Some(key)).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

/// The place of a range of bytes of a text.
pub(crate) fn span_of(path: &str, text: &str, range: Range<usize>) -> Span {
    let start = floor(text, range.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let end = floor(text, range.end.clamp(start, line_end));
    Span {
        file: path.to_owned(),
        line: text[..start].bytes().filter(|byte| *byte == b'\n').count() + 1,
        column: text[line_start..start].chars().filter(|letter| *letter != '\u{feff}').count() + 1,
        length: text[start..end].trim_end().chars().count().max(1),
    }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The byte of the file for a byte of a scalar's decoded value: letters that are not white space are
/// in the same order in both, whatever the quotes, escapes, folds and indentation between them.
pub(crate) fn offset_in_file(text: &str, node: &Node, offset: usize) -> usize {
    let Data::Scalar { value, style } = &node.data else { return node.range.start };
    let raw = &text[node.range.clone()];
    let letters_before = value[..floor(value, offset)].chars().filter(|c| !c.is_whitespace()).count();
    let starts = letter_starts(raw, *style);
    let at_letter = value[floor(value, offset)..].chars().next().is_some_and(|c| !c.is_whitespace());
    let found = if at_letter {
        starts.get(letters_before).map(|range| range.start)
    } else {
        letters_before.checked_sub(1).and_then(|last| starts.get(last)).map(|range| {
            let spaces = value[..floor(value, offset)].chars().rev().take_while(|c| *c == ' ').count();
            (range.end + spaces).min(raw.trim_end().len().max(range.end))
        })
    };
    node.range.start + found.unwrap_or(raw.trim_end().len())
}

/// The bytes of every letter of a scalar that is not white space once decoded.
fn letter_starts(raw: &str, style: ScalarStyle) -> Vec<Range<usize>> {
    let mut starts = Vec::new();
    match style {
        ScalarStyle::Plain => {
            starts.extend(plain_letters(raw, 0));
        }
        ScalarStyle::Literal | ScalarStyle::Folded => {
            // The span may begin at the indicator or at the first line of the content.
            let header = raw.trim_start().starts_with(['|', '>']);
            let from = if header { raw.find('\n').map_or(raw.len(), |at| at + 1) } else { 0 };
            starts.extend(plain_letters(&raw[from..], from));
        }
        ScalarStyle::SingleQuoted => {
            let mut letters = raw.char_indices().skip(1).peekable();
            while let Some((at, letter)) = letters.next() {
                let mut end = at + letter.len_utf8();
                if letter == '\'' {
                    match letters.next_if(|(_, next)| *next == '\'') {
                        Some(_) => end += 1,
                        None => break,
                    }
                }
                if !letter.is_whitespace() {
                    starts.push(at..end);
                }
            }
        }
        ScalarStyle::DoubleQuoted => {
            let mut letters = raw.char_indices().skip(1).peekable();
            while let Some((at, letter)) = letters.next() {
                match letter {
                    '"' => break,
                    '\\' => {
                        let Some((_, escape)) = letters.next() else { break };
                        let digits = match escape {
                            'x' => 2,
                            'u' => 4,
                            'U' => 8,
                            _ => 0,
                        };
                        let mut end = at + 1 + escape.len_utf8();
                        for _ in 0..digits {
                            end = letters.next().map_or(end, |(at, c)| at + c.len_utf8());
                        }
                        let space = matches!(
                            escape,
                            'n' | 't' | 'r' | ' ' | '\t' | '\n' | '\r' | 'v' | 'f' | 'N' | '_' | 'L' | 'P'
                        );
                        if !space {
                            starts.push(at..end);
                        }
                    }
                    letter if !letter.is_whitespace() => starts.push(at..at + letter.len_utf8()),
                    _ => {}
                }
            }
        }
    }
    starts
}

fn plain_letters(raw: &str, from: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    raw.char_indices()
        .filter(|(_, letter)| !letter.is_whitespace())
        .map(move |(at, letter)| from + at..from + at + letter.len_utf8())
}

/// Reads all documents of a file. Empty documents are left out; broken ones come as a name salvaged
/// from their first lines, so that nobody calls missing what is only broken.
pub(crate) fn read(path: &str, text: &str, out: &mut Diagnostics) -> (Vec<Arc<Document>>, Vec<Range<usize>>) {
    let whole: Arc<str> = Arc::from(text);
    let mut documents = Vec::new();
    let mut broken = Vec::new();
    for chunk in chunks(text) {
        match read_one(path, text, chunk.clone(), out) {
            Ok(Some(root)) => {
                documents.push(Arc::new(Document { path: path.to_owned(), text: whole.clone(), root }));
            }
            Ok(None) => {}
            Err(()) => broken.push(chunk),
        }
    }
    (documents, broken)
}

/// The bytes of each document: YAML lets `---` stand at the start of a line nowhere else.
fn chunks(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        let marker = |word: &str| {
            line.strip_prefix(word)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        if marker("---") || marker("...") {
            found.push(from..at);
            from = at + 3;
        }
        at += line.len();
    }
    found.push(from..text.len());
    found
}

enum Open {
    List { range: Range<usize>, items: Vec<Node> },
    Map { range: Range<usize>, entries: Vec<(Node, Node)>, key: Option<Node>, flow: bool },
}

fn read_one(path: &str, text: &str, chunk: Range<usize>, out: &mut Diagnostics) -> Result<Option<Node>, ()> {
    let base = chunk.start;
    let place = |range: Range<usize>| span_of(path, text, range);
    let options = granit_parser::options! {
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        disallow_directives: true,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut open: Vec<Open> = Vec::new();
    let mut root: Option<Node> = None;
    let mut bad = false;
    for event in Parser::new_from_str_with_options(&text[chunk.clone()], options) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let at = base + error.marker().byte_offset().unwrap_or_default();
                out.push(syntax(path, text, chunk, at, &error.info()));
                return Err(());
            }
        };
        let range = span.byte_range().map_or(base..base, |range| base + range.start..base + range.end);
        if let Some(tag) = span.tag_span().and_then(|tag| tag.byte_range()) {
            bad = true;
            out.push(
                Diagnostic::error("yaml_tag", "tags are not part of definitions")
                    .at(place(base + tag.start..base + tag.end))
                    .hint("write the value alone; a text that starts with `!` stands in quotes"),
            );
        }
        let node = match event {
            Event::Scalar(value, style, ..) => {
                // An absent value is a plain `~` of no bytes.
                let value = if range.is_empty() && style == ScalarStyle::Plain {
                    String::new()
                } else {
                    value.into_owned()
                };
                Node { range, data: Data::Scalar { value, style } }
            }
            Event::SequenceStart(..) => {
                open.push(Open::List { range, items: Vec::new() });
                continue;
            }
            Event::MappingStart(..) => {
                let flow = text[range.start..].starts_with('{');
                open.push(Open::Map { range, entries: Vec::new(), key: None, flow });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List { range: start, items }) => {
                    let end = items.last().map_or(range.end, |last| last.range.end.max(start.end));
                    let end = if text[start.start..].starts_with('[') { range.end } else { end };
                    Node { range: start.start..end, data: Data::List(items) }
                }
                Some(Open::Map { range: start, entries, flow, .. }) => {
                    let end = if flow {
                        range.end
                    } else {
                        entries.last().map_or(start.end, |(_, last)| last.range.end)
                    };
                    Node { range: start.start..end.max(start.start), data: Data::Map { entries, flow } }
                }
                None => continue,
            },
            Event::Anchor(..) => {
                bad = true;
                out.push(
                    Diagnostic::error("yaml_anchor", "anchors are not part of definitions")
                        .at(place(range))
                        .hint("write the value out in both places; a text that starts with `&` stands in quotes"),
                );
                continue;
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                bad = true;
                out.push(
                    Diagnostic::error("yaml_alias", "aliases are not part of definitions")
                        .at(place(range.clone()))
                        .hint("write the value out; a text that starts with `*` stands in quotes"),
                );
                Node { range, data: Data::Broken }
            }
            _ => continue,
        };
        match open.last_mut() {
            None => root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some(name) => entries.push((name, node)),
                None => {
                    if matches!(node.data, Data::List(_) | Data::Map { .. }) {
                        bad = true;
                        out.push(
                            Diagnostic::error(
                                "yaml_key",
                                format!("a key is a word, and this is {}", node.shape()),
                            )
                            .at(place(node.range.clone()))
                            .hint("a value that starts with `[` or `{` stands in quotes"),
                        );
                    }
                    *key = Some(node);
                }
            },
        }
    }
    if bad {
        return Err(());
    }
    Ok(root.filter(|root| !root.is_nothing()))
}

/// A broken text: what the parser says, and the way out where the line shows it.
fn syntax(path: &str, text: &str, chunk: Range<usize>, at: usize, said: &str) -> Diagnostic {
    let at = floor(text, at.clamp(chunk.start, chunk.end));
    let line_start = text[..at].rfind('\n').map_or(0, |found| found + 1);
    let line_end = text[at..].find('\n').map_or(text.len(), |found| at + found);
    let line = &text[line_start..line_end];
    let error = Diagnostic::error("yaml_syntax", format!("this is not YAML: {said}")).at(span_of(
        path,
        text,
        at..at + 1,
    ));
    let indent = &line[..line.len() - line.trim_start().len()];
    if said.contains("nest") || said.contains("recursion") || said.contains("depth") {
        return Diagnostic { code: "yaml_too_deep".to_owned(), ..error }
            .hint(format!("definitions are at most {DEEPEST} levels deep"));
    }
    if indent.contains('\t') {
        return error.hint("indent with spaces, not tabs");
    }
    if said.starts_with("unclosed bracket") {
        let closing = if text[at..].starts_with('{') { '}' } else { ']' };
        return error.hint(format!("close it with `{closing}`"));
    }
    if said.contains("multiline quoted scalar") || said.contains("end of stream") {
        return error.hint("a quote is opened here or before, and not closed");
    }
    if let Some(quoted) = quoted_in_flow(line, at - line_start) {
        return Diagnostic { code: "quote_expression".to_owned(), ..error }
            .hint(format!("quote this expression: `{quoted}`"));
    }
    let candidates = [line, previous_line(text, line_start)];
    for (nth, line) in candidates.into_iter().enumerate() {
        if let Some(quoted) = quoted_line(line) {
            let error = if nth == 0 {
                error
            } else {
                error.at(span_of(path, text, line_start.saturating_sub(line.len() + 1)..line_start))
            };
            return Diagnostic { code: "quote_expression".to_owned(), ..error }
                .hint(format!("quote this expression: `{quoted}`"));
        }
    }
    error
}

fn previous_line(text: &str, line_start: usize) -> &str {
    text[..line_start].trim_end_matches('\n').rsplit('\n').next().unwrap_or_default()
}

/// In `{expr: coalesce(a, 'b')}` YAML ends the value at its first comma: the key whose value has a
/// bracket open at the place of the error, with the whole value in quotes.
fn quoted_in_flow(line: &str, at: usize) -> Option<String> {
    let opened = line.find('{')?;
    for (colon, _) in line[..at].match_indices(": ").filter(|(colon, _)| *colon > opened) {
        let from = colon + 2;
        if open_brackets(&line[from..at]) <= 0 {
            continue;
        }
        let key = line[..colon].rsplit(['{', ',', ' ']).next().filter(|key| !key.is_empty())?;
        let mut open = 0;
        let end = line[from..].char_indices().find_map(|(nth, letter)| {
            match letter {
                '(' | '[' => open += 1,
                ')' | ']' => open -= 1,
                ',' | '}' if open == 0 => return Some(from + nth),
                _ => {}
            }
            None
        })?;
        return Some(format!("{key}: {}", quote(line[from..end].trim())));
    }
    None
}

/// How many brackets a text leaves open.
pub(crate) fn open_brackets(text: &str) -> i64 {
    text.chars().fold(0, |open, letter| match letter {
        '(' | '[' => open + 1,
        ')' | ']' => open - 1,
        _ => open,
    })
}

/// `key: value` with its value in quotes, where the value is one that YAML would break.
fn quoted_line(line: &str) -> Option<String> {
    let trimmed = line.trim();
    let trimmed = trimmed.strip_prefix("- ").unwrap_or(trimmed);
    let (key, value) = trimmed.split_once(": ")?;
    let value = value.trim();
    let plain_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let (first, last) = (value.chars().next()?, value.chars().last()?);
    let whole = value.len() > 1 && first == last && matches!(first, '"' | '\'');
    let breaks = value.contains(": ")
        || value.ends_with(':')
        || value.contains(" #")
        || "\"'%@`&*!|>[]{},?".contains(first) && !whole;
    // Only where the key takes text: a list or a map is not mended by quotes.
    let takes_text = crate::keys::ALL.iter().filter_map(|table| table.key(key)).all(|key| {
        use crate::keys::Takes as T;
        matches!(key.takes, T::Expression | T::Query | T::Time | T::EventTime | T::Text)
            || key.takes == T::Features && value == "*"
    });
    (plain_key && breaks && takes_text && !value.starts_with('{')).then(|| format!("{key}: {}", quote(value)))
}

/// The text as a double- or single-quoted scalar, whichever needs no escapes.
pub(crate) fn quote(value: &str) -> String {
    if !value.contains(['"', '\\']) && !value.chars().any(char::is_control) {
        format!("\"{value}\"")
    } else if !value.chars().any(char::is_control) {
        format!("'{}'", value.replace('\'', "''"))
    } else {
        let escaped: String = value
            .chars()
            .map(|letter| match letter {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                '\t' => "\\t".to_owned(),
                '\r' => "\\r".to_owned(),
                control if control.is_control() => format!("\\U{:08x}", u32::from(control)),
                other => other.to_string(),
            })
            .collect();
        format!("\"{escaped}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_inside_scalars_are_found_in_every_style() {
        let text = concat!(
            "plain: a + b\n",
            "literal: |\n  a +\n    b\n",
            "folded: >-\n  a +\n  b\n",
            "single: 'a = ''x'' + b'\n",
            "double: \"a = \\\"x\\\" +\\n b\"\n",
            "many: a +\n  é + b\n",
            "stripped: |-  # why\n  a + b\n",
        );
        let mut out = Vec::new();
        let (documents, _) = read("f.yaml", text, &mut out);
        assert_eq!(out, []);
        for (key, line, column) in [
            ("plain", 1, 12),
            ("literal", 4, 5),
            ("folded", 7, 3),
            ("single", 8, 22),
            ("double", 9, 24),
            ("many", 11, 7),
            ("stripped", 13, 7),
        ] {
            let node = documents[0].root.get(key).unwrap();
            let at = node.scalar().unwrap().rfind('b').unwrap();
            let span = span_of("f.yaml", text, offset_in_file(text, node, at)..text.len());
            assert_eq!((span.line, span.column), (line, column), "{key}: {node:?}");
        }
    }

    #[test]
    fn documents_are_parsed_alone() {
        let mut out = Vec::new();
        let (documents, broken) = read("f.yaml", "a: 1\n---\nb: [\n---\nc: 3\n", &mut out);
        assert_eq!((documents.len(), broken.len(), out.len()), (2, 1, 1));
        assert_eq!(documents[1].root.get("c").unwrap().range, 21..22);
    }
}
