//! Runs a query in a worker process.
//!
//! The measured memory then belongs to this query alone. A query that runs out of memory ends only
//! the worker, and the notebook's variables survive.
//!
//! The program `profile_worker` calls [`serve`]. It receives the plan in polars' serialised form, and
//! writes the result, the physical plan and the metrics into a directory that both processes share.
//! polars reports row groups and the build side of joins only on stderr (with `POLARS_VERBOSE`), so
//! the worker's stderr is returned, too.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use dataset_writer::FileStaging;
use polars::error::abort::try_raise_polars_abort;
use polars::prelude::*;
use polars_plan::dsl::DslPlan;
use polars_stream::StreamingQuery;

use crate::error::{Error, QueryError, Result};
use crate::parquet::decode_parquet;
use crate::platform;

/// The name of the worker program.
const PROGRAM: &str = "profile_worker";
/// Environment variable with the path of the worker, needed if it is not where cargo puts it.
pub const PROGRAM_VARIABLE: &str = "PROFILE_WORKER";
/// Environment variable with the time limit of a query, in seconds.
pub const TIME_LIMIT_VARIABLE: &str = "PROFILE_TIME_LIMIT";
/// Environment variable with the process ID of the worker's parent.
const PARENT_VARIABLE: &str = "PROFILE_WORKER_PARENT";
/// The first argument, if the worker reads a file instead of running a query.
const READ: &str = "read";
/// The worker's exit status if it cannot read the file.
const DAMAGED: u8 = 3;
const TIME_LIMIT: Duration = Duration::from_secs(600);

// Files in the directory that both processes share.
const PLAN: &str = "plan";
const RESULT: &str = "result.parquet";
const GRAPH: &str = "physical.dot";
const METRICS: &str = "metrics";
const ERROR: &str = "error";

/// How a worker process ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The query has a result.
    Result(Box<WorkerReport>),
    /// The operating system refused memory. Contains the worker's message about it.
    OutOfMemory(String),
}

/// The results and metrics that a worker reports.
#[derive(Debug)]
pub(crate) struct WorkerReport {
    pub frame: DataFrame,
    /// Seconds of wall time, with warm threads and file cache.
    pub seconds: f64,
    /// How much the query raised the peak of resident memory, in MB. None if the system does not
    /// report it.
    pub peak_mb: Option<f64>,
    /// The streaming engine's physical plan, as DOT. Empty for the in-memory engine.
    pub dot: String,
    pub metrics: Vec<NodeMetrics>,
    /// The worker's stderr.
    pub stderr: String,
}

/// The metrics of a node of the physical plan, or of a step of the in-memory engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NodeMetrics {
    /// The node's number in the DOT text. 0 for a step of the in-memory engine.
    pub id: u64,
    /// The name of the step. Empty for a node of the physical plan.
    pub name: String,
    pub rows_in: u64,
    pub rows_out: u64,
    /// Seconds of work, summed over all threads.
    pub seconds: f64,
    /// Bytes fetched from files, if polars counts them.
    pub bytes: u64,
}

/// The options with which a worker runs a query.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WorkerOptions {
    /// Memory that the query may use on top of the process's memory at its start, in MB (1,000,000
    /// bytes).
    pub memory_mb: Option<u64>,
    /// Fetch local files like objects of an object store, because polars counts only fetched bytes.
    /// Otherwise polars maps files into memory.
    pub counts_bytes: bool,
    /// Time limit of the query. None for the limit in the environment variable.
    pub time_limit: Option<Duration>,
}

impl NodeMetrics {
    fn line(&self) -> String {
        let NodeMetrics { id, name, rows_in, rows_out, seconds, bytes } = self;
        format!("{id}\t{rows_in}\t{rows_out}\t{seconds}\t{bytes}\t{name}\n")
    }

    fn read(line: &str) -> Option<NodeMetrics> {
        fn next<T: FromStr>(fields: &mut std::str::SplitN<'_, char>) -> Option<T> {
            fields.next()?.parse().ok()
        }
        let mut fields = line.splitn(6, '\t');
        Some(NodeMetrics {
            id: next(&mut fields)?,
            rows_in: next(&mut fields)?,
            rows_out: next(&mut fields)?,
            seconds: next(&mut fields)?,
            bytes: next(&mut fields)?,
            name: next(&mut fields)?,
        })
    }
}

