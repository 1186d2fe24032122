//! Query steps for any frame, and runs of several queries at once.

use std::sync::Arc;

use polars::prelude::*;
use polars_plan::plans::{HintIR, Sorted};
use polars_profile::parquet::without_panic;

use crate::error::{QueryError, Result};

/// Runs several queries together with `engine`. Work that they share is done once.
///
/// Returns their results, in the order of `queries`.
///
/// # Errors
///
/// [`Error::Polars`](crate::Error::Polars) if a query fails.
pub fn collect_all(queries: &[&LazyFrame], engine: Engine) -> Result<Vec<DataFrame>> {
    let plans = queries.iter().map(|query| query.logical_plan.clone()).collect();
    let collect = || LazyFrame::collect_all_with_engine(plans, engine, OptFlags::default());
    Ok(without_panic(collect).map_err(QueryError::at("run the queries together"))?)
}

/// Marks `frame` as sorted by `column` in ascending order. polars does not check the order: if it is
/// wrong, results are wrong.
///
/// # Errors
///
/// [`Error::Polars`](crate::Error::Polars) if polars cannot set the mark.
pub fn set_sorted(frame: &LazyFrame, column: &str) -> Result<LazyFrame> {
    let sorted = Sorted { column: column.into(), descending: Some(false), nulls_last: Some(false) };
    let hint = HintIR::Sorted(Arc::from([sorted]));
    let marked = frame.clone().hint(hint);
    Ok(marked.map_err(QueryError::at(format!("mark column {column} as sorted")))?)
}

/// Counts the rows of an inner join of `left` and `right` on the columns `on`, without joining them.
///
/// Returns one row with `rows` (i64): the sum of n · m over the keys that occur n times in `left` and
/// m times in `right`.
pub fn join_row_count(left: &LazyFrame, right: &LazyFrame, on: &[&str]) -> LazyFrame {
    let keys: Vec<Expr> = on.iter().map(|name| col(*name)).collect();
    let count = |side: &LazyFrame, name: &str| {
        side.clone().group_by(&keys).agg([len().cast(DataType::Int64).alias(name)])
    };
    count(left, "n")
        .join(count(right, "m"), &keys, &keys, JoinArgs::new(JoinType::Inner))
        .select([(col("n") * col("m")).sum().alias("rows")])
}
