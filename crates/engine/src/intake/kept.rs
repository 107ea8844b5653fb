//! What is kept with a version of an event, so that views can end it when the next one comes: under which keys it
//! stands. The format is `docs/formats/live-entries.md`.
//!
//! `e`, `v`, `o`, `s` and `c` of the version are the live store's own. Which views there are changes; by which columns
//! and types a key is read changes rarely, so keys are kept by that: a view that came after the row finds it as well.

use arrow::array::{Array, BinaryArray};
use asof_model::ViewVersion;

use crate::{Error, Result};

/// The first byte: `docs/formats/live-entries.md`.
pub const KEPT_FORMAT: u8 = 1;

/// The second byte of a version that withdraws its event.
const WITHDRAWAL: u8 = 1;

/// By which columns and types a view reads its entity's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyBinding([u8; 8]);

/// Under which key a version stands for a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptKey<'a> {
    /// `asof_compute::KeyEncoder`'s bytes. Whether the view's `where` let it pass is not known here.
    Key(&'a [u8]),
    /// Under none: its key is null, or it withdraws the event.
    None,
    /// No view read its key so when it was taken in.
    Unknown,
}

impl KeyBinding {
    /// Of a view's keys.
    pub fn of(view: &ViewVersion) -> KeyBinding {
        let mut hasher = blake3::Hasher::new();
        for key in &view.keys {
            for part in [key.column.as_str(), &key.key.data_type.to_string()] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
            }
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        KeyBinding(first)
    }
}

/// What is kept of one row: its keys under each binding.
pub(super) fn kept(row: usize, withdrawal: bool, keys: &[(KeyBinding, BinaryArray)]) -> Result<Vec<u8>> {
    let mut out = vec![KEPT_FORMAT, if withdrawal { WITHDRAWAL } else { 0 }];
    for (binding, keys) in keys.iter().filter(|_| !withdrawal) {
        let key = if keys.is_valid(row) { keys.value(row) } else { &[] };
        let length = u32::try_from(key.len()).map_err(|_| Error::Exhausted {
            what: "a row's entity key".to_owned(),
            limit: "4 GiB".to_owned(),
            hint: None,
        })?;
        out.extend_from_slice(&binding.0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(key);
    }
    Ok(out)
}

/// The key of a version as views with this binding have it, out of what was kept with the version.
///
/// # Errors
/// [`Error::Invalid`] with code `live_entry_newer` where a newer Asof wrote it; [`Error::Internal`] where the bytes are
/// none of these.
pub fn kept_key(kept: &[u8], binding: KeyBinding) -> Result<KeptKey<'_>> {
    let damaged = || Error::internal("what is kept with a version of an event in the live store is damaged");
    let (&format, rest) = kept.split_first().ok_or_else(damaged)?;
    if format > KEPT_FORMAT {
        let message = format!(
            "an entry of the live store has format {format}, and this Asof reads up to {KEPT_FORMAT}"
        );
        return Err(Error::invalid("live_entry_newer", message)
            .with_hint("use the version of Asof that wrote it, or a newer one"));
    }
    let (&flags, mut rest) = rest.split_first().ok_or_else(damaged)?;
    if flags & WITHDRAWAL != 0 {
        return Ok(KeptKey::None);
    }
    while let Some((named, after)) = rest.split_first_chunk::<8>() {
        let (length, after) = after.split_first_chunk::<4>().ok_or_else(damaged)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| damaged())?;
        let (key, after) = after.split_at_checked(length).ok_or_else(damaged)?;
        if *named == binding.0 {
            return Ok(if key.is_empty() { KeptKey::None } else { KeptKey::Key(key) });
        }
        rest = after;
    }
    if rest.is_empty() { Ok(KeptKey::Unknown) } else { Err(damaged()) }
}
