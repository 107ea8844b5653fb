//! Data in motion: files into stored sources ([`Flow::load`]), views into the online store.
//!
//! It says in which order things happen and keeps the record of runs; how rows are read, checked and
//! stored is `asof-engine`'s, how they lie online is `asof-online`'s.

mod error;
mod load;

use std::sync::Arc;

use asof_engine::Engine;
use asof_model::Clock;
use asof_online::OnlineStore;
use asof_registry::Registry;

pub use asof_engine::delta::{FileLoad, LoadFile, OnBadRow};
pub use error::{FlowError, Result};
pub use load::LoadReport;

/// Moves data. A cheap clone.
#[derive(Clone)]
pub struct Flow {
    pub(crate) registry: Registry,
    pub(crate) engine: Engine,
    pub(crate) online: Arc<dyn OnlineStore>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Flow {
    /// Over these rooms.
    pub fn new(
        registry: Registry,
        engine: Engine,
        online: Arc<dyn OnlineStore>,
        clock: Arc<dyn Clock>,
    ) -> Flow {
        Flow { registry, engine, online, clock }
    }
}
