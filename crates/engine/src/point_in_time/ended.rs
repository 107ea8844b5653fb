//! The sweep of a question under which rows end: the row that answers at a slot may end before the next.
//!
//! Rows that stand for good have a running maximum, as where no row ends. Those that end are in the nodes of a segment
//! tree over the key's slots, so that of these the last of each node on the way from a slot to the root is looked at.
//! States that hold rows of the same (e, v) are told apart as ties are.

use asof_compute::{LatestStates, NONE, SlotRange, SpineIndex};
use asof_model::Timestamp;

use super::fold::Kind;

/// States that may answer at a slot: those of a slot, or of a node of the tree.
pub(super) type Holder = (Kind, u32);

/// What answers at the slots of a run.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// Of each group of holders whose rows come last together, its (e, v), and where it ends in `holders`.
    groups: Vec<((Timestamp, Timestamp), u32)>,
    holders: Vec<Holder>,
}

impl Swept {
    /// The e and the holders of each group.
    pub(super) fn groups(&self) -> impl Iterator<Item = (Timestamp, &[Holder])> {
        let starts = std::iter::once(0).chain(self.groups.iter().map(|(_, end)| *end));
        let groups = self.groups.iter().zip(starts);
        groups.map(|(((event_time, _), end), start)| {
            (*event_time, &self.holders[start as usize..*end as usize])
        })
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// The number of the group of these holders: the last, if it is theirs.
    fn group(&mut self, order: (Timestamp, Timestamp), holders: &[Holder]) -> u32 {
        let start = self.groups.len().checked_sub(2).map_or(0, |before| self.groups[before].1);
        let same = self.groups.last().is_some_and(|(standing, _)| *standing == order)
            && self.holders[start as usize..] == *holders;
        if !same {
            self.holders.extend_from_slice(holders);
            self.groups.push((order, self.holders.len() as u32));
        }
        self.groups.len() as u32 - 1
    }
}

/// The last rows found so far, and who holds them.
#[derive(Debug, Default, Clone)]
struct Last {
    order: Option<(Timestamp, Timestamp)>,
    holders: Vec<Holder>,
}

impl Last {
    fn meet(&mut self, holder: Holder, order: Option<(Timestamp, Timestamp)>) {
        let Some(found) = order else { return };
        if self.order.is_none_or(|standing| found > standing) {
            self.order = order;
            self.holders.clear();
        }
        if self.order == order {
            self.holders.push(holder);
        }
    }

    fn copy(&mut self, other: &Last) {
        self.order = other.order;
        self.holders.clear();
        self.holders.extend_from_slice(&other.holders);
    }
}

/// Sweeps a run of whole keys, into `answers`, per slot the number of the group that answers, [`NONE`] where none does.
/// `own`: the states besides those of both questions; `states`: those that a holder is, with its place in them.
pub(super) fn sweep<'s>(
    index: &SpineIndex,
    run: SlotRange,
    own: Kind,
    answers: &mut [u32],
    states: impl Fn(Holder) -> (&'s LatestStates, u32),
) -> Swept {
    let order = |holder: Holder| {
        let (states, at) = states(holder);
        states.order(at)
    };
    let mut swept = Swept::default();
    let (mut standing, mut last) = (Last::default(), Last::default());
    let mut start = run.start;
    while start < run.end {
        let key = index.slots_of(index.key_of(start));
        standing.order = None;
        for slot in key.start..key.end {
            for kind in [Kind::Same, own] {
                standing.meet((kind, slot), order((kind, slot)));
            }
            last.copy(&standing);
            let mut node = slot - key.start + (key.end - key.start);
            while node > 0 {
                let holder = (Kind::Ended, key.start * 2 + node);
                last.meet(holder, order(holder));
                node >>= 1;
            }
            answers[(slot - run.start) as usize] = match last.order {
                Some(order) => swept.group(order, &last.holders),
                None => NONE,
            };
        }
        start = key.end;
    }
    swept
}
