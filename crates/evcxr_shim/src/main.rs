//! A wrapper of cargo and rustup that evcxr calls in a kernel.
//!
//! evcxr requests the path of cargo from rustup, and runs `cargo build` for every cell. This program replaces
//! both, as `bin/rustup` and `bin/cargo` in the kernel's directory. It instruments the cell so that it
//! reports how it ended ([`source`]), and repeats a cached rustc call ([`rustc_call`]). All other commands
//! go to the real cargo, after the compiled dependencies have been linked into the kernel's directory.
//!
//! The cached call has the paths of the compiled dependencies in the cache, and of the library in the
//! kernel's directory. So the directory is small, and a running kernel keeps the library that it started
//! with. cargo would compile an edited library during the session, and the next cell would then use
//! another library than the one that created the stored variables.
//!
//! evcxr's commands `:cache`, `:sccache` and `:allow_static_linking` have no effect, because they only
//! concern dependencies, which are compiled already. Another toolchain than the kernel's is an error.
//!
//! The program's name or first argument selects the task:
//!
//! | program | task |
//! | --- | --- |
//! | `cargo`, `rustup` | the wrappers |
//! | `output-filter` | filters the output of cells ([`output`]) |
//! | `evcxr_shim parse-rustc-call RUNTIME` | reads the output of `cargo -vv` from stdin, and prints the arguments of the cell's rustc call, separated by zero bytes. The launcher caches this first call |

mod definitions;
mod edits;
mod impls;
mod lock;
mod output;
mod rustc_call;
mod source;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::{env, fs, io, process};

use definitions::Definitions;
use impls::DefinitionOrder;
use rustc_call::CachedCall;
use source::{Changed, Kernel};

/// Environment variables that make cargo call another program instead of rustc.
const WRAPPERS: [&str; 6] = [
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC",
    "EVCXR_RUSTC_WRAPPER",
    "EVCXR_FORCE_DYLIB",
    "EVCXR_CACHE_ENABLED",
];
/// The command that prints the rustc call of a cell.
const PARSE_RUSTC_CALL: &str = "parse-rustc-call";
/// Stack size in bytes, enough to parse a source with the deepest nesting that the compiler accepts.
const STACK: usize = 1 << 28;

/// The settings that the kernel's launcher writes into the file `settings` of the kernel's directory: a
/// line `NAME=VALUE` each. A name may occur several times.
struct Settings(Vec<(String, String)>);

