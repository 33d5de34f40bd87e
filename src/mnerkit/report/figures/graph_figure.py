"""One picture of a post's graph: the post's picture with its grid, A before the update, A' after it."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mnerkit.data.corpus.tags import entities
from mnerkit.errors import UsageError
from mnerkit.methods.figures.graphs import PostGraph
from mnerkit.printable import one_line
from mnerkit.type_colours import colours_of

DPI = 130
# inches
CELL, SMALLEST = 0.165, 3.4
# a picture's nodes that would take more room than this (a ViT's patches) get smaller cells, and fewer names
PATCHES = 6.6
PICTURE, MARGIN = 3.3, 0.3
LONGEST = 16  # characters of a label
FONT = 7.5  # points, of a label


def load_figure() -> Any:
    """Matplotlib's `Figure`, which is imported when something is drawn.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "drawing needs matplotlib: pip install 'mnerkit[figures]', or pip install matplotlib"
        ) from None
    return Figure


def png(graph: PostGraph) -> bytes:
    """The figure as a PNG file.

    Left the pictures, with numbered cells where cells are the nodes; right the heat maps of A and A', words first, a
    line between words and image nodes, names of entities in the colour of their gold type.

    Raises:
        UsageError: matplotlib is not installed.
    """
    return _Drawing(graph, load_figure()).png()


