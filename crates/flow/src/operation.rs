//! An operation goes on in a task of its own: whoever asked may go away, and the operation still holds
//! what it must hold alone until it has let go of the stores, and its run is recorded as ended.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use asof_model::Principal;
use asof_registry::{NewRun, RunError};
use futures::FutureExt as _;

use crate::{Flow, FlowError, Result};

impl Flow {
    /// Ends what goes on, each at its next safe point, and returns when nothing of it touches a store
    /// any more. What is asked for after is refused.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // A load that was cut off may have left a write on its way, which nobody waits for.
        self.engine.settled().await;
    }

    /// Does something in a task of its own; it goes on where nobody waits for it any more.
    pub(crate) async fn in_task<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        if self.stop.is_cancelled() {
            return Err(FlowError::Stopping);
        }
        match self.tasks.spawn(work).await {
            Ok(done) => done,
            Err(ended) => Err(FlowError::Internal { what: format!("an operation ended: {ended}") }),
        }
    }

    /// Does something under the record of a run, in a task of its own: however it ends, the run does.
    /// The run's id and what was done.
    pub(crate) async fn in_run<T: Send + 'static>(
        &self,
        principal: &Principal,
        run: NewRun,
        work: impl Future<Output = Result<T>> + Send + 'static,
        counts: fn(&T) -> BTreeMap<String, u64>,
    ) -> Result<(String, T)> {
        let (flow, principal) = (self.clone(), principal.clone());
        self.in_task(async move {
            let run = flow.registry.start_run(&principal, run).await?;
            let done = caught(work).await;
            let counts = done.as_ref().map(counts).unwrap_or_default();
            let error = done.as_ref().err().map(|error| RunError::of(error));
            // What was done is durable, so the record's trouble is not the caller's.
            if let Err(error) = flow.registry.finish_run(&run, error, counts).await {
                tracing::warn!(run, %error, "the end of a run could not be recorded");
            }
            Ok((run, done?))
        })
        .await
    }
}

/// Work whose panic is an error like any other.
pub(crate) async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
}

/// What the panic says may hold values, and is never repeated.
pub(crate) fn panicked() -> FlowError {
    let what = "it panicked, a defect in Asof: what the panic said is on standard error";
    FlowError::Internal { what: what.to_owned() }
}
