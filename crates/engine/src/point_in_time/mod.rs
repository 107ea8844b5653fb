//! The point-in-time operator: answers a spine as of its own times, reading the history once.
//!
//! A point-in-time join usually sorts both sides; here the history is neither sorted nor shuffled.
//! 1. The spine is indexed: its rows grouped by key, each key's times sorted; a time of a key is a
//!    slot ([`asof_compute::SpineIndex`]).
//! 2. The history is scanned in whatever order it stands, by several threads; each row folds into the
//!    slot of the first spine time from which on it can answer ([`fold`]), most of them at a cursor of
//!    their key ([`cursors`]). A state is (e, v) and the row's address: no value is read; of
//!    a source whose every v is its e, it is (e, o) where o is a number.
//! 3. A running maximum over each key's slots gives the row that answers at each ([`gather`]).
//! 4. The values of winning rows only are read and evaluated ([`values`]), those of tied rows compared.
//!
//! Rows of Parquet files and stored sources have stable addresses: the scan reads keys, times and the
//! columns of `where` only, and o where states have it. Other rows wait in a [`buffer`], from which losers are
//! dropped as it grows.
//! [`PointInTimeExec`] is the plan node, [`Codec`] ships it, [`answer`] drives it for a selection.
//! Memory is slots times states, not history; where it is short the spine is cut by key, and each
//! portion reads the history again.
//!
//! Of a source with ids it is found first, in readings of ids and times alone, which rows end because another version of
//! their event comes after them ([`versions`]). The operator is handed these ([`Ends`]), and a row that ends answers for
//! an interval of t: in a segment tree over its key's slots instead of one slot ([`ended`]), or in windows added where
//! it begins to count and taken back where it ends ([`windows`]).
//!
//! Labels are asked some time after the spine's times, in passes of their own ([`asked`]), and are null where their
//! source does not reach so far ([`mature`]). What is derived is computed of the answers, batch by batch.
//!
//! Facts without a clock have no second row of any key, asked for or not: [`second_rows`] sees to it.
//!
//! Files are not pruned by ttl: a row past its ttl still makes the difference between `expired` and
//! `not_found`.

mod answers;
mod asked;
mod buffer;
mod codec;
mod cursors;
mod driver;
mod ended;
mod ends;
mod facts;
mod fold;
mod gather;
mod halves;
mod mature;
mod operator;
mod run_rows;
mod second_rows;
#[cfg(test)]
mod second_rows_suite;
mod spec;
mod turns;
mod values;
mod versions;
mod window_answers;
mod window_states;
mod windows;

pub use answers::ReadingCounts;
pub use codec::{Codec, FindSpine};
pub use driver::{AnswerBatch, Manner, PointInTimeAnswer, SpineRows, answer, answer_readings};
pub use ends::{Ends, NamedBy};
pub(crate) use ends::{WITHDRAWAL, with_ends};
pub(crate) use fold::{passing, true_only};
pub(crate) use mature::kept_rows;
pub use operator::{Hooks, Mode, PointInTimeExec};
pub use spec::{FeatureSpec, ReadingSpec, Spec, SpineColumns};
pub use versions::{VersionScans, Versions};
pub(crate) use versions::{ends_of, nameless_delete};
