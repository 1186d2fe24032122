//! Reads the files that `./justw cluster` writes about its runs, and estimates runs on more rows.

use std::path::{Path, PathBuf};

use polars::prelude::*;
use polars_notebook::files::read_parquet;

use crate::error::{Error, QueryError, Result};

/// Usual size of a Parquet file in a data lake, in bytes. The time to open such a file is negligible, and
/// a large dataset has enough files for parallel reads. It is also the default of Spark's
/// `spark.sql.files.maxPartitionBytes`.
pub const FILE_BYTES: f64 = 128.0 * 1024.0 * 1024.0;

/// One run of the query on a cluster.
#[derive(Debug, Clone)]
pub struct ClusterRun {
    /// The dataset's path on the workers.
    pub data: PathBuf,
    /// Time from the query's start to its result, in seconds.
    pub seconds: f64,
    /// The plan as the engine prints it.
    pub plan: String,
    /// A row per stage: `stage_id`, `status`, `num_tasks`, `num_failed_tasks`, `executor_run_time` (ms),
    /// `shuffle_read_bytes`, `shuffle_write_bytes` and more. Empty if the engine reports no stages.
    pub stages: DataFrame,
    /// The query's result.
    pub summary: DataFrame,
}

/// Reads the run of `engine` (`spark` or `sail`) in `folder`, which has a folder for each engine; `None`
/// without a run. `./justw cluster query` writes to `outputs/cluster`.
///
/// # Errors
///
/// [`Error`] if a file of the run is missing or cannot be read.
pub fn read_cluster_run(folder: &Path, engine: &str) -> Result<Option<ClusterRun>> {
    let folder = folder.join(engine);
    let (run, plan) = (folder.join("run.csv"), folder.join("plan.txt"));
    if !run.is_file() {
        return Ok(None);
    }
    let failed = || QueryError::at(format!("read {}", run.display()));
    let row = read_csv(&run)?;
    let (data, seconds) = (row.column("data").and_then(|c| c.get(0)), row.column("seconds"));
    let seconds = seconds.and_then(|seconds| seconds.get(0)).map_err(failed())?;
    let data = data.map_err(failed())?;
    Ok(Some(ClusterRun {
        data: PathBuf::from(data.get_str().unwrap_or_default()),
        seconds: seconds.extract().unwrap_or(f64::NAN),
        plan: std::fs::read_to_string(&plan).map_err(Error::io("read", &plan))?,
        stages: read_csv(&folder.join("stages.csv"))?,
        summary: read_parquet(&folder.join("summary.parquet"))?,
    }))
}

/// Reads the measurements of `./justw cluster measure` in `folder`, usually `outputs/cluster`; `None`
/// without any.
///
/// The frame has a row per engine, number of workers and number of rows:
///
/// | column | content |
/// | --- | --- |
/// | `engine` | `polars`, `sail` or `spark` |
/// | `workers`, `rows` | counts |
/// | `megabytes` | size of the files |
/// | `first_seconds` | run time of the first round |
/// | `seconds` | median run time of the later rounds |
/// | `stages`, `tasks` | Spark only: counts |
/// | `task_seconds` | Spark only: sum of the tasks' run times |
/// | `shuffled_megabytes` | Spark only: bytes written for other stages |
/// | `skew` | Spark only: longest task of the longest stage, divided by the median task |
/// | `overhead_per_stage` | Spark only: run time per stage, in seconds, beyond that of evenly distributed tasks |
///
/// # Errors
///
/// [`Error::Polars`] if the file cannot be read.
pub fn read_measurements(folder: &Path) -> Result<Option<DataFrame>> {
    let file = folder.join("scale.csv");
    if file.is_file() { read_csv(&file).map(Some) } else { Ok(None) }
}

fn read_csv(path: &Path) -> Result<DataFrame> {
    let frame = CsvReadOptions::default()
        .with_infer_schema_length(None)
        .try_into_reader_with_file_path(Some(path.to_owned()))
        .and_then(CsvReader::finish);
    Ok(frame.map_err(QueryError::at(format!("read {}", path.display())))?)
}

