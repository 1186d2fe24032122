//! The profile of a query: rows, time, row groups and bytes of each plan node, and peak memory.
//!
//! [`profile`] runs the query in a worker process. polars counts only bytes that it fetches from an
//! object store, and maps local files into memory. So [`profile`] makes the streaming engine fetch
//! local files, too (with `POLARS_FORCE_ASYNC`). That added 10 to 15 ms to queries of about 50 ms in
//! py-polars 1.43.2.

use std::fmt;

use polars::prelude::*;

use crate::error::{Error, Result};
use crate::plan_graph::{Execution, Graph, Node, logical_graph};
use crate::text::thousands;
use crate::worker::{self, NodeMetrics, Outcome, WorkerOptions, WorkerReport};

/// The result and the metrics of one run of a query.
#[derive(Clone, Debug)]
pub struct QueryProfile {
    /// The result. It has no columns if the query ends in a sink.
    pub frame: DataFrame,
    /// The engine that ran it.
    pub engine: Engine,
    /// Seconds of wall time of this one run, with the engine's threads started before.
    pub seconds: f64,
    /// How much the query raised the peak of its process's resident memory, in MB (1,000,000 bytes).
    /// Pages of mapped files are included. None if the system does not report it.
    pub peak_mb: Option<f64>,
    /// The nodes of the streaming engine's physical plan, inputs first; or the steps of the
    /// in-memory engine, in the order in which they began.
    pub nodes: Vec<NodeProfile>,
    graph: Graph,
}

/// A node of a profiled query.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeProfile {
    /// Its operation, such as `multi-scan[parquet]` or `group-by`.
    pub name: String,
    /// How it ran. None for the steps of the in-memory engine.
    pub execution: Option<Execution>,
    /// Rows that the node received. None if polars does not count them.
    pub rows_in: Option<u64>,
    /// Rows that the node passed on. None if polars does not count them.
    pub rows_out: Option<u64>,
    /// Seconds of work, summed over all threads.
    pub seconds: f64,
    /// Row groups that a scan with a filter read, and the number of all row groups. The scan skips a
    /// row group if its statistics exclude every row. None unless the plan has exactly one such scan.
    pub row_groups: Option<(u64, u64)>,
    /// Bytes that a scan fetched from its files, footers included. None if polars does not count them.
    pub bytes: Option<u64>,
    /// The side of a join that was held in memory, `left` or `right`. The other side streams. None
    /// unless the plan has exactly one join.
    pub build_side: Option<String>,
}

/// How a query with a memory limit ended.
#[derive(Clone, Debug)]
pub enum LimitedRun {
    /// The query has a result.
    Finished(Box<QueryProfile>),
    /// The query exceeded the limit, and the worker process ended.
    OutOfMemory {
        /// The limit, in MB (1,000,000 bytes).
        limit_mb: u64,
        /// The last line on the worker's stderr.
        stderr: String,
    },
}

/// The peak memory of a query in several runs.
#[derive(Clone, Debug, PartialEq)]
pub struct PeakMemory {
    /// Median of the peaks, in MB (1,000,000 bytes).
    pub median_mb: f64,
    /// The lowest and the highest peak.
    pub range_mb: (f64, f64),
    /// Median of the runs' wall times, in seconds.
    pub seconds: f64,
}

/// Runs `query` once with `engine` in a worker process, and returns its metrics.
///
/// # Errors
///
/// [`Error::Polars`] if the query fails, [`Error::NotSerializable`] if it contains a Rust closure,
/// [`Error::NoWorker`] if the worker program is not compiled, [`Error::OutOfMemory`] if the machine has
/// too little memory, [`Error::WorkerEnded`] if the worker ends without a result, [`Error::TimeLimit`] if the query runs longer than ten minutes, or than
/// the seconds in `PROFILE_TIME_LIMIT`.
pub fn profile(query: &LazyFrame, engine: Engine) -> Result<QueryProfile> {
    let options =
        WorkerOptions { counts_bytes: engine == Engine::Streaming, ..WorkerOptions::default() };
    QueryProfile::new(query, engine, finished(query, engine, options)?)
}

