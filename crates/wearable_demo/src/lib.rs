//! Synthetic wearable data, and the lazy polars queries that the walkthrough `02a_lazy_join` runs
//! on them.
//!
//! Data flow one way:
//!
//! 1. [`tables`] declares the three tables, each column once;
//! 2. [`generate`] draws them and writes Parquet files;
//! 3. [`scan`] checks those files and opens them as lazy frames;
//! 4. [`query`] builds the query from them, a function a step;
//! 5. [`plan`] reads what the optimiser made of it, as text and as a [`graph`];
//! 6. [`measure`] runs a query and takes its time, [`observe`] counts what it does at each node, in
//!    a process [`apart`];
//! 7. [`output`] writes results into files, [`compare`] says whether two are the same;
//! 8. [`notebook`] shows all that in a cell, a plan as a [`picture`], a frame as
//!    a [`chart`], and [`interrupt`] lets a reader stop it.
//!
//! Beside that, [`cluster`] reads what the same query left on a cluster, whose plan has [`stages`].
//!
//! A notebook needs `use wearable_demo::prelude::*;` and nothing else:
//!
//! ```no_run
//! use wearable_demo::prelude::*;
//!
//! # fn main() -> wearable_demo::Result<()> {
//! let paths = Paths::locate()?;
//! let sensor = query::quality_filter(&scan_sensor_hrv(&paths.data)?);
//! let nightly = query::nightly(&query::night_segments(&query::with_keys(&sensor)));
//! println!("{}", nightly.collect()?);
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

pub mod apart;
pub mod chart;
pub mod cluster;
pub mod compare;
pub mod error;
pub mod generate;
pub mod graph;
pub mod interrupt;
pub mod measure;
pub mod notebook;
pub mod observe;
pub mod operations;
pub mod output;
pub mod paths;
pub mod picture;
pub mod plan;
pub mod query;
pub mod scan;
pub mod stages;
mod staging;
pub mod tables;
mod text;

pub use chrono;
pub use error::{Error, Result};
pub use generate::{GenerateOptions, Generated, Layout, Progress, Size, generate_dataset};
pub use generate::{generate_dataset_with_progress, print_progress};
pub use plotly;
pub use polars;

/// What a notebook's cells need, and no more.
pub mod prelude {
    pub use crate::chart::Chart;
    pub use crate::cluster::{Figures, plan_scale, quickest, read_cluster_run, read_scale};
    pub use crate::compare::{alike, same};
    pub use crate::generate::{
        GenerateOptions, Layout, Size, generate_dataset_with_progress, print_progress,
    };
    pub use crate::measure::{Measurement, measure, measure_in_turn};
    pub use crate::notebook::{EvcxrDisplay, claim, first_rows, show_source};
    pub use crate::observe::{Ending, Observation, observe, observe_within, peak_memory};
    pub use crate::operations::what_streams;
    pub use crate::output::{
        collect_all, ending_in, read_parquet, sink_parquet, sink_partitioned, sink_row_groups,
        write_csv, write_parquet,
    };
    pub use crate::paths::{Paths, short};
    pub use crate::plan::{Execution, Plan, explain, explain_all, logical_graph, physical_graph};
    pub use crate::scan::{
        check_dataset, has_sensor_data, scan_layout, scan_sensor_hrv, scan_sensor_hrv_times,
        scan_sleep_diary, scan_user_profile, sensor_files, verify_dataset,
    };
    pub use crate::stages::{RECORDED_PLAN, stage_graph};
    pub use crate::{chrono, plotly, query, tables};
    pub use polars::prelude::*;
}
