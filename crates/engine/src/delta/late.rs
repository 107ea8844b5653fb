//! Rows that came to a stored source after somebody asked at a T that knows them.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use asof_model::{Place, SourceVersion, Timestamp};
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;

use crate::source::opened::stored;
use crate::source::{ScanColumns, fixed, scan_opened};
use crate::{Engine, Error, Result};

impl Engine {
    /// Of questions asked of a stored source, each when its rows up to a position were there and at a T, in the
    /// order of positions: those, by their place, before which a row came that an earlier one of them would have
    /// known. All between two of these are answered alike from the cut of the last of them, since what came
    /// meanwhile is not known at their times. One past the last where such a row is there now.
    ///
    /// Rows that are pushed are never known at a T that was answered before they came; those that a load brings may
    /// be.
    ///
    /// # Errors
    /// Where the source cannot be read.
    pub async fn late_between(
        &self,
        source: &SourceVersion,
        asked: &[(i64, Timestamp)],
    ) -> Result<BTreeSet<usize>> {
        let Some((first, _)) = asked.first() else { return Ok(BTreeSet::new()) };
        // The greatest T of all up to each.
        let mut latest: Vec<i64> = Vec::with_capacity(asked.len());
        for (_, at) in asked {
            latest.push(latest.last().map_or(at.0, |before: &i64| (*before).max(at.0)));
        }
        let mut source = source.clone();
        if let Place::Push { past } = &mut source.definition.place {
            // What is read in place has no positions.
            *past = None;
        }
        let opened = stored(self, None, &source, None, Some(*first)).await?;
        let scan = scan_opened(self, &source, &opened, &ScanColumns::default()).await?;
        let positions: Vec<i64> = asked.iter().map(|(position, _)| *position).collect();
        let (engine, plan) = (self.clone(), scan.plan);
        self.run(async move {
            let mut rows = execute_stream(plan, engine.session().task_ctx())?;
            let mut found = BTreeSet::new();
            while let Some(batch) = rows.try_next().await? {
                let column = |name: &str| {
                    let column = batch.column_by_name(name);
                    column.ok_or_else(|| Error::internal(format!("a scan gives no column `{name}`")))
                };
                let (s, v) = (column(fixed::POSITION)?, column(fixed::VISIBLE_AT)?);
                let s = s.as_primitive::<Int64Type>();
                let v = v.as_primitive::<TimestampMicrosecondType>();
                for row in (0..batch.num_rows()).filter(|row| s.is_valid(*row) && v.is_valid(*row)) {
                    // Those before it did not have it.
                    let place = positions.partition_point(|position| *position < s.value(row));
                    let known = place.checked_sub(1).and_then(|last| latest.get(last));
                    if known.is_some_and(|t| v.value(row) <= *t) {
                        found.insert(place);
                    }
                }
            }
            Ok(found)
        })
        .await
    }
}
