//! Single rows of held Parquet files, by the addresses that a scan gave.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use asof_model::{Column, Source};

use super::exec::ROW_BITS;
use super::files::OpenFile;
use super::rules::{FileRules, Given, Place, Rules};
use super::{FetchRows, ScanColumns, fixed};
use crate::{Engine, Error, Result};

/// Rows of the files of one scan.
pub(crate) struct FilesFetch {
    engine: Engine,
    source: Source,
    columns: Vec<Column>,
    files: Arc<Vec<OpenFile>>,
    given: Given,
    /// Some files hold the past of a push source.
    past: bool,
    /// Rules made for the columns asked for before; a caller asks for few sets, many times.
    made: Mutex<BTreeMap<Vec<String>, FileRules>>,
}

impl fmt::Debug for FilesFetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesFetch").field("source", &self.source.name).finish_non_exhaustive()
    }
}

/// The bits of an address that number the row within its file.
const ROW: u64 = (1 << ROW_BITS) - 1;

/// Rows read at once.
const BATCH: usize = 8_192;

impl FilesFetch {
    pub(crate) fn new(
        engine: &Engine,
        source: &Source,
        columns: &[Column],
        files: &Arc<Vec<OpenFile>>,
        given: Given,
    ) -> FilesFetch {
        let past = files.iter().any(OpenFile::is_past);
        FilesFetch {
            engine: engine.clone(),
            source: source.clone(),
            columns: columns.to_vec(),
            files: Arc::clone(files),
            given,
            past,
            made: Mutex::default(),
        }
    }

    fn rules(&self, columns: &[String]) -> Result<FileRules> {
        let lock = || self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(rules) = lock().get(columns) {
            return Ok(rules.clone());
        }
        let own = |name: &String| fixed::ALL.contains(&name.as_str());
        let want = ScanColumns {
            columns: columns.iter().filter(|name| !own(name)).cloned().collect(),
            ..ScanColumns::default()
        };
        let made = |given: &Given| {
            let given = if columns.iter().any(own) { given.clone() } else { Given::Unwanted };
            let name = self.source.name.as_str();
            Rules::over(&self.engine, name, &self.source, &self.columns, &want, given)
        };
        let past = self.past.then(|| made(&Given::Nothing)).transpose()?;
        let rules = FileRules::new(made(&self.given)?, past);
        lock().insert(columns.to_vec(), rules.clone());
        Ok(rules)
    }
}

impl FetchRows for FilesFetch {
    fn fetch(
        &self,
        addresses: &[u64],
        columns: &[String],
        take: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let rules = self.rules(columns)?;
        let order: Vec<usize> =
            columns.iter().map(|name| rules.own().schema().index_of(name)).collect::<Result<_, _>>()?;
        let mut rest = addresses;
        while let Some(first) = rest.first() {
            let at = usize::try_from(first >> ROW_BITS).unwrap_or(usize::MAX);
            let file = self
                .files
                .get(at)
                .ok_or_else(|| Error::internal(format!("no file has the address {first}")))?;
            let rules = rules.of(file);
            let ours = rest.iter().take_while(|address| **address >> ROW_BITS == first >> ROW_BITS).count();
            let (mut ours, after) = rest.split_at(ours);
            rest = after;
            let mut rows: Vec<u64> = ours.iter().map(|address| address & ROW).collect();
            if !rows.is_sorted() {
                return Err(Error::internal("addresses to be fetched do not ascend"));
            }
            rows.dedup();
            for (group, (first, count)) in file.groups().into_iter().enumerate() {
                let from = rows.partition_point(|row| *row < first);
                let to = rows.partition_point(|row| *row < first + count);
                if from == to {
                    continue;
                }
                let mut within = &rows[from..to];
                for batch in
                    file.read_selected(group, rules, BATCH, within.iter().map(|row| row - first).collect())?
                {
                    let raw = batch?;
                    let Some((numbers, later)) = within.split_at_checked(raw.num_rows()) else {
                        return Err(Error::internal("more rows were found than were to be fetched"));
                    };
                    within = later;
                    let before = numbers.first().copied();
                    let found =
                        rules.apply(&raw, Place { file: file.shown(), before }, 0)?.project(&order)?;
                    // Rows asked for twice are given twice.
                    let last = numbers.last().copied().unwrap_or_default();
                    let (asked, others) = ours.split_at(ours.partition_point(|at| at & ROW <= last));
                    ours = others;
                    if asked.len() == numbers.len() {
                        take(found)?;
                        continue;
                    }
                    let places = asked.iter().map(|at| numbers.partition_point(|row| *row < at & ROW) as u64);
                    take(take_record_batch(&found, &places.collect::<UInt64Array>())?)?;
                }
                if !within.is_empty() {
                    return Err(Error::internal(format!(
                        "{} rows to be fetched were not found",
                        within.len()
                    )));
                }
            }
            if !ours.is_empty() {
                return Err(Error::internal("rows to be fetched are in no row group"));
            }
        }
        Ok(())
    }

    fn read_together(&self, address: u64) -> u64 {
        let (file, row) = (address >> ROW_BITS, address & ROW);
        let groups = usize::try_from(file).ok().and_then(|at| self.files.get(at)).map(OpenFile::groups);
        let end = groups.into_iter().flatten().map(|(first, rows)| first + rows).find(|end| row < *end);
        file << ROW_BITS | end.unwrap_or(row + 1)
    }
}
