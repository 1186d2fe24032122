//! A chart of a frame by the names of its columns.
//!
//! A thin layer over plotly: what comes out is a [`plotly::Plot`], which a cell can change further.
//!
//! ```
//! use wearable_demo::prelude::*;
//!
//! # fn main() -> wearable_demo::Result<()> {
//! let frame = df!["age" => [20, 30], "efficiency" => [95.0, 94.0], "gender" => ["f", "m"]]?;
//! Chart::points(&frame, "age", "efficiency").colour("gender").title("By age").plot()?;
//! # Ok(())
//! # }
//! ```

use plotly::common::{Marker, Mode, Title};
use plotly::layout::{Axis, AxisType, Legend, Margin};
use plotly::{Bar, Layout, Plot, Scatter};
use polars::prelude::*;

use crate::error::{Error, Result};

/// Colours that stay apart for colour-blind readers (Okabe and Ito).
const COLOURS: [&str; 7] =
    ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999"];

/// A chart that is being described; [`plot`](Chart::plot) draws it.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    frame: &'a DataFrame,
    kind: Kind,
    x: &'a str,
    y: &'a str,
    colour: Option<&'a str>,
    tooltips: Vec<&'a str>,
    titles: [String; 3],
    logarithmic: bool,
    size: (usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Points,
    Lines,
    Bars,
}

impl<'a> Chart<'a> {
    /// A point for each row, at the numbers in columns `x` and `y`.
    pub fn points(frame: &'a DataFrame, x: &'a str, y: &'a str) -> Chart<'a> {
        Chart::new(frame, Kind::Points, x, y)
    }

    /// A line through the rows, in their order.
    pub fn lines(frame: &'a DataFrame, x: &'a str, y: &'a str) -> Chart<'a> {
        Chart::new(frame, Kind::Lines, x, y)
    }

    /// A bar for each row: what stands below it in column `x`, its length in column `y`.
    pub fn bars(frame: &'a DataFrame, x: &'a str, y: &'a str) -> Chart<'a> {
        Chart::new(frame, Kind::Bars, x, y)
    }

    fn new(frame: &'a DataFrame, kind: Kind, x: &'a str, y: &'a str) -> Chart<'a> {
        let titles = [String::new(), x.to_owned(), y.to_owned()];
        let (colour, tooltips) = (None, Vec::new());
        Chart { frame, kind, x, y, colour, tooltips, titles, logarithmic: false, size: (850, 470) }
    }

    /// A colour, and an entry of the legend, for each value of `column`.
    pub fn colour(self, column: &'a str) -> Chart<'a> {
        Chart { colour: Some(column), ..self }
    }

    /// Columns whose values show beside a mark.
    pub fn tooltips<const N: usize>(self, columns: [&'a str; N]) -> Chart<'a> {
        Chart { tooltips: columns.to_vec(), ..self }
    }

    /// What stands above the chart.
    pub fn title(mut self, title: impl Into<String>) -> Chart<'a> {
        self.titles[0] = title.into();
        self
    }

    /// What stands at the axes, in place of the columns' names.
    pub fn axes(mut self, x: impl Into<String>, y: impl Into<String>) -> Chart<'a> {
        (self.titles[1], self.titles[2]) = (x.into(), y.into());
        self
    }

    /// Both axes logarithmic.
    pub fn log_log(self) -> Chart<'a> {
        Chart { logarithmic: true, ..self }
    }

    /// Width and height in pixels; 850 and 470 unless said.
    pub fn size(self, width: usize, height: usize) -> Chart<'a> {
        Chart { size: (width, height), ..self }
    }

    /// Draws the chart.
    ///
    /// # Errors
    ///
    /// [`Error::Polars`] for a column that the frame does not have, or that is not of numbers where
    /// numbers are wanted.
    pub fn plot(&self) -> Result<Plot> {
        let mut plot = Plot::new();
        for (at, (name, rows)) in self.groups()?.into_iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let y = numbers(&rows, self.y)?;
            let texts = self.texts(&rows)?;
            match self.kind {
                Kind::Bars => plot.add_trace(
                    Bar::new(words(&rows, self.x)?, y)
                        .name(name)
                        .marker(Marker::new().color(colour))
                        .hover_text_array(texts),
                ),
                kind => plot.add_trace(
                    Scatter::new(numbers(&rows, self.x)?, y)
                        .name(name)
                        .mode(if kind == Kind::Points { Mode::Markers } else { Mode::LinesMarkers })
                        .marker(
                            Marker::new()
                                .size(6)
                                .opacity(if kind == Kind::Points { 0.3 } else { 1.0 })
                                .color(colour),
                        )
                        .text_array(texts)
                        .hover_template(self.template()),
                ),
            }
        }
        plot.set_layout(self.layout());
        Ok(plot)
    }

    /// The rows of each colour, in the order of the colours' names.
    fn groups(&self) -> Result<Vec<(String, DataFrame)>> {
        let Some(column) = self.colour else {
            return Ok(vec![(self.y.to_owned(), self.frame.clone())]);
        };
        let values = self::column(self.frame, column)?.cast(&DataType::String)?;
        let values = values.as_materialized_series().str()?;
        let names = values.unique()?.sort(false);
        let group = |name: Option<&str>| {
            let rows = values.equal_missing(&StringChunked::new("".into(), [name]));
            Ok((name.unwrap_or("unknown").to_owned(), self.frame.filter(&rows)?))
        };
        names.iter().map(group).collect()
    }

    /// What shows beside each mark.
    fn texts(&self, rows: &DataFrame) -> Result<Vec<String>> {
        let columns: Vec<Vec<String>> =
            self.tooltips.iter().map(|column| words(rows, column)).collect::<Result<_>>()?;
        let text = |row: usize| {
            columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join(", ")
        };
        Ok((0..rows.height()).map(text).collect())
    }

    fn template(&self) -> String {
        let text = if self.tooltips.is_empty() { "" } else { "%{text}<br>" };
        format!("{text}{}: %{{x}}<br>{}: %{{y:.4~g}}<extra></extra>", self.x, self.y)
    }

    fn layout(&self) -> Layout {
        let [title, x, y] = &self.titles;
        let axis = |title: &str| {
            let axis = Axis::new().title(Title::with_text(title));
            if self.logarithmic { axis.type_(AxisType::Log) } else { axis }
        };
        let layout = Layout::new()
            .title(Title::with_text(title).x(0.08))
            .x_axis(axis(x))
            .y_axis(axis(y))
            .show_legend(self.colour.is_some())
            .margin(Margin::new().left(80).right(30).top(60).bottom(60))
            .width(self.size.0)
            .height(self.size.1);
        match self.colour {
            Some(column) => layout.legend(Legend::new().title(Title::with_text(column))),
            None => layout,
        }
    }
}

fn column<'f>(rows: &'f DataFrame, name: &str) -> Result<&'f Column> {
    let names: Vec<&str> = rows.schema().iter_names().map(|name| name.as_str()).collect();
    let there = names.join(", ");
    rows.column(name).map_err(Error::polars(format!("draw column {name}; there are {there}")))
}

