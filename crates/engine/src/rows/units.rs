//! What is new of a source since what was read of it: found by names, identities and logs, without
//! reading a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use asof_model::{Catalog, Cut, FileIdentity, Format, SourceVersion};

use super::progress::Seen;
use super::{Reads, Scan, Unit, ViewProgress, all_columns, stamp_of};
use crate::source::find::Found;
use crate::source::options::Options;
use crate::source::{Opened, ScanColumns, files, identity, open, opened, scan_opened};
use crate::{Engine, Result};

/// What is to be read of a source.
#[derive(Debug, Default)]
pub(super) struct New {
    pub(super) units: Vec<Unit>,
    /// Why all of it is among them though some of it was read before.
    pub(super) changed: Option<String>,
    /// How many of its rows were not read before, where all are read and that is known.
    pub(super) rows: Option<u64>,
}

impl New {
    fn of(units: Vec<Unit>) -> New {
        New { units, ..New::default() }
    }
}

/// The unit of a source that is read as one.
const ROWS: &str = "rows";

/// The files that were not read before, or all of them where one of those that were is another now.
pub(super) fn of_files(
    found: Vec<Found>,
    since: &ViewProgress,
    format: Format,
    options: &Options,
) -> Result<New> {
    let mut missing: BTreeMap<&str, &Vec<u8>> =
        since.units.iter().map(|(name, seen)| (name.as_str(), seen)).collect();
    let mut changed = None;
    let mut new = Vec::new();
    let mut seen_before = Vec::new();
    for found in found {
        match missing.remove(&*found.path.to_string_lossy()).map(|seen| Seen::from_bytes(seen)).transpose()? {
            None => new.push(found),
            Some(Seen::File(was)) if identity::is_still(&found.path, &was) => seen_before.push(found),
            Some(_) => {
                changed.get_or_insert_with(|| format!("file `{}` changed", found.shown));
                new.push(found);
            }
        }
    }
    if let Some(gone) = missing.keys().next() {
        changed.get_or_insert_with(|| format!("file `{gone}` is no longer there"));
    }
    if changed.is_some() {
        new.append(&mut seen_before);
        new.sort_by(|a, b| a.path.cmp(&b.path));
    }
    let units = new.into_iter().map(|found| file_unit(found, format, options));
    Ok(New { units: units.collect::<Result<_>>()?, changed, rows: None })
}

/// What is another now of the past of a source that is pushed to; no file is opened.
pub(super) fn moved(found: &[Found], since: &ViewProgress) -> Result<Option<String>> {
    let was = match seen(since)? {
        Some(Seen::Stored { past, .. }) => past,
        _ => Vec::new(),
    };
    let told = |(shown, what)| format!("file `{shown}` of its past {what}");
    Ok(differing(found, &was).map(told))
}

/// What became of the files of a source that is read as one since they were read; no file is opened.
pub(super) fn as_one(found: &[Found], since: &ViewProgress) -> Result<Became> {
    Ok(match seen(since)? {
        Some(Seen::Whole(Cut::Files(was))) => match differing(found, &was) {
            None => Became::Nothing,
            Some((shown, what)) => Became::Others(Some(format!("file `{shown}` {what}"))),
        },
        _ => Became::Others(None),
    })
}

/// What became of files.
pub(super) enum Became {
    Nothing,
    /// The first of them that is another, where any were read.
    Others(Option<String>),
}

/// The first file that is not what it was, and what became of it.
fn differing<'a>(found: &'a [Found], was: &'a [FileIdentity]) -> Option<(&'a str, &'static str)> {
    let mut missing: BTreeMap<&str, &FileIdentity> =
        was.iter().map(|file| (file.path.as_str(), file)).collect();
    for file in found {
        match missing.remove(&*file.path.to_string_lossy()) {
            Some(was) if identity::is_still(&file.path, was) => {}
            Some(_) => return Some((&file.shown, "changed")),
            None => return Some((&file.shown, "is new")),
        }
    }
    missing.into_keys().next().map(|gone| (gone, "is no longer there"))
}

/// What was read of a source that is read as one.
fn seen(since: &ViewProgress) -> Result<Option<Seen>> {
    since.units.get(ROWS).map(|seen| Seen::from_bytes(seen)).transpose()
}

