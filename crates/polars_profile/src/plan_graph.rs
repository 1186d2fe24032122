//! A plan as a graph: the operation of each node, how it runs, and its inputs.
//!
//! polars prints plans in the DOT language, but does not escape all column names. A quote or a line
//! break in a name makes the text invalid DOT, which every parser rejects. So this module parses the
//! form that polars writes: each node and each arrow begins on a new line. A node's text ends at a
//! line that ends with a closing bracket, if the next line begins a node or an arrow.

use std::collections::HashMap;
use std::fmt;

use polars::prelude::LazyFrame;

use crate::error::{QueryError, Result};
use crate::explain::shorten_sources;
use crate::text::thousands;

/// A plan's nodes. Inputs come before the nodes that use them.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// A title, such as `physical plan, streaming engine`.
    pub title: String,
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// A node of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its operation, such as `sort`, `equi-join` or `FILTER`.
    pub name: String,
    /// Its columns, keys and conditions, one per line.
    pub details: Vec<String>,
    /// How the streaming engine runs it. None in a logical plan.
    pub execution: Option<Execution>,
    /// Positions of its input nodes.
    pub inputs: Vec<usize>,
    /// Rows that it passed to the next node. None unless the query was profiled.
    pub rows_out: Option<u64>,
    /// The node's name in polars' DOT text.
    pub id: String,
}

/// How the streaming engine runs a node, in the order of memory use.
///
/// polars states this only by the node's colour, which a test compares with polars' legend. It is not a
/// measurement: polars 0.55.2 colours a sort as memory-intensive, but does not state how much memory it
/// needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Execution {
    /// Batch by batch.
    Streaming,
    /// A node that polars marks as potentially memory-intensive: it may keep all of its input in
    /// memory. A sort always does.
    MemoryIntensive,
    /// By the in-memory engine, after all input of the node has been collected.
    InMemoryFallback,
}

/// Returns the optimised plan of `query` as a graph. Does not run the query.
///
/// # Errors
///
/// As [`explain`](crate::explain()).
pub fn logical_graph(query: &LazyFrame) -> Result<Graph> {
    let dot = query.to_dot(true).map_err(QueryError::at("plan the query"))?;
    Ok(Graph::parse(&dot, "logical plan, optimised", false))
}

/// Returns the physical plan of `query` for the streaming engine, without the final collection.
/// Does not run the query.
///
/// # Errors
///
/// As [`explain`](crate::explain()).
pub fn physical_graph(query: &LazyFrame) -> Result<Graph> {
    let dot = query.to_dot_streaming_phys(true).map_err(QueryError::at("plan the query"))?;
    Ok(Graph::parse(&dot, "physical plan, streaming engine", true))
}

impl Execution {
    /// The execution that a node's colour stands for in the legend of polars' graph.
    pub(crate) fn of_color(attributes: &str) -> Execution {
        if attributes.contains("fillcolor=\"0.0 0.3 1.0\"") {
            Execution::InMemoryFallback
        } else if attributes.contains("fillcolor=\"0.16 0.3 1.0\"") {
            Execution::MemoryIntensive
        } else {
            Execution::Streaming
        }
    }
}

impl fmt::Display for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Execution::Streaming => "streaming",
            Execution::MemoryIntensive => "memory-intensive",
            Execution::InMemoryFallback => "fallback, in memory",
        })
    }
}

impl Graph {
    /// Parses polars' `dot`. If `physical`, colours show how nodes run.
    pub(crate) fn parse(dot: &str, title: &str, physical: bool) -> Graph {
        let mut nodes: Vec<Node> = Vec::new();
        let mut arrows: Vec<(String, String)> = Vec::new();
        let dot = with_short_names(dot);
        let mut rest = dot.as_str();
        while !rest.is_empty() {
            let text = rest;
            let (line, after) = text.split_once('\n').unwrap_or((text, ""));
            rest = after;
            if let Some((from, to)) = arrow(line) {
                arrows.push((from.to_owned(), to.to_owned()));
            } else if let Some((id, label)) = start_of_node(line) {
                let Some((label, attributes, after)) = label_of_node(&text[label..]) else {
                    continue;
                };
                rest = after;
                nodes.push(node(id, label, attributes, physical));
            }
        }
        let mut graph = Graph { title: title.to_owned(), nodes };
        graph.connect(&arrows);
        graph
    }

