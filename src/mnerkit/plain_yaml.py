"""YAML that every reader reads alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

# numbers for YAML 1.2 and OmegaConf, words for PyYAML: 1e5, or one name of sixteen hex digits in 1,300
NUMBER = re.compile(r"[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+")


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
