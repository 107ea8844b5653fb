//! What every store does, whichever engine it stands on.

use asof_compute::{Op, Position};
use asof_model::{Explain, Kind, Timestamp};
use asof_online::{
    Commit, Committed, Error, Generation, GenerationId, GenerationState, Horizon, Options, Wanted, open,
};

use crate::fixture::{answer, batch, generation, opened, prefix_free, row};

#[test]
fn the_last_row_in_order_answers() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let mut deleted = row("c", 7, 7, "");
    deleted.order.op = Op::Delete;
    let mut superseded = row("d", 6, 6, "old");
    superseded.next_version = Some(Timestamp(9));
    let mut late_order = row("e", 5, 5, "a");
    late_order.order.order_by = vec![1, 0, 3].into();
    let mut stored = row("e", 5, 5, "b");
    stored.order.order_by = vec![1, 0].into();
    stored.order.position = Position(3);
    let rows = batch(
        1,
        &[
            row("a", 5, 5, "five"),
            row("a", 3, 3, "three"),
            row("a", 20, 2, "future"),
            row("a", 4, 10, "late"),
            row("ab", 1, 1, "other entity"),
            row("b", i64::MIN, i64::MIN, "a fact"),
            row("c", 6, 6, "gone"),
            deleted,
            superseded,
            row("d", 5, 5, "below"),
            late_order,
            stored,
        ],
    );
    let commit = Commit { generations: &[generation(1)], rows: Some(&rows), ..Commit::default() };
    assert_eq!(store.commit(&commit).unwrap(), Committed { added: 12, removed: 0 });
    for (key, t, expected) in [
        ("a", 2, None),
        ("a", 3, Some((3, "three"))),
        ("a", 4, Some((3, "three"))),
        ("a", 5, Some((5, "five"))),
        ("a", 19, Some((5, "five"))),
        ("a", 20, Some((20, "future"))),
        ("ab", 20, Some((1, "other entity"))),
        ("abc", 20, None),
        ("", 20, None),
        ("b", -1_000_000, Some((i64::MIN, "a fact"))),
        ("b", i64::MIN, Some((i64::MIN, "a fact"))),
        ("c", 6, Some((6, "gone"))),
        ("c", 7, Some((7, "-"))),
        ("d", 8, Some((6, "old"))),
        ("d", 9, Some((5, "below"))),
        ("e", 5, Some((5, "a"))),
    ] {
        let expected = expected.map(|(e, values): (i64, &str)| (e, values.to_owned()));
        assert_eq!(answer(store.as_ref(), 1, key, t), expected, "{key} at {t}");
    }
    assert_eq!(answer(store.as_ref(), 2, "a", 5), None, "another generation");

    let usage = store.usage().unwrap();
    assert!(usage.bytes > 0);
    assert_eq!(usage.generations.iter().map(|g| (g.id.0, g.rows, g.keys)).collect::<Vec<_>>(), [(1, 12, 6)]);
}

#[test]
fn many_entities_of_several_generations_are_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let records = [generation(1), generation(2)];
    let first = batch(1, &[row("a", 1, 1, "a1"), row("b", 1, 1, "b1")]);
    store.commit(&Commit { generations: &records, rows: Some(&first), ..Commit::default() }).unwrap();
    let second = batch(2, &[row("a", 1, 1, "a2")]);
    store.commit(&Commit { rows: Some(&second), ..Commit::default() }).unwrap();

    let keys: Vec<(u32, Vec<u8>)> = [(2, "a"), (1, "b"), (2, "b"), (1, "a"), (1, "a")]
        .map(|(id, key)| (id, prefix_free(key.as_bytes())))
        .into();
    let mut wanted = keys.iter().map(|(id, key)| Wanted { generation: GenerationId(*id), key });
    let mut found = Vec::new();
    let snapshot = store.snapshot().unwrap();
    snapshot
        .latest_many(&mut wanted, Timestamp(9), &mut |at, row| {
            found.push((at, row.map(|row| String::from_utf8(row.values.to_vec()).unwrap())));
            Ok(())
        })
        .unwrap();
    let expected = [Some("a2"), Some("b1"), None, Some("a1"), Some("a1")];
    assert_eq!(found, expected.map(|it| it.map(str::to_owned)).into_iter().enumerate().collect::<Vec<_>>());
}

