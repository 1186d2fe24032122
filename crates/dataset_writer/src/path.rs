//! Paths and sizes in the form that messages and notebooks show.

use std::path::{Path, PathBuf};

/// The last two components of `path`, such as `outputs/summary.csv`. Notebooks show these instead of
/// the whole path, so that their outputs are the same on every machine.
pub fn short_path(path: &Path) -> String {
    let parts: Vec<_> = path.components().rev().take(2).collect();
    parts.iter().rev().collect::<PathBuf>().display().to_string()
}

/// Converts bytes to MB (1,000,000 bytes).
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_path_keeps_the_last_two_components() {
        assert_eq!(short_path(Path::new("/a/b/outputs/x.csv")), "outputs/x.csv");
        assert_eq!(short_path(Path::new("x.csv")), "x.csv");
    }
}
