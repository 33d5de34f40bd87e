"""One line's value: JSON, or a Python literal that is harmless to parse."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import warnings
from typing import Any

from mnerkit.errors import DataError
from mnerkit.strict_json import loads

MAX_LITERAL = 1 << 18  # letters of a Python literal, which takes five hundred times its size to parse
MAX_DEPTH = 8  # brackets within brackets of a Python literal: a record has 2

# a string, to the end of the text if it is not closed: tried from every quote, it would cost the square of the line
_STRING = re.compile(r"'(?:\\.|[^'\\])*('?)|\"(?:\\.|[^\"\\])*(\"?)", re.DOTALL)
_PLAIN = re.compile(r"(?:[\s\[\](){},:]|True|False|None|(?<![\d.])-?\d+(?:\.\d+)?(?![\d.]))*")  # one way to match


def record_of(text: str, where: str) -> Any:
    """One line's value: JSON, else a Python literal of strings, numbers, lists and dicts (never evaluated).

    Raises:
        DataError: it is neither.
    """
    try:
        return loads(text)
    except (ValueError, RecursionError) as wrong:
        problem = wrong.msg if isinstance(wrong, json.JSONDecodeError) else str(wrong)
    if len(text) > MAX_LITERAL:
        raise DataError(
            f"{where}: not JSON ({problem}), and longer than {MAX_LITERAL} letters, the limit of a Python literal.\n"
            "Write the record as JSON."
        )
    if _is_literal(text):
        unusable = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)
        with contextlib.suppress(*unusable), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in the tweets
            tree = ast.parse(text.strip(), mode="eval")
            _check_keys(tree, where)
            return ast.literal_eval(tree)
    raise DataError(f"{where}: neither JSON ({problem}) nor a Python literal: {text[:60]!r}.")


def _check_keys(tree: ast.AST, where: str) -> None:
    """Refuse a dict with a key twice, of which Python would drop the first."""
    for each in ast.walk(tree):
        if isinstance(each, ast.Dict):
            keys = [key.value for key in each.keys if isinstance(key, ast.Constant)]
            if len(set(keys)) < len(keys):
                key = next(key for place, key in enumerate(keys) if key in keys[:place])
                raise DataError(f"{where}: the key {str(key)[:60]!r} stands there twice.")


def _is_literal(text: str) -> bool:
    """Whether `text` holds only strings, numbers, constants and shallow brackets, so that parsing it is harmless."""
    skeleton = _STRING.sub(lambda found: "None" if found[1] or found[2] else "'", text)
    if not _PLAIN.fullmatch(skeleton):
        return False
    depth = deepest = 0
    for character in skeleton:
        depth += (character in "[({") - (character in "])}")
        deepest = max(deepest, depth)
    return depth == 0 and deepest <= MAX_DEPTH
