//! The command line: outputs, errors for invalid options, paths, terminals.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use proptest::prelude::*;

fn run(options: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_generate_demo_data")).args(options).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn into(dir: &Path, options: &[&str]) -> Output {
    let dir = dir.display().to_string();
    let all = ["--output-dir", &dir].into_iter().chain(options.iter().copied());
    run(&all.map(str::to_owned).collect::<Vec<_>>())
}

#[test]
fn dry_run_reports_sizes_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = into(&dir.path().join("new"), &["--rows", "450000", "--dry-run"]);
    let stdout = text(&output.stdout);
    assert!(output.status.success() && stdout.contains("3 sensor parts unsorted"), "{stdout}");
    assert!(stdout.contains("50 users") && stdout.contains("of free space"), "{stdout}");
    let json = into(dir.path(), &["--rows", "10000", "--dry-run", "--json", "--layout", "by-date"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["sensor_rows"], &json["layout"]), (&10_000.into(), &"by-date".into()));
    assert_eq!(json["fits"], true);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn json_prints_only_json_and_quiet_prints_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = into(dir.path(), &["--rows", "25000", "--chunk-rows", "10000", "--json"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["files"].as_array().unwrap().len(), 5);
    for file in json["files"].as_array().unwrap() {
        let bytes = fs::metadata(file["path"].as_str().unwrap()).unwrap().len();
        assert_eq!(file["bytes"], bytes);
    }
    let quiet = into(dir.path(), &["--rows", "10000", "--quiet"]);
    assert!(quiet.status.success() && quiet.stdout.is_empty() && quiet.stderr.is_empty());
    let verified = into(dir.path(), &["--verify"]);
    assert!(text(&verified.stdout).starts_with("10000 sensor rows in 1 parts"));
}

/// JSON cannot contain bytes that are not UTF-8, so they are replaced.
#[cfg(unix)]
#[test]
fn path_that_is_not_utf8_is_printed_as_json() {
    use std::os::unix::ffi::OsStrExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join(std::ffi::OsStr::from_bytes(b"\xff\"data"));
    for options in [&["--dry-run"][..], &["--rows", "10000"], &["--verify"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_generate_demo_data"))
            .arg("--output-dir")
            .arg(&dir)
            .args(options)
            .arg("--json")
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(json["directory"].as_str().unwrap().ends_with("\u{fffd}\"data"), "{json}");
    }
}

/// `--output-dir` may be relative, a link, or an earlier dataset. A file or a broken link is an error
/// that contains the path.
#[cfg(unix)]
#[test]
fn path_is_used_or_named_in_the_error() {
    let parent = tempfile::tempdir().unwrap();
    let here = parent.path().join("here");
    fs::create_dir_all(here.join("real")).unwrap();
    fs::write(here.join("file"), "x").unwrap();
    std::os::unix::fs::symlink("real", here.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", here.join("broken")).unwrap();
    let run = |options: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_generate_demo_data"))
            .current_dir(&here)
            .args(options)
            .output()
            .unwrap()
    };
    for (place, real) in [
        (".", "here"),
        ("..", "."),
        ("new/deep", "here/new/deep"),
        ("../here/./other/", "here/other"),
        ("absent/../third", "here/third"),
        ("link", "here/real"),
    ] {
        let output = run(&["--rows", "10000", "--layout", "by-date", "--output-dir", place]);
        assert!(output.status.success(), "{place}: {}", text(&output.stderr));
        assert!(parent.path().join(real).join("generation_metadata.yaml").is_file(), "{place}");
        let output = run(&["--verify", "--output-dir", place]);
        assert!(output.status.success(), "{place}: {}", text(&output.stderr));
    }
    for (place, status) in
        [("file", 1), ("file/below", 1), ("broken", 1), ("link/sensor_hrv", 2), ("", 2)]
    {
        let output = run(&["--rows", "10000", "--output-dir", place]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{place}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(place), "{place}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
    assert_eq!(fs::read_to_string(here.join("file")).unwrap(), "x");
}

/// The command succeeds even if nothing reads theirs stdout.
#[test]
fn closed_stdout_does_not_stop_the_command() {
    let dir = tempfile::tempdir().unwrap();
    for options in [&["--rows", "300000", "--chunk-rows", "10000"][..], &["--verify"], &["--help"]]
    {
        let mut child = Command::new(env!("CARGO_BIN_EXE_generate_demo_data"))
            .arg("--output-dir")
            .arg(dir.path())
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{options:?}: {}", text(&output.stderr));
    }
}

#[test]
fn completions_and_manual_page_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["--completions".to_owned(), shell.to_owned()]);
        assert!(
            output.status.success() && text(&output.stdout).contains("row-group-rows"),
            "{shell}"
        );
    }
    let page = text(&run(&["--man".to_owned()]).stdout);
    assert!(page.contains(".TH generate_demo_data") && page.contains("\\-\\-layout"), "{page}");
}

#[test]
fn no_color_variable_is_respected() {
    let output = Command::new(env!("CARGO_BIN_EXE_generate_demo_data"))
        .arg("--help")
        .env("NO_COLOR", "1")
        .env("CLICOLOR_FORCE", "0")
        .output()
        .unwrap();
    assert!(output.status.success() && !text(&output.stdout).contains('\u{1b}'));
}