#[test]
fn snapshots_do_not_move() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let rows = batch(1, &[row("a", 1, 1, "one")]);
    store.commit(&Commit { generations: &[generation(1)], rows: Some(&rows), ..Commit::default() }).unwrap();
    let before = store.snapshot().unwrap();
    let rows = batch(1, &[row("a", 2, 2, "two")]);
    let mut record = generation(1);
    record.newest = Some(Timestamp(2));
    store
        .commit(&Commit {
            generations: &[record],
            rows: Some(&rows),
            horizon: Horizon(Timestamp(5)),
            progress: &[(GenerationId(1), b"unit", b"done")],
            ..Commit::default()
        })
        .unwrap();
    let key = prefix_free(b"a");
    let values = |snapshot: &dyn asof_online::Snapshot| {
        snapshot.latest(GenerationId(1), &key, Timestamp(9)).unwrap().unwrap().values
    };
    let after = store.snapshot().unwrap();
    assert_eq!(values(before.as_ref()), b"one");
    assert_eq!(values(after.as_ref()), b"two");
    assert_eq!(before.generations().unwrap()[0].newest, None);
    assert_eq!(after.generations().unwrap()[0].newest, Some(Timestamp(2)));
    assert_eq!(before.generations().unwrap()[0].newest, None, "a newer one read since changes nothing");
    assert_eq!(before.progress(GenerationId(1)).unwrap(), []);
    assert_eq!(after.progress(GenerationId(1)).unwrap(), [(b"unit".to_vec(), b"done".to_vec())]);
}

#[test]
fn a_horizon_lets_go_of_what_cannot_win() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let put = |rows: &[_], horizon| {
        let rows = batch(1, rows);
        let commit =
            Commit { generations: &[generation(1)], rows: Some(&rows), horizon, ..Commit::default() };
        store.commit(&commit).unwrap()
    };
    let counts = || store.usage().unwrap().generations.first().map(|usage| (usage.rows, usage.keys)).unwrap();
    let at = |t| Horizon(Timestamp(t));
    assert_eq!(
        put(&[row("a", 1, 1, "1"), row("a", 2, 2, "2"), row("b", 1, 1, "1")], at(2)),
        Committed { added: 2, removed: 0 }
    );
    assert_eq!(counts(), (2, 2));
    // A newer row takes the place of the one before, a future one does not.
    assert_eq!(put(&[row("a", 3, 3, "3"), row("a", 9, 9, "9")], at(5)), Committed { added: 2, removed: 1 });
    assert_eq!(counts(), (3, 2));
    // An older one comes too late, the same one again changes nothing.
    assert_eq!(put(&[row("a", 2, 2, "2"), row("a", 3, 3, "3")], at(5)), Committed::default());
    assert_eq!(answer(store.as_ref(), 1, "a", 8), Some((3, "3".to_owned())));
    assert_eq!(answer(store.as_ref(), 1, "a", 9), Some((9, "9".to_owned())));
    // Without a horizon all rows stay.
    assert_eq!(
        put(&[row("a", 2, 2, "2"), row("a", 3, 3, "3"), row("c", 0, 0, "0")], Horizon::ALL),
        Committed { added: 2, removed: 0 }
    );
    assert_eq!(counts(), (5, 3));
    assert_eq!(answer(store.as_ref(), 1, "a", 2), Some((2, "2".to_owned())));
    // A row that is never visible is not kept, whoever puts it.
    assert_eq!(put(&[row("d", 1, i64::MAX, "never")], at(5)), Committed::default());
    assert_eq!(counts(), (5, 3));
}

