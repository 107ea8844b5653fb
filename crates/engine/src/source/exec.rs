//! Reading a source's files as an execution plan.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions, SchedulingType,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

use futures::StreamExt;

use super::files::{Batches, OpenFile, Part};
use super::rules::{FileRules, Place, Rules};
use crate::{Error, Result};

/// How many low bits of an address number the row within its file.
pub(crate) const ROW_BITS: u32 = 40;

/// Reads files, parts of which are dealt to partitions.
#[derive(Debug)]
pub(crate) struct FilesExec {
    files: Arc<Vec<OpenFile>>,
    rules: FileRules,
    dealt: Vec<Vec<(usize, Part)>>,
    properties: Arc<PlanProperties>,
}

impl FilesExec {
    /// Parts are dealt largest first, each to the partition with least.
    pub(crate) fn new(files: Arc<Vec<OpenFile>>, rules: FileRules, partitions: usize) -> FilesExec {
        let mut parts = parts(&files, &rules);
        parts.sort_by_key(|(size, at, part)| (std::cmp::Reverse(*size), *at, *part));
        let partitions = partitions.clamp(1, parts.len().max(1));
        let mut dealt: Vec<(u64, Vec<(usize, Part)>)> = vec![(0, Vec::new()); partitions];
        for (size, at, part) in parts {
            if let Some(least) = dealt.iter_mut().min_by_key(|(sum, _)| *sum) {
                least.0 += size.max(1);
                least.1.push((at, part));
            }
        }
        let mut dealt: Vec<Vec<(usize, Part)>> = dealt.into_iter().map(|(_, parts)| parts).collect();
        dealt.iter_mut().for_each(|parts| parts.sort_unstable());
        FilesExec::dealt(files, rules, dealt)
    }

    /// Partitions are runs of parts, in their order, about so many: for threads that each take the next run
    /// when they are through with one.
    pub(crate) fn in_runs(files: Arc<Vec<OpenFile>>, rules: FileRules, runs: usize) -> FilesExec {
        let parts = parts(&files, &rules);
        let all: u64 = parts.iter().map(|(size, ..)| (*size).max(1)).sum();
        let most = all.div_ceil(runs.max(1) as u64);
        let mut dealt: Vec<Vec<(usize, Part)>> = Vec::new();
        let mut sum = most;
        for (size, at, part) in parts {
            match dealt.last_mut() {
                Some(run) if sum < most => run.push((at, part)),
                _ => {
                    dealt.push(vec![(at, part)]);
                    sum = 0;
                }
            }
            sum += size.max(1);
        }
        if dealt.is_empty() {
            dealt.push(Vec::new());
        }
        FilesExec::dealt(files, rules, dealt)
    }

    fn dealt(files: Arc<Vec<OpenFile>>, rules: FileRules, dealt: Vec<Vec<(usize, Part)>>) -> FilesExec {
        let partitions = dealt.len();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(rules.own().schema())),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        FilesExec { files, rules, dealt, properties: Arc::new(properties) }
    }
}

/// The parts of files that are needed, as far as statistics say, in their order: with their sizes.
fn parts(files: &[OpenFile], rules: &FileRules) -> Vec<(u64, usize, Part)> {
    let of_file = |(at, file): (usize, &OpenFile)| {
        let needed = file.parts().into_iter().filter(|(_, part)| !file.is_past_need(*part, rules.of(file)));
        needed.map(|(size, part)| (size, at, part)).collect::<Vec<_>>()
    };
    files.iter().enumerate().flat_map(of_file).collect()
}

impl DisplayAs for FilesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilesExec: source={}, files={}", self.rules.own().source(), self.files.len())
    }
}

impl ExecutionPlan for FilesExec {
    fn name(&self) -> &'static str {
        "FilesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> PlanResult<TreeNodeRecursion>,
    ) -> PlanResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> PlanResult<SendableRecordBatchStream> {
        let Some(parts) = self.dealt.get(partition) else {
            return Err(DataFusionError::Internal(format!("FilesExec has no partition {partition}")));
        };
        let reading = Reading {
            files: Arc::clone(&self.files),
            rules: self.rules.clone(),
            parts: parts.clone().into_iter(),
            batch: context.session_config().batch_size() * self.rules.own().batches(),
            open: None,
        };
        let schema: SchemaRef = Arc::clone(self.rules.own().schema());
        let batches = futures::stream::iter(reading.map(|batch| batch.map_err(DataFusionError::from)));
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, batches))))
    }
}

/// The rules of a source over the rows of another plan.
#[derive(Debug)]
pub(crate) struct RulesExec {
    input: Arc<dyn ExecutionPlan>,
    rules: Arc<Rules>,
    /// What stands for the file in errors.
    place: Arc<str>,
    failing: Failing,
    properties: Arc<PlanProperties>,
}

/// What an error of an input becomes, with the source's name.
pub(crate) type Failing = fn(DataFusionError, &str) -> Error;

impl RulesExec {
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        rules: Arc<Rules>,
        place: &str,
        failing: Failing,
    ) -> RulesExec {
        let partitions = input.properties().partitioning.partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(rules.schema())),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        RulesExec { input, rules, place: place.into(), failing, properties: Arc::new(properties) }
    }
}

impl DisplayAs for RulesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RulesExec: source={}", self.rules.source())
    }
}

impl ExecutionPlan for RulesExec {
    fn name(&self) -> &'static str {
        "RulesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> PlanResult<TreeNodeRecursion>,
    ) -> PlanResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        match children.into_iter().next() {
            Some(input) => {
                let rules = Arc::clone(&self.rules);
                Ok(Arc::new(RulesExec::new(input, rules, &self.place, self.failing)))
            }
            None => Err(DataFusionError::Internal("RulesExec needs an input".to_owned())),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> PlanResult<SendableRecordBatchStream> {
        let rules = Arc::clone(&self.rules);
        let place = Arc::clone(&self.place);
        let failing = self.failing;
        let mut before = (partition as u64) << ROW_BITS;
        let batches = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch.map_err(|error| failing(error, rules.source()))?;
            let place = Place { file: &place, before: None };
            let first = before;
            before += batch.num_rows() as u64;
            Ok(rules.apply(&batch, place, first)?)
        });
        let schema: SchemaRef = Arc::clone(self.rules.schema());
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, batches))))
    }
}

/// One partition being read: part by part, batch by batch.
struct Reading {
    files: Arc<Vec<OpenFile>>,
    rules: FileRules,
    parts: std::vec::IntoIter<(usize, Part)>,
    batch: usize,
    open: Option<(usize, Batches)>,
}

impl Reading {
    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some((at, batches)) = &mut self.open else {
                let Some((at, part)) = self.parts.next() else { return Ok(None) };
                let Some(file) = self.files.get(at) else { return Ok(None) };
                self.open = Some((at, file.read(part, self.rules.of(file), self.batch)?));
                continue;
            };
            let at = *at;
            match batches.next() {
                None => self.open = None,
                Some(batch) => {
                    let (before, raw) = batch?;
                    let Some(file) = self.files.get(at) else { return Ok(None) };
                    let place = Place { file: file.shown(), before: Some(before) };
                    let address = ((at as u64) << ROW_BITS) | before;
                    return self.rules.of(file).apply(&raw, place, address).map(Some);
                }
            }
        }
    }
}

impl Iterator for Reading {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        let batch = self.batch();
        if batch.is_err() {
            // An error ends the stream.
            self.parts = Vec::new().into_iter();
            self.open = None;
        }
        batch.transpose()
    }
}
