//! The structure of the workspace: dependencies, names, included files, and errors of the crates.

use std::fs;
use std::path::{Path, PathBuf};

use wearable_demo::tables::TABLES;

/// The crates of this workspace that each crate may depend on.
const MAY_DEPEND_ON: [(&str, &[&str]); 9] = [
    ("dataset_writer", &[]),
    ("evcxr_shim", &[]),
    ("polars_profile", &["dataset_writer"]),
    ("polars_notebook", &["polars_profile", "dataset_writer"]),
    ("spark_stages", &["polars_notebook", "polars_profile", "dataset_writer"]),
    ("wearable_datagen", &["dataset_writer"]),
    (
        "wearable_demo",
        &[
            "wearable_datagen",
            "spark_stages",
            "polars_notebook",
            "polars_profile",
            "dataset_writer",
        ],
    ),
    ("generate_demo_data", &["wearable_demo"]),
    ("spark_connect_query", &[]),
];

/// Crates that can be used for other data.
const GENERIC: [&str; 5] =
    ["dataset_writer", "evcxr_shim", "polars_notebook", "polars_profile", "spark_stages"];

/// Column names that other data can also contain. The other names are specific to the demo.
const COMMON_COLUMNS: [&str; 4] = ["age", "gender", "date", "steps"];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files of a crate, with their text.
fn files(name: &str) -> Vec<(PathBuf, String)> {
    fn below(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => below(&path, files),
                false => files.push((path.clone(), fs::read_to_string(&path).unwrap_or_default())),
            }
        }
    }
    let mut files = Vec::new();
    below(&crates().join(name), &mut files);
    files
}

/// The names in a manifest's section `[dependencies]`.
fn dependencies(name: &str) -> Vec<String> {
    let manifest = fs::read_to_string(crates().join(name).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| Some(line.split_once(['.', ' ', '='])?.0.to_owned())).collect()
}

#[test]
fn every_crate_is_listed() {
    let folders = fs::read_dir(crates()).unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|folder| folder.join("Cargo.toml").is_file()) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert!(MAY_DEPEND_ON.iter().any(|(listed, _)| *listed == name), "{name}");
    }
}

#[test]
fn dependencies_point_in_one_direction() {
    for (name, allowed) in MAY_DEPEND_ON {
        for dependency in dependencies(name) {
            let is_own = MAY_DEPEND_ON.iter().any(|(own, _)| *own == dependency);
            assert!(
                !is_own || allowed.contains(&dependency.as_str()),
                "{name} depends on {dependency}"
            );
        }
    }
}

#[test]
fn generic_crates_contain_no_name_of_the_demo() {
    let mut names = vec!["wearable"];
    for table in TABLES {
        names.push(table.name);
        let columns = table.columns.iter().map(|column| column.name);
        names.extend(columns.filter(|column| !COMMON_COLUMNS.contains(column)));
    }
    for name in GENERIC {
        for (path, text) in files(name) {
            for (number, line) in text.lines().enumerate() {
                let found = names.iter().find(|name| contains_word(line, name));
                assert!(found.is_none(), "{}:{}: {}", path.display(), number + 1, found.unwrap());
            }
        }
    }
}

/// Whether `line` contains `name` as a whole word. The project's name also counts within a longer word.
fn contains_word(line: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.to_lowercase().match_indices(name).any(|(at, found)| {
        let (before, after) =
            (&line.to_lowercase()[..at], &line.to_lowercase()[at + found.len()..]);
        name == "wearable" || !(before.ends_with(is_part) || after.starts_with(is_part))
    })
}

#[test]
fn no_crate_includes_a_file_of_another() {
    for (name, _) in MAY_DEPEND_ON {
        for (path, text) in files(name) {
            // This test contains the pattern itself. The data dictionary belongs to no crate.
            if path.ends_with("tests/architecture.rs") {
                continue;
            }
            for macro_name in ["include_str!(\"", "include!(\"", "include_bytes!(\""] {
                for (at, _) in text.match_indices(macro_name) {
                    let included = text[at + macro_name.len()..].split('"').next().unwrap();
                    let outside =
                        included.matches("../").count() > 1 && !included.contains("data/");
                    assert!(!outside, "{} includes {included}", path.display());
                }
            }
        }
    }
}

/// A bundle contains the compiled crates, and they are used in clones with other paths.
#[test]
fn no_bundled_crate_contains_the_path_of_its_clone() {
    for (name, _) in MAY_DEPEND_ON.iter().filter(|(name, _)| *name != "wearable_demo") {
        let src = crates().join(name).join("src");
        for (path, text) in files(name).into_iter().filter(|(path, _)| path.starts_with(&src)) {
            assert!(!text.contains("CARGO_MANIFEST_DIR"), "{}", path.display());
        }
    }
}

/// Otherwise code could depend on Linux without a defined behaviour elsewhere.
#[test]
fn only_platform_modules_distinguish_operating_systems() {
    let mut modules = 0;
    for (name, _) in MAY_DEPEND_ON {
        let is_source = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
        for (path, text) in files(name).into_iter().filter(|(path, _)| is_source(path)) {
            let in_src = path.strip_prefix(crates().join(name)).unwrap().starts_with("src");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let found =
                ["target_os", "target_vendor", "cfg(unix)", "cfg(not(unix))", "libc::", "/proc/"]
                    .into_iter()
                    .find(|word| code.contains(word));
            match path.file_name().is_some_and(|file| file == "platform.rs") {
                true => modules += 1,
                false => assert!(!in_src || found.is_none(), "{}: {found:?}", path.display()),
            }
        }
    }
    assert_eq!(modules, 3, "modules named platform.rs");
}

#[test]
fn each_library_has_its_own_error() {
    let libraries = MAY_DEPEND_ON.iter().map(|(name, _)| *name);
    for name in libraries.filter(|name| crates().join(name).join("src/lib.rs").is_file()) {
        let error = fs::read_to_string(crates().join(name).join("src/error.rs"))
            .unwrap_or_else(|_| panic!("{name} has no src/error.rs"));
        assert!(error.contains("pub enum Error"), "{name}");
    }
}

#[test]
fn wearable_demo_is_thin() {
    let source = crates().join("wearable_demo/src");
    let lines = files("wearable_demo")
        .iter()
        .filter(|(path, _)| {
            path.starts_with(&source) && path.extension().is_some_and(|e| e == "rs")
        })
        .map(|(_, text)| text.lines().count())
        .sum::<usize>();
    assert!(lines <= 1_160, "{lines} lines");
}
