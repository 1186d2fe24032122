//! The profile of a query: rows, time, row groups and bytes of each plan node, and the peak memory.
//!
//! [`profile`] runs the query in a worker process. polars maps local files into memory, and counts
//! only the bytes that it fetches from an object store. So the streaming engine also fetches local
//! files, which makes short queries 10 to 15 ms slower.

use std::fmt;

use polars::prelude::*;

use crate::error::{Error, Result};
use crate::plan_graph::{Execution, Graph, Node, logical_graph};
use crate::text::thousands;
use crate::timing::MEASURED;
use crate::worker::{self, Conditions, Count, End, WorkerReport};

/// The result and the metrics of one run of a query.
#[derive(Clone, Debug)]
pub struct QueryProfile {
    /// The result; without columns where the query ends in a sink.
    pub frame: DataFrame,
    /// The engine that ran it.
    pub engine: Engine,
    /// Seconds of wall time of this one run, with the engine's threads started before.
    pub seconds: f64,
    /// What the query added to the resident memory of its process at the peak, in MB (1,000,000
    /// bytes), pages of mapped files included. None where the system does not report it.
    pub peak_mb: Option<f64>,
    /// The nodes, inputs before what uses them. By the streaming engine, those of its physical
    /// plan; by the in-memory engine, its steps in the order in which they began.
    pub nodes: Vec<NodeProfile>,
    graph: Graph,
}

/// A node of a profiled query.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeProfile {
    /// Its operation, such as `multi-scan[parquet]` or `group-by`.
    pub name: String,
    /// How it ran; None for the in-memory engine's steps.
    pub execution: Option<Execution>,
    /// Rows that came in; None where they are not counted.
    pub rows_in: Option<u64>,
    /// Rows that went out; None where they are not counted.
    pub rows_out: Option<u64>,
    /// Seconds of work, summed over all threads.
    pub seconds: f64,
    /// Row groups that a scan with a filter read, and how many there are: the statistics of the
    /// others exclude every row. None unless polars reported it for exactly one scan.
    pub row_groups: Option<(u64, u64)>,
    /// Bytes that a scan fetched from its files, footers included; None where they are not counted.
    pub bytes: Option<u64>,
    /// The side of a join that was held in memory, `left` or `right`; the other one streams past.
    /// None unless polars reported it for exactly one join.
    pub build_side: Option<String>,
}

/// How a query with a memory limit ended.
#[derive(Clone, Debug)]
pub enum LimitedRun {
    /// It has a result.
    Finished(Box<QueryProfile>),
    /// The operating system refused it memory, and its worker process ended.
    OutOfMemory {
        /// The limit, in MB (1,000,000 bytes).
        limit_mb: u64,
        /// The last line on the worker's stderr.
        stderr: String,
    },
}

/// Memory of a query in several runs.
#[derive(Clone, Debug, PartialEq)]
pub struct PeakMemory {
    /// Median of the runs' peaks, in MB (1,000,000 bytes).
    pub median_mb: f64,
    /// The lowest and the highest of them.
    pub range_mb: (f64, f64),
    /// Median of the runs' wall times, in seconds.
    pub seconds: f64,
}

/// Runs `query` once with `engine` in a worker process, and returns its metrics.
///
/// # Errors
///
/// [`Error::Polars`] where the query fails, [`Error::NotSerializable`] for one with a Rust
/// closure, [`Error::NoWorker`] where the worker program is not compiled, [`Error::WorkerEnded`]
/// where the worker ends without a result, [`Error::TimeLimit`] if it runs longer than ten minutes or than the
/// seconds in `PROFILE_TIME_LIMIT`.
pub fn profile(query: &LazyFrame, engine: Engine) -> Result<QueryProfile> {
    let conditions =
        Conditions { counts_bytes: engine == Engine::Streaming, ..Conditions::default() };
    QueryProfile::new(query, engine, finished(query, engine, conditions)?)
}

/// A query without a limit of memory, which therefore has a result or an error.
fn finished(query: &LazyFrame, engine: Engine, conditions: Conditions) -> Result<WorkerReport> {
    match worker::run(query, engine, conditions)? {
        End::Result(report) => Ok(*report),
        End::OutOfMemory(reason) => {
            Err(Error::WorkerEnded { status: "out of memory".to_owned(), reason })
        }
    }
}

/// As [`profile`], with no more than `limit_mb` MB (1,000,000 bytes) of memory for the query's
/// allocations. The operating system enforces the limit. The engine has two threads on every machine,
/// because each thread holds batches of its own.
///
/// # Errors
///
/// As [`profile`]; [`Error::NoMemoryLimit`] where the system has no such limit.
pub fn profile_with_memory_limit(
    query: &LazyFrame,
    engine: Engine,
    limit_mb: u64,
) -> Result<LimitedRun> {
    let conditions = Conditions { memory_mb: Some(limit_mb), ..Conditions::default() };
    Ok(match worker::run(query, engine, conditions)? {
        End::Result(report) => {
            LimitedRun::Finished(Box::new(QueryProfile::new(query, engine, *report)?))
        }
        End::OutOfMemory(stderr) => LimitedRun::OutOfMemory { limit_mb, stderr },
    })
}

