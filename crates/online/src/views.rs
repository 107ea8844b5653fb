//! The rows of views in the store of live rows: what the latest row is, and what windows come to.
//!
//! Each generation of a view has a table of its own ([`ViewTable`]). It holds the rows of each entity in the order of
//! SEMANTICS section 1, a mark behind each row that a later version ends, and, of a view over windows, *tiles*: what
//! all rows of a stretch of event time come to, as states that can be merged, on the levels of an
//! [`asof_compute::Ladder`].
//!
//! A tile is a summary of rows that are there as well. Writers do not touch it: a row, or the end of one, that comes to a
//! stretch which may be summed up already is written down as *late* beside its entity, with the position of its batch. A tile says up to which position it holds everything, so a reader adds
//! the late rows past it, and reads rows where a tile does not help it: at the ends of windows, where rows are too
//! few for a tile, where a row of a tile was ended since, and where T lies before something that the tile holds. What
//! is answered therefore never depends on which tiles there are; [`Tiler`] makes them so that little is read.
//!
//! What was read of an entity is remembered where it is asked for again ([`memory`]).
//!
//! Some tiles are *kept*: they stand in for rows that are let go of, where no edge of a window that is answered falls
//! within one. A kept tile is read before whatever rows are left below it, and is merged with late rows instead of being
//! made again.
//!
//! Invariants:
//! - a tile covers event times before its table's [`ViewTable::tiled`] only, and everything accepted past the tile's
//!   position with such an event time, of an entity that may have tiles, is late;
//! - or before its [`ViewTable::kept`], as all kept ones do, where everything accepted past its position is late, of any
//!   entity; a kept one holds nothing that is not known from the least T on that is answered;
//! - tiles are written before the late rows that they make needless go, and the entity's own mark after both; with kept
//!   tiles a mark before them, and what they stand in for goes last;
//! - whoever changes an entity's tiles says so before and after, and whoever writes rows before they are published, to the
//!   memory of its one [`ViewTable`];
//! - everything is decided in `asof-compute`: the edges of windows, the order of rows, states and what they come to.
//!
//! Start reading at [`ViewTable`], then [`read`], then [`tiler`]. The bytes are `docs/formats/live-views.md`.

mod expire;
mod filled;
mod generations;
mod key;
mod latest;
mod memory;
mod read;
mod rows;
mod sums;
mod table;
mod tiler;

pub use expire::{Expired, Held};
pub use generations::{Counted, Holds, LiveGeneration, LiveGenerations, LiveRecord, Loading, Progress};
pub use key::row_key_length;
pub use latest::LatestRow;
pub use memory::Remembered;
pub use read::{WindowsAsked, WindowsRead, sum_windows};
pub use table::{TiledKeys, ViewRow, ViewTable};
pub use tiler::{Tiled, Tiler};
