//! Runs an SQL query on a cluster: `query_cluster sc://HOST:PORT --sql FILE --data DATA`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use spark_connect_query::{Cluster, Error, Progress, Result, RunReport, Stage, Status, Watch};

/// The variable with the server's token; PySpark reads the same one.
const TOKEN: &str = "SPARK_CONNECT_AUTHENTICATE_TOKEN";

/// Run an SQL query on a Spark Connect server, such as Spark or Sail.
///
/// Prints the plan and the stages, and writes the result as a Parquet file. Ctrl-C cancels the query,
/// here and on the cluster.
#[derive(Parser)]
#[command(version, args_override_self = true)]
struct Arguments {
    /// The Connect server, for example sc://127.0.0.1:15002, or with TLS sc://HOST:443/;use_ssl=true. If
    /// the server requires a token, set SPARK_CONNECT_AUTHENTICATE_TOKEN
    remote: String,
    /// The dataset on the workers: a folder of their disks, or a URL, for example s3://bucket/data
    #[arg(long, default_value = "data")]
    data: String,
    /// A file with the SQL query
    #[arg(long)]
    sql: PathBuf,
    /// The folder for the result (summary.parquet), the plan (plan.txt), the stages (stages.csv) and the
    /// time (run.csv)
    #[arg(long, default_value = "outputs/cluster")]
    output: PathBuf,
    /// Spark's web page, for example http://127.0.0.1:4040, which reports stages and lost workers
    #[arg(long)]
    status: Option<String>,
    /// Cancel the query after the cluster has had no worker for this number of seconds; needs --status
    #[arg(long, default_value_t = 30)]
    without_workers: u64,
    /// Print only errors
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let sql = std::fs::read_to_string(&arguments.sql)
        .map_err(|source| Error::Read { path: arguments.sql.clone(), source })?;
    let cluster = Cluster::connect(&with_token(&arguments.remote, std::env::var(TOKEN).ok()))?;
    let status = arguments.status.as_deref().map(Status::at).transpose()?;
    let watch = Watch {
        status: status.clone(),
        without_workers: Some(Duration::from_secs(arguments.without_workers)),
        ..Watch::default()
    };
    let cancelled = watch.cancelled.clone();
    // Without a handler, Ctrl-C would end only this process, and the query would run on.
    let _ = ctrlc::set_handler(move || cancelled.store(true, Ordering::Relaxed));

    let data = absolute(&arguments.data);
    cluster.read_tables(&data)?;
    let plan = cluster.plan(&sql)?;
    let print = |text: &str| {
        if !arguments.quiet {
            println!("{text}");
        }
    };
    print(&plan);
    let before = status.as_ref().map_or(Ok(0), |status| Ok(next_stage(&status.stages()?)))?;
    let started = Instant::now();
    let quiet = arguments.quiet;
    let last_line = Mutex::default();
    let batches = cluster.run(&sql, &watch, move |stages| {
        if !quiet {
            print_progress(stages, &last_line)
        }
    })?;
    let seconds = started.elapsed().as_secs_f64();
    if !quiet && std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }

    let (mut stages, mut executors) = (Vec::new(), Vec::new());
    if let Some(status) = &status {
        stages = status.stages()?;
        stages.retain(|stage| stage.stage_id >= before);
        executors = status.executors()?;
    }
    print(&table(&stages));
    let result = arguments.output.join("summary.parquet");
    spark_connect_query::write_parquet(&batches, &result)?;
    let version = cluster.version();
    RunReport { version, data, seconds, plan, stages, executors }.write(&arguments.output)?;
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    print(&format!("{rows} rows in {seconds:.1} s: {}", result.display()));
    Ok(())
}

/// Adds the server's token to its address. The token is not an argument, because other users of the
/// machine can list commands.
fn with_token(remote: &str, token: Option<String>) -> String {
    match token {
        Some(token) if remote.contains("/;") => format!("{remote};token={token}"),
        Some(token) => format!("{}/;token={token}", remote.trim_end_matches('/')),
        None => remote.to_owned(),
    }
}

/// The absolute path of a local folder, because workers have other working directories. A URL stays
/// unchanged.
fn absolute(data: &str) -> String {
    match Path::new(data).canonicalize() {
        Ok(path) if !data.contains("://") => path.display().to_string(),
        _ => data.to_owned(),
    }
}

/// The number of the next stage.
fn next_stage(stages: &[Stage]) -> u64 {
    stages.iter().map(|stage| stage.stage_id + 1).max().unwrap_or(0)
}

/// Prints one line with the progress of each running stage, if it differs from `last_line`. On a terminal,
/// the line replaces the previous one.
fn print_progress(stages: &[Progress], last_line: &Mutex<String>) {
    let mut running: Vec<&Progress> =
        stages.iter().filter(|stage| 0 < stage.done && stage.done < stage.tasks).collect();
    running.sort_by_key(|stage| stage.stage);
    let line = running
        .iter()
        .map(|stage| format!("stage {}: {} of {} tasks", stage.stage, stage.done, stage.tasks))
        .collect::<Vec<_>>()
        .join(", ");
    let mut last_line = last_line.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if line.is_empty() || *last_line == line {
        return;
    }
    let mut stderr = std::io::stderr();
    let (start, end) = if stderr.is_terminal() { ("\r\x1b[K", "") } else { ("", "\n") };
    // A closed stderr must not end the query.
    let _ = write!(stderr, "{start}{line}{end}");
    *last_line = line;
}

/// The stages as a table, one line per stage.
fn table(stages: &[Stage]) -> String {
    if stages.is_empty() {
        return "No stages: the engine reports none, or --status is missing".to_owned();
    }
    let mut lines = vec![format!(
        "{:>5} {:>8} {:>5} {:>7} {:>9} {:>11} {:>13} {:>13}",
        "stage", "status", "tasks", "failed", "run, s", "read, MB", "written, MB", "fetched, MB"
    )];
    // Spark skips a stage if an earlier query with this plan has left its result.
    lines.extend(stages.iter().filter(|stage| stage.status != "SKIPPED").map(|stage| {
        format!(
            "{:>5} {:>8} {:>5} {:>7} {:>9.2} {:>11.2} {:>13.2} {:>13.2}",
            stage.stage_id,
            stage.status.to_lowercase(),
            stage.num_tasks,
            stage.num_failed_tasks,
            stage.executor_run_time as f64 / 1e3,
            stage.input_bytes as f64 / 1e6,
            stage.shuffle_write_bytes as f64 / 1e6,
            stage.shuffle_read_bytes as f64 / 1e6,
        )
    }));
    lines.join("\n")
}
