//! The operating system's part: memory, and processes.
//!
//! | mechanism | Linux | other Unix systems, such as macOS |
//! | --- | --- | --- |
//! | peak memory of a query | the peak after a reset (`VmHWM`) | the growth of the process's peak (`getrusage`): too low by the memory that was free in the process before |
//! | memory limit | the system refuses memory (`RLIMIT_DATA`) | a thread ends the process, up to some milliseconds late; pages of mapped files count, too |
//! | end of a worker whose parent ended | at once (`PR_SET_PDEATHSIG`) | after up to [`PARENT_INTERVAL`] |
//!
//! Other systems report no peak and have no limit. A function whose name ends with `_on` has the system
//! as its first parameter, so tests on Linux run the other branch.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use std::{fs, io, thread};

/// The operating system that this program was compiled for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum System {
    Linux,
    OtherUnix,
    Other,
}

pub(crate) const HERE: System = match (cfg!(target_os = "linux"), cfg!(unix)) {
    (true, _) => System::Linux,
    (false, true) => System::OtherUnix,
    (false, false) => System::Other,
};

/// The start of the message with which a process ends that exceeded its memory limit.
pub(crate) const EXCEEDED: &str = "the process exceeded its memory limit";
/// The time between two checks of a memory limit.
const MEMORY_INTERVAL: Duration = Duration::from_millis(1);
/// The time between two checks whether the parent process still runs.
const PARENT_INTERVAL: Duration = Duration::from_millis(200);

/// Whether [`limit_memory`] can limit this process's memory.
pub(crate) fn can_limit_memory() -> bool {
    HERE != System::Other
}

/// Limits this process to `mb` MB (1,000,000 bytes) on top of its current memory.
///
/// # Errors
///
/// If the system rejects the limit or has none.
pub(crate) fn limit_memory(mb: u64) -> io::Result<()> {
    limit_memory_on(HERE, mb)
}

fn limit_memory_on(system: System, mb: u64) -> io::Result<()> {
    if system == System::Linux {
        // Private memory; pages of files don't count. See RLIMIT_DATA in getrlimit(2).
        let now = status_kb("VmData:")
            .ok_or_else(|| io::Error::other("/proc/self/status has no VmData"))?;
        return limit_data(now * 1024 + mb * 1_000_000);
    }
    let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
    let limit = resource_peak().ok_or_else(unsupported)? + mb * 1_000_000;
    let watch = move || {
        while resource_peak().is_none_or(|peak| peak <= limit) {
            thread::sleep(MEMORY_INTERVAL);
        }
        eprintln!("{EXCEEDED} of {mb} MB");
        std::process::exit(1)
    };
    thread::Builder::new().name("memory limit".to_owned()).spawn(watch)?;
    Ok(())
}

/// The growth of this process's peak of resident memory.
pub(crate) enum Peak {
    /// `/proc` can reset the peak. Contains the memory that was resident then.
    Reset { start_kb: u64 },
    /// Contains the peak since the process started.
    Total { start: u64 },
}

impl Peak {
    /// Starts a measurement. None if the system does not report the memory.
    pub(crate) fn start() -> Option<Peak> {
        Peak::start_on(HERE)
    }

    fn start_on(system: System) -> Option<Peak> {
        if system != System::Linux {
            return Some(Peak::Total { start: resource_peak()? });
        }
        // Memory that the allocator keeps from earlier queries would hide the memory of this one.
        release_free_memory();
        // 5 resets VmHWM; see proc_pid_clear_refs(5).
        fs::write("/proc/self/clear_refs", "5").ok()?;
        Some(Peak::Reset { start_kb: status_kb("VmRSS:")? })
    }

    /// The growth since the start, in MB (1,000,000 bytes).
    pub(crate) fn stop_mb(self) -> Option<f64> {
        let bytes = match self {
            Peak::Reset { start_kb } => status_kb("VmHWM:")?.saturating_sub(start_kb) * 1024,
            Peak::Total { start } => resource_peak()?.saturating_sub(start),
        };
        Some(bytes as f64 / 1e6)
    }
}