    /// Sets each node's inputs, and sorts the nodes so that inputs come first.
    fn connect(&mut self, arrows: &[(String, String)]) {
        fn inputs_of<'a>(
            arrows: &'a [(String, String)],
            id: &'a str,
        ) -> impl Iterator<Item = &'a String> {
            arrows.iter().filter(move |(_, to)| to == id).map(|(from, _)| from)
        }
        let mut order: Vec<String> = Vec::new();
        // Place each node once all of its inputs are placed. polars' plans have no cycles.
        while order.len() < self.nodes.len() {
            let placed = order.len();
            for node in &self.nodes {
                let ready = inputs_of(arrows, &node.id).all(|from| order.contains(from));
                if ready && !order.contains(&node.id) {
                    order.push(node.id.clone());
                }
            }
            if order.len() == placed {
                break;
            }
        }
        let position: HashMap<&str, usize> =
            order.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
        self.nodes.retain(|node| position.contains_key(node.id.as_str()));
        self.nodes.sort_by_key(|node| position[node.id.as_str()]);
        for node in &mut self.nodes {
            let inputs = inputs_of(arrows, &node.id).filter_map(|from| position.get(from.as_str()));
            node.inputs = inputs.copied().collect();
        }
    }

    /// The nodes with this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.name == name)
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.title)?;
        for (at, node) in self.nodes.iter().enumerate() {
            write!(f, "\n{at:>3}  {}", node.name)?;
            if let Some(execution) = node.execution {
                write!(f, " ({execution})")?;
            }
            if !node.inputs.is_empty() {
                let inputs: Vec<String> = node.inputs.iter().map(usize::to_string).collect();
                write!(f, " of {}", inputs.join(", "))?;
            }
            if let Some(rows) = node.rows_out {
                write!(f, ": {} rows", thousands(rows))?;
            }
        }
        Ok(())
    }
}

/// Renames polars' temporary columns to `tmp1`, `tmp2`, … in order of appearance, because polars
/// numbers them across queries.
fn with_short_names(dot: &str) -> String {
    const NAME: &str = "_POLARS_TMP_";
    let mut parts = dot.split(NAME);
    let mut renamed = parts.next().unwrap_or_default().to_owned();
    let mut numbers: Vec<&str> = Vec::new();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, after) = part.split_at(digits);
        let at = numbers.iter().position(|other| *other == number).unwrap_or_else(|| {
            numbers.push(number);
            numbers.len() - 1
        });
        renamed += &format!("tmp{}{after}", at + 1);
    }
    renamed
}

/// Splits a node's name, without its quotes, from the start of `text`.
fn id(text: &str) -> Option<(&str, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        return quoted.split_once('"').filter(|(id, _)| !id.is_empty());
    }
    let digits = text.strip_prefix('p').unwrap_or(text);
    let after = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    (after.len() < digits.len()).then(|| (&text[..text.len() - after.len()], after))
}

/// Parses an arrow, `1 -> 2;`, to the names of its two nodes.
fn arrow(line: &str) -> Option<(&str, &str)> {
    let (from, rest) = id(line.trim())?;
    let (to, rest) = id(rest.strip_prefix(" -> ")?)?;
    matches!(rest, "" | ";").then_some((from, to))
}

/// If a node begins on `line`, returns its name and the position of its label in the line.
fn start_of_node(line: &str) -> Option<(&str, usize)> {
    let (id, rest) = id(line.trim_start())?;
    let label = rest.trim_start().strip_prefix("[label=\"")?;
    Some((id, line.len() - label.len()))
}

/// Splits `text`, which begins with a label, into label, attributes and the following lines.
fn label_of_node(text: &str) -> Option<(&str, &str, &str)> {
    let mut first = None;
    let ends = text.match_indices('\n').map(|(at, _)| at).chain([text.len()]);
    for end in ends {
        let after = text.get(end + 1..).unwrap_or("");
        let Some((label, attributes)) = closed(&text[..end]) else { continue };
        let next = after.split('\n').next().unwrap_or("");
        if matches!(next.trim(), "" | "}") || arrow(next).is_some() || start_of_node(next).is_some()
        {
            return Some((label, attributes, after));
        }
        first = first.or(Some((label, attributes, after)));
    }
    first
}

/// The label and attributes of a node, if its text ends here.
fn closed(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_end();
    let text = text.strip_suffix(';').unwrap_or(text).strip_suffix(']')?;
    match text.rsplit_once("\",style=filled,fillcolor=\"") {
        Some((label, color)) if color.matches('"').count() == 1 && color.ends_with('"') => {
            Some((label, &text[label.len() + 2..]))
        }
        _ => Some((text.strip_suffix('"')?, "")),
    }
}

