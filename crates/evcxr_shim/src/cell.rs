//! The runtime of a cell: a crate that every cell is linked with; see `source.rs`.
//!
//! evcxr replies "ok" to Jupyter for a cell that failed by `?` or panicked, and forwards its output
//! from two threads, so neither the end of a cell nor the end of its output can be seen from outside.
//! So the cell reports both itself. It writes events into a pipe, and into stdout and stderr a mark
//! where the cell's output ends. The kernel's companion reads both.
//!
//! An event is a line of fields, separated and ended by the control characters below:
//!
//! | event | fields |
//! | --- | --- |
//! | `begin` | the cell's number, the process |
//! | `failed` | type and message of an error that `?` ended the cell with; file, line, column |
//! | `panicked` | message of a panic; file, line, column; if that is not in the cell, the compiled cell's file, and addresses of calls in it; a backtrace, if one is wanted |
//! | `dropped` | a variable that no longer exists; `changed` if its type changed, or `missing` |
//! | `end` | the cell's number; `ok`, `panicked` or `interrupted` |
//!
//! Only the standard library is used here: a cell may have no dependency.

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

const FIELD: char = '\u{1f}';
const RECORD: char = '\u{1e}';
/// A cell's source, as the compiler is told of it.
const CELL: &str = "src/lib.rs";
/// evcxr's mark for an error at a `?`: it then forgets the variables that the cell has declared.
const ERROR: &str = "EVCXR_ERROR_OCCURRED";

/// A stored variable whose type the cells define, with a hash of the type's definition. The name of
/// a redefined type stays the same, and so does its `TypeId`; that of this type does not.
pub struct Versioned<T, const DEFINITION: u64>(pub T);

/// The thread that runs cells, and what the hook noted of the last panic in it: all fields but the
/// message. (Its name would not tell: evcxr has a standard library of its own, which named it.)
static THREAD: OnceLock<ThreadId> = OnceLock::new();
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// A file in the kernel's directory.
fn file(name: &str) -> PathBuf {
    PathBuf::from(::std::env::var_os("KERNEL_DIRECTORY").unwrap_or_default()).join(name)
}

fn tell(event: &str) {
    if let Ok(mut pipe) = ::std::fs::OpenOptions::new().write(true).open(file("events")) {
        let _ = pipe.write_all(::std::format!("{event}{RECORD}").as_bytes());
    }
}

fn clean(text: &str) -> String {
    text.replace([FIELD, RECORD], " ")
}

fn place(location: &Location) -> String {
    ::std::format!("{}{FIELD}{}{FIELD}{}", location.file(), location.line(), location.column())
}

/// Marks in both streams where the cell's output ends.
///
/// A start-up command must not: evcxr would wait for a reader.
fn mark(number: u32) {
    if !file("attended").exists() {
        return;
    }
    let mark = ::std::env::var("KERNEL_MARK").unwrap_or_default();
    let line = ::std::format!("{mark}{number}\n");
    let _ = ::std::io::stdout().lock().write_all(line.as_bytes());
    let _ = ::std::io::stderr().lock().write_all(line.as_bytes());
}

/// Tells of the error that `?` ends the cell with.
#[track_caller]
pub fn failed<T>(message: &str) {
    let place = place(Location::caller());
    let kind = ::std::any::type_name::<T>();
    tell(&::std::format!("failed{FIELD}{kind}{FIELD}{}{FIELD}{place}", clean(message)));
}

/// Reports that a variable's type changed after the variable was stored.
pub fn dropped(name: &str) {
    tell(&::std::format!("dropped{FIELD}{}{FIELD}changed", clean(name)));
}

/// Reports a variable that evcxr expects, but that was never stored.
pub fn missing(name: &str) {
    tell(&::std::format!("dropped{FIELD}{}{FIELD}missing", clean(name)));
}

/// A value that a cell can `return`: nothing, or a result.
pub trait Ending {
    type Error;

    fn ending(self) -> Result<(), Self::Error>;
}

impl Ending for () {
    type Error = ::std::convert::Infallible;

