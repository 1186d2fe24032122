//! A query in a process of its own, so that what is measured is that query's alone, and so that it
//! may run out of memory without taking a notebook's variables with it.
//!
//! The plan goes to the program `query_apart` in polars' own serialised form. In a directory that
//! the two share, it leaves the result, the physical plan, and what it counted. What polars says
//! of row groups and joins only on stderr (`POLARS_VERBOSE`) is taken from there.

use std::alloc::{GlobalAlloc, Layout};
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use polars::prelude::*;
use polars_plan::dsl::DslPlan;
use polars_stream::StreamingQuery;

use crate::error::{Error, Result};
use crate::interrupt;
use crate::measure::memory;
use crate::output::{read_parquet, write_parquet};

/// The program that runs a query apart, as cargo calls it.
const PROGRAM: &str = "query_apart";
/// Environment variable that names the program, where it is not among the project's.
pub const PROGRAM_VARIABLE: &str = "WEARABLE_QUERY_APART";

// Files in the directory that both processes share.
const PLAN: &str = "plan";
const RESULT: &str = "result.parquet";
const GRAPH: &str = "physical.dot";
const COUNTS: &str = "counts";
const ERROR: &str = "error";
const SPILLED: &str = "spilled";

/// How much memory, in MB, polars lets its streaming engine have before it spills.
const BUDGET_VARIABLE: &str = "POLARS_OOC_MEMORY_BUDGET_MB";

/// How a query apart ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It has a result.
    Result(Box<Told>),
    /// The operating system refused it memory, and it died; with its last words.
    OutOfMemory(String),
}

/// What a query apart has told.
#[derive(Debug)]
pub(crate) struct Told {
    pub frame: DataFrame,
    /// Seconds of wall time, with threads and file cache as they were.
    pub seconds: f64,
    /// What the query added to the resident memory at its peak, in MB; None where the system does
    /// not tell.
    pub peak_mb: Option<f64>,
    /// What the process wrote while the query ran, in MB; None where the system does not tell.
    pub written_mb: Option<f64>,
    /// The streaming engine's physical plan, as DOT; empty for the in-memory engine.
    pub dot: String,
    pub counts: Vec<Count>,
    /// What polars said on stderr.
    pub said: String,
}

/// What was counted at a node: of the physical plan, or of the in-memory engine's steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Count {
    /// The node in the DOT text, or 0.
    pub id: u64,
    /// The step; empty for a node of the physical plan, which the DOT text names.
    pub name: String,
    pub rows_in: u64,
    pub rows_out: u64,
    /// Seconds of work, over all threads.
    pub seconds: f64,
    /// Bytes fetched from files, where they are counted.
    pub bytes: u64,
}

/// Under what conditions a query runs apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conditions {
    /// MB (1,000,000 bytes) that it may have on top of what its process has when it starts.
    pub memory_mb: Option<u64>,
    /// Fetch local files as from an object store, for polars counts what it fetches; else they are
    /// mapped into memory.
    pub counts_bytes: bool,
    /// Let polars take its budget of memory for spent, so that it spills what it can.
    pub spills: bool,
}

impl Count {
    fn line(&self) -> String {
        let Count { id, name, rows_in, rows_out, seconds, bytes } = self;
        format!("{id}\t{rows_in}\t{rows_out}\t{seconds}\t{bytes}\t{name}\n")
    }

    fn read(line: &str) -> Option<Count> {
        fn next<T: FromStr>(words: &mut std::str::SplitN<'_, char>) -> Option<T> {
            words.next()?.parse().ok()
        }
        let mut words = line.splitn(6, '\t');
        Some(Count {
            id: next(&mut words)?,
            rows_in: next(&mut words)?,
            rows_out: next(&mut words)?,
            seconds: next(&mut words)?,
            bytes: next(&mut words)?,
            name: next(&mut words)?,
        })
    }
}

