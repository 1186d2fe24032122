"""Subpackages import in one direction, and modules do not import each other in cycles."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import wearable_jupyter

PACKAGE = Path(wearable_jupyter.__file__).parent
# The subpackages that each subpackage may import; see the diagram in DESIGN.md.
MAY_IMPORT = {
    "bootstrap": set(),
    "setup": {"bootstrap"},
    "export": set(),
    "cluster": {"bootstrap", "setup"},
    "kernel": {"bootstrap", "setup"},
    "runner": {"bootstrap", "setup", "kernel", "export"},
    "exercises": {"bootstrap", "setup", "kernel", "runner", "export"},
    "bench": {"bootstrap", "setup", "kernel", "runner", "export"},
}


def module_name(file: Path, package: Path) -> str:
    """The name of a module's file, such as `kernel.proxy`; of `__init__.py`, the subpackage's."""
    parts = file.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(package: Path) -> dict[str, set[str]]:
    """Each module of a package with the modules that it imports, also inside its functions."""
    files = {module_name(file, package): file for file in package.rglob("*.py")}
    return {name: imports(name, file, package.name, files) for name, file in files.items()}


def imports(name: str, file: Path, root: str, files: dict[str, Path]) -> set[str]:
    """The modules among `files` that `file` imports, by relative and by absolute imports."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    targets = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            targets += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = [root, *filter(None, package.split("."))]
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else None
            base = ".".join(filter(None, (base, node.module)))
            targets += [f"{base}.{alias.name}" for alias in node.names]
    imported = set()
    for target in targets:
        first, *rest = target.split(".")
        # `from .module import name`: the module is the longest part of the path that is a file.
        while first == root and rest and ".".join(rest) not in files:
            rest.pop()
        if first == root and rest:
            imported.add(".".join(rest))
    return imported


def wrong_directions(graph: dict[str, set[str]]) -> list[str]:
    """The imports between subpackages that `MAY_IMPORT` does not allow."""
    return [
        f"{module} imports {other}"
        for module, imported in graph.items()
        for other in imported
        if (ours := module.split(".")[0]) in MAY_IMPORT
        and (theirs := other.split(".")[0]) != ours
        and theirs not in MAY_IMPORT[ours]
    ]


def test_subpackages_import_in_one_direction():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(MAY_IMPORT)
    assert wrong_directions(modules(PACKAGE)) == []


def test_modules_do_not_import_each_other_in_cycles():
    graph = modules(PACKAGE)
    assert len(graph) > 50 and "kernel.proxy" in graph["kernel.supervisor"]
    list(TopologicalSorter(graph).static_order())


def test_only_the_command_line_imports_the_benchmarks():
    graph = modules(PACKAGE)
    others = {name for name in graph if not name.startswith("bench")}
    importers = {name for name in others if any(m.startswith("bench") for m in graph[name])}
    assert importers == {"command_line"}


@pytest.mark.parametrize(
    "statement",
    [
        "from ..kernel import proxy",
        "from ..kernel.proxy import Proxy",
        "from wearable_jupyter.kernel import proxy",
        "from wearable_jupyter.kernel.proxy import Proxy",
        "import wearable_jupyter.kernel.proxy",
        "def later():\n    from ..kernel import proxy",
    ],
)
def test_every_form_of_import_is_found(tmp_path, statement):
    package = tmp_path / "wearable_jupyter"
    for file in ("__init__", "setup/__init__", "kernel/__init__", "kernel/proxy"):
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{file}.py").touch()
    (package / "setup/paths.py").write_text(statement)
    assert wrong_directions(modules(package)) == ["setup.paths imports kernel.proxy"]
