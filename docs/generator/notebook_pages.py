"""Pages of the notebooks: they are run while the site is built, and shown with what they print."""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# a cell takes a minute on a slow machine; ten times that is a fault
SECONDS = 600
# of widgets, which a page can not show
QUIET = {"PYTHONWARNINGS": "ignore:IProgress not found"}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TAGS = re.compile(r"<[^>]+>")


def notebook_pages(folder: Path) -> dict[str, str | bytes]:
    """The pages of all notebooks of a folder, and their pictures, by their places in the site.

    All are run in one new folder, where what a notebook left is found by the next one.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    made: dict[str, str | bytes] = {}
    with tempfile.TemporaryDirectory() as work:
        # the first steps come first
        for path in sorted(folder.glob("*.ipynb"), reverse=True):
            notebook = nbformat.read(path, as_version=4)
            resources = {"metadata": {"path": work}}
            # over TCP anybody could read along
            config = Config(KernelManager={"transport": "ipc", "ip": f"{work}/{path.stem}"})
            client = NotebookClient(
                notebook, timeout=SECONDS, startup_timeout=SECONDS, resources=resources, config=config
            )
            client.execute(env=os.environ | QUIET)
            made |= shown(notebook, f"{folder.name}/{path.stem}")
    return made


def shown(notebook: Mapping[str, Any], place: str) -> dict[str, str | bytes]:
    """A notebook with its outputs as a page, and its pictures.

    Args:
        notebook: as nbformat reads it.
        place: of the page in the site, without suffix.
    """
    parts: list[str] = []
    pictures: dict[str, str | bytes] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(cell["source"])
            continue
        parts.append(f"```python\n{cell['source']}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{place}-{len(pictures)}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![output]({Path(name).name})")
            elif "text/html" in data:
                lines = [line for line in "".join(data["text/html"]).splitlines() if line.strip()]
                if not _TAGS.sub("", "".join(lines)).strip():  # the place of a progress bar
                    continue
                parts.append('<div class="output">' + "\n".join(lines) + "</div>")
            elif text := _COLOURS.sub("", "".join(output.get("text") or data.get("text/plain") or "")).rstrip():
                parts.append(f"```text\n{text}\n```")
    return {f"{place}.md": "\n\n".join(parts) + "\n", **pictures}