fn numbers(rows: &DataFrame, name: &str) -> Result<Vec<Option<f64>>> {
    let action = || format!("draw column {name} as numbers");
    let numbers =
        column(rows, name)?.strict_cast(&DataType::Float64).map_err(Error::polars(action()))?;
    Ok(numbers.f64().map_err(Error::polars(action()))?.to_vec())
}

fn words(rows: &DataFrame, name: &str) -> Result<Vec<String>> {
    let words = column(rows, name)?.cast(&DataType::String)?;
    Ok(words.str()?.iter().map(|word| word.unwrap_or("unknown").to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> DataFrame {
        df!["x" => [1, 2, 3], "y" => [Some(1.5), None, Some(2.5)], "g" => [Some("b"), Some("a"), None]]
            .unwrap()
    }

    fn json(plot: &Plot) -> String {
        plot.to_json()
    }

    #[test]
    fn a_colour_is_a_trace_with_its_name() {
        let frame = frame();
        let drawn =
            json(&Chart::points(&frame, "x", "y").colour("g").tooltips(["g"]).plot().unwrap());
        for part in ["\"name\":\"a\"", "\"name\":\"b\"", "\"name\":\"unknown\"", "\"y\":[null]"] {
            assert!(drawn.contains(part), "{part} in {drawn}");
        }
        assert_eq!(drawn.matches("\"type\":\"scatter\"").count(), 3);
        assert!(drawn.contains("%{text}<br>x: %{x}"));
    }

    #[test]
    fn bars_stand_on_words_and_lines_may_be_logarithmic() {
        let frame = frame();
        let bars = json(&Chart::bars(&frame, "g", "x").title("t").axes("a", "b").plot().unwrap());
        assert!(bars.contains("\"x\":[\"b\",\"a\",\"unknown\"]"), "{bars}");
        let lines = json(&Chart::lines(&frame, "x", "y").log_log().plot().unwrap());
        assert_eq!(lines.matches("\"type\":\"log\"").count(), 2, "{lines}");
    }

    #[test]
    fn a_column_that_is_not_there_is_named_with_those_that_are() {
        let frame = frame();
        let message = Chart::points(&frame, "x", "z").plot().err().unwrap().to_string();
        assert!(message.contains("column z") && message.contains("x, y, g"), "{message}");
        let message = Chart::points(&frame, "g", "x").plot().err().unwrap().to_string();
        assert!(message.contains("column g as numbers"), "{message}");
    }
}
