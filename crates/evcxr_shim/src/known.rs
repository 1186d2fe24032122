//! Calls of rustc that are known: for the next cell of a kernel, cargo would make the same again.
//!
//! evcxr runs `cargo build` for every cell. cargo looks at all 325 packages each time, finds that
//! nothing has changed but the cell, and calls rustc as it did for the cell before. A known call
//! is kept in a folder: the words of the command, and what it depends on.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that holds a call, or will.
pub struct Call(PathBuf);

impl Call {
    /// The call that is kept in `folder`.
    pub fn at(folder: PathBuf) -> Call {
        Call(folder)
    }

    /// Whether the call is that for `key`.
    pub fn is_for(&self, key: &str) -> bool {
        fs::read_to_string(self.0.join("key")).is_ok_and(|known| known == key)
    }

    /// Becomes the call, after writing into `told` where the compiled cell will be; returns only if
    /// it cannot.
    pub fn repeat(&self, told: &Path) -> io::Error {
        match self.command(told) {
            Ok(mut command) => command.exec(),
            Err(error) => error,
        }
    }

    /// The call, after writing into `told` where the compiled cell will be.
    pub fn command(&self, told: &Path) -> io::Result<Command> {
        let text = fs::read_to_string(self.0.join("command"))?;
        let words: Vec<String> = text.split('\0').map(str::to_owned).collect();
        fs::copy(self.0.join("cell"), told)?;
        let variables = variables(&words);
        let program = words.get(variables).ok_or_else(|| io::Error::other("the call is empty"))?;
        let mut command = Command::new(program);
        command
            .envs(words[..variables].iter().filter_map(|word| word.split_once('=')))
            .args(&words[variables + 1..]);
        Ok(command)
    }

    /// The path of what the call compiles, if it is known.
    pub fn cell(&self) -> Option<PathBuf> {
        self.0.join("key").is_file().then_some(())?;
        fs::read_to_string(self.0.join("cell")).ok().map(PathBuf::from)
    }

    /// Forgets the call, so that a new one is never taken for complete before it is.
    pub fn forget(&self) {
        let _ = fs::remove_file(self.0.join("key"));
    }

    /// Keeps the call for `key` that `cargo -vv` says it has made, made [`quicker`], with `cell` as
    /// the file name of what it compiles; nothing if cargo has made none.
    pub fn learn(&self, key: &str, verbose: &str, cell: &str, library: &str) -> io::Result<()> {
        let Some(words) = call_in(verbose).map(|words| quicker(words, library)) else {
            return Ok(());
        };
        let directory = words.iter().skip_while(|word| *word != "--out-dir").nth(1);
        let Some(directory) = directory else { return Ok(()) };
        fs::create_dir_all(&self.0)?;
        fs::write(self.0.join("cell"), format!("{directory}/{cell}"))?;
        fs::write(self.0.join("command"), words.join("\0"))?;
        fs::write(self.0.join("key"), key)
    }
}

/// The crate that cells report with.
pub const CELL_CRATE: &str = "kernel_cell";

/// A call that does the same in less time, and links the cell with `library`, the compiled
/// `cell.rs`, and has the lines of its source in it. Warnings are off: evcxr shows none of a cell that
/// compiles, and shows them as errors of one that does not.
///
/// A cell is never compiled again with a small change, so what incremental compilation notes is
/// of no use; one unit of code is quicker than sixteen; nobody reads the dependencies; and of a
/// crate that is there as a shared library, too, the other form need not be looked at. Measured
/// with small cells: 0.36 s before; 0.23 with what they call compiled already; 0.21 with all this,
/// and 0.23 with the lines.
pub fn quicker(words: Vec<String>, library: &str) -> Vec<String> {
    let shared = |name: &str| {
        let prefix = format!("{name}=");
        words
            .iter()
            .any(|w| w.starts_with(&prefix) && (w.ends_with(".so") || w.ends_with(".dylib")))
    };
    let superseded = |word: &str| match word.split_once('=') {
        Some((name, path)) => path.ends_with(".rlib") && shared(name),
        None => false,
    };
    let mut made = Vec::new();
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        let next = rest.peek().map_or("", |next| next.as_str());
        let dropped = match word.as_str() {
            "-C" => ["incremental=", "strip=", "codegen-units=", "debuginfo="]
                .iter()
                .any(|option| next.starts_with(option)),
            "--extern" => superseded(next) || next.starts_with(&format!("{CELL_CRATE}=")),
            _ => false,
        };
        match (dropped, word.as_str()) {
            (true, _) => drop(rest.next()),
            (_, "-Awarnings") => {}
            (_, "--emit=dep-info,link") => made.push("--emit=link".to_owned()),
            (_, word) => made.push(word.to_owned()),
        }
    }
    made.extend(
        ["-Awarnings", "-Ccodegen-units=1", "-Cdebuginfo=line-tables-only", "--extern"]
            .map(str::to_owned),
    );
    made.push(format!("{CELL_CRATE}={library}"));
    made
}

