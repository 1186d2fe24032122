"""The workspace's programs start wherever clone and toolchain lie."""

import os
import subprocess

from wearable_jupyter.setup import build, links, paths, toolchain


def test_program_with_a_wrong_rpath_finds_the_standard_library(tmp_path, monkeypatch, capfd):
    """As in a home with both: rustc writes the path from `deps/`, one folder too deep."""
    here = f"{toolchain.host()}/debug"
    home = tmp_path / "deeper/than/any/clone"
    (home / here).mkdir(parents=True)
    for name in ("generate_demo_data", toolchain.shared_library(paths.CRATE)):
        links.link(paths.TARGET / here / name, home / here / name)
    program = home / here / "generate_demo_data"
    without = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    alone = subprocess.run([program, "--help"], env=without, capture_output=True, text=True)
    assert alone.returncode != 0 and "libstd" in alone.stderr

    monkeypatch.setattr(paths, "TARGET", home)
    build.run_binary(program.name, "--help")
    assert "--rows" in capfd.readouterr().out
