"""Writes the exercise notebooks from their sources."""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ..runner import clean
from ..setup import paths
from ..setup.atomic_write import write
from . import sources
from .sources import Task

# The title, the instructions and the setup, with fields in braces.
TEMPLATE = "notebook.md"
DEPENDENCY = re.compile(r'(?<=:dep wearable_demo = \{ path = )".*?"(?= \})')


def notebook_name(walkthrough: str) -> str:
    """`exercises_02a` for `02a_lazy_join`."""
    return f"exercises_{walkthrough.partition('_')[0]}"


def all_notebooks() -> dict[str, NotebookNode]:
    """The exercise notebooks by their names without suffix."""
    return {name: notebook(tasks) for name, tasks in tasks_by_notebook().items()}


def tasks_by_notebook() -> dict[str, list[Task]]:
    """The tasks of each exercise notebook, by its name."""
    groups: dict[str, list[Task]] = {}
    for task in sources.tasks():
        groups.setdefault(notebook_name(task.walkthrough), []).append(task)
    return groups


def markdown(name: str, text: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(text, id=name)


def code(name: str, text: str, *tags: str) -> NotebookNode:
    return nbformat.v4.new_code_cell(text, id=name, metadata={"tags": list(tags)} if tags else {})


def notebook(tasks: list[Task]) -> NotebookNode:
    """The notebook of the tasks of one walkthrough."""
    made = nbformat.v4.new_notebook(metadata=clean.METADATA)
    made.cells = setup_cells(tasks)
    for task in tasks:
        made.cells += task_cells(task)
    return made


def setup_cells(tasks: list[Task]) -> list[NotebookNode]:
    """The cells before the first task."""
    template = (sources.FOLDER / TEMPLATE).read_text(encoding="utf-8")
    intro, *blocks = re.split(r"\n*```rust\n(.*?)\n```\n*", template, flags=re.DOTALL)
    intro = intro.replace("{walkthrough}", tasks[0].walkthrough)
    intro, _, setup = intro.replace("{count}", count(len(tasks))).partition("\n## ")
    cells = [markdown("title", intro.strip()), markdown("setup", f"## {setup}".strip())]
    names = ("load-library", "data")
    return cells + [code(n, text) for n, text in zip(names, blocks[::2], strict=True)]


def count(number: int) -> str:
    words = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    return words[number - 1] if number <= len(words) else str(number)


def task_cells(task: Task) -> list[NotebookNode]:
    """The cells of a task."""
    name = f"task-{task.number:02}"
    heading = f"## {task.number}. {task.title}\n\n*About {task.minutes} minutes.* "
    cells = [markdown(name, heading + task.text)]
    if task.given is not None:
        cells.append(code(f"{name}-given", task.given))
    cells.append(code(f"{name}-answer", task.starter))
    cells.append(code(f"{name}-check", task.check(), "shows-text"))
    hints = [f"// exercise({task.number})?.hint({n})" for n in range(1, task.hints + 1)]
    cells.append(
        code(f"{name}-help", "\n".join([*hints, f"// exercise({task.number})?.solution()"]))
    )
    return cells


def with_library(made: NotebookNode, path: str) -> NotebookNode:
    """`made` with another path of the library, as a string of Rust and TOML."""
    for cell in made.cells:
        cell.source = DEPENDENCY.sub(lambda _: path, cell.source)
    return made


def files() -> dict[Path, str]:
    """The content of each exercise notebook in `notebooks/`."""
    return {
        paths.NOTEBOOKS / f"{name}.ipynb": clean.serialized(made)
        for name, made in all_notebooks().items()
    }


def outdated() -> dict[Path, str]:
    """The new content of each exercise notebook in `notebooks/` that differs from its sources."""
    return {
        path: text
        for path, text in files().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }


def update() -> list[Path]:
    """Write the exercise notebooks in `notebooks/`; the changed files."""
    changed = outdated()
    for path, text in changed.items():
        write(path, text)
    return list(changed)
