//! The lock file of a kernel's project, which is the workspace's as long as the library is used.
//!
//! cargo takes from a lock file what the manifest of the moment does not need, and so forgets the
//! versions of everything else: evcxr asks it about each new dependency by a manifest that has
//! nothing but that, and compiles cells that come before the first `:dep` by one that is empty. The
//! next resolution would then choose the newest versions, and compile all of them.

use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::{fs, io};

/// In the project's directory, where cargo is called.
pub const FILE: &str = "Cargo.lock";

/// Whether a lock file has a version of `package`.
pub fn names(file: &Path, package: &str) -> bool {
    let name = format!("name = \"{package}\"");
    fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line == name))
}

/// Runs a cargo that is only asked a question, and undoes what it does to the lock file.
pub fn kept(ask: impl FnOnce() -> io::Result<ExitStatus>) -> io::Result<ExitCode> {
    let before = fs::read(FILE).ok();
    let answered = ask();
    if let Some(before) = before
        && fs::read(FILE).ok().as_ref() != Some(&before)
    {
        fs::write(FILE, before)?;
    }
    Ok(match answered?.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
