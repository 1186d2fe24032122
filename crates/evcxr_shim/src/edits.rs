//! Edits of a source that keep its line numbers, because evcxr maps the compiler's lines to the cell.

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

    /// Returns the text with all replacements. A replacement inside another one is ignored. If the new text
    /// has fewer lines than the old one, empty lines are added.
    pub fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let (mut result, mut at) = (String::with_capacity(text.len()), 0);
        for (range, new) in self.0 {
            if range.start < at {
                continue;
            }
            result.push_str(&text[at..range.start]);
            result.push_str(&new);
            let lines = |text: &str| text.matches('\n').count();
            let missing = lines(&text[range.clone()]).saturating_sub(lines(&new));
            result.extend(std::iter::repeat_n('\n', missing));
            at = range.end;
        }
        result.push_str(&text[at..]);
        result
    }
}

/// The byte range of a syntax tree's part in the source.
pub fn range(part: &impl Spanned) -> Range<usize> {
    of_span(part.span())
}

pub fn of_span(span: Span) -> Range<usize> {
    span.byte_range()
}
