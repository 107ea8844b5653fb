//! Which tables of pushed rows took deletes that name no event, so that no view over windows comes over them (SEMANTICS 2):
//! table 3 of the entries of the store of live rows, `docs/formats/live-entries.md`.

use asof_model::{Place, SourceVersion};
use asof_online::live::{LiveStore, SourceNumber, TableNumber, Writing};

use crate::materialize::blocking;
use crate::{Flow, FlowError, Result, numbers};

/// The entries' table.
const NAMELESS: Option<TableNumber> = TableNumber::new(3);

/// A value: `docs/formats/live-entries.md`.
const NAMELESS_FORMAT: u8 = 1;

/// Writes down that a batch of this source has such a delete, in the batch itself.
pub(crate) fn note(source: SourceNumber, writing: &mut Writing) -> asof_online::Result<()> {
    NAMELESS.map_or(Ok(()), |table| writing.put(table, &source.0.to_be_bytes(), &[NAMELESS_FORMAT]))
}

fn is_noted(store: &dyn LiveStore, source: SourceNumber) -> Result<bool> {
    let Some(table) = NAMELESS else { return Ok(false) };
    match store.read()?.get(table, &source.0.to_be_bytes())?.as_deref() {
        None => Ok(false),
        Some([NAMELESS_FORMAT]) => Ok(true),
        Some(_) => Err(FlowError::Internal {
            what: "the store of live rows says of deletes what this Asof does not know".to_owned(),
        }),
    }
}

impl Flow {
    /// Whether deletes that name no event were accepted into the table of a source that is pushed to.
    ///
    /// # Errors
    /// Where the store of live rows cannot be read.
    pub async fn took_nameless_deletes(&self, source: &SourceVersion) -> Result<bool> {
        let (Some(live), Place::Push { .. }) = (self.live.clone(), &source.definition.place) else {
            return Ok(false);
        };
        let table = self.engine.table_of(source)?;
        blocking(move || match numbers::of(live.store.as_ref(), &table)? {
            Some(number) => is_noted(live.store.as_ref(), number),
            None => Ok(false),
        })
        .await
    }
}