#[test]
fn staged_rows_are_merged_in_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let live = batch(1, &[row("a", 1, 1, "1"), row("b", 1, 1, "1")]);
    let mut staging = generation(2);
    staging.state = GenerationState::Staging;
    store
        .commit(&Commit { generations: &[generation(1), staging], rows: Some(&live), ..Commit::default() })
        .unwrap();
    for part in [&[row("a", 2, 2, "2"), row("c", 2, 2, "2")][..], &[row("a", 3, 3, "3")]] {
        store.commit(&Commit { rows: Some(&batch(2, part)), ..Commit::default() }).unwrap();
    }
    assert_eq!(answer(store.as_ref(), 1, "a", 9), Some((1, "1".to_owned())));
    let merge = Commit {
        merge: Some((GenerationId(2), GenerationId(1))),
        horizon: Horizon(Timestamp(5)),
        progress: &[(GenerationId(1), b"unit", b"done")],
        ..Commit::default()
    };
    assert_eq!(store.commit(&merge).unwrap(), Committed { added: 2, removed: 1 });
    assert_eq!(store.commit(&merge).unwrap(), Committed::default(), "again changes nothing");
    store.drop_generation(GenerationId(2)).unwrap();
    for (key, expected) in [("a", (3, "3")), ("b", (1, "1")), ("c", (2, "2"))] {
        assert_eq!(answer(store.as_ref(), 1, key, 9), Some((expected.0, expected.1.to_owned())));
    }
    let usage = store.usage().unwrap().generations;
    assert_eq!(usage.iter().map(|g| (g.id.0, g.rows, g.keys)).collect::<Vec<_>>(), [(1, 3, 3)]);
}

/// An entity of more rows than a merge holds at once comes to the same as one of few.
#[test]
fn a_hot_entity_is_merged_in_steps() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    const ROWS: i64 = 10_000;
    for (number, (before, horizon, kept)) in [
        (&[][..], Horizon::ALL, ROWS + 1),
        (&[row("hot", 5, 5, "5")], Horizon::ALL, ROWS + 1),
        // Of all that was before only the row that wins at the horizon stays.
        (&[], Horizon(Timestamp(ROWS - 10)), 11),
        (&[row("hot", 5, 5, "5"), row("hot", ROWS - 2, ROWS + 7, "late")], Horizon(Timestamp(ROWS - 10)), 11),
    ]
    .into_iter()
    .enumerate()
    {
        let (live, staged) = (2 * number as u32 + 1, 2 * number as u32 + 2);
        let mut staging = generation(staged);
        staging.state = GenerationState::Staging;
        let new: Vec<_> =
            (0..ROWS).map(|n| row("hot", n, n, &n.to_string())).chain([row("other", 1, 1, "x")]).collect();
        let generations = [generation(live), staging];
        store
            .commit(&Commit {
                generations: &generations,
                rows: Some(&batch(live, before)),
                ..Commit::default()
            })
            .unwrap();
        store.commit(&Commit { rows: Some(&batch(staged, &new)), ..Commit::default() }).unwrap();
        let merge = Some((GenerationId(staged), GenerationId(live)));
        let done = store.commit(&Commit { merge, horizon, ..Commit::default() }).unwrap();
        let usage = store.usage().unwrap().generations;
        let usage = usage.iter().find(|usage| usage.id.0 == live).unwrap();
        assert_eq!((usage.rows, usage.keys), (kept as u64, 2), "{number}: {done:?}");
        for at in [ROWS - 10, ROWS - 1, ROWS + 9] {
            let expected = at.min(ROWS - 1);
            assert_eq!(answer(store.as_ref(), live, "hot", at), Some((expected, expected.to_string())));
        }
    }
}

#[test]
fn a_generation_is_dropped_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    for id in [0, 1, 2, u32::MAX] {
        let rows: Vec<_> = (0..50).map(|n| row(&format!("k{n}"), n, n, "x")).collect();
        let progress = [(GenerationId(id), &b"u"[..], &b"p"[..])];
        store
            .commit(&Commit {
                generations: &[generation(id)],
                rows: Some(&batch(id, &rows)),
                progress: &progress,
                ..Commit::default()
            })
            .unwrap();
    }
    store.drop_generation(GenerationId(1)).unwrap();
    store.drop_generation(GenerationId(1)).unwrap();
    store.drop_generation(GenerationId(u32::MAX)).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.generations().unwrap().iter().map(|g| g.id.0).collect::<Vec<_>>(), [0, 2]);
    for (id, stays) in [(0, true), (1, false), (2, true), (u32::MAX, false)] {
        assert_eq!(answer(store.as_ref(), id, "k49", 100).is_some(), stays, "{id}");
        assert_eq!(snapshot.progress(GenerationId(id)).unwrap().len(), usize::from(stays));
    }
}

#[test]
fn a_refused_commit_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let rows = batch(7, &[row("a", 1, 1, "1")]);
    let refused =
        store.commit(&Commit { generations: &[generation(1)], rows: Some(&rows), ..Commit::default() });
    let error = refused.unwrap_err();
    assert_eq!(error.to_string(), "generation 7 of the online store not found");
    assert_eq!((error.kind(), error.code()), (Kind::NotFound, "generation_not_found"));
    assert!(store.snapshot().unwrap().generations().unwrap().is_empty());
}

