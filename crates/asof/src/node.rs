//! A node: the rooms opened over one data directory. Many fit in one process; one node owns a data directory.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use asof_compute::Position;
use asof_engine::{Engine, EngineConfig};
use asof_flow::{Flow, FlushBounds};
use asof_model::{Clock, Name, SERVING_LOG_FOLDER, ServingLogOptions};
use asof_online::views::LiveGenerations;
use asof_registry::Registry;
use asof_serve::{Reader, ServingLog};
use asof_server::{Access, App, CopyOnline, Limits, Listen, Rooms, Server};
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::lock::{DataDirLock, NodeFile, lock};
use crate::problem::Problem;

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The folder of its stores; made where it is missing.
    pub data_dir: PathBuf,
    /// The project that requests mean when they name none.
    pub project: Option<Name>,
    /// Bytes that queries may take.
    pub memory: u64,
    /// Threads that queries may use.
    pub threads: usize,
    /// How many trainings, rebuilds, loads, materialisations and backups go on at once; more wait.
    pub operations: usize,
    /// Which answers are kept, and how long.
    pub serving_log: ServingLogOptions,
    /// When pushed rows are moved into their tables.
    pub flush: FlushBounds,
    /// What it calls itself to those it keeps out, e.g. `asof up`.
    pub name: String,
    /// How long to wait for another owner of the data directory to end.
    pub patience: Duration,
    /// Whether it answers requests: then trainings, loads and all else step back for them.
    pub serves: bool,
    /// Times, bytes and connections of its server.
    pub limits: Limits,
    /// Where the present comes from.
    pub clock: Arc<dyn Clock>,
}

