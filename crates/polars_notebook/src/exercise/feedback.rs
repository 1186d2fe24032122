//! The texts that a check shows in a cell.

use std::fmt;

use polars_profile::plan_svg::escape;

use crate::display::{EvcxrDisplay, send};

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is the starter's placeholder.
    NotAttempted,
    /// The answer is correct.
    Correct,
    /// The answer differs from the expected result, or does not meet a condition.
    Wrong,
    /// The check could not run, for example because a data file is damaged.
    NotChecked,
}

/// A check's verdict, with the first difference and the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// Number of the exercise.
    pub exercise: usize,
    /// Title of the exercise.
    pub title: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The first difference; empty without one.
    pub message: String,
    /// The next step.
    pub next: String,
}

impl Feedback {
    fn headline(&self) -> String {
        let (sign, verdict) = match self.verdict {
            Verdict::NotAttempted => ("○", "not attempted"),
            Verdict::Correct => ("✓", "correct"),
            Verdict::Wrong => ("✗", "not correct yet"),
            Verdict::NotChecked => ("?", "not checked"),
        };
        format!("{sign} Exercise {}, {}: {verdict}.", self.exercise, self.title)
    }
}

impl fmt::Display for Feedback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [&self.headline(), &self.message, &self.next];
        let lines: Vec<&str> =
            lines.into_iter().filter(|line| !line.is_empty()).map(String::as_str).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl EvcxrDisplay for Feedback {
    fn evcxr_display(&self) {
        let color = match self.verdict {
            Verdict::NotAttempted => "#888888",
            Verdict::Correct => "#2e9e4f",
            Verdict::Wrong | Verdict::NotChecked => "#d9822b",
        };
        let lines = [&self.message, &self.next].map(|text| match text.is_empty() {
            true => String::new(),
            false => format!("<br>{}", with_code(text)),
        });
        send(
            "text/html",
            &format!(
                "<div style=\"border-left: 4px solid {color}; padding: 0.2em 0.8em\"><strong>{}</strong>{}</div>",
                escape(&self.headline()),
                lines.concat()
            ),
        );
        send("text/plain", &self.to_string());
    }
}

/// `text` as HTML, with the parts in backticks as code.
fn with_code(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(at, part)| match at % 2 {
        1 => format!("<code>{}</code>", escape(part)),
        _ => escape(part).replace('\n', "<br>"),
    });
    parts.collect()
}

/// A hint or a solution, as Markdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Help {
    text: String,
}

impl Help {
    pub(super) fn new(text: String) -> Help {
        Help { text }
    }
}

impl fmt::Display for Help {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl EvcxrDisplay for Help {
    fn evcxr_display(&self) {
        send("text/markdown", &self.text);
        send("text/plain", &self.text);
    }
}
