//! What stands around the code of a cell: a crate that cells are linked with, or where cargo itself
//! compiles them, a module of theirs; see `source.rs`.
//!
//! evcxr tells Jupyter "ok" of a cell that failed by `?` or panicked, and passes its output on from
//! two threads, so neither the end of a cell nor that of its output can be seen from outside. So a
//! cell says it itself: what happens goes as events into a pipe, and into stdout and stderr goes a
//! mark where the cell's output ends. The kernel's companion reads both.
//!
//! An event is a line of fields, separated and ended by the control characters below:
//!
//! | event | fields |
//! | --- | --- |
//! | `begin` | the cell's number, the process |
//! | `failed` | type and message of an error that `?` ended the cell with; file, line, column |
//! | `panicked` | message of a panic; file, line, column; if that is not in the cell, the compiled cell's file, and addresses of calls in it; a backtrace, if one is wanted |
//! | `end` | the cell's number; `ok`, `panicked` or `interrupted` |
//!
//! Only the standard library is used here: a cell may have no dependency.

use ::std::any::Any;
use ::std::backtrace::Backtrace;
use ::std::ffi::{CStr, c_char, c_void};
use ::std::io::Write;
use ::std::panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind, set_hook};
use ::std::path::{Path, PathBuf};
use ::std::string::String;
use ::std::sync::{Mutex, OnceLock};
use ::std::thread::ThreadId;
use ::std::vec::Vec;

const FIELD: char = '\u{1f}';
const RECORD: char = '\u{1e}';
/// A cell's source, as the compiler is told of it.
const CELL: &str = "src/lib.rs";

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

/// Says in both streams where they end, or with `-` in stdout that only its line does.
///
/// A start-up command must not: evcxr would wait for somebody to take it.
fn mark(what: &str) {
    if !file("attended").exists() {
        return;
    }
    let mark = ::std::env::var("KERNEL_MARK").unwrap_or_default();
    let line = ::std::format!("{mark}{what}\n");
    let _ = ::std::io::stdout().lock().write_all(line.as_bytes());
    if what != "-" {
        let _ = ::std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// Tells of the error that `?` ends the cell with.
#[track_caller]
pub fn failed<T>(message: &str) {
    let place = place(Location::caller());
    let kind = ::std::any::type_name::<T>();
    tell(&::std::format!("failed{FIELD}{kind}{FIELD}{}{FIELD}{place}", clean(message)));
    // evcxr's own mark follows, and is one only at the start of a line.
    mark("-");
}

/// A value that is about to be shown, after the line that may have been begun.
pub fn on_a_new_line<T: ?Sized>(value: &T) -> &T {
    mark("-");
    value
}

/// Shows a text by `send`, after the line that may have been begun.
pub fn send(send: fn(&str), text: &str) {
    mark("-");
    send(text);
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
    let of_cell = THREAD.get() == Some(&thread.id());
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

/// Before the first cell: evcxr asks for backtraces, whatever the user has set, and an interrupt
/// would end the process.
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
    }
}

/// How a cell is run that cannot be interrupted.
pub fn whole(cell: &mut dyn FnMut()) -> bool {
    cell();
    false
}

/// Runs a cell, in place of `catch_unwind`, and tells how it ended.
///
/// `run` runs it and says whether it was interrupted. A hook for panics that an earlier cell has
/// set does not count any more.
pub fn caught<R>(
    number: u32,
    run: fn(&mut dyn FnMut()) -> bool,
    cell: impl FnOnce() -> R,
) -> Result<R, Payload> {
    let (mut cell, mut value) = (Some(cell), None);
    let ended = told(number, run, &mut || value = cell.take().map(|cell| cell()));
    match value {
        Some(value) => ended.map(|()| value),
        None => Err(ended.err().unwrap_or_else(|| ::std::boxed::Box::new("interrupted"))),
    }
}

/// What `catch_unwind` gives of a panic.
type Payload = ::std::boxed::Box<dyn Any + Send>;

/// `caught`, without what the compiler would have to make anew for each cell.
fn told(
    number: u32,
    run: fn(&mut dyn FnMut()) -> bool,
    cell: &mut dyn FnMut(),
) -> Result<(), Payload> {
    make_ready();
    let _ = THREAD.set(::std::thread::current().id());
    set_hook(::std::boxed::Box::new(on_panic));
    tell(&::std::format!("begin{FIELD}{number}{FIELD}{}", ::std::process::id()));
    let result = catch_unwind(AssertUnwindSafe(|| run(cell)));
    let how = match &result {
        Ok(false) => "ok",
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
    mark(&::std::format!("{number}"));
    tell(&::std::format!("end{FIELD}{number}{FIELD}{how}"));
    result.map(drop)
}
