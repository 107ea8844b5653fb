//! The three engines behind one face: durable commits, snapshots, the first key from a place.

use std::path::Path;

pub trait Engine: Sync {
    /// One atomic batch, fsynced.
    fn commit(&self, rows: Vec<(Vec<u8>, Vec<u8>)>);
    /// In one snapshot: for each (length of prefix, start), the value of the first key from `start`
    /// that has the prefix. How many there were.
    fn first_from(&self, starts: &[(usize, Vec<u8>)], found: &mut dyn FnMut(&[u8])) -> usize;
    /// Takes a snapshot, ready to read, and lets it go.
    fn snapshot(&self);
    /// Waits until work in the background is done.
    fn settle(&self) {}
}

pub fn open(name: &str, folder: &Path) -> Box<dyn Engine> {
    std::fs::create_dir_all(folder).unwrap();
    match name {
        "fjall" => Box::new(Fjall::open(folder)),
        "redb" => Box::new(Redb(redb::Builder::new().set_cache_size(1 << 30).create(folder.join("db")).unwrap())),
        "lmdb" => Box::new(Lmdb::open(folder)),
        other => panic!("no engine {other}: fjall, redb or lmdb"),
    }
}

struct Fjall {
    database: fjall::Database,
    rows: fjall::Keyspace,
}

impl Fjall {
    fn open(folder: &Path) -> Fjall {
        let database = fjall::Database::builder(folder.join("db")).cache_size(1 << 30).open().unwrap();
        let rows = database.keyspace("rows", fjall::KeyspaceCreateOptions::default).unwrap();
        Fjall { database, rows }
    }
}

impl Engine for Fjall {
    fn commit(&self, rows: Vec<(Vec<u8>, Vec<u8>)>) {
        let mut batch = self.database.batch().durability(Some(fjall::PersistMode::SyncAll));
        for (key, value) in rows {
            batch.insert(&self.rows, key, value);
        }
        batch.commit().unwrap();
    }

    fn first_from(&self, starts: &[(usize, Vec<u8>)], found: &mut dyn FnMut(&[u8])) -> usize {
        use fjall::Readable;
        let snapshot = self.database.snapshot();
        let mut count = 0;
        for (prefix, start) in starts {
            // An upper edge lets it skip tables that lie elsewhere.
            let mut end = start[..*prefix].to_vec();
            end.extend_from_slice(&[0xFF; 9]);
            if let Some(row) = snapshot.range(&self.rows, start.clone()..end).next() {
                let (_, value) = row.into_inner().unwrap();
                found(&value);
                count += 1;
            }
        }
        count
    }

    fn snapshot(&self) {
        std::hint::black_box(self.database.snapshot());
    }

    fn settle(&self) {
        while self.database.active_compactions() > 0 || self.database.outstanding_flushes() > 0 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

struct Redb(redb::Database);

const ROWS: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("rows");

impl Engine for Redb {
    fn commit(&self, rows: Vec<(Vec<u8>, Vec<u8>)>) {
        let mut transaction = self.0.begin_write().unwrap();
        if std::env::var_os("KV_QUICK_REPAIR").is_some() {
            transaction.set_quick_repair(true);
        }
        {
            let mut table = transaction.open_table(ROWS).unwrap();
            for (key, value) in &rows {
                table.insert(key.as_slice(), value.as_slice()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    fn first_from(&self, starts: &[(usize, Vec<u8>)], found: &mut dyn FnMut(&[u8])) -> usize {
        use redb::ReadableDatabase;
        let table = self.0.begin_read().unwrap().open_table(ROWS).unwrap();
        let mut count = 0;
        for (prefix, start) in starts {
            let mut range = table.range::<&[u8]>(start.as_slice()..).unwrap();
            if let Some(row) = range.next() {
                let (key, value) = row.unwrap();
                if key.value().starts_with(&start[..*prefix]) {
                    found(value.value());
                    count += 1;
                }
            }
        }
        count
    }

    fn snapshot(&self) {
        use redb::ReadableDatabase;
        std::hint::black_box(self.0.begin_read().unwrap().open_table(ROWS).unwrap());
    }
}

struct Lmdb {
    environment: heed::Env,
    rows: heed::Database<heed::types::Bytes, heed::types::Bytes>,
}

impl Lmdb {
    fn open(folder: &Path) -> Lmdb {
        // SAFETY: no other process maps the file, as LMDB asks.
        let environment = unsafe { heed::EnvOpenOptions::new().map_size(16 << 30).open(folder).unwrap() };
        let mut transaction = environment.write_txn().unwrap();
        let rows = environment.create_database(&mut transaction, None).unwrap();
        transaction.commit().unwrap();
        Lmdb { environment, rows }
    }
}

impl Engine for Lmdb {
    fn commit(&self, rows: Vec<(Vec<u8>, Vec<u8>)>) {
        let mut transaction = self.environment.write_txn().unwrap();
        for (key, value) in &rows {
            self.rows.put(&mut transaction, key, value).unwrap();
        }
        transaction.commit().unwrap();
    }

    fn first_from(&self, starts: &[(usize, Vec<u8>)], found: &mut dyn FnMut(&[u8])) -> usize {
        let transaction = self.environment.read_txn().unwrap();
        let mut count = 0;
        for (prefix, start) in starts {
            if let Some((key, value)) = self.rows.get_greater_than_or_equal_to(&transaction, start).unwrap()
                && key.starts_with(&start[..*prefix])
            {
                found(value);
                count += 1;
            }
        }
        count
    }

    fn snapshot(&self) {
        std::hint::black_box(self.environment.read_txn().unwrap());
    }
}
