//! The cargo that evcxr finds in a kernel, and the rustup that leads there.
//!
//! evcxr asks rustup for cargo, and runs `cargo build` for every cell. This program stands in
//! both places, in `bin/` of the kernel's directory. It has the cell tell how it ended
//! ([`source`]), and repeats a call of rustc that it knows ([`known`]); anything else goes to the
//! real cargo, after what is compiled already has been linked into the kernel's directory.
//!
//! The call names the compiled dependencies in the cache's folder and the library in the kernel's
//! own, so a kernel's directory starts nearly empty. And a running kernel stays with the library
//! that it was started with: cargo would compile an edited one in the middle of a session, and the
//! next cell would be linked with another library than the variables were made by.
//!
//! `kernel_cargo words LIBRARY` prints the words of a known call, with zero bytes between them, by
//! what `cargo -vv` has printed: for the launcher, which learns the first call from the template.

mod known;
mod lock;
mod source;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, io, process};

use known::Call;

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
    if arguments == ["which", "cargo"] {
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
    let has = |word: &str| words.iter().any(|each| each == word);
    let compiles = (has("build") || has("check")) && has("--message-format=json");
    if compiles {
        begin(directory)?;
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
        return lock::kept(|| Command::new(real).args(arguments).status());
    }

    // evcxr tells where it expects the path of the compiled cell.
    let told = env::var_os("EVCXR_EXECUTION_SO_PATH").map(PathBuf::from);
    let told = told.filter(|_| {
        has("build") && env::var_os("RUSTC_WRAPPER").is_none_or(|wrapper| wrapper.is_empty())
    });
    let key = key(&words, &manifest);
    let known = directory.join("known");
    if let Some(told) = &told {
        let calls = ["template", "last", "bare"].map(|name| Call::at(known.join(name)));
        let call = calls.iter().find(|call| call.is_for(&key));
        let module = if call.is_none() { Some(settings.get("source")?) } else { None };
        let interruptible = settings.all("interruptible").next().filter(|_| uses_library);
        have_it_tell(module, interruptible)?;
        if let Some(call) = call {
            return Err(call.repeat(told));
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
    let Some(told) = told else {
        return Err(Command::new(real).args(arguments).exec());
    };
    let call = Call::at(known.join("last"));
    call.forget();
    let result = Command::new(real).args(arguments).arg("-vv").stdout(Stdio::inherit()).output()?;
    let verbose = String::from_utf8_lossy(&result.stderr);
    io::stderr().write_all(known::without_calls(&verbose).as_bytes())?;
    if result.status.success() {
        let cell = settings.get("cell")?;
        call.learn(&key, &verbose, cell, settings.get("told_by")?)?;
        report_path(directory, &call.cell(), cell, &words, &told)?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
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

/// Has the cell tell how it ended; see [`source::telling`].
fn have_it_tell(module: Option<&str>, interruptible: Option<&str>) -> io::Result<()> {
    let file = Path::new("src/lib.rs");
    let source = source::with_less_to_carry(&fs::read_to_string(file)?);
    match source::telling(&source::with_lines_ended(&source), module, interruptible) {
        Some(told) => fs::write(file, told),
        None => Ok(()),
    }
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
