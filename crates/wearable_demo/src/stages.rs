//! A cluster's plan as stages: what a worker does by itself, and what is exchanged between workers.
//!
//! Engines write a plan as a tree, a line to an operation, indented below what takes its rows. Between
//! two exchanges is a stage. This module reads what Spark 4.3 and Sail 0.7 write of the walkthrough's
//! query; an operation that it does not know keeps the engine's name for it.

use crate::graph::{Graph, Node};

/// Spark's plan of [`query::SUMMARY_SQL`](crate::query::SUMMARY_SQL) for the small dataset, without the
/// numbers that it gives columns. `./justw cluster test` compares it with what Spark says.
pub const RECORDED_PLAN: &str = include_str!("../../beyond_one_machine/src/summary.plan.txt");

/// What the engines write before an operation's name.
const INDENTATION: [char; 5] = [' ', '+', '-', ':', '|'];

/// The stages of `plan`: a node for each, with its operations from the first to the last and then where
/// its rows go; its inputs are the stages whose rows it takes.
pub fn stage_graph(plan: &str, title: &str) -> Graph {
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
        stage(&tree, &[0], None, &mut graph.nodes);
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
fn stage(tree: &[Operation], ends: &[usize], sent: Option<String>, nodes: &mut Vec<Node>) -> usize {
    let (mut details, mut inputs) = (Vec::new(), Vec::new());
    let mut todo = ends.to_vec();
    while let Some(at) = todo.pop() {
        let operation = &tree[at];
        if let Some(sent) = exchange(operation.text) {
            inputs.push(stage(tree, &operation.inputs, Some(sent), nodes));
        } else {
            details.extend(name(operation.text));
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
fn name(text: &str) -> Option<String> {
    let with = |name: &str, columns: String| match columns.is_empty() {
        true => name.to_owned(),
        false => format!("{name} by {columns}"),
    };
    Some(match word(text) {
        "Project" | "ProjectionExec" => return None,
        "FileScan" | "DataSourceExec" => format!("scan {}", table(text)),
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

/// Which of the three tables a scan reads, by its files or by a column that only it has.
fn table(text: &str) -> &'static str {
    let tables = [
        ("sensor_hrv", "device_id"),
        ("sleep_diary", "sleep_efficiency"),
        ("user_profile", "occupation"),
    ];
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
    fn sparks_plan_has_a_stage_before_each_exchange_and_one_at_the_end() {
        let graph = stage_graph(RECORDED_PLAN, "t");
        assert_eq!(graph.nodes.len(), exchanges(RECORDED_PLAN) + 1);
        assert_eq!(graph.nodes.iter().map(|node| node.inputs.len()).sum::<usize>(), 5);
        let at = |stage: usize| graph.nodes[stage].details.join("; ");
        assert_eq!(at(0), "scan sleep_diary; filter; ⇄ all rows to all workers");
        assert_eq!(
            at(1),
            "scan sensor_hrv; filter; group what is here by user_id, date; \
             ⇄ to the worker of user_id, date"
        );
        assert_eq!(at(2), "scan user_profile; filter; ⇄ all rows to all workers");
        assert_eq!(graph.nodes[3].inputs, [0, 1, 2]);
        assert!(at(3).starts_with("put groups together by user_id, date; join by user_id, date"));
        assert_eq!(at(5), "sort by occupation, gender");
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
                        DataSourceExec: file_groups={1 group: [[data/user_profile.parquet]]}\n            \
                        MadeUpExec: x\n              \
                          DataSourceExec: file_groups={1 group: [[data/sensor_hrv/part-0]]}\n";
        let graph = stage_graph(plan, "t");
        assert_eq!(graph.nodes.len(), exchanges(plan) + 1);
        assert_eq!(
            graph.nodes[0].details,
            [
                "scan sensor_hrv",
                "MadeUpExec",
                "scan user_profile",
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
        assert!(stage_graph("", "t").nodes.is_empty());
    }
}
