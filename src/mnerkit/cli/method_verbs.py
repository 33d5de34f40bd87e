"""`mnerkit fit`, `validate`, `test` and `predict`: their flags, and dotted options of the configuration's sections.

argparse reads them as text. jsonargparse checks the values (`mnerkit.options.typed`), but only after the layers are
merged. Its own `add_class_arguments` would check them here, where `${model.lr}` is not a number yet and the method may
be named in a file that has not been read, and its help could not show the values of `defaults.yaml`. Nothing heavy is
imported before a verb runs.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mnerkit import registry
from mnerkit.cli import VERBS
from mnerkit.cli.arguments import Parser, out_file, share
from mnerkit.cli.runs_compare import text
from mnerkit.errors import DataError, Stopped, UsageError, did_you_mean
from mnerkit.methods.options import TaggerOptions, TowerOptions
from mnerkit.options import declared
from mnerkit.printable import complain, counted, show
from mnerkit.runs.config import configuration
from mnerkit.runs.config.configuration import SECTIONS, Configuration
from mnerkit.runs.config.options import TrainerOptions
from mnerkit.runs.run_folder import LOGGERS, Place
from mnerkit.text_table import table

# options of training, which have no effect on a checkpoint
TRAINING = frozenset(declared(TaggerOptions)) | frozenset(declared(TowerOptions))
# of the Trainer's options the one that is also a flag
MATMUL = "matmul_precision"
# name -> what stands for its value, if it has one, and its help
_FLAGS: dict[str, tuple[str | None, str]] = {
    "plugin": ("NAME", "the method, by name (`mnerkit plugins` lists them)"),
    "config": (
        "FILE",
        "YAML file with sections model, data, trainer, early_stopping and wandb, or the name of one that comes with "
        "mnerkit; may be given several times. What it leaves out is as in the method's defaults.yaml or, with "
        "`defaults: false` in it, as in the method's class",
    ),
    "ablation": ("NAME", "a named set of overrides of the plugin"),
    "seed": ("N", "seed of weights, data order and episodes (default: 0)"),
    MATMUL: ("highest|high", f"{declared(TrainerOptions)[MATMUL].help} (default: highest)"),
    "seeds": ("N", "train with each of these seeds: mean, interval, and with --baseline the difference"),
    "baseline": ("RUN", "with --seeds: a run, or runs, to compare with, paired by seed"),
    "name": ("NAME", "name of the run folder (default: digest of the configuration, and the seed)"),
    "test": (None, "look at the test split once, with the best checkpoint, when training is over"),
    "logger": (
        "|".join(LOGGERS),
        "csv (always written), and besides wandb, tensorboard or both (wandb,tensorboard): rates, gradient norm, "
        "times, predictions, pictures, confusions",
    ),
    "runs_dir": ("DIR", "where run folders lie (default: runs)"),
    "overwrite": (None, "replace what is already there"),
    "dry-run": (None, "read everything, print what would be done and what it would take, and leave no run"),
    "keep_last": (None, "keep last.ckpt, from which an unfinished run goes on, when the run is finished"),
    "checkpoint_minutes": (
        "MINUTES",
        "write last.ckpt within an epoch, too, after so many minutes (default: 10; 0: at the end of epochs alone)",
    ),
    "ckpt_path": (
        "FILE",
        "a checkpoint (best.ckpt of a run folder), a run, a saved model, or the name of one on the hub (OWNER/NAME)",
    ),
    "tower_dir": ("DIR", "folder with a frozen tower's weights, where its own name can't be reached"),
    "text": ("TEXT", "tag this text, and print it with its entities (or write --output)"),
    "image": ("FILE", "with --text: its picture, or pictures"),
    "caption": ("TEXT", "with --text: a caption for each picture, for methods that read captions"),
    "input": (
        "FILE",
        "JSON lines {id, words | text, images}, a data file of posts, a table (.csv, .tsv: columns id, text or words, "
        "images, captions) or texts (.txt, one a line); `-` is standard input. With images optionally "
        'one value for each of them: captions, texts; boxes, [{"box": [x0, y0, x1, y1], "score": 0.9}, ...] each, in '
        'pixels, or with "unit": "shares" in shares of width and height, for methods that look at objects (without, '
        "these see set places of the picture); relevance, scores from 0 to 1, for methods that need them",
    ),
    "output": (
        "FILE",
        "the posts with their entities, as --output_format says; a pipe, a device or `-` (standard output) is written "
        "to",
    ),
    "input_format": (
        "jsonl|csv|tsv|text",
        "what the input is where its lines don't show it (default: by its name)",
    ),
    "output_format": (
        "jsonl|csv|conll|html|text",
        "JSON lines with word and character offsets, a table of entities, columns with BIO tags, a page, or lines to "
        "read (default: by the name: .csv, .conll, .html; else jsonl)",
    ),
    "on_bad_line": (
        "stop|skip",
        "at a line that can't be read: stop (the default; what is finished stays for --resume), or skip it, which "
        "writes a record with its number and the error in its place",
    ),
    "threshold": ("P", "leave out entities whose score is below it, from 0 (the default) to 1"),
    "resume": (None, "go on with an output that was interrupted, from the first block of lines that is not finished"),
    "images": ("DIR", "folder of the pictures that the input names (default: the input's folder)"),
    "support": ("FILE", "labelled posts (JSON lines with tags, or IMGID/BIO) in place of the checkpoint's support"),
}
# of flags that take several values, may be repeated or have a default: arguments of `add_argument`
_READ: dict[str, dict[str, Any]] = {
    "config": {"action": "append", "default": []},
    "runs_dir": {"default": "runs"},
    "checkpoint_minutes": {"default": Place.checkpoint_minutes},
    "threshold": {"type": share, "default": 0.0},
    "on_bad_line": {"choices": ("stop", "skip"), "default": "stop"},
    "input_format": {"choices": ("jsonl", "csv", "tsv", "text")},
    "output_format": {"choices": ("jsonl", "csv", "conll", "html", "text")},
    **{name: {"nargs": "+"} for name in ("seeds", "baseline", "logger", "image", "caption")},
}
FLAGS = {
    "fit": (
        *("plugin", "config", "ablation", "seed", "seeds", "baseline", "name", "test", "logger", "runs_dir"),
        *("overwrite", "dry-run", "keep_last", "checkpoint_minutes", MATMUL),
    ),
    **dict.fromkeys(("validate", "test"), ("ckpt_path", "plugin", "config", "tower_dir", MATMUL)),
    "predict": (
        *("ckpt_path", "text", "image", "caption", "input", "output", "input_format", "output_format", "images"),
        *("support", "plugin", "tower_dir", "threshold", "on_bad_line", "resume", "overwrite"),
    ),
    # `mnerkit.cli.drawing` and `importing` read their own flags
    **dict.fromkeys(("draw adjacency", "draw attention", "draw tsne", "import"), ()),
    "plugins NAME --params": ("config", "ablation"),
}
# the sections whose options have an effect on a verb
SECTIONS_OF = {
    "fit": SECTIONS,
    **dict.fromkeys(
        ("validate", "test", "draw adjacency", "draw attention", "draw tsne"), ("model", "data", "trainer")
    ),
    "predict": ("model",),
    "import": ("model", "data"),
    "plugins NAME --params": ("model", "data"),
}


def main(verb: str, argv: Sequence[str]) -> int:
    """Run `mnerkit fit`, `validate`, `test` or `predict`; return the exit code.

    Raises:
        MnerkitError: see `runs.fit`, `runs.score` and `runs.predict`.
    """
    options = parse(verb, argv)
    if verb == "fit":
        return _fit_seeds(options) if options.seeds else _fit(options)
    if not options.ckpt_path:
        rest = " --text TEXT, or --input FILE --output FILE" if verb == "predict" else ""
        raise UsageError(
            f"`mnerkit {verb}` needs a checkpoint (best.ckpt of a run folder): mnerkit {verb} --ckpt_path FILE{rest}"
        )
    return _predict(options) if verb == "predict" else _score(options, "dev" if verb == "validate" else "test")


def _fit(options: argparse.Namespace) -> int:
    """Train, or continue training, and score the best checkpoint on dev (and once on test with `--test`)."""
    if options.baseline:
        raise UsageError("--baseline goes with --seeds: mnerkit fit ... --seeds 0 1 2 --baseline RUN")
    configuration, place = configured(options), _place(options)
    from mnerkit.runs.fit import fit_configured

    fit_configured(configuration, place, show)
    return 0


def _fit_seeds(options: argparse.Namespace) -> int:
    """Train with several seeds, and print mean, interval and the paired difference to a baseline."""
    if options.seed is not None:
        raise UsageError("--seed and --seeds can't go together: give one of them")
    seeds, baseline = several(options.seeds), several(options.baseline or [])
    if not all(seed.isascii() and seed.isdigit() for seed in seeds):
        raise UsageError(f"--seeds {' '.join(seeds)}: give whole numbers, for instance --seeds 0 1 2")
    configurations = [configured(options, int(seed)) for seed in seeds]
    from mnerkit.runs.seeds import fit_seeds

    result = fit_seeds(configurations, _place(options), baseline, show)
    head = ["split", *(f"seed {seed}" for seed in seeds), "mean F1", "95 % over seeds"]
    rows = [
        [split, *scores["f1"], scores["mean"], "-" if scores["half"] is None else f"+- {scores['half']:.2f}"]
        for split, scores in result.scores.items()
    ]
    show("", table(head, rows))
    if result.comparison is not None:
        show("", "A is the baseline, B what was trained now", text(result.comparison))
    return 0


def _place(options: argparse.Namespace) -> Place:
    logger = several(options.logger) or [""] if options.logger else None
    named = {field.name: getattr(options, field.name) for field in fields(Place)}
    return Place(**named | {"logger": logger})


def _score(options: argparse.Namespace, split: str) -> int:
    """Score a checkpoint on dev or test, on its own corpus or another one."""
    from mnerkit.runs.score import score

    score(
        options.ckpt_path,
        split,
        config=options.config,
        plugin=options.plugin,
        dotted=options.dotted,
        tower_dir=options.tower_dir,
        report=show,
    )
    return 0


def _predict(options: argparse.Namespace) -> int:
    """Tag `--text`, or the posts of `--input`, with `--ckpt_path`."""
    if options.text is not None:
        return _predict_text(options)
    for name in ("image", "caption"):
        if getattr(options, name):
            raise UsageError(f"--{name} goes with --text; the posts of --input name their own")
    for name in ("input", "output"):
        if not getattr(options, name):
            raise UsageError(
                f"`mnerkit predict` needs --{name}; it takes a checkpoint, and --text TEXT or --input FILE and "
                "--output FILE"
            )
    source, target = options.input, options.output
    if source != "-" and not Path(source).exists():
        raise DataError(f"--input {source}: no such file")
    _check_output(target, source)
    from mnerkit.runs.predict import predict_file
    from mnerkit.runs.prediction_file import is_stream

    try:
        count, remarks = predict_file(
            options.ckpt_path,
            source,
            target,
            plugin=options.plugin,
            dotted=options.dotted,
            images=Path(options.images) if options.images else None,
            support=Path(options.support) if options.support else None,
            tower_dir=options.tower_dir,
            threshold=options.threshold,
            input_format=options.input_format,
            output_format=options.output_format,
            on_bad_line=options.on_bad_line,
            resume=options.resume,
            overwrite=options.overwrite,
        )
    except Stopped as stop:
        if is_stream(target):
            stop.way_on = "its output is no file that --resume could go on with, so the same command begins anew"
        raise
    for remark in remarks:
        complain(remark)
    # where the posts go to standard output, nothing else does
    show(f"{counted(count, 'post')} -> {target}", to=sys.stderr if target in ("-", "/dev/stdout") else sys.stdout)
    return 0


def _predict_text(options: argparse.Namespace) -> int:
    """Tag `--text`: print it with its entities, or write it as a file of one post."""
    for name in ("input", "images", "resume", "input_format"):
        if getattr(options, name):
            raise UsageError(f"--{name} has no effect with --text, whose pictures are --image FILE")
    target = options.output
    if target is not None:
        _check_output(target)
    from mnerkit.runs.output_forms import output_form
    from mnerkit.runs.predict import predict_text
    from mnerkit.runs.prediction_file import Progress, output

    rows, remarks = predict_text(
        options.ckpt_path,
        options.text,
        images=[Path(file) for file in options.image or ()],
        captions=options.caption or (),
        plugin=options.plugin,
        dotted=options.dotted,
        support=Path(options.support) if options.support else None,
        tower_dir=options.tower_dir,
        threshold=options.threshold,
    )
    for remark in remarks:
        complain(remark)
    if target is None and options.output_format in (None, "text"):
        coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        show(*rows.lines(coloured))
        return 0
    form, begun = output_form(target or "-", options.output_format), Progress(job={}, replaces=options.overwrite)
    with output(target or "-", begun, False, form.printable) as (file, progress):
        file.add(form.write(rows, rows.types, True).encode("utf-8", "backslashreplace"), progress)
        file.finish()
    return 0


def _check_output(target: str, source: str | None = None) -> None:
    if target != "-":
        out_file(target, True, "--output")
        if source and Path(source).is_file() and Path(target).exists() and Path(target).samefile(source):
            raise UsageError("--output is the input file; give another one")


# ---------------------------------------------------------------------- reading


def configuration_of(words: Sequence[str]) -> Configuration:
    """The configuration of a command `fit --plugin NAME ...`."""
    return configured(parse("fit", words[1:]))


def dotted_of(verb: str, words: Sequence[str]) -> dict[str, str | None]:
    """The options of the sections alone, for a verb that reads its own flags."""
    return dict(parse(verb, words).dotted)


def configured(options: argparse.Namespace, seed: int | None = None) -> Configuration:
    """All layers of `fit`, merged and checked; `seed` replaces that of the flag."""
    return configuration.resolve(
        options.plugin,
        files=options.config,
        ablation=options.ablation,
        dotted=options.dotted,
        seed=options.seed if seed is None else seed,
    )


def several(values: Sequence[str]) -> list[str]:
    """Items that are separated by blanks or commas, in brackets or not."""
    return [item.strip() for item in ",".join(values).strip("[]").split(",") if item.strip()]


def parser_of(verb: str) -> Parser:
    """The parser of a verb's flags."""
    parser = Parser(
        f"mnerkit {verb}",
        usage=f"mnerkit {verb} [options]",
        description=VERBS.get(verb),
        formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=6),
        allow_abbrev=False,
    )
    for name in FLAGS[verb]:
        metavar, about = _FLAGS[name]
        how: dict[str, Any] = (
            {"action": "store_true"} if metavar is None else {"metavar": metavar, **_READ.get(name, {})}
        )
        parser.add_argument(f"--{name}", help=about, **how)
    return parser


