//! The cargo that evcxr finds in a kernel, and the rustup that leads there.
//!
//! evcxr finds cargo through rustup, and runs `cargo build` for every cell. This program stands in
//! both places, in `bin/` of the kernel's directory. It has the cell report how it ended
//! ([`source`]), and repeats a call of rustc that it knows ([`known`]); anything else goes to the
//! real cargo, after what is compiled already has been linked into the kernel's directory.
//!
//! The call names the compiled dependencies in the cache's folder and the library in the kernel's
//! own, so a kernel's directory starts nearly empty. And a running kernel stays with the library
//! that it was started with: cargo would compile an edited one in the middle of a session, and the
//! next cell would be linked with another library than the variables were made by.
//!
//! `:cache`, `:sccache` and `:allow_static_linking` have no effect: their wrappers of rustc are for
//! dependencies, which are compiled already. Another toolchain than the kernel's is refused.
//!
//! `evcxr_shim words LIBRARY` prints the words of a known call, with zero bytes between them, by
//! what `cargo -vv` has printed: for the launcher, which learns the first call from the template.
//! As `output-filter` it filters the output of cells ([`output`]).

mod definitions;
mod edits;
mod impls;
mod known;
mod lock;
mod output;
mod source;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::{env, fs, io, process};

use definitions::Definitions;
use impls::Order;
use known::Call;
use source::{Changed, Kernel};

/// Variables that have cargo call another program instead of rustc.
const WRAPPERS: [&str; 6] = [
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC",
    "EVCXR_RUSTC_WRAPPER",
    "EVCXR_FORCE_DYLIB",
    "EVCXR_CACHE_ENABLED",
];
/// Enough for a source that is nested as deeply as the compiler takes it.
const STACK: usize = 1 << 28;

/// What the kernel's launcher says, in a file `settings` of the kernel's directory: a line for each
/// setting, its name and value with `=` between them.
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
        let missing = || io::Error::other(format!("the kernel's settings have no {name}"));
        self.all(name).next().ok_or_else(missing)
    }
}

fn main() -> ExitCode {
    let program = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let done = match name.as_str() {
        "cargo" | "rustup" => directory().and_then(|directory| {
            let settings = Settings::read(&directory)?;
            match name.as_str() {
                "cargo" => cargo(&directory, &settings, &arguments),
                _ => rustup(&directory, &settings, &arguments),
            }
        }),
        output::NAME => filter_output(),
        _ => print_words(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: the kernel's cargo: {error}");
        ExitCode::FAILURE
    })
}

/// The kernel's directory, as its companion says.
fn directory() -> io::Result<PathBuf> {
    let directory = env::var_os("KERNEL_DIRECTORY").map(PathBuf::from);
    directory.ok_or_else(|| io::Error::other("KERNEL_DIRECTORY is not set"))
}

fn filter_output() -> io::Result<ExitCode> {
    // evcxr starts cells in a terminal's process group: an interrupt is not for this process.
    let mark = env::var("KERNEL_MARK").unwrap_or_default();
    let attended = directory()?.join("attended");
    output::filter(io::stdin().lock(), io::stdout().lock(), &mark, &attended)?;
    Ok(ExitCode::SUCCESS)
}

