//! The runtime of a cell, a crate that is linked into every cell; see `source.rs`.
//!
//! evcxr replies "ok" to Jupyter for a cell that failed by `?` or panicked. It forwards the cell's output
//! from two threads. So another process can observe neither the end of a cell nor the end of its output.
//! The cell reports both: it writes events into a pipe, and an end marker into stdout and stderr. The
//! kernel's supervisor reads the pipe and both streams.
//!
//! An event consists of fields. The control characters below separate the fields and end the event:
//!
//! | event | fields |
//! | --- | --- |
//! | `begin` | number of the cell; process ID |
//! | `failed` | type and message of the error with which `?` ended the cell; file, line, column |
//! | `panicked` | message of the panic; file, line, column; if that file is not the cell: file of the compiled cell, and addresses of calls in it; backtrace, if enabled |
//! | `dropped` | name of a variable that no longer exists; `changed` if its type changed, else `missing` |
//! | `end` | number of the cell; `ok`, `panicked` or `interrupted`. `ok` also after `failed` |
//!
//! The crate uses only the standard library, because cells may have no dependencies.

use ::std::any::Any;
use ::std::backtrace::Backtrace;
use ::std::ffi::{CStr, c_char, c_void};
use ::std::fs::File;
use ::std::io::Write;
use ::std::os::fd::{AsFd, AsRawFd, OwnedFd};
use ::std::os::unix::process::CommandExt;
use ::std::panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind, set_hook};
use ::std::path::{Path, PathBuf};
use ::std::string::String;
use ::std::sync::atomic::{AtomicBool, Ordering};
use ::std::sync::{Mutex, OnceLock};
use ::std::thread::ThreadId;
use ::std::vec::Vec;

const FIELD_SEPARATOR: char = '\u{1f}';
const EVENT_TERMINATOR: char = '\u{1e}';
/// The path of a cell's source in compiler messages and locations.
const CELL: &str = "src/lib.rs";
/// evcxr's control line for an error at a `?`; evcxr then discards the variables that the cell declared.
const ERROR: &str = "EVCXR_ERROR_OCCURRED";

/// A stored variable whose type is defined in cells. `DEFINITION` is a hash of the type's definition. A
/// redefined type keeps its name and `TypeId`, but the hash changes the `TypeId` of this wrapper.
pub struct Versioned<T, const DEFINITION: u64>(pub T);

/// The thread that runs cells, by its ID. Its name cannot be read here, because evcxr set it with another
/// copy of the standard library.
static THREAD: OnceLock<ThreadId> = OnceLock::new();
/// The event fields of the last panic in this thread, without the message.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// The kernel's directory, which contains the file of this compiled cell. It is not taken from the
/// environment, because a cell may change or remove every variable.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let file = object(directory as fn() -> &'static Path as usize).map(|object| object.file);
        let file = file.unwrap_or_default();
        let found = Path::new(&file).ancestors().find(|folder| folder.join("events").exists());
        found.map(Path::to_owned).unwrap_or_default()
    })
}

/// A file in the kernel's directory.
fn file(name: &str) -> PathBuf {
    directory().join(name)
}

fn send(event: &str) {
    if let Ok(mut pipe) = ::std::fs::OpenOptions::new().write(true).open(file("events")) {
        let _ = pipe.write_all(::std::format!("{event}{EVENT_TERMINATOR}").as_bytes());
    }
}

fn clean(text: &str) -> String {
    text.replace([FIELD_SEPARATOR, EVENT_TERMINATOR], " ")
}

fn place(location: &Location) -> String {
    ::std::format!(
        "{}{FIELD_SEPARATOR}{}{FIELD_SEPARATOR}{}",
        location.file(),
        location.line(),
        location.column()
    )
}

/// Writes the end marker into stdout and stderr.
///
/// A start-up command runs before the supervisor reads the output, so it writes no marker.
fn write_end_marker(number: u32) {
    if !file("ready").exists() {
        return;
    }
    let marker = ::std::fs::read_to_string(file("marker")).unwrap_or_default();
    let line = ::std::format!("{marker}{number}\n");
    let _ = ::std::io::stdout().lock().write_all(line.as_bytes());
    let _ = ::std::io::stderr().lock().write_all(line.as_bytes());
}