    fn ending(self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl<T, E> Ending for Result<T, E> {
    type Error = E;

    fn ending(self) -> Result<(), E> {
        self.map(drop)
    }
}

fn message(payload: &dyn Any) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "a value that is no text",
    }
}

fn wants_backtrace() -> bool {
    ::std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0")
}

#[repr(C)]
struct Object {
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
    fn dladdr(address: usize, object: *mut Object) -> i32;
    fn signal(number: i32, handler: usize) -> usize;
    fn dup2(from: i32, to: i32) -> i32;
    fn fork() -> i32;
    fn _exit(status: i32) -> !;
}

extern "C" fn note(frame: *mut c_void, all: *mut c_void) -> i32 {
    // SAFETY: the unwinder hands over a frame of its own, and the vector that it was given.
    unsafe { (*all.cast::<Vec<usize>>()).push(_Unwind_GetIP(frame)) };
    0
}

/// Where in the compiled cell the calls stand that have led here: its file, and the addresses in
/// it. The standard library could not tell the lines: it looks for objects once, and cells come
/// later.
fn calls_in_cell() -> String {
    let (directory, mut all, mut found) = (file(""), Vec::<usize>::new(), String::new());
    // SAFETY: the vector outlives the call.
    unsafe { _Unwind_Backtrace(note, (&raw mut all).cast()) };
    for address in all {
        let mut object = Object { name: ::std::ptr::null(), base: 0, _symbol: [0; 2] };
        // SAFETY: it fills in the object, with a name that stays, or says that it has not.
        if unsafe { dladdr(address, &mut object) } == 0 || object.name.is_null() {
            continue;
        }
        // SAFETY: as above.
        let name = unsafe { CStr::from_ptr(object.name) }.to_string_lossy();
        if Path::new(&*name).starts_with(&directory) {
            if found.is_empty() {
                found = ::std::format!("{name}{FIELD}");
            }
            // The call stands before the address to return to.
            found += &::std::format!("{:x} ", address - object.base - 1);
        }
    }
    if found.is_empty() { FIELD.to_string() } else { found }
}

fn on_panic(info: &PanicHookInfo) {
    let text = message(info.payload());
    // polars ends the threads of an interrupted query so.
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
            true => FIELD.to_string(),
            false => calls_in_cell(),
        };
        let fields = ::std::format!("{}{FIELD}{calls}{FIELD}{}", place(location), clean(&trace));
        *PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(fields);
    } else {
        let name = thread.name().unwrap_or("<unnamed>");
        let _ = ::std::io::stderr().write_all(
            ::std::format!("thread '{name}' panicked at {location}:\n{text}\n{trace}").as_bytes(),
        );
    }
}

extern "C" fn ignore(_: i32) {}

