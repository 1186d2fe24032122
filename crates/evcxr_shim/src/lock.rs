//! Keeps the lock file of a kernel's project, which is a copy of the workspace's while cells use the library.
//!
//! cargo removes versions from a lock file that the current manifest does not need. evcxr resolves each new
//! dependency with a manifest that has only this dependency, and compiles cells before the first `:dep`
//! with an empty one. The next resolution would then select the newest versions, and compile all of them.

use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::{fs, io};

/// The lock file, relative to the project's directory, in which cargo is called.
pub const FILE: &str = "Cargo.lock";

/// Whether a lock file has a version of `package`.
pub fn contains(file: &Path, package: &str) -> bool {
    let name = format!("name = \"{package}\"");
    fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line == name))
}

/// Runs a cargo query, such as `cargo metadata`, and restores the lock file if cargo changed it.
pub fn preserve(query: impl FnOnce() -> io::Result<ExitStatus>) -> io::Result<ExitCode> {
    let before = fs::read(FILE).ok();
    let status = query();
    if let Some(before) = before
        && fs::read(FILE).ok().as_ref() != Some(&before)
    {
        fs::write(FILE, before)?;
    }
    Ok(match status?.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
