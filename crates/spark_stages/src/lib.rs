//! Reads the plans and run reports of Spark Connect servers, such as Spark and Sail.
//!
//! [`stage_graph`] divides a plan into stages. A stage is the work between two exchanges of rows, which a
//! worker does without the others. [`read_cluster_run`] reads the report of one run. [`estimate_scaling`]
//! estimates the cost of runs on more rows.
//!
//! ```
//! let plan = "Sort [total ASC]\n+- Exchange hashpartitioning(shop, 8)\n   +- FileScan parquet [orders]";
//! let graph = spark_stages::stage_graph(plan, "totals", &[("orders", "total")]);
//! assert_eq!(graph.nodes.len(), 2);
//! ```

#![warn(missing_docs)]

pub mod error;
pub mod runs;
pub mod stages;

pub use error::{Error, Result};
pub use runs::{ClusterRun, MeasuredRates, estimate_scaling, read_cluster_run, read_measurements};
pub use stages::stage_graph;
