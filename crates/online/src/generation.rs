//! What a generation is: all rows of one version of one view, as one materialisation built them.

use asof_model::{Address, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

/// The number of a generation; every new one gets the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationId(pub u32);

impl std::fmt::Display for GenerationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a generation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerationState {
    /// Rows are still coming in; no reader takes it.
    Building,
    /// Readers take it.
    Live,
    /// Rows of one unit on their way into a live one; no reader takes it.
    Staging,
    /// To be dropped; no reader takes it.
    Dropped,
}

/// A generation's record, stored as JSON beside its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The format of this record; see [`Generation::FORMAT`].
    pub format: u32,
    /// Its number.
    pub id: GenerationId,
    /// The view.
    pub view: Address,
    /// The version of the view whose features the rows hold.
    pub version: VersionId,
    /// Where it is in its life.
    pub state: GenerationState,
    /// The least T that it answers; rows that win only before were let go.
    pub horizon: Timestamp,
    /// The greatest T at which rows were last let go: an earlier T must not be taken for the present.
    pub judged_at: Timestamp,
    /// The last time a materialisation of it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_at: Option<Timestamp>,
    /// The greatest `max(e, v)` among its rows that was not past the clock when they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
    /// Rows seen that are never visible, whose `available_at` is null.
    #[serde(default)]
    pub never_known: u64,
    /// Rows seen that belong to no entity, a key being null.
    #[serde(default)]
    pub null_keys: u64,
    /// Rows seen that were older than the view's retention, kept offline only.
    #[serde(default)]
    pub past_retention: u64,
}

impl Generation {
    /// The newest format (`docs/formats/online-store.md`) this program writes; it reads every one up to it.
    pub const FORMAT: u32 = 1;

    /// An empty one, to be built.
    pub fn new(id: GenerationId, view: Address, version: VersionId, state: GenerationState) -> Generation {
        Generation {
            format: Generation::FORMAT,
            id,
            view,
            version,
            state,
            horizon: Timestamp::BEFORE_ALL,
            judged_at: Timestamp::BEFORE_ALL,
            succeeded_at: None,
            newest: None,
            never_known: 0,
            null_keys: 0,
            past_retention: 0,
        }
    }
}