/// Returns the generator's output on a terminal with `TERM` set to `term`.
#[cfg(target_os = "linux")]
fn on_terminal(term: &str) -> String {
    use std::io::Read;
    use std::os::fd::FromRawFd;
    let (mut ours, mut theirs) = (0, 0);
    let (name, settings, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: openpty writes only to the two numbers.
    assert_eq!(unsafe { libc::openpty(&mut ours, &mut theirs, name, settings, size) }, 0);
    // SAFETY: openpty has opened both, and nothing else owns them.
    let (mut ours, theirs) =
        unsafe { (fs::File::from_raw_fd(ours), fs::File::from_raw_fd(theirs)) };
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_generate_demo_data"));
    command.args(["--rows", "300000", "--chunk-rows", "10000", "--output-dir"]).arg(dir.path());
    command.env("TERM", term).env_remove("NO_COLOR").stdout(Stdio::null()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    // `command` holds the other end of the terminal open.
    drop(command);
    let (mut written, mut buffer) = (Vec::new(), [0; 4096]);
    // Reading fails when the other end is closed.
    while let Ok(count @ 1..) = ours.read(&mut buffer) {
        written.extend_from_slice(&buffer[..count]);
    }
    assert!(child.wait().unwrap().success());
    text(&written)
}

/// A dumb terminal cannot move theirs cursor, so it gets no bar.
#[cfg(target_os = "linux")]
#[test]
fn progress_bar_needs_a_terminal_with_a_cursor() {
    assert_eq!(on_terminal("dumb"), "");
    assert!(on_terminal("xterm").contains("of 300,000 rows"));
}

fn some_number() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u64..20_000).prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        "[ -~]{0,12}",
        Just("1e6".to_owned()),
        Just("∞".to_owned()),
    ]
}

fn some_option() -> impl Strategy<Value = Vec<String>> {
    let with_number = prop_oneof![
        Just("--rows"),
        Just("--seed"),
        Just("--chunk-rows"),
        Just("--row-group-rows"),
        Just("--threads"),
    ];
    prop_oneof![
        6 => (with_number, some_number()).prop_map(|(name, n)| vec![format!("{name}={n}")]),
        1 => prop_oneof![Just("unsorted"), Just("by-device"), Just("by-date"), Just("other")]
            .prop_map(|layout| vec!["--layout".to_owned(), layout.to_owned()]),
        1 => prop_oneof![
            Just("--json"), Just("--quiet"), Just("--verify"), Just("--describe"), Just("--size"),
            Just("--completions"), Just("--man"), Just("-q"), Just("--"), Just("--none-such"),
        ].prop_map(|name| vec![name.to_owned()]),
        1 => "[ -~]{0,20}".prop_map(|word| vec![word]),
    ]
}

/// Number of random cases. `PROPTEST_CASES=30000` takes about ten minutes.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Any arguments lead to an exit status that matches stderr, without a panic, and refused options
    /// write nothing. `--dry-run` checks all options like a real run.
    #[test]
    fn any_options_succeed_or_are_refused(arguments in prop::collection::vec(some_option(), 0..5)) {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        let mut options = vec!["--dry-run".to_owned(), format!("--output-dir={}", dir.display())];
        options.extend(arguments.concat());
        let output = run(&options);
        let stderr = text(&output.stderr);
        prop_assert!(!stderr.contains("panicked"), "{:?}: {}", options, stderr);
        match output.status.code() {
            Some(0) => prop_assert!(stderr.is_empty(), "{:?}: {}", options, stderr),
            Some(2) => prop_assert!(stderr.starts_with("error: "), "{:?}: {}", options, stderr),
            other => prop_assert!(false, "{:?}: {:?} {}", options, other, stderr),
        }
        prop_assert!(!dir.exists());
    }
}

/// The error contains the option as the user typed it, theirs value and the limits.
#[test]
fn values_out_of_bounds_are_reported_with_the_limits() {
    let dir = tempfile::tempdir().unwrap();
    for (options, message) in [
        (["--rows", "0"], "--rows is 0, but must be at least 1,000, because"),
        (["--rows", "999"], "--rows is 999, but must be at least 1,000, because"),
        (["--rows", "1000000000001"], "but must be from 1 to 1,000,000,000,000"),
        (["--chunk-rows", "0"], "--chunk-rows is 0, but must be from 1 to 10,000,000"),
        (["--chunk-rows", "9"], "--chunk-rows is 9, but must be large enough for at most 100,000"),
        (["--row-group-rows", "0"], "--row-group-rows is 0, but must be from 1 to 10,000,000"),
        (["--row-group-rows", "6"], "--row-group-rows is 6, but must be large enough for at most"),
        (["--threads", "5000"], "--threads is 5000, but must be from 1 to 1024"),
    ] {
        let output = into(dir.path(), &options);
        let stderr = text(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(message), "{stderr}");
    }
    let stderr = text(&into(dir.path(), &["--threads", "0"]).stderr);
    assert!(stderr.contains("--threads"), "{stderr}");
    let stderr = text(&into(dir.path(), &["--rows", "9999", "--layout", "by-date"]).stderr);
    assert!(stderr.contains("--rows is 9999, but must be at least 10,000 by date"), "{stderr}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
