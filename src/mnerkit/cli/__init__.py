"""The command line: one verb a module, and nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module

from mnerkit.errors import MnerkitError, Stopped, UsageError, did_you_mean, line_of
from mnerkit.printable import complain, escaped_output, show
from mnerkit.runs.trainer import launched_ranks, slurm
from mnerkit.stop_signals import stoppable

VERBS = {
    "fit": "train a method; dev selects; the same command again resumes an unfinished run",
    "validate": "score a checkpoint on the dev split",
    "test": "score a checkpoint on the test split",
    "predict": "tag posts from a file with a checkpoint",
    "demo": "a page on this machine: type a post, see its entities and where the method looked",
    "score": "score predictions that any program wrote",
    "save": "write a model into a folder that loads anywhere, or push it to the Hugging Face hub",
    "import": "make a run of weights that a method's authors have released",
    "plugins": "list the installed methods, or show one: options, ablations, defaults",
    "new": "write a plugin of your own: a minimal method, or a fork of an installed one",
    "data": "stats, verify or show a corpus, detect its objects, or freeze episodes of it",
    "runs": "a table of runs and scores; compare two of them; repeat one",
    "report": "tables (CSV, Markdown, LaTeX) and one HTML page of runs, with their errors",
    "reproduce": "the papers' tables and figures: our figures beside the printed ones",
    "draw": "figures of runs: attention, graphs, t-SNE, relevance, cases",
    "doctor": "versions, devices, extras, data, caches, and what is missing for what",
    "cache": "what frozen towers computed and is kept: info, clear",
}

# those that train or use one method, all in `method_verbs`, help in `method_help`; others have modules of their names
METHOD_VERBS = ("fit", "validate", "test", "predict")
MODULES = {"draw": "drawing", "import": "importing", "save": "saving", "score": "scoring"}
# how a command goes on that was stopped; others begin anew
WAYS_ON = {
    "fit": "the same command continues the run",
    "predict": "the same command with --resume goes on after the last finished block",
    "reproduce": "the same command goes on",
    "data objects": "the same command goes on",
}
HELP = ("-h", "--help")


def page() -> str:
    """The overview that `mnerkit --help` prints."""
    verbs = "\n".join(f"  {verb:<10}{meaning}" for verb, meaning in VERBS.items())
    return f"""usage: mnerkit VERB [options]

Multimodal named entity recognition: every method from one command, on the same clean data.

verbs:
{verbs}

first steps:
  mnerkit fit --plugin mousing                     few-shot, on the built-in probe corpus
  mnerkit fit --plugin bert --model.text bert-base-cased --data.corpus twitter2017 --data.root DIR
  mnerkit data stats twitter2017 --root DIR
  mnerkit VERB --help                              all options of a verb
  eval "$(register-python-argcomplete mnerkit)"    completion with Tab in this shell"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (0 done, 1 data, 2 usage, 130 and 143 stopped by a signal)."""
    with escaped_output():
        return _ended(list(sys.argv[1:] if argv is None else argv))


def _ended(arguments: list[str]) -> int:
    """Run a command; what ends it becomes a line and an exit code."""
    try:
        if "_ARGCOMPLETE" in os.environ:  # Tab was pressed: the shell wants completions
            from mnerkit.cli.arguments import typed_words

            arguments = typed_words(VERBS)
        with stoppable({**slurm.handlers(), **launched_ranks.handlers()}):
            code = _run(arguments)
            sys.stdout.flush()  # Python's own flush at the end would report a full disk in its own words
            return code
    except Stopped as stop:
        if _is_first_rank():
            ways = (WAYS_ON.get(" ".join(arguments[:words]), "") for words in (1, 2))
            show("", f"mnerkit: {stop.line(''.join(ways) or 'the same command begins anew')}", to=sys.stderr)
        return stop.exit_code
    except MnerkitError as error:
        if not error.of_all_ranks or _is_first_rank():
            complain(error)
        return error.exit_code
    except KeyboardInterrupt as stop:
        show("", f"mnerkit: {line_of(stop)}", to=sys.stderr)
        return 130
    except BrokenPipeError:
        _discard_output()
        return 0
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:
            _discard_output()
        line = line_of(error)
        if line is None:
            raise
        with suppress(OSError):
            complain(line)
        return 1


def _is_first_rank() -> bool:
    from mnerkit.runs.run_folder import is_first_rank

    return is_first_rank()


def _discard_output() -> None:
    """Write nothing more to standard output, which takes nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in (*HELP, "help"):
        show(page())
        return 0
    if arguments[0] == "--version":
        from mnerkit import __version__

        show(f"mnerkit {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        raise UsageError(f"no verb {verb!r}.{did_you_mean(verb, VERBS)} Verbs: {', '.join(VERBS)}")
    if verb in METHOD_VERBS:
        about = "_ARGCOMPLETE" in os.environ or not {*HELP}.isdisjoint(rest)
        module = import_module("mnerkit.cli.method_help" if about else "mnerkit.cli.method_verbs")
        return int(module.main(verb, rest))
    main_of_verb: Callable[[list[str]], int] = import_module(f"mnerkit.cli.{MODULES.get(verb, verb)}").main
    return main_of_verb(rest)
