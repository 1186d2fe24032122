"""The rooms of the package: arrows between them go one way, and there is no circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import wearable_jupyter

PACKAGE = Path(wearable_jupyter.__file__).parent
# Which other rooms may come into a room; DESIGN.md draws it.
MAY_COME_IN = {
    "setup": set(),
    "export": set(),
    "cluster": {"setup"},
    "kernel": {"setup"},
    "notebook": {"setup", "kernel", "export"},
    "bench": {"setup", "kernel", "notebook", "export"},
}


def imports(file: Path) -> set[str]:
    """The package's modules that a module asks for, also inside its functions."""
    found = set()
    own = file.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*own[: len(own) - node.level], *(node.module or "").split(".")]
            base = [part for part in base if part]
            for alias in node.names:
                named = [*base, alias.name]
                is_module = PACKAGE.joinpath(*named).with_suffix(".py").is_file()
                found.add(".".join(named if is_module else base))
    return found


def modules() -> dict[str, set[str]]:
    files = [file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"]
    return {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts): imports(file) for file in files
    }


def test_arrows_between_rooms_go_one_way():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(MAY_COME_IN)
    for module, asked in modules().items():
        room = module.split(".")[0]
        for other in asked:
            entered = other.split(".")[0]
            if room in rooms and entered != room:
                assert entered in MAY_COME_IN[room], f"{module} asks for {other}"
            elif room not in rooms and entered == "bench":
                assert module == "command_line"


def test_there_is_no_circle():
    graph = modules()
    assert len(graph) > 25 and "kernel.relay" in graph["kernel.companion"]
    list(TopologicalSorter(graph).static_order())


def test_each_room_says_what_it_is_and_what_may_come_in():
    for room in MAY_COME_IN:
        said = (PACKAGE / room / "__init__.py").read_text()
        assert "come in" in said and len(said.splitlines()) <= 6