/// Runs `query` `runs` times, each in a worker process of its own, and returns its peak memory;
/// NaN where the system does not report it.
///
/// # Errors
///
/// As [`profile`].
pub fn peak_memory(query: &LazyFrame, engine: Engine, runs: usize) -> Result<PeakMemory> {
    let (mut peaks, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..runs.max(1) {
        let report = finished(query, engine, Conditions::default())?;
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
        let WorkerReport { frame, seconds, peak_mb, dot, counts, stderr, .. } = report;
        let (graph, nodes) = if dot.is_empty() {
            (logical_graph(query)?, counts.into_iter().map(step).collect())
        } else {
            physical(&dot, &counts, &stderr)
        };
        Ok(QueryProfile { frame, engine, seconds, peak_mb, nodes, graph })
    }

    /// The plan with the rows on its arrows: the physical plan of the streaming engine; the logical
    /// one, without rows, of the in-memory engine, which does not count them.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The first node whose name begins with `name`.
    pub fn node(&self, name: &str) -> Option<&NodeProfile> {
        self.nodes.iter().find(|node| node.name.starts_with(name))
    }

    /// Row groups read and there are, over all scans for which polars reports them.
    pub fn row_groups(&self) -> Option<(u64, u64)> {
        self.nodes.iter().filter_map(|node| node.row_groups).reduce(|a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// Bytes fetched from files, over all scans; None where they are not counted.
    pub fn bytes(&self) -> Option<u64> {
        self.nodes.iter().filter_map(|node| node.bytes).reduce(|a, b| a + b)
    }

    /// The nodes as a table: `node`, `ran`, `rows_in`, `rows_out`, `≈ ms` (of work, over
    /// all threads), `row_groups` (read / there are), `kB` (1000 bytes, fetched from files),
    /// `build` (the side of a join); null where polars does not report it.
    pub fn table(&self) -> DataFrame {
        fn of<T>(nodes: &[NodeProfile], what: impl Fn(&NodeProfile) -> T) -> Vec<T> {
            nodes.iter().map(what).collect()
        }
        let nodes = &self.nodes;
        let groups = |node: &NodeProfile| node.row_groups.map(|(n, all)| format!("{n} / {all}"));
        df![
            "node" => of(nodes, |node| node.name.clone()),
            "ran" => of(nodes, |node| node.execution.map(|execution| execution.to_string())),
            "rows_in" => of(nodes, |node| node.rows_in),
            "rows_out" => of(nodes, |node| node.rows_out),
            format!("{MEASURED} ms") => of(nodes, |node| (node.seconds * 1e4).round() / 10.0),
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
        write!(f, "{:?} engine: {rows} rows\n{MEASURED} {:.3} s", self.engine, self.seconds)?;
        match self.peak_mb {
            Some(peak) => write!(f, ", {peak:.1} MB at the peak, in a worker process"),
            None => write!(f, ", memory not measured here"),
        }
    }
}

/// A step of the in-memory engine.
fn step(count: Count) -> NodeProfile {
    NodeProfile {
        name: count.name,
        execution: None,
        rows_in: None,
        rows_out: None,
        seconds: count.seconds,
        row_groups: None,
        bytes: None,
        build_side: None,
    }
}

/// The physical plan with what was counted at its nodes.
fn physical(dot: &str, counts: &[Count], stderr: &str) -> (Graph, Vec<NodeProfile>) {
    let mut graph = Graph::parse(dot, "physical plan, as the streaming engine ran it", true);
    let of_node = |id: &str| counts.iter().find(|count| count.id.to_string() == id);
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
        let count = of_node(&node.id);
        node.rows_out = count.map(|count| count.rows_out);
        nodes.push(NodeProfile {
            name: node.name.clone(),
            execution: node.execution,
            rows_in: count.filter(|_| !node.inputs.is_empty()).map(|count| count.rows_in),
            rows_out: count.map(|count| count.rows_out),
            seconds: count.map_or(0.0, |count| count.seconds),
            row_groups: row_groups.filter(|_| one_scan && filtered(node)),
            bytes: count.map(|count| count.bytes).filter(|bytes| *bytes > 0),
            build_side: build_side.clone().filter(|_| one_join && is_join(&node.name)),
        });
    }
    (graph, nodes)
}

/// Row groups that were read, and all row groups, summed over the files in polars' messages.
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
