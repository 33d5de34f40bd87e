"""YAML that every reader reads alike, and that costs no more than its size: limits of depth, of values, of aliases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from mnerkit import printable
from mnerkit.errors import DataError, first_line, shown

MAX_BYTES = 1 << 20  # of a file; the largest of ours has some kilobytes
MAX_VALUES = 10_000  # keys and values, each alias counted as all that it stands for
MAX_DEPTH = 64  # the C reader of YAML crashes at some thousands
MAX_LETTERS = 20_000  # of one value: a number in base 60 takes as many steps as the square of its digits

# numbers for YAML 1.2 and OmegaConf, words for PyYAML: 1e5, or one name of sixteen hex digits in 1,300
NUMBER = re.compile(r"[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        DataError: it can't be read, or holds no YAML or no mapping; with its line, where known.
    """
    try:
        text = checked_text(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    with one_line(path):
        content = _loaded(text)
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a mapping of keys")
    return content


def front_matter(path: Path) -> Any:
    """What stands between the two lines `---` at the beginning of a Markdown file; None where nothing does.

    Raises:
        DataError: it can't be read, or is no YAML.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    with one_line(path):
        parts = re.split(r"(?m)^---[ \t]*\r?$", content.decode("utf-8-sig"), maxsplit=2)
        if len(parts) < 3 or parts[0].strip():
            return None
        check_limits(parts[1])
        return _loaded(parts[1])


def _loaded(text: str) -> Any:
    """The content of a YAML text, by the reader in C: eight times as fast."""
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:  # it sees some faults a line too late
        return yaml.safe_load(text)


def checked_text(path: Path, aliases: bool = True) -> str:
    """The text of a YAML file that is cheap to read: within the limits of size, depth, values and aliases.

    Args:
        path: the file.
        aliases: false refuses them.

    Raises:
        DataError: it is beyond a limit, which is named, or no YAML.
        OSError: it can't be read.
    """
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: more than {MAX_BYTES >> 20} MB of YAML")
    with one_line(path):
        text = content.decode("utf-8")
        check_limits(text, aliases)
    return text


def check_limits(text: str, aliases: bool = True) -> None:
    """Refuse what would be slow to read, large or crash the reader; the text is parsed without being constructed.

    Raises:
        ValueError: naming the limit.
        YAMLError: no YAML.
    """
    import yaml

    try:
        _check_events(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), aliases)
    except yaml.YAMLError:  # the reader in C sees some faults a line too late
        _check_events(yaml.parse(text, Loader=yaml.SafeLoader), aliases)


def _check_events(events: Iterable[Any], aliases: bool) -> None:
    import yaml

    values = 0
    starts: list[tuple[str | None, int, _Keys | None]] = []  # of open collections: name, values before it, keys
    sizes: dict[str, int] = {}  # values that an alias stands for
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if not aliases:
                raise ValueError("aliases (*name) are in no configuration that mnerkit writes")
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{str(event.anchor)[:40]} stands for itself, or for nothing")
            values += sizes[event.anchor]
        if isinstance(event, yaml.NodeEvent) and starts and (keys := starts[-1][2]) is not None:
            keys.add(event)
        if isinstance(event, yaml.NodeEvent) and not isinstance(event, yaml.AliasEvent):
            if isinstance(event, yaml.CollectionStartEvent):
                keys = _Keys() if isinstance(event, yaml.MappingStartEvent) else None
                starts.append((event.anchor, values, keys))
            elif event.anchor is not None:
                sizes[event.anchor] = 1
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_LETTERS:
                raise ValueError(f"a value of more than {MAX_LETTERS} letters")
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            name, before, _ = starts.pop()
            if name is not None:
                sizes[name] = values - before
        if values > MAX_VALUES or len(starts) > MAX_DEPTH:
            limit = f"{MAX_VALUES} values" if values > MAX_VALUES else f"{MAX_DEPTH} levels"
            raise ValueError(f"more than {limit}, which is the limit")


class _Keys:
    """The keys of a mapping that is being parsed: of two that are one PyYAML would drop the first, silently."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._is_key = True

    def add(self, event: Any) -> None:
        """Take the next key or value.

        Raises:
            ValueError: the mapping has the key.
        """
        key = getattr(event, "value", None) if self._is_key else None
        if key in self._keys:
            raise ValueError(f"the key {key[:40]!r} stands there twice, in line {event.start_mark.line + 1}")
        if key is not None:
            self._keys.add(key)
        self._is_key = not self._is_key


@contextmanager
def one_line(where: object) -> Iterator[None]:
    """What reading YAML may raise, as a `DataError` of one line with the place and, in a file, its line."""
    from yaml import YAMLError

    try:
        yield
    # the constructors of YAML's odder types let through what Python raises
    except (YAMLError, ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError) as error:
        raise DataError(_fault(where, error)) from None


def _fault(place: object, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{place}:{mark.line + 1}" if mark and isinstance(place, Path) else str(place)
    if isinstance(error, TypeError | AttributeError | LookupError | RecursionError):  # what they say is about code
        return f"{where}: a value does not fit its tag (!!...), or is nested too deeply"
    return f"{where}: {shown(first_line(getattr(error, 'problem', None) or error), 200)}"


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

    head = "".join(f"# {printable.one_line(line)}".rstrip() + "\n" for line in comments)
    return head + yaml.dump(dict(content), Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=120)


@cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes a word that it would itself read as a number, so these are numbers to it."""

    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^{NUMBER.pattern}$"), list("-+0123456789"))
    return Dumper
