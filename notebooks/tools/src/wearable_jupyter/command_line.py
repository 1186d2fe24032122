"""Commands of the justfile's recipes, with their arguments."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from . import development, doctor
from .bootstrap.venv import BUNDLE_VARIABLE
from .exercises import commands as exercises
from .kernel import install, template
from .runner import commands, smoke
from .runner.strict_run import CELL_SECONDS
from .setup import dataset, offline_bundle


def setup(bundle: str | None, dependencies: bool, download: bool) -> None:
    # justw has already installed the bundle, because it needs the Python packages in it.
    if bundle is not None and not os.environ.get(BUNDLE_VARIABLE):
        offline_bundle.install(Path(bundle))
    if dependencies:
        template.prepare_dependencies(download)
        return
    template.prepare(download)
    print("Running two cells in a new kernel", flush=True)
    smoke.check_kernel()
    print("Everything is ready: ./justw lab, ./justw run or ./justw test")


def bench(what: str, rounds: int | None) -> None:
    from .bench import generate, measure, queries  # needs packages for development

    work = {
        "kernel": measure.kernel,
        "lab": measure.lab,
        "queries": queries.queries,
        "generate": generate.generate,
    }
    work[what](*([rounds] if rounds else []))


def cluster(options: list[str]) -> int | None:
    from .cluster import recipe  # rarely used

    return recipe.command(options)


def seconds(text: str) -> int:
    """A positive time limit."""
    number = int(text)
    if number <= 0:
        raise ValueError
    return number


def directory(text: str) -> Path:
    return Path(text).resolve()


def parser() -> argparse.ArgumentParser:
    # No abbreviations: `--upd` must not overwrite snapshots.
    new_parser = partial(argparse.ArgumentParser, allow_abbrev=False)
    commands_parser = new_parser(prog="wearable_jupyter", description=__doc__)
    table = commands_parser.add_subparsers(dest="command", required=True, parser_class=new_parser)

    def command(name: str, work, text: str) -> argparse.ArgumentParser:
        added = table.add_parser(name, help=text)
        added.set_defaults(work=work)
        return added

    def with_notebooks(name: str, work, text: str) -> argparse.ArgumentParser:
        added = command(name, work, text)
        added.add_argument(
            "names",
            nargs="*",
            metavar="notebook",
            help="a path or the name of a project notebook [default: all project notebooks]",
        )
        added.add_argument(
            "--cell-seconds",
            type=seconds,
            default=CELL_SECONDS,
            dest="limit",
            metavar="SECONDS",
            help=f"time limit for each cell [default: {CELL_SECONDS}]",
        )
        # Recipes pass the caller's directory, because just changes it.
        added.add_argument("--caller", type=directory, default=Path.cwd(), help=argparse.SUPPRESS)
        return added

    ready = command("setup", setup, "install and compile everything")
    ready.add_argument(
        "--from", dest="bundle", metavar="FILE", help="install from this offline bundle"
    )
    ready.add_argument(
        "--dependencies",
        action="store_true",
        help="compile third-party packages only, for an image or a shared cache",
    )
    ready.add_argument(
        "--compile",
        action="store_false",
        dest="download",
        help="compile, and download no bundle from the repository's releases",
    )
    packed = command(
        "offline-bundle", offline_bundle.create, "write an offline bundle for other machines"
    )
    packed.add_argument(
        "--toolchain",
        action="store_true",
        dest="with_toolchain",
        help="include the Rust toolchain",
    )
    command("doctor", doctor.report, "check the setup and print fixes")
    kernel = command(
        "install-kernel",
        install.install,
        "install the kernel for VS Code and other Jupyter installations",
    )
    kernel.add_argument("--remove", action="store_true", help="uninstall the kernel")
    with_notebooks("run", commands.run, "run notebooks, and write the executed notebooks and HTML")
    check = with_notebooks(
        "check", commands.check, "run notebooks and compare their outputs with the snapshots"
    )
    check.add_argument("--update", action="store_true", help="accept the new outputs as snapshots")
    html = with_notebooks("html", commands.to_html, "write notebooks as HTML")
    html.add_argument("--slides", action="store_true", help="write reveal.js slides")
    html.add_argument("--no-code", action="store_true", help="omit the code of cells")
    data = command("data", dataset.make, "generate a dataset")
    data.add_argument(
        "size",
        nargs="?",
        default="small",
        help="small, large, or a number of rows [default: small]",
    )
    data.add_argument("options", nargs=argparse.REMAINDER, help="options of the generator")
    measured = command("bench", bench, "benchmark against Python")
    measured.add_argument(
        "what", choices=["kernel", "lab", "queries", "generate"], help="the benchmark"
    )
    measured.add_argument("--rounds", type=int, metavar="N", help="measured runs of each benchmark")
    copied = command("exercises", exercises.command, "copy the exercises into your own directory")
    copied.add_argument(
        "folder",
        nargs="?",
        metavar="DIRECTORY",
        help="the directory [default: exercises, or course with --nbgrader]",
    )
    copied.add_argument(
        "--nbgrader", action="store_true", help="write a course for nbgrader, with the solutions"
    )
    copied.add_argument(
        "--update-notebooks",
        action="store_true",
        help="write the exercise notebooks in notebooks/ again from their sources",
    )
    copied.add_argument("--caller", type=directory, default=Path.cwd(), help=argparse.SUPPRESS)
    command("fmt", development.fmt, "format everything")
    command("lint", development.lint, "check formatting and lints")
    command("test", development.test, "run all tests; options go to pytest")
    command("cluster", cluster, "start, query, test or measure a local cluster")
    return commands_parser


# Commands whose arguments belong to another program.
PASS_THROUGH = ("test", "cluster")


def main() -> int | None:
    ours = sys.argv[1:2] if sys.argv[1:2] and sys.argv[1] in PASS_THROUGH else sys.argv[1:]
    given = vars(parser().parse_args(ours))
    if given.pop("command") in PASS_THROUGH:
        given["options"] = sys.argv[2:]
    return given.pop("work")(**given)