fn print_words(arguments: &[OsString]) -> io::Result<ExitCode> {
    let [command, library] = arguments else {
        return Err(io::Error::other("it is for kernels: see its documentation"));
    };
    if command != "words" {
        return Err(io::Error::other("there is no such command"));
    }
    let library = library.to_string_lossy();
    let mut verbose = String::new();
    io::stdin().read_to_string(&mut verbose)?;
    let call = known::call_in(&verbose).map(|words| known::quicker(words, &library));
    let words = call.unwrap_or_default();
    io::stdout().write_all(words.join("\0").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn rustup(directory: &Path, settings: &Settings, arguments: &[OsString]) -> io::Result<ExitCode> {
    let programs = directory.join("bin");
    // Also for another toolchain, which `cargo` then refuses.
    let asked: Vec<_> =
        arguments.iter().filter(|word| !word.to_string_lossy().starts_with('+')).collect();
    if asked == ["which", "cargo"] {
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
    let words: Vec<String> =
        arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
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
    let has = |word: &str| words.iter().any(|each| each == word);
    if has("clean") {
        // evcxr wants it after `:allow_static_linking`, which has no effect.
        return Ok(ExitCode::SUCCESS);
    }
    let (builds, checks) = (has("build"), has("check"));
    if builds || checks {
        begin(directory)?;
        if let Some(rustc) = env::var_os("RUSTC")
            && rustc != settings.get("rustc")?
        {
            return Ok(refuse(&format!(
                "this kernel compiles cells with {}, and its library was compiled with that, too, so \
                 {} cannot be used. Restart the kernel to go on without `:toolchain`.",
                settings.get("rustc")?,
                rustc.display(),
            )));
        }
    }
    let manifest = fs::read_to_string("Cargo.toml").unwrap_or_default();
    let library = settings.get("library")?;
    let uses_library =
        manifest.lines().any(|line| line.trim_start().starts_with(&format!("{library} = ")));
    let pinned = directory.join("config/Cargo.lock");
    if uses_library && !lock::names(Path::new(lock::FILE), library) {
        fs::copy(pinned, lock::FILE)?;
    }
    if has("metadata") {
        return lock::kept(|| cargo().args(arguments).status());
    }
    let mut defines_display = false;
    if builds || checks {
        let interruptible = settings.all("interruptible").next().filter(|_| uses_library);
        defines_display = change_source(directory, interruptible, checks)?;
    }

    let key = key(&words, &manifest);
    let known = directory.join("known");
    // evcxr sets where it expects the path of the compiled cell.
    let path = env::var_os("EVCXR_EXECUTION_SO_PATH").map(PathBuf::from).unwrap_or_default();
    if builds {
        let calls = ["template", "last", "bare"].map(|name| Call::at(known.join(name)));
        if let Some(call) = calls.iter().find(|call| call.is_for(&key)) {
            if !defines_display {
                return Err(call.repeat(&path));
            }
            let result = call.command(&path)?.stdout(Stdio::inherit()).output()?;
            let messages = String::from_utf8_lossy(&result.stderr);
            io::stderr().write_all(without_display_hints(&messages).as_bytes())?;
            return Ok(exit_code(result.status));
        }
    }

    // cargo's own work starts from what is compiled already, in a directory of this kernel's.
    if uses_library && !Path::new("target/.linked").exists() {
        let link: Vec<&str> = settings.all("link").collect();
        let (program, rest) = link.split_first().ok_or_else(|| io::Error::other("no link"))?;
        if !Command::new(program).args(rest).status()?.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    if checks {
        // The same as `cargo check`, which takes no arguments for rustc.
        let check = words.iter().map(|word| if word == "check" { "rustc" } else { word });
        return Err(cargo().args(check).args(["--profile=check", "--", "-Awarnings"]).exec());
    }
    if !builds {
        return Err(cargo().args(arguments).exec());
    }
    let call = Call::at(known.join("last"));
    call.forget();
    // `cargo rustc` is `cargo build` with more arguments for the cell itself.
    let rustc = words.iter().map(|word| if word == "build" { "rustc" } else { word });
    let told_by = settings.get("told_by")?;
    let result = cargo()
        .args(rustc)
        .args(["-vv", "--", "-Awarnings", "--extern", &format!("{}={told_by}", known::CELL_CRATE)])
        .output()?;
    let messages = String::from_utf8_lossy(&result.stdout);
    let messages = match defines_display {
        true => without_display_hints(&messages),
        false => messages.into_owned(),
    };
    io::stdout().write_all(messages.as_bytes())?;
    let verbose = String::from_utf8_lossy(&result.stderr);
    io::stderr().write_all(known::without_calls(&verbose).as_bytes())?;
    if result.status.success() {
        let cell = settings.get("cell")?;
        call.learn(&key, &verbose, cell, told_by)?;
        report_path(directory, &call.cell(), cell, &words, &path)?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// The compiler's messages without the places of hints at a trait of the user's with a method
/// `evcxr_display`. evcxr tries that method first, and if the message is about a line of the user's, it
/// does not try another way to show the value.
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

/// Reports to evcxr, as the compiler does, why a cell is not compiled.
fn refuse(why: &str) -> ExitCode {
    let text = why.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    println!(
        "{{\"reason\":\"compiler-message\",\"message\":{{\"message\":\"{text}\",\"code\":null,\
         \"level\":\"error\",\"spans\":[],\"children\":[],\"rendered\":\"error: {text}\\n\"}}}}"
    );
    eprintln!("error: {why}");
    ExitCode::FAILURE
}

/// Writes into `told` the path of the compiled cell, which lies in `learnt`'s folder or, if cargo
/// had nothing to compile, where cargo leaves it.
///
/// cargo's messages have that path without symbolic links. evcxr rejects spaces in it, so a clone
/// with a space in its path has a link for the kernel's directory, and evcxr gets the path by that.
fn report_path(
    directory: &Path,
    learnt: &Option<PathBuf>,
    cell: &str,
    words: &[String],
    told: &Path,
) -> io::Result<()> {
    let platform = words.iter().skip_while(|word| *word != "--target").nth(1);
    let usual = platform
        .map(|platform| directory.join("project/target").join(platform).join("debug").join(cell));
    let compiled = learnt.as_deref().map(|path| below(path, directory)).or(usual);
    match compiled.filter(|path| path.is_file()) {
        Some(path) => fs::write(told, path.as_os_str().as_encoded_bytes()),
        None => Ok(()),
    }
}

/// A path below `directory` as that names it, if the path was found by resolving its links.
fn below(path: &Path, directory: &Path) -> PathBuf {
    let resolved = fs::canonicalize(directory).ok();
    let rest = resolved.and_then(|resolved| path.strip_prefix(resolved).ok().map(Path::to_owned));
    rest.map_or_else(|| path.to_owned(), |rest| directory.join(rest))
}

/// What a call depends on: the flags, cargo's arguments, the manifest.
fn key(words: &[String], manifest: &str) -> String {
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    format!("{flags}\n{}\n{manifest}", words.join(" ")).trim_end().to_owned()
}

/// Tells the kernel's companion which process compiles, and does not begin after an interrupt.
fn begin(directory: &Path) -> io::Result<()> {
    let mut pipe = fs::OpenOptions::new().write(true).open(directory.join("events"))?;
    write!(pipe, "compile\u{1f}{}\u{1e}", process::id())?;
    match directory.join("interrupted").exists() {
        true => Err(io::Error::other("interrupted")),
        false => Ok(()),
    }
}

/// Changes the cell's source before it is compiled; see [`source`]. Returns whether cells define a trait
/// with a method `evcxr_display`.
fn change_source(directory: &Path, interruptible: Option<&str>, checks: bool) -> io::Result<bool> {
    let file = Path::new("src/lib.rs");
    let source = fs::read_to_string(file)?;
    let code = fs::read_to_string(directory.join("cell")).unwrap_or_default();
    let (interruptible, kernel) = (interruptible.map(str::to_owned), directory.to_owned());
    let work = move || -> io::Result<Changed> {
        let kept = kernel.join("impls");
        let order = Order::read(&kept, &code);
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
        changed.map_err(|_| io::Error::other("the cell's source is not understood"))??;
    fs::write(directory.join("generated"), changed.shown)?;
    fs::write(file, changed.compiled)?;
    Ok(changed.defines_display)
}

/// How often a type was redefined in the kernel's process, this cell included.
///
/// The file `definitions` has the count and each type with its hash. A cell renames the file that is
/// written here to it when it begins to run: a cell that does not compile redefines nothing.
fn redefined(directory: &Path, definitions: &Definitions) -> u64 {
    let kept = fs::read_to_string(directory.join("definitions")).unwrap_or_default();
    let (count, types) = kept.split_once('\n').unwrap_or(("0", ""));
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
    // Without it, values of unknown types are dropped later than they should be, or not at all.
    let written = fs::write(directory.join("definitions.next"), format!("{count}\n{lines}"));
    if written.is_err() { u64::MAX } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiled_cell_is_reported_by_the_link_to_its_kernel() {
        let folder = env::temp_dir().join(format!("kernel-link-{}", process::id()));
        let real = folder.join("with a space");
        let file = "project/target/host/debug/libctx.so";
        fs::create_dir_all(real.join(file).parent().unwrap()).unwrap();
        fs::write(real.join(file), "").unwrap();
        let (link, told) = (folder.join("link"), folder.join("told"));
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let real = fs::canonicalize(real).unwrap();
        let words = ["build", "--target", "host"].map(str::to_owned);
        for learnt in [Some(real.join(file)), None] {
            report_path(&link, &learnt, "libctx.so", &words, &told).unwrap();
            assert_eq!(fs::read_to_string(&told).unwrap(), link.join(file).to_str().unwrap());
            fs::remove_file(&told).unwrap();
        }
        assert_eq!(below(Path::new("/elsewhere"), &link), Path::new("/elsewhere"));
        fs::remove_dir_all(folder).unwrap();
    }
}
