//! Displays tables, schemas and plans in a cell.
//!
//! The evcxr kernel calls the `evcxr_display` method of a cell's last expression. The method prints
//! its content between two marker lines, once for each MIME type, and the front end shows the richest
//! type that it supports.

use polars::prelude::*;
use polars_profile::plan_svg::{self, escape};
use polars_profile::{Graph, Measurement, Plan, QueryProfile};

/// Shows a value in a notebook, as HTML or Markdown, and as text.
pub trait EvcxrDisplay {
    /// Prints the value for the kernel, once for each MIME type.
    fn evcxr_display(&self);
}

impl EvcxrDisplay for DataFrame {
    fn evcxr_display(&self) {
        send("text/html", &html_table(self));
        send("text/plain", &self.to_string());
    }
}

/// The first rows of a frame, for display in a cell; see [`head`].
#[derive(Clone, Debug)]
pub struct Head {
    shown: DataFrame,
    height: usize,
}

/// Returns the first `rows` rows of `frame`. Their display includes the frame's number of rows.
pub fn head(frame: &DataFrame, rows: usize) -> Head {
    Head { shown: frame.head(Some(rows)), height: frame.height() }
}

impl EvcxrDisplay for Head {
    fn evcxr_display(&self) {
        let Head { shown, height } = self;
        let note = match *height > shown.height() {
            true => format!("; the first {} are shown", shown.height()),
            false => String::new(),
        };
        let rows: Vec<usize> = (0..shown.height()).collect();
        send("text/html", &html_rows(shown, &rows, *height, &note));
        let rows = counted(*height, "row");
        send("text/plain", &format!("{}\n{rows}{note}", plain_table(shown)));
    }
}

impl EvcxrDisplay for Schema {
    fn evcxr_display(&self) {
        let names: Vec<&str> = self.iter_names().map(|name| name.as_str()).collect();
        let dtypes: Vec<String> = self.iter_values().map(|dtype| dtype.to_string()).collect();
        match df!["column" => names, "type" => dtypes] {
            Ok(frame) => frame.evcxr_display(),
            Err(_) => send("text/plain", &format!("{self:?}")),
        }
    }
}

impl EvcxrDisplay for Plan {
    fn evcxr_display(&self) {
        let text = self.to_string();
        // Wrapping would break a plan's alignment, so it scrolls.
        send(
            "text/html",
            &format!("<pre style=\"overflow-x: auto; white-space: pre\">{}</pre>", escape(&text)),
        );
        send("text/plain", &text);
    }
}

/// Displays a graph as a picture, and as text with one line per node.
impl EvcxrDisplay for Graph {
    fn evcxr_display(&self) {
        send("text/html", &plan_svg::svg(self));
        send("text/plain", &self.to_string());
    }
}

/// Displays a profile as its plan, with row counts on the arrows.
impl EvcxrDisplay for QueryProfile {
    fn evcxr_display(&self) {
        self.graph().evcxr_display();
    }
}

/// Displays a lazy frame as its plan before optimisation. Does not run the query.
impl EvcxrDisplay for LazyFrame {
    fn evcxr_display(&self) {
        match self.describe_plan() {
            Ok(plan) => Plan::new(plan).evcxr_display(),
            Err(error) => send("text/plain", &format!("This lazy frame has no plan: {error}")),
        }
    }
}

impl EvcxrDisplay for Measurement {
    fn evcxr_display(&self) {
        send("text/plain", &self.to_string());
    }
}

/// Prints `content` in the form that the kernel expects.
pub(crate) fn send(mime: &str, content: &str) {
    println!("EVCXR_BEGIN_CONTENT {mime}\n{}\n{END}", without_end(content));
}

const END: &str = "EVCXR_END_CONTENT";

/// `content`, with lines escaped that the kernel would read as the end of the content.
fn without_end(content: &str) -> String {
    format!("\n{content}").replace(&format!("\n{END}"), &format!("\n {END}"))[1..].to_owned()
}

/// Maximum number of rows in a table.
const MAX_ROWS: usize = 20;
/// Maximum number of columns in a table.
const MAX_COLUMNS: usize = 60;
/// Maximum number of characters of a value or a name.
const MAX_CHARACTERS: usize = 80;

/// `frame` as an HTML table with names, types and the true shape. Nulls are marked, and a long table
/// omits rows in the middle.
fn html_table(frame: &DataFrame) -> String {
    let note = match frame.height() > MAX_ROWS {
        true => format!("; the first and last {} rows are shown", MAX_ROWS / 2),
        false => String::new(),
    };
    let rows: Vec<usize> = shown_of(frame.height(), MAX_ROWS).collect();
    html_rows(frame, &rows, frame.height(), &note)
}

/// The positions of the first and the last of `all` rows or columns, at most `most` of them.
fn shown_of(all: usize, most: usize) -> impl Iterator<Item = usize> {
    let (first, last) = if all > most { (most / 2, all - most / 2) } else { (all, all) };
    (0..first).chain(last..all)
}

