//! The operator as several machines run it: partial halves beside the rows, a final half beside the spine, all that
//! passes between them through the [`Codec`].

use std::sync::Arc;

use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, collect_partitioned};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};

use super::codec::Codec;
use super::ends::Ends;
use super::operator::{Hooks, Mode, PointInTimeExec};
use super::spec::{Spec, SpineColumns};
use crate::{Engine, Error, Result};

/// A final half over partial ones over these rows, as it arrives elsewhere. The rows are held in memory, since the scans
/// of files are of the machine that has them open.
pub(super) async fn both(
    engine: &Engine,
    spec: &Arc<Spec>,
    spine: &Arc<SpineColumns>,
    rows: Arc<dyn ExecutionPlan>,
    ends: Option<Arc<Ends>>,
) -> Result<PointInTimeExec> {
    let context = engine.session().task_ctx();
    let schema = rows.schema();
    let partitions = collect_partitioned(rows, Arc::clone(&context)).await?;
    let rows = MemorySourceConfig::try_new_exec(&partitions, schema, None)?;
    let half = |mode, input, ends| {
        let hooks = Hooks { ends, ..Hooks::default() };
        PointInTimeExec::new(engine, Arc::clone(spec), mode, Arc::clone(spine), input, hooks)
    };
    // Told which rows end where the rows are; they bring it to the final half.
    let partial = sent(engine, spine, &context, half(Mode::Partial, rows, ends)?)?;
    let last = sent(engine, spine, &context, half(Mode::Final, partial, None)?)?;
    let last = last.downcast_ref::<PointInTimeExec>().cloned();
    last.ok_or_else(|| Error::internal("the codec made another plan of the operator"))
}

/// A plan sent to another machine that has the spine, and received.
fn sent(
    engine: &Engine,
    spine: &Arc<SpineColumns>,
    context: &TaskContext,
    plan: PointInTimeExec,
) -> Result<Arc<dyn ExecutionPlan>> {
    let known = Arc::clone(spine);
    let find = move |hash: &str| (hash == known.hash()).then(|| Arc::clone(&known));
    let codec = Codec::new(engine.clone(), Arc::new(find));
    let bytes = physical_plan_to_bytes_with_extension_codec(Arc::new(plan), &codec)?;
    Ok(physical_plan_from_bytes_with_extension_codec(&bytes, context, &codec)?)
}