/// How many words of a call are variables, before its program. That may be `rustc` alone, which would
/// be the name of one.
fn variables(words: &[String]) -> usize {
    words
        .iter()
        .take_while(|word| word.split_once('=').is_some_and(|(name, _)| is_name(name)))
        .count()
}

/// Whether `text` can be a variable's name, so that a word of a shell that begins with it and `=`
/// sets one.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The call of rustc for the cell's crate, in words, in what `cargo -vv` printed.
pub fn call_in(verbose: &str) -> Option<Vec<String>> {
    verbose
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("Running `")?.strip_suffix('`'))
        .map(words)
        .rfind(|words| words.windows(2).any(|pair| pair == ["--crate-name", "ctx"]))
}

/// A shell's command in words, quoted as cargo does: by single quotes, with `'\''` for one inside.
fn words(command: &str) -> Vec<String> {
    let (mut found, mut quoted, mut started) = (vec![String::new()], false, false);
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        let word = found.last_mut().expect("there is always one");
        match character {
            '\'' => (quoted, started) = (!quoted, true),
            '\\' if !quoted => word.extend(characters.next()),
            ' ' if !quoted => {
                if !word.is_empty() || started {
                    found.push(String::new());
                }
                started = false;
            }
            _ => word.push(character),
        }
    }
    if found.last().is_some_and(String::is_empty) && !started {
        found.pop();
    }
    found
}

/// What cargo says besides: its progress and errors without the words of each call.
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
    fn the_call_for_the_cell_is_found_with_its_words() {
        let words = call_in(VERBOSE).unwrap();
        assert_eq!(words[..4], ["A=1", "B=it's", "C=", "/rustc"]);
        assert_eq!(words.last().unwrap(), "/deps");
        assert_eq!(call_in("       Fresh ctx v1\n"), None);
    }

    #[test]
    fn a_quicker_call_keeps_what_matters() {
        let call = "/rustc --crate-name ctx src/lib.rs --emit=dep-info,link -C embed-bitcode=no -C codegen-units=16 -C incremental=/i -C strip=debuginfo --extern a=/liba.rlib --extern a=/liba.so --extern b=/libb.rlib -Cprefer-dynamic";
        let words = quicker(words(call), "/cell.rlib").join(" ");
        assert_eq!(
            words,
            "/rustc --crate-name ctx src/lib.rs --emit=link -C embed-bitcode=no --extern a=/liba.so --extern b=/libb.rlib -Cprefer-dynamic -Awarnings -Ccodegen-units=1 -Cdebuginfo=line-tables-only --extern kernel_cell=/cell.rlib"
        );
    }

    #[test]
    fn a_program_without_a_folder_is_no_variable() {
        assert_eq!(variables(&words("A=1 B= rustc --cfg=x")), 2);
        assert_eq!(variables(&words("/bin/rustc --cfg=x")), 0);
    }

    #[test]
    fn progress_and_errors_stay() {
        assert_eq!(without_calls(VERBOSE), "   Compiling ctx v1\n    Finished dev\n");
    }

    #[test]
    fn a_call_is_learnt_forgotten_and_for_one_key_only() {
        let folder = std::env::temp_dir().join(format!("known-{}", std::process::id()));
        let call = Call::at(folder.clone());
        call.learn("key", "no call\n", "libctx.so", "/l.rlib").unwrap();
        assert!(!call.is_for("key"));
        call.learn("key", VERBOSE, "libctx.so", "/l.rlib").unwrap();
        assert!(call.is_for("key") && !call.is_for("another"));
        assert_eq!(fs::read_to_string(folder.join("cell")).unwrap(), "/deps/libctx.so");
        call.forget();
        assert!(!call.is_for("key"));
        fs::remove_dir_all(folder).unwrap();
    }
}
