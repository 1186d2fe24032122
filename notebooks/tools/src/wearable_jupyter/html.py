"""An executed notebook as one HTML file that needs no network."""

from pathlib import Path

import plotly
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from traitlets.config import Config

TEMPLATES = Path(__file__).parent / "templates"


def export(notebook: NotebookNode, name: str) -> str:
    """The HTML of an executed notebook, with its charts drawn by plotly.js inside the file."""
    config = Config()
    config.HTMLExporter.extra_template_basedirs = [str(TEMPLATES)]
    exporter = HTMLExporter(config=config, template_name="walkthrough")
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    body, _ = exporter.from_notebook_node(
        notebook,
        resources={"metadata": {"name": name}, "plotly_js": script.read_text(encoding="utf-8")},
    )
    return body
