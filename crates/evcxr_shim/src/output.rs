//! The filter between a cell's process and evcxr, one process for stdout and one for stderr.
//!
//! evcxr reads both streams as lines of UTF-8, and stops reading at a line that is not. So this
//! program replaces what is not UTF-8. It also moves evcxr's own lines to the start of a line:
//! `print!("a")` and then a shown value would otherwise be one line, of which evcxr loses `a`. The
//! kernel's companion removes the mark that ends such a line, and so puts its parts together again.

use std::io::{self, Read, Write};
use std::path::Path;

/// The beginning of evcxr's own lines.
const EVCXR: &[u8] = b"EVCXR_";
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The name by which this program is started as a filter.
pub const NAME: &str = "output-filter";

/// Filters `input` to `output` until its end. `mark` begins the mark for an unfinished line; without
/// a file `attended`, nobody reads marks.
pub fn filter(
    mut input: impl Read,
    mut output: impl Write,
    mark: &str,
    attended: &Path,
) -> io::Result<()> {
    let mut filter = Filter { held: Vec::new(), in_line: false };
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = match input.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let cut = format!("{mark}-\n");
        let cut = || if attended.exists() { cut.as_str() } else { "\n" };
        let made = filter.next(&buffer[..length], length == 0, cut);
        output.write_all(&made)?;
        output.flush()?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// The state between two reads.
struct Filter {
    /// The bytes that are not decided without those that follow.
    held: Vec<u8>,
    /// Whether the output has an unfinished line.
    in_line: bool,
}

impl Filter {
    /// The output for the next `bytes`, with `cut` before a line of evcxr's that does not begin one.
    fn next<'a>(&mut self, bytes: &[u8], last: bool, cut: impl Fn() -> &'a str) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut made = Vec::with_capacity(all.len());
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let (valid, bad, open) = match std::str::from_utf8(rest) {
                Ok(_) => (rest.len(), 0, false),
                Err(error) => match error.error_len() {
                    Some(bad) => (error.valid_up_to(), bad, false),
                    None => (error.valid_up_to(), rest.len() - error.valid_up_to(), !last),
                },
            };
            let ends = valid + bad == rest.len();
            let kept = self.write(&rest[..valid], ends && !last && bad == 0, &cut, &mut made);
            if open || kept > 0 {
                self.held = rest[valid - kept..].to_vec();
                break;
            }
            if bad > 0 {
                made.extend_from_slice(REPLACEMENT);
                self.in_line = true;
            }
            rest = &rest[valid + bad..];
        }
        made
    }

    /// Writes text; if `may_hold`, up to a beginning of `EVCXR` at its end, whose length is returned.
    fn write<'a>(
        &mut self,
        text: &[u8],
        may_hold: bool,
        cut: &impl Fn() -> &'a str,
        made: &mut Vec<u8>,
    ) -> usize {
        let longest = (1..EVCXR.len()).rev().find(|&n| text.ends_with(&EVCXR[..n]));
        // At the start of a line there is nothing to cut.
        let kept = longest.filter(|&n| may_hold && !self.starts_line(&text[..text.len() - n]));
        let kept = kept.unwrap_or(0);
        let text = &text[..text.len() - kept];
        let mut start = 0;
        for at in
            text.windows(EVCXR.len()).enumerate().filter(|(_, w)| *w == EVCXR).map(|(at, _)| at)
        {
            if !self.starts_line(&text[..at]) {
                made.extend_from_slice(&text[start..at]);
                made.extend_from_slice(cut().as_bytes());
                start = at;
            }
        }
        made.extend_from_slice(&text[start..]);
        if let Some(last) = text.last() {
            self.in_line = *last != b'\n';
        }
        kept
    }

    /// Whether what follows `before` begins a line.
    fn starts_line(&self, before: &[u8]) -> bool {
        before.last().map_or(!self.in_line, |last| *last == b'\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output for `parts`, each of which is a read of its own.
    fn filtered(parts: &[&[u8]]) -> String {
        let mut filter = Filter { held: Vec::new(), in_line: false };
        let mut made = Vec::new();
        for part in parts {
            made.extend(filter.next(part, false, || "|-\n"));
        }
        made.extend(filter.next(b"", true, || "|-\n"));
        String::from_utf8(made).expect("the output is UTF-8")
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(filtered(&[b"caf\xe9\n"]), "caf\u{fffd}\n");
        assert_eq!(filtered(&[b"\xff\xfe\0\r\n"]), "\u{fffd}\u{fffd}\0\r\n");
        assert_eq!(filtered(&[b"\xe9"]), "\u{fffd}");
        assert_eq!(filtered(&[b"\xed\xa0\x80 \xf0\x9f\x98"]), "\u{fffd}\u{fffd}\u{fffd} \u{fffd}");
    }

    #[test]
    fn text_is_unchanged_wherever_the_reads_cut_it() {
        let text = "é€🙂 EVCXR is EVC, and\nEVCXR_EXECUTION_COMPLETE\nE";
        for at in 0..text.len() {
            for then in at..text.len() {
                let bytes = text.as_bytes();
                let parts = [&bytes[..at], &bytes[at..then], &bytes[then..]];
                assert_eq!(filtered(&parts), text, "{at} {then}");
            }
        }
    }

    #[test]
    fn a_line_of_evcxrs_begins_a_line() {
        let text = b"a EVCXR_BEGIN_CONTENT text/plain\nx\n\xe9EVCXR_END_CONTENT\n";
        let expected = "a |-\nEVCXR_BEGIN_CONTENT text/plain\nx\n\u{fffd}|-\nEVCXR_END_CONTENT\n";
        for at in 0..text.len() {
            assert_eq!(filtered(&[&text[..at], &text[at..]]), expected, "{at}");
        }
    }

    #[test]
    fn the_start_of_a_line_is_not_held_back() {
        let mut filter = Filter { held: Vec::new(), in_line: false };
        assert_eq!(filter.next(b"EV", false, || "|-\n"), b"EV");
        assert_eq!(filter.next(b"CXR_\n", false, || "|-\n"), b"CXR_\n");
    }
}
