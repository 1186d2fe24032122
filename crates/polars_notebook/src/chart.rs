//! Charts of a frame, described by column names.
//!
//! A thin layer over plotly: [`Chart::plot`] returns a [`plotly::Plot`], which a cell can change
//! further.
//!
//! ```
//! use polars::prelude::*;
//! use polars_notebook::Chart;
//!
//! # fn main() -> polars_notebook::Result<()> {
//! let frame = df!["age" => [20, 30], "efficiency" => [95.0, 94.0], "gender" => ["f", "m"]]?;
//! Chart::scatter(&frame, "age", "efficiency").color("gender").title("By age").plot()?;
//! # Ok(())
//! # }
//! ```

use plotly::common::{Marker, Mode, Title};
use plotly::layout::{Axis, AxisType, Legend, Margin};
use plotly::{Bar, Layout, Plot, Scatter};
use polars::prelude::*;

use crate::error::{Error, QueryError, Result};

/// Colours that colour-blind readers can distinguish (Okabe and Ito).
const COLORS: [&str; 7] =
    ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999"];

/// The description of a chart; [`plot`](Chart::plot) renders it.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    frame: &'a DataFrame,
    kind: Kind,
    x: &'a str,
    y: &'a str,
    color: Option<&'a str>,
    hover: Vec<&'a str>,
    titles: [String; 3],
    logarithmic: bool,
    size: (usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Scatter,
    Line,
    Bar,
}

