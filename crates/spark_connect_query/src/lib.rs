//! Runs an SQL query on a cluster that speaks Spark Connect, such as Spark or Sail.
//!
//! A [`Cluster`] is a session on the Connect server. The server plans the query and its workers read the
//! files; only the result comes back.
//!
//! ```no_run
//! use spark_connect_query::{Cluster, Watch};
//!
//! let cluster = Cluster::connect("sc://127.0.0.1:15002")?;
//! cluster.read_tables("/data")?;
//! let sql = "SELECT COUNT(*) FROM sensor_hrv";
//! let batches = cluster.run(sql, &Watch::default(), |stages| eprintln!("{stages:?}"))?;
//! # Ok::<(), spark_connect_query::Error>(())
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

/// A table of the dataset: its place and its columns.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// What the query calls it.
    pub name: &'static str,
    /// Its folder or file below the dataset; a folder ends with a slash, for an object store has none and
    /// is asked for what begins so.
    pub place: &'static str,
    /// The columns that the summary query reads, with the names of their types in Spark. Not all there
    /// are: Sail refuses a time of day in nanoseconds.
    pub columns: &'static str,
}

/// The tables of the dataset.
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