/// Reports the error with which `?` ends the cell.
#[track_caller]
pub fn failed<T>(message: &str) {
    let place = place(Location::caller());
    let kind = ::std::any::type_name::<T>();
    send(&::std::format!(
        "failed{FIELD_SEPARATOR}{kind}{FIELD_SEPARATOR}{}{FIELD_SEPARATOR}{place}",
        clean(message)
    ));
}

/// Reports that a variable's type changed after the variable was stored.
pub fn dropped(name: &str) {
    send(&::std::format!("dropped{FIELD_SEPARATOR}{}{FIELD_SEPARATOR}changed", clean(name)));
}

/// Reports a variable that evcxr expects but that does not exist.
pub fn missing(name: &str) {
    send(&::std::format!("dropped{FIELD_SEPARATOR}{}{FIELD_SEPARATOR}missing", clean(name)));
}

/// A value that a cell can `return`: nothing, or a result.
pub trait IntoCellResult {
    type Error;

    fn into_cell_result(self) -> Result<(), Self::Error>;
}

impl IntoCellResult for () {
    type Error = ::std::convert::Infallible;

    fn into_cell_result(self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl<T, E> IntoCellResult for Result<T, E> {
    type Error = E;

    fn into_cell_result(self) -> Result<(), E> {
        self.map(drop)
    }
}

fn message(payload: &dyn Any) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "a panic whose payload is not a string",
    }
}

fn wants_backtrace() -> bool {
    ::std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0")
}

/// A program or shared library that is loaded, and where.
struct Object {
    file: String,
    base: usize,
}

/// The object that contains an address.
fn object(address: usize) -> Option<Object> {
    let mut info = ObjectInfo { name: ::std::ptr::null(), base: 0, _symbol: [0; 2] };
    // SAFETY: dladdr fills in the struct with a name that lives as long as the object, or returns 0.
    if unsafe { dladdr(address, &mut info) } == 0 || info.name.is_null() {
        return None;
    }
    // SAFETY: as above.
    let file = unsafe { CStr::from_ptr(info.name) }.to_string_lossy().into_owned();
    Some(Object { file, base: info.base })
}

/// `Dl_info`.
#[repr(C)]
struct ObjectInfo {
    name: *const c_char,
    base: usize,
    _symbol: [usize; 2],
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        each: extern "C" fn(*mut c_void, *mut c_void) -> i32,
        all: *mut c_void,
    ) -> i32;
    fn _Unwind_GetIP(frame: *mut c_void) -> usize;
    fn dladdr(address: usize, object: *mut ObjectInfo) -> i32;
    fn signal(number: i32, handler: usize) -> usize;
    fn dup2(from: i32, to: i32) -> i32;
    fn fork() -> i32;
    fn _exit(status: i32) -> !;
}

extern "C" fn push_address(frame: *mut c_void, all: *mut c_void) -> i32 {
    // SAFETY: the unwinder hands over a frame of its own, and the vector that it was given.
    unsafe { (*all.cast::<Vec<usize>>()).push(_Unwind_GetIP(frame)) };
    0
}

/// Returns the file of the compiled cell, and the addresses of the current calls in it. The standard
/// library cannot resolve them to lines, because it lists shared libraries only once, before cells are
/// loaded.
fn calls_in_cell() -> String {
    let (mut all, mut fields) = (Vec::<usize>::new(), String::new());
    // SAFETY: the vector outlives the call.
    unsafe { _Unwind_Backtrace(push_address, (&raw mut all).cast()) };
    for address in all {
        let Some(object) = object(address) else { continue };
        if Path::new(&object.file).starts_with(directory()) {
            if fields.is_empty() {
                fields = ::std::format!("{}{FIELD_SEPARATOR}", object.file);
            }
            // The call is before its return address.
            fields += &::std::format!("{:x} ", address - object.base - 1);
        }
    }
    if fields.is_empty() { FIELD_SEPARATOR.to_string() } else { fields }
}

