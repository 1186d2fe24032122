//! Inspects polars queries: their plans, timings, peak memory, and metrics of each plan node.
//!
//! # Explain a query
//!
//! ```
//! use polars::prelude::*;
//! use polars_profile::{explain, physical_graph, plan_svg};
//!
//! # fn main() -> polars_profile::Result<()> {
//! let frame = df!["key" => [1, 2, 1], "value" => [0.5, 1.5, 2.5]]?;
//! let query = frame.lazy().filter(col("value").gt(lit(1))).group_by([col("key")]).agg([len()]);
//! // The optimised plan, as text with facts.
//! let plan = explain(&query)?;
//! assert_eq!(plan.count("AGGREGATE"), 1);
//! // The physical plan of the streaming engine, as a picture.
//! let svg = plan_svg::svg(&physical_graph(&query)?);
//! assert!(svg.starts_with("<svg"));
//! # Ok(())
//! # }
//! ```
//!
//! # Time a query
//!
//! ```
//! use polars::prelude::*;
//! use polars_profile::measure;
//!
//! # fn main() -> polars_profile::Result<()> {
//! let query = df!["x" => [1, 2, 3]]?.lazy().select([col("x").sum()]);
//! println!("{}", measure(&query, Engine::Streaming)?);
//! # Ok(())
//! # }
//! ```
//!
//! # Profile a query
//!
//! [`profile()`] runs a query in a worker process and returns its peak memory and the rows, time and
//! bytes of each plan node. The worker is a program of yours, called `profile_worker`, with this
//! `main`:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     polars_profile::worker::serve()
//! }
//! ```
//!
//! ```no_run
//! use polars::prelude::*;
//! use polars_profile::profile;
//!
//! # fn main() -> polars_profile::Result<()> {
//! let query = LazyFrame::scan_parquet("a.parquet".into(), Default::default())?;
//! let profile = profile(&query, Engine::Streaming)?;
//! println!("{profile}\n{}", profile.table());
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

pub mod error;
pub mod explain;
pub mod parquet;
pub mod plan_graph;
pub mod plan_svg;
mod platform;
pub mod profile;
pub mod streaming_support;
pub mod text;
pub mod timing;
pub mod worker;

pub use error::{Error, Result};
pub use explain::{Plan, explain, explain_all};
pub use plan_graph::{Execution, Graph, logical_graph, physical_graph};
pub use profile::{LimitedRun, QueryProfile, peak_memory, profile, profile_with_memory_limit};
pub use streaming_support::streaming_support;
pub use timing::{Measurement, measure, measure_interleaved};