/// Runs `query` with `engine` in a worker process.
///
/// The query must not contain a Rust closure, because polars cannot serialise it.
pub(crate) fn run(query: &LazyFrame, engine: Engine, options: WorkerOptions) -> Result<Outcome> {
    let WorkerOptions { memory_mb, counts_bytes, time_limit } = options;
    let time_limit = time_limit.map_or_else(time_limit_of_the_environment, Ok)?;
    if memory_mb.is_some() && !platform::can_limit_memory() {
        return Err(Error::NoMemoryLimit);
    }
    let program = program()?;
    let staging = FileStaging::next_to(&std::env::temp_dir().join("query"))?;
    let shared = staging.path();
    fs::create_dir(&shared).map_err(Error::io("create", &shared))?;
    let plan = shared.join(PLAN);
    let mut bytes = Vec::new();
    query
        .logical_plan
        .serialize_versioned(&mut bytes, Default::default())
        .map_err(|source| Error::NotSerializable { reason: source.to_string() })?;
    fs::write(&plan, bytes).map_err(Error::io("write", &plan))?;

    let flags = query.get_current_optimizations().bits();
    let limit = memory_mb.map_or("-".to_owned(), |mb| mb.to_string());
    let mut command = Command::new(&program);
    if memory_mb.is_some() {
        // Each thread holds batches, so a fixed number of threads makes the limit mean the same everywhere.
        command.env("POLARS_MAX_THREADS", "2");
    }
    if counts_bytes {
        command.env("POLARS_FORCE_ASYNC", "1");
    }
    command
        .args([engine_name(engine), &flags.to_string(), &limit])
        .arg(&shared)
        .env("POLARS_VERBOSE", "1")
        .env("POLARS_TRACK_METRICS", "1");
    let (status, stderr) = spawn_and_wait(command, &program, time_limit)?;
    outcome(status, stderr, &shared)
}

/// Reads the Parquet file at `path` in a worker process, because polars aborts the process for some
/// damaged files.
///
/// # Errors
///
/// [`Error::DamagedFile`] if the file cannot be read, otherwise as [`profile`](crate::profile()).
pub fn check_parquet(path: &Path) -> Result<()> {
    let program = program()?;
    let mut command = Command::new(&program);
    command.arg(READ).arg(path);
    let (status, stderr) = spawn_and_wait(command, &program, time_limit_of_the_environment()?)?;
    let reason = last_line(&stderr)
        .unwrap_or_else(|| format!("polars ended with {status} while reading it"));
    match status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(DAMAGED) => {
            Err(Error::DamagedFile { file: path.to_owned(), reason })
        }
        // From the dynamic linker: the library was compiled again, the worker was not.
        Some(127) => Err(no_worker(&[program])),
        // A crash is the file's fault. SIGKILL is not: the out-of-memory killer can end any process.
        None if !platform::was_killed(status) => {
            Err(Error::DamagedFile { file: path.to_owned(), reason })
        }
        _ => Err(Error::WorkerEnded { status: status.to_string(), reason }),
    }
}

/// Runs the program and returns its exit status and its stderr.
fn spawn_and_wait(
    mut command: Command,
    program: &Path,
    time_limit: Duration,
) -> Result<(ExitStatus, String)> {
    command
        .env(PARENT_VARIABLE, std::process::id().to_string())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = Running(command.spawn().map_err(Error::io("start", program))?);
    let stderr = child.0.stderr.take().expect("stderr is piped");
    let reader = thread::spawn(move || read_to_string(stderr));
    let status = child.wait(program, time_limit)?;
    Ok((status, reader.join().unwrap_or_default()))
}

/// The last line that is not one of the standard library's notes about backtraces.
fn last_line(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    lines.rfind(|line| !line.is_empty() && !line.starts_with("note: ")).map(str::to_owned)
}

fn time_limit_of_the_environment() -> Result<Duration> {
    let Some(value) = std::env::var_os(TIME_LIMIT_VARIABLE).filter(|value| !value.is_empty())
    else {
        return Ok(TIME_LIMIT);
    };
    let seconds = value.to_str().and_then(|value| value.trim().parse().ok());
    seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(|| {
        Error::InvalidTimeLimit {
            variable: TIME_LIMIT_VARIABLE,
            value: value.display().to_string(),
        }
    })
}