/// Before the first cell: evcxr sets RUST_BACKTRACE, whatever the user has set; an interrupt would end
/// the process; and output that is not UTF-8 would end evcxr's readers.
fn make_ready() {
    if let Ok(wanted) = ::std::env::var("KERNEL_BACKTRACE") {
        // Cells are run by the process's first thread, and this is the first of them.
        unsafe {
            ::std::env::remove_var("KERNEL_BACKTRACE");
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

/// Puts a filter process between this process and the reader of `stream`; see `output.rs`.
///
/// It is no child of this process, which may wait for all of its children.
fn filter(stream: ::std::os::fd::BorrowedFd) -> ::std::io::Result<()> {
    let (reader, writer) = ::std::io::pipe()?;
    let mut program = ::std::process::Command::new(file("bin/cargo"));
    program
        .arg0("output-filter")
        .stdin(reader)
        .stdout(stream.try_clone_to_owned()?)
        .stderr(::std::process::Stdio::null());
    // SAFETY: between fork and exec, only functions are called that are allowed there.
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

/// Whether the cell's code has come to its end, and did not leave by `return` or `?`.
static REACHED: AtomicBool = AtomicBool::new(false);
/// Whether a panic of the cell ends the process, as after `:preserve_vars_on_panic 0`.
static UNCAUGHT: AtomicBool = AtomicBool::new(false);
/// The process that the cell began in; evcxr's end of stdin, while a cell runs that must not read it.
static PROCESS: Mutex<(u32, Option<OwnedFd>)> = Mutex::new((0, None));

/// The end of the cell's code.
pub fn reached() {
    REACHED.store(true, Ordering::Relaxed);
}

/// Reports that the cell begins. It reads an empty stdin, because the real one carries evcxr's
/// commands; unless `input` is set, for a cell that has evcxr request input.
fn begin(number: u32, input: bool) {
    make_ready();
    let _ = THREAD.set(::std::thread::current().id());
    set_hook(::std::boxed::Box::new(on_panic));
    // The definitions that this cell was compiled with are now those of the process.
    let _ = ::std::fs::rename(file("definitions.next"), file("definitions"));
    let stdin = match input {
        true => None,
        false => without_stdin().ok(),
    };
    *PROCESS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
        (::std::process::id(), stdin);
    tell(&::std::format!("begin{FIELD}{number}{FIELD}{}", ::std::process::id()));
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
        // A fork of the cell's process: the report, and evcxr's next command, are for the other.
        // SAFETY: it ends this process and nothing else.
        unsafe { _exit(0) };
    }
    if let Some(stdin) = stdin {
        // SAFETY: both are open.
        unsafe { dup2(stdin.as_raw_fd(), 0) };
    }
    mark(number);
    tell(&::std::format!("end{FIELD}{number}{FIELD}{how}"));
}

/// Begins a cell whose panics evcxr does not catch, or that only defines items.
pub fn begin_uncaught(number: u32, input: bool) {
    UNCAUGHT.store(true, Ordering::Relaxed);
    begin(number, input);
}

/// Ends what `begin_uncaught` has begun.
pub fn end_uncaught(number: u32) {
    end(number, "ok");
}

/// How a cell is run that cannot be interrupted.
pub fn whole(cell: &mut dyn FnMut()) -> bool {
    cell();
    false
}

/// Runs a cell, in place of `catch_unwind`, and reports how it ended.
///
/// `run` runs it and returns whether it was interrupted. A hook for panics that an earlier cell has
/// set does not count any more.
pub fn caught<R>(
    number: u32,
    input: bool,
    run: fn(&mut dyn FnMut()) -> bool,
    cell: impl FnOnce() -> R,
) -> Result<R, Payload> {
    let (mut cell, mut value) = (Some(cell), None);
    let ended = reported(number, input, run, &mut || value = cell.take().map(|cell| cell()));
    match value {
        Some(value) => ended.map(|()| value),
        None => Err(ended.err().unwrap_or_else(|| ::std::boxed::Box::new("interrupted"))),
    }
}

/// What `catch_unwind` gives of a panic.
type Payload = ::std::boxed::Box<dyn Any + Send>;

/// `caught`, without the code that the compiler would have to generate for each cell.
fn reported(
    number: u32,
    input: bool,
    run: fn(&mut dyn FnMut()) -> bool,
    cell: &mut dyn FnMut(),
) -> Result<(), Payload> {
    begin(number, input);
    let result = catch_unwind(AssertUnwindSafe(|| run(cell)));
    let how = match &result {
        Ok(false) => {
            if !REACHED.load(Ordering::Relaxed) {
                // The variables that the rest of the cell declares were never stored.
                let _ =
                    ::std::io::stdout().lock().write_all(::std::format!("{ERROR}\n").as_bytes());
            }
            "ok"
        }
        Ok(true) => "interrupted",
        Err(payload) => {
            let noted = PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            let fields =
                noted.unwrap_or_else(|| ::std::format!("{FIELD}0{FIELD}0{FIELD}{FIELD}{FIELD}"));
            let text = clean(message(payload.as_ref()));
            tell(&::std::format!("panicked{FIELD}{text}{FIELD}{fields}"));
            "panicked"
        }
    };
    end(number, how);
    result.map(drop)
}
