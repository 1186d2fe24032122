//! Shows the progress of long work in one line of a cell's output.

use std::io::Write as _;

use polars_profile::text::thousands;

/// Prints a progress bar that replaces the previous one.
///
/// The line begins with a carriage return, which replaces the previous line in a terminal. A kernel
/// must forward the line without its line break; otherwise each call shows a new line.
pub fn print_progress(label: &str, done: u64, total: u64, unit: &str) {
    // Work continues if stdout is closed.
    let _ = writeln!(std::io::stdout(), "\r{}", progress_bar(label, done, total, unit));
    if done == total {
        let _ = writeln!(std::io::stdout());
    }
}

/// `label ███░░░  50 %, 10 of 20 rows`, with the same width for each `done`.
pub fn progress_bar(label: &str, done: u64, total: u64, unit: &str) -> String {
    const WIDTH: u64 = 30;
    let share =
        |whole: u64| (u128::from(whole) * u128::from(done) / u128::from(total.max(1))) as usize;
    let (filled, percent) = (share(WIDTH), share(100));
    let (bar, rest) = ("█".repeat(filled), "░".repeat(WIDTH as usize - filled));
    let total = thousands(total);
    let done = thousands(done);
    format!(
        "{label} {bar}{rest} {percent:>3} %, {done:>width$} of {total} {unit}",
        width = total.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_has_the_same_width_for_each_progress() {
        let bar = |done| progress_bar("table", done, 2_000_000, "rows");
        assert_eq!(
            bar(1_000_000),
            "table ███████████████░░░░░░░░░░░░░░░  50 %, 1,000,000 of 2,000,000 rows"
        );
        for done in [0, 1, 999_999, 2_000_000] {
            assert_eq!(bar(done).chars().count(), bar(1).chars().count());
        }
        assert!(progress_bar("table", u64::MAX, u64::MAX, "rows").contains("100 %"));
    }
}
