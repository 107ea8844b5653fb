//! Rows that are read into a generation while versions of their events are pushed.

use std::sync::Arc;

use asof_compute::{Keeping, Op, Position, RowDigest, RowOrder};
use asof_model::{Address, Clock, History, Length, Name, Timestamp, VersionId};
use asof_online::GenerationState;
use asof_online::live::{Durability, Incoming, Intake, LiveOptions, LiveStore, SourceNumber, open};
use asof_online::views::{Holds, LiveGeneration, LiveGenerations, ViewRow};

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_000)
    }
}

fn opened(folder: &std::path::Path) -> Arc<dyn LiveStore> {
    open(folder, &LiveOptions { cache: 1 << 20, ..LiveOptions::new(Arc::new(Still)) }).unwrap()
}

fn order(position: i64) -> RowOrder {
    RowOrder {
        event_time: Timestamp(position * 10),
        visible_at: Timestamp(position),
        order_by: Box::default(),
        position: Position(position),
        op: Op::Value,
        digest: RowDigest::default(),
    }
}

/// Pushes a row of another entity, with which these rows end at these times.
fn end(store: &dyn LiveStore, live: &LiveGenerations, generation: &LiveGeneration, ends: &[(i64, i64)]) {
    let rows = Incoming::Plain(1);
    let intake = Intake { source: SourceNumber(1), rows, key: None, durability: Durability::Relaxed };
    store
        .accept(&intake, &mut |given, writing| {
            writing.rows().push(0);
            ends.iter().try_for_each(|(position, at)| {
                live.end_read(generation, &order(*position), Timestamp(*at), given, writing)
            })
        })
        .unwrap();
}

fn read(store: &dyn LiveStore, live: &LiveGenerations, made: &LiveGeneration, rows: &[(i64, Option<i64>)]) {
    store
        .write(&mut |s, writing| {
            rows.iter().try_for_each(|(position, end)| {
                let order = order(*position);
                let values = position.to_le_bytes();
                let row =
                    ViewRow { key: b"\x01key", order: &order, number: 0, valid_until: None, values: &values };
                live.put_read(made, &row, end.map(Timestamp), s, writing)
            })
        })
        .unwrap();
}

/// The last position that answers at this time.
fn last(store: &dyn LiveStore, generation: &LiveGeneration, at: i64) -> Option<i64> {
    let found = generation.table.last(store.read().unwrap().as_ref(), b"\x01key", Timestamp(at)).unwrap();
    found.map(|row| i64::from_le_bytes(row.values.try_into().unwrap()))
}

#[test]
fn rows_that_are_read_end_as_the_last_push_says() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let live = LiveGenerations::open(Arc::clone(&store)).unwrap();
    let address =
        |name: &str| Address { project: Name::new("shop").unwrap(), name: Name::new(name).unwrap() };
    let version = VersionId("one".to_owned());
    let made = live.begin(&address("view"), &version, &address("source"), Holds::Latest).unwrap();
    // Before its row is there, and twice: the later push says it.
    end(store.as_ref(), &live, &made, &[(5, 900), (7, 800)]);
    read(store.as_ref(), &live, &made, &[(3, None), (4, Some(700)), (5, Some(950)), (6, Some(700))]);
    end(store.as_ref(), &live, &made, &[(5, 600), (6, 500), (3, 500)]);
    live.settle(&made).unwrap();
    for (at, row) in
        [(599, Some(5)), (600, Some(4)), (699, Some(4)), (700, None), (499, Some(6)), (500, Some(5))]
    {
        assert_eq!(last(store.as_ref(), &made, at), row, "at {at}");
    }
    // From now on ends are put behind their rows as they come; of a row that is not there none is.
    end(store.as_ref(), &live, &made, &[(4, 650), (7, 1)]);
    assert_eq!((last(store.as_ref(), &made, 649), last(store.as_ref(), &made, 650)), (Some(4), None));
    let id = made.record.id;
    live.change(&|record| record.state = GenerationState::Live, &mut |_, _| Ok(())).unwrap();
    drop((made, live, store));

    let store = opened(folder.path());
    let live = LiveGenerations::open(Arc::clone(&store)).unwrap();
    let made = live.live(&address("view"), &version).unwrap();
    end(store.as_ref(), &live, &made, &[(4, 620)]);
    assert_eq!((last(store.as_ref(), &made, 619), last(store.as_ref(), &made, 620)), (Some(4), None));
    // What happened before 50 is no longer kept, and no longer found.
    let keeping = Keeping::at(Timestamp(60), History::None, Some(Length::from_micros(10)));
    live.expire_read(id, keeping, &|| true).unwrap();
    end(store.as_ref(), &live, &made, &[(4, 610), (5, 550)]);
    assert_eq!((last(store.as_ref(), &made, 549), last(store.as_ref(), &made, 615)), (Some(5), Some(4)));
}