impl NodeConfig {
    /// Over this folder, all else by default.
    pub fn new(data_dir: impl Into<PathBuf>) -> NodeConfig {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        NodeConfig {
            data_dir: data_dir.into(),
            project: None,
            memory: 2 << 30,
            threads,
            operations: crate::config::operations_of(threads),
            serving_log: ServingLogOptions::default(),
            flush: FlushBounds::default(),
            name: "asof".to_owned(),
            patience: Duration::ZERO,
            serves: false,
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// A node. Drop it to close its stores.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    app: App,
    rooms: Rooms,
    stop: CancellationToken,
    certificate: OnceLock<String>,
    _lock: DataDirLock,
}

impl Node {
    /// Opens the stores of a data directory.
    ///
    /// # Errors
    /// Another node owns it, or a store cannot be opened.
    pub async fn open(config: NodeConfig) -> Result<Node, Problem> {
        let lock = {
            let (data_dir, name, patience) = (config.data_dir.clone(), config.name.clone(), config.patience);
            let taken = tokio::task::spawn_blocking(move || lock(&data_dir, &name, patience)).await;
            taken.map_err(|_| {
                Problem::new(
                    asof_model::Kind::Internal,
                    "internal",
                    "the lock of the data directory was not taken",
                )
            })??
        };
        let data_dir = config.data_dir.clone();
        let cleared = tokio::task::spawn_blocking(move || crate::leftovers::clear(&data_dir)).await;
        if let Err(error) = cleared {
            tracing::warn!(%error, "what a killed process left was not removed");
        }
        let registry =
            Registry::open(&config.data_dir.join("registry.db"), Arc::clone(&config.clock)).await?;
        let interrupted = registry.interrupt_runs().await?;
        if interrupted > 0 {
            tracing::warn!(runs = interrupted, "runs were interrupted by the end of the last node");
        }
        let engine = EngineConfig {
            data_dir: config.data_dir.clone(),
            memory: config.memory,
            threads: config.threads,
            code_version: code_version(),
        };
        let engine = if config.serves { Engine::beside_requests(engine) } else { Engine::new(engine) }?;
        let path = config.data_dir.join("online");
        let room = Room::of(config.memory);
        let options = asof_online::Options { cache: room.cache };
        let opened = tokio::task::spawn_blocking(move || asof_online::open(&path, &options));
        let online = opened.await.map_err(|_| {
            Problem::new(asof_model::Kind::Internal, "internal", "the online store was not opened")
        })??;
        let path = config.data_dir.join("live");
        let floor = engine.greatest_position().await?;
        // Positions of cuts that were recorded are given to no other row, also where their tables are gone.
        let folder = config.data_dir.join(SERVING_LOG_FOLDER);
        let logged = tokio::task::spawn_blocking(move || asof_flow::greatest_logged_position(&folder));
        let logged = logged.await.map_err(|_| {
            Problem::new(asof_model::Kind::Internal, "internal", "the serving log was not looked at")
        })?;
        let recorded = Position(registry.greatest_position().await?).max(logged);
        let options = asof_online::live::LiveOptions {
            floor: floor.max(recorded),
            cache: room.cache,
            memory: room.rows,
            waiting: room.rows,
            ..asof_online::live::LiveOptions::new(Arc::clone(&config.clock))
        };
        let opened = tokio::task::spawn_blocking(move || asof_online::live::open(&path, &options));
        let live = opened.await.map_err(|_| {
            Problem::new(asof_model::Kind::Internal, "internal", "the live store was not opened")
        })??;
        let of_store = Arc::clone(&live);
        let opened = tokio::task::spawn_blocking(move || LiveGenerations::open(of_store));
        let live_views = Arc::new(opened.await.map_err(|_| {
            Problem::new(asof_model::Kind::Internal, "internal", "the views of the live store were not read")
        })??);
        let clock = Arc::clone(&config.clock);
        let stop = CancellationToken::new();
        let mut reader = Reader::deriving(Arc::clone(&online), Arc::clone(&clock), Arc::new(engine.clone()))
            .with_live(Arc::clone(&live_views));
        if config.serving_log.sample > 0.0 {
            let folder = config.data_dir.join(SERVING_LOG_FOLDER);
            let log = ServingLog::open(folder, &config.serving_log, Arc::clone(&clock));
            reader = reader.with_log(log.map_err(|error| {
                let message = format!("the thread of the serving log was not started: {error}");
                Problem::new(asof_model::Kind::Unavailable, "no_threads", message)
            })?);
        }
        let rooms = Rooms {
            reader,
            flow: Flow::new(registry.clone(), engine.clone(), Arc::clone(&online), Arc::clone(&clock))
                .with_batch_bytes(room.batch)
                .with_intake(Arc::clone(&live), Arc::clone(&live_views) as Arc<dyn asof_flow::LiveViews>)
                .with_views(live_views)
                .with_live(Arc::clone(&live), floor, config.flush)
                .with_operations(config.operations),
            copy_online: CopyOnline(Arc::new(move |to| {
                online.backup(&to.join("online"))?;
                // Before the tables that its log goes into: what is gone from the log is in them.
                Ok(live.backup(&to.join("live"))?)
            })),
            project: config.project.clone(),
            registry,
            engine,
            clock,
            data_dir: config.data_dir.clone(),
            limits: config.limits.clone(),
            stop: stop.clone(),
        };
        Ok(Node {
            app: App::new(rooms.clone()),
            rooms,
            config,
            stop,
            certificate: OnceLock::new(),
            _lock: lock,
        })
    }

    /// Its operations.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Cancelled when it is told to stop.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Listens, tells the commands of this machine where, and serves until it is told to stop.
    ///
    /// # Errors
    /// It may not or cannot listen there.
    pub async fn serve(
        &self,
        listen: &Listen,
        token: Option<&str>,
        listening: impl FnOnce(&str),
    ) -> Result<(), Problem> {
        // A node has one set of limits, for its connections and for its operations.
        let listen = &Listen { limits: self.config.limits.clone(), ..listen.clone() };
        let server = Server::bind(listen).await?;
        let file = NodeFile {
            address: server.url(),
            pid: std::process::id(),
            token: token.map(str::to_owned),
            certificate: server.certificate().map(|der| blake3::hash(der).to_hex().to_string()),
        };
        if let Some(hash) = &file.certificate {
            // A node listens once.
            drop(self.certificate.set(hash.clone()));
        }
        file.write(&self.config.data_dir)?;
        listening(&file.address);
        // Told to be open to other machines it is so only where they can reach it at all.
        let beyond = listen.insecure && !server.address().ip().is_loopback();
        let access = Access::new(token, beyond);
        server.serve(self.app.clone(), access, self.stop.clone()).await;
        NodeFile::remove(&self.config.data_dir);
        Ok(())
    }

    /// The hash of the certificate it serves with, once it listens with TLS.
    pub fn certificate_hash(&self) -> Option<String> {
        self.certificate.get().cloned()
    }

    /// Materialises every view at its own `refresh` and moves pushed rows into their tables, until the node is told to
    /// stop.
    pub async fn refresh(&self) {
        let flow = &self.rooms.flow;
        tokio::join!(flow.refresh_forever(self.stop.clone()), flow.flush_forever(self.stop.clone()));
    }

    /// Waits for what goes on to end and the stores to be closed.
    pub async fn close(&self) {
        // A long log is gone on with another time.
        let flushed = tokio::time::timeout(FLUSH_AT_CLOSE, self.rooms.flow.flush()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "pushed rows stay in their log until the node is up again");
        }
        self.stop.cancel();
        self.rooms.flow.close().await;
        self.app.finished().await;
        if let Some(log) = self.rooms.reader.log().cloned() {
            let closed = tokio::task::spawn_blocking(move || log.close()).await;
            if closed.is_err() {
                tracing::warn!("the serving log was not closed");
            }
        }
        self.rooms.registry.close().await;
    }
}

/// How long the close of a node waits for pushed rows to be moved into their tables.
const FLUSH_AT_CLOSE: std::time::Duration = std::time::Duration::from_secs(5);

/// What the online and the live store take beside the memory of queries, in bytes: less than usual in a node that is
/// told to be small, never more.
struct Room {
    /// Of the store's pages.
    cache: usize,
    /// Rows of a materialisation that are gathered before each commit.
    batch: usize,
    /// Pushed rows that memory takes before they are written to a table.
    rows: usize,
}

impl Room {
    fn of(memory: u64) -> Room {
        let share =
            |part: u64, most: u64| usize::try_from((memory / part).clamp(4 << 20, most)).unwrap_or(4 << 20);
        Room { cache: share(4, 256 << 20), batch: share(8, 64 << 20), rows: share(16, 64 << 20) }
    }
}

/// The version that records carry, with the commit where it was built from a clone: `0.1.0+3f2a91c0b7d4`.
pub(crate) fn code_version() -> String {
    match option_env!("ASOF_COMMIT") {
        Some(commit) => format!("{}+{commit}", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    }
}