def parse(verb: str, argv: Sequence[str]) -> argparse.Namespace:
    """Read a verb's arguments, `--help` not among them.

    Returns:
        The flags, and as `dotted` the options of the sections by dotted name: as text, since it takes all layers to
        check them (`configuration.resolve`); None where a name stands without a value.

    Raises:
        UsageError: a flag that does not exist or lacks its value; an option without effect.
    """
    parser = parser_of(verb)
    words = (word[2:].partition("=")[0] for word in argv if word.startswith("--"))
    dotted = list(dict.fromkeys(word for word in words if "." in word))
    for name in dotted:
        _check_effect(verb, name)
        parser.add_argument(f"--{name}", nargs="*")
    # of words with one dash, -1e-3 is a value, too; argparse's own pattern takes -1 and -0.1 alone
    parser._negative_number_matcher = re.compile("-[^-]")
    if argv and not argv[0].startswith("-") and "ckpt_path" in FLAGS[verb]:
        argv = ["--ckpt_path", *argv]
        if any(word.partition("=")[0] == "--ckpt_path" for word in argv[1:]):
            raise UsageError(f"two checkpoints: {argv[1]} and that of --ckpt_path; give one of them")
    options, rest = parser.parse_known_args(argv)
    if rest and not rest[0].startswith("-"):
        raise UsageError(f"expected an option, got {rest[0]!r}; options look like --model.lr 1e-3")
    if rest:
        wrong = rest[0].partition("=")[0]
        raise UsageError(f"no option {wrong} for `mnerkit {verb}`.{_nearest(wrong.lstrip('-'), verb, options)}")
    options.dotted = {name: _joined(getattr(options, name)) for name in dotted}
    if getattr(options, MATMUL, None) is not None:
        options.dotted[f"trainer.{MATMUL}"] = getattr(options, MATMUL)
    return options


