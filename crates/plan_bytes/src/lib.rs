//! A lazy query's plan as bytes, for another process.
//!
//! polars writes a plan by generic code, which takes half a minute to compile for all that can
//! stand in a plan. Here it is compiled once, and not at every edit of the library.

use polars_error::PolarsResult;
use polars_plan::dsl::DslPlan;

/// `plan` in polars' own versioned form.
///
/// # Errors
///
/// polars' error for a plan with something in it that is only in this process, such as a closure.
pub fn to_bytes(plan: &DslPlan) -> PolarsResult<Vec<u8>> {
    let mut bytes = Vec::new();
    plan.serialize_versioned(&mut bytes, Default::default())?;
    Ok(bytes)
}
