//! `and` and `or` that guard row by row, and times whose arithmetic never wraps; that of integers is
//! `crate::integers`'.
//!
//! DataFusion spares the right side of an `and` where the left decides a whole batch, or most of it: whether
//! `ok and 10 / x > 1` fails would depend on which rows come together, and so on threads and on how often
//! something is refreshed. Here a row that the left side decides is never evaluated on the right.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{and_kleene, or_kleene};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};

/// The expression with guards in the place of every `and` and `or` whose right side can fail, and with sums,
/// differences and products that fail where they run over: what `crate::integers` leaves, times and lengths.
pub(super) fn guarded(expression: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let guarded = expression.transform_up(|node| {
        let Some(binary) = node.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(node)) };
        let (left, right) = (Arc::clone(binary.left()), Arc::clone(binary.right()));
        let made: Arc<dyn PhysicalExpr> = match *binary.op() {
            op @ (Operator::And | Operator::Or) if can_fail(&right) => {
                Arc::new(Guard { is_and: op == Operator::And, left, right })
            }
            op @ (Operator::Plus | Operator::Minus | Operator::Multiply) => {
                Arc::new(BinaryExpr::new(left, op, right).with_fail_on_overflow(true))
            }
            _ => return Ok(Transformed::no(node)),
        };
        Ok(Transformed::yes(made))
    });
    guarded.data()
}

/// Whether evaluating it may be an error, as far as its form tells.
fn can_fail(expression: &Arc<dyn PhysicalExpr>) -> bool {
    let is_leaf = expression.is::<Column>() || expression.is::<Literal>();
    let is_test = expression.is::<IsNullExpr>()
        || expression.is::<IsNotNullExpr>()
        || expression.is::<NotExpr>()
        || expression.downcast_ref::<BinaryExpr>().is_some_and(|binary| {
            matches!(
                binary.op(),
                Operator::And
                    | Operator::Or
                    | Operator::Eq
                    | Operator::NotEq
                    | Operator::Lt
                    | Operator::LtEq
                    | Operator::Gt
                    | Operator::GtEq
                    | Operator::IsDistinctFrom
                    | Operator::IsNotDistinctFrom
            )
        });
    !is_leaf && (!is_test || expression.children().into_iter().any(can_fail))
}

/// An `and` or an `or` whose right side is evaluated on the rows alone that the left side leaves open.
#[derive(Debug)]
struct Guard {
    is_and: bool,
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
}

impl PartialEq for Guard {
    fn eq(&self, other: &Guard) -> bool {
        self.is_and == other.is_and && self.left.eq(&other.left) && self.right.eq(&other.right)
    }
}

impl Eq for Guard {}

impl Hash for Guard {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.is_and.hash(state);
        self.left.hash(state);
        self.right.hash(state);
    }
}

impl Guard {
    fn word(&self) -> &'static str {
        if self.is_and { "AND" } else { "OR" }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.left, self.word(), self.right)
    }
}

fn booleans(value: ColumnarValue, rows: usize) -> Result<BooleanArray> {
    let array = value.into_array(rows)?;
    let array = match array.data_type() {
        // A null literal.
        DataType::Null => arrow::compute::cast(&array, &DataType::Boolean)?,
        _ => array,
    };
    let found = array.as_boolean_opt().cloned();
    found.ok_or_else(|| DataFusionError::Internal("a side of a condition is no boolean".to_owned()))
}

impl PhysicalExpr for Guard {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(schema)? || self.right.nullable(schema)?)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let left = booleans(self.left.evaluate(batch)?, rows)?;
        // False decides an `and`, true an `or`; null decides neither.
        let decides = if self.is_and { !left.values() } else { left.values().clone() };
        let decides = match left.nulls() {
            Some(nulls) => &decides & nulls.inner(),
            None => decides,
        };
        let open: BooleanBuffer = !&decides;
        if open.count_set_bits() == 0 {
            return Ok(ColumnarValue::Array(Arc::new(left)));
        }
        let right = self.right.evaluate_selection(batch, &BooleanArray::new(open, None))?;
        let right = booleans(right, rows)?;
        let both = if self.is_and { and_kleene(&left, &right) } else { or_kleene(&left, &right) };
        Ok(ColumnarValue::Array(Arc::new(both?)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(Guard { is_and: self.is_and, left, right })),
            Err(_) => Err(DataFusionError::Internal("a condition has two sides".to_owned())),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.left.fmt_sql(f)?;
        write!(f, " {} ", self.word())?;
        self.right.fmt_sql(f)
    }
}
