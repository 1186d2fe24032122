"""Tags that require an output of a cell, such as `shows-table`, and their checks."""

from nbformat import NotebookNode

from ..export.charts import MIME as CHART
from . import measured
from .streams import without_colors

# Jupyter's tag for a cell that must fail.
RAISES_EXCEPTION = "raises-exception"
# Jupyter's tag for a cell that is not run.
SKIP_EXECUTION = "skip-execution"


def outputs(cell: NotebookNode, mime: str) -> list:
    """The cell's outputs of a MIME type."""
    return [o.data[mime] for o in cell.outputs if "data" in o and mime in o.data]


def stream(cell: NotebookNode, name: str) -> str:
    """The cell's output to stdout or stderr."""
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == name)


REQUIRED_OUTPUTS = {
    "shows-table": lambda cell: any("<table" in html for html in outputs(cell, "text/html")),
    "shows-chart": lambda cell: any(chart.get("data") for chart in outputs(cell, CHART)),
    "shows-picture": lambda cell: any("<svg" in html for html in outputs(cell, "text/html")),
    "shows-text": lambda cell: bool(
        stream(cell, "stdout").strip() or "".join(outputs(cell, "text/plain")).strip()
    ),
}


def fault(cell: NotebookNode) -> str | None:
    """Why an executed cell counts as failed, or None."""
    tags = cell.metadata.get("tags", [])
    errors = [o for o in cell.outputs if o.output_type == "error"]
    if RAISES_EXCEPTION in tags:
        return (
            None
            if errors
            else f"the tag {RAISES_EXCEPTION} requires a failure, but the cell passed"
        )
    if errors:
        return "\n".join(
            without_colors("\n".join(e.traceback) or f"{e.ename}: {e.evalue}") for e in errors
        )
    for tag in tags:
        if tag.startswith(measured.PREFIX) and tag not in measured.UNITS:
            return f"unknown tag {tag}. Use one of: {', '.join(measured.UNITS)}"
        if tag.startswith("shows-") and tag not in REQUIRED_OUTPUTS:
            return f"unknown tag {tag}. Use one of: {', '.join(REQUIRED_OUTPUTS)}"
        if tag in REQUIRED_OUTPUTS and not REQUIRED_OUTPUTS[tag](cell):
            shown = [m for o in cell.outputs for m in o.get("data", {o.output_type: None})]
            return f"the tag {tag} requires an output that is missing. The cell shows: " + (
                ", ".join(shown) or "nothing"
            )
    return None
