//! The command's habits, and what it says to options that it cannot have.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

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
fn a_dry_run_writes_nothing_and_says_what_it_would_take() {
    let dir = tempfile::tempdir().unwrap();
    let output = into(&dir.path().join("new"), &["--rows", "450000", "--dry-run"]);
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("3 sensor parts as-drawn"), "{said}");
    assert!(said.contains("50 users") && said.contains("room for"), "{said}");
    let json = into(dir.path(), &["--rows", "1000", "--dry-run", "--json", "--layout", "by-date"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["sensor_rows"], &json["layout"]), (&1000.into(), &"by-date".into()));
    assert_eq!(json["fits"], true);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn json_is_for_scripts_and_quiet_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let output = into(dir.path(), &["--rows", "2500", "--chunk-rows", "1000", "--json"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["files"].as_array().unwrap().len(), 5);
    for file in json["files"].as_array().unwrap() {
        let bytes = fs::metadata(file["path"].as_str().unwrap()).unwrap().len();
        assert_eq!(file["bytes"], bytes);
    }
    let quiet = into(dir.path(), &["--rows", "10", "--quiet"]);
    assert!(quiet.status.success() && quiet.stdout.is_empty() && quiet.stderr.is_empty());
    let verified = into(dir.path(), &["--verify"]);
    assert!(text(&verified.stdout).starts_with("10 sensor rows in 1 parts"));
}

#[test]
fn every_shell_gets_its_completions_and_man_a_page() {
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
fn no_colour_where_none_is_wanted() {
    let output = Command::new(env!("CARGO_BIN_EXE_generate_demo_data"))
        .arg("--help")
        .env("NO_COLOR", "1")
        .env("CLICOLOR_FORCE", "0")
        .output()
        .unwrap();
    assert!(output.status.success() && !text(&output.stdout).contains('\u{1b}'));
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
        1 => prop_oneof![Just("as-drawn"), Just("by-device"), Just("by-date"), Just("other")]
            .prop_map(|layout| vec!["--layout".to_owned(), layout.to_owned()]),
        1 => prop_oneof![
            Just("--json"), Just("--quiet"), Just("--verify"), Just("--describe"), Just("--size"),
            Just("--completions"), Just("--man"), Just("-q"), Just("--"), Just("--none-such"),
        ].prop_map(|name| vec![name.to_owned()]),
        1 => "[ -~]{0,20}".prop_map(|word| vec![word]),
    ]
}

/// As many as are tried: with `PROPTEST_CASES=30000`, for some ten minutes.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Whatever is typed: an exit status that says what happened, no panic, and nothing written where
    /// it was refused. `--dry-run` looks at all options and would only write a dataset.
    #[test]
    fn any_options_are_done_or_refused(given in prop::collection::vec(some_option(), 0..5)) {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        let mut options = vec!["--dry-run".to_owned(), format!("--output-dir={}", dir.display())];
        options.extend(given.concat());
        let output = run(&options);
        let said = text(&output.stderr);
        prop_assert!(!said.contains("panicked"), "{:?}: {}", options, said);
        match output.status.code() {
            Some(0) => prop_assert!(said.is_empty(), "{:?}: {}", options, said),
            Some(2) => prop_assert!(said.starts_with("error: "), "{:?}: {}", options, said),
            other => prop_assert!(false, "{:?}: {:?} {}", options, other, said),
        }
        prop_assert!(!dir.exists());
    }
}

/// A value that is out of bounds is named with its bounds, by the name that it has here.
#[test]
fn what_is_out_of_bounds_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (options, says) in [
        (["--rows", "0"], "--rows is 0, but must be from 1 to 1,000,000,000,000"),
        (["--chunk-rows", "0"], "--chunk-rows is 0, but must be from 1 to 10,000,000"),
        (["--chunk-rows", "9"], "--chunk-rows is 9, but must be large enough for at most 100,000"),
        (["--row-group-rows", "0"], "--row-group-rows is 0, but must be from 1 to 10,000,000"),
        (["--row-group-rows", "6"], "--row-group-rows is 6, but must be large enough for at most"),
        (["--threads", "5000"], "--threads is 5000, but must be from 1 to 1024"),
    ] {
        let output = into(dir.path(), &options);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says), "{said}");
    }
    let said = text(&into(dir.path(), &["--threads", "0"]).stderr);
    assert!(said.contains("--threads"), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
