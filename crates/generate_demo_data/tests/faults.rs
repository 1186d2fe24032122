//! Kills, signals, full disks and missing directories: afterwards the old dataset is unchanged, or the
//! new one is complete.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const GENERATOR: &str = env!("CARGO_BIN_EXE_generate_demo_data");

fn generator(dir: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(GENERATOR);
    command.arg("--output-dir").arg(dir).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// The bytes of each file below `dir`, by path; of the metadata without the time.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut contents = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let line_end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
                bytes.drain(..line_end);
            }
            contents.insert(path.strip_prefix(dir).unwrap().to_owned(), bytes);
        }
    }
    contents
}

/// Waits until `dir` has a staging directory with a part in it.
fn wait_until_at_work(dir: &Path, child: &mut Child) {
    wait_until(dir, "sensor_hrv", child);
}

/// Waits until `dir` has a staging directory with `path` in it.
fn wait_until(dir: &Path, path: &str, child: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(child.try_wait().unwrap().is_none(), "the generator ended too early");
        assert!(Instant::now() < deadline, "the generator does not start writing");
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        if entries.map(|e| e.path().join(path)).any(|p| p.exists()) {
            return;
        }
        sleep(Duration::from_millis(1));
    }
}

/// Kills the generator at 200 moments, spread over the duration of a run.
#[test]
fn killed_generator_leaves_the_old_or_the_new_dataset() {
    const KILLS: u32 = 200;
    let size = ["--rows", "30000", "--chunk-rows", "3000"];
    // The two datasets also differ in their layout.
    let run = |dir: &Path, seed: u32| {
        let layout = ["unsorted", "by-device"][seed as usize];
        let seed = seed.to_string();
        generator(dir, &[&size[..], &["--seed", &seed, "--layout", layout]].concat())
    };
    let expected = [0, 1].map(|seed| {
        let dir = tempfile::tempdir().unwrap();
        assert!(run(dir.path(), seed).output().unwrap().status.success());
        contents(dir.path())
    });
    let dir = tempfile::tempdir().unwrap();
    // The duration depends on the machine's load, so each kill uses the duration of the last run.
    let timed = |seed: u32| {
        let start = Instant::now();
        let output = run(dir.path(), seed).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        start.elapsed()
    };
    let mut whole = timed(0);
    let mut killed = 0;
    for kill in 0..KILLS {
        let (old, new) = ((kill % 2) as usize, ((kill + 1) % 2) as usize);
        let moment = (f64::from(kill) * 0.618_033_988_749_895) % 1.0;
        let mut child = run(dir.path(), new as u32).spawn().unwrap();
        sleep(whole.mul_f64(moment * 1.1));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        // A reader restores a half-replaced dataset first.
        let verified = generator(dir.path(), &["--verify"]).output().unwrap();
        assert!(verified.status.success(), "kill {kill}: {}", stderr(&verified));
        let mut files = contents(dir.path());
        files.retain(|path, _| !path.to_string_lossy().starts_with(".generating-"));
        assert!(files == expected[old] || files == expected[new], "kill {kill} at {moment}");
        whole = timed(new as u32);
        assert!(contents(dir.path()) == expected[new], "kill {kill}: files are left over");
    }
    assert!(killed > KILLS / 4, "only {killed} runs were killed before their end");
}

fn send(signal: i32, child: &Child) {
    // SAFETY: the child has not been waited for, so its process ID is valid.
    unsafe { libc::kill(child.id() as i32, signal) };
}

/// Sends each signal that ends a program, while rows are sorted and while they are written.
#[test]
fn interrupt_prints_one_line_and_leaves_no_files() {
    for (layout, at_work) in [
        ("unsorted", "sensor_hrv"),
        ("by-date", "temporary"),
        ("by-device", "temporary"),
        ("by-date", "sensor_hrv"),
    ] {
        for (signal, status) in [(libc::SIGINT, 130), (libc::SIGTERM, 143), (libc::SIGHUP, 129)] {
            let parent = tempfile::tempdir().unwrap();
            let dir = parent.path().join("new/deep");
            // Small parts, so that writing them takes long enough to be interrupted.
            let rows = if at_work == "temporary" { "50000000" } else { "2000000" };
            let options = ["--rows", rows, "--layout", layout, "--chunk-rows", "1000"];
            let mut child = generator(&dir, &options).spawn().unwrap();
            wait_until(&dir, at_work, &mut child);
            send(signal, &child);
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(status), "{layout} {}", stderr(&output));
            assert_eq!(stderr(&output), "error: interrupted; the previous dataset is unchanged\n");
            assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        }
    }
}

