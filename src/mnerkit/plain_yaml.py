"""YAML that every reader reads alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError

# numbers for YAML 1.2 and OmegaConf, words for PyYAML: 1e5, or one name of sixteen hex digits in 1,300
NUMBER = re.compile(r"[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        DataError: it can't be read, or holds no YAML or no mapping; with its line, where known.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(fault(path, error)) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a mapping of keys")
    return content


def fault(path: Path, error: Exception) -> str:
    """The error of a YAML reader in one line, with the file and, where known, its line."""
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    return f"{where}: {str(getattr(error, 'problem', None) or error).splitlines()[0]}"


@cache
def packaged_yaml(package: str, name: str) -> Any:
    """The content of a YAML file that lies beside the modules of a package; callers share it and must not change it."""
    from importlib.resources import files

    import yaml

    return yaml.safe_load(files(package).joinpath(name).read_text(encoding="utf-8"))


def yaml_text(content: Mapping[str, Any], *comments: str) -> str:
    """A mapping of plain values as YAML, below comments; words that look like numbers to some reader are quoted.

    Args:
        content: the mapping.
        comments: lines above it.
    """
    import yaml

    head = "".join(f"# {line}".rstrip() + "\n" for line in comments)
    return head + yaml.dump(dict(content), Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=120)


@cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes a word that it would itself read as a number, so these are numbers to it."""

    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^{NUMBER.pattern}$"), list("-+0123456789"))
    return Dumper
