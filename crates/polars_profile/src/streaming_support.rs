//! Which operations the streaming engine runs in batches, read off the physical plans of queries.

use polars::prelude::*;

use crate::error::{Error, Result};
use crate::plan_graph::{Execution, physical_graph};

/// How the streaming engine would run each of the named queries: `operation`, `ran` (the node that
/// holds the most in memory), `nodes` (all nodes that run in this way). Runs nothing.
///
/// # Errors
///
/// [`Error::Polars`] where polars cannot plan a query.
pub fn streaming_support(queries: &[(&str, LazyFrame)]) -> Result<DataFrame> {
    let (mut names, mut ran, mut worst) = (Vec::new(), Vec::new(), Vec::new());
    for (name, query) in queries {
        let graph = physical_graph(query)?;
        let execution = graph.nodes.iter().filter_map(|node| node.execution).max();
        let execution = execution.unwrap_or(Execution::Streaming);
        let mut nodes: Vec<&str> = Vec::new();
        for node in graph.nodes.iter().filter(|node| node.execution == Some(execution)) {
            if execution != Execution::Streaming && !nodes.contains(&node.name.as_str()) {
                nodes.push(&node.name);
            }
        }
        names.push(*name);
        ran.push(execution.to_string());
        worst.push(nodes.join(", "));
    }
    df!["operation" => names, "ran" => ran, "nodes" => worst].map_err(Error::from)
}
