"""rust-analyzer reads fewer packages, and still infers all types."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from wearable_jupyter.kernel import analysis_home, prune_metadata
from wearable_jupyter.setup import paths, toolchain

LOAD = (
    f':dep wearable_demo = {{ path = "{paths.ROOT}/crates/wearable_demo" }}\n'
    "use wearable_demo::prelude::*;"
)


@pytest.fixture(scope="module")
def kernel():
    """A kernel with the library loaded and a lazy frame in it."""
    manager, client = start_new_kernel(kernel_name="rust", cwd=str(paths.NOTEBOOKS))
    for code in (LOAD, 'let frame = df!["x" => [1i64, 2]]?.lazy();'):
        reply = client.execute_interactive(code, timeout=300, output_hook=lambda message: None)
        assert reply["content"]["status"] == "ok", reply
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def reply_to(client, request: str, code: str) -> dict:
    message = getattr(client, request)(code, len(code))
    while True:
        reply = client.get_shell_msg(timeout=120)
        if reply["parent_header"].get("msg_id") == message:
            return reply["content"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("frame.coll", "collect"),
        ('col("x").is_betw', "is_between"),
        ("query::night", "nightly"),
        ("plotly::Pl", "Plot"),
        ("plotly::layout::Ax", "Axis"),
        ("chrono::Naive", "NaiveDate"),
        ("std::collections::Hash", "HashMap"),
        ("std::time::Inst", "Instant"),
        ('"text".to_upp', "to_uppercase"),
        ("Some(1).unwrap_or_d", "unwrap_or_default"),
        ("1_i64.checked_ad", "checked_add"),
        ("vec![1].itera", None),
        ("vec![1].ite", "iter"),
    ],
)
def test_completions_include_polars_plotly_std_and_the_library(kernel, code, expected):
    matches = reply_to(kernel, "complete", code)["matches"]
    if expected is None:
        assert matches == []
    else:
        assert any(match.startswith(expected) for match in matches), matches


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("LazyFrame", "Lazy abstraction"),
        ("frame", "LazyFrame"),
        ("Vec", "A contiguous growable array type"),
        ("std::time::Instant", "monotonically nondecreasing clock"),
        ("chrono::NaiveDate", "ISO 8601 calendar date"),
        ("plotly::Plot", "Plot"),
    ],
)
def test_hovers_show_documentation_of_std_and_the_libraries(kernel, code, expected):
    content = reply_to(kernel, "inspect", code)
    assert content["found"]
    assert expected in content["data"]["text/plain"]


INFERRED = """\
let map = std::collections::HashMap::from([(1, vec![1.5_f64]), (2, vec![])]);
let sorted = { let mut keys = vec![3, 1, 2]; keys.sort_unstable(); keys };
let elapsed = std::time::Instant::now().elapsed().as_secs_f64().max(0.0);
let shared = std::sync::Arc::new(std::sync::Mutex::new([1_u8; 4]));
let date = chrono::NaiveDate::from_ymd_opt(2024, 3, 1).map(|day| day + chrono::Days::new(1));
let squares = (1..=3).map(|n| n as f32 * 2.0).collect::<std::collections::VecDeque<_>>();
"""


def test_types_from_the_standard_library_are_inferred(kernel):
    """Its intrinsics and other crates are hidden from rust-analyzer."""
    shown = 'println!("{} {} {:?} {}", sorted.len(), shared.lock().unwrap()[3], date, squares[2]);'
    outputs = []
    for code in (INFERRED, shown):
        reply = kernel.execute_interactive(code, timeout=300, output_hook=outputs.append)
        assert reply["content"]["status"] == "ok", reply
    text = "".join(m["content"].get("text", "") for m in outputs)
    assert text == "3 1 Some(2024-03-02) 6\n"


def test_the_standard_library_has_every_folder_that_its_crates_include():
    source = toolchain.standard_library()
    for crate in prune_metadata.READ_STD:
        included = re.findall(
            r'#\[path = "\.\./\.\./([^"]+)"\]', (source / crate / "src/lib.rs").read_text()
        )
        for file in included:
            assert (paths.ANALYSIS_LIBRARY / file).is_file(), f"{crate} includes {file}"
    # The links follow an update of the toolchain.
    assert (paths.ANALYSIS_LIBRARY / "core").resolve() == (source / "core").resolve()
    assert len((paths.ANALYSIS_LIBRARY / analysis_home.INTRINSICS).read_text()) < 100


def test_links_to_another_toolchain_are_replaced(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name / "core").mkdir(parents=True)
        analysis_home.make_library(tmp_path / "library", tmp_path / name)
    assert (tmp_path / "library" / "core").resolve() == tmp_path / "new" / "core"
    assert not list((tmp_path / "library").glob("*.part-*"))


def test_metadata_of_the_standard_library_names_the_folder_of_links(monkeypatch, capfd):
    """rust-analyzer finds no crate if the metadata names other files than it has read."""
    # As rust-analyzer does, because the standard library's manifest uses unstable features.
    monkeypatch.setenv("__CARGO_TEST_CHANNEL_OVERRIDE_DO_NOT_USE_THIS", "nightly")
    manifest = paths.ANALYSIS_LIBRARY / "Cargo.toml"
    command = (
        "cargo",
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform",
        toolchain.host(),
    )
    assert prune_metadata.main(paths.CRATE, *command, "--manifest-path", str(manifest)) == 0
    packages = json.loads(capfd.readouterr().out)["packages"]
    assert {package["name"] for package in packages} == set(prune_metadata.READ_STD)
    for package in packages:
        assert package["manifest_path"].startswith(f"{paths.ANALYSIS_LIBRARY}/")


def metadata() -> dict:
    result = subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--offline"],
        cwd=paths.TEMPLATE,
        check=True,
        capture_output=True,
    )
    return json.loads(result.stdout)


def names(pruned: dict) -> set[str]:
    return {package["name"] for package in pruned["packages"]}


def test_metadata_has_only_packages_that_a_cell_can_name():
    complete = metadata()
    before = len(complete["packages"])
    pruned = prune_metadata.prune(complete, paths.CRATE)
    assert before > 300
    assert {"ctx", "wearable_demo", "polars", "polars-core", "plotly", "chrono"} <= names(pruned)
    assert not names(pruned) & {"reqwest", "tokio", "ring", "syn", "serde_derive"}
    assert len(pruned["packages"]) < 50
    # All dependencies that remain refer to remaining packages.
    kept = {package["id"] for package in pruned["packages"]}
    assert {node["id"] for node in pruned["resolve"]["nodes"]} == kept
    for node in pruned["resolve"]["nodes"]:
        assert {d["pkg"] for d in node["deps"]} | set(node["dependencies"]) <= kept


def test_dependencies_of_a_notebook_are_not_pruned():
    """A notebook that depends on rand gets rand with all its dependencies."""
    complete = metadata()
    root = complete["workspace_members"][0]
    rand = next(p["id"] for p in complete["packages"] if p["name"] == "rand")
    assert "rand_core" not in names(prune_metadata.prune(metadata(), paths.CRATE))
    node = next(n for n in complete["resolve"]["nodes"] if n["id"] == root)
    node["deps"].append({"name": "rand", "pkg": rand, "dep_kinds": [{"kind": None}]})
    node["dependencies"].append(rand)
    assert {"rand", "rand_core"} <= names(prune_metadata.prune(complete, paths.CRATE))


def test_failure_of_cargo_is_passed_on(tmp_path, capfd):
    manifest = str(tmp_path / "Cargo.toml")
    assert prune_metadata.main("x", "cargo", "metadata", "--manifest-path", manifest) != 0
    assert "Cargo.toml" in capfd.readouterr().err


def test_lock_file_path_with_braces_works(tmp_path, monkeypatch, capfd):
    """Otherwise cargo would expand a variable in the path, and no types would be inferred."""
    temporary = tmp_path / "{workspace} }"
    temporary.mkdir()
    (temporary / "Cargo.lock").write_text("version = 4\n")
    monkeypatch.setenv("EVCXR_TMPDIR", str(tmp_path))
    monkeypatch.setenv(prune_metadata.LOCK_FILE, str(temporary / "Cargo.lock"))
    read = f'echo "${prune_metadata.LOCK_FILE}"; cat "${prune_metadata.LOCK_FILE}"'
    assert prune_metadata.main("library", "sh", "-c", read) == 0
    path, text = capfd.readouterr().out.splitlines()
    assert path.endswith("/Cargo.lock") and "{" not in path and "}" not in path
    assert text == "version = 4"


def test_unknown_output_of_cargo_is_passed_on(capfdbinary):
    assert prune_metadata.main("x", "echo", "not json") == 0
    assert capfdbinary.readouterr().out == b"not json\n"


def test_no_crate_reexports_a_pruned_crate():
    """polars' inner crates can be pruned only as long as no other crate reexports their items."""
    packages = metadata()["packages"]
    family = [p for p in packages if p["name"].startswith("polars") or p["name"] == paths.CRATE]
    assert {p["name"] for p in family} >= set(prune_metadata.INNER)
    inner = "|".join(name.replace("-", "_") for name in prune_metadata.INNER)
    public = re.compile(rf"^\s*pub (?:use|extern crate) (?:::)?(?:{inner})\b.*", re.MULTILINE)
    for package in family:
        if package["name"] not in prune_metadata.INNER:
            for file in Path(package["manifest_path"]).parent.glob("src/**/*.rs"):
                assert not public.findall(file.read_text()), file
