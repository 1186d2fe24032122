//! Conditions that a query must meet, besides its result.

use std::path::PathBuf;

use polars::prelude::*;
use polars_plan::dsl::{SinkTarget, SinkTypeIR};
use polars_plan::plans::{ArenaLpIter, IR};
use polars_profile::parquet::without_panic;
use polars_profile::{LimitedRun, explain, measure_interleaved, profile_with_memory_limit};

use super::{Fault, not_checked, wrong};

/// A condition on an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// `answer is SQL`: the answer is the text of an SQL query.
    Sql,
    /// `filters in the scan`: the optimised plan filters only in its scans.
    FiltersInScan,
    /// `no full sort`: each sort of the optimised plan keeps only its first rows.
    NoFullSort,
    /// `joins are validated`: each join checks that the keys of a side are unique.
    ValidatedJoins,
    /// `ends in a sink NAME`: the query writes a Parquet file of this name in the folder of outputs.
    Sink(String),
    /// `fits in N MB`: the streaming engine allocates at most so many MB (1,000,000 bytes).
    FitsIn(u64),
    /// `at most R of the given time`: the query takes at most this share of the given query's time.
    ShareOfTime(f64),
}

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    ///
    /// The reason, for a text that is not a condition.
    pub fn parse(text: &str) -> Result<Condition, String> {
        let between = |start: &str, end: &str| text.strip_prefix(start)?.strip_suffix(end);
        let parsed = match text {
            "answer is SQL" => Some(Condition::Sql),
            "filters in the scan" => Some(Condition::FiltersInScan),
            "no full sort" => Some(Condition::NoFullSort),
            "joins are validated" => Some(Condition::ValidatedJoins),
            _ => None,
        };
        let sink = || between("ends in a sink ", "").map(|name| Condition::Sink(name.to_owned()));
        let memory = || Some(Condition::FitsIn(between("fits in ", " MB")?.parse().ok()?));
        let time = || {
            let share = between("at most ", " of the given time")?.parse().ok()?;
            Some(Condition::ShareOfTime(share))
        };
        parsed
            .or_else(sink)
            .or_else(memory)
            .or_else(time)
            .ok_or_else(|| format!("`{text}` is not a condition"))
    }

    /// Checks a query whose result is right. `given` is the query that the notebook gives.
    pub(super) fn check(&self, query: &LazyFrame, given: Option<&LazyFrame>) -> Result<(), Fault> {
        match self {
            // Checked before the query runs.
            Condition::Sql | Condition::Sink(_) => Ok(()),
            Condition::FiltersInScan => {
                if !has_node(query, |node| matches!(node, IR::Filter { .. }))? {
                    return Ok(());
                }
                let plan = explain(query).map_err(not_checked)?.to_string();
                let line = plan.lines().map(str::trim).find(|line| line.starts_with("FILTER"));
                Err(wrong(format!(
                    "The rows are right, but a filter is not pushed down to the scan: `{}`.",
                    line.unwrap_or("FILTER")
                )))
            }
            Condition::NoFullSort => refuse(
                query,
                |node| matches!(node, IR::Sort { slice: None, .. }),
                "The rows are right, but the plan sorts all rows: its `SORT BY` has no limit.",
            ),
            Condition::ValidatedJoins => refuse(
                query,
                |node| {
                    matches!(node, IR::Join { options, .. }
                        if options.args.validation == JoinValidation::ManyToMany)
                },
                "The rows are right, but a join does not check that its keys are unique.",
            ),
            Condition::FitsIn(limit) => {
                match profile_with_memory_limit(query, Engine::Streaming, *limit) {
                    Ok(LimitedRun::Finished(_)) => Ok(()),
                    // The rows are right; this operating system cannot limit a process's memory.
                    Err(polars_profile::Error::NoMemoryLimit) => Ok(()),
                    Ok(LimitedRun::OutOfMemory { .. }) => Err(wrong(format!(
                        "The rows are right, but the query needs more than {limit} MB of memory."
                    ))),
                    Err(error) => Err(not_checked(error)),
                }
            }
            Condition::ShareOfTime(limit) => {
                let given = given.ok_or_else(|| not_checked("the given query is missing"))?;
                let mut share = f64::INFINITY;
                // A busy machine can slow one measurement down.
                for _ in 0..2 {
                    let measured = measure_interleaved([given, query], Engine::Streaming);
                    let [slow, fast] = measured.map_err(not_checked)?;
                    share = share.min(fast.range.0 / slow.range.0);
                    if share <= *limit {
                        return Ok(());
                    }
                }
                Err(wrong(format!(
                    "The rows are right, but the query is too slow: it takes {share:.2} times the given query's time, and at most {limit} is allowed."
                )))
            }
        }
    }
}

/// Whether the optimised plan has such a node.
fn has_node(query: &LazyFrame, is_such: impl Fn(&IR) -> bool) -> Result<bool, Fault> {
    let plan = without_panic(|| query.clone().to_alp_optimized()).map_err(not_checked)?;
    Ok(plan.lp_arena.iter(plan.lp_top).any(|(_, node)| is_such(node)))
}

/// The fault `message` if the optimised plan has such a node.
fn refuse(query: &LazyFrame, is_such: impl Fn(&IR) -> bool, message: &str) -> Result<(), Fault> {
    match has_node(query, is_such)? {
        false => Ok(()),
        true => Err(wrong(message)),
    }
}

/// The file that a query writes, if it ends in a sink into one.
pub(super) fn sink_target(query: &LazyFrame) -> PolarsResult<Option<PathBuf>> {
    let plan = without_panic(|| query.clone().to_alp())?;
    Ok(match plan.root() {
        IR::Sink { payload: SinkTypeIR::File(options), .. } => match &options.target {
            SinkTarget::Path(path) => Some(PathBuf::from(path.as_str())),
            SinkTarget::Dyn(_) => None,
        },
        _ => None,
    })
}
