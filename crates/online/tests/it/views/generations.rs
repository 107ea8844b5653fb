//! Generations: what is found of them, by whom, and when it is gone.

use super::*;

/// A generation is found by every batch from its beginning on, outlives a restart, and goes with its rows.
#[test]
fn generations_are_found_from_their_beginning_on() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hand(AtomicI64::new(SECOND)));
    let store = opened(folder.path(), &clock);
    let generations = LiveGenerations::open(Arc::clone(&store)).unwrap();
    let address =
        |name: &str| Address { project: Name::new("shop").unwrap(), name: Name::new(name).unwrap() };
    let (view, source) = (address("activity"), address("events"));
    let version = VersionId("v1".into());
    let arguments = vec![DataType::parse("float64").unwrap()];
    let made = generations.begin(&view, &version, &source, Holds::Windows { arguments }).unwrap();
    assert_eq!(generations.all().len(), 1);
    assert!(generations.live(&view, &version).is_none(), "it is being built");
    let id = made.record.id;
    generations
        .change(&|record| record.state = GenerationState::Live, &mut |s, writing| {
            generations.mark(&made, Timestamp(7), &[(3, 0b101), (16_383, 1 << 63)], writing)?;
            generations.put_progress((id, s), b"unit", b"seen", writing)
        })
        .unwrap();
    // A view of the store says what was read when it was taken, whatever was since.
    let before = store.read().unwrap();
    let read = |from: &dyn LiveSnapshot| generations.progress_within(id, from).unwrap();
    let seen = |seen: &[u8]| vec![(b"unit".to_vec(), seen.to_vec())];
    assert_eq!(*read(before.as_ref()), seen(b"seen"));
    store.write(&mut |s, writing| generations.put_progress((id, s), b"unit", b"more", writing)).unwrap();
    let after = store.read().unwrap();
    for _ in 0..2 {
        assert_eq!((*read(before.as_ref())).clone(), seen(b"seen"));
        assert_eq!((*read(after.as_ref())).clone(), seen(b"more"));
    }
    store.write(&mut |s, writing| generations.put_progress((id, s), b"unit", b"seen", writing)).unwrap();
    drop((before, after));
    store.write(&mut |_, writing| writing.put(made.table.number(), b"row", b"x")).unwrap();
    drop((generations, store));

    let store = opened(folder.path(), &clock);
    let generations = LiveGenerations::open(Arc::clone(&store)).unwrap();
    let found = generations.live(&view, &version).unwrap();
    assert_eq!((found.record.id, found.table.tiled()), (id, Timestamp(7)));
    let entities = (0..3_000_000).map(|number: u32| number.to_be_bytes());
    let told = entities.filter(|entity| found.table.may_have_tiles(entity)).count();
    assert!(
        found.table.tells_tiled_keys() && (1..=40).contains(&told),
        "{told} of 3,000,000 share three bits of 2^20"
    );
    // A mark of before the bits: any may have tiles.
    let bare = |writing: &mut Writing| writing.put(META, &[1, 0, 0, 0, id.0 as u8], &7_i64.to_le_bytes());
    store.write(&mut |_, writing| bare(writing)).unwrap();
    drop(generations);
    let generations = LiveGenerations::open(Arc::clone(&store)).unwrap();
    let found = generations.live(&view, &version).unwrap();
    assert!(!found.table.tells_tiled_keys() && found.table.may_have_tiles(b"any"));
    assert_eq!(generations.progress(id).unwrap(), [(b"unit".to_vec(), b"seen".to_vec())]);
    generations.remove(id).unwrap();
    assert!(generations.all().is_empty() && generations.progress(id).unwrap().is_empty());
    assert_eq!(store.read().unwrap().get(made.table.number(), b"row").unwrap(), None);
    // Who was about to make tiles of it leaves nothing behind.
    store.write(&mut |_, writing| generations.mark(&made, Timestamp(9), &[(3, 1)], writing)).unwrap();
    for what in [1, 6] {
        let (from, place) = (store.read().unwrap(), [what, 0, 0, 0, id.0 as u8]);
        let none = |_: &[u8], _: &[u8]| panic!("it is gone");
        from.scan(META, &place, None, Direction::Forward, &mut { none }).unwrap();
    }
    drop((generations, store));
    let generations = LiveGenerations::open(opened(folder.path(), &clock)).unwrap();
    assert!(generations.all().is_empty());
}