/// Runs a query without a memory limit, so that it ends with a result or an error.
fn finished(query: &LazyFrame, engine: Engine, options: WorkerOptions) -> Result<WorkerReport> {
    match worker::run(query, engine, options)? {
        Outcome::Result(report) => Ok(*report),
        Outcome::OutOfMemory(reason) => Err(Error::OutOfMemory { reason }),
    }
}

/// Like [`profile`], but the query may allocate at most `limit_mb` MB (1,000,000 bytes). Linux enforces
/// the limit. On other Unix systems, the worker process checks its memory a thousand times per second,
/// and pages of mapped files count, too. The engine uses two threads on every machine, because each
/// thread holds batches of its own.
///
/// # Errors
///
/// As [`profile`], and [`Error::NoMemoryLimit`] if the system has no such limit.
pub fn profile_with_memory_limit(
    query: &LazyFrame,
    engine: Engine,
    limit_mb: u64,
) -> Result<LimitedRun> {
    let options = WorkerOptions { memory_mb: Some(limit_mb), ..WorkerOptions::default() };
    Ok(match worker::run(query, engine, options)? {
        Outcome::Result(report) => {
            LimitedRun::Finished(Box::new(QueryProfile::new(query, engine, *report)?))
        }
        Outcome::OutOfMemory(stderr) => LimitedRun::OutOfMemory { limit_mb, stderr },
    })
}

/// Runs `query` `runs` times, each in a new worker process, and returns its peak memory: NaN if the
/// system does not report it.
///
/// # Errors
///
/// As [`profile`].
pub fn peak_memory(query: &LazyFrame, engine: Engine, runs: usize) -> Result<PeakMemory> {
    let (mut peaks, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..runs.max(1) {
        let report = finished(query, engine, WorkerOptions::default())?;
        peaks.push(report.peak_mb.unwrap_or(f64::NAN));
        seconds.push(report.seconds);
    }
    for values in [&mut peaks, &mut seconds] {
        values.sort_by(f64::total_cmp);
    }
    let middle = peaks.len() / 2;
    let range_mb = (peaks[0], peaks[peaks.len() - 1]);
    Ok(PeakMemory { median_mb: peaks[middle], range_mb, seconds: seconds[middle] })
}

impl QueryProfile {
    fn new(query: &LazyFrame, engine: Engine, report: WorkerReport) -> Result<QueryProfile> {
        let WorkerReport { frame, seconds, peak_mb, dot, metrics, stderr, .. } = report;
        let (graph, nodes) = if dot.is_empty() {
            (logical_graph(query)?, metrics.into_iter().map(step).collect())
        } else {
            physical(&dot, &metrics, &stderr)
        };
        Ok(QueryProfile { frame, engine, seconds, peak_mb, nodes, graph })
    }

    /// The plan: the streaming engine's physical plan with row counts on its arrows, or the logical
    /// plan for the in-memory engine, which does not count rows.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The first node whose name starts with `name`.
    pub fn node(&self, name: &str) -> Option<&NodeProfile> {
        self.nodes.iter().find(|node| node.name.starts_with(name))
    }

    /// Row groups that the plan's only scan with a filter read, and the number of all row groups. None
    /// if the plan has no such scan or several, or if polars does not report them.
    pub fn row_groups(&self) -> Option<(u64, u64)> {
        self.nodes.iter().filter_map(|node| node.row_groups).reduce(|a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// Bytes fetched from files, over all scans. None if polars does not count them.
    pub fn bytes(&self) -> Option<u64> {
        self.nodes.iter().filter_map(|node| node.bytes).reduce(|a, b| a + b)
    }

    /// The nodes as a table. Columns: `node`, `ran`, `rows_in`, `rows_out`, `ms` (work, summed over
    /// all threads), `row_groups` (read / all), `kB` (1000 bytes fetched from files), `build` (the
    /// side of a join). Null if polars does not report the value.
    pub fn table(&self) -> DataFrame {
        fn of<T>(nodes: &[NodeProfile], value: impl Fn(&NodeProfile) -> T) -> Vec<T> {
            nodes.iter().map(value).collect()
        }
        let nodes = &self.nodes;
        let groups = |node: &NodeProfile| node.row_groups.map(|(n, all)| format!("{n} / {all}"));
        df![
            "node" => of(nodes, |node| node.name.clone()),
            "ran" => of(nodes, |node| node.execution.map(|execution| execution.to_string())),
            "rows_in" => of(nodes, |node| node.rows_in),
            "rows_out" => of(nodes, |node| node.rows_out),
            "ms" => of(nodes, |node| (node.seconds * 1e4).round() / 10.0),
            "row_groups" => of(nodes, groups),
            "kB" => of(nodes, |node| node.bytes.map(|bytes| bytes.div_ceil(1000))),
            "build" => of(nodes, |node| node.build_side.clone()),
        ]
        .expect("columns of one length")
    }
}

impl fmt::Display for QueryProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = thousands(self.frame.height() as u64);
        write!(f, "{:?} engine: {rows} rows\n{:.3} s", self.engine, self.seconds)?;
        match self.peak_mb {
            Some(peak) => write!(f, ", {peak:.1} MB at the peak, in a worker process"),
            None => write!(f, ", peak memory not available on this system"),
        }
    }
}

impl fmt::Display for LimitedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitedRun::Finished(run) => match run.peak_mb {
                Some(peak) => write!(f, "finished with {peak:.0} MB"),
                None => f.write_str("finished"),
            },
            LimitedRun::OutOfMemory { limit_mb, .. } => {
                write!(f, "out of memory at the limit of {limit_mb} MB")
            }
        }
    }
}