impl Settings {
    fn read(directory: &Path) -> io::Result<Settings> {
        let text = fs::read_to_string(directory.join("settings"))?;
        let pair = |line: &str| {
            line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        Ok(Settings(text.lines().filter_map(pair).collect()))
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn get<'a>(&'a self, name: &'a str) -> io::Result<&'a str> {
        let missing = || {
            let message = format!("the kernel's settings have no {name}; restart the kernel");
            io::Error::other(message)
        };
        self.all(name).next().ok_or_else(missing)
    }
}

fn main() -> ExitCode {
    let program = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let result = match name.as_str() {
        "cargo" | "rustup" => directory().and_then(|directory| {
            let settings = Settings::read(&directory)?;
            match name.as_str() {
                "cargo" => cargo(&directory, &settings, &arguments),
                _ => rustup(&directory, &settings, &arguments),
            }
        }),
        output::NAME => filter_output(),
        _ => print_rustc_call(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: the kernel's cargo: {error}");
        ExitCode::FAILURE
    })
}

/// The kernel's directory, which the kernel's supervisor passes in the environment.
fn directory() -> io::Result<PathBuf> {
    let directory = env::var_os("EVCXR_SHIM_DIRECTORY").map(PathBuf::from);
    let missing = "EVCXR_SHIM_DIRECTORY is not set; this program runs only inside a kernel";
    directory.ok_or_else(|| io::Error::other(missing))
}

fn filter_output() -> io::Result<ExitCode> {
    let directory = directory()?;
    let (marker, ready) = (fs::read_to_string(directory.join("marker"))?, directory.join("ready"));
    output::filter(io::stdin().lock(), io::stdout().lock(), &marker, &ready)?;
    Ok(ExitCode::SUCCESS)
}

fn print_rustc_call(arguments: &[OsString]) -> io::Result<ExitCode> {
    let [command, runtime] = arguments else {
        return Err(io::Error::other("usage: evcxr_shim parse-rustc-call RUNTIME <CARGO_OUTPUT"));
    };
    if command != PARSE_RUSTC_CALL {
        let message = format!("unknown command {}; use: {PARSE_RUSTC_CALL}", command.display());
        return Err(io::Error::other(message));
    }
    let runtime = runtime.to_string_lossy();
    let mut verbose = String::new();
    io::stdin().read_to_string(&mut verbose)?;
    let call = rustc_call::parse(&verbose).map(|call| rustc_call::optimized(call, &runtime));
    let call = call.unwrap_or_default();
    io::stdout().write_all(call.join("\0").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn rustup(directory: &Path, settings: &Settings, arguments: &[OsString]) -> io::Result<ExitCode> {
    let programs = directory.join("bin");
    // `+TOOLCHAIN` is ignored here; `cargo` then rejects the other toolchain.
    let without_toolchain: Vec<_> =
        arguments.iter().filter(|argument| !argument.to_string_lossy().starts_with('+')).collect();
    if without_toolchain == ["which", "cargo"] {
        println!("{}", programs.join("cargo").display());
        return Ok(ExitCode::SUCCESS);
    }
    if arguments == ["which", "rustc"] {
        println!("{}", settings.get("rustc")?);
        return Ok(ExitCode::SUCCESS);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let others = env::split_paths(&path).filter(|folder| *folder != programs);
    let others = env::join_paths(others).map_err(io::Error::other)?;
    Err(Command::new("rustup").args(arguments).env("PATH", others).exec())
}

fn cargo(directory: &Path, settings: &Settings, arguments: &[OsString]) -> io::Result<ExitCode> {
    let utf8_arguments: Vec<String> =
        arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let real = settings.get("cargo")?;
    let cargo = || {
        let mut command = Command::new(real);
        for name in WRAPPERS {
            command.env_remove(name);
        }
        // Empty: no wrapper, whatever a configuration file sets.
        command.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
        command
    };
    let has = |argument: &str| utf8_arguments.iter().any(|each| each == argument);
    if has("clean") {
        // evcxr cleans after `:allow_static_linking`, which has no effect here.
        return Ok(ExitCode::SUCCESS);
    }
    let (builds, checks) = (has("build"), has("check"));
    if builds || checks {
        report_compilation(directory)?;
        if let Some(rustc) = env::var_os("RUSTC")
            && rustc != settings.get("rustc")?
        {
            return Ok(report_error(&format!(
                "{} cannot compile this cell, because the kernel's library was compiled with {}. \
                 Restart the kernel, and do not use `:toolchain`.",
                rustc.display(),
                settings.get("rustc")?,
            )));
        }
    }
    let manifest = fs::read_to_string("Cargo.toml").unwrap_or_default();
    let library = settings.get("library")?;
    let uses_library =
        manifest.lines().any(|line| line.trim_start().starts_with(&format!("{library} = ")));
    let pinned = directory.join("config/Cargo.lock");
    if uses_library && !lock::contains(Path::new(lock::FILE), library) {
        fs::copy(pinned, lock::FILE)?;
    }
    if has("metadata") {
        return lock::preserve(|| cargo().args(arguments).status());
    }
    let mut defines_display = false;
    if builds || checks {
        let interruptible = settings.all("interruptible").next().filter(|_| uses_library);
        defines_display = instrument_source(directory, interruptible, checks)?;
    }

    let key = key(&utf8_arguments, &manifest);
    let calls = directory.join("calls");
    // The file into which evcxr expects the path of the compiled cell.
    let path = env::var_os("EVCXR_EXECUTION_SO_PATH").map(PathBuf::from).unwrap_or_default();
    if builds {
        let cached = ["with_library", "previous", "without_library"]
            .map(|name| CachedCall::at(calls.join(name)));
        if let Some(call) = cached.iter().find(|call| call.matches(&key)) {
            if !defines_display {
                return Err(call.repeat(&path));
            }
            let result = call.command(&path)?.stdout(Stdio::inherit()).output()?;
            let messages = String::from_utf8_lossy(&result.stderr);
            io::stderr().write_all(without_display_hints(&messages).as_bytes())?;
            return Ok(exit_code(result.status));
        }
    }

    // Before the first real cargo call, link the compiled dependencies into the kernel's directory.
    if uses_library && !Path::new("target/.linked").exists() {
        let link: Vec<&str> = settings.all("link").collect();
        let missing = "the kernel's settings have no link; restart the kernel";
        let (program, rest) = link.split_first().ok_or_else(|| io::Error::other(missing))?;
        if !Command::new(program).args(rest).status()?.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    if checks {
        // `cargo rustc --profile=check` is `cargo check` with arguments for rustc.
        let check = utf8_arguments
            .iter()
            .map(|argument| if argument == "check" { "rustc" } else { argument });
        return Err(cargo().args(check).args(["--profile=check", "--", "-Awarnings"]).exec());
    }
    if !builds {
        return Err(cargo().args(arguments).exec());
    }
    let call = CachedCall::at(calls.join("previous"));
    call.invalidate();
    // `cargo rustc` is `cargo build` with more arguments for the cell's crate.
    let rustc =
        utf8_arguments.iter().map(|argument| if argument == "build" { "rustc" } else { argument });
    let runtime = settings.get("cell_runtime")?;
    let dependency = format!("{}={runtime}", rustc_call::CELL_CRATE);
    let result =
        cargo().args(rustc).args(["-vv", "--", "-Awarnings", "--extern", &dependency]).output()?;
    let messages = String::from_utf8_lossy(&result.stdout);
    let messages = match defines_display {
        true => without_display_hints(&messages),
        false => messages.into_owned(),
    };
    io::stdout().write_all(messages.as_bytes())?;
    let verbose = String::from_utf8_lossy(&result.stderr);
    io::stderr().write_all(rustc_call::without_calls(&verbose).as_bytes())?;
    if result.status.success() {
        let artifact_name = settings.get("artifact_name")?;
        call.store(&key, &verbose, artifact_name, runtime)?;
        report_path(directory, &call.artifact_path(), artifact_name, &utf8_arguments, &path)?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// Changes the file name in compiler hints about a user's trait with a method `evcxr_display`.
///
/// evcxr displays a value first with this method, and then in other ways. It does not try them if a message
/// refers to a line of the user's code, as such a hint does.
fn without_display_hints(messages: &str) -> String {
    let (children, file) = ("\"children\":[", "\"file_name\":\"src/lib.rs\"");
    let without = |line: &str| match line.split_once(children) {
        Some((head, hints)) if line.contains("\"E0599\"") && line.contains("evcxr_display") => {
            format!("{head}{children}{}\n", hints.replace(file, "\"file_name\":\"a hint\""))
        }
        _ => format!("{line}\n"),
    };
    messages.lines().map(without).collect()
}

fn exit_code(status: ExitStatus) -> ExitCode {
    match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Reports an error to evcxr in the compiler's JSON format.
fn report_error(message: &str) -> ExitCode {
    let text = message.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    println!(
        "{{\"reason\":\"compiler-message\",\"message\":{{\"message\":\"{text}\",\"code\":null,\
         \"level\":\"error\",\"spans\":[],\"children\":[],\"rendered\":\"error: {text}\\n\"}}}}"
    );
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

/// Writes the path of the compiled cell into the file `report`. The path is `cached`, or, if cargo had
/// nothing to compile, cargo's usual output path.
///
/// cargo resolves symbolic links in that path. evcxr rejects spaces in it, so a clone with a space in its
/// path has a link to the kernel's directory, and the reported path must use this link.
fn report_path(
    directory: &Path,
    cached: &Option<PathBuf>,
    artifact_name: &str,
    arguments: &[String],
    report: &Path,
) -> io::Result<()> {
    let platform = arguments.iter().skip_while(|argument| *argument != "--target").nth(1);
    let usual = platform.map(|platform| {
        directory.join("project/target").join(platform).join("debug").join(artifact_name)
    });
    let compiled = cached.as_deref().map(|path| unresolved(path, directory)).or(usual);
    match compiled.filter(|path| path.is_file()) {
        Some(path) => fs::write(report, path.as_os_str().as_encoded_bytes()),
        None => Ok(()),
    }
}

/// Replaces the resolved form of `directory` at the start of `path` with `directory`.
fn unresolved(path: &Path, directory: &Path) -> PathBuf {
    let resolved = fs::canonicalize(directory).ok();
    let rest = resolved.and_then(|resolved| path.strip_prefix(resolved).ok().map(Path::to_owned));
    rest.map_or_else(|| path.to_owned(), |rest| directory.join(rest))
}

/// The cache key of a call: the flags, cargo's arguments and the manifest.
fn key(arguments: &[String], manifest: &str) -> String {
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    format!("{flags}\n{}\n{manifest}", arguments.join(" ")).trim_end().to_owned()
}

/// Reports this process, which compiles, to the kernel's supervisor. An error if the cell was interrupted.
fn report_compilation(directory: &Path) -> io::Result<()> {
    let mut pipe = fs::OpenOptions::new().write(true).open(directory.join("events"))?;
    write!(pipe, "compile\u{1f}{}\u{1e}", process::id())?;
    match directory.join("interrupted").exists() {
        true => Err(io::Error::other("interrupted")),
        false => Ok(()),
    }
}

/// Instruments the cell's source before its compilation; see [`source`]. Returns whether a cell defines a
/// trait with a method `evcxr_display`.
fn instrument_source(
    directory: &Path,
    interruptible: Option<&str>,
    checks: bool,
) -> io::Result<bool> {
    let file = Path::new("src/lib.rs");
    let source = fs::read_to_string(file)?;
    let code = fs::read_to_string(directory.join("cell_code.rs")).unwrap_or_default();
    let (interruptible, kernel) = (interruptible.map(str::to_owned), directory.to_owned());
    let work = move || -> io::Result<Changed> {
        let kept = kernel.join("impls");
        let order = DefinitionOrder::read(&kept, &code);
        order.write(&kept)?;
        if checks {
            let compiled = source::analysed(&source, &order, Path::new("src"));
            return Ok(Changed { compiled, shown: source, defines_display: false });
        }
        Ok(source::instrumented(
            &source,
            &Kernel {
                interruptible: interruptible.as_deref(),
                order: &order,
                folder: Path::new("src"),
                redefined: &|definitions| redefined(&kernel, definitions),
            },
        ))
    };
    let changed = std::thread::Builder::new().stack_size(STACK).spawn(work)?.join();
    let changed =
        changed.map_err(|_| {
        io::Error::other(
            "evcxr_shim panicked while it instrumented the cell. Split the cell, and rewrite the statement that causes this",
        )
    })??;
    fs::write(directory.join("generated"), changed.shown)?;
    fs::write(file, changed.compiled)?;
    Ok(changed.defines_display)
}

/// Counts the redefinitions of types in the kernel's process, including those of this cell.
///
/// The file `definitions` has the count and the hash of each type. This function writes the new state to
/// `definitions.next`, and the cell renames it when it starts to run. So a cell that does not compile
/// redefines nothing.
fn redefined(directory: &Path, definitions: &Definitions) -> u64 {
    let stored = fs::read_to_string(directory.join("definitions")).unwrap_or_default();
    let (count, types) = stored.split_once('\n').unwrap_or(("0", ""));
    let mut count: u64 = count.parse().unwrap_or(0);
    let mut all: BTreeMap<String, u64> = types
        .lines()
        .filter_map(|line| {
            line.split_once(' ').and_then(|(h, n)| Some((n.into(), h.parse().ok()?)))
        })
        .collect();
    for (name, hash) in definitions.types() {
        if all.insert(name, hash).is_some_and(|before| before != hash) {
            count += 1;
        }
    }
    let lines: String = all.iter().map(|(name, hash)| format!("{hash} {name}\n")).collect();
    // If this write fails, a later cell would read a count that is too low, and could reuse a trait object
    // of an old type. With the maximum as count, all stored trait objects are dropped now.
    let written = fs::write(directory.join("definitions.next"), format!("{count}\n{lines}"));
    if written.is_err() { u64::MAX } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_path_uses_the_link_to_the_kernels_directory() {
        let folder = env::temp_dir().join(format!("kernel-link-{}", process::id()));
        let real = folder.join("with a space");
        let file = "project/target/host/debug/libctx.so";
        fs::create_dir_all(real.join(file).parent().unwrap()).unwrap();
        fs::write(real.join(file), "").unwrap();
        let (link, report) = (folder.join("link"), folder.join("report"));
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let real = fs::canonicalize(real).unwrap();
        let arguments = ["build", "--target", "host"].map(str::to_owned);
        for cached in [Some(real.join(file)), None] {
            report_path(&link, &cached, "libctx.so", &arguments, &report).unwrap();
            assert_eq!(fs::read_to_string(&report).unwrap(), link.join(file).to_str().unwrap());
            fs::remove_file(&report).unwrap();
        }
        assert_eq!(unresolved(Path::new("/elsewhere"), &link), Path::new("/elsewhere"));
        fs::remove_dir_all(folder).unwrap();
    }
}