/// `--verify` can take long: here a part has a hole of 60 GB before its footer.
#[test]
fn interrupt_stops_verify() {
    let dir = tempfile::tempdir().unwrap();
    assert!(generator(dir.path(), &["--rows", "10000"]).output().unwrap().status.success());
    let part = dir.path().join("sensor_hrv/part-00000.parquet");
    let bytes = fs::read(&part).unwrap();
    let tail = bytes.last_chunk::<8>().unwrap();
    let footer = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]) as usize + tail.len();
    let file = fs::OpenOptions::new().write(true).open(&part).unwrap();
    file.write_all_at(&bytes[bytes.len() - footer..], 60_000_000_000).unwrap();
    for (signal, status) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let child = generator(dir.path(), &["--verify"]).spawn().unwrap();
        sleep(Duration::from_millis(500));
        let start = Instant::now();
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

/// A generator that `nohup` started survives the end of its terminal.
#[test]
fn ignored_signal_stays_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"trap "" HUP; exec "$0" --rows 3000000 --chunk-rows 30000 --output-dir "$1""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, GENERATOR]).arg(dir.path()).stdout(Stdio::null());
    let mut child = shell.stderr(Stdio::piped()).spawn().unwrap();
    wait_until_at_work(dir.path(), &mut child);
    send(libc::SIGHUP, &child);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

/// The next run removes them.
#[test]
fn temporary_files_of_a_killed_generator_are_removed() {
    for layout in ["by-date", "by-device"] {
        let dir = tempfile::tempdir().unwrap();
        let options = ["--rows", "50000000", "--layout", layout];
        let mut child = generator(dir.path(), &options).spawn().unwrap();
        wait_until(dir.path(), "temporary/bucket-00000", &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(generator(dir.path(), &["--rows", "10000"]).output().unwrap().status.success());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "three tables and the metadata");
    }
}

#[test]
fn second_generator_reports_that_another_is_running() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = generator(dir.path(), &["--rows", "20000000"]).spawn().unwrap();
    wait_until_at_work(dir.path(), &mut first);
    let second = generator(dir.path(), &["--rows", "10000"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("Another process is generating a dataset"));
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn removed_directory_is_reported_and_not_created_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let mut child = generator(&dir, &["--rows", "50000000"]).spawn().unwrap();
    wait_until_at_work(&dir, &mut child);
    // The generator may add files while the directory is being removed.
    while fs::remove_dir_all(&dir).is_err() {}
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(dir.to_str().unwrap()), "{text}");
    assert!(!dir.exists());
}

/// Runs `script`, which may mount a file system on `$DIR`. None if this user may not mount.
fn mounted(script: &str, dir: &Path) -> Option<Output> {
    let unshare = |script: &str| {
        Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-ec", script])
            .env("DIR", dir)
            .env("GENERATOR", GENERATOR)
            .output()
    };
    match unshare("mount -t tmpfs tmpfs \"$DIR\"") {
        Ok(output) if output.status.success() => Some(unshare(script).unwrap()),
        _ => {
            eprintln!("not tested: this user may not mount a file system");
            None
        }
    }
}

/// The disk fills up while rows are sorted, or while files are written.
#[test]
fn full_disk_is_reported_as_such() {
    // The bytes fit, but the number of files does not.
    for (files, layout, place) in
        [(12, "unsorted", "part-"), (30, "by-date", "temporary"), (60, "by-date", "part-")]
    {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            r#"
        mount -t tmpfs -o size=100m,nr_inodes={files} tmpfs "$DIR"
        "$GENERATOR" --output-dir "$DIR" --rows 100000 --chunk-rows 5000 --quiet \
            --layout {layout} || echo "status $?"
        ls -A "$DIR" | wc -l
    "#
        );
        if let Some(output) = mounted(&script, dir.path()) {
            let text = stderr(&output);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "status 1\n0\n", "{text}");
            assert!(text.contains("The disk is full") && text.contains(place), "{text}");
        }
    }
}

#[test]
fn too_small_disk_is_reported_before_writing() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        mount -t tmpfs -o size=3m tmpfs "$DIR"
        "$GENERATOR" --output-dir "$DIR" --rows 1000000 --quiet || echo "status $?"
        ls -A "$DIR" | wc -l
    "#;
    if let Some(output) = mounted(script, dir.path()) {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "status 1\n0\n");
        let text = stderr(&output);
        assert!(
            text.contains("may need 25 MB") && text.contains("only 3 MB of free space"),
            "{text}"
        );
    }
}

#[test]
fn dataset_on_a_read_only_disk_is_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        mount -t tmpfs tmpfs "$DIR"
        "$GENERATOR" --output-dir "$DIR" --rows 10000 --quiet
        mount -o remount,ro "$DIR"
        "$GENERATOR" --output-dir "$DIR" --rows 20000 --quiet || echo "status $?"
        "$GENERATOR" --output-dir "$DIR" --verify --json
    "#;
    if let Some(output) = mounted(script, dir.path()) {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.starts_with("status 1\n") && text.contains(r#""sensor_rows":10000"#),
            "{text}"
        );
        assert!(stderr(&output).contains("read-only"), "{}", stderr(&output));
    }
}
