//! Caches cargo's call of rustc, so that the next cell of a kernel compiles without cargo.
//!
//! evcxr runs `cargo build` for every cell. cargo checks all 325 packages each time, finds that only the
//! cell has changed, and repeats the rustc call of the previous cell. A cached call is a folder with the
//! command, its key, and the path of the compiled cell.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of a cached call; it may be empty.
pub struct CachedCall(PathBuf);

impl CachedCall {
    /// The call whose files are in `folder`.
    pub fn at(folder: PathBuf) -> CachedCall {
        CachedCall(folder)
    }

    /// Whether a call with this key is cached.
    pub fn matches(&self, key: &str) -> bool {
        fs::read_to_string(self.0.join("key")).is_ok_and(|cached| cached == key)
    }

    /// Writes the path of the compiled cell into the file `report`, and replaces this process with the
    /// call. Returns only on an error.
    pub fn repeat(&self, report: &Path) -> io::Error {
        match self.command(report) {
            Ok(mut command) => command.exec(),
            Err(error) => error,
        }
    }

    /// Writes the path of the compiled cell into the file `report`, and returns the call.
    pub fn command(&self, report: &Path) -> io::Result<Command> {
        let text = fs::read_to_string(self.0.join("command"))?;
        let arguments: Vec<String> = text.split('\0').map(str::to_owned).collect();
        fs::copy(self.0.join("artifact_path"), report)?;
        let variables = variables(&arguments);
        let empty =
            || io::Error::other("the file with the cached rustc call is empty. Restart the kernel");
        let program = arguments.get(variables).ok_or_else(empty)?;
        let mut command = Command::new(program);
        command
            .envs(arguments[..variables].iter().filter_map(|argument| argument.split_once('=')))
            .args(&arguments[variables + 1..]);
        Ok(command)
    }

    /// The path of the compiled cell, if a call is cached.
    pub fn artifact_path(&self) -> Option<PathBuf> {
        self.0.join("key").is_file().then_some(())?;
        fs::read_to_string(self.0.join("artifact_path")).ok().map(PathBuf::from)
    }

    /// Removes the key, so that a new call is not used before it is complete.
    pub fn invalidate(&self) {
        let _ = fs::remove_file(self.0.join("key"));
    }

    /// Stores the call that `cargo -vv` has printed in `verbose`, [`optimized`], with its `key`.
    /// `artifact_name` is the file name of the compiled cell. Stores nothing if cargo did not call rustc.
    pub fn store(
        &self,
        key: &str,
        verbose: &str,
        artifact_name: &str,
        runtime: &str,
    ) -> io::Result<()> {
        let Some(arguments) = parse(verbose).map(|arguments| optimized(arguments, runtime)) else {
            return Ok(());
        };
        let directory = arguments.iter().skip_while(|argument| *argument != "--out-dir").nth(1);
        let Some(directory) = directory else { return Ok(()) };
        fs::create_dir_all(&self.0)?;
        fs::write(self.0.join("artifact_path"), format!("{directory}/{artifact_name}"))?;
        fs::write(self.0.join("command"), arguments.join("\0"))?;
        fs::write(self.0.join("key"), key)
    }
}

/// The crate with the runtime of a cell; see `cell.rs`.
pub const CELL_CRATE: &str = "kernel_cell";

/// Returns an equivalent call that takes less time, and links the cell with `runtime`, the compiled
/// `cell.rs`. The compiled cell has line numbers, for the places of panics. Warnings are off, because evcxr
/// shows them only if a cell does not compile, and then as errors.
///
/// The changes, and their reasons:
///
/// - no incremental compilation, because each cell is compiled once
/// - one codegen unit, which is faster than sixteen for small crates
/// - no dependency file, because only cargo reads it
/// - of a crate that exists as a shared library and as an rlib, only the shared library
///
/// A small cell took 0.36 s before; 0.21 s with these changes, and 0.23 s with line numbers.
pub fn optimized(arguments: Vec<String>, runtime: &str) -> Vec<String> {
    let shared = |name: &str| {
        let prefix = format!("{name}=");
        arguments
            .iter()
            .any(|w| w.starts_with(&prefix) && (w.ends_with(".so") || w.ends_with(".dylib")))
    };
    let superseded = |argument: &str| match argument.split_once('=') {
        Some((name, path)) => path.ends_with(".rlib") && shared(name),
        None => false,
    };
    let mut call = Vec::new();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        let next = rest.peek().map_or("", |next| next.as_str());
        let dropped = match argument.as_str() {
            "-C" => ["incremental=", "strip=", "codegen-units=", "debuginfo="]
                .iter()
                .any(|option| next.starts_with(option)),
            "--extern" => superseded(next) || next.starts_with(&format!("{CELL_CRATE}=")),
            _ => false,
        };
        match (dropped, argument.as_str()) {
            (true, _) => drop(rest.next()),
            (_, "-Awarnings") => {}
            (_, "--emit=dep-info,link") => call.push("--emit=link".to_owned()),
            (_, argument) => call.push(argument.to_owned()),
        }
    }
    call.extend(
        ["-Awarnings", "-Ccodegen-units=1", "-Cdebuginfo=line-tables-only", "--extern"]
            .map(str::to_owned),
    );
    call.push(format!("{CELL_CRATE}={runtime}"));
    call
}

