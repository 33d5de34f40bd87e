"""Parsers of the command line: one-line errors, completion by the shell, and checks that several verbs share."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mnerkit.errors import UsageError, did_you_mean
from mnerkit.printable import show


class Parser(argparse.ArgumentParser):
    """A parser that raises `UsageError`."""

    def error(self, message: str) -> NoReturn:
        without_value = re.fullmatch(r"argument ([^ ]+): expected .*arguments?", message)
        if without_value:
            message = f"{without_value[1]} needs a value"
        with_value = re.fullmatch(r"argument ([^ ]+): ignored explicit argument (.*)", message, re.DOTALL)
        if with_value:
            message = f"{with_value[1]} takes no value, got {with_value[2]}"
        raise UsageError(f"{message} (see {self.prog} --help)")

    def print_help(self, file: Any = None) -> None:
        """Print the help, in which names of plugins and ablations stand."""
        show(self.format_help().rstrip("\n"), to=file)


def completing() -> bool:
    """Whether the shell has started this process for completions (`register-python-argcomplete mnerkit`)."""
    return "_ARGCOMPLETE" in os.environ


def typed_words(verbs: Iterable[str]) -> list[str]:
    """The words before the cursor from the verb on; where the cursor is at the verb, complete it and end."""
    import argcomplete

    start = int(os.environ["_ARGCOMPLETE"])
    *_, words, _ = argcomplete.split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))
    if len(words) == start:
        parser = Parser("mnerkit")
        parser.add_argument("verb", choices=list(verbs))
        complete(parser)
    return words[start:]


def complete(parser: argparse.ArgumentParser) -> None:
    """Print the completions and end the process, if the shell wants them."""
    if completing():
        import argcomplete

        # number of the word, from 1, behind which the parser's arguments begin: `compare` of `mnerkit runs compare`
        os.environ["_ARGCOMPLETE"] = str(int(os.environ["_ARGCOMPLETE"]) + len(parser.prog.split()) - 1)
        argcomplete.autocomplete(parser)


def offer(action: argparse.Action, values: Iterable[str] | Callable[..., Iterable[str]] | None) -> None:
    """Complete an argument with these values, or with those that a function returns; None: with names of files."""
    if values is not None:
        completer = values if callable(values) else lambda **_: values
        action.completer = completer  # type: ignore[attr-defined]


def read(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments of a command.

    Raises:
        UsageError: an option or argument that does not exist.
    """
    complete(parser)
    options, rest = parser.parse_known_args(argv)
    refuse(parser, rest)
    return options


def with_verbs(name: str, about: str, verbs: Mapping[str, str]) -> tuple[Parser, dict[str, Parser]]:
    """The parser of a command that has verbs of its own, and theirs.

    Args:
        name: the command, as it is typed.
        about: the text of its help page.
        verbs: what each verb does, in a line.
    """
    parser = Parser(name, description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    places = parser.add_subparsers(dest="verb", metavar="VERB")
    made = {
        verb: places.add_parser(verb, help=line, description=f"{line[:1].upper()}{line[1:]}.", allow_abbrev=False)
        for verb, line in verbs.items()
    }
    return parser, made


def below(
    parser: Parser, verbs: Mapping[str, Parser], argv: Sequence[str], dotted: Collection[str] = ()
) -> tuple[argparse.Namespace, list[str]] | None:
    """Read the arguments of a command that has verbs of its own.

    Args:
        parser: the command's, with a subparser for each verb, whose name becomes `verb` of what is returned.
        verbs: the subparsers.
        argv: what follows the command.
        dotted: verbs that take options of the configuration (`--data.X`), too, which are left to the caller.

    Returns:
        The options, and what the parsers left; None where no verb was given, and the help is printed.

    Raises:
        UsageError: an option, argument or verb that does not exist.
    """
    complete(parser)
    word = next((word for word in argv if not word.startswith("-")), None)
    if word is not None and word not in verbs:
        raise UsageError(f"no verb {word!r} of {parser.prog}: {', '.join(verbs)}.{did_you_mean(word, verbs)}")
    plain, others = without_dotted(argv) if word in dotted else (argv, [])
    options, rest = parser.parse_known_args(plain)
    if options.verb is None:
        parser.print_help()
        return None
    refuse(verbs[options.verb], rest)
    return options, others


def without_dotted(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without options of the configuration (`--data.X VALUE`), and these with their values."""
    plain: list[str] = []
    dotted: list[str] = []
    value = False  # whether the next argument is that of such an option
    for word in argv:
        begins = word.startswith("--") and "." in word.partition("=")[0]
        (dotted if begins or (value and not word.startswith("--")) else plain).append(word)
        value = begins and "=" not in word
    return plain, dotted


def refuse(parser: argparse.ArgumentParser, rest: Sequence[str]) -> None:
    """Refuse the first of the arguments that `parser` left over, if any.

    Raises:
        UsageError: with the nearest option that there is.
    """
    if rest:
        names = [name for action in parser._actions for name in action.option_strings]
        wrong, kind = rest[0].split("=")[0], "option" if rest[0].startswith("-") else "argument"
        raise UsageError(f"no {kind} {wrong!r} of {parser.prog}.{did_you_mean(wrong, names)}")


def out_file(name: str, overwrite: bool, option: str = "--out") -> Path:
    """The file that a verb is to write.

    Raises:
        UsageError: it is a folder, exists (without `overwrite`), or would lie in no folder.
    """
    out = Path(name)
    if out.is_dir():
        raise UsageError(f"{out} is a folder.\nGive {option} the name of a file.")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists.\nGive --overwrite to replace it, or another {option}.")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent} to write {out.name} into.")
    return out


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value