impl<'a> Chart<'a> {
    /// A point for each row, at the values in columns `x` and `y`. Both can be numbers, dates, times or
    /// durations; `x` can also be text.
    pub fn scatter(frame: &'a DataFrame, x: &'a str, y: &'a str) -> Chart<'a> {
        Chart::new(frame, Kind::Scatter, x, y)
    }

    /// A line that connects the rows in their order.
    pub fn line(frame: &'a DataFrame, x: &'a str, y: &'a str) -> Chart<'a> {
        Chart::new(frame, Kind::Line, x, y)
    }

    /// A bar for each row, at the value in column `x` and with the height in column `y`.
    pub fn bar(frame: &'a DataFrame, x: &'a str, y: &'a str) -> Chart<'a> {
        Chart::new(frame, Kind::Bar, x, y)
    }

    fn new(frame: &'a DataFrame, kind: Kind, x: &'a str, y: &'a str) -> Chart<'a> {
        let titles = [String::new(), x.to_owned(), y.to_owned()];
        let (color, hover) = (None, Vec::new());
        Chart { frame, kind, x, y, color, hover, titles, logarithmic: false, size: (850, 470) }
    }

    /// Gives each value of `column` a colour and a legend entry.
    pub fn color(self, column: &'a str) -> Chart<'a> {
        Chart { color: Some(column), ..self }
    }

    /// Shows the values of these columns when the pointer is on a data point.
    pub fn hover<const N: usize>(self, columns: [&'a str; N]) -> Chart<'a> {
        Chart { hover: columns.to_vec(), ..self }
    }

    /// The title above the chart.
    pub fn title(mut self, title: impl Into<String>) -> Chart<'a> {
        self.titles[0] = title.into();
        self
    }

    /// The axis titles. Default: the columns' names.
    pub fn labels(mut self, x: impl Into<String>, y: impl Into<String>) -> Chart<'a> {
        (self.titles[1], self.titles[2]) = (x.into(), y.into());
        self
    }

    /// Makes both axes logarithmic.
    pub fn log_log(self) -> Chart<'a> {
        Chart { logarithmic: true, ..self }
    }

    /// Width and height in pixels. Default: 850 and 470.
    pub fn size(self, width: usize, height: usize) -> Chart<'a> {
        Chart { size: (width, height), ..self }
    }

    /// Renders the chart.
    ///
    /// # Errors
    ///
    /// [`Error::Polars`] if a column does not exist, or an axis cannot show its values, such as lists.
    pub fn plot(&self) -> Result<Plot> {
        let scales = [self.scale(self.x)?, self.scale(self.y)?];
        if scales[1] == Scale::Text {
            return Err(self.refused(self.y, "its values are text, which only x can show. Swap x and y, or show a column of numbers"));
        }
        if self.kind == Kind::Bar && !matches!(scales[1], Scale::Numbers | Scale::Seconds) {
            return Err(self.refused(
                self.y,
                "a bar's height must be a number or a duration, not a date or time. Show another column on y",
            ));
        }
        if self.logarithmic {
            for (column, scale) in [self.x, self.y].into_iter().zip(scales) {
                // A bar chart's x axis is not logarithmic.
                let is_bar_position = self.kind == Kind::Bar && column == self.x;
                if !is_bar_position && !matches!(scale, Scale::Numbers | Scale::Seconds) {
                    return Err(self.refused(column, "a logarithmic axis needs numbers. Remove log_log(), or show a column of numbers"));
                }
            }
        }
        let mut plot = Plot::new();
        for (at, (name, rows)) in self.groups()?.into_iter().enumerate() {
            let color = COLORS[at % COLORS.len()];
            let texts = self.texts(&rows)?;
            // The trace's type depends on the types of its coordinates.
            macro_rules! add {
                ($x:expr, $y:expr) => {
                    match self.kind {
                        Kind::Bar => plot.add_trace(
                            Bar::new($x, $y)
                                .name(name)
                                .marker(Marker::new().color(color))
                                .hover_text_array(texts),
                        ),
                        kind => plot.add_trace(
                            Scatter::new($x, $y)
                                .name(name)
                                .mode(if kind == Kind::Scatter {
                                    Mode::Markers
                                } else {
                                    Mode::LinesMarkers
                                })
                                .marker(
                                    Marker::new()
                                        .size(6)
                                        .opacity(if kind == Kind::Scatter { 0.3 } else { 1.0 })
                                        .color(color),
                                )
                                .text_array(texts)
                                .hover_template(self.template(scales)),
                        ),
                    }
                };
            }
            match (values(&rows, self.x, scales[0])?, values(&rows, self.y, scales[1])?) {
                (Values::Numbers(x), Values::Numbers(y)) => add!(x, y),
                (Values::Texts(x), Values::Numbers(y)) => add!(x, y),
                (Values::Numbers(x), Values::Texts(y)) => add!(x, y),
                (Values::Texts(x), Values::Texts(y)) => add!(x, y),
            }
        }
        plot.set_layout(self.layout(scales));
        Ok(plot)
    }

    /// Splits the rows by colour, in the order of the values.
    fn groups(&self) -> Result<Vec<(String, DataFrame)>> {
        let Some(column) = self.color else {
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

    /// The hover text of each data point.
    fn texts(&self, rows: &DataFrame) -> Result<Vec<String>> {
        let columns: Vec<Vec<String>> =
            self.hover.iter().map(|column| self::texts(rows, column)).collect::<Result<_>>()?;
        let text = |row: usize| {
            columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join(", ")
        };
        Ok((0..rows.height()).map(text).collect())
    }

    fn template(&self, scales: [Scale; 2]) -> String {
        let text = if self.hover.is_empty() { "" } else { "%{text}<br>" };
        let value = |axis: &str, scale| match scale {
            Scale::Times => format!("%{{{axis}|{TIME}}}"),
            Scale::Numbers | Scale::Seconds if axis == "y" => format!("%{{{axis}:.4~g}}"),
            _ => format!("%{{{axis}}}"),
        };
        let [x, y] = [value("x", scales[0]), value("y", scales[1])];
        format!("{text}{}: {x}<br>{}: {y}<extra></extra>", self.x, self.y)
    }

    fn layout(&self, scales: [Scale; 2]) -> Layout {
        let [title, x, y] = &self.titles;
        let axis = |title: &str, column: &str, scale, logarithmic| {
            let title = match scale {
                Scale::Seconds if title == column => format!("{column} (seconds)"),
                _ => title.to_owned(),
            };
            let axis = Axis::new().title(Title::with_text(title));
            match scale {
                // Otherwise plotly turns text such as "01" or "2026-03" into numbers and dates.
                Scale::Text => axis.type_(AxisType::Category),
                Scale::Dates => axis.type_(AxisType::Date),
                Scale::Times => axis.type_(AxisType::Date).tick_format(TIME),
                Scale::Numbers | Scale::Seconds if logarithmic => axis.type_(AxisType::Log),
                Scale::Numbers | Scale::Seconds => axis,
            }
        };
        let logarithmic_x = self.logarithmic && self.kind != Kind::Bar;
        let layout = Layout::new()
            .title(Title::with_text(title).x(0.08))
            .x_axis(axis(x, self.x, scales[0], logarithmic_x))
            .y_axis(axis(y, self.y, scales[1], self.logarithmic))
            .show_legend(self.color.is_some())
            .margin(Margin::new().left(80).right(30).top(60).bottom(60))
            .width(self.size.0)
            .height(self.size.1);
        match self.color {
            Some(column) => layout.legend(Legend::new().title(Title::with_text(column))),
            None => layout,
        }
    }

    /// The scale for a column's values.
    fn scale(&self, name: &str) -> Result<Scale> {
        let column = column(self.frame, name)?;
        Ok(match column.dtype() {
            DataType::Date | DataType::Datetime(..) => Scale::Dates,
            DataType::Time => Scale::Times,
            DataType::Duration(_) => Scale::Seconds,
            DataType::String | DataType::Boolean => Scale::Text,
            // If x has nulls, bars stand at texts, because null becomes the text "unknown".
            dtype if dtype.is_primitive_numeric() || dtype.is_null() => {
                let is_text = self.kind == Kind::Bar && name == self.x && column.null_count() > 0;
                if is_text { Scale::Text } else { Scale::Numbers }
            }
            dtype if dtype.is_nested() || dtype.is_object() || *dtype == DataType::Binary => {
                let reason = format!("an axis cannot show values of type {dtype}");
                return Err(self.refused(name, &reason));
            }
            // Enumerations and decimals, if polars is compiled with them.
            _ if column.strict_cast(&DataType::Float64).is_err() => Scale::Text,
            _ => Scale::Numbers,
        })
    }

    fn refused(&self, column: &str, reason: &str) -> Error {
        let source = PolarsError::InvalidOperation(reason.to_owned().into());
        QueryError::at(format!("chart column {column}"))(source).into()
    }
}

/// The tick format for times of day.
const TIME: &str = "%H:%M:%S";

/// The kind of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Numbers,
    Dates,
    /// Times of day. plotly shows them as times of a single day.
    Times,
    /// Durations, as numbers of seconds.
    Seconds,
    Text,
}

/// Values in the form that plotly accepts.
enum Values {
    Numbers(Vec<Option<f64>>),
    Texts(Vec<Option<String>>),
}

fn column<'f>(rows: &'f DataFrame, name: &str) -> Result<&'f Column> {
    let names: Vec<&str> = rows.schema().iter_names().map(|name| name.as_str()).collect();
    let columns = names.join(", ");
    let column = rows.column(name);
    Ok(column.map_err(QueryError::at(format!("chart column {name} (columns: {columns})")))?)
}

/// The values of a column on `scale`.
fn values(rows: &DataFrame, name: &str, scale: Scale) -> Result<Values> {
    let column = column(rows, name)?;
    let failed = || QueryError::at(format!("chart column {name}"));
    let numbers = |column: &Column| -> Result<Vec<Option<f64>>> {
        let numbers = column.strict_cast(&DataType::Float64).map_err(failed())?;
        Ok(numbers.f64().map_err(failed())?.to_vec())
    };
    let texts =
        |column: &StringChunked| column.iter().map(|text| text.map(str::to_owned)).collect();
    Ok(match scale {
        Scale::Numbers => Values::Numbers(numbers(column)?),
        Scale::Seconds => {
            let DataType::Duration(unit) = column.dtype() else { unreachable!("a duration") };
            let second = match unit {
                TimeUnit::Nanoseconds => 1e9,
                TimeUnit::Microseconds => 1e6,
                TimeUnit::Milliseconds => 1e3,
            };
            let units = numbers(&column.to_physical_repr())?;
            Values::Numbers(units.into_iter().map(|units| units.map(|u| u / second)).collect())
        }
        Scale::Dates => {
            let series = column.as_materialized_series();
            let dates = match series.dtype() {
                DataType::Date => series.date().map_err(failed())?.to_string("%Y-%m-%d"),
                // Local time of the column's time zone, as plotly shows it.
                _ => series.datetime().map_err(failed())?.to_string("%Y-%m-%d %H:%M:%S%.6f"),
            };
            Values::Texts(texts(&dates.map_err(failed())?))
        }
        Scale::Times => {
            let series = column.as_materialized_series();
            let times = series.time().map_err(failed())?.to_string("1970-01-01 %H:%M:%S%.6f");
            Values::Texts(texts(&times))
        }
        Scale::Text => Values::Texts(self::texts(rows, name)?.into_iter().map(Some).collect()),
    })
}

fn texts(rows: &DataFrame, name: &str) -> Result<Vec<String>> {
    let texts = column(rows, name)?.cast(&DataType::String)?;
    Ok(texts.str()?.iter().map(|text| text.unwrap_or("unknown").to_owned()).collect())
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
    fn each_color_is_a_trace_named_after_its_value() {
        let frame = frame();
        let rendered =
            json(&Chart::scatter(&frame, "x", "y").color("g").hover(["g"]).plot().unwrap());
        for part in ["\"name\":\"a\"", "\"name\":\"b\"", "\"name\":\"unknown\"", "\"y\":[null]"] {
            assert!(rendered.contains(part), "{part} in {rendered}");
        }
        assert_eq!(rendered.matches("\"type\":\"scatter\"").count(), 3);
        assert!(rendered.contains("%{text}<br>x: %{x}"));
    }

    #[test]
    fn bars_stand_at_texts_and_lines_may_be_logarithmic() {
        let frame = frame();
        let bars = json(&Chart::bar(&frame, "g", "x").title("t").labels("a", "b").plot().unwrap());
        assert!(bars.contains("\"x\":[\"b\",\"a\",\"unknown\"]"), "{bars}");
        let lines = json(&Chart::line(&frame, "x", "y").log_log().plot().unwrap());
        assert_eq!(lines.matches("\"type\":\"log\"").count(), 2, "{lines}");
    }

    /// The JSON of column `x` and of column `y` in a chart of `frame`.
    fn rendered(kind: Kind, frame: &DataFrame) -> Result<String> {
        Ok(json(&Chart::new(frame, kind, "x", "y").plot()?))
    }

    #[test]
    fn dates_have_a_date_axis() {
        let day = |day| chrono::NaiveDate::from_ymd_opt(2026, 3, day).unwrap();
        let frame = df!["x" => [Some(day(1)), None, Some(day(3))], "y" => [1, 2, 3]].unwrap();
        for kind in [Kind::Scatter, Kind::Line, Kind::Bar] {
            let chart = rendered(kind, &frame).unwrap();
            assert!(chart.contains("\"x\":[\"2026-03-01\",null,\"2026-03-03\"]"), "{chart}");
            assert_eq!(chart.matches("\"type\":\"date\"").count(), 1, "{chart}");
        }
        let upright = frame.lazy().select([col("x").alias("y"), col("y").alias("x")]).collect();
        let chart = rendered(Kind::Scatter, &upright.unwrap()).unwrap();
        assert!(chart.contains("\"y\":[\"2026-03-01\"") && chart.contains("y: %{y}<"), "{chart}");
    }

    #[test]
    fn times_of_each_unit_are_shown() {
        let microseconds = 1_772_325_000_250_000_i64; // 2026-03-01 00:30:00.25
        let frame = df!["x" => [Some(microseconds), None], "y" => [1, 2]].unwrap();
        for unit in [TimeUnit::Milliseconds, TimeUnit::Microseconds, TimeUnit::Nanoseconds] {
            let plot = |values: Expr, dtype: fn(TimeUnit) -> DataType| {
                let x = values.cast(dtype(TimeUnit::Microseconds)).cast(dtype(unit));
                let frame = frame.clone().lazy().with_column(x).collect().unwrap();
                rendered(Kind::Scatter, &frame).unwrap()
            };
            let chart = plot(col("x"), |unit| DataType::Datetime(unit, None));
            assert!(chart.contains("\"x\":[\"2026-03-01 00:30:00.250000\",null]"), "{chart}");
            assert!(chart.contains("\"type\":\"date\""), "{chart}");
            let chart = plot(col("x") - col("x") + lit(1_500_000_i64), DataType::Duration);
            assert!(chart.contains("\"x\":[1.5,null]"), "{chart}");
            assert!(chart.contains("x (seconds)"), "{chart}");
        }
        let time = chrono::NaiveTime::from_hms_opt(8, 30, 0).unwrap();
        let frame = df!["x" => [time], "y" => [1]].unwrap();
        let chart = rendered(Kind::Line, &frame).unwrap();
        assert!(chart.contains("\"x\":[\"1970-01-01 08:30:00.000000\"]"), "{chart}");
        assert!(chart.contains("\"tickformat\":\"%H:%M:%S\""), "{chart}");
    }

    #[test]
    fn texts_stay_texts_and_numbers_stay_numbers() {
        let frame =
            df!["x" => [Some("01"), Some("2026-03"), None], "y" => [1.0, f64::NAN, f64::INFINITY]];
        let chart = rendered(Kind::Scatter, &frame.unwrap()).unwrap();
        assert!(chart.contains("\"x\":[\"01\",\"2026-03\",\"unknown\"]"), "{chart}");
        assert!(chart.contains("\"y\":[1.0,null,null]"), "{chart}");
        assert!(chart.contains("\"type\":\"category\""), "{chart}");
        let frame = df!["x" => [true, false], "y" => [1, 2]].unwrap();
        let chart = rendered(Kind::Bar, &frame).unwrap();
        assert!(chart.contains("\"x\":[\"true\",\"false\"]"), "{chart}");
        let frame = df!["x" => [0, 1], "y" => [1, 2]].unwrap();
        assert!(rendered(Kind::Bar, &frame).unwrap().contains("\"x\":[0.0,1.0]"));
        let frame = df!["x" => [Some(0), None], "y" => [1, 2]].unwrap();
        assert!(rendered(Kind::Bar, &frame).unwrap().contains("\"x\":[\"0\",\"unknown\"]"));
        for kind in [Kind::Scatter, Kind::Bar] {
            rendered(kind, &df!["x" => [1], "y" => [2]].unwrap().clear()).unwrap();
        }
    }

    #[test]
    fn columns_that_an_axis_cannot_show_are_named() {
        let list = Series::new("x".into(), [Series::new("".into(), [1, 2])]);
        let frame = DataFrame::new(1, vec![list.into(), Column::new("y".into(), [1])]).unwrap();
        let date = chrono::NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        let dates = df!["x" => [1], "y" => [date], "word" => ["a"]].unwrap();
        for (message, part) in [
            (
                rendered(Kind::Scatter, &frame).err(),
                "chart column x: an axis cannot show values of type list",
            ),
            (rendered(Kind::Bar, &dates).err(), "chart column y: a bar's height must be a number"),
            (Chart::line(&dates, "y", "x").log_log().plot().err(), "chart column y: a logarithmic"),
            (
                Chart::scatter(&dates, "x", "word").plot().err(),
                "chart column word: its values are text",
            ),
        ] {
            let message = message.unwrap().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn missing_column_is_reported_with_the_existing_columns() {
        let frame = frame();
        let message = Chart::scatter(&frame, "x", "z").plot().err().unwrap().to_string();
        assert!(message.contains("column z") && message.contains("x, y, g"), "{message}");
        let message = Chart::scatter(&frame, "x", "g").plot().err().unwrap().to_string();
        assert!(message.contains("column g") && message.contains("values are text"), "{message}");
    }
}
