//! The algebra: what decides a feature's value stands here once, and every path calls it.
//!
//! Knows Arrow arrays, and neither IO nor SQL nor clocks. Offline (`engine`) and online (`serve`) ask
//! the same questions of the same code:
//! - the order of rows: [`RowOrder`], its parts [`order_keys`] and [`RowDigester`];
//! - for which instants a row can answer: [`first_answer`];
//! - what the last row in order answers at an instant: [`status_at`];
//! - entity keys as bytes: [`KeyEncoder`];
//! - the spine as an index of slots, and the latest value as states folded into them: [`SpineIndex`],
//!   [`LatestStates`];
//! - what is computed of features, requests and their time: [`Derivations`];
//! - which of the versions of one event counts: [`EventId`], [`VersionOrder`];
//! - what rows come to together, one file a function and one line each in [`CATALOGUE`]; offline as states
//!   folded into slots between the edges of windows, [`WindowPlan`] and [`WindowIndex`]; online as tiles over
//!   stored rows, [`Ladder`] and [`StoredWindows`];
//! - values as bytes for the online stores, and which rows these keep: [`RowLayout`], [`Keeping`], [`retain`].
//!
//! Start reading at [`RowOrder`], then [`first_answer`], [`status_at`], [`SpineIndex`]; for windows at
//! [`CATALOGUE`], then [`WindowIndex`].
//!
//! Invariant: nothing here depends on the order in which rows come, or on how arrays are laid out.

mod aggregate;
mod arrow_type;
mod cell;
mod derivation;
mod digest;
mod error;
mod event_id;
mod groups;
mod interval;
mod key;
mod ladder;
mod latest;
mod literal;
mod order;
mod order_key;
mod retain;
mod row;
mod shown;
mod slots;
mod spine;
mod states;
mod stored_rows;
mod threads;
mod window_index;
mod window_plan;
mod windows;

pub use aggregate::{
    Aggregate, CATALOGUE, CallError, Changes, Constant, Documentation, Finished, Function, FunctionCall,
    GatheredBytes, Gathering, Input, Outcome, Prepared, Ranges, States, aggregate, covering, rows_that_count,
};
pub use arrow_type::{arrow_type, conform, from_arrow_type};
pub use derivation::{Derivation, DerivationError, Derivations, Derive, conform_request};
pub use digest::RowDigester;
pub use error::ComputeError;
pub use event_id::EventId;
pub use interval::{counts_until, first_answer};
pub use key::{EntityKeys, KeyEncoder};
pub use ladder::Ladder;
pub use latest::{Status, status_at};
pub use literal::literal_array;
pub use order::{Op, Position, RowDigest, RowOrder, VersionOrder};
pub use order_key::{has_order_numbers, order_key, order_keys, order_numbers};
pub use retain::{Answering, Keeping, retain, stands};
pub use row::{ColumnBuilder, ROW_FORMAT, RowEncoder, RowError, RowFields, RowLayout, RowList, RowValue};
pub use shown::cells;
pub use spine::{NONE, Place, SlotRange, SpineIndex, TOUCHED};
pub use states::{Address, LatestStates};
pub use stored_rows::{StoredRows, StoredWindows, WindowColumns};
pub use threads::{Alone, Threads, Work};
pub use window_index::{SoughtSlots, WindowAnswers, WindowIndex, WindowRun};
pub use window_plan::{
    KeptStates, PlanRows, PlanStates, PlannedCall, PlannedFeature, WindowPlan, WindowSums, WindowTotals,
    with_default,
};
pub use windows::{window_edges, window_instants};
