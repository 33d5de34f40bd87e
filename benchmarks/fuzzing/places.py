"""Where mnerkit opens files, and which of these places no fuzzed reader has to reach."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

# calls that open or parse a file
OPENING = {
    *("open", "fdopen", "read_text", "read_bytes", "loads", "safe_load", "load_file", "safe_open", "XML", "ZipFile"),
    *("DictReader", "literal_eval", "model_validate_json", "from_pretrained"),
    *("csv.reader", "np.load", "OmegaConf.load", "torch.load", "yaml.load", "yaml.parse"),
}
# functions that open what is no file of a user's to be read, or whose reader is another project's; with the reason
ELSEWHERE = {
    "atomic_files": "writes",
    "cli": "writes, and looks for programs' output",
    "data/corpus/same_post:file_digest": "takes bytes as they are, for a digest",
    "data/features/table": "locks a folder, writes shards; reading them is tried",
    "data/pictures/objects:_sha256": "takes bytes as they are, for a digest",
    "methods/model_folder:write": "reads back what it has just written; reading is tried",
    "methods/warm_start": "reads its own cache, and trains anew where that is damaged",
    "plain_yaml:packaged_yaml": "reads files of the package",
    "registry": "reads files of installed plugins",
    "reproduce/executors": "reads answers and logs of its own processes",
    "reproduce/rehearsal/sample_corpus": "reads texts that it has just written",
    "reproduce/rehearsal/stand_in_towers": "transformers' readers, and configurations that they have made",
    "reproduce/rehearsal/trial": "reads scores that it has just written, and options that it has",
    "reproduce/run_archive": "reads back what it has just written; the folder's files are tried",
    "runs/trainer/continuation:carry_on": "reads rows of its own curve back; the curve is tried",
    "runs/identity": "takes bytes as they are, for a digest",
    "runs/run_index": "its own cache, of files with a certain number and time on this disk; else it reads the runs",
    "runs/predict": "opens the input for the reader that is tried; takes bytes for a digest",
    "runs/prediction_file": "writes; its record is tried",
    "runs/repeat": "compares bytes",
    "runs/run_folder": "locks; copies plain data",
    "scaffold": "reads files of the package and setup.cfg of a checkout",
    "templates": "reads files of the package",
    "testing": "reads files of plugins",
    "towers/hub": "transformers' readers",
    "towers/text/piece_tower": "makes an embedding of weights that it has",
    "towers/text/pieces": "parses a tokenizer that transformers has read",
    "towers/text/slow_tokenizer": "writes files for transformers' readers",
    "towers/vision/box_file": "goes on with its own file, which the reader of boxes then reads",
    "towers/vision/detectors": "transformers' readers",
}


def opening_functions(root: Path) -> dict[str, tuple[str, int]]:
    """Functions of a checkout that open or parse a file: module and name -> file, and line of their code."""
    found: dict[str, tuple[str, int]] = {}
    for path in sorted([*(root / "src/mnerkit").rglob("*.py"), *(root / "plugins").rglob("*.py")]):
        module = path.relative_to(root).with_suffix("").as_posix().removeprefix("src/mnerkit/")
        for name, node in _functions(ast.parse(path.read_text(encoding="utf-8")), ""):
            if any(_opens(call) for call in _own(node)):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                found[f"{module}:{name}"] = (str(path.resolve()), first)
    return found


def is_elsewhere(name: str) -> bool:
    """Whether a function is one of `ELSEWHERE`, or in a module or folder that is."""
    module, _, _ = name.partition(":")
    return any(part == name or module == part or module.startswith(f"{part}/") for part in ELSEWHERE)


def entered(read: Callable[[], Any]) -> set[tuple[str, int]]:
    """File and first line of all functions that are entered while something is read."""
    places: set[tuple[str, int]] = set()  # not code objects: equal ones of two files would count as one

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            places.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        read()
    finally:
        sys.setprofile(before)
    files = {file: str(Path(file).resolve()) for file, _ in places}
    return {(files[file], line) for file, line in places}


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(node: ast.AST, above: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            name = f"{above}.{child.name}" if above else child.name
            if isinstance(child, Function):
                yield name, child
            yield from _functions(child, name)
        else:
            yield from _functions(child, above)


def _own(node: ast.AST) -> Iterator[ast.Call]:
    """The calls of a function, without those of functions in it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child
        if not isinstance(child, Function | ast.ClassDef):
            yield from _own(child)


def _opens(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    return name in OPENING or name.rpartition(".")[2] in OPENING
