//! The optimised plan of a query, as text and as facts that a cell can check.
//!
//! polars prints an optimised plan as indented text: one line per node, and its details below. The
//! few facts that notebooks check are parsed from this text. [`plan_graph`](crate::plan_graph)
//! parses plans as graphs.

use std::fmt;

use dataset_writer::short_path;
use polars::prelude::*;

use crate::error::{QueryError, Result};

/// A plan as text. Files appear with their last two path components, so the text is the same on
/// every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    text: String,
}

/// A scan in a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The scanned files, such as `data/orders.parquet`.
    pub source: String,
    /// Number of columns that the scan reads.
    pub columns_read: usize,
    /// Number of columns in the file.
    pub columns: usize,
    /// The filter that the scan applies while reading, if any.
    pub predicate: Option<String>,
}

/// Returns the optimised plan of `query`. Does not run the query.
///
/// # Errors
///
/// [`Error::Polars`](crate::Error::Polars) if the query has no valid plan, for example because a column does not exist.
pub fn explain(query: &LazyFrame) -> Result<Plan> {
    let text = query.explain(true).map_err(QueryError::at("plan the query"))?;
    Ok(Plan::new(text))
}

/// Returns the optimised plan of several queries that polars runs together. Runs none of them.
///
/// # Errors
///
/// As [`explain`].
pub fn explain_all(queries: &[&LazyFrame]) -> Result<Plan> {
    let plans = queries.iter().map(|query| query.logical_plan.clone()).collect();
    let text = LazyFrame::explain_all(plans, OptFlags::default());
    Ok(Plan::new(text.map_err(QueryError::at("plan the queries"))?))
}

impl Plan {
    /// Parses a plan that polars printed.
    pub fn new(text: impl AsRef<str>) -> Plan {
        let lines: Vec<String> = text.as_ref().lines().map(shorten_sources).collect();
        Plan { text: lines.join("\n") }
    }

    /// The scans, in the order of the plan.
    pub fn scans(&self) -> Vec<Scan> {
        let mut scans: Vec<Scan> = Vec::new();
        for line in self.text.lines().map(str::trim) {
            if let Some((_, source)) = line.split_once(" SCAN [") {
                let source = source.trim_end_matches(']').to_owned();
                scans.push(Scan { source, columns_read: 0, columns: 0, predicate: None });
            } else if let Some(scan) = scans.last_mut() {
                if let Some(columns) = projection(line) {
                    (scan.columns_read, scan.columns) = columns;
                } else if let Some(predicate) = line.strip_prefix("SELECTION: ") {
                    scan.predicate = Some(predicate.to_owned());
                }
            }
        }
        scans
    }

    /// The number of nodes whose line starts with `name`: `FILTER`, `AGGREGATE`, `INNER JOIN`, `SORT BY`, …
    pub fn count(&self, name: &str) -> usize {
        self.text.lines().filter(|line| line.trim_start().starts_with(name)).count()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Parses `PROJECT 3/9 COLUMNS` to (3, 9), and `PROJECT */9 COLUMNS` to (9, 9).
fn projection(line: &str) -> Option<(usize, usize)> {
    let (read, all) = line.strip_prefix("PROJECT ")?.strip_suffix(" COLUMNS")?.split_once('/')?;
    let all = all.parse().ok()?;
    Some((if read == "*" { all } else { read.parse().ok()? }, all))
}

/// Shortens absolute paths in a scan's line to their last two components.
pub(crate) fn shorten_sources(line: &str) -> String {
    let Some((head, sources)) = line.split_once(" SCAN [") else { return line.to_owned() };
    let (sources, tail) = sources.rsplit_once(']').unwrap_or((sources, ""));
    // A path may contain a comma, but then no other path starts after it.
    let separators = if sources.starts_with('/') { [", /", ", ..."] } else { [", ", ", ..."] };
    let mut shortened: Vec<String> = Vec::new();
    let mut rest = sources;
    while !rest.is_empty() {
        let end = separators.iter().filter_map(|separator| rest.find(separator)).min();
        let source = &rest[..end.unwrap_or(rest.len())];
        shortened.push(if source.starts_with("...") {
            source.to_owned()
        } else {
            short_path(source.as_ref())
        });
        rest = end.map_or("", |end| &rest[end + 2..]);
    }
    format!("{head} SCAN [{}]{tail}", shortened.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "INNER JOIN:
LEFT PLAN ON: [col(\"shop\")]
  Parquet SCAN [/home/a/data/orders.parquet]
  PROJECT */9 COLUMNS
RIGHT PLAN ON: [col(\"shop\")]
  Parquet SCAN [/home/a/data/events/part-00000.parquet, ... 4 other sources]
  PROJECT 4/14 COLUMNS
  SELECTION: col(\"amount\") <= 0.35
END INNER JOIN";

    #[test]
    fn scans_are_parsed_from_the_text() {
        let plan = Plan::new(TEXT);
        let [orders, events] = plan.scans().try_into().unwrap();
        assert_eq!((orders.columns_read, orders.columns, orders.predicate), (9, 9, None));
        assert_eq!(orders.source, "data/orders.parquet");
        assert_eq!((events.columns_read, events.columns), (4, 14));
        assert_eq!(events.source, "events/part-00000.parquet, ... 4 other sources");
        assert_eq!(events.predicate.as_deref(), Some("col(\"amount\") <= 0.35"));
        assert_eq!((plan.count("INNER JOIN"), plan.count("FILTER")), (1, 0));
    }

    #[test]
    fn paths_with_commas_brackets_and_partitions_are_shortened() {
        for (line, shortened) in [
            ("Parquet SCAN [/a, b/c, d/e.parquet]", "Parquet SCAN [c, d/e.parquet]"),
            ("Parquet SCAN [/a/[b]/c].parquet]", "Parquet SCAN [[b]/c].parquet]"),
            (
                "Parquet SCAN [/a/b/1.parquet, /a/b/2.parquet]",
                "Parquet SCAN [b/1.parquet, b/2.parquet]",
            ),
            (
                "Parquet SCAN [/d/day=2026-03-01/0.parquet, ... 4 other sources]",
                "Parquet SCAN [day=2026-03-01/0.parquet, ... 4 other sources]",
            ),
            ("Csv SCAN [x/y/z.csv]", "Csv SCAN [y/z.csv]"),
            ("Parquet SCAN []", "Parquet SCAN []"),
            ("Parquet SCAN [12 in-mem bytes]", "Parquet SCAN [12 in-mem bytes]"),
        ] {
            assert_eq!(shorten_sources(line), shortened);
        }
    }
}