fn outcome(status: ExitStatus, stderr: String, shared: &Path) -> Result<Outcome> {
    if status.success() {
        return Ok(Outcome::Result(Box::new(report(shared, stderr)?)));
    }
    let error = fs::read_to_string(shared.join(ERROR)).unwrap_or_default();
    // Messages of the allocator, of the operating system, of a failed thread start, and of our limit.
    let memory = [
        "memory allocation of",
        "Cannot allocate memory",
        "Resource temporarily unavailable",
        platform::EXCEEDED,
    ];
    let is_about_memory = |text: &str| memory.iter().any(|message| text.contains(message));
    let line = stderr.lines().find(|line| is_about_memory(line));
    if line.is_some() || is_about_memory(&error) {
        let message = line.map(str::to_owned).or_else(|| last_line(&error)).unwrap_or_default();
        return Ok(Outcome::OutOfMemory(message.trim().to_owned()));
    }
    if !error.is_empty() {
        let source = PolarsError::ComputeError(error.into());
        return Err(QueryError::at("run the query in a worker process")(source).into());
    }
    let reason = last_line(&stderr).unwrap_or_default();
    Err(Error::WorkerEnded { status: status.to_string(), reason })
}

fn report(shared: &Path, stderr: String) -> Result<WorkerReport> {
    let metrics = shared.join(METRICS);
    let text = fs::read_to_string(&metrics).map_err(Error::io("read", &metrics))?;
    let mut lines = text.lines();
    let mut number = || lines.next().and_then(|line| line.parse::<f64>().ok());
    let (seconds, peak_mb) = (number().unwrap_or(f64::NAN), number());
    let result = shared.join(RESULT);
    Ok(WorkerReport {
        frame: if result.is_file() { decode_parquet(&result)? } else { DataFrame::empty() },
        seconds,
        peak_mb,
        dot: fs::read_to_string(shared.join(GRAPH)).unwrap_or_default(),
        metrics: lines.filter_map(NodeMetrics::read).collect(),
        stderr,
    })
}

fn read_to_string(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A child process that is killed if the waiting cell is interrupted.
struct Running(std::process::Child);

impl Running {
    fn wait(&mut self, program: &Path, time_limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            try_raise_polars_abort();
            if start.elapsed() > time_limit {
                let seconds = time_limit.as_secs();
                return Err(Error::TimeLimit { seconds, variable: TIME_LIMIT_VARIABLE });
            }
            if let Some(status) = self.0.try_wait().map_err(Error::io("wait for", program))? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The path of the worker program, independent of the working directory.
///
/// cargo puts the program next to the library that a test or a program loads. A kernel loads a copy of
/// the library from a directory of its own, so the kernel sets the variable.
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(PROGRAM_VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return match path.is_file() {
            true => Ok(path),
            false => Err(no_worker(&[path])),
        };
    }
    find_program(platform::library())
}

/// The worker program near `library`, the file that this code was loaded from, or near this program.
fn find_program(library: Option<PathBuf>) -> Result<PathBuf> {
    let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    let mut searched = Vec::new();
    for loaded in [library, std::env::current_exe().ok()].into_iter().flatten() {
        // The library is in `debug` or in `debug/deps`.
        searched.extend(loaded.ancestors().skip(1).take(2).map(|folder| folder.join(&name)));
    }
    searched.iter().find(|path| path.is_file()).cloned().ok_or_else(|| no_worker(&searched))
}

fn no_worker(searched: &[PathBuf]) -> Error {
    Error::NoWorker { name: PROGRAM, searched: searched.to_vec(), variable: PROGRAM_VARIABLE }
}

fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Streaming => "streaming",
        _ => "in-memory",
    }
}

