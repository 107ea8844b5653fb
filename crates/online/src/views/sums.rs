//! What tiles come to that requests ask for again, in memory.
//!
//! Which tiles lie between two edges of an entity's windows stays as it is until an edge passes one: of a hot entity the same
//! tiles are added up a thousand times. What they come to is remembered ([`super::memory`]) as the tile that they would be
//! together: added up for the second who asks for the same, taken by the third.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use asof_compute::{PlanStates, WindowPlan};
use asof_model::Timestamp;

use super::read::broken;
use crate::Result;

/// Tiles of a level between two multiples of its length.
pub(super) type Part = (usize, Range<i64>);

/// What is remembered of an entity's parts.
pub(super) type Sums = HashMap<Part, Seen>;

/// What a part takes besides the states of its tiles, about.
const PART: usize = 128;

/// The tiles of a part, added up.
#[derive(Debug)]
pub(super) struct Sum {
    /// The greatest of the tiles'; none where there are none.
    pub(super) newest: Option<Timestamp>,
    /// What they cover of the part, in order.
    pub(super) covered: Vec<Range<i64>>,
    pub(super) states: Vec<u8>,
}

impl Sum {
    pub(super) fn new(adding: Adding, covered: Vec<Range<i64>>) -> Sum {
        let mut states = Vec::new();
        if adding.newest.is_some() {
            adding.states.encode(0, &mut states);
        }
        Sum { newest: adding.newest, covered, states }
    }
}

/// What is remembered of a part. Who asks once is not made to wait for a sum.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    Once,
    Sum(Arc<Sum>),
    /// What it comes to is too long to be remembered.
    TooLong,
}

impl Seen {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Seen::Sum(sum) => PART + sum.states.len() + size_of_val(&sum.covered[..]),
            Seen::Once | Seen::TooLong => PART,
        }
    }
}

/// What is remembered of a part, to who asks for it.
#[derive(Debug)]
pub(super) enum Found {
    Sum(Arc<Sum>),
    /// Its tiles are to be added up, for the next who asks.
    Adding(Adding),
    Nothing,
}

/// A part being added up.
#[derive(Debug)]
pub(super) struct Adding {
    states: PlanStates,
    newest: Option<Timestamp>,
}

impl Adding {
    pub(super) fn new(plan: &Arc<WindowPlan>) -> Adding {
        Adding { states: PlanStates::new(plan, 1, |_| true), newest: None }
    }

    /// Takes in the next of its tiles.
    pub(super) fn tile(&mut self, newest: Timestamp, states: &[u8]) -> Result<()> {
        self.newest = self.newest.max(Some(newest));
        self.states.merge_encoded(0, states, |_| true).map_err(broken)
    }
}