/// A step of the in-memory engine.
fn step(metrics: NodeMetrics) -> NodeProfile {
    NodeProfile {
        name: metrics.name,
        execution: None,
        rows_in: None,
        rows_out: None,
        seconds: metrics.seconds,
        row_groups: None,
        bytes: None,
        build_side: None,
    }
}

/// The physical plan with the metrics of its nodes.
fn physical(dot: &str, metrics: &[NodeMetrics], stderr: &str) -> (Graph, Vec<NodeProfile>) {
    let mut graph = Graph::parse(dot, "physical plan, as the streaming engine ran it", true);
    let of_node = |id: &str| metrics.iter().find(|node| node.id.to_string() == id);
    let filtered = |node: &Node| {
        node.name.starts_with("multi-scan") && node.details.iter().any(|d| d.starts_with("filter:"))
    };
    let is_join = |name: &str| name == "equi-join";
    // polars' stderr messages do not identify a node, so they count only for the single candidate.
    let one_scan = graph.nodes.iter().filter(|node| filtered(node)).count() == 1;
    let one_join = graph.nodes.iter().filter(|node| is_join(&node.name)).count() == 1;
    let (row_groups, build_side) = (row_groups_in(stderr), build_side_in(stderr));
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in &mut graph.nodes {
        let measured = of_node(&node.id);
        node.rows_out = measured.map(|node| node.rows_out);
        nodes.push(NodeProfile {
            name: node.name.clone(),
            execution: node.execution,
            rows_in: measured.filter(|_| !node.inputs.is_empty()).map(|node| node.rows_in),
            rows_out: measured.map(|node| node.rows_out),
            seconds: measured.map_or(0.0, |node| node.seconds),
            row_groups: row_groups.filter(|_| one_scan && filtered(node)),
            bytes: measured.map(|node| node.bytes).filter(|bytes| *bytes > 0),
            build_side: build_side.clone().filter(|_| one_join && is_join(&node.name)),
        });
    }
    (graph, nodes)
}

/// Row groups read and the number of all row groups, summed over the files in polars' messages.
fn row_groups_in(stderr: &str) -> Option<(u64, u64)> {
    let numbers = stderr.lines().filter_map(|line| {
        let (_, numbers) = line.split_once("Predicate pushdown: reading ")?;
        let (read, all) = numbers.strip_suffix(" row groups")?.split_once(" / ")?;
        Some((read.parse::<u64>().ok()?, all.parse::<u64>().ok()?))
    });
    numbers.reduce(|a, b| (a.0 + b.0, a.1 + b.1))
}

/// The build side of a join in polars' messages.
fn build_side_in(stderr: &str) -> Option<String> {
    stderr
        .lines()
        .find_map(|line| Some(line.split_once("build side chosen: ")?.1.trim().to_owned()))
}
