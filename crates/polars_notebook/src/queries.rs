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
