//! A cluster's plan as stages: what a worker does by itself, and what is exchanged between workers.
//!
//! Engines write a plan as a tree, a line to an operation, indented below what takes its rows. Between
//! two exchanges is a stage. This module reads the plans of Spark 4.3 and
//! Sail 0.7; an operation that it does not know keeps the engine's name for it.

use polars_profile::plan_graph::{Graph, Node};

/// What the engines write before an operation's name.
const INDENTATION: [char; 5] = [' ', '+', '-', ':', '|'];

/// The stages of `plan`: a node for each, with its operations from the first to the last and then where
/// its rows go; its inputs are the stages whose rows it takes.
///
/// `tables` has the names of tables, each with a column that only this table has. A scan names its
/// files or its columns, depending on the engine.
pub fn stage_graph(plan: &str, title: &str, tables: &[(&str, &str)]) -> Graph {
    let lines: Vec<(usize, &str)> = plan
        .lines()
        .map(|line| {
            let text = line.trim_start_matches(INDENTATION);
            (line.len() - text.len(), text)
        })
        .filter(|(_, text)| {
            !(text.is_empty() || text.starts_with("==") || text.starts_with("AdaptiveSparkPlan"))
        })
        .collect();
    let tree: Vec<Operation> = (0..lines.len())
        .map(|at| {
            let (depth, text) = lines[at];
            let below = lines[at + 1..].iter().take_while(|(inner, _)| *inner > depth).count();
            let below = at + 1..at + 1 + below;
            let nearest = below.clone().map(|inner| lines[inner].0).min();
            let inputs = below.filter(|&inner| Some(lines[inner].0) == nearest).collect();
            Operation { text, inputs }
        })
        .collect();
    let mut graph = Graph { title: title.to_owned(), nodes: Vec::new() };
    if !tree.is_empty() {
        stage(&tree, tables, &[0], None, &mut graph.nodes);
    }
    graph
}

/// An operation of a plan, and positions of those whose rows it takes.
struct Operation<'a> {
    text: &'a str,
    inputs: Vec<usize>,
}

/// Adds the stage that ends with the operations at `ends`, after those that it takes its rows from; its
/// position.
fn stage(
    tree: &[Operation],
    tables: &[(&str, &str)],
    ends: &[usize],
    sent: Option<String>,
    nodes: &mut Vec<Node>,
) -> usize {
    let (mut details, mut inputs) = (Vec::new(), Vec::new());
    let mut todo = ends.to_vec();
    while let Some(at) = todo.pop() {
        let operation = &tree[at];
        if let Some(sent) = exchange(operation.text) {
            inputs.push(stage(tree, tables, &operation.inputs, Some(sent), nodes));
        } else {
            details.extend(name(operation.text, tables));
            todo.extend(operation.inputs.iter().rev());
        }
    }
    details.reverse();
    details.extend(sent.map(|sent| format!("⇄ {sent}")));
    let name = format!("stage {}", nodes.len() + 1);
    nodes.push(Node { id: name.clone(), name, details, execution: None, inputs, rows_out: None });
    nodes.len() - 1
}

/// Where rows go by an exchange; None for an operation that is none.
fn exchange(text: &str) -> Option<String> {
    let by = |of: &str| format!("{of} {}", columns(text, '(', ')'));
    match word(text) {
        "BroadcastExchange" => Some("all rows to all workers".to_owned()),
        "Exchange" if text.contains("hashpartitioning") => Some(by("to the worker of")),
        "Exchange" if text.contains("rangepartitioning") => Some(by("in ranges of")),
        "RepartitionExec" if text.contains("Hash(") => {
            Some("to the worker of their group".to_owned())
        }
        "Exchange" | "RepartitionExec" => Some("to other workers".to_owned()),
        "SortPreservingMergeExec" | "CoalescePartitionsExec" => Some("all to one".to_owned()),
        _ => None,
    }
}

/// What an operation does, in few words; None for one that only names columns.
fn name(text: &str, tables: &[(&str, &str)]) -> Option<String> {
    let with = |name: &str, columns: String| match columns.is_empty() {
        true => name.to_owned(),
        false => format!("{name} by {columns}"),
    };
    Some(match word(text) {
        "Project" | "ProjectionExec" => return None,
        "FileScan" | "DataSourceExec" => format!("scan {}", table(text, tables)),
        "Filter" | "FilterExec" => "filter".to_owned(),
        "HashAggregate" | "AggregateExec" => {
            let partial = text.contains("functions=[partial_") || text.contains("mode=Partial");
            let how = if partial { "group what is here" } else { "put groups together" };
            with(how, columns(text, '[', ']'))
        }
        "BroadcastHashJoin" | "SortMergeJoin" | "ShuffledHashJoin" => {
            with("join", columns(text, '[', ']'))
        }
        "HashJoinExec" => "join".to_owned(),
        "Sort" => with("sort", columns(text, '[', ']')),
        "SortExec" => "sort".to_owned(),
        other => other.to_owned(),
    })
}

/// The first word of an operation, which is its name.
fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or(text)
}

/// The names in the first list between `open` and `close`, without the numbers that engines add: none
/// where an engine has numbers alone.
fn columns(text: &str, open: char, close: char) -> String {
    let list = text.split_once(open).and_then(|(_, rest)| rest.split_once(close));
    let names = list.into_iter().flat_map(|(list, _)| list.split(", ")).map(|item| {
        let end = item.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        &item[..end.unwrap_or(item.len())]
    });
    let names = names.filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()));
    names.collect::<Vec<_>>().join(", ")
}

/// The table that a scan reads, by its files or by a column that only it has.
fn table<'a>(text: &str, tables: &[(&'a str, &str)]) -> &'a str {
    let read = tables.iter().find(|(name, column)| text.contains(name) || text.contains(column));
    read.map_or("files", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchanges(plan: &str) -> usize {
        plan.lines().filter(|line| exchange(line.trim_start_matches(INDENTATION)).is_some()).count()
    }

    #[test]
    fn sails_plan_too() {
        let plan = "== Physical Plan ==\n\
            SortPreservingMergeExec: [#52@0 ASC]\n  \
              SortExec: expr=[#50@0 ASC]\n    \
                AggregateExec: mode=FinalPartitioned, gby=[#50@0 as #50]\n      \
                  RepartitionExec: partitioning=Hash([#50@0], 2), input_partitions=2\n        \
                    AggregateExec: mode=Partial, gby=[#50@2 as #50]\n          \
                      HashJoinExec: mode=CollectLeft, on=[(#43@0, #40@0)]\n            \
                        DataSourceExec: file_groups={1 group: [[data/shops.parquet]]}\n            \
                        MadeUpExec: x\n              \
                          DataSourceExec: file_groups={1 group: [[data/orders/part-0]]}\n";
        let graph = stage_graph(plan, "t", &[("orders", "total"), ("shops", "town")]);
        assert_eq!(graph.nodes.len(), exchanges(plan) + 1);
        assert_eq!(
            graph.nodes[0].details,
            [
                "scan orders",
                "MadeUpExec",
                "scan shops",
                "join",
                "group what is here",
                "⇄ to the worker of their group"
            ]
        );
        assert_eq!(graph.nodes[1].details, ["put groups together", "sort", "⇄ all to one"]);
        assert_eq!((graph.nodes[2].details.len(), graph.nodes[2].inputs.as_slice()), (0, &[1][..]));
    }

    #[test]
    fn no_plan_is_no_stage() {
        assert!(stage_graph("", "t", &[]).nodes.is_empty());
    }
}