#[test]
fn what_is_being_dropped_takes_no_rows_and_gives_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let dropped = Generation { state: GenerationState::Dropped, ..generation(1) };
    let (rows, records) = (batch(1, &[row("a", 1, 1, "1")]), [generation(1), generation(2)]);
    store.commit(&Commit { generations: &records, rows: Some(&rows), ..Commit::default() }).unwrap();
    store.commit(&Commit { generations: &[dropped], ..Commit::default() }).unwrap();
    let said = [(GenerationId(1), &b"u"[..], &b"p"[..])];
    let (from, to) = (GenerationId(1), GenerationId(2));
    for (commit, what) in [
        (Commit { rows: Some(&rows), ..Commit::default() }, "rows"),
        (Commit { merge: Some((from, to)), ..Commit::default() }, "merge from"),
        (Commit { merge: Some((to, from)), ..Commit::default() }, "merge into"),
        (Commit { progress: &said, ..Commit::default() }, "progress"),
    ] {
        let refused = store.commit(&commit).map(|_| ());
        assert!(matches!(refused, Err(Error::NoGeneration { id: GenerationId(1) })), "{what}: {refused:?}");
    }
    store.drop_generation(from).unwrap();
    assert_eq!(*store.snapshot().unwrap().generations().unwrap(), [generation(2)]);
}

#[test]
fn everything_is_there_after_reopening_and_in_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("online");
    let rows: Vec<_> = (0..300).map(|n| row(&format!("k{n}"), n, n, &format!("v{n}"))).collect();
    {
        let store = opened(&path);
        store
            .commit(&Commit {
                generations: &[generation(3)],
                rows: Some(&batch(3, &rows)),
                progress: &[(GenerationId(3), b"u", b"p")],
                ..Commit::default()
            })
            .unwrap();
    }
    let store = opened(&path);
    let copy = folder.path().join("copy");
    store.backup(&copy).unwrap();
    let refused = store.backup(&copy).unwrap_err();
    assert!(matches!(refused, Error::BackupExists { .. }), "{refused}");
    for store in [store, opened(&copy)] {
        for n in 0..300 {
            assert_eq!(answer(store.as_ref(), 3, &format!("k{n}"), 500), Some((n, format!("v{n}"))));
        }
        let snapshot = store.snapshot().unwrap();
        assert_eq!(*snapshot.generations().unwrap(), [generation(3)]);
        assert_eq!(snapshot.progress(GenerationId(3)).unwrap(), [(b"u".to_vec(), b"p".to_vec())]);
        let usage = store.usage().unwrap().generations;
        assert_eq!(usage.iter().map(|g| (g.id.0, g.rows, g.keys)).collect::<Vec<_>>(), [(3, 300, 300)]);
    }
}

#[test]
fn a_second_owner_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let first = opened(folder.path());
    let error = open(folder.path(), &Options::default()).unwrap_err();
    let path = folder.path().display();
    let pid = std::process::id();
    assert_eq!(
        error.to_string(),
        format!("the online store `{path}` is open in another process (pid {pid})")
    );
    assert_eq!((error.kind(), error.code()), (Kind::Conflict, "online_store_owned"));
    drop(first);
    opened(folder.path());
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(opened(folder.path()));
    {
        let database = redb::Database::open(folder.path().join("rows.redb")).unwrap();
        let write = database.begin_write().unwrap();
        write
            .open_table(redb::TableDefinition::<&str, u64>::new("meta"))
            .unwrap()
            .insert("format", 2)
            .unwrap();
        write.commit().unwrap();
    }
    let error = open(folder.path(), &Options::default()).unwrap_err();
    let path = folder.path().display();
    assert_eq!(error.to_string(), format!("the online store `{path}` has format 2; this Asof reads up to 1"));
    assert_eq!(error.kind(), Kind::Invalid);
}

#[test]
fn a_file_that_is_no_store_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rows.redb"), b"not a store".repeat(1000)).unwrap();
    let error = open(folder.path(), &Options::default()).unwrap_err();
    assert!(matches!(error.kind(), Kind::Internal | Kind::Unavailable), "{error}");
}
