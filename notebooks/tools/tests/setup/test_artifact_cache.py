"""Paths in the output of rustc and build scripts are translated to another location."""

import os
import subprocess
from pathlib import Path

import pytest

from wearable_jupyter.setup import artifact_cache, toolchain

# `:` and line breaks are missing, because lists of paths cannot contain them.
NAMES = [
    "plain",
    "with a space",
    "two  spaces and one behind ",
    "back\\slash",
    'quote\'s and "quotes"',
    "[brackets] {braces} (parens)",
    "a.dot*star^hat$HOME|bar",
    "hash # percent % amp & at @ tilde ~",
    "ümläut 日本語",
    "=equals; semicolon, comma",
    "`backticks` $(true)",
    "-dash",
    "a\\ b",
]


def dep_info(base: Path) -> tuple[dict[str, str], bytes]:
    """The files that rustc writes for a crate, its source and its includes, below `base`."""
    target, cargo_home = base / "the target", base / "the cargo"
    out, source = target / "debug/out", cargo_home / "registry/a-1.0/src/lib.rs"
    for folder in (out, source.parent):
        folder.mkdir(parents=True)
    source.write_text('include!(concat!(env!("OUT_DIR"), "/made.rs"));')
    (out / "made.rs").write_text("pub fn made() {}")
    subprocess.run(
        ["rustc", "--crate-type=lib", "--emit=dep-info", "--out-dir", target / "debug", source],
        cwd=source.parent,
        env=os.environ | {"OUT_DIR": str(out), "RUSTUP_TOOLCHAIN": toolchain.pinned()["channel"]},
        check=True,
    )
    places = {"target": str(target), "cargo_home": str(cargo_home)}
    return places, (target / "debug/lib.d").read_bytes()


def run_sed(script: str, text: bytes) -> bytes:
    command = ["sed", "-f", "/dev/fd/3"]
    reading, writing = os.pipe()
    os.write(writing, os.fsencode(script))
    os.close(writing)
    command[2] = f"/dev/fd/{reading}"
    done = subprocess.run(
        command,
        input=text,
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ | {"LC_ALL": "C"},
        pass_fds=[reading],
    )
    os.close(reading)
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_dep_info_paths_are_translated_as_rustc_writes_them(name, tmp_path):
    plain, at_plain = dep_info(tmp_path / "elsewhere" / "plain")
    hostile, at_hostile = dep_info(tmp_path / name / "deeper")
    assert at_plain != at_hostile and b"env-dep:OUT_DIR" in at_plain
    translations = [(plain[key], hostile[key]) for key in plain]
    assert run_sed(artifact_cache.translate_dep_info(translations), at_plain) == at_hostile
    back = [(after, before) for before, after in translations]
    assert run_sed(artifact_cache.translate_dep_info(back), at_hostile) == at_plain


@pytest.mark.parametrize("name", NAMES)
def test_output_of_build_scripts_is_translated(name):
    here = f"/clones/{name}/target"
    paths = [("/build/target", here), ("/cargo", f"/build/target/{name}/cargo")]
    home = paths[1][1]
    for before, after in {
        "cargo:rustc-link-search=native=/build/target/out": f"native={here}/out",
        "cargo:root=/build/target": f"root={here}",
        "cargo:rustc-flags=-L/cargo/a -L /cargo/b": f"-L{home}/a -L {home}/b",
        "cargo:include=/cargo/a:/cargo/b:/cargo/c": f"={home}/a:{home}/b:{home}/c",
        'cargo:rustc-env=X="/cargo/a"': f'X="{home}/a"',
        # The path is only a part of another path, or of a name.
        "cargo:rustc-env=X=/opt/cargo/a": "X=/opt/cargo/a",
        "cargo:rustc-env=X=/cargo-old/a /build/target2": "X=/cargo-old/a /build/target2",
    }.items():
        printed = run_sed(artifact_cache.translate(paths), f"{before}\n".encode()).decode()
        assert printed.endswith(f"{after}\n"), printed