fn status_kb(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// The peak of this process's resident memory since its start, in bytes.
#[cfg(unix)]
fn resource_peak() -> Option<u64> {
    // SAFETY: all fields may be zero, and getrusage fills in the whole struct.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        match libc::getrusage(libc::RUSAGE_SELF, &mut usage) {
            0 => Some(maxrss_bytes(cfg!(target_vendor = "apple"), usage.ru_maxrss.cast_unsigned())),
            _ => None,
        }
    }
}

#[cfg(not(unix))]
fn resource_peak() -> Option<u64> {
    None
}

/// Apple's systems report bytes, and all others report kilobytes.
fn maxrss_bytes(is_apple: bool, maxrss: u64) -> u64 {
    if is_apple { maxrss } else { maxrss * 1024 }
}

/// Ends this process when `parent` ends. Returns false if `parent` has already ended.
pub(crate) fn end_with_parent(parent: &str) -> bool {
    end_with_parent_on(HERE, parent)
}

fn end_with_parent_on(system: System, parent: &str) -> bool {
    if system == System::Linux {
        // Before the check, so that the parent cannot end unnoticed in between.
        request_signal_at_end_of_parent();
    }
    let parent = parent.to_owned();
    let is_alive = move || parent_id().is_none_or(|id| id.to_string() == parent);
    if !is_alive() {
        return false;
    }
    if system == System::OtherUnix {
        let watch = move || {
            while is_alive() {
                thread::sleep(PARENT_INTERVAL);
            }
            std::process::exit(1)
        };
        // Without this thread, the worker ends when its query ends.
        let _ = thread::Builder::new().name("parent".to_owned()).spawn(watch);
    }
    true
}

#[cfg(unix)]
fn parent_id() -> Option<u32> {
    Some(std::os::unix::process::parent_id())
}

#[cfg(not(unix))]
fn parent_id() -> Option<u32> {
    None
}

/// Whether a process was ended by SIGKILL, for example because the machine had no memory left.
#[cfg(unix)]
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(libc::SIGKILL)
}

#[cfg(not(unix))]
pub(crate) fn was_killed(_status: ExitStatus) -> bool {
    false
}

/// The file that this code was loaded from, a shared library or a program, if the system reports it.
#[cfg(unix)]
pub(crate) fn library() -> Option<PathBuf> {
    use std::ffi::{CStr, OsStr};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    // SAFETY: all fields may be zero, and dladdr fills them. The name that it returns belongs to
    // the loaded library, which is never unloaded while its own code runs.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let function: fn() -> Option<PathBuf> = library;
        if libc::dladdr(function as *const libc::c_void, &mut info) == 0 || info.dli_fname.is_null()
        {
            return None;
        }
        let name = OsStr::from_bytes(CStr::from_ptr(info.dli_fname).to_bytes());
        Path::new(name).canonicalize().ok()
    }
}

#[cfg(not(unix))]
pub(crate) fn library() -> Option<PathBuf> {
    None
}

use calls::{limit_data, release_free_memory, request_signal_at_end_of_parent};

/// System calls that only Linux has.
#[cfg(target_os = "linux")]
mod calls {
    use std::io;

    pub(super) fn release_free_memory() {
        #[cfg(target_env = "gnu")]
        // SAFETY: malloc_trim only returns free pages; any thread may call it at any time.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    pub(super) fn limit_data(bytes: u64) -> io::Result<()> {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: the limit is a valid struct for as long as the call takes.
        match unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(super) fn request_signal_at_end_of_parent() {
        // SAFETY: prctl with these arguments only sets a flag of this process.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
    }
}

/// The functions above call none of these.
#[cfg(not(target_os = "linux"))]
mod calls {
    use std::io;

    pub(super) fn release_free_memory() {}

