//! The first difference between an answer and the expected result, as a sentence.

use std::collections::HashMap;

use polars::prelude::*;

use crate::compare::{compatible_types, equal_across_engines};
use crate::display::counted;

/// The first difference, or None if the results are equal.
///
/// Columns may have any order. `key` has the columns that identify a row, and then rows may have any
/// order, too; without a key, rows are compared by position. Integers may have any width, and floats
/// may differ as in [`frames_close`](crate::frames_close).
pub(super) fn first_difference(
    answer: &DataFrame,
    expected: &DataFrame,
    key: &[String],
) -> Option<String> {
    column_difference(answer, expected).or_else(|| {
        row_difference(answer, expected, key).unwrap_or_else(|error| Some(error.to_string()))
    })
}

fn names(frame: &DataFrame) -> String {
    let names: Vec<String> =
        frame.get_column_names().iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn column_difference(answer: &DataFrame, expected: &DataFrame) -> Option<String> {
    let own = answer.schema();
    let missing = expected.get_column_names().into_iter().find(|name| !own.contains(name));
    if let Some(name) = missing {
        return Some(format!("The column `{name}` is missing. The result has {}.", names(answer)));
    }
    let schema = expected.schema();
    let extra = answer.get_column_names().into_iter().find(|name| !schema.contains(name));
    if let Some(name) = extra {
        return Some(format!(
            "The result has an extra column `{name}`. The expected columns are {}.",
            names(expected)
        ));
    }
    schema.iter().find_map(|(name, dtype)| {
        let found = own.get(name).filter(|found| !compatible_types(found, dtype))?;
        Some(format!("The column `{name}` has the type {found}, expected {dtype}."))
    })
}

/// The rows of a frame with their labels, such as `city = "Oslo"`.
struct Rows {
    labels: Vec<String>,
    columns: Vec<Series>,
}

impl Rows {
    fn new(frame: &DataFrame, columns: &DataFrame, key: &[String]) -> PolarsResult<Rows> {
        let frame = match key.is_empty() {
            true => frame.clone(),
            false => frame.sort(
                key.iter().map(String::as_str),
                SortMultipleOptions::default().with_maintain_order(true),
            )?,
        };
        let series = |name: &PlSmallStr| {
            PolarsResult::Ok(frame.column(name)?.as_materialized_series().rechunk())
        };
        let keys: Vec<Series> =
            key.iter().map(|name| series(&name.as_str().into())).collect::<PolarsResult<_>>()?;
        let label = |row: usize| match keys.is_empty() {
            true => PolarsResult::Ok(format!("row {}", row + 1)),
            false => {
                let parts = keys.iter().map(|key| {
                    let value = shown(&key.get(row)?);
                    PolarsResult::Ok(format!("{} = {value}", key.name()))
                });
                Ok(parts.collect::<PolarsResult<Vec<_>>>()?.join(", "))
            }
        };
        let labels = (0..frame.height()).map(label).collect::<PolarsResult<_>>()?;
        let columns = columns.get_column_names().into_iter().map(series);
        Ok(Rows { labels, columns: columns.collect::<PolarsResult<_>>()? })
    }

    /// Each label with the position of its first row, and the number of its rows.
    fn positions(&self) -> HashMap<&str, (usize, usize)> {
        let mut positions = HashMap::new();
        for (row, label) in self.labels.iter().enumerate() {
            positions.entry(label.as_str()).or_insert((row, 0)).1 += 1;
        }
        positions
    }
}

fn row_difference(
    answer: &DataFrame,
    expected: &DataFrame,
    key: &[String],
) -> PolarsResult<Option<String>> {
    let ours = Rows::new(answer, expected, key)?;
    let theirs = Rows::new(expected, expected, key)?;
    let (found, wanted) = (ours.positions(), theirs.positions());
    let counts = match answer.height() == expected.height() {
        true => String::new(),
        false => {
            format!(
                "The result has {}, expected {}. ",
                counted(answer.height(), "row"),
                expected.height()
            )
        }
    };
    let missing = theirs.labels.iter().find(|label| !found.contains_key(label.as_str()));
    let extra = ours.labels.iter().find(|label| !wanted.contains_key(label.as_str()));
    let several = ours.labels.iter().find(|label| {
        let label = label.as_str();
        wanted.get(label).is_some_and(|(_, times)| found[label].1 != *times)
    });
    // Without a key, the numbers of the rows would repeat the counts.
    let example = match (key.is_empty(), several, missing, extra) {
        (true, ..) => None,
        (_, Some(label), ..) => Some(format!(
            "{} for {label}, expected {}.",
            counted(found[label.as_str()].1, "row"),
            wanted[label.as_str()].1
        )),
        (_, _, Some(label), _) => Some(format!("No row for {label}.")),
        (_, _, _, Some(label)) => Some(format!("An unexpected row for {label}.")),
        _ => None,
    };
    if let Some(example) = example {
        return Ok(Some(format!("{counts}First difference: {example}")));
    }
    if !counts.is_empty() {
        return Ok(Some(counts.trim_end().to_owned()));
    }
    for (row, label) in theirs.labels.iter().enumerate() {
        for (own, expected) in ours.columns.iter().zip(&theirs.columns) {
            let (a, b) = (own.get(row)?, expected.get(row)?);
            if !equal_across_engines(&a, &b) {
                let (mut a_shown, mut b_shown) = (shown(&a), shown(&b));
                if a_shown == b_shown {
                    (a_shown, b_shown) = (format!("{a:?}"), format!("{b:?}"));
                }
                return Ok(Some(format!(
                    "First difference: {label}: `{}` is {a_shown}, expected {b_shown}.",
                    own.name()
                )));
            }
        }
    }
    Ok(None)
}

/// A value in a message, with six digits.
fn shown(value: &AnyValue) -> String {
    match value.extract::<f64>() {
        Some(float) if value.is_float() && float.is_finite() => {
            let digits = (5 - float.abs().max(1e-300).log10().floor() as i32).clamp(0, 12);
            let text = format!("{float:.*}", digits as usize);
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
        _ => value.to_string(),
    }
}