/// The worker's `main`: runs the plan in the shared directory and writes the report there. If it is
/// called to check a Parquet file, it reports only whether the file can be read.
pub fn serve() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let text = |at: usize| arguments.get(at).and_then(|argument| argument.to_str());
    let parent = std::env::var(PARENT_VARIABLE).unwrap_or_default();
    if arguments.len() != 2 && arguments.len() != 4 {
        eprintln!("error: polars_profile::profile starts this program; do not run it yourself");
        return ExitCode::from(2);
    }
    if !platform::end_with_parent(&parent) {
        eprintln!("error: the parent process {parent} has ended");
        return ExitCode::FAILURE;
    }
    match (text(0), text(1), text(2), &arguments[arguments.len() - 1]) {
        (Some(READ), _, None, file) => match decode_parquet(Path::new(file)) {
            Ok(_) => ExitCode::SUCCESS,
            Err(Error::DamagedFile { reason, .. }) => {
                eprintln!("{reason}");
                ExitCode::from(DAMAGED)
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        (Some(engine), Some(flags), Some(limit), shared) => {
            let shared = Path::new(shared);
            match serve_one(engine, flags, limit, shared) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    let _ = fs::write(shared.join(ERROR), error.to_string());
                    ExitCode::FAILURE
                }
            }
        }
        _ => ExitCode::from(2),
    }
}