/// The text before the list of a data frame's columns, in which polars does not escape names.
const COLUMNS: &str = "in-memory-source\\ncols: ";

/// The lines of a label.
fn lines(label: &str) -> Vec<String> {
    if let Some(names) = label.strip_prefix(COLUMNS) {
        let names = names.replace('\n', "\\n");
        return vec!["in-memory-source".to_owned(), format!("cols: {names}")];
    }
    let mut lines = vec![String::new()];
    let mut characters = label.chars();
    while let Some(character) = characters.next() {
        let line = lines.last_mut().expect("there is always one");
        match character {
            '\n' => lines.push(String::new()),
            '\\' => match characters.next() {
                Some('n') => lines.push(String::new()),
                Some(escaped @ ('"' | '\\')) => line.push(escaped),
                // polars did not escape the backslash in a name.
                other => line.extend(['\\'].into_iter().chain(other)),
            },
            other => line.push(other),
        }
    }
    lines
}

/// Node names of a logical plan that polars prints on the same line as expressions.
const NAMES: [&str; 15] = [
    "AGG",
    "DISPATCH",
    "DISTINCT BY",
    "EXPLODE",
    "FAST COUNT",
    "FILTER BY",
    "GATHER",
    "MERGE_SORTED",
    "ROW INDEX",
    "SLICE",
    "SORT BY",
    "UNION",
    "UNNEST",
    "UNPIVOT",
    "WITH COLUMNS",
];

/// Splits the first line of a logical node's label into its name and the rest.
fn name_and_rest(line: &str) -> (&str, &str) {
    for name in NAMES {
        if let Some(rest) = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '['])) {
            return (name, rest.trim_start());
        }
    }
    match line.find(" [") {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, ""),
    }
}