/// The number of environment variables (`NAME=VALUE`) before the program of a call.
fn variables(arguments: &[String]) -> usize {
    arguments
        .iter()
        .take_while(|argument| argument.split_once('=').is_some_and(|(name, _)| is_name(name)))
        .count()
}

/// Whether `text` can be the name of an environment variable.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Returns the last rustc call for the cell's crate in the output of `cargo -vv`, as a list of arguments.
pub fn parse(verbose: &str) -> Option<Vec<String>> {
    verbose
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("Running `")?.strip_suffix('`'))
        .map(split_words)
        .rfind(|arguments| arguments.windows(2).any(|pair| pair == ["--crate-name", "ctx"]))
}

/// Splits a shell command with cargo's quoting: single quotes, and `'\''` for a quote inside.
fn split_words(command: &str) -> Vec<String> {
    let (mut words, mut quoted, mut started) = (vec![String::new()], false, false);
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        let word = words.last_mut().expect("the list starts with one word");
        match character {
            '\'' => (quoted, started) = (!quoted, true),
            '\\' if !quoted => word.extend(characters.next()),
            ' ' if !quoted => {
                if !word.is_empty() || started {
                    words.push(String::new());
                }
                started = false;
            }
            _ => word.push(character),
        }
    }
    if words.last().is_some_and(String::is_empty) && !started {
        words.pop();
    }
    words
}

/// Removes the rustc calls from the output of `cargo -vv`; its progress and errors remain.
pub fn without_calls(verbose: &str) -> String {
    let is_call = |line: &str| {
        let line = line.trim_start();
        ["Fresh ", "Dirty ", "Running "].iter().any(|word| line.starts_with(word))
    };
    verbose.lines().filter(|line| !is_call(line)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBOSE: &str = "       Fresh polars v1
     Running `A=1 B='two words' /rustc --crate-name other --out-dir /x`
   Compiling ctx v1
     Running `A=1 B='it'\\''s' C='' /rustc --crate-name ctx src/lib.rs --out-dir /deps`
    Finished dev
";

    #[test]
    fn call_of_the_cells_crate_is_parsed() {
        let arguments = parse(VERBOSE).unwrap();
        assert_eq!(arguments[..4], ["A=1", "B=it's", "C=", "/rustc"]);
        assert_eq!(arguments.last().unwrap(), "/deps");
        assert_eq!(parse("       Fresh ctx v1\n"), None);
    }

    #[test]
    fn optimized_call_keeps_the_other_arguments() {
        let call = "/rustc --crate-name ctx src/lib.rs --emit=dep-info,link -C embed-bitcode=no -C codegen-units=16 -C incremental=/i -C strip=debuginfo --extern a=/liba.rlib --extern a=/liba.so --extern b=/libb.rlib -Cprefer-dynamic";
        let arguments = optimized(split_words(call), "/cell.rlib").join(" ");
        assert_eq!(
            arguments,
            "/rustc --crate-name ctx src/lib.rs --emit=link -C embed-bitcode=no --extern a=/liba.so --extern b=/libb.rlib -Cprefer-dynamic -Awarnings -Ccodegen-units=1 -Cdebuginfo=line-tables-only --extern kernel_cell=/cell.rlib"
        );
    }

    #[test]
    fn program_without_a_folder_is_not_a_variable() {
        assert_eq!(variables(&split_words("A=1 B= rustc --cfg=x")), 2);
        assert_eq!(variables(&split_words("/bin/rustc --cfg=x")), 0);
    }

    #[test]
    fn progress_and_errors_remain() {
        assert_eq!(without_calls(VERBOSE), "   Compiling ctx v1\n    Finished dev\n");
    }

    #[test]
    fn stored_call_matches_only_its_key_until_invalidated() {
        let folder = std::env::temp_dir().join(format!("call-{}", std::process::id()));
        let call = CachedCall::at(folder.clone());
        call.store("key", "no call\n", "libctx.so", "/l.rlib").unwrap();
        assert!(!call.matches("key"));
        call.store("key", VERBOSE, "libctx.so", "/l.rlib").unwrap();
        assert!(call.matches("key") && !call.matches("another"));
        assert_eq!(fs::read_to_string(folder.join("artifact_path")).unwrap(), "/deps/libctx.so");
        call.invalidate();
        assert!(!call.matches("key"));
        fs::remove_dir_all(folder).unwrap();
    }
}
