//! `asof load` into a source that is pushed to: its past, accepted as pushed rows are, but for `v`, which is
//! each row's own: `available_at` where the source names one, else `e`.
//!
//! A file is taken in parts, each in one batch with the word of how much of the file is in: a load that is cut
//! off goes on behind its last part, and a file whose content was taken is passed over, whatever its name.
//! Nothing of any file is taken before every row of all of them was found good.

use std::sync::Arc;
use std::time::Duration;

use asof_engine::delta::{FileLoad, LoadFile, LoadedRows, OnBadRow, ReadFile};
use asof_engine::{Error as EngineError, Progress, ProgressEvent};
use asof_model::{Explain as _, SourceVersion};
use asof_online::live::{Accepted, Durability, LiveStore, SourceNumber, TableNumber, Writing};
use tokio::sync::mpsc;

use crate::materialize::blocking;
use crate::push::{Live, accept, refuse_long_keys};
use crate::{Flow, FlowError, Result};

/// The entries that say how much of a file is in: `docs/formats/live-entries.md`.
const LOADED: Option<TableNumber> = TableNumber::new(2);

/// The first byte of a value: `docs/formats/live-entries.md`.
const LOADED_FORMAT: u8 = 1;

/// How often a part that finds the store busy is tried, and the pause between.
const TRIES: usize = 600;
const PAUSE: Duration = Duration::from_millis(100);

/// What of a file was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    /// Its rows up to this one, from 1; bad ones count.
    through: u64,
    /// All of it.
    whole: bool,
}

impl Taken {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![LOADED_FORMAT, u8::from(self.whole)];
        bytes.extend_from_slice(&self.through.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Taken> {
        match bytes {
            [LOADED_FORMAT, whole @ (0 | 1), through @ ..] if through.len() == 8 => {
                let mut number = [0; 8];
                number.copy_from_slice(through);
                Ok(Taken { through: u64::from_le_bytes(number), whole: *whole == 1 })
            }
            _ => Err(FlowError::Internal {
                what: "the store of live rows says of a loaded file what this Asof does not know".to_owned(),
            }),
        }
    }
}

fn entries() -> Result<TableNumber> {
    LOADED.ok_or_else(|| FlowError::Internal { what: "a table of live entries has no number".to_owned() })
}

fn key(source: SourceNumber, mark: &str) -> Vec<u8> {
    let mut key = source.0.to_be_bytes().to_vec();
    key.extend_from_slice(mark.as_bytes());
    key
}

fn taken(store: &dyn LiveStore, key: &[u8]) -> Result<Taken> {
    let value = store.read()?.get(entries()?, key)?;
    value.map_or(Ok(Taken::default()), |value| Taken::read(&value))
}

impl Flow {
    /// Loads files into a source that is pushed to; what became of each, and the last position given.
    pub(crate) async fn load_pushed(
        &self,
        source: &Arc<SourceVersion>,
        mut files: Vec<LoadFile>,
        on_bad_row: OnBadRow,
        progress: &Progress,
    ) -> Result<(Vec<FileLoad>, Option<i64>)> {
        let Some(live) = self.live.clone() else {
            return Err(FlowError::Internal { what: "this node takes no pushed rows".to_owned() });
        };
        files.sort_by(|a, b| a.name.cmp(&b.name));
        // One at a time: what is said of a file is read, and written with its next part.
        let _alone = Arc::clone(&live.loading).lock_owned().await;
        let _loading = self.live_views.as_ref().map(|views| views.loading(&source.address));
        let table = self.engine.table_of(source)?;
        let number = {
            let live = Arc::clone(&live);
            blocking(move || live.number(&table)).await?
        };
        let mut known = Vec::with_capacity(files.len());
        for file in &files {
            let read = self.engine.identify(source, file).await?;
            let (store, at) = (Arc::clone(&live.store), key(number, &read.mark));
            known.push((blocking(move || taken(store.as_ref(), &at)).await?, read));
        }
        let asked = |file: &LoadFile, mark: &str, after| ReadFile {
            file: file.clone(),
            mark: mark.to_owned(),
            after,
            on_bad_row,
            intake: None,
        };
        // All of them are looked at before anything of any is taken.
        for (file, (taken, read)) in files.iter().zip(&known) {
            if !taken.whole {
                self.look_at_file(&live, source, &asked(file, &read.mark, taken.through)).await?;
            }
        }
        let (mut done, mut rows, mut last_given) = (Vec::with_capacity(files.len()), 0, None);
        let mut marks: Vec<String> = Vec::new();
        for (file, (taken, read)) in files.iter().zip(known) {
            let mut report = FileLoad {
                name: file.name.clone(),
                hash: read.hash,
                loaded_before: taken.whole || marks.contains(&read.mark),
                went_on_behind: if taken.whole { 0 } else { taken.through },
                rows: 0,
                quarantined: 0,
                positions: None,
            };
            if !report.loaded_before {
                let (at, before) = (key(number, &read.mark), rows);
                let tell = |taken| {
                    let done = before + taken;
                    progress(ProgressEvent { phase: "load", done, total: None, unit: "rows" });
                };
                let into = Destination { live: &live, source, at: &at };
                let asked = asked(file, &read.mark, taken.through);
                self.take_file(&into, &asked, &mut report, &tell).await?;
                rows += report.rows;
                last_given = report.positions.map(|(_, last)| last).max(last_given);
                marks.push(read.mark);
            }
            done.push(report);
        }
        Ok((done, last_given))
    }