/// Creates a node from its label and attributes.
fn node(id: &str, label: &str, attributes: &str, physical: bool) -> Node {
    let mut lines = lines(label);
    // polars pads names on the left to align columns.
    lines.iter_mut().for_each(|line| *line = line.trim().to_owned());
    let mut name = shorten_sources(&lines.remove(0));
    if !physical {
        let (short, rest) = name_and_rest(&name);
        lines.insert(0, rest.to_owned());
        name = short.to_owned();
    }
    Node {
        name,
        details: lines.into_iter().filter(|line| !line.is_empty()).collect(),
        execution: physical.then(|| Execution::of_color(attributes)),
        inputs: Vec::new(),
        rows_out: None,
        id: id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    use super::*;

    const PHYSICAL: &str = r#"digraph polars {
rankdir="BT"
node [fontname="Monospace"]
fontname="Helvetica"
label=<<B>Legend</B>>
4294967300 [label="sort\ncol(\"a\")",style=filled,fillcolor="0.16 0.3 1.0"];
4294967298 [label="in-memory-map\nSORT BY
[col(\"b\")]",style=filled,fillcolor="0.0 0.3 1.0"];
4294967297 [label="multi-scan[parquet]\n1 source\nfilter: (col(\"a\")) > (1)"];
4294967297 -> 4294967298;
4294967298 -> 4294967300;
}"#;

    #[test]
    fn physical_plan_is_parsed_with_inputs_first() {
        let graph = Graph::parse(PHYSICAL, "t", true);
        let [scan, map, sort] = graph.nodes.as_slice() else { panic!("{graph:?}") };
        assert_eq!((scan.name.as_str(), scan.inputs.as_slice()), ("multi-scan[parquet]", &[][..]));
        assert_eq!(scan.details, ["1 source", "filter: (col(\"a\")) > (1)"]);
        assert_eq!(scan.execution, Some(Execution::Streaming));
        assert_eq!(map.execution, Some(Execution::InMemoryFallback));
        assert_eq!((map.details.len(), map.inputs.as_slice()), (2, &[0][..]));
        assert_eq!(
            (sort.execution, sort.inputs.as_slice()),
            (Some(Execution::MemoryIntensive), &[1][..])
        );
    }

    #[test]
    fn temporary_columns_are_renamed_consistently() {
        let dot = "x _POLARS_TMP_240 = _POLARS_TMP_7, _POLARS_TMP_240";
        assert_eq!(with_short_names(dot), "x tmp1 = tmp2, tmp1");
        assert_eq!(with_short_names("no name"), "no name");
    }

    #[test]
    fn logical_plan_separates_names_from_conditions() {
        let dot = "graph  polars_query {\n  p2 -> p1\n  p2[label=\"Parquet SCAN [/a/b/c.parquet]\nπ 1/2;\"]\n  p1[label=\"FILTER BY [(col(\\\"x\\\")) > (1)]\"]\n}";
        let graph = Graph::parse(dot, "t", false);
        let [scan, filter] = graph.nodes.as_slice() else { panic!("{graph:?}") };
        assert_eq!(
            (scan.name.as_str(), scan.details[0].as_str()),
            ("Parquet SCAN", "[b/c.parquet]")
        );
        assert_eq!((filter.name.as_str(), filter.inputs.as_slice()), ("FILTER BY", &[0][..]));
        assert_eq!(filter.execution, None);
    }

    /// Names that are special in DOT, in HTML or in polars' own text.
    const NAMES: [&str; 14] = [
        "a\"b",
        "\"",
        "a\\",
        "a\\nb",
        "a\nb",
        "x\"];",
        "x\"];\n1 -> 2;",
        "[label=\"x\"]",
        "a -> b",
        "<b>&amp;",
        "",
        "日本 é",
        "a, b; c = d",
        "x SCAN [y]",
    ];

    /// The number of arrows, and the number of nodes without inputs.
    fn arrows(graph: &Graph) -> (usize, usize) {
        let all = graph.nodes.iter().map(|node| node.inputs.len());
        (all.clone().sum(), all.filter(|inputs| *inputs == 0).count())
    }

    #[test]
    fn any_column_name_keeps_the_arrows_of_the_graph() {
        for name in NAMES {
            let frame = df![name => [3, 1, 2], "k" => [1, 2, 1]].unwrap();
            let other = frame.clone().lazy().rename([name], ["renamed"], true);
            let query = frame
                .lazy()
                .with_row_index("row \"", None)
                .filter(col(name).gt(lit(1)))
                .group_by([col("k"), col(name)])
                .agg([len()])
                .join(other, [col("k")], [col("k")], JoinArgs::new(JoinType::Inner))
                .sort([name], SortMultipleOptions::default());
            for graph in [logical_graph(&query).unwrap(), physical_graph(&query).unwrap()] {
                let nodes = graph.nodes.len();
                // The plan is a tree with two sources, so each node except the last has one outgoing arrow.
                assert_eq!(arrows(&graph), (nodes - 1, 2), "{name:?}: {graph}\n{graph:?}");
                for node in &graph.nodes {
                    assert!(node.name.len() < 30, "{name:?}: {node:?}");
                }
                for source in graph.named("in-memory-source") {
                    let columns = &source.details[0];
                    let escaped = name.replace('\n', "\\n");
                    assert!(
                        columns.contains('k')
                            && (columns.contains(escaped.trim()) || columns.contains("renamed")),
                        "{name:?}: {columns}"
                    );
                }
                let filtered = graph.nodes.iter().find(|node| {
                    node.details.iter().any(|line| line.contains("> 1") || line.contains("> (1)"))
                });
                assert!(filtered.is_some(), "{name:?}: {graph:?}");
            }
        }
    }

    #[test]
    fn each_logical_node_has_a_short_name() {
        for (line, name, rest) in [
            (
                "FILTER BY col(\"x\").is_between([1, 2])",
                "FILTER BY",
                "col(\"x\").is_between([1, 2])",
            ),
            ("FILTER BY [(col(\"x\")) > (1)]", "FILTER BY", "[(col(\"x\")) > (1)]"),
            ("UNION[maintain_order: true]", "UNION", "[maintain_order: true]"),
            ("SLICE offset: 0; len: 5", "SLICE", "offset: 0; len: 5"),
            ("Parquet SCAN [a/b.parquet]", "Parquet SCAN", "[a/b.parquet]"),
            ("UNNEST by:[x]", "UNNEST", "by:[x]"),
            ("JOIN INNER", "JOIN INNER", ""),
            ("simple π 2/9", "simple π 2/9", ""),
        ] {
            assert_eq!(name_and_rest(line), (name, rest));
        }
    }

    /// Our reading of the colours depends on polars' legend, so a change of the legend must fail here.
    #[test]
    fn colors_match_the_legend_of_polars() {
        let query = df!["x" => [1i64]].unwrap().lazy();
        let dot = query.to_dot_streaming_phys(true).unwrap();
        for legend in [
            "COLOR=\"0.16 0.3 1.0\">⬤</FONT> potentially memory-intensive node",
            "COLOR=\"0.0 0.3 1.0\">⬤</FONT> in-memory engine fallback",
        ] {
            assert!(dot.contains(legend), "{dot}");
        }
    }
}