/// Whether positions are omitted before `at`.
fn follows_a_gap(shown: &[usize], at: usize) -> bool {
    at > 0 && shown[at - 1] + 1 < shown[at]
}

/// Like [`html_table`], but shows `rows` of a frame that has `all` rows, with `note` after the shape.
/// Dots mark omitted rows and columns.
fn html_rows(frame: &DataFrame, rows: &[usize], all: usize, note: &str) -> String {
    let width = frame.width();
    let columns: Vec<usize> = shown_of(width, MAX_COLUMNS).collect();
    // A line of the table, with `cell` for each visible column.
    let line = |cell: &dyn Fn(&Column) -> String, dots: &str| {
        let mut line = String::from("<tr>");
        for (at, &column) in columns.iter().enumerate() {
            if follows_a_gap(&columns, at) {
                line += dots;
            }
            line += &cell(&frame.columns()[column]);
        }
        line + "</tr>"
    };
    let name = |column: &Column| {
        let name = escape(&cut(&printable(column.name())));
        format!("<th scope=\"col\" {}>{name}</th>", alignment(column))
    };
    let dtype = |column: &Column| {
        let dtype = escape(&cut(&printable(&column.dtype().to_string())));
        format!("<td {}><small>{dtype}</small></td>", alignment(column))
    };
    let (names, dtypes) = (line(&name, "<th>…</th>"), line(&dtype, "<td>…</td>"));
    let mut body = String::new();
    for (at, &row) in rows.iter().enumerate() {
        if follows_a_gap(rows, at) {
            body += &line(&|_| "<td>…</td>".to_owned(), "<td>…</td>");
        }
        body += &line(&|column| html_cell(column, row), "<td>…</td>");
        body.push('\n');
    }
    let left_out = match width > MAX_COLUMNS {
        true => format!("; the first and last {} columns are shown", MAX_COLUMNS / 2),
        false => String::new(),
    };
    let (all, width) = (counted(all, "row"), counted(width, "column"));
    format!(
        "<div style=\"overflow-x: auto\"><table class=\"dataframe\">\n<thead>{names}\n{dtypes}</thead>\n<tbody>\n{body}</tbody>\n</table>\n<small>{all} × {width}{note}{left_out}</small></div>"
    )
}

/// The number and the noun, in the singular or the plural.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A value as a line of text. None for a null.
fn text_of(column: &Column, row: usize) -> Option<String> {
    let text = match column.get(row) {
        Ok(AnyValue::Null) | Err(_) => return None,
        Ok(AnyValue::String(text)) => printable(text),
        Ok(AnyValue::StringOwned(text)) => printable(&text),
        Ok(value) => printable(&value.to_string()),
    };
    Some(cut(&text))
}