fn serve_one(engine: &str, flags: &str, limit: &str, shared: &Path) -> PolarsResult<()> {
    let plan = DslPlan::deserialize_versioned(fs::read(shared.join(PLAN))?.as_slice())?;
    let flags = OptFlags::from_bits_truncate(flags.parse().unwrap_or_default());
    let query = LazyFrame::from_logical_plan(plan, flags);
    // Start the threads before the measurement, so that their stacks are not counted.
    let small = df!["x" => [1i64]]?.lazy().select([col("x").sum()]);
    small.clone().collect_with_engine(Engine::Streaming)?;
    small.collect()?;
    if let Ok(mb) = limit.parse() {
        platform::limit_memory(mb)?;
    }
    let peak = platform::Peak::start();
    let start = Instant::now();
    let (frame, dot, metrics) = match engine {
        "streaming" => streaming(query)?,
        _ => in_memory(query)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    let peak_mb = peak.and_then(platform::Peak::stop_mb);

    let peak_mb = peak_mb.map_or("-".to_owned(), |mb| mb.to_string());
    let mut report = format!("{seconds}\n{peak_mb}\n");
    for node in metrics {
        write!(report, "{}", node.line()).expect("a String takes all");
    }
    if frame.width() > 0 {
        ParquetWriter::new(File::create(shared.join(RESULT))?)
            .with_compression(ParquetCompression::Snappy)
            .finish(&mut frame.clone())?;
    }
    fs::write(shared.join(GRAPH), dot)?;
    fs::write(shared.join(METRICS), report)?;
    Ok(())
}

/// Runs a query like polars with [`Engine::Streaming`], and returns the metrics of its nodes.
fn streaming(query: LazyFrame) -> PolarsResult<(DataFrame, String, Vec<NodeMetrics>)> {
    let mut plan = query.with_streaming(true).to_alp_optimized()?;
    plan.ensure_root_node_is_sink();
    let (mut plans, mut expressions) = (plan.lp_arena.clone(), plan.expr_arena.clone());
    // A clone of the same plan, so that nodes have the same numbers.
    let dot = polars_stream::visualize_physical_plan(plan.lp_top, &mut plans, &mut expressions)?;
    let query = StreamingQuery::build(plan.lp_top, &mut plan.lp_arena, &mut plan.expr_arena)?;
    let metrics = query.metrics.clone();
    let nodes: Vec<_> = query
        .phys_sm
        .keys()
        .filter_map(|node| Some((node.as_ffi(), *query.phys_to_graph.get(node)?)))
        .collect();
    let frame = query.execute()?.unwrap_single();
    let counted = metrics.as_ref().map(|metrics| metrics.lock());
    let metrics = nodes.into_iter().filter_map(|(id, node)| {
        let counted = counted.as_ref()?.get(node)?.clone();
        let nanoseconds = counted.total_poll_time_ns + counted.total_state_update_time_ns;
        Some(NodeMetrics {
            id,
            rows_in: counted.rows_received,
            rows_out: counted.rows_sent,
            seconds: nanoseconds as f64 / 1e9,
            bytes: counted.io_total_bytes_received,
            ..NodeMetrics::default()
        })
    });
    Ok((frame, dot, metrics.collect()))
}

/// Runs a query with the in-memory engine, which reports only the time of each step.
fn in_memory(query: LazyFrame) -> PolarsResult<(DataFrame, String, Vec<NodeMetrics>)> {
    let (frame, steps) = query.profile()?;
    let (names, start, end) = (steps.column("node")?, steps.column("start")?, steps.column("end")?);
    let metrics = names.str()?.iter().zip(start.u64()?.iter().zip(end.u64()?.iter())).map(
        |(name, (start, end))| NodeMetrics {
            name: name.unwrap_or_default().replace(['\t', '\n'], " "),
            // polars reports microseconds since the start of the query.
            seconds: end.unwrap_or(0).saturating_sub(start.unwrap_or(0)) as f64 / 1e6,
            ..NodeMetrics::default()
        },
    );
    Ok((frame, String::new(), metrics.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_survives_write_and_read() {
        let metrics = NodeMetrics {
            id: 4294967297,
            name: "multi-scan[parquet]".to_owned(),
            rows_in: 0,
            rows_out: 12,
            seconds: 0.25,
            bytes: 7,
        };
        assert_eq!(NodeMetrics::read(metrics.line().trim_end_matches('\n')), Some(metrics));
        assert_eq!(NodeMetrics::read("1\t2"), None);
    }

    #[cfg(unix)]
    #[test]
    fn failed_allocation_is_reported_as_out_of_memory() {
        use std::os::unix::process::ExitStatusExt;
        let folder = tempfile::tempdir().unwrap();
        let aborted = ExitStatus::from_raw(6);
        let stderr = "memory allocation of 8000 bytes failed\n".to_owned();
        let reported = outcome(aborted, stderr, folder.path()).unwrap();
        assert!(matches!(reported, Outcome::OutOfMemory(reason) if reason.contains("8000 bytes")));
        let stderr = format!("{} of 100 MB\n", platform::EXCEEDED);
        let reported = outcome(ExitStatus::from_raw(1 << 8), stderr, folder.path()).unwrap();
        assert!(matches!(reported, Outcome::OutOfMemory(reason) if reason.contains("100 MB")));
        let error = outcome(aborted, "other\n".to_owned(), folder.path()).unwrap_err();
        assert!(matches!(error, Error::WorkerEnded { .. }), "{error}");
    }

    /// A query of many joins that needs minutes and little memory.
    fn endless() -> LazyFrame {
        let x: Vec<i64> = (0..6_000).collect();
        let frame = df!["x" => x].unwrap().lazy();
        let joins: Vec<LazyFrame> = (0..2_000i64)
            .map(|n| {
                let other = frame.clone().select([(col("x") + lit(n)).alias("y")]);
                frame.clone().cross_join(other, None).select([(col("x") * col("y")).sum()])
            })
            .collect();
        concat(joins, UnionArgs { parallel: false, ..Default::default() }).unwrap()
    }

    #[test]
    fn query_is_stopped_at_its_time_limit() {
        for engine in [Engine::Streaming, Engine::InMemory] {
            let time_limit = Some(Duration::from_secs(1));
            let options = WorkerOptions { time_limit, ..WorkerOptions::default() };
            let start = Instant::now();
            let error = run(&endless(), engine, options).unwrap_err();
            assert!(matches!(error, Error::TimeLimit { seconds: 1, .. }), "{error}");
            assert!(error.to_string().contains(TIME_LIMIT_VARIABLE), "{error}");
            assert!(start.elapsed() < Duration::from_secs(60));
        }
    }

    /// The program is found next to the library, so the working directory does not matter.
    #[test]
    fn program_is_found_without_the_working_directory() {
        assert!(platform::library().is_none_or(|library| library.is_absolute()));
        assert!(program().unwrap().is_file());
    }

    /// Not every system reports the library's path.
    #[test]
    fn program_is_found_without_the_librarys_path() {
        assert!(find_program(None).unwrap().is_file());
    }

    /// The parent can end before the worker watches it.
    #[cfg(unix)]
    #[test]
    fn program_ends_if_its_parent_has_ended() {
        let shared = tempfile::tempdir().unwrap();
        let mut command = Command::new(program().unwrap());
        command.args(["streaming", "0", "-"]).arg(shared.path());
        // A process ID that is not the real parent's.
        let output = command.env(PARENT_VARIABLE, "1234567890").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("the parent process 1234567890 has ended"), "{stderr}");
        assert!(!output.status.success() && !shared.path().join(ERROR).exists());
    }
}
