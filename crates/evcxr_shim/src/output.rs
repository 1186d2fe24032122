//! The filter between a cell's process and evcxr, one process for stdout and one for stderr.
//!
//! evcxr reads both streams as lines of UTF-8, and stops at a line that is not valid UTF-8. So this program
//! replaces invalid bytes. It also starts a new line before evcxr's control lines. Otherwise `print!("a")`
//! and a displayed value would be on one line, and evcxr would lose `a`. The end of such an unfinished line
//! gets a marker, with which the kernel's supervisor joins the line again.

use std::io::{self, Read, Write};
use std::path::Path;

/// The prefix of evcxr's control lines.
const EVCXR: &[u8] = b"EVCXR_";
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The program name that starts this program as a filter.
pub const NAME: &str = "output-filter";

/// Copies `input` to `output` until its end, filtered. The marker of an unfinished line is `marker` and `-`.
/// Without the file `ready`, no supervisor reads markers, and none are written.
pub fn filter(
    mut input: impl Read,
    mut output: impl Write,
    marker: &str,
    ready: &Path,
) -> io::Result<()> {
    let mut filter = Filter { held: Vec::new(), in_line: false };
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = match input.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let cut = format!("{marker}-\n");
        let cut = || if ready.exists() { cut.as_str() } else { "\n" };
        let filtered = filter.next(&buffer[..length], length == 0, cut);
        output.write_all(&filtered)?;
        output.flush()?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// The state between two reads.
struct Filter {
    /// The last bytes, whose meaning depends on the next ones: a part of a character or of `EVCXR_`.
    held: Vec<u8>,
    /// Whether the output ends within a line.
    in_line: bool,
}

impl Filter {
    /// Returns the output for the next `bytes`. `cut` is inserted before a control line within a line.
    fn next<'a>(&mut self, bytes: &[u8], last: bool, cut: impl Fn() -> &'a str) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut output = Vec::with_capacity(all.len());
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
            let kept = self.write(&rest[..valid], ends && !last && bad == 0, &cut, &mut output);
            if open || kept > 0 {
                self.held = rest[valid - kept..].to_vec();
                break;
            }
            if bad > 0 {
                output.extend_from_slice(REPLACEMENT);
                self.in_line = true;
            }
            rest = &rest[valid + bad..];
        }
        output
    }

    /// Appends text to `output`. If `may_hold`, a prefix of `EVCXR_` at the end is left out, and its length
    /// returned.
    fn write<'a>(
        &mut self,
        text: &[u8],
        may_hold: bool,
        cut: &impl Fn() -> &'a str,
        output: &mut Vec<u8>,
    ) -> usize {
        let longest = (1..EVCXR.len()).rev().find(|&n| text.ends_with(&EVCXR[..n]));
        // At the start of a line, a control line needs no cut.
        let kept = longest.filter(|&n| may_hold && !self.starts_line(&text[..text.len() - n]));
        let kept = kept.unwrap_or(0);
        let text = &text[..text.len() - kept];
        let mut start = 0;
        for at in
            text.windows(EVCXR.len()).enumerate().filter(|(_, w)| *w == EVCXR).map(|(at, _)| at)
        {
            if !self.starts_line(&text[..at]) {
                output.extend_from_slice(&text[start..at]);
                output.extend_from_slice(cut().as_bytes());
                start = at;
            }
        }
        output.extend_from_slice(&text[start..]);
        if let Some(last) = text.last() {
            self.in_line = *last != b'\n';
        }
        kept
    }

    /// Whether the text after `before` starts a line.
    fn starts_line(&self, before: &[u8]) -> bool {
        before.last().map_or(!self.in_line, |last| *last == b'\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output for `parts`, one read each.
    fn filtered(parts: &[&[u8]]) -> String {
        let mut filter = Filter { held: Vec::new(), in_line: false };
        let mut output = Vec::new();
        for part in parts {
            output.extend(filter.next(part, false, || "|-\n"));
        }
        output.extend(filter.next(b"", true, || "|-\n"));
        String::from_utf8(output).expect("the output is UTF-8")
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(filtered(&[b"caf\xe9\n"]), "caf\u{fffd}\n");
        assert_eq!(filtered(&[b"\xff\xfe\0\r\n"]), "\u{fffd}\u{fffd}\0\r\n");
        assert_eq!(filtered(&[b"\xe9"]), "\u{fffd}");
        assert_eq!(filtered(&[b"\xed\xa0\x80 \xf0\x9f\x98"]), "\u{fffd}\u{fffd}\u{fffd} \u{fffd}");
    }

    #[test]
    fn text_is_unchanged_for_all_boundaries_of_reads() {
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
    fn control_line_starts_a_new_line() {
        let text = b"a EVCXR_BEGIN_CONTENT text/plain\nx\n\xe9EVCXR_END_CONTENT\n";
        let expected = "a |-\nEVCXR_BEGIN_CONTENT text/plain\nx\n\u{fffd}|-\nEVCXR_END_CONTENT\n";
        for at in 0..text.len() {
            assert_eq!(filtered(&[&text[..at], &text[at..]]), expected, "{at}");
        }
    }

    #[test]
    fn prefix_at_the_start_of_a_line_is_written_at_once() {
        let mut filter = Filter { held: Vec::new(), in_line: false };
        assert_eq!(filter.next(b"EV", false, || "|-\n"), b"EV");
        assert_eq!(filter.next(b"CXR_\n", false, || "|-\n"), b"CXR_\n");
    }
}