    /// Finds the first row of a file past so many that may not be taken in.
    async fn look_at_file(&self, live: &Live, source: &Arc<SourceVersion>, asked: &ReadFile) -> Result<()> {
        let asked = self.with_intake_of(live, source, asked).await?;
        let (to, mut from) = mpsc::channel(2);
        let reading = self.engine.read_file(source, &asked, to);
        let looking = async {
            while from.recv().await.is_some() {
                if self.stop.is_cancelled() {
                    return Err(FlowError::Stopping);
                }
            }
            Ok(())
        };
        both(reading, looking).await.map(drop)
    }

    /// The same, with what views make of the rows asked as well.
    async fn with_intake_of(
        &self,
        live: &Live,
        source: &Arc<SourceVersion>,
        asked: &ReadFile,
    ) -> Result<ReadFile> {
        let ready = self.ready(live, &source.address).await?;
        Ok(ReadFile { intake: Some(ready.intake), ..asked.clone() })
    }

    /// Takes the rows of a file past so many, part by part, and says that it is in.
    async fn take_file(
        &self,
        into: &Destination<'_>,
        asked: &ReadFile,
        report: &mut FileLoad,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        // Those that are to be passed over are found again.
        let asked = match asked.on_bad_row {
            OnBadRow::Quarantine => self.with_intake_of(into.live, into.source, asked).await?,
            OnBadRow::Stop => asked.clone(),
        };
        let (to, mut from) = mpsc::channel(2);
        let reading = self.engine.read_file(into.source, &asked, to);
        let mut through = asked.after;
        let taking = async {
            while let Some(part) = from.recv().await {
                through = part.through;
                let given = self.accept_part(into, Arc::new(part)).await?;
                if given.count > 0 {
                    let last = given.first.0 + i64::from(given.count) - 1;
                    let first = report.positions.map_or(given.first.0, |(first, _)| first);
                    report.positions = Some((first, last));
                }
                report.rows += u64::from(given.count);
                tell(report.rows);
            }
            Ok(())
        };
        let quarantined = both(reading, taking).await?.quarantined;
        report.quarantined = quarantined;
        let (store, at) = (Arc::clone(&into.live.store), into.at.to_vec());
        blocking(move || {
            let (entries, value) = (entries()?, Taken { through, whole: true }.bytes());
            Ok(store.write(&mut |_, writing| writing.put(entries, &at, &value))?)
        })
        .await
    }

    /// Has a part of a file accepted with the word of it.
    async fn accept_part(&self, into: &Destination<'_>, part: Arc<LoadedRows>) -> Result<Accepted> {
        let table = self.engine.table_of(into.source)?;
        for _ in 0..TRIES {
            if self.stop.is_cancelled() {
                return Err(FlowError::Stopping);
            }
            let ready = self.ready(into.live, &into.source.address).await?;
            if *ready.table != *table {
                break;
            }
            let (flow, live, at) = (self.clone(), Arc::clone(into.live), into.at.to_vec());
            let (part, intake) = (Arc::clone(&part), Arc::clone(&ready.intake));
            let through = part.through;
            let rows = self.aside(move || {
                let rows = intake.loaded(&part.rows)?;
                refuse_long_keys(&intake, &rows)?;
                Ok(rows)
            });
            let rows = rows.await?;
            // Pushes wait behind this.
            let accepted = blocking(move || {
                let (entries, value) = (entries()?, Taken { through, whole: false }.bytes());
                let word = |writing: &mut Writing| writing.put(entries, &at, &value);
                accept(&flow, &live, &ready, &rows, None, Durability::Durable, &word)
            });
            match accepted.await {
                Ok(Some(accepted)) => return Ok(accepted),
                // Another version of the source or of a view stands by now.
                Ok(None) => {}
                Err(error) if error.code() == "live_store_busy" => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::Conflict {
            code: "source_changed",
            message: format!(
                "source `{}` was changed and has another table since this load was asked for",
                into.source.address
            ),
            hint: Some("load the files again: what was taken of them is passed over".to_owned()),
        }
        .into())
    }
}

/// Where parts of one file go.
struct Destination<'a> {
    live: &'a Arc<Live>,
    source: &'a Arc<SourceVersion>,
    /// The key of what is said of the file.
    at: &'a [u8],
}

/// A reading and what takes its rows. Where the taking fails, the reader only knows that nobody takes them.
async fn both<T>(
    reading: impl Future<Output = asof_engine::Result<T>>,
    taking: impl Future<Output = Result<()>>,
) -> Result<T> {
    tokio::pin!(reading, taking);
    let read = tokio::select! {
        took = &mut taking => {
            took?;
            return Ok(reading.await?);
        }
        read = &mut reading => read,
    };
    taking.await?;
    Ok(read?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_file_is_read_as_it_was_written() {
        let stored = include_str!("../tests/compat/live-entries-1-loaded.txt");
        let expected = [Taken { through: 8_192, whole: false }, Taken { through: 10_000, whole: true }];
        for (line, taken) in stored.lines().zip(expected) {
            let value: Vec<u8> = (0..line.len() / 2)
                .map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            assert_eq!((Taken::read(&value).unwrap(), taken.bytes()), (taken, value));
        }
        for value in [&[][..], &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[1, 2, 0, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0]] {
            assert!(Taken::read(value).unwrap_err().to_string().contains("does not know"));
        }
    }
}