/// Runs `query` with `engine` in a process of its own.
///
/// The query must be one that polars can write down: not one with a Rust closure in it.
pub(crate) fn run(query: &LazyFrame, engine: Engine, conditions: Conditions) -> Result<End> {
    let Conditions { memory_mb, counts_bytes, spills } = conditions;
    if memory_mb.is_some() && !cfg!(target_os = "linux") {
        return Err(Error::NoMemoryLimit);
    }
    let program = program()?;
    let shared = tempfile::tempdir().map_err(Error::io("create", &std::env::temp_dir()))?;
    let plan = shared.path().join(PLAN);
    let bytes = plan_bytes::to_bytes(&query.logical_plan)
        .map_err(|source| Error::NotPortable { reason: source.to_string() })?;
    fs::write(&plan, bytes).map_err(Error::io("write", &plan))?;

    let flags = query.get_current_optimizations().bits();
    let limit = memory_mb.map_or("-".to_owned(), |mb| mb.to_string());
    let mut command = Command::new(&program);
    if memory_mb.is_some() {
        // Each thread has batches under way, so that a limit would mean less on more cores.
        command.env("POLARS_MAX_THREADS", "2");
    }
    if counts_bytes {
        command.env("POLARS_FORCE_ASYNC", "1");
    }
    if spills {
        let folder = shared.path().join(SPILLED);
        command.env(BUDGET_VARIABLE, "0").env("POLARS_OOC_SPILL_DIR", folder);
    }
    let mut child = Running(
        command
            .args([engine_name(engine), &flags.to_string(), &limit])
            .arg(shared.path())
            .env("POLARS_VERBOSE", "1")
            .env("POLARS_TRACK_METRICS", "1")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io("start", &program))?,
    );
    let stderr = child.0.stderr.take().expect("it is piped");
    let reader = thread::spawn(move || read_to_string(stderr));
    let status = child.wait(&program)?;
    let said = reader.join().unwrap_or_default();
    ended(status, said, shared.path(), memory_mb)
}

fn ended(status: ExitStatus, said: String, shared: &Path, memory_mb: Option<u64>) -> Result<End> {
    if status.success() {
        return Ok(End::Result(Box::new(told(shared, said)?)));
    }
    let error = fs::read_to_string(shared.join(ERROR)).unwrap_or_default();
    let last =
        |text: &str| text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
    // The allocator's words, the operating system's, and those of a thread that got no stack.
    let memory =
        ["memory allocation of", "Cannot allocate memory", "Resource temporarily unavailable"];
    let word = said.lines().find(|line| memory.iter().any(|word| line.contains(word)));
    if memory_mb.is_some() && (word.is_some() || memory.iter().any(|word| error.contains(word))) {
        let words = word.map(str::to_owned).or_else(|| last(&error)).unwrap_or_default();
        return Ok(End::OutOfMemory(words.trim().to_owned()));
    }
    if !error.is_empty() {
        let source = PolarsError::ComputeError(error.into());
        return Err(Error::Polars { action: "run the query apart".to_owned(), source });
    }
    let reason = last(&said).unwrap_or_default();
    Err(Error::EndedApart { status: status.to_string(), reason })
}

fn told(shared: &Path, said: String) -> Result<Told> {
    let counts = shared.join(COUNTS);
    let text = fs::read_to_string(&counts).map_err(Error::io("read", &counts))?;
    let mut lines = text.lines();
    let mut number = || lines.next().and_then(|line| line.parse::<f64>().ok());
    let (seconds, peak_mb, written_mb) = (number().unwrap_or(f64::NAN), number(), number());
    let result = shared.join(RESULT);
    Ok(Told {
        frame: if result.is_file() { read_parquet(&result)? } else { DataFrame::empty() },
        seconds,
        peak_mb,
        written_mb,
        dot: fs::read_to_string(shared.join(GRAPH)).unwrap_or_default(),
        counts: lines.filter_map(Count::read).collect(),
        said,
    })
}

