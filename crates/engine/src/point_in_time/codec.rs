//! The operator on its way to another machine: its spec, and nothing else.

use std::fmt;
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};

use super::ends::Ends;
use super::operator::{Hooks, Mode, PointInTimeExec};
use super::spec::{Spec, SpineColumns};
use crate::Engine;

/// The version byte in front.
const VERSION: u8 = 5;

/// Finds a spine by its content hash; how it came to this machine is the finder's matter.
pub type FindSpine = Arc<dyn Fn(&str) -> Option<Arc<SpineColumns>> + Send + Sync>;

/// Ships the operator's spec: a version byte, the length of what follows as four little-endian bytes, JSON; and where it
/// knows of rows that end, these behind it ([`super::Ends`]). The spine goes apart, named by its content, once for all
/// operators that answer it.
#[derive(Clone)]
pub struct Codec {
    engine: Engine,
    spines: FindSpine,
}

impl Codec {
    /// A codec of this engine's plans, that finds spines so.
    pub fn new(engine: Engine, spines: FindSpine) -> Codec {
        Codec { engine, spines }
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Shipped {
    mode: Mode,
    spec: Arc<Spec>,
    /// [`SpineColumns::hash`].
    spine: String,
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let bad = |reason: String| {
            DataFusionError::Plan(format!("a point-in-time operator cannot be read: {reason}"))
        };
        let (version, rest) = bytes.split_first().ok_or_else(|| bad("there are no bytes".to_owned()))?;
        if *version != VERSION {
            return Err(bad(format!("version {version} is not known, only {VERSION}")));
        }
        let early = || bad("it ends early".to_owned());
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(early)?;
        let (json, ends) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(early)?;
        let shipped: Shipped = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        let ends = match ends {
            [] => None,
            ends => Some(Ends::decode(ends).ok_or_else(|| bad("its rows that end are damaged".to_owned()))?),
        };
        let [input] = inputs else { return Err(bad(format!("it has {} inputs, not one", inputs.len()))) };
        let spine = (self.spines)(&shipped.spine).filter(|found| found.hash() == shipped.spine);
        let spine = spine.ok_or_else(|| bad(format!("its spine {} is not here", shipped.spine)))?;
        let exec = PointInTimeExec::new(
            &self.engine,
            shipped.spec,
            shipped.mode,
            spine,
            Arc::clone(input),
            Hooks { ends: ends.map(Arc::new), ..Hooks::default() },
        )?;
        Ok(Arc::new(exec))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> PlanResult<()> {
        let Some(exec) = node.downcast_ref::<PointInTimeExec>() else {
            return Err(DataFusionError::Plan(format!("{} cannot be sent to another machine", node.name())));
        };
        if exec.is_bound() {
            let reason = "a final half that fetches rows by address stays where the files are open";
            return Err(DataFusionError::Plan(reason.to_owned()));
        }
        bytes.push(VERSION);
        let (spec, spine) = (Arc::clone(exec.spec()), exec.spine().hash().to_owned());
        let shipped = Shipped { mode: exec.mode(), spec, spine };
        let json = serde_json::to_vec(&shipped).map_err(|e| DataFusionError::External(Box::new(e)))?;
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&json);
        if let Some(ends) = exec.ends() {
            ends.encode(bytes);
        }
        Ok(())
    }
}