def _joined(values: list[str]) -> str | None:
    """One text for all values of an option, as YAML reads it."""
    return f"[{','.join(values)}]" if len(values) > 1 else values[0] if values else None


def _check_effect(verb: str, name: str) -> None:
    """Refuse an option of no section, or one that would change nothing: a checkpoint has its own training."""
    section, _, option = name.partition(".")
    if section not in SECTIONS:
        near = did_you_mean(section, SECTIONS)
        raise UsageError(f"no option --{name}.{near} Sections: --model.X, --data.X, --trainer.X")
    if section not in SECTIONS_OF[verb]:
        sections = " and ".join(f"--{section}.X" for section in SECTIONS_OF[verb])
        raise UsageError(
            f"--{name} has no effect on `mnerkit {verb}`, which takes {sections} (`mnerkit {verb} --help`)"
        )
    counted = option == "lora_rank" and verb.endswith("--params")
    if verb != "fit" and section == "model" and option in TRAINING and not counted:
        raise UsageError(f"--{name} has no effect on `mnerkit {verb}`: it is an option of training")


def _nearest(name: str, verb: str, options: argparse.Namespace) -> str:
    plugin = registry.plugins().get(str(getattr(options, "plugin", None)))
    sections = {option: section for section, names in configuration.schema(plugin, None).items() for option in names}
    near = [name] if name in sections else get_close_matches(name, sections, n=1, cutoff=0.6)
    section = f" Did you mean '--{sections[near[0]]}.{near[0]}'?" if near else ""
    return (
        section if name in sections else did_you_mean(name, FLAGS[verb]) or section
    ) or f" Options: --{', --'.join(FLAGS[verb])}, --model.X, --data.X, --trainer.X"
