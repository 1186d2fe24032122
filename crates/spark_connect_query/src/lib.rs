//! Runs an SQL query on a Spark Connect server, such as Spark or Sail.
//!
//! A [`Cluster`] is a session on the Connect server. The server plans the query, and its workers read the
//! files. Only the result is sent back.
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
//! The crate is a separate Cargo workspace, so that notebooks and tests do not compile its dependencies.

#![warn(missing_docs)]
// `SparkError` of the client library is large, and functions return it unchanged.
#![allow(clippy::result_large_err)]

mod address;
mod cluster;
mod error;
mod execute;
mod report;
mod status;

pub use cluster::{Cluster, Progress, Watch};
pub use error::{Error, Result};
pub use report::{RunReport, write_parquet};
pub use status::{Executor, Stage, Status};

/// A table of the dataset: its name, location and columns.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// The table's name in queries.
    pub name: &'static str,
    /// The table's file or folder, relative to the dataset. A folder ends with a slash, because object
    /// stores have no folders and list the objects with this prefix.
    pub place: &'static str,
    /// The columns that the summary query reads, with their Spark types. Columns with a time of day in
    /// nanoseconds are left out, because Sail rejects that type.
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