/// The beginning of `text` on one line. Line ends, other control characters, and characters that
/// change the direction of writing are escaped, as in a string literal.
fn printable(text: &str) -> String {
    let mut line = String::new();
    // One more than the limit, so that `cut` detects a longer text.
    for character in text.chars().take(MAX_CHARACTERS + 1) {
        let changes_direction =
            matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match character.is_control() || changes_direction {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// All rows of `frame` as lines of text, in columns.
fn plain_table(frame: &DataFrame) -> String {
    let columns: Vec<usize> = shown_of(frame.width(), MAX_COLUMNS).collect();
    let mut lines = vec![String::new(); frame.height() + 1];
    for (at, &column) in columns.iter().enumerate() {
        let column = &frame.columns()[column];
        let values = (0..column.len()).map(|row| text_of(column, row));
        let values = values.map(|value| value.unwrap_or_else(|| "null".to_owned()));
        let name = cut(&printable(column.name()));
        let column: Vec<String> = std::iter::once(name).chain(values).collect();
        // A width in a format string is limited to 65,535, so the padding is explicit.
        let width = column.iter().map(|value| value.chars().count()).max().unwrap_or(0);
        for (line, value) in lines.iter_mut().zip(column) {
            if follows_a_gap(&columns, at) {
                line.push_str("…  ");
            }
            line.push_str(&value);
            line.push_str(&" ".repeat(width - value.chars().count() + 2));
        }
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

fn html_cell(column: &Column, row: usize) -> String {
    let text = match text_of(column, row) {
        Some(value) => escape(&value),
        None => "<em style=\"opacity: 0.6\">null</em>".to_owned(),
    };
    format!("<td {}>{text}</td>", alignment(column))
}

/// Numbers are aligned right, everything else left.
fn alignment(column: &Column) -> &'static str {
    match column.dtype().is_primitive_numeric() {
        true => "style=\"text-align: right\"",
        false => "style=\"text-align: left\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_types_marked_nulls_and_escaped_text() {
        let frame = df!["a<b" => [Some("x & y"), None], "n" => [Some(1i64), None]].unwrap();
        let html = html_table(&frame);
        // A null is aligned like the values of its column.
        for side in ["left", "right"] {
            assert!(html.contains(&format!("<td style=\"text-align: {side}\"><em")), "{html}");
        }
        assert!(html.contains(">a&lt;b</th>"), "{html}");
        assert!(html.contains("<small>str</small>") && html.contains("<small>i64</small>"));
        assert!(html.contains("x &amp; y"));
        assert_eq!(html.matches("<em style=\"opacity: 0.6\">null</em>").count(), 2);
        assert!(html.contains("2 rows × 2 columns</small>"));
    }

    #[test]
    fn long_table_is_cut_and_shows_its_true_shape() {
        let rows = |n: i64| html_table(&df!["n" => (0..n).collect::<Vec<_>>()].unwrap());
        assert!(!rows(20).contains('…'));
        let cut = rows(21);
        assert!(cut.contains("21 rows × 1 column; the first and last 10 rows are shown"), "{cut}");
        assert!(cut.contains(">9<") && !cut.contains(">10<") && cut.contains(">11<"), "{cut}");
        assert_eq!(html_table(&df!["n" => Vec::<i64>::new()].unwrap()).matches("<tr>").count(), 2);
    }

    #[test]
    fn head_shows_the_number_of_rows() {
        let frame = df!["n" => (0..18i64).collect::<Vec<_>>()].unwrap();
        let Head { shown, height } = head(&frame, 10);
        assert_eq!((shown.height(), height), (10, 18));
        let rows: Vec<usize> = (0..10).collect();
        let html = html_rows(&shown, &rows, height, "; the first 10 are shown");
        assert!(html.contains("18 rows × 1 column; the first 10 are shown"), "{html}");
        assert_eq!(plain_table(&shown).lines().count(), 11);
    }

    #[test]
    fn values_and_names_with_line_breaks_take_one_line() {
        let long = "x".repeat(70_000);
        let values = [
            long.as_str(),
            "",
            "two\nlines\r\n\tand\u{0}",
            "EVCXR_END_CONTENT",
            "e\u{301}\u{301}\u{301} \u{202e}right",
            "<script>alert('&')</script>",
        ];
        let texts = Column::new(long.as_str().into(), values);
        let bytes = texts.cast(&DataType::Binary).unwrap().with_name("<b>\n</b>".into());
        let lists = Series::new("lists".into(), values.map(|text| Series::new("".into(), [text])));
        let mut frame = DataFrame::new(6, vec![texts, bytes, lists.into_column()]).unwrap();
        let structs = frame.clone().into_struct("structs".into()).into_column();
        frame.with_column(structs).unwrap();
        for frame in [&frame, &frame.clear(), &DataFrame::new(6, vec![]).unwrap()] {
            let height = frame.height();
            let html = html_table(frame);
            // Two header lines, and one line for each row.
            assert_eq!(html.matches("<tr>").count(), 2 + height, "{html}");
            assert!(html.len() < 20_000 && !html.contains("<script>") && !html.contains("<b>"));
            assert!(html.lines().all(|line| line != END), "{html}");
            let text = plain_table(frame);
            assert_eq!(text.matches('\n').count(), height, "{text}");
            assert!(text.len() < 20_000 && !text.contains('\u{202e}'), "{text}");
            head(frame, 3).evcxr_display();
            frame.evcxr_display();
            frame.schema().evcxr_display();
        }
        let text = plain_table(&frame);
        assert!(text.contains(&format!("{}…", "x".repeat(80))) && !text.contains(&"x".repeat(81)));
        assert!(text.contains("two\\nlines\\r\\n\\tand\\u{0}"), "{text}");
    }

    #[test]
    fn wide_table_is_cut_and_shows_its_true_shape() {
        let wide = |columns: usize| {
            let columns = (0..columns).map(|n| Column::new(format!("c{n}").into(), [n as i64]));
            DataFrame::new(1, columns.collect()).unwrap()
        };
        assert!(!html_table(&wide(60)).contains('…'));
        let html = html_table(&wide(1000));
        assert!(html.contains("1 row × 1000 columns; the first and last 30 columns are shown"));
        assert!(html.contains(">c29<") && !html.contains(">c30<") && html.contains(">c970<"));
        let text = plain_table(&wide(1000));
        assert!(text.contains("c29  …  c970") && !text.contains("c30 "), "{text}");
    }

    #[test]
    fn content_cannot_contain_the_end_marker() {
        let end = |content: &str| without_end(content).lines().any(|line| line == END);
        for content in [END, "a\nEVCXR_END_CONTENT", "EVCXR_END_CONTENT\nb", "EVCXR_END_CONTENT\n"]
        {
            assert!(!end(content), "{content}");
        }
        assert_eq!(without_end("a\nb"), "a\nb");
    }
}
