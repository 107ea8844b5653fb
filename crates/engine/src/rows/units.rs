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

/// Units to be read, and why all of a source is among them though some of it was read before.
pub(super) type New = (Vec<Unit>, Option<String>);

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
    Ok((units.collect::<Result<_>>()?, changed))
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

/// Whether the files of a source that is read as one are those that were read; no file is opened.
pub(super) fn are_as_read(found: &[Found], since: &ViewProgress) -> Result<bool> {
    Ok(match seen(since)? {
        Some(Seen::Whole(Cut::Files(was))) => differing(found, &was).is_none(),
        _ => false,
    })
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

/// The one unit of a source that is not files: what is new of it where it only grew, else all.
pub(super) async fn of_whole(
    engine: &Engine,
    catalog: &Catalog,
    source: &SourceVersion,
    since: &ViewProgress,
) -> Result<New> {
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
            Seen::Stored { position, .. } if position == *was => return Ok((Vec::new(), None)),
            Seen::Stored { position, .. } if position > *was && !versions => {
                let unit = unit_of(engine, source, &grown, Some(*was), grown.rows()).await?;
                return Ok((vec![unit], None));
            }
            _ => {}
        }
    }
    let opened = open(engine, catalog, source, None, 0).await?;
    if was.as_ref().is_some_and(|was| was.has_all_of(&Seen::of_cut(opened.cut()))) {
        return Ok((Vec::new(), None));
    }
    let rows = opened.rows();
    let Some(was) = was else {
        return Ok((vec![unit_of(engine, source, &opened, None, rows).await?], None));
    };
    let changed = match (&was, &opened) {
        _ if versions => "rows came, which may be versions of events that others tell of".to_owned(),
        (Seen::Whole(Cut::Delta { table_id, version, .. }), Opened::Delta { table, path })
            if *table_id == table.table_id && *version < table.version =>
        {
            if let Some(grown) = table.appended_since(*version).await? {
                let rows = grown.rows();
                let grown = Opened::Delta { table: Arc::new(grown), path: path.clone() };
                match unit_of(engine, source, &grown, None, rows).await {
                    Ok(unit) => return Ok((vec![unit], None)),
                    // Reading all of it is right as well.
                    Err(error) => tracing::debug!(%error, path, "the new files cannot be read alone"),
                }
            }
            format!(
                "more was done to the Delta table `{path}` between its versions {version} and {} than to append files",
                table.version
            )
        }
        (Seen::Whole(Cut::Sql(_)), Opened::Query(_)) => "a source that its query reads moved".to_owned(),
        _ => "the source is no longer what was read before".to_owned(),
    };
    Ok((vec![unit_of(engine, source, &opened, None, rows).await?], Some(changed)))
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
