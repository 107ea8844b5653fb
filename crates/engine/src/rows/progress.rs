//! What was read of a view's source.

use std::collections::BTreeMap;

use asof_model::{Cut, FileIdentity, PastCut, Place, SourceVersion};
use serde::{Deserialize, Serialize};

use crate::source::opened::past_visible;
use crate::{Error, Result};

/// What was read of a view's source, unit by unit; each as [`super::UnitRead::seen`] said it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewProgress {
    /// By the names of units.
    pub units: BTreeMap<String, Vec<u8>>,
}

impl ViewProgress {
    /// The cut of the source that this is; of one that is pushed to, with its rows up to this position.
    ///
    /// # Errors
    /// Where it is not of this source.
    pub fn cut(&self, source: &SourceVersion, position: Option<i64>) -> Result<Cut> {
        let damaged = || {
            let name = &source.address.name;
            Error::internal(format!("what was read of source `{name}` is not what is read of such a source"))
        };
        let mut files = Vec::new();
        let mut whole = None;
        for seen in self.units.values() {
            match Seen::from_bytes(seen)? {
                Seen::File(file) => files.push(file),
                other if whole.is_none() => whole = Some(other),
                _ => return Err(damaged()),
            }
        }
        let stored = |position, past: Vec<FileIdentity>| {
            let has_past = matches!(source.definition.place, Place::Push { past: Some(_) });
            let visible = past_visible(source);
            let past = has_past.then_some(PastCut { visible, files: past });
            Cut::Stored { position, table_version: 0, past }
        };
        match (&source.definition.place, whole) {
            (Place::Push { .. }, Some(Seen::Stored { past, .. })) => {
                Ok(stored(position.ok_or_else(damaged)?, past))
            }
            (Place::Push { .. }, None) => Ok(stored(position.ok_or_else(damaged)?, Vec::new())),
            (_, Some(Seen::Stored { position, past })) => Ok(stored(position, past)),
            (_, Some(Seen::Whole(cut))) => Ok(cut),
            // Nothing was there to be read.
            (_, None) if source.definition.is_stored() => Ok(stored(0, Vec::new())),
            (_, None) => Ok(Cut::Files(files)),
            (_, Some(Seen::File(_))) => Err(damaged()),
        }
    }
}

/// The format of what is said of a unit, JSON; `docs/formats/online-store.md`.
const FORMAT: u32 = 1;

/// What was read of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Seen {
    /// This file.
    File(FileIdentity),
    /// A stored source, up to this position.
    Stored {
        /// The last one read.
        position: i64,
        /// The files of its past, read as a whole.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        past: Vec<FileIdentity>,
    },
    /// All of it, as it was at this cut.
    Whole(Cut),
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    seen: Seen,
}

impl Seen {
    pub(super) fn of_cut(cut: Cut) -> Seen {
        match cut {
            Cut::Stored { position, past, .. } => {
                Seen::Stored { position, past: past.map(|past| past.files).unwrap_or_default() }
            }
            cut => Seen::Whole(cut),
        }
    }

    /// Whether there is nothing new, as far as that can be told without reading rows.
    pub(super) fn has_all_of(&self, now: &Seen) -> bool {
        match (self, now) {
            (Seen::Whole(was), Seen::Whole(now)) => same(was, now),
            (was, now) => was == now,
        }
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&Written { format: FORMAT, seen: self.clone() })
            .map_err(|error| Error::internal(format!("what was read cannot be written down: {error}")))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Seen> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |error: serde_json::Error| {
            Error::internal(format!("what was read before cannot be understood: {error}"))
        };
        let found: Format = serde_json::from_slice(bytes).map_err(damaged)?;
        if found.format > FORMAT {
            return Err(Error::invalid(
                "progress_newer",
                format!("what was read before has format {}; this Asof reads up to {FORMAT}", found.format),
            )
            .with_hint("use the Asof that materialised it, or a newer one"));
        }
        let written: Written = serde_json::from_slice(bytes).map_err(damaged)?;
        Ok(written.seen)
    }
}

/// Whether two cuts hold the same rows. What a stored source holds up to a position never changes,
/// whatever becomes of its table.
fn same(was: &Cut, now: &Cut) -> bool {
    match (was, now) {
        (Cut::Stored { position: was, past: past_was, .. }, Cut::Stored { position: now, past, .. }) => {
            was == now && past_was == past
        }
        (Cut::Sql(was), Cut::Sql(now)) => {
            was.len() == now.len()
                && was.iter().zip(now).all(|(was, now)| {
                    was.source == now.source && was.source_id == now.source_id && same(&was.cut, &now.cut)
                })
        }
        (was, now) => was == now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of format 1 load forever, and are written as before.
    #[test]
    fn format_1_loads() {
        let stored = include_str!("../../tests/compat/online-store-1-progress.txt");
        let mut found = Vec::new();
        for line in stored.lines() {
            let (name, entry) = line.split_once(": ").unwrap();
            let seen = Seen::from_bytes(entry.as_bytes()).unwrap();
            assert_eq!(
                String::from_utf8(seen.to_bytes().unwrap()).unwrap(),
                entry,
                "{name} is written as before"
            );
            found.push((name, seen));
        }
        let Seen::File(file) = &found[0].1 else { panic!("{found:?}") };
        assert_eq!(
            (file.path.as_str(), file.size, file.modified.0),
            ("/data/a.parquet", 1037, 1_700_000_002_000_000)
        );
        assert_eq!(found[2].1, Seen::Stored { position: 20_000, past: Vec::new() });
        assert!(matches!(&found[3].1, Seen::Whole(Cut::Delta { version: 7, .. })));
        assert!(matches!(&found[4].1, Seen::Whole(Cut::Sql(sources)) if sources.len() == 2));
        assert!(matches!(&found[5].1, Seen::Whole(Cut::Files(files)) if files == std::slice::from_ref(file)));
        let newer = br#"{"format":2,"seen":{"nothing like before":1}}"#;
        assert_eq!(
            Seen::from_bytes(newer).unwrap_err().to_string(),
            "what was read before has format 2; this Asof reads up to 1"
        );
    }

    #[test]
    fn what_holds_the_same_rows() {
        let stored = |position, table_version| Cut::Stored { position, table_version, past: None };
        let delta = |version| Cut::Delta { table_id: "t".to_owned(), version, files: Vec::new() };
        let query = |source_id: &str, cut| {
            Cut::Sql(vec![asof_model::SourceCut {
                source: asof_model::Address {
                    project: asof_model::Name::new("shop").unwrap(),
                    name: asof_model::Name::new("prices").unwrap(),
                },
                source_id: asof_model::VersionId(source_id.to_owned()),
                visible: asof_model::VisibleTimes::Assumed,
                cut,
            }])
        };
        for (was, now, expected) in [
            (stored(5, 1), stored(5, 2), true),
            (stored(5, 1), stored(6, 2), false),
            (stored(6, 2), stored(5, 1), false),
            (delta(1), delta(1), true),
            (delta(1), delta(2), false),
            (query("a", stored(5, 1)), query("a", stored(5, 2)), true),
            (query("a", stored(5, 1)), query("a", stored(6, 2)), false),
            (query("a", stored(5, 1)), query("b", stored(5, 1)), false),
            (query("a", delta(1)), query("a", delta(2)), false),
            (query("a", delta(1)), Cut::Sql(Vec::new()), false),
        ] {
            let (was, now) = (Seen::of_cut(was), Seen::of_cut(now));
            assert_eq!(was.has_all_of(&now), expected, "{was:?} and {now:?}");
        }
    }
}
