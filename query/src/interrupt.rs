//! Plans that can be stopped.
//!
//! Operators give way to others when they read; a join can work for minutes on what it has read already, so that
//! neither the time limit nor a caller who went away would end it. Two things are added to a finished plan: every join
//! gives way between its batches, and the condition of a join, which may reject row after row without a batch in
//! between, fails once the statement is over. It looks at the clock itself: while joins keep all threads of a runtime
//! busy, its timers do not fire.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};

/// Whether a statement is over: answered, out of time, or dropped by its caller.
#[derive(Clone, Debug)]
pub(crate) struct Over {
    dropped: Arc<AtomicBool>,
    deadline: Instant,
}

impl Over {
    /// Over at the deadline, if not before.
    pub(crate) fn at(deadline: Instant) -> Over {
        Over { dropped: Arc::default(), deadline }
    }

    /// Says so when dropped.
    pub(crate) fn when_dropped(&self) -> OverWhenDropped {
        OverWhenDropped(self.clone())
    }

    fn is_over(&self) -> bool {
        self.dropped.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }
}

/// Ends the statement when it is dropped.
pub(crate) struct OverWhenDropped(Over);

impl Drop for OverWhenDropped {
    fn drop(&mut self) {
        self.0.dropped.store(true, Ordering::Relaxed);
    }
}

/// The same plan, whose joins end soon after the statement is over.
pub(crate) fn interruptible(plan: Arc<dyn ExecutionPlan>, over: &Over) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|plan| {
        let join = match guarded(&plan, over)? {
            Some(join) => join,
            None if plan.is::<CrossJoinExec>() => plan,
            None => return Ok(Transformed::no(plan)),
        };
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(join)) as Arc<dyn ExecutionPlan>))
    })?;
    Ok(plan.data)
}

/// A join with a condition that looks whether the statement is over; none where the plan is no such join.
fn guarded(plan: &Arc<dyn ExecutionPlan>, over: &Over) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let guard = |filter: Option<&JoinFilter>| filter.map(|filter| guarded_filter(filter, over));
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        return match guard(join.filter()) {
            Some(filter) => join.builder().with_filter(Some(filter)).build_exec().map(Some),
            None => Ok(Some(Arc::clone(plan))),
        };
    }
    let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() else {
        return Ok(None);
    };
    let Some(filter) = guard(join.filter()) else {
        return Ok(Some(Arc::clone(plan)));
    };
    let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
    let join = NestedLoopJoinExecBuilder::new(left, right, *join.join_type())
        .with_projection_ref(join.projection().clone())
        .with_filter(Some(filter))
        .build()?;
    Ok(Some(Arc::new(join)))
}

fn guarded_filter(filter: &JoinFilter, over: &Over) -> JoinFilter {
    let condition = Arc::new(Guarded { inner: Arc::clone(filter.expression()), over: over.clone() });
    JoinFilter::new(condition, filter.column_indices().to_vec(), Arc::clone(filter.schema()))
}

/// An expression that fails once the statement is over.
#[derive(Debug)]
struct Guarded {
    inner: Arc<dyn PhysicalExpr>,
    over: Over,
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Guarded) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Guarded {}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Guarded {
    fn data_type(&self, input_schema: &Schema) -> Result<DataType> {
        self.inner.data_type(input_schema)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        self.inner.nullable(input_schema)
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        match self.over.is_over() {
            true => Err(DataFusionError::Execution("the statement is over".to_owned())),
            false => self.inner.evaluate(batch),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let [inner] = &children[..] else {
            return Err(DataFusionError::Internal("a guarded expression has one child".to_owned()));
        };
        Ok(Arc::new(Guarded { inner: Arc::clone(inner), over: self.over.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
