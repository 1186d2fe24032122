//! A plan as a picture: boxes and arrows in SVG, without external programs or fonts.
//!
//! Rows flow down, from the scans to the result. layout-rs places the boxes. This module renders
//! them itself, so that the picture uses the page's colours (light or dark) and is never wider than
//! the page.

use std::fmt::Write as _;

use layout::core::base::Orientation;
use layout::core::format::{ClipHandle, RenderBackend};
use layout::core::geometry::{Point, Position};
use layout::core::style::StyleAttr;
use layout::std_shapes::shapes::{Arrow, Element, ShapeKind};
use layout::topo::layout::VisualGraph;

use crate::plan_graph::{Execution, Graph, Node};
use crate::text::thousands;

/// Maximum number of characters in a line of a box. Longer lines are wrapped.
const MAX_CHARACTERS: usize = 46;
/// Maximum number of detail lines in a box. The tooltip has all of them.
const MAX_DETAILS: usize = 7;
/// Width of a character and height of a line, in pixels at full size.
const CHARACTER: f64 = 6.7;
const LINE: f64 = 15.0;
/// Space between a box's edge and its text.
const MARGIN: f64 = 9.0;
/// Space around each box, for arrows and their row counts.
const HALO: Point = Point { x: 14.0, y: 20.0 };

impl Execution {
    /// The colour of a node's box, from a palette that colour-blind readers can distinguish (Okabe and Ito).
    fn color(self) -> &'static str {
        match self {
            Execution::Streaming => "#009E73",
            Execution::MemoryIntensive => "#E69F00",
            Execution::InMemoryFallback => "#D55E00",
        }
    }
}

/// Renders `graph` as an SVG element for an HTML page. Text and lines use the page's colours.
pub fn svg(graph: &Graph) -> String {
    let mut plan = VisualGraph::new(Orientation::TopToBottom);
    let boxes: Vec<Box> = graph.nodes.iter().map(Box::of).collect();
    let handles: Vec<_> = boxes
        .iter()
        .enumerate()
        .map(|(at, node_box)| {
            let size = Point::new(node_box.width(), node_box.height());
            let mut element = Element::create_with_properties(
                ShapeKind::Box(of_size(size)),
                StyleAttr { font_size: 1, ..StyleAttr::simple() },
                Orientation::TopToBottom,
                size,
                at.to_string(),
            );
            element.pos = Position::new(Point::zero(), size, Point::zero(), HALO);
            plan.add_node(element)
        })
        .collect();
    for (to, node) in graph.nodes.iter().enumerate() {
        for &from in &node.inputs {
            let rows = graph.nodes[from].rows_out.map(|rows| format!("{} rows", thousands(rows)));
            let properties = Some(rows.unwrap_or_default());
            plan.add_edge(Arrow { properties, ..Arrow::default() }, handles[from], handles[to]);
        }
    }
    let mut drawing = Drawing::default();
    plan.do_it(false, false, false, &mut drawing);
    drawing.finish(graph, &boxes)
}

/// A label of the given size: layout-rs measures a box by its text, here with font size 1.
fn of_size(size: Point) -> String {
    // layout-rs adds a margin on each side, which remains as space between boxes.
    let line = "x".repeat(size.x as usize);
    vec![line; size.y as usize].join("\n")
}

/// The text in a node's box.
struct Box {
    name: String,
    lines: Vec<String>,
    execution: Option<Execution>,
}

impl Box {
    fn of(node: &Node) -> Box {
        let mut lines: Vec<String> = node.details.iter().flat_map(|line| wrapped(line)).collect();
        if lines.len() > MAX_DETAILS {
            lines.truncate(MAX_DETAILS - 1);
            lines.push("…".to_owned());
        }
        let mut name: String = node.name.chars().take(MAX_CHARACTERS).collect();
        if name.len() < node.name.len() {
            name.push('…');
        }
        Box { name, lines, execution: node.execution }
    }

    fn width(&self) -> f64 {
        let words = self.execution.map_or(0, |execution| execution.to_string().len());
        let longest = self.lines.iter().map(|line| columns(line)).max().unwrap_or(0);
        // The name is bold.
        let name = (columns(&self.name) as f64 * 1.1).ceil() as usize;
        longest.max(words).max(name) as f64 * CHARACTER + 2.0 * MARGIN
    }

    fn height(&self) -> f64 {
        let lines = 1 + usize::from(self.execution.is_some()) + self.lines.len();
        lines as f64 * LINE + 2.0 * MARGIN
    }
}

/// The width of `text` in columns of a monospace font. East Asian characters are two columns wide.
fn columns(text: &str) -> usize {
    text.chars().map(|c| 1 + usize::from(matches!(c, '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{1f300}'..))).sum()
}

/// Splits `line` into pieces of at most [`MAX_CHARACTERS`] characters, after a space or comma if
/// possible.
fn wrapped(line: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest: Vec<char> = line.chars().collect();
    while rest.len() > MAX_CHARACTERS {
        let room = &rest[..MAX_CHARACTERS];
        let at = room.iter().rposition(|c| " ,".contains(*c)).map_or(MAX_CHARACTERS, |at| at + 1);
        let after = rest.split_off(at.max(MAX_CHARACTERS / 3));
        pieces.push(rest.iter().collect::<String>().trim_end().to_owned());
        rest = after;
    }
    pieces.push(rest.into_iter().collect());
    pieces
}

