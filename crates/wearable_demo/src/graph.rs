//! A plan as a graph: what each node does, how it runs, and which nodes it takes its rows from.
//!
//! polars writes its plans in the DOT language. This module reads what polars writes, not all of
//! DOT: a line for each node, with its label in quotes and its colour, and one for each arrow.

use std::collections::HashMap;
use std::fmt;

use crate::plan::{Execution, shorten_sources};
use crate::text::thousands;

/// A plan's nodes, inputs before what uses them.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// What the graph is of, such as `physical plan, streaming engine`.
    pub title: String,
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// A node of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it does, such as `sort`, `equi-join` or `FILTER`.
    pub name: String,
    /// Its columns, keys and conditions, a line each.
    pub details: Vec<String>,
    /// How the streaming engine runs it; None in a logical plan.
    pub execution: Option<Execution>,
    /// Positions of the nodes whose rows it takes.
    pub inputs: Vec<usize>,
    /// Rows that went from it to the next node, where the query was observed.
    pub rows_out: Option<u64>,
    /// How polars names the node.
    pub(crate) id: String,
}

impl Graph {
    /// The graph that polars has written as `dot`; `physical` where its colours say how nodes run.
    pub(crate) fn parse(dot: &str, title: &str, physical: bool) -> Graph {
        let mut nodes: Vec<Node> = Vec::new();
        let mut arrows: Vec<(String, String)> = Vec::new();
        let dot = with_short_names(dot);
        let mut rest = dot.as_str();
        while let Some((line, after)) = statement(rest) {
            rest = after;
            if let Some((id, attributes)) = line.split_once('[').filter(|(id, _)| is_id(id.trim()))
            {
                nodes.extend(node(id.trim(), attributes, physical));
            } else if let Some((from, to)) = line.split_once(" -> ") {
                arrows.push((id(from), id(to)));
            }
        }
        let mut graph = Graph { title: title.to_owned(), nodes };
        graph.connect(&arrows);
        graph
    }

    /// Sets each node's inputs, and puts inputs before what uses them.
    fn connect(&mut self, arrows: &[(String, String)]) {
        fn inputs_of<'a>(
            arrows: &'a [(String, String)],
            id: &'a str,
        ) -> impl Iterator<Item = &'a String> {
            arrows.iter().filter(move |(_, to)| to == id).map(|(from, _)| from)
        }
        let mut order: Vec<String> = Vec::new();
        // A node with all its inputs placed is placed next; what polars writes has no circles.
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

    /// The nodes called `name`.
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

/// `dot` with polars' passing columns called `tmp1`, `tmp2`, … in the order of the text; polars
/// counts them on from query to query.
fn with_short_names(dot: &str) -> String {
    const NAME: &str = "_POLARS_TMP_";
    let mut parts = dot.split(NAME);
    let mut made = parts.next().unwrap_or_default().to_owned();
    let mut seen: Vec<&str> = Vec::new();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, after) = part.split_at(digits);
        let at = seen.iter().position(|known| *known == number).unwrap_or_else(|| {
            seen.push(number);
            seen.len() - 1
        });
        made += &format!("tmp{}{after}", at + 1);
    }
    made
}

/// The next statement of `dot`, and what comes after it; a label may go over several lines.
fn statement(dot: &str) -> Option<(&str, &str)> {
    if dot.is_empty() {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in dot.char_indices() {
        match character {
            '"' if !escaped => quoted = !quoted,
            '\n' if !quoted => return Some((dot[..at].trim(), &dot[at + 1..])),
            _ => {}
        }
        escaped = character == '\\' && !escaped;
    }
    Some((dot.trim(), ""))
}

/// A node's name in DOT, without quotes and the statement's end.
fn id(text: &str) -> String {
    text.trim().trim_end_matches(';').trim_matches('"').to_owned()
}

fn is_id(text: &str) -> bool {
    let text = text.trim_matches('"');
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && text.contains(|c: char| c.is_ascii_digit())
}

/// A node by its attributes, `label="sort\n…",style=filled,fillcolor="0.16 0.3 1.0"];`.
fn node(dot_name: &str, attributes: &str, physical: bool) -> Option<Node> {
    let label = attributes.split_once("label=\"")?.1;
    let mut lines = vec![String::new()];
    let mut characters = label.chars();
    while let Some(character) = characters.next() {
        let line = lines.last_mut().expect("there is always one");
        match character {
            '"' => break,
            '\n' => lines.push(String::new()),
            '\\' => match characters.next()? {
                'n' | 'l' => lines.push(String::new()),
                other => line.push(other),
            },
            other => line.push(other),
        }
    }
    // polars pads names on the left, for a graph whose columns are aligned.
    lines.iter_mut().for_each(|line| *line = line.trim().to_owned());
    let first = shorten_sources(&lines.remove(0));
    let name = match first.split_once(" [") {
        Some((name, rest)) if !physical => {
            lines.insert(0, format!("[{rest}"));
            name.to_owned()
        }
        _ => first,
    };
    Some(Node {
        name,
        details: lines.into_iter().filter(|line| !line.is_empty()).collect(),
        execution: physical.then(|| Execution::of_colour(characters.as_str())),
        inputs: Vec::new(),
        rows_out: None,
        id: id(dot_name),
    })
}

#[cfg(test)]
mod tests {
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
    fn a_physical_plan_is_read_inputs_first() {
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
    fn passing_columns_have_short_names_and_the_same_everywhere() {
        let dot = "x _POLARS_TMP_240 = _POLARS_TMP_7, _POLARS_TMP_240";
        assert_eq!(with_short_names(dot), "x tmp1 = tmp2, tmp1");
        assert_eq!(with_short_names("no name"), "no name");
    }

    #[test]
    fn a_logical_plan_has_names_and_conditions_apart() {
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
}
