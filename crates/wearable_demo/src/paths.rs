//! Where data and outputs are.
//!
//! The same code runs from the repository's root, from `notebooks/` (a kernel's working directory)
//! and from a crate's directory (a test's). So the project is looked for from the working directory
//! upwards; environment variables override what is found.

use std::path::{Path, PathBuf};

pub use dataset_writer::short_path as short;

use crate::error::{Error, Result};

/// Environment variable that names the data directory.
pub const DATA_DIR_VARIABLE: &str = "WEARABLE_DATA_DIR";
/// Environment variable that names the output directory.
pub const OUTPUT_DIR_VARIABLE: &str = "WEARABLE_OUTPUT_DIR";

/// A file that only this project's root has below it.
const MARKER: &str = "crates/wearable_demo/Cargo.toml";

/// The directories that the walkthrough reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Directory of the dataset.
    pub data: PathBuf,
    /// Directory for results.
    pub outputs: PathBuf,
}

impl Paths {
    /// Finds both directories: `$WEARABLE_DATA_DIR` and `$WEARABLE_OUTPUT_DIR` where they are set
    /// and not empty (a relative one counts from the working directory), else `data` and `outputs`
    /// in the project that the working directory is in.
    ///
    /// # Errors
    ///
    /// [`Error::NoProject`] where a variable is not set and no directory from the working directory
    /// upwards is the project; [`Error::Io`] where the working directory cannot be read.
    pub fn locate() -> Result<Paths> {
        let cwd = std::env::current_dir().map_err(Error::io("read", Path::new(".")))?;
        Paths::locate_from(&cwd, environment)
    }

    /// The data directory alone, found as [`locate`](Paths::locate) does.
    ///
    /// # Errors
    ///
    /// As [`locate`](Paths::locate), for that directory.
    pub fn locate_data() -> Result<PathBuf> {
        let cwd = std::env::current_dir().map_err(Error::io("read", Path::new(".")))?;
        directory(&cwd, DATA_DIR_VARIABLE, "data", environment)
    }

    fn locate_from(cwd: &Path, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Paths> {
        Ok(Paths {
            data: directory(cwd, DATA_DIR_VARIABLE, "data", &variable)?,
            outputs: directory(cwd, OUTPUT_DIR_VARIABLE, "outputs", &variable)?,
        })
    }

    /// `name` in the output directory, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where the directory cannot be made.
    pub fn output(&self, name: &str) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.outputs).map_err(Error::io("create", &self.outputs))?;
        Ok(self.outputs.join(name))
    }
}

fn environment(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

fn directory(
    cwd: &Path,
    name: &'static str,
    fallback: &str,
    variable: impl Fn(&str) -> Option<PathBuf>,
) -> Result<PathBuf> {
    if let Some(path) = variable(name).filter(|p| !p.as_os_str().is_empty()) {
        return Ok(cwd.join(path));
    }
    let root = cwd.ancestors().find(|dir| dir.join(MARKER).is_file());
    root.map(|root| root.join(fallback))
        .ok_or_else(|| Error::NoProject { cwd: cwd.to_owned(), variable: name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_from_the_root_the_notebooks_and_a_crate() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        for cwd in [root.clone(), root.join("notebooks"), root.join("crates/wearable_demo/src")] {
            let paths = Paths::locate_from(&cwd, |_| None).unwrap();
            assert_eq!(paths, Paths { data: root.join("data"), outputs: root.join("outputs") });
        }
    }

    #[test]
    fn variables_override_and_relative_ones_count_from_the_working_directory() {
        let cwd = Path::new("/nowhere");
        let paths = Paths::locate_from(cwd, |v| {
            Some(PathBuf::from(if v == DATA_DIR_VARIABLE { "/elsewhere/d" } else { "o" }))
        });
        let expected = Paths { data: "/elsewhere/d".into(), outputs: "/nowhere/o".into() };
        assert_eq!(paths.unwrap(), expected);
    }

    #[test]
    fn outside_the_project_the_error_names_the_variable() {
        let error = Paths::locate_from(Path::new("/nowhere"), |_| Some(PathBuf::new()));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("/nowhere") && message.contains(DATA_DIR_VARIABLE), "{message}");
    }
}
