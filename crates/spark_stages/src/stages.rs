//! Divides a cluster's plan into stages, at the exchanges of rows between workers.
//!
//! Engines print a plan as a tree with one operation per line. An operation is indented below the one
//! that consumes its rows. This module reads the plans of Spark 4.3 and Sail 0.7. Operations without a
//! label here keep the engine's name.

use polars_profile::plan_graph::{Graph, Node};

/// The characters that the engines print before an operation's name.
const INDENTATION: [char; 5] = [' ', '+', '-', ':', '|'];

/// Returns the stages of `plan` as a graph with the title `title`; without nodes if the plan is empty.
///
/// Each node is a stage. Its details list the operations in execution order. The last line, `⇄ …`, is the
/// exchange that sends the rows on. The node's inputs are the stages whose rows it reads.
///
/// `tables` has pairs of a table's name and a column that only this table has. Both identify the table of
/// a scan, because the plan has its files or its columns, depending on the engine.
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

/// An operation of a plan, and the positions of its inputs.
struct Operation<'a> {
    text: &'a str,
    inputs: Vec<usize>,
}

/// Adds the stage whose last operations are at `ends`, after its input stages, and returns its position.
/// `exchange_after` is the exchange that receives its rows.
fn stage(
    tree: &[Operation],
    tables: &[(&str, &str)],
    ends: &[usize],
    exchange_after: Option<String>,
    nodes: &mut Vec<Node>,
) -> usize {
    let (mut details, mut inputs) = (Vec::new(), Vec::new());
    let mut todo = ends.to_vec();
    while let Some(at) = todo.pop() {
        let operation = &tree[at];
        if let Some(exchange) = exchange(operation.text) {
            inputs.push(stage(tree, tables, &operation.inputs, Some(exchange), nodes));
        } else {
            details.extend(name(operation.text, tables));
            todo.extend(operation.inputs.iter().rev());
        }
    }
    details.reverse();
    details.extend(exchange_after.map(|exchange| format!("⇄ {exchange}")));
    let name = format!("stage {}", nodes.len() + 1);
    nodes.push(Node { id: name.clone(), name, details, execution: None, inputs, rows_out: None });
    nodes.len() - 1
}

/// The label of an exchange; `None` for other operations.
fn exchange(text: &str) -> Option<String> {
    let by = |kind: &str| format!("{kind} by {}", columns(text, '(', ')'));
    match operator(text) {
        "BroadcastExchange" => Some("broadcast to all workers".to_owned()),
        "Exchange" if text.contains("hashpartitioning") => Some(by("hash partition")),
        "Exchange" if text.contains("rangepartitioning") => Some(by("range partition")),
        "RepartitionExec" if text.contains("Hash(") => Some("hash partition by group".to_owned()),
        "Exchange" | "RepartitionExec" => Some("redistribute".to_owned()),
        "SortPreservingMergeExec" | "CoalescePartitionsExec" => {
            Some("collect on one worker".to_owned())
        }
        _ => None,
    }
}

/// The label of an operation; `None` for a projection, which only selects and computes columns.
fn name(text: &str, tables: &[(&str, &str)]) -> Option<String> {
    let with = |name: &str, columns: String| match columns.is_empty() {
        true => name.to_owned(),
        false => format!("{name} by {columns}"),
    };
    Some(match operator(text) {
        "Project" | "ProjectionExec" => return None,
        "FileScan" | "DataSourceExec" => format!("scan {}", table(text, tables)),
        "Filter" | "FilterExec" => "filter".to_owned(),
        "HashAggregate" | "AggregateExec" => {
            let partial = text.contains("functions=[partial_") || text.contains("mode=Partial");
            let step = if partial { "partial aggregation" } else { "final aggregation" };
            with(step, columns(text, '[', ']'))
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

/// The name of an operation: the first word of its line.
fn operator(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or(text)
}

/// The column names in the first list between `open` and `close`, without the numbers that engines append.
/// Empty if the engine prints only numbers.
fn columns(text: &str, open: char, close: char) -> String {
    let list = text.split_once(open).and_then(|(_, rest)| rest.split_once(close));
    let names = list.into_iter().flat_map(|(list, _)| list.split(", ")).map(|item| {
        let end = item.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        &item[..end.unwrap_or(item.len())]
    });
    let names = names.filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()));
    names.collect::<Vec<_>>().join(", ")
}

/// The table that a scan reads, identified by its files or by its unique column.
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
    fn sail_plan_is_divided_at_its_exchanges() {
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
                "partial aggregation",
                "⇄ hash partition by group"
            ]
        );
        assert_eq!(
            graph.nodes[1].details,
            ["final aggregation", "sort", "⇄ collect on one worker"]
        );
        assert_eq!((graph.nodes[2].details.len(), graph.nodes[2].inputs.as_slice()), (0, &[1][..]));
    }

    #[test]
    fn spark_plan_is_divided_at_its_exchanges() {
        let plan = "== Physical Plan ==\n\
            AdaptiveSparkPlan isFinalPlan=false\n\
            +- Sort [town#1 ASC NULLS FIRST], true, 0\n   \
               +- Exchange rangepartitioning(town#1 ASC NULLS FIRST, 8), [plan_id=9]\n      \
                  +- HashAggregate(keys=[town#1], functions=[sum(total#2)])\n         \
                     +- Exchange hashpartitioning(town#1, 8), [plan_id=8]\n            \
                        +- HashAggregate(keys=[town#1], functions=[partial_sum(total#2)])\n               \
                           +- Project [total#2, town#1]\n                  \
                              +- BroadcastHashJoin [shop#3], [shop#4], Inner, BuildRight, false\n                     \
                                 :- FileScan parquet [shop#3,total#2] Batched: true\n                     \
                                 +- BroadcastExchange HashedRelationBroadcastMode(List(input[0]))\n                        \
                                    +- FileScan parquet [shop#4,town#1] Batched: true\n";
        let graph = stage_graph(plan, "t", &[("orders", "total"), ("shops", "town")]);
        assert_eq!(graph.nodes.len(), exchanges(plan) + 1);
        let details: Vec<String> = graph.nodes.iter().map(|node| node.details.join("; ")).collect();
        assert_eq!(
            details,
            [
                "scan shops; ⇄ broadcast to all workers",
                "scan orders; join by shop; partial aggregation by town; ⇄ hash partition by town",
                "final aggregation by town; ⇄ range partition by town",
                "sort by town",
            ]
        );
        assert_eq!(graph.nodes[1].inputs, [0]);
    }

    #[test]
    fn empty_plan_has_no_stage() {
        assert!(stage_graph("", "t", &[]).nodes.is_empty());
    }
}