fn read_to_string(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A child process that ends with the cell that waits for it.
struct Running(std::process::Child);

impl Running {
    fn wait(&mut self, program: &Path) -> Result<ExitStatus> {
        loop {
            interrupt::check();
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

/// The program, as `cargo build` leaves it in the project that the working directory is in.
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(PROGRAM_VARIABLE).map(PathBuf::from) {
        return Ok(path);
    }
    let cwd = std::env::current_dir().map_err(Error::io("read", Path::new(".")))?;
    let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    let targets = cwd.ancestors().map(|folder| folder.join("target"));
    for target in targets.filter(|target| target.is_dir()) {
        // Below the platform's name where one was chosen, as here.
        let folders = fs::read_dir(&target).map_err(Error::io("read", &target))?;
        let folders = folders.filter_map(|entry| Some(entry.ok()?.path()));
        let programs = folders.map(|folder| folder.join("debug").join(&name));
        if let Some(found) =
            programs.chain([target.join("debug").join(&name)]).find(|p| p.is_file())
        {
            return Ok(found);
        }
    }
    Err(Error::NoProgram { name: PROGRAM, variable: PROGRAM_VARIABLE })
}

fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Streaming => "streaming",
        _ => "in-memory",
    }
}

/// What `query_apart` does: runs the plan of its directory, as `read` makes it of bytes, and leaves
/// there what it found.
pub fn serve(read: fn(&[u8]) -> PolarsResult<DslPlan>) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [engine, flags, limit, shared] = words.as_slice() else {
        eprintln!("error: query_apart is for wearable_demo::observe; see its documentation");
        return ExitCode::from(2);
    };
    let shared = Path::new(shared);
    match serve_one(read, engine, flags, limit, shared) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = fs::write(shared.join(ERROR), error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn serve_one(
    read: fn(&[u8]) -> PolarsResult<DslPlan>,
    engine: &str,
    flags: &str,
    limit: &str,
    shared: &Path,
) -> PolarsResult<()> {
    end_with_the_parent();
    let plan = read(&fs::read(shared.join(PLAN))?)?;
    let flags = OptFlags::from_bits_truncate(flags.parse().unwrap_or_default());
    let query = LazyFrame::from_logical_plan(plan, flags);
    // Threads and their stacks are there before anything is counted.
    let small = df!["x" => [1i64]]?.lazy().select([col("x").sum()]);
    small.clone().collect_with_engine(Engine::Streaming)?;
    small.collect()?;
    if std::env::var_os(BUDGET_VARIABLE).is_some() {
        spend_the_budget();
    }
    if let Ok(mb) = limit.parse() {
        memory::limit(mb)?;
    }
    let written = memory::written_mb();
    let peak = memory::Peak::start();
    let start = Instant::now();
    let (frame, dot, counts) = match engine {
        "streaming" => streaming(query)?,
        _ => in_memory(query)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    let peak_mb = peak.and_then(memory::Peak::stop_mb);
    let written_mb = written.and_then(|before| Some(memory::written_mb()? - before));

    let line = |mb: Option<f64>| mb.map_or("-".to_owned(), |mb| mb.to_string());
    let mut told = format!("{seconds}\n{}\n{}\n", line(peak_mb), line(written_mb));
    for count in counts {
        write!(told, "{}", count.line()).expect("a String takes all");
    }
    if frame.width() > 0 {
        write_parquet(&frame, &shared.join(RESULT))
            .map_err(|error| PolarsError::ComputeError(error.to_string().into()))?;
    }
    fs::write(shared.join(GRAPH), dot)?;
    fs::write(shared.join(COUNTS), told)?;
    Ok(())
}

/// Runs a query as polars does by [`Engine::Streaming`], and keeps what it counts on the way.
fn streaming(query: LazyFrame) -> PolarsResult<(DataFrame, String, Vec<Count>)> {
    let mut plan = query.with_streaming(true).to_alp_optimized()?;
    plan.ensure_root_node_is_sink();
    let (mut plans, mut expressions) = (plan.lp_arena.clone(), plan.expr_arena.clone());
    // Of the same plan, so nodes have the same numbers.
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
    let counts = nodes.into_iter().filter_map(|(id, node)| {
        let counted = counted.as_ref()?.get(node)?.clone();
        let nanoseconds = counted.total_poll_time_ns + counted.total_state_update_time_ns;
        Some(Count {
            id,
            rows_in: counted.rows_received,
            rows_out: counted.rows_sent,
            seconds: nanoseconds as f64 / 1e9,
            bytes: counted.io_total_bytes_received,
            ..Count::default()
        })
    });
    Ok((frame, dot, counts.collect()))
}

/// Runs a query with the in-memory engine, which tells of each step how long it took, no more.
fn in_memory(query: LazyFrame) -> PolarsResult<(DataFrame, String, Vec<Count>)> {
    let (frame, steps) = query.profile()?;
    let (names, start, end) = (steps.column("node")?, steps.column("start")?, steps.column("end")?);
    let counts = names.str()?.iter().zip(start.u64()?.iter().zip(end.u64()?.iter())).map(
        |(name, (start, end))| Count {
            name: name.unwrap_or_default().replace(['\t', '\n'], " "),
            // Microseconds since the query began.
            seconds: end.unwrap_or(0).saturating_sub(start.unwrap_or(0)) as f64 / 1e6,
            ..Count::default()
        },
    );
    Ok((frame, String::new(), counts.collect()))
}

/// Has polars believe that its budget of nothing is overdrawn.
///
/// It counts only what goes through its own allocator, which is nobody's here. One block of it, more
/// than the drift that polars does not look at, is over any budget of 0.
fn spend_the_budget() {
    let block = Layout::from_size_align(64 << 20, 64).expect("a size and a power of two");
    // SAFETY: the layout's size is not zero. The block is not used, and not given back.
    unsafe { polars_ooc::Allocator.alloc(block) };
}

#[cfg(target_os = "linux")]
fn end_with_the_parent() {
    // SAFETY: prctl with these arguments only sets a flag of this process.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_the_parent() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_as_it_was_written() {
        let count = Count {
            id: 4294967297,
            name: "multi-scan[parquet]".to_owned(),
            rows_in: 0,
            rows_out: 12,
            seconds: 0.25,
            bytes: 7,
        };
        assert_eq!(Count::read(count.line().trim_end_matches('\n')), Some(count));
        assert_eq!(Count::read("1\t2"), None);
    }
}
