"""The card of a saved model: what it is, how well it does and under which protocol, how to load it, and its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from mnerkit.atomic_files import is_figure
from mnerkit.errors import DataError
from mnerkit.plain_yaml import yaml_text
from mnerkit.scoring.comparison import read_answers
from mnerkit.scoring.intervals import episode_scores
from mnerkit.strict_json import read_json
from mnerkit.text_table import markdown_cell
from mnerkit.validation import Content, Figure, Place, Text, validated

if TYPE_CHECKING:
    from mnerkit.methods.model_folder import Description

SPLITS = ("dev", "test")
_SHOWN = {"f1": "F1", "precision": "precision", "recall": "recall", "f1_strict": "F1, strict"}
# keys of the protocol that have rows of their own
_OWN_ROWS = ("corpus", "variant", "release", "digest", "types")


class Scores(Content):
    """The scores of a run and what they depend on.

    Attributes:
        mnerkit: release that trained it.
        device: that trained it.
        seed: of the training.
        epochs: that were trained.
        best_epoch: that dev selected, from 0.
        selected_by: dev's figure that selected it.
        looks_at_test: how often test was scored.
        protocol: what the figures are of: corpus, digest, types, rules of episodes.
        splits: figures by name, of dev and test; `f1_low` and `f1_high` are a 95 % bootstrap interval.
        behaviours: numbers of what core, plugin and head compute.
    """

    mnerkit: Text | None = None
    device: Text | None = None
    seed: Place | None = None
    epochs: Place | None = None
    best_epoch: Place | None = None
    selected_by: dict[Text, Figure] | None = None
    looks_at_test: Place = 0
    protocol: dict[str, Any] = Field(default_factory=dict)
    splits: dict[Text, dict[Text, Figure]] = Field(default_factory=dict)
    behaviours: dict[Text, Place] = Field(default_factory=dict)


def scores_beside(checkpoint: Path) -> Scores | None:
    """The scores in the folder of a finished run; None where a checkpoint stands alone.

    Args:
        checkpoint: the checkpoint, or the folder of the run.

    Raises:
        DataError: its `metrics.json` is damaged.
    """
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    if not (folder / "metrics.json").is_file() or checkpoint.name not in ("best.ckpt", folder.name):
        return None
    metrics, environment = read_json(folder / "metrics.json"), {}
    if (folder / "env.json").is_file():
        environment = read_json(folder / "env.json")
    if not isinstance(metrics, dict) or not isinstance(environment, dict):
        raise DataError(f"{folder / 'metrics.json'}: not a metrics file")
    splits = {
        split: _figures(folder, split, metrics[split]) for split in SPLITS if isinstance(metrics.get(split), dict)
    }
    content = {key: metrics.get(key) for key in ("seed", "epochs", "best_epoch", "selected_by")}
    content |= {key: environment.get(key) for key in ("mnerkit", "device")}
    content |= {"looks_at_test": metrics.get("looks_at_test", 0), "protocol": metrics.get("protocol") or {}}
    content |= {"splits": splits, "behaviours": environment.get("behaviours") or {}}
    return validated(Scores, content, folder / "metrics.json")


def _figures(folder: Path, split: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a split, with the interval of F1 over posts where there is none over episodes."""
    own = {name: value for name, value in figures.items() if is_figure(value)}
    predictions = folder / f"predictions.{split}.jsonl"
    if "f1" in own and "f1_low" not in own and predictions.is_file():
        answers = read_answers(predictions)
        counts = np.array([[len(a.gold), len(a.predicted), len(a.gold & a.predicted)] for a in answers])
        interval = episode_scores(counts)  # each post is a unit
        own |= {name: interval[name] for name in ("f1_low", "f1_high")}
    return own


def card(model: Description, name: str, weights: int, support: Sequence[Mapping[str, Any]]) -> str:
    """The text of README.md, with the front matter that the hub reads.

    Args:
        model: the content of mnerkit.json.
        name: the folder's, or `owner/name` on the hub.
        weights: bytes of the weights.
        support: records of the labelled posts that it carries.
    """
    scores = model.scores or Scores()
    parts = [
        "---\n" + yaml_text(_front_matter(model, name, scores)) + "---",
        f"# {markdown_cell(name.rpartition('/')[2])}",
        f"A model for multimodal named entity recognition: method `{markdown_cell(model.config.plugin)}` of "
        f"mnerkit, for entities of the types {_listed(model.types)}.",
        f"""## Load

```python
import mnerkit

tagger = mnerkit.load("{markdown_cell(name)}")
print(tagger.predict([{{"text": "Kevin Durant leaves Oklahoma"}}]))
```""",
        "## Scores\n\n" + _scores(scores),
        "## What it is\n\n" + _table(_facts(model, scores, weights)),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(model, scores, support)),
    ]
    return "\n\n".join(parts) + "\n"


def hub_towers(model: Description) -> dict[str, str | None]:
    """Names on the hub of the towers that it was trained with, and their revisions."""
    families = ("BertTower", "ClipTextTower", "VitTower", "ClipVisionTower")
    towers = [tower for tower in model.towers.values() if tower.family in families and ":" not in tower.spec]
    return {tower.spec: tower.revision for tower in towers if tower.external or tower.revision}