fn file_unit(found: Found, format: Format, options: &Options) -> Result<Unit> {
    let name = found.path.to_string_lossy().into_owned();
    let (stamp, rows) = match format {
        Format::Parquet => {
            let file = files::open_one(found.clone(), format, options)?;
            (stamp_of(file.identity()), Some(file.groups().iter().map(|(_, rows)| rows).sum()))
        }
        _ => (identity::stamp(&found.path, &found.shown)?, None),
    };
    Ok(Unit { name, stamp, rows, reads: Reads::File(found) })
}

/// The one unit of a source that is not files: what is new of it where it only grew and no row ends another, else all.
/// `files`: what is known of files that are read as one.
pub(super) async fn of_whole(
    engine: &Engine,
    catalog: &Catalog,
    source: &SourceVersion,
    since: &ViewProgress,
    files: Option<String>,
) -> Result<New> {
    let came = || "rows came that may be versions of events it has".to_owned();
    let mut new_rows = None;
    let was = seen(since)?;
    let versions = source.definition.id.is_some();
    if let (true, Some(Seen::Stored { position: was, past: past_was })) =
        (source.definition.is_stored(), &was)
    {
        // Files that hold nothing new are not even opened.
        let grown =
            opened::stored(engine, Some(&opened::root(catalog, source)?), source, None, Some(*was)).await?;
        match Seen::of_cut(grown.cut()) {
            Seen::Stored { past, .. } if past != *past_was => {}
            Seen::Stored { position, .. } if position == *was => return Ok(New::default()),
            Seen::Stored { position, .. } if position > *was && versions => new_rows = grown.rows(),
            Seen::Stored { position, .. } if position > *was => {
                let unit = unit_of(engine, source, &grown, Some(*was), grown.rows()).await?;
                return Ok(New::of(vec![unit]));
            }
            _ => {}
        }
    }
    let opened = open(engine, catalog, source, None, 0).await?;
    if was.as_ref().is_some_and(|was| was.has_all_of(&Seen::of_cut(opened.cut()))) {
        return Ok(New::default());
    }
    let rows = opened.rows();
    let Some(was) = was else {
        return Ok(New::of(vec![unit_of(engine, source, &opened, None, rows).await?]));
    };
    let changed = match (&was, &opened) {
        (Seen::Stored { .. }, _) if new_rows.is_some() => came(),
        (Seen::Whole(Cut::Files(_)), _) if files.is_some() => files.unwrap_or_default(),
        (Seen::Whole(Cut::Delta { table_id, version, .. }), Opened::Delta { table, path })
            if *table_id == table.table_id && *version < table.version =>
        {
            let grown = table.appended_since(*version).await?;
            if let Some(grown) = grown.as_ref().filter(|_| versions) {
                new_rows = grown.rows();
            } else if let Some(grown) = grown {
                let rows = grown.rows();
                let grown = Opened::Delta { table: Arc::new(grown), path: path.clone() };
                match unit_of(engine, source, &grown, None, rows).await {
                    Ok(unit) => return Ok(New::of(vec![unit])),
                    // Reading all of it is right as well.
                    Err(error) => tracing::debug!(%error, path, "the new files cannot be read alone"),
                }
            }
            match new_rows {
                Some(_) => came(),
                None => format!(
                    "more was done to the Delta table `{path}` between its versions {version} and {} than to append files",
                    table.version
                ),
            }
        }
        (Seen::Whole(Cut::Sql(_)), Opened::Query(_)) => "a source that its query reads moved".to_owned(),
        _ => "the source is no longer what was read before".to_owned(),
    };
    let units = vec![unit_of(engine, source, &opened, None, rows).await?];
    Ok(New { units, changed: Some(changed), rows: new_rows })
}

async fn unit_of(
    engine: &Engine,
    source: &SourceVersion,
    opened: &Opened,
    after: Option<i64>,
    rows: Option<u64>,
) -> Result<Unit> {
    let versions = source.definition.id.is_some().then(|| opened.clone());
    // Which rows end is known by their addresses where they have no positions.
    let named = versions.is_some() && !matches!(opened, Opened::Stored { .. });
    let want = ScanColumns { named, ..all_columns() };
    let scan = scan_opened(engine, source, opened, &want).await?;
    let stamp = Seen::of_cut(scan.identity.clone()).to_bytes()?;
    let stamp = String::from_utf8_lossy(&stamp).into_owned();
    let reads = Reads::Scan(Scan { scan: Arc::new(scan), after, versions });
    Ok(Unit { name: ROWS.to_owned(), stamp, rows, reads })
}