class _Drawing:
    """Axes are placed in inches, so that a label has the same size in every figure."""

    def __init__(self, graph: PostGraph, figure_class: Any) -> None:
        self.graph = graph
        self.colours = colours_of(graph.prediction.types)
        self.labels = [_short(label) for label in graph.labels]
        # of each word that is a node, the colour of its entity
        self.word_colours = [self.colours.get(kind, "black") if kind else None for kind in graph.word_types]
        count = len(graph.places)
        patch = min(CELL, PATCHES / max(1, len(self.labels) - count))
        sizes = np.where(np.arange(len(self.labels)) < count, CELL, patch)
        sizes *= max(1.0, SMALLEST / sizes.sum())
        self.edges = np.concatenate(([0.0], np.cumsum(sizes)))  # of the cells, in inches
        self.side = float(self.edges[-1])
        # words are always named, and as many patches as names do not overlap
        self.step = max(1, math.ceil(1.15 * FONT / (72 * float(sizes[-1]))))
        room = max([3, *map(len, self.labels)]) * FONT * 0.0094 + 0.12
        self.first = MARGIN + PICTURE + 0.35 + room  # left edge of the first map
        self.second = self.first + self.side + 0.35
        self.width = self.second + self.side + 0.85
        self.header = list(self._header())
        self.top = 0.3 + 0.2 * len(self.header) + 0.42  # of maps and pictures, from above
        self.height = self.top + max(self.side + room, PICTURE + 1.2) + 0.15
        self.figure = figure_class(figsize=(self.width, self.height), dpi=DPI, facecolor="white")

    def png(self) -> bytes:
        title, *lines = self.header
        self._write(MARGIN, 0.2, title, fontweight="bold", fontsize=11)
        for number, line in enumerate(lines, 1):
            self._write(MARGIN, 0.2 + 0.2 * number + 0.06, line, fontweight="normal", fontsize=8, family="monospace")
        lowest = min(self.graph.before.min(initial=0), self.graph.after.min(initial=0))
        signed = lowest < -0.005
        style = {"cmap": "RdBu" if signed else "Blues", "vmin": -1 if signed else 0, "vmax": 1}
        self._map(self.first, self.graph.before, "A, before", style, named=True)
        drawn = self._map(self.second, self.graph.after, "A', after", style, named=False)
        bar = self._axes(self.second + self.side + 0.15, self.top, 0.14, self.side)
        self.figure.colorbar(drawn, cax=bar)
        bar.tick_params(labelsize=7)
        self._pictures()
        content = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # a tweet's emoji
            self.figure.savefig(content, format="png", metadata={"Software": None})
        return content.getvalue()

    def _axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Axes in inches from the upper left corner; matplotlib takes shares from the lower left one."""
        corner = left / self.width, (self.height - top - height) / self.height
        return self.figure.add_axes((*corner, width / self.width, height / self.height))

    def _write(self, left: float, top: float, text: str, **style: Any) -> None:
        style = {"fontsize": 9, "va": "top", **style}
        self.figure.text(left / self.width, 1 - top / self.height, text, parse_math=False, **style)

    # ------------------------------------------------------------------ words above

    def _header(self) -> Iterator[str]:
        """The post; then its words, gold and predicted entities."""
        prediction = self.graph.prediction
        episode = "" if prediction.episode is None else f"   episode {prediction.episode}"
        yield _shown(f"post {prediction.post.id}{episode}   types {', '.join(prediction.types)}")
        gold = prediction.gold if prediction.post.tags is not None else None
        lines = {
            "words:": " ".join(prediction.post.words),
            "gold:": "unknown" if gold is None else self._named(gold),
            "predicted:": self._named(prediction.tags, gold),
        }
        room = int(self.width * 72 / (9 * 0.56)) - 14
        for name, text in lines.items():
            for number, line in enumerate(textwrap.wrap(_shown(text), room) or ["-"]):
                yield f"{'' if number else name:<11}{line}"

    def _named(self, tags: Sequence[str], gold: Sequence[str] | None = None) -> str:
        """Entities as text; right (✓) or wrong (✗) where `gold` is given."""
        right = set(entities(gold or ()))
        parts = []
        for span in entities(tags):
            mark = "" if gold is None else (" ✓" if span in right else " ✗")
            parts.append(" ".join(self.graph.prediction.post.words[span.start : span.end]) + f" [{span.type}]{mark}")
        return ",   ".join(parts) or "no entity"

    # ------------------------------------------------------------------ heat maps

    def _map(self, left: float, values: Any, title: str, style: dict[str, Any], named: bool) -> Any:
        axes = self._axes(left, self.top, self.side, self.side)
        drawn = axes.pcolormesh(self.edges, self.edges, values, **style)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=10, loc="left", pad=16)
        length, count = len(self.labels), len(self.graph.places)
        if 0 < count < length:
            axes.axhline(self.edges[count], color="#222222", linewidth=1.4)
            axes.axvline(self.edges[count], color="#222222", linewidth=1.4)
            for start, end, kind in ((0, count, "words"), (count, length, "image")):
                if end - start >= 3:
                    middle = (self.edges[start] + self.edges[end]) / 2
                    above = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
                    look = {"fontsize": 7.5, "ha": "center", "color": "#555555"}
                    axes.annotate(kind, (middle, 1), (0, 3), **above, **look)
        ticks = [place for place in range(length) if place < count or (place - count) % self.step == self.step // 2]
        names = [self.labels[place] for place in ticks]
        middles = (self.edges[1:] + self.edges[:-1])[ticks] / 2
        axes.set_xticks(middles, names, rotation=90, fontsize=FONT, parse_math=False)
        axes.set_yticks(middles, names if named else [""] * len(names), fontsize=FONT, parse_math=False)
        axes.tick_params(length=0, pad=3)
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            for colour, label in zip(self.word_colours, labels, strict=False):  # words are the first nodes
                if colour:
                    label.set(color=colour, fontweight="bold")
        axes.spines[:].set_color("#999999")
        return drawn

    # ------------------------------------------------------------------ pictures

    def _pictures(self) -> None:
        graph, top, left = self.graph, self.top, MARGIN
        limit = (self.side - 0.3) / len(graph.pictures) if len(graph.pictures) > 1 else PICTURE
        for number, pixels in enumerate(graph.pictures):
            if pixels is None:
                self._write(left, top, f"picture {number + 1} is missing", color="#777777", style="italic")
                top += 0.35
                continue
            height, width = pixels.shape[:2]
            scale = min(PICTURE / width, limit / height)
            axes = self._axes(left, top, scale * width, scale * height)
            axes.imshow(pixels, aspect="auto", interpolation="nearest" if max(width, height) <= 128 else "antialiased")
            axes.set(xticks=[], yticks=[])
            self._grid(axes, width, height, number)
            top += scale * height + 0.15
            for caption in graph.captions[number : number + 1]:
                for line in textwrap.wrap(_shown(caption), 50)[:6]:
                    self._write(left, top, line, fontsize=8, style="italic")
                    top += 0.18
        if not graph.pictures:
            self._write(left, top, "no picture", color="#777777", style="italic")
            top += 0.35
        for kind, colour in self.colours.items():
            if any(tag[2:] == kind for tag in graph.prediction.gold):
                self._write(left, top + 0.05, f"■ {_shown(kind)}", color=colour, fontweight="bold")
                left += 0.25 + 0.1 * (len(kind) + 2)

    def _grid(self, axes: Any, width: int, height: int, number: int) -> None:
        """Lines of the grid over a picture of `width` x `height`, and the cells' numbers where they can be read."""
        cells = self.graph.cells
        for line in range(1, cells):
            for draw, length in ((axes.axvline, width), (axes.axhline, height)):
                draw(line * length / cells - 0.5, color="white", linewidth=1.6)
                draw(line * length / cells - 0.5, color="black", linewidth=0.6)
        prefix = chr(ord("a") + number) if len(self.graph.pictures) > 1 else ""
        frame = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        for cell in range(cells * cells if cells <= 6 else 0):
            row, column = divmod(cell, cells)
            place = ((column + 0.06) * width / cells, (row + 0.06) * height / cells)
            axes.text(*place, f"{prefix}{cell + 1}", fontsize=8, va="top", ha="left", bbox=frame)


def _shown(text: str) -> str:
    return one_line(text)


def _short(label: str) -> str:
    """A node's name, cut where it is long."""
    label = _shown(label)
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"