/// Rates and sizes measured on one machine, from which [`estimate_scaling`] estimates a cluster.
#[derive(Debug, Clone, Copy)]
pub struct MeasuredRates {
    /// Size of a row in the files, in bytes.
    pub bytes_per_row: f64,
    /// Rows that one core filters and groups per second.
    pub rows_per_second: f64,
    /// Number of groups of the first aggregation: users times dates.
    pub groups: f64,
    /// Size of a group in an exchange, in bytes.
    pub bytes_per_group: f64,
}

/// Estimates the resources of one query for each number of rows in `rows`.
///
/// | column | content |
/// | --- | --- |
/// | `rows` | from `rows` |
/// | `gigabytes` | size of the files |
/// | `files` | files of [`FILE_BYTES`] bytes; each is one task |
/// | `shuffled_gigabytes` | upper bound: each task sends each group |
/// | `core_minutes` | CPU time |
/// | `machines_for_10_minutes` | machines with 16 cores that finish in ten minutes |
///
/// # Errors
///
/// [`Error::Polars`] if polars cannot build the frame.
pub fn estimate_scaling(rows: &[f64], rates: &MeasuredRates) -> Result<DataFrame> {
    let gigabytes = |rows: &f64| rows * rates.bytes_per_row / 1e9;
    let files = |rows: &f64| (rows * rates.bytes_per_row / FILE_BYTES).ceil();
    let sent = |rows: &f64| files(rows) * rates.groups.min(rows / files(rows));
    let shuffled = |rows: &f64| sent(rows) * rates.bytes_per_group / 1e9;
    let core_minutes = |rows: &f64| rows / rates.rows_per_second / 60.0;
    let machines = |rows: &f64| (core_minutes(rows) / 16.0 / 10.0).ceil();
    let column = |of: &dyn Fn(&f64) -> f64| rows.iter().map(of).collect::<Vec<f64>>();
    let estimates = df![
        "rows" => rows,
        "gigabytes" => column(&gigabytes),
        "files" => column(&files),
        "shuffled_gigabytes" => column(&shuffled),
        "core_minutes" => column(&core_minutes),
        "machines_for_10_minutes" => column(&machines),
    ];
    Ok(estimates.map_err(QueryError::at("build the table of estimates"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_is_read_and_a_missing_run_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_cluster_run(folder.path(), "spark").unwrap().is_none());
        assert!(read_measurements(folder.path()).unwrap().is_none());
        let spark = folder.path().join("spark");
        std::fs::create_dir_all(&spark).unwrap();
        let write = |name: &str, text: &str| std::fs::write(spark.join(name), text).unwrap();
        write("run.csv", "version,data,seconds,workers,lost_workers\n4.3.0,\"/a, b\",1.5,2,0\n");
        write("stages.csv", "stage_id,status,num_tasks\n3,COMPLETE,40\n");
        write("plan.txt", "Exchange\n");
        let rows = df!["n_nights" => [1i64]].unwrap();
        polars_notebook::files::write_parquet(&rows, &spark.join("summary.parquet")).unwrap();
        let run = read_cluster_run(folder.path(), "spark").unwrap().unwrap();
        assert_eq!((run.data.as_path(), run.seconds), (Path::new("/a, b"), 1.5));
        assert_eq!((run.stages.height(), run.summary.height()), (1, 1));
        write("stages.csv", "");
        assert!(read_cluster_run(folder.path(), "spark").is_err());
    }

    #[test]
    fn estimates_grow_with_the_rows() {
        let rates = MeasuredRates {
            bytes_per_row: 20.0,
            rows_per_second: 1e7,
            groups: 35_000.0,
            bytes_per_group: 50.0,
        };
        let estimates = estimate_scaling(&[1e6, 1e10, 1e12], &rates).unwrap();
        let of = |name: &str, row: usize| {
            estimates.column(name).unwrap().f64().unwrap().get(row).unwrap()
        };
        assert_eq!((of("files", 0), of("machines_for_10_minutes", 0)), (1.0, 1.0));
        assert_eq!(of("gigabytes", 1), 200.0);
        // The task of each file sends each group at most once.
        assert_eq!(of("shuffled_gigabytes", 1), of("files", 1) * 35_000.0 * 50.0 / 1e9);
        assert_eq!(of("core_minutes", 2) / of("core_minutes", 1), 100.0);
    }
}
