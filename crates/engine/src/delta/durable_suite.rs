//! What an object store below Delta must do, held against [`DurableFiles`].

use std::collections::BTreeSet;

use futures::TryStreamExt;
use object_store::{GetRange, ObjectStoreExt};

use super::*;

struct Room {
    folder: tempfile::TempDir,
    store: DurableFiles,
}

fn room() -> Room {
    let folder = tempfile::tempdir().unwrap();
    let store = DurableFiles::below(folder.path()).unwrap();
    Room { folder, store }
}

impl Room {
    async fn text(&self, path: &str) -> String {
        let bytes = self.store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    async fn put(&self, path: &str, text: &'static str, mode: PutMode) -> Result<PutResult> {
        self.store.put_opts(&Path::from(path), text.into(), PutOptions { mode, ..Default::default() }).await
    }

    /// Every file that is really there, temporary ones included.
    fn on_disk(&self) -> BTreeSet<String> {
        fn walk(folder: &FilePath, root: &FilePath, found: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    found.insert(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(self.folder.path(), self.folder.path(), &mut found);
        found
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn put_modes() {
    let room = room();
    room.put("a/b/c.json", "one", PutMode::Overwrite).await.unwrap();
    room.put("a/b/c.json", "two", PutMode::Overwrite).await.unwrap();
    assert_eq!(room.text("a/b/c.json").await, "two");

    let refused = room.put("a/b/c.json", "three", PutMode::Create).await.unwrap_err();
    assert!(matches!(refused, Error::AlreadyExists { .. }), "{refused}");
    assert_eq!(room.text("a/b/c.json").await, "two");
    room.put("a/d.json", "four", PutMode::Create).await.unwrap();
    assert_eq!(room.text("a/d.json").await, "four");

    let update = PutMode::Update(object_store::UpdateVersion { e_tag: None, version: None });
    let refused = room.put("a/d.json", "five", update).await.unwrap_err();
    assert!(matches!(refused, Error::NotImplemented { .. }), "{refused}");
    assert_eq!(room.on_disk(), names(&["a/b/c.json", "a/d.json"]));
}

#[tokio::test]
async fn of_many_creates_of_one_name_one_wins() {
    let room = room();
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..16_u8 {
        let store = room.store.clone();
        writers.spawn(async move {
            let options = PutOptions { mode: PutMode::Create, ..Default::default() };
            let body = vec![n; 100_000];
            store.put_opts(&Path::from("log/00.json"), body.into(), options).await.map(|_| n)
        });
    }
    let results = writers.join_all().await;
    let won: Vec<u8> = results.iter().filter_map(|result| result.as_ref().ok()).copied().collect();
    assert_eq!(won.len(), 1, "{results:?}");
    for lost in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(matches!(lost, Error::AlreadyExists { .. }), "{lost}");
    }
    let bytes = room.store.get(&Path::from("log/00.json")).await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes.to_vec(), vec![won[0]; 100_000]);
    assert_eq!(room.on_disk(), names(&["log/00.json"]));
}

#[tokio::test]
async fn reads_and_their_conditions() {
    let room = room();
    let put = room.put("x", "0123456789", PutMode::Create).await.unwrap();
    let path = Path::from("x");
    let head = room.store.head(&path).await.unwrap();
    assert_eq!((head.size, head.e_tag.clone()), (10, put.e_tag));
    assert_eq!(room.store.get_range(&path, 2..5).await.unwrap(), "234");
    assert_eq!(room.store.get_ranges(&path, &[0..1, 8..10]).await.unwrap(), ["0", "89"]);
    for (range, expected) in
        [(GetRange::Suffix(3), "789"), (GetRange::Offset(7), "789"), (GetRange::Bounded(8..20), "89")]
    {
        let options = GetOptions { range: Some(range), ..Default::default() };
        assert_eq!(room.store.get_opts(&path, options).await.unwrap().bytes().await.unwrap(), expected);
    }
    assert!(room.store.get_range(&path, 20..21).await.is_err());
    let other = GetOptions { if_match: Some("other".to_owned()), ..Default::default() };
    let refused = room.store.get_opts(&path, other).await.unwrap_err();
    assert!(matches!(refused, Error::Precondition { .. }), "{refused}");
    let same = GetOptions { if_none_match: head.e_tag, ..Default::default() };
    let refused = room.store.get_opts(&path, same).await.unwrap_err();
    assert!(matches!(refused, Error::NotModified { .. }), "{refused}");
    let missing = room.store.get(&Path::from("y")).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    let missing = room.store.delete(&Path::from("y")).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
}

#[tokio::test]
async fn lists() {
    let room = room();
    for path in ["t/_delta_log/00.json", "t/_delta_log/01.json", "t/p=1/a.parquet", "u/b.parquet"] {
        room.put(path, "x", PutMode::Create).await.unwrap();
    }
    std::fs::write(room.folder.path().join("t/_delta_log/02.json#7000000001"), "half").unwrap();
    let list = async |prefix: Option<&str>, offset: Option<&str>| -> BTreeSet<String> {
        let prefix = prefix.map(Path::from);
        let stream = match offset {
            Some(offset) => room.store.list_with_offset(prefix.as_ref(), &Path::from(offset)),
            None => room.store.list(prefix.as_ref()),
        };
        stream.map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
    };
    assert_eq!(
        list(Some("t"), None).await,
        names(&["t/_delta_log/00.json", "t/_delta_log/01.json", "t/p=1/a.parquet"])
    );
    assert_eq!(
        list(Some("t/_delta_log"), Some("t/_delta_log/00.json")).await,
        names(&["t/_delta_log/01.json"])
    );
    assert_eq!(list(Some("nothing"), None).await, names(&[]));
    let found = room.store.list_with_delimiter(Some(&Path::from("t"))).await.unwrap();
    assert_eq!(found.common_prefixes, [Path::from("t/_delta_log"), Path::from("t/p=1")]);
    assert!(found.objects.is_empty());
}

#[tokio::test]
async fn multipart_parts_land_in_the_order_of_their_calls() {
    let room = room();
    let mut upload = room.store.put_multipart(&Path::from("big/file")).await.unwrap();
    let parts: Vec<UploadPart> = (0..8_u8).map(|n| upload.put_part(vec![n; 70_000].into())).collect();
    // Written last to first, and at the same time.
    futures::future::try_join_all(parts.into_iter().rev()).await.unwrap();
    assert!(room.store.head(&Path::from("big/file")).await.is_err(), "visible before it is complete");
    upload.complete().await.unwrap();
    let bytes = room.store.get(&Path::from("big/file")).await.unwrap().bytes().await.unwrap();
    let expected: Vec<u8> = (0..8_u8).flat_map(|n| vec![n; 70_000]).collect();
    assert_eq!(bytes.to_vec(), expected);
    assert!(upload.complete().await.is_err(), "completed twice");
    assert_eq!(room.on_disk(), names(&["big/file"]));
}

#[tokio::test]
async fn an_upload_given_up_leaves_nothing() {
    let room = room();
    let mut upload = room.store.put_multipart(&Path::from("aborted")).await.unwrap();
    upload.put_part("half".into()).await.unwrap();
    upload.abort().await.unwrap();
    assert!(upload.complete().await.is_err());
    let mut upload = room.store.put_multipart(&Path::from("dropped")).await.unwrap();
    upload.put_part("half".into()).await.unwrap();
    drop(upload);
    let mut upload = room.store.put_multipart(&Path::from("a_part_never_awaited")).await.unwrap();
    drop(upload.put_part("half".into()));
    assert!(upload.complete().await.is_err(), "completed without one of its parts");
    drop(upload);
    assert_eq!(room.on_disk(), names(&[]));
}

#[tokio::test]
async fn copy_and_rename() {
    let room = room();
    room.put("a", "A", PutMode::Create).await.unwrap();
    room.put("b", "B", PutMode::Create).await.unwrap();
    let (a, b) = (Path::from("a"), Path::from("b"));
    let refused = room.store.copy_if_not_exists(&a, &b).await.unwrap_err();
    assert!(matches!(refused, Error::AlreadyExists { .. }), "{refused}");
    let refused = room.store.rename_if_not_exists(&a, &b).await.unwrap_err();
    assert!(matches!(refused, Error::AlreadyExists { .. }), "{refused}");
    assert_eq!((room.text("a").await, room.text("b").await), ("A".to_owned(), "B".to_owned()));
    room.store.copy_if_not_exists(&a, &Path::from("new/c")).await.unwrap();
    room.store.copy(&b, &a).await.unwrap();
    assert_eq!(room.text("a").await, "B");
    room.store.rename_if_not_exists(&a, &Path::from("other/d")).await.unwrap();
    room.store.rename(&b, &Path::from("new/c")).await.unwrap();
    assert_eq!(room.text("new/c").await, "B");
    assert_eq!(room.on_disk(), names(&["new/c", "other/d"]));
    let missing = room.store.copy(&a, &b).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    let missing = room.store.rename(&a, &b).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    room.store.delete(&Path::from("new/c")).await.unwrap();
    assert_eq!(room.on_disk(), names(&["other/d"]));
}

#[tokio::test]
async fn what_killed_writers_left_is_removed_at_open() {
    let room = room();
    room.put("t/_delta_log/00.json", "x", PutMode::Create).await.unwrap();
    for left in ["t/_delta_log/01.json#12000000001", "t/part.parquet#7"] {
        std::fs::write(room.folder.path().join(left), "half").unwrap();
    }
    std::fs::write(room.folder.path().join("t/kept#name"), "not temporary").unwrap();
    assert_eq!(remove_temporary_files(room.folder.path()).unwrap(), 2);
    assert_eq!(room.on_disk(), names(&["t/_delta_log/00.json", "t/kept#name"]));
    assert_eq!(remove_temporary_files(&room.folder.path().join("nowhere")).unwrap(), 0);
}

#[tokio::test]
async fn a_failed_fsync_stops_every_later_write() {
    let room = room();
    let failed: Result<()> =
        room.store.write(|| Err(Failure::Sync(io::Error::other("the disk is gone")))).await;
    assert!(failed.unwrap_err().to_string().contains("the disk is gone"));
    let refused = room.put("a", "A", PutMode::Create).await.unwrap_err();
    assert!(refused.to_string().contains("an earlier fsync failed"), "{refused}");
    let clone = Room { folder: tempfile::tempdir().unwrap(), store: room.store.clone() };
    assert!(clone.put("a", "A", PutMode::Create).await.is_err(), "a clone is the same store");
    assert_eq!(room.on_disk(), names(&[]));
}

#[test]
fn works_without_a_runtime() {
    let room = room();
    let path = Path::from("a");
    futures::executor::block_on(room.store.put_opts(&path, "A".into(), PutOptions::default())).unwrap();
    assert_eq!(room.on_disk(), names(&["a"]));
}

/// A writer that goes away in the middle of a write: who may write next waits for the end of that write.
#[tokio::test]
async fn a_write_keeps_the_right_to_write_to_its_end() {
    let room = room();
    let right: Arc<Right> = Arc::new(());
    let alone = Arc::downgrade(&right);
    let store = room.store.holding(&right);
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let writing = store.write(move || {
        begun.send(()).ok();
        may_go_on.recv().ok();
        Ok(())
    });
    tokio::select! {
        _ = writing => panic!("the write waits to be told"),
        _ = has_begun => {}
    }
    // The writer is gone, and the write goes on.
    drop(right);
    assert!(alone.upgrade().is_some(), "another writer could begin in the middle of the write");
    let mut settled = std::pin::pin!(room.store.settled());
    assert!(futures::poll!(&mut settled).is_pending(), "a write is on its way");
    go_on.send(()).unwrap();
    settled.await;
    assert!(alone.upgrade().is_none());
    // Nothing of that writer's begins any more; others do.
    let refused = store.put(&Path::from("late"), "x".into()).await.unwrap_err();
    assert!(refused.to_string().contains("has given back its right"), "{refused}");
    room.store.put(&Path::from("own"), "x".into()).await.unwrap();
}