    pub(super) fn limit_data(_bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn request_signal_at_end_of_parent() {}
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Output, Stdio};
    use std::sync::mpsc;

    use super::*;

    /// A command that runs one of the ignored tests below in a process of its own.
    fn in_a_process(test: &str) -> Vec<String> {
        let program = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
        let test = format!("platform::tests::{test}");
        [&program, "--exact", &test, "--ignored", "--nocapture"].map(str::to_owned).to_vec()
    }

    fn output_of(test: &str) -> Output {
        // On Linux, a process starts with its parent's peak, and other tests raise this process's peak. So
        // a shell is the parent.
        let shell = ["-c", "\"$@\"; exit $?", "sh"];
        Command::new("sh").args(shell).args(in_a_process(test)).output().unwrap()
    }

    fn allocate(mb: usize) {
        drop(std::hint::black_box(vec![1u8; mb * 1_000_000]));
    }

    #[cfg(unix)]
    #[test]
    fn path_of_the_library_is_absolute() {
        assert!(library().unwrap().is_absolute());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn peak_includes_memory_that_was_freed() {
        let peak = Peak::start().unwrap();
        allocate(200);
        let mb = peak.stop_mb().unwrap();
        assert!((150.0..400.0).contains(&mb), "{mb} MB");
    }

    #[cfg(unix)]
    #[test]
    fn peak_of_other_systems_includes_memory_that_was_freed() {
        let output = output_of("process_that_measures");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    #[ignore = "needs a process of its own, because other tests raise the peak"]
    fn process_that_measures() {
        let peak = Peak::start_on(System::OtherUnix).unwrap();
        allocate(200);
        let mb = peak.stop_mb().unwrap();
        assert!((190.0..250.0).contains(&mb), "{mb} MB");
    }

    #[cfg(unix)]
    #[test]
    fn process_is_ended_if_it_exceeds_the_limit_of_other_systems() {
        let output = output_of("process_that_exceeds_its_limit");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(&format!("{EXCEEDED} of 100 MB")), "{stderr}");
        assert!(!output.status.success() && !stderr.contains("still running"), "{stderr}");
    }

    #[test]
    #[ignore = "ends its process"]
    fn process_that_exceeds_its_limit() {
        limit_memory_on(System::OtherUnix, 100).unwrap();
        allocate(50);
        thread::sleep(20 * MEMORY_INTERVAL);
        allocate(200);
        thread::sleep(Duration::from_secs(20));
        eprintln!("still running");
    }

    #[test]
    fn apple_reports_bytes() {
        assert_eq!(maxrss_bytes(true, 5), 5);
        assert_eq!(maxrss_bytes(false, 5), 5120);
    }

    #[cfg(unix)]
    #[test]
    fn process_that_has_another_parent_is_recognized() {
        for system in [System::Linux, System::OtherUnix] {
            assert!(!end_with_parent_on(system, "1234567890"), "{system:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn process_ends_after_its_parent_on_other_systems() {
        // The shell ends when its stdin is closed.
        let mut shell = Command::new("sh");
        shell.args(["-c", "\"$@\" & read line", "sh"]).args(in_a_process("process_with_a_parent"));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = shell.spawn().unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("started") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the process did not start");
        }
        drop(shell.stdin.take());
        shell.wait().unwrap();
        // The output ends when the process ends.
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut rest = String::new();
            let _ = output.read_to_string(&mut rest);
            let _ = sender.send(rest);
        });
        let rest = receiver.recv_timeout(Duration::from_secs(20)).expect("the process ends");
        assert!(!rest.contains("still running"), "{rest}");
    }

    #[cfg(unix)]
    #[test]
    #[ignore = "ends its process"]
    fn process_with_a_parent() {
        assert!(end_with_parent_on(System::OtherUnix, &parent_id().unwrap().to_string()));
        println!("\nstarted");
        thread::sleep(Duration::from_secs(30));
        println!("still running");
    }
}