fn on_panic(info: &PanicHookInfo) {
    let text = message(info.payload());
    // polars unwinds the threads of an interrupted query with this panic.
    if text.starts_with("__POLARS_ABORT") {
        return;
    }
    let Some(location) = info.location() else { return };
    let thread = ::std::thread::current();
    let of_cell = THREAD.get() == Some(&thread.id()) && !UNCAUGHT.load(Ordering::Relaxed);
    let trace = match wants_backtrace() {
        true => Backtrace::force_capture().to_string(),
        false => String::new(),
    };
    if of_cell {
        let calls = match location.file() == CELL {
            true => FIELD_SEPARATOR.to_string(),
            false => calls_in_cell(),
        };
        let fields = ::std::format!(
            "{}{FIELD_SEPARATOR}{calls}{FIELD_SEPARATOR}{}",
            place(location),
            clean(&trace)
        );
        *PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(fields);
    } else {
        let name = thread.name().unwrap_or("<unnamed>");
        let _ = ::std::io::stderr().write_all(
            ::std::format!("thread '{name}' panicked at {location}:\n{text}\n{trace}").as_bytes(),
        );
    }
}

extern "C" fn ignore(_: i32) {}

/// Prepares the process before its first cell.
///
/// - Restores the user's RUST_BACKTRACE, which evcxr overwrites.
/// - Ignores SIGINT, which would end the process.
/// - Filters the output, because invalid UTF-8 would end evcxr's reader threads.
fn prepare_process() {
    if let Ok(wanted) = ::std::env::var("EVCXR_SHIM_BACKTRACE") {
        // SAFETY: this is the first cell, so no thread of a cell reads the environment yet.
        unsafe {
            ::std::env::remove_var("EVCXR_SHIM_BACKTRACE");
            match wanted.as_str() {
                "" => ::std::env::remove_var("RUST_BACKTRACE"),
                wanted => ::std::env::set_var("RUST_BACKTRACE", wanted),
            }
            signal(2, ignore as extern "C" fn(i32) as usize);
        }
        let _ = filter(::std::io::stdout().as_fd());
        let _ = filter(::std::io::stderr().as_fd());
    }
}