def _front_matter(model: Description, name: str, scores: Scores) -> dict[str, Any]:
    head = model.config.model.get("head")
    few_shot = bool(scores.protocol.get("episodic"))
    tags = ["mnerkit", "named-entity-recognition", "multimodal", model.config.plugin]
    tags += [head["name"]] if isinstance(head, dict) and isinstance(head.get("name"), str) else []
    tags += ["few-shot"] if few_shot else []
    matter: dict[str, Any] = {"library_name": "mnerkit", "pipeline_tag": "token-classification", "tags": tags}
    corpus = _corpus(model, scores)
    if towers := [*hub_towers(model)]:
        matter["base_model"] = towers
    matter |= {"datasets": [corpus], "metrics": ["f1", "precision", "recall"]}
    results = [
        {
            "task": {"type": "token-classification", "name": "Multimodal named entity recognition"},
            "dataset": {"type": corpus, "name": corpus, "split": split},
            "metrics": [
                {"type": metric, "value": round(figures[metric] / 100, 4)}
                for metric in ("f1", "precision", "recall")
                if metric in figures
            ],
        }
        for split, figures in scores.splits.items()
        if "f1" in figures
    ]
    if results:
        matter["model-index"] = [{"name": name.rpartition("/")[2], "results": results}]
    return matter


def _scores(scores: Scores) -> str:
    if not scores.splits:
        return "No scores were kept with this model."
    names = list(dict.fromkeys(name for figures in scores.splits.values() for name in figures if _in_table(name)))
    head = ["", *(_SHOWN.get(name, name.removeprefix("type/").removesuffix("/f1")) for name in names)]
    rows = [
        [split, *(_figure(figures, name) if name in figures else "" for name in names)]
        for split, figures in scores.splits.items()
    ]
    lines = ["| " + " | ".join(map(markdown_cell, row)) + " |" for row in (head, ["---"] * len(head), *rows)]
    if not any("f1" in figures for figures in scores.splits.values()):
        return "\n".join(lines)
    unit = "episodes" if any("episodes" in figures for figures in scores.splits.values()) else "posts"
    about = (
        f"In percent, micro-averaged over entities; in brackets a 95 % bootstrap interval over {unit}. Chunks are "
        "read as conlleval and seqeval do (an `I-` tag without a beginning starts an entity); the strict F1 is "
        "seqeval's with `IOB2`."
    )
    return "\n".join([*lines, "", about])


def _in_table(name: str) -> bool:
    return name in _SHOWN or (name.startswith("type/") and name.endswith("/f1")) or name == "mean_r"


def _figure(figures: Mapping[str, float], name: str) -> str:
    text = f"{figures[name]:.2f}"
    if name == "f1" and {"f1_low", "f1_high"} <= set(figures):
        text += f" [{figures['f1_low']:.2f}, {figures['f1_high']:.2f}]"
    return text


def _facts(model: Description, scores: Scores, weights: int) -> Iterator[tuple[str, Any]]:
    """What the scores depend on, and what the folder holds."""
    protocol = scores.protocol
    yield "plugin", f"{model.config.plugin} (of {model.distribution})"
    yield "saved by", f"mnerkit {model.mnerkit}"
    if scores.mnerkit:
        yield "trained with", f"mnerkit {scores.mnerkit} on {scores.device or 'an unknown device'}"
    yield "corpus", f"{_corpus(model, scores)}, variant {protocol.get('variant') or 'default'}"
    for key in ("release", "digest"):
        if protocol.get(key):
            yield f"{key} of the corpus", protocol[key]
    for key, value in protocol.items():
        if key not in _OWN_ROWS and value is not None and not isinstance(value, dict):
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            yield key.replace("_", " "), ("yes" if text else "no") if isinstance(text, bool) else text
    yield "seed", model.config.seed
    if scores.best_epoch is not None:
        by = "".join(f", by {name} {value:.2f}" for name, value in (scores.selected_by or {}).items())
        yield "selected epoch", f"{scores.best_epoch + 1} of {scores.epochs}{by}"
    yield "looks at test", scores.looks_at_test
    if scores.behaviours:
        yield "behaviour numbers", ", ".join(f"{name} {number}" for name, number in scores.behaviours.items())
    for name, tower in model.towers.items():
        where = "weights here"
        if tower.external:
            where = f"frozen, not copied; revision {tower.revision or 'unknown'}, weights' SHA-256 {tower.digest}"
        elif tower.revision:
            where += f", trained from revision {tower.revision}"
        yield f"{name} tower", f"{tower.spec} ({where})"
    yield "weights", f"{weights / 1e6:.1f} MB, safetensors"


def _limits(model: Description, scores: Scores, support: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a user should know before relying on it."""
    corpus = markdown_cell(_corpus(model, scores))
    if model.imported is not None:
        yield "Its weights were imported from other code; the posts that it was trained on are not known."
    yield f"It knows the types {_listed(model.support_types or model.types)} as {corpus} uses them, and no others."
    yield f"Its scores are those of {corpus}, of one seed; on other posts and languages they can be far lower."
    if scores.looks_at_test > 1:
        yield f"The test split was scored {scores.looks_at_test} times, so its figures may be too favourable."
    if support:
        pictures = sum(picture["pixels"] is not None for post in support for picture in post["images"])
        yield (
            f"It carries {len(support)} labelled posts with {pictures} pictures, from which it answers: whoever "
            "publishes it publishes these."
        )
    if any(tower.external for tower in model.towers.values()):
        yield "It needs the towers that are named above: they are fetched from the hub when it is loaded."


def _corpus(model: Description, scores: Scores) -> str:
    return str(scores.protocol.get("corpus") or model.config.data.get("corpus") or "unknown")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{markdown_cell(name)}`" for name in names) or "none"


def _table(rows: Iterator[tuple[str, Any]]) -> str:
    lines = ["| what | value |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {markdown_cell(name)} | {markdown_cell(value)} |" for name, value in rows)])
