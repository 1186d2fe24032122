//! The tables of a synthetic wearable dataset, and the lazy polars queries that the walkthrough
//! `02a_lazy_join` runs on them.
//!
//! 1. [`tables`] declares the three tables, and [`generate_dataset`] writes them as Parquet files.
//! 2. [`scan`] checks those files and opens them as lazy frames.
//! 3. [`query`] builds the query from them, with one function per step.
//! 4. [`exercises`] checks a learner's answers to tasks on the same tables.
//!
//! The generator is the crate [`wearable_datagen`]. Notebooks also use three generic crates:
//! [`polars_profile`] explains, times and profiles queries, [`polars_notebook`] displays values in cells
//! and writes results, and [`spark_stages`] reads reports of cluster runs.
//!
//! A notebook needs only `use wearable_demo::prelude::*;`:
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

pub mod error;
pub mod exercises;
pub mod paths;
pub mod query;
pub mod scan;

pub use chrono;
pub use dataset_writer;
pub use error::{Error, Result};
pub use plotly;
pub use polars;
pub use polars_notebook::{self, interrupt};
pub use polars_profile::{self, worker::serve as serve_profile_worker};
pub use spark_stages;
pub use wearable_datagen::{self as datagen, tables};
pub use wearable_datagen::{GenerateOptions, Generated, Layout, Progress, Size};
pub use wearable_datagen::{free_bytes, generate_dataset, generate_dataset_with_progress};

/// Prints the progress of [`generate_dataset_with_progress`] in a cell.
pub fn print_progress(progress: Progress) {
    let Progress { rows_done, rows_total, .. } = progress;
    polars_notebook::progress::print_progress("sensor_hrv", rows_done, rows_total, "rows");
}

/// Generates the small dataset in `data`, unless `data` contains sensor rows. Prints the progress and
/// the numbers of rows and files.
///
/// # Errors
///
/// [`Error::Generate`] if the dataset cannot be generated, for example because the disk is full.
pub fn ensure_dataset(data: &std::path::Path) -> Result<()> {
    if !scan::has_sensor_data(data) {
        let options = GenerateOptions::new(Size::Small, data);
        println!("{}", generate_dataset_with_progress(&options, &mut print_progress)?);
    }
    Ok(())
}

/// The progress of [`generate_dataset_with_progress`] as a line of text.
pub fn progress_bar(progress: Progress) -> String {
    let Progress { rows_done, rows_total, .. } = progress;
    polars_notebook::progress::progress_bar("sensor_hrv", rows_done, rows_total, "rows")
}

/// The items that notebooks use.
pub mod prelude {
    pub use crate::exercises::exercise;
    pub use crate::paths::Paths;
    pub use crate::scan::{
        check_dataset, has_sensor_data, scan_sensor_hrv, scan_sensor_hrv_repeated,
        scan_sleep_diary, scan_user_profile, sensor_files, verify_dataset,
    };
    pub use crate::{
        GenerateOptions, Layout, Size, chrono, ensure_dataset, generate_dataset_with_progress,
        plotly, print_progress, query, tables,
    };
    pub use polars::prelude::*;
    pub use polars::sql::SQLContext;
    pub use polars_notebook::files::{
        read_parquet, scan_parquet_files, sink_parquet, sink_parquet_with, sink_partitioned,
        with_parquet_sink, write_csv, write_parquet,
    };
    pub use polars_notebook::{
        Chart, EvcxrDisplay, collect_all, ensure, frames_close, frames_equal, head, not_attempted,
        set_sorted,
    };
    pub use polars_profile::{
        Execution, LimitedRun, Measurement, Plan, QueryProfile, explain, explain_all,
        logical_graph, measure, measure_interleaved, peak_memory, physical_graph, profile,
        profile_with_memory_limit, streaming_support,
    };
    pub use spark_stages::{
        MeasuredRates, estimate_scaling, read_cluster_run, read_measurements, stage_graph,
    };
}
