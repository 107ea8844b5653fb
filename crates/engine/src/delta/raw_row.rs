//! Text files looked at once more: the texts of rows that could not be taken apart, and the keys that
//! nobody agreed on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use asof_model::Format;
use csv::{ByteRecord, ReaderBuilder, WriterBuilder};
use serde_json::value::RawValue;

use crate::source::identity::{Cursor, Held};
use crate::source::options::Options;
use crate::{Error, Result};

/// The texts of these rows, by number from 1, in one pass over the file. Blocking.
pub(crate) fn texts(
    held: &Arc<Held>,
    format: Format,
    options: &Options,
    rows: &BTreeSet<u64>,
) -> Result<BTreeMap<u64, String>> {
    match format {
        Format::Csv => csv_texts(held, options, rows),
        Format::Ndjson => {
            let mut found = BTreeMap::new();
            each_line(held, |number, line| {
                if rows.contains(&number) {
                    found.insert(number, String::from_utf8_lossy(line).trim_end().to_owned());
                }
            })?;
            Ok(found)
        }
        Format::Parquet | Format::Delta => Ok(BTreeMap::new()),
    }
}

fn csv_texts(held: &Arc<Held>, options: &Options, rows: &BTreeSet<u64>) -> Result<BTreeMap<u64, String>> {
    let failed = |e: std::io::Error| Error::io("read the file", std::path::Path::new(&held.shown), &e);
    let tabs = held.shown.to_ascii_lowercase().ends_with(".tsv");
    let delimiter = options.delimiter.unwrap_or(if tabs { b'\t' } else { b',' });
    let mut reader = ReaderBuilder::new()
        .has_headers(options.header)
        .flexible(true)
        .delimiter(delimiter)
        .quote(options.quote)
        .double_quote(options.escape.is_none())
        .escape(options.escape)
        .comment(options.comment)
        .from_reader(Cursor::new(Arc::clone(held), 0));
    let mut found = BTreeMap::new();
    let mut record = ByteRecord::new();
    let mut number = 0;
    while reader.read_byte_record(&mut record).map_err(|e| failed(e.into()))? {
        number += 1;
        if rows.contains(&number) {
            let mut writer = WriterBuilder::new()
                .delimiter(delimiter)
                .quote(options.quote)
                .flexible(true)
                .from_writer(Vec::new());
            writer.write_byte_record(&record).map_err(|e| failed(e.into()))?;
            let text = writer.into_inner().map_err(|e| failed(std::io::Error::other(e.to_string())))?;
            found.insert(number, String::from_utf8_lossy(&text).trim_end().to_owned());
        }
    }
    Ok(found)
}

/// The keys of all objects of an NDJSON file, except those `known`. Lines that are no objects are left to
/// whoever reads the rows. Blocking.
pub(crate) fn new_keys(held: &Arc<Held>, known: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let mut new = BTreeSet::new();
    each_line(held, |_, line| {
        if let Ok(object) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(line) {
            new.extend(object.into_keys().filter(|key| !known.contains(key)));
        }
    })?;
    Ok(new)
}

/// Every line that is not blank, by number from 1.
fn each_line(held: &Arc<Held>, mut see: impl FnMut(u64, &[u8])) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, Cursor::new(Arc::clone(held), 0));
    let mut line = Vec::new();
    let (mut lines, mut number) = (0_u64, 0);
    loop {
        line.clear();
        let got = reader
            .read_until(b'\n', &mut line)
            .map_err(|e| Error::io("read the file", std::path::Path::new(&held.shown), &e))?;
        if got == 0 {
            return Ok(());
        }
        lines += 1;
        let text = if lines == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
        if !text.trim_ascii().is_empty() {
            number += 1;
            see(number, text);
        }
    }
}