/// The positions that layout-rs computes.
#[derive(Default)]
struct Drawing {
    /// Top left corner and size of each box, by its position in the graph.
    boxes: Vec<(usize, Point, Point)>,
    /// Each arrow's points with their control points, and its text.
    arrows: Vec<(Vec<(Point, Point)>, String)>,
}

impl RenderBackend for Drawing {
    fn draw_rect(
        &mut self,
        xy: Point,
        size: Point,
        _look: &StyleAttr,
        properties: Option<String>,
        _clip: Option<ClipHandle>,
    ) {
        if let Some(at) = properties.and_then(|text| text.parse().ok()) {
            self.boxes.push((at, xy, size));
        }
    }

    fn draw_arrow(
        &mut self,
        path: &[(Point, Point)],
        _dashed: bool,
        _head: (bool, bool),
        _look: &StyleAttr,
        properties: Option<String>,
        _text: &str,
    ) {
        self.arrows.push((path.to_vec(), properties.unwrap_or_default()));
    }

    fn draw_line(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_circle(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_text(&mut self, _: Point, _: &str, _: &StyleAttr) {}

    fn create_clip(&mut self, _: Point, _: Point, _: usize) -> ClipHandle {
        0
    }
}

impl Drawing {
    fn finish(self, graph: &Graph, boxes: &[Box]) -> String {
        let corner = |f: fn(f64, f64) -> f64, of: fn(&(usize, Point, Point)) -> f64, start: f64| {
            self.boxes.iter().map(of).fold(start, f)
        };
        let left = corner(f64::min, |b| b.1.x, f64::MAX) - 60.0;
        let right = corner(f64::max, |b| b.1.x + b.2.x, 0.0) + 60.0;
        let top = corner(f64::min, |b| b.1.y, f64::MAX) - 4.0;
        let bottom = corner(f64::max, |b| b.1.y + b.2.y, 0.0) + 4.0;
        let (width, height) = ((right - left).max(1.0), (bottom - top).max(1.0));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{}\" \
             viewBox=\"{left:.0} {top:.0} {width:.0} {height:.0}\" width=\"{width:.0}\" \
             style=\"max-width: 100%; height: auto; display: block\" fill=\"currentColor\" \
             font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" \
             font-size=\"11\">\n",
            escape(&graph.title)
        );
        for (path, rows) in &self.arrows {
            write_arrow(&mut out, path, rows);
        }
        for &(at, xy, size) in &self.boxes {
            write_box(&mut out, &boxes[at], &graph.nodes[at], xy, size);
        }
        out + "</svg>"
    }
}

fn write_arrow(out: &mut String, path: &[(Point, Point)], rows: &str) {
    let [first, second, rest @ ..] = path else { return };
    let mut line = format!(
        "M {:.0} {:.0} C {:.0} {:.0}, {:.0} {:.0}, {:.0} {:.0}",
        first.0.x, first.0.y, first.1.x, first.1.y, second.0.x, second.0.y, second.1.x, second.1.y
    );
    for (control, point) in rest {
        write!(line, " S {:.0} {:.0}, {:.0} {:.0}", control.x, control.y, point.x, point.y)
            .expect("a String takes all");
    }
    let &(_, end) = rest.last().unwrap_or(second);
    let (x, y) = (end.x, end.y);
    let (x1, x2, y1) = (x - 4.0, x + 4.0, y - 8.0);
    writeln!(
        out,
        "<path d=\"{line}\" fill=\"none\" stroke=\"currentColor\" stroke-opacity=\"0.6\"/>\
         <path d=\"M {x:.0} {y:.0} L {x1:.0} {y1:.0} L {x2:.0} {y1:.0} Z\" fill-opacity=\"0.8\"/>"
    )
    .expect("a String takes all");
    if !rows.is_empty() {
        let middle = (first.0.y + second.1.y) / 2.0 + 4.0;
        let x = (first.0.x + second.1.x) / 2.0 + 6.0;
        writeln!(out, "<text x=\"{x:.0}\" y=\"{middle:.0}\">{}</text>", escape(rows))
            .expect("a String takes all");
    }
}

fn write_box(out: &mut String, node_box: &Box, node: &Node, xy: Point, size: Point) {
    let color = node_box.execution.map_or("currentColor", Execution::color);
    let (x, y) = (xy.x, xy.y);
    let whole = std::iter::once(&node.name).chain(&node.details);
    let whole: Vec<String> = whole.map(|line| escape(line)).collect();
    write!(
        out,
        "<g><title>{}</title><rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{:.0}\" height=\"{:.0}\" \
         rx=\"4\" fill=\"{color}\" fill-opacity=\"0.12\" stroke=\"{color}\" stroke-width=\"1.5\"/>",
        whole.join("\n"),
        size.x,
        size.y
    )
    .expect("a String takes all");
    let mut line = |at: usize, attributes: &str, text: &str| {
        let (x, y) = (x + MARGIN, y + MARGIN + LINE * (at as f64 + 0.75));
        write!(
            out,
            "<text x=\"{x:.0}\" y=\"{y:.0}\" xml:space=\"preserve\"{attributes}>{}</text>",
            escape(text)
        )
        .expect("a String takes all");
    };
    line(0, " font-weight=\"bold\"", &node_box.name);
    let mut next = 1;
    if let Some(execution) = node_box.execution {
        line(next, " font-style=\"italic\"", &execution.to_string());
        next += 1;
    }
    for (at, text) in node_box.lines.iter().enumerate() {
        line(next + at, " fill-opacity=\"0.85\"", text);
    }
    out.push_str("</g>\n");
}

/// Escapes `text` for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
