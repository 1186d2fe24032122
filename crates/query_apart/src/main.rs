//! Runs one query in a process of its own, for [`wearable_demo::apart`], and is of no use by
//! itself.
//!
//! A plan is read here and not in the library for the time that it takes to compile; see
//! `plan_bytes`.

use std::process::ExitCode;

use polars_error::PolarsResult;
use polars_plan::dsl::DslPlan;

fn main() -> ExitCode {
    wearable_demo::apart::serve(read)
}

fn read(bytes: &[u8]) -> PolarsResult<DslPlan> {
    DslPlan::deserialize_versioned(bytes)
}
