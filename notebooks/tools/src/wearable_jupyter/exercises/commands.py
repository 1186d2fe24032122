"""The command exercises."""

from pathlib import Path

from ..setup import paths
from ..setup.errors import UserError
from . import learner, notebooks
from .nbgrader import write_course


def command(folder: str | None, caller: Path, nbgrader: bool, update_notebooks: bool) -> None:
    """Copy the exercises, write a course for nbgrader, or update the project's notebooks."""
    if update_notebooks:
        if folder is not None or nbgrader:
            raise UserError(
                "--update-notebooks cannot be combined with other arguments. "
                "Run: ./justw exercises --update-notebooks"
            )
        changed = notebooks.update()
        print("\n".join(f"Written: {paths.display_path(path)}" for path in changed) or "No change")
    elif nbgrader:
        write_course(caller / (folder or "course"), caller)
    else:
        learner.copy(caller / (folder or "exercises"), caller)
