//! The walkthrough's query where the data no longer fit one machine.
//!
//! The way on is an engine that exists. [`QUERY`] is the whole query as one text, which polars, Spark
//! and Sail take unchanged; a [`Cluster`] is a server that speaks Spark Connect, which both of the
//! latter do. The server plans, and has its workers read the files; only the result comes here.
//!
//! ```no_run
//! use beyond_one_machine::{Cluster, Watch};
//!
//! let cluster = Cluster::connect("sc://127.0.0.1:15002")?;
//! cluster.read_tables("/data")?;
//! let batches = cluster.run(&Watch::default(), |stages| eprintln!("{stages:?}"))?;
//! # Ok::<(), beyond_one_machine::Error>(())
//! ```
//!
//! It is a Cargo workspace of its own, so that notebooks and tests compile nothing of it.

#![warn(missing_docs)]
// The client's own error is large, and it is passed on as it is.
#![allow(clippy::result_large_err)]

mod address;
mod answer;
mod cluster;
mod error;
mod record;
mod status;

pub use cluster::{Cluster, Progress, Watch};
pub use error::{Error, Result};
pub use record::{Record, write_parquet};
pub use status::{Executor, Stage, Status};

/// The query, in the steps of the walkthrough.
///
/// Tables: `sensor_hrv`, `sleep_diary` and `user_profile`. Out, a row per occupation and gender, in
/// that order: `occupation`, `gender`, `n_nights` (i64), `avg_sleep_efficiency` (%),
/// `avg_night_sdnn` (ms) and `corr_sleep_sdnn`, a Pearson correlation.
pub const QUERY: &str = include_str!("summary.sql");

/// A table of [`QUERY`]: where it lies in a dataset, and its columns.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// What the query calls it.
    pub name: &'static str,
    /// Its folder or file below the dataset; a folder ends with a slash, for an object store has none and
    /// is asked for what begins so.
    pub place: &'static str,
    /// The columns that the query asks for, with the types that Spark calls them by. Not all there
    /// are: Sail refuses a time of day in nanoseconds.
    pub columns: &'static str,
}

/// The tables of [`QUERY`].
pub const TABLES: [Table; 3] = [
    Table {
        name: "sensor_hrv",
        place: "sensor_hrv/",
        columns: "device_id STRING, ts_start TIMESTAMP_NTZ, heart_rate BIGINT, hrv_sdnn DOUBLE, \
                  hrv_rmssd DOUBLE, steps BIGINT, missingness_score DOUBLE",
    },
    Table {
        name: "sleep_diary",
        place: "sleep_diary.parquet",
        columns: "user_id STRING, date DATE, sleep_efficiency DOUBLE",
    },
    Table {
        name: "user_profile",
        place: "user_profile.parquet",
        columns: "user_id STRING, gender STRING, occupation STRING",
    },
];
