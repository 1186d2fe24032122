//! Changes of a text that keep its lines: compilers report lines, and evcxr maps them to the cell.

use std::ops::Range;

use proc_macro2::Span;
use syn::spanned::Spanned;

/// Replacements for parts of a text.
#[derive(Default)]
pub struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    pub fn insert(&mut self, at: usize, text: impl Into<String>) {
        self.0.push((at..at, text.into()));
    }

    pub fn replace(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.0.push((range, text.into()));
    }

    /// The text with all replacements. One that lies in another is left out.
    pub fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let (mut made, mut at) = (String::with_capacity(text.len()), 0);
        for (range, new) in self.0 {
            if range.start < at {
                continue;
            }
            made.push_str(&text[at..range.start]);
            made.push_str(&new);
            let lines = |text: &str| text.matches('\n').count();
            let missing = lines(&text[range.clone()]).saturating_sub(lines(&new));
            made.extend(std::iter::repeat_n('\n', missing));
            at = range.end;
        }
        made.push_str(&text[at..]);
        made
    }
}

/// Where a part of the syntax tree stands in the text.
pub fn range(part: &impl Spanned) -> Range<usize> {
    of_span(part.span())
}

pub fn of_span(span: Span) -> Range<usize> {
    span.byte_range()
}
