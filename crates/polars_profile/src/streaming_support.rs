//! Lists the operations that the streaming engine runs in batches, from the physical plans of queries.

use polars::prelude::*;

use crate::error::{Error, Result};
use crate::plan_graph::{Execution, physical_graph};

/// Returns how the streaming engine would run each named query. Columns: `operation`, `ran` (how
/// its most memory-intensive nodes run), `nodes` (their names). Runs no query.
///
/// # Errors
///
/// [`Error::Polars`] if polars cannot plan a query.
pub fn streaming_support<N: AsRef<str>>(queries: &[(N, LazyFrame)]) -> Result<DataFrame> {
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
        names.push(name.as_ref());
        ran.push(execution.to_string());
        worst.push(nodes.join(", "));
    }
    df!["operation" => names, "ran" => ran, "nodes" => worst].map_err(Error::from)
}