/// Inserts a filter process between this process and the reader of `stream`; see `output.rs`.
///
/// The filter is not a child of this process, because a cell may wait for all children.
fn filter(stream: ::std::os::fd::BorrowedFd) -> ::std::io::Result<()> {
    let (reader, writer) = ::std::io::pipe()?;
    let mut program = ::std::process::Command::new(file("bin/cargo"));
    program
        .arg0("output-filter")
        .stdin(reader)
        .stdout(stream.try_clone_to_owned()?)
        .stderr(::std::process::Stdio::null());
    // SAFETY: the closure calls only async-signal-safe functions.
    unsafe {
        program.pre_exec(|| match fork() {
            0 => Ok(()),
            -1 => Err(::std::io::Error::last_os_error()),
            _ => _exit(0),
        });
    }
    program.spawn()?.wait()?;
    // SAFETY: both are open.
    match unsafe { dup2(writer.as_raw_fd(), stream.as_raw_fd()) } {
        -1 => Err(::std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether the cell's code ran to its end, without `return` or `?`.
static COMPLETED: AtomicBool = AtomicBool::new(false);
/// Whether a panic of the cell ends the process, as after `:preserve_vars_on_panic 0`.
static UNCAUGHT: AtomicBool = AtomicBool::new(false);
/// The process in which the cell began, and its real stdin while the cell reads an empty one.
static PROCESS: Mutex<(u32, Option<OwnedFd>)> = Mutex::new((0, None));

/// Called at the end of the cell's code.
pub fn mark_completed() {
    COMPLETED.store(true, Ordering::Relaxed);
}

/// Reports that the cell begins. The cell gets an empty stdin, because the real one has evcxr's commands.
/// With `input`, it keeps the real one, through which evcxr sends requested input.
fn begin(number: u32, input: bool) {
    prepare_process();
    let _ = THREAD.set(::std::thread::current().id());
    set_hook(::std::boxed::Box::new(on_panic));
    // This cell compiled, so its definitions become those of the process.
    let _ = ::std::fs::rename(file("definitions.next"), file("definitions"));
    let stdin = match input {
        true => None,
        false => without_stdin().ok(),
    };
    *PROCESS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
        (::std::process::id(), stdin);
    send(&::std::format!(
        "begin{FIELD_SEPARATOR}{number}{FIELD_SEPARATOR}{}",
        ::std::process::id()
    ));
}

fn without_stdin() -> ::std::io::Result<OwnedFd> {
    let stdin = ::std::io::stdin().as_fd().try_clone_to_owned()?;
    let nothing = File::open("/dev/null")?;
    // SAFETY: both are open.
    match unsafe { dup2(nothing.as_raw_fd(), 0) } {
        -1 => Err(::std::io::Error::last_os_error()),
        _ => Ok(stdin),
    }
}

/// Reports how the cell ended.
fn end(number: u32, how: &str) {
    let (process, stdin) =
        ::std::mem::take(&mut *PROCESS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    if process != ::std::process::id() {
        // This process is a fork. The original process sends the report and reads evcxr's next command.
        // SAFETY: _exit ends only this process.
        unsafe { _exit(0) };
    }
    if let Some(stdin) = stdin {
        // SAFETY: both are open.
        unsafe { dup2(stdin.as_raw_fd(), 0) };
    }
    write_end_marker(number);
    send(&::std::format!("end{FIELD_SEPARATOR}{number}{FIELD_SEPARATOR}{how}"));
}

/// Begins a cell whose panics evcxr does not catch, or that only defines items.
pub fn begin_uncaught(number: u32, input: bool) {
    UNCAUGHT.store(true, Ordering::Relaxed);
    begin(number, input);
}

/// Ends a cell that `begin_uncaught` began.
pub fn end_uncaught(number: u32) {
    end(number, "ok");
}

/// Runs a cell that cannot be interrupted. Returns false, because the cell was not interrupted.
pub fn run_uninterruptible(cell: &mut dyn FnMut()) -> bool {
    cell();
    false
}

/// Runs a cell like `catch_unwind`, and reports how the cell ended.
///
/// `run` runs the cell and returns whether it was interrupted. If an earlier cell set a panic hook, this
/// function replaces the hook.
pub fn run_catching_panics<R>(
    number: u32,
    input: bool,
    run: fn(&mut dyn FnMut()) -> bool,
    cell: impl FnOnce() -> R,
) -> Result<R, Payload> {
    let (mut cell, mut value) = (Some(cell), None);
    let ended = run_and_report(number, input, run, &mut || value = cell.take().map(|cell| cell()));
    match value {
        Some(value) => ended.map(|()| value),
        None => Err(ended.err().unwrap_or_else(|| ::std::boxed::Box::new("interrupted"))),
    }
}

/// The payload of a panic.
type Payload = ::std::boxed::Box<dyn Any + Send>;

/// The part of `run_catching_panics` that is not generic. So rustc compiles it once, and not for each cell.
fn run_and_report(
    number: u32,
    input: bool,
    run: fn(&mut dyn FnMut()) -> bool,
    cell: &mut dyn FnMut(),
) -> Result<(), Payload> {
    begin(number, input);
    let result = catch_unwind(AssertUnwindSafe(|| run(cell)));
    let how = match &result {
        Ok(false) => {
            if !COMPLETED.load(Ordering::Relaxed) {
                // The rest of the cell did not run, so its variables do not exist.
                let _ =
                    ::std::io::stdout().lock().write_all(::std::format!("{ERROR}\n").as_bytes());
            }
            "ok"
        }
        Ok(true) => "interrupted",
        Err(payload) => {
            let panic = PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            let fields =
                panic.unwrap_or_else(|| ::std::format!("{FIELD_SEPARATOR}0{FIELD_SEPARATOR}0{FIELD_SEPARATOR}{FIELD_SEPARATOR}{FIELD_SEPARATOR}"));
            let text = clean(message(payload.as_ref()));
            send(&::std::format!("panicked{FIELD_SEPARATOR}{text}{FIELD_SEPARATOR}{fields}"));
            "panicked"
        }
    };
    end(number, how);
    result.map(drop)
}
