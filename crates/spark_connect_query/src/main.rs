//! Runs an SQL query on a cluster: `query_cluster sc://HOST:PORT --sql FILE --data DATA`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use spark_connect_query::{Cluster, Error, Progress, Record, Result, Stage, Status, Watch};

/// Where PySpark looks for it, too.
const TOKEN: &str = "SPARK_CONNECT_AUTHENTICATE_TOKEN";

/// Run an SQL query on a cluster that speaks Spark Connect, such as Spark or Sail.
///
/// Prints the plan and the stages, and writes the result as Parquet. Ctrl-C cancels the query here and
/// on the cluster.
#[derive(Parser)]
#[command(version, args_override_self = true)]
struct Arguments {
    /// The Connect server, as in sc://127.0.0.1:15002; for TLS sc://HOST:443/;use_ssl=true. Its token, if it
    /// wants one, is taken from SPARK_CONNECT_AUTHENTICATE_TOKEN
    remote: String,
    /// The dataset as the workers see it: a folder on their disks, or a URL as in s3://bucket/data
    #[arg(long, default_value = "data")]
    data: String,
    /// A file with the query as SQL text
    #[arg(long)]
    sql: PathBuf,
    /// A folder for the result (summary.parquet), the plan (plan.txt),
    /// the stages (stages.csv) and the time (run.csv)
    #[arg(long, default_value = "outputs/cluster")]
    output: PathBuf,
    /// Spark's web page, as in http://127.0.0.1:4040, which tells of stages and lost workers
    #[arg(long)]
    status: Option<String>,
    /// Seconds after which a query without any worker is given up; needs --status
    #[arg(long, default_value_t = 30)]
    without_workers: u64,
    /// Print nothing but errors
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
    // Without a handler, Ctrl-C ends this process and leaves the query to the cluster.
    let _ = ctrlc::set_handler(move || cancelled.store(true, Ordering::Relaxed));

    let data = absolute(&arguments.data);
    cluster.read_tables(&data)?;
    let plan = cluster.plan(&sql)?;
    let say = |text: &str| {
        if !arguments.quiet {
            println!("{text}");
        }
    };
    say(&plan);
    let before = status.as_ref().map_or(Ok(0), |status| Ok(next_stage(&status.stages()?)))?;
    let started = Instant::now();
    let quiet = arguments.quiet;
    let said = Mutex::default();
    let batches = cluster.run(&sql, &watch, move |stages| {
        if !quiet {
            tell(stages, &said)
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
    say(&table(&stages));
    let result = arguments.output.join("summary.parquet");
    spark_connect_query::write_parquet(&batches, &result)?;
    let version = cluster.version();
    Record { version, data, seconds, plan, stages, executors }.write(&arguments.output)?;
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    say(&format!("{rows} rows in {seconds:.1} s: {}", result.display()));
    Ok(())
}

/// An address with a server's token, which must not stand in a command that others can list.
fn with_token(remote: &str, token: Option<String>) -> String {
    match token {
        Some(token) if remote.contains("/;") => format!("{remote};token={token}"),
        Some(token) => format!("{}/;token={token}", remote.trim_end_matches('/')),
        None => remote.to_owned(),
    }
}

/// A folder of here by its whole path, for workers run in folders of their own; a URL as it is.
fn absolute(data: &str) -> String {
    match Path::new(data).canonicalize() {
        Ok(path) if !data.contains("://") => path.display().to_string(),
        _ => data.to_owned(),
    }
}

/// The number that the next stage will have.
fn next_stage(stages: &[Stage]) -> u64 {
    stages.iter().map(|stage| stage.stage_id + 1).max().unwrap_or(0)
}

/// One line that says how far each stage is that goes on; on a terminal it replaces the one before, and
/// a log has it once.
fn tell(stages: &[Progress], before: &Mutex<String>) {
    let mut going: Vec<&Progress> =
        stages.iter().filter(|stage| 0 < stage.done && stage.done < stage.tasks).collect();
    going.sort_by_key(|stage| stage.stage);
    let line = going
        .iter()
        .map(|stage| format!("stage {}: {} of {} tasks", stage.stage, stage.done, stage.tasks))
        .collect::<Vec<_>>()
        .join(", ");
    let mut said = before.lock().unwrap_or_else(|held| held.into_inner());
    if line.is_empty() || *said == line {
        return;
    }
    let mut stderr = std::io::stderr();
    let (start, end) = if stderr.is_terminal() { ("\r\x1b[K", "") } else { ("", "\n") };
    // Nobody reads it: no reason to end the query.
    let _ = write!(stderr, "{start}{line}{end}");
    *said = line;
}

/// The stages, a line each.
fn table(stages: &[Stage]) -> String {
    if stages.is_empty() {
        return "The engine says nothing of stages (or see --status)".to_owned();
    }
    let mut lines = vec![format!(
        "{:>5} {:>8} {:>5} {:>7} {:>9} {:>11} {:>13} {:>13}",
        "stage", "status", "tasks", "failed", "run, s", "read, MB", "shuffled, MB", "taken, MB"
    )];
    // What is skipped has its result from an earlier query of this plan.
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
