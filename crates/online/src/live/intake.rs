//! Accepting: what a batch is given and what it stores, under the order of all batches.

use std::cell::RefCell;
use std::time::Duration;

use asof_compute::Position;
use asof_model::Timestamp;

use super::engine::{Shared, State, Waiting, locked};
use super::group;
use super::keys::{self, Answer};
use super::record::{RecordOf, Writing};
use super::store::{Accepted, Durability, Given, GivenRow, Incoming, Intake, Published};
use super::tree::{self, View};
use super::versions::{Changes, Outcome};
use crate::{Error, Result};

/// What a client is told to wait at least before it asks again.
const PATIENCE: Duration = Duration::from_millis(10);

pub(super) fn accept(
    shared: &Shared,
    intake: &Intake<'_>,
    make: &mut dyn FnMut(&Given<'_>, &mut Writing) -> Result<()>,
) -> Result<Accepted> {
    if intake.key.is_some_and(|key| key.key.len() > keys::GREATEST) {
        return Err(Error::TooLong { what: "an idempotency key", limit: keys::GREATEST });
    }
    let sync = intake.durability == Durability::Durable;
    let order = locked(&shared.order);
    let place = Place::take(shared, intake)?;
    let prepared = prepare(shared, intake, make, &place);
    let mut state = locked(&shared.state);
    let prepared = match prepared {
        Ok(prepared) if state.refusals == place.refusals => prepared,
        otherwise => {
            // The place is nobody's again.
            if state.waiting_v.back().is_some_and(|(ticket, _)| *ticket == place.ticket) {
                state.waiting_v.pop_back();
            }
            // What it stands on was refused meanwhile.
            return Err(otherwise.err().unwrap_or_else(|| shared.refused(&state)));
        }
    };
    let Prepared { accepted, record, changes, answer, counts } = prepared;
    let stored = !record.is_empty();
    let ticket = enqueue(&mut state, Waiting { record, ..Waiting::empty(sync) });
    if stored {
        // Nothing fails from here on.
        state.sequence.give(place.v, accepted.count);
        let ids = state.versions.add(changes, ticket);
        let key = answer.map(|(answer, key)| {
            state.keys.add(key.clone(), ticket, answer);
            key
        });
        if let Some(batch) = state.queue.back_mut() {
            (batch.ids, batch.key) = (ids, key);
        }
        add_counts(&mut state, counts);
    } else {
        state.waiting_v.pop_back();
    }
    drop(state);
    drop(order);
    shared.work.notify_all();
    group::acknowledged(shared, ticket)?;
    Ok(accepted)
}

/// The place of a batch among all: its `v` is kept for it, so T stands before it.
struct Place {
    ticket: u64,
    v: Timestamp,
    first: Position,
    last_v: Timestamp,
    now: Timestamp,
    refusals: u64,
    /// Everything published, of the moment in which `changes` and `answer` were asked for.
    view: View,
    /// What batches on their way made of its ids.
    changes: RefCell<Changes>,
    /// What a batch on its way under its key is answered.
    answer: Option<Answer>,
}

impl Place {
    fn take(shared: &Shared, intake: &Intake<'_>) -> Result<Place> {
        let mut state = locked(&shared.state);
        may_wait(shared, &state)?;
        let (ticket, v) = (state.ticket + 1, state.sequence.next_v());
        state.waiting_v.push_back((ticket, v));
        let changes = match &intake.rows {
            Incoming::Plain(_) => Changes::default(),
            Incoming::Versions(rows) => state.versions.begin(intake.source, rows),
        };
        let answer = intake.key.and_then(|key| state.keys.find(&keys::key_of(intake.source, key.key)));
        Ok(Place {
            ticket,
            v,
            first: state.sequence.next_s(),
            last_v: state.sequence.last_v(),
            now: state.sequence.now(),
            refusals: state.refusals,
            view: shared.tree.snapshot(),
            changes: RefCell::new(changes),
            answer,
        })
    }
}

/// A batch ready to wait; without a record where it stores nothing, and is acknowledged after those before
/// it, since what it equals may be on its way.
struct Prepared {
    accepted: Accepted,
    record: Vec<u8>,
    changes: Changes,
    answer: Option<(Answer, Vec<u8>)>,
    counts: Counts,
}

/// What a batch counts up to, by key within the tree.
type Counts = Vec<(Vec<u8>, u64)>;

/// What a batch stores, and what it is answered. Reads tables, so it does not hold up those who ask for T.
fn prepare(
    shared: &Shared,
    intake: &Intake<'_>,
    make: &mut dyn FnMut(&Given<'_>, &mut Writing) -> Result<()>,
    place: &Place,
) -> Result<Prepared> {
    let durable = intake.durability == Durability::Durable;
    let nothing = |accepted| Prepared {
        accepted,
        record: Vec::new(),
        changes: Changes::default(),
        answer: None,
        counts: Vec::new(),
    };
    let key = intake.key.map(|key| (key, keys::key_of(intake.source, key.key)));
    if let Some((key, stored)) = &key {
        let known = match &place.answer {
            Some(answer) => Some(answer.clone()),
            None => keys::find(&place.view, stored).map_err(shared.tree("read"))?,
        };
        if let Some(first) = known.filter(|first| !keys::is_over(first.visible_at(), place.now)) {
            if !first.is_of(key) {
                return Err(Error::KeyReused { at: first.visible_at() });
            }
            return Ok(nothing(first.repeated(durable)));
        }
    }

    let mut changes = place.changes.take();
    let mut rows: Vec<GivenRow> = Vec::new();
    let mut already_there = Vec::new();
    let count = match &intake.rows {
        Incoming::Plain(count) => *count,
        Incoming::Versions(incoming) => {
            for (row, incoming) in incoming.iter().enumerate() {
                let s = Position(place.first.0 + rows.len() as i64);
                let outcome = match incoming {
                    None => Outcome::Stored(GivenRow { row, position: s, before: None, after: None }),
                    Some(incoming) => changes
                        .take(&place.view, intake.source, row, incoming, place.v, s)
                        .map_err(shared.tree("read"))?,
                };
                match outcome {
                    Outcome::Stored(given) => rows.push(given),
                    Outcome::AlreadyThere => already_there.push(u32::try_from(row).unwrap_or(u32::MAX)),
                }
            }
            u32::try_from(rows.len())
                .map_err(|_| Error::TooLong { what: "a batch", limit: u32::MAX as usize })?
        }
    };
    let (visible_at, first) = (place.v, place.first);
    let accepted = Accepted { visible_at, first, count, already_there, repeated: false, durable };
    if count == 0 && key.is_none() {
        return Ok(nothing(Accepted { visible_at: place.last_v, ..accepted }));
    }
    let mut writing = Writing::default();
    if count > 0 {
        let published: Published<'_> = &|table, key| place.view.seek(table, key).map_err(shared.tree("read"));
        make(&Given { visible_at, first, count, rows: &rows, published }, &mut writing)?;
    }
    changes.write(&mut writing)?;
    let answer = key.map(|(key, stored)| (Answer::new(&key, &accepted), stored));
    if let Some((answer, stored)) = &answer {
        answer.write(stored, &mut writing)?;
    }
    let counts = put_counts(shared, &mut writing)?;
    let record = writing.record(RecordOf::Intake(intake.source, visible_at, first, count))?;
    Ok(Prepared { accepted, record, changes, answer, counts })
}

/// Puts what a batch counts on top of what stands. Called while it has its turn, so none comes before it meanwhile.
fn put_counts(shared: &Shared, writing: &mut Writing) -> Result<Counts> {
    let mut counts: Counts = Vec::new();
    for ((table, key), more) in writing.take_counts() {
        let name = tree::full_key(table, &key);
        let (pending, view) = {
            let state = locked(&shared.state);
            (state.counts.find(&name), shared.tree.snapshot())
        };
        let before = match pending {
            Some(pending) => pending,
            None => match view.seek(table, &key).map_err(shared.tree("read"))? {
                Some(stored) => u64::from_le_bytes(
                    stored.try_into().map_err(|_| shared.tree("read")(tree::Error::Damaged("a count")))?,
                ),
                None => 0,
            },
        };
        let all = before.saturating_add(more);
        writing.put(table, &key, &all.to_le_bytes())?;
        counts.push((name, all));
    }
    Ok(counts)
}

/// What the last batch in the queue counts.
fn add_counts(state: &mut State, counts: Counts) {
    let State { queue, counts: pending, .. } = state;
    if let Some(batch) = queue.back_mut() {
        for (name, all) in counts {
            pending.add(name.clone(), batch.ticket, all);
            batch.counts.push(name);
        }
    }
}

/// Writes entries without `v`; `make` is called when nothing else gets a place.
pub(super) fn write(
    shared: &Shared,
    make: &mut dyn FnMut(Position, &mut Writing) -> Result<()>,
) -> Result<()> {
    let order = locked(&shared.order);
    let (s, refusals) = {
        let state = locked(&shared.state);
        may_wait(shared, &state)?;
        (state.sequence.next_s(), state.refusals)
    };
    let mut writing = Writing::default();
    make(s, &mut writing)?;
    let counts = put_counts(shared, &mut writing)?;
    let stored = !writing.is_empty();
    let record = if stored { writing.record(RecordOf::Entries(s))? } else { Vec::new() };
    let mut state = locked(&shared.state);
    if state.stopped.is_some() {
        return Err(shared.refused(&state));
    }
    // Who writes the log may have ended, and nobody would say what became of it. Only a sweep can come so late: a close
    // waits for its end, and everybody else holds the store open.
    if state.closing {
        return Err(shared.stopped("it is being closed".to_owned()));
    }
    // A batch before it was refused meanwhile, whose counts it would go on from.
    if state.refusals != refusals {
        return Err(shared.full());
    }
    if stored {
        state.sequence.pass(s);
    }
    let ticket = enqueue(&mut state, Waiting { record, ..Waiting::empty(true) });
    add_counts(&mut state, counts);
    drop(state);
    drop(order);
    shared.work.notify_all();
    group::acknowledged(shared, ticket)
}

/// Whether a further batch may wait.
fn may_wait(shared: &Shared, state: &State) -> Result<()> {
    if let Some(reason) = &state.stopped {
        return Err(shared.stopped(reason.clone()));
    }
    if state.full {
        return Err(shared.full());
    }
    let waiting = state.waiting_bytes;
    if waiting >= shared.options.waiting {
        let rest = Duration::from_micros(waiting as u64 * 1_000_000 / state.rate.max(1));
        let path = shared.path.display().to_string();
        return Err(Error::Busy { path, waiting, retry_after: rest.clamp(PATIENCE, Duration::from_secs(5)) });
    }
    Ok(())
}

fn enqueue(state: &mut State, batch: Waiting) -> u64 {
    state.ticket += 1;
    state.waiting_bytes += batch.record.len();
    state.queue.push_back(Waiting { ticket: state.ticket, ..batch });
    state.ticket
}

impl Waiting {
    fn empty(sync: bool) -> Waiting {
        Waiting { ticket: 0, record: Vec::new(), sync, ids: Vec::new(), key: None, counts: Vec::new() }
    }
}

/// Removes answers to idempotency keys that are past their time.
pub(super) fn sweep(shared: &Shared) -> Result<usize> {
    let mut swept = 0;
    write(shared, &mut |_, writing| {
        let (view, now, pending) = {
            let state = locked(&shared.state);
            (shared.tree.snapshot(), state.sequence.now(), state.keys.names())
        };
        swept = keys::sweep(&pending, &view, now, writing).map_err(shared.tree("read"))?;
        Ok(())
    })?;
    Ok(swept)
}
