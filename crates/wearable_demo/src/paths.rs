//! The directories of the dataset and of the results.
//!
//! The same code runs from the repository's root, from `notebooks/` (a kernel's working directory),
//! from a crate's directory (a test's), and from a learner's own folder. So the project is searched
//! from the working directory upwards, then in the project that this library was compiled in.
//! Environment variables override both.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Environment variable that names the data directory.
pub const DATA_DIR_VARIABLE: &str = "WEARABLE_DATA_DIR";
/// Environment variable that names the output directory.
pub const OUTPUT_DIR_VARIABLE: &str = "WEARABLE_OUTPUT_DIR";

/// A file that identifies the project's root.
const MARKER: &str = "crates/wearable_demo/Cargo.toml";
/// The directory of this library when it was compiled. The project may have moved since then.
const LIBRARY: &str = env!("CARGO_MANIFEST_DIR");

/// The directories that the walkthrough reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Directory of the dataset.
    pub data: PathBuf,
    /// Directory for results.
    pub outputs: PathBuf,
}

impl Paths {
    /// Finds both directories. Each is the first of:
    ///
    /// 1. `$WEARABLE_DATA_DIR` or `$WEARABLE_OUTPUT_DIR`, relative to the working directory;
    /// 2. `data` or `outputs` in the project that contains the working directory;
    /// 3. `data` or `outputs` in the project that this library was compiled in.
    ///
    /// # Errors
    ///
    /// [`Error::NoProject`] if neither variable nor project exists; [`Error::Io`] if the working
    /// directory cannot be read.
    pub fn locate() -> Result<Paths> {
        let [data, outputs] =
            [(DATA_DIR_VARIABLE, "data"), (OUTPUT_DIR_VARIABLE, "outputs")].map(locate);
        Ok(Paths { data: data?, outputs: outputs? })
    }

    /// Finds only the data directory, as [`locate`](Paths::locate) finds it.
    ///
    /// # Errors
    ///
    /// As [`locate`](Paths::locate), for that directory.
    pub fn locate_data() -> Result<PathBuf> {
        locate((DATA_DIR_VARIABLE, "data"))
    }

    /// `name` in the output directory, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory cannot be created.
    pub fn output(&self, name: &str) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.outputs).map_err(Error::io("create", &self.outputs))?;
        Ok(self.outputs.join(name))
    }
}

fn locate((variable, name): (&'static str, &str)) -> Result<PathBuf> {
    let cwd = std::env::current_dir().map_err(Error::io("read", Path::new(".")))?;
    directory(&cwd, std::env::var_os(variable), Path::new(LIBRARY), name)
        .ok_or(Error::NoProject { cwd, variable })
}

/// The variable's `value`, otherwise `name` in the project around `cwd` or around `library`.
fn directory(cwd: &Path, value: Option<OsString>, library: &Path, name: &str) -> Option<PathBuf> {
    if let Some(path) = value.filter(|value| !value.is_empty()) {
        return Some(cwd.join(path));
    }
    let mut directories = cwd.ancestors().chain(library.ancestors());
    let root = directories.find(|directory| directory.join(MARKER).is_file())?;
    Some(root.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(LIBRARY).ancestors().nth(2).unwrap().to_owned()
    }

    #[test]
    fn project_around_the_working_directory_is_found() {
        for cwd in [root(), root().join("notebooks"), root().join("crates/wearable_demo/src")] {
            assert_eq!(
                directory(&cwd, None, Path::new("/moved"), "data"),
                Some(root().join("data"))
            );
        }
    }

    #[test]
    fn project_of_the_library_is_found_from_another_folder() {
        let folder = Path::new("/home/learner");
        let found = directory(folder, Some("".into()), Path::new(LIBRARY), "data");
        assert_eq!(found, Some(root().join("data")));
        assert_eq!(directory(folder, None, Path::new("/moved"), "data"), None);
    }

    #[test]
    fn variable_overrides_the_project_and_may_be_relative() {
        let find = |value: &str| directory(&root(), Some(value.into()), Path::new(LIBRARY), "data");
        assert_eq!(find("/elsewhere/d"), Some("/elsewhere/d".into()));
        assert_eq!(find("d"), Some(root().join("d")));
    }

    #[test]
    fn error_names_the_variable() {
        let error = Error::NoProject { cwd: "/nowhere".into(), variable: DATA_DIR_VARIABLE };
        let message = error.to_string();
        assert!(message.contains("/nowhere") && message.contains(DATA_DIR_VARIABLE), "{message}");
    }
}
