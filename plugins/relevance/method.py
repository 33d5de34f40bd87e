"""Plugin `relevance`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as lightning
import torch
from torch import Tensor
from torch.nn import functional

from mnerkit.atomic_files import write_lines
from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import Post
from mnerkit.data.datamodule import MnerData
from mnerkit.data.pictures.relevance_scores import FORMAT
from mnerkit.errors import DataError, UsageError
from mnerkit.methods import evaluation
from mnerkit.methods.method import Method
from mnerkit.towers import freeze
from mnerkit.towers.fusion.sight import CAPTIONS
from mnerkit_plugins.relevance import preference
from mnerkit_plugins.relevance.model import RelevanceEncoder
from mnerkit_plugins.relevance.options import RelevanceOptions
from mnerkit_plugins.relevance.preference import Ranked
from mnerkit_plugins.relevance.ranking import PairRankLoss, pair_hits
from mnerkit_plugins.relevance.ranking_scores import against_truth, spread
from mnerkit_plugins.relevance.utility import Trial, utility

# preferences whose worths are computed by networks, with results that may differ between devices
COMPUTED = ("utility", "clip")


@dataclass
class Judged:
    """The discriminator's scores for a post.

    Attributes:
        post: the post.
        relevance: R of each of its first images; None for one that could not be read.
        scores: raw scores r of these images; None for one that could not be read.
        blank: r of the blank image.
        episode: None; there are no episodes.
    """

    post: Post
    relevance: list[float | None]
    scores: list[float | None]
    blank: float
    episode: int | None = None


class RelevanceMethod(Method):
    """GIFR's first stage: a discriminator of the relevance of images to their post, trained on rankings."""

    plugin = "relevance"
    options_class = RelevanceOptions
    encoder: RelevanceEncoder
    monitor: ClassVar[str] = "held_out/pair_accuracy"

    def __init__(self, options: RelevanceOptions | None = None, **values: Any) -> None:
        super().__init__(options, **values)
        self.criterion = PairRankLoss(self.options.pair_mean)
        self.worths: dict[str, tuple[float, ...]] = {}

    def make_encoder(self) -> RelevanceEncoder:
        o = self.options
        text = self.text_tower("text", o.text, max_tokens=o.max_tokens)
        # new towers are pretrained on pictures before they are frozen (`warm_start`), but not on captions
        if o.freeze and (text.loaded or o.vision != CAPTIONS):
            freeze(text)
        return RelevanceEncoder(text, self.sight("vision", o.vision, text, freeze=o.freeze, augment=o.augment), o)

    def needs(self) -> Needs:
        # matched posts also contain as many images of other posts
        limit = self.options.max_images * (2 if self.options.preference == "matched" else 1)
        return self.encoder.sight.needs(self.towers["text"].reader, max_images=limit)

    # ------------------------------------------------------------------ supervision

    def prepare(self, data: MnerData) -> None:
        """Rank the images of the training posts, and hold out some of these posts to select the checkpoint.

        Only the first of several processes computes rankings; it sends them to the others in `setup`.

        Raises:
            DataError: the rankings contain no pair to train on.
        """
        if self.options.preference not in COMPUTED or data.trainer is None or data.trainer.is_global_zero:
            self._learn_from(data, *self._ranked(data))

    def setup(self, stage: str) -> None:
        """Share computed rankings; `setup` is the first hook in which processes can communicate."""
        if stage != "fit" or self.options.preference not in COMPUTED:
            return
        worths, margin = self.trainer.strategy.broadcast((self.worths, self.criterion.margin))
        if not self.trainer.is_global_zero:
            data: MnerData = self.trainer.datamodule  # type: ignore[attr-defined]
            posts = [preference.first_images(post, self.options.max_images) for post in data.posts("train")]
            self._learn_from(data, [Ranked(post, worths[post.id]) for post in posts if post.id in worths], margin, {})

    def _learn_from(self, data: MnerData, ranked: list[Ranked], margin: float, counts: dict[str, int]) -> None:
        """Use ranked posts for training and selection; `counts` are recorded in the notes."""
        o = self.options
        self.criterion.margin = margin
        ranked = [each for each in ranked if each.pairs(margin)]
        if len(ranked) < 2:
            raise DataError(
                f"--model.preference {o.preference}: {len(ranked)} of the {len(data.posts('train'))} training posts "
                "have ranked images; training needs at least two such posts"
            )
        train, held_out = preference.held_out(ranked, o.held_out, data.options.dis_seed)
        ranks = data.trainer.world_size if data.trainer is not None else 1
        if len(held_out) < ranks:
            raise DataError(
                f"{len(held_out)} ranked posts are held out to select the checkpoint, and {ranks} processes share them;"
                " give a larger --model.held_out"
            )
        self.worths = {each.post.id: each.worths for each in ranked}
        self.notes["supervision"] = {
            "preference": o.preference,
            "posts": len(train),
            "held_out_posts": len(held_out),
            "pairs": sum(each.pairs(margin) for each in train),
            "margin": margin,
            **counts,
        }
        if o.preference in ("utility", "clip", "file") and all(each.post.truth is not None for each in ranked):
            scores = [(each.post, [*each.worths]) for each in ranked]
            self.notes["supervision"]["against_truth"] = against_truth(scores, blank=0.0)
        data.train_with([each.post for each in train], [each.post for each in held_out])

    def _ranked(self, data: MnerData) -> tuple[list[Ranked], float, dict[str, int]]:
        """Ranked posts, the margin within which images are tied, and counts for the notes."""
        o = self.options
        posts, limit = data.posts("train"), o.max_images
        if o.preference == "oracle":
            return preference.oracle(posts, limit), 0.0, {}
        if o.preference == "matched":
            return preference.matched(posts, limit, data.options.dis_seed), 0.0, {}
        if o.preference == "file":
            assert o.rankings is not None
            content = data.content
            # rankings may contain training posts that --data.limit left out
            training: dict[str, int | None] = dict.fromkeys(content.split_ids.get("train", ()))
            training |= {post.id: len(post.images) for post in content.splits["train"]}
            forbidden = {name for split in ("dev", "test") for name in content.split_ids.get(split, ())}
            forbidden |= {post.id for split in ("dev", "test") for post in content.splits[split]}
            return _with_margin(preference.from_file(o.rankings, posts, training, forbidden, limit))
        device = data.trainer.strategy.root_device if data.trainer is not None else torch.device("cpu")
        text, sight, collator = self.encoder.text.to(device), self.encoder.sight.to(device), data.collator()
        trial = Trial(text, sight, collator, o.blank, o.utility_epochs, data.options.dis_seed, device)
        if o.preference == "clip":
            return self._by_cosine(posts, trial), 0.0, {}
        return (*utility(posts, trial, limit, o.utility_seeds), {})

    @torch.no_grad()
    def _by_cosine(self, posts: Sequence[Post], trial: Trial) -> list[Ranked]:
        """Cosine of text and image in the towers' joint space, minus the quantile that stands for the blank image."""
        o, text, sight = self.options, trial.text.eval(), trial.sight.eval()
        if text.joint_width != sight.pooled_width:
            raise UsageError(
                f"--model.preference clip compares texts and images, and towers {o.text} and {o.vision} share no "
                "space; give the two halves of one CLIP"
            )
        with_images = [preference.first_images(post, o.max_images) for post in posts]
        with_images = [post for post in with_images if post.images]
        cosines: list[Tensor] = []
        for batch in trial.batches(with_images):
            vectors = text.joint(text(batch.text).pooled).unsqueeze(1)
            rows = functional.cosine_similarity(vectors, sight.whole(batch, regions=False).pooled, -1).cpu()
            cosines += [row[: len(post.images)] for post, row in zip(batch.posts, rows, strict=True)]
        self.train()
        blank = float(torch.cat(cosines).quantile(o.clip_quantile)) if cosines else 0.0
        return [Ranked(post, tuple((row - blank).tolist())) for post, row in zip(with_images, cosines, strict=True)]

    def _pairs(self, batch: Batch, mask: Tensor) -> Tensor:
        """The ranked pairs of a batch, (B, m + 1, m + 1), the blank image last; `mask` (B, m + 1)."""
        worths = torch.zeros(mask.shape, device=mask.device)
        for row, post in enumerate(batch.posts):
            post_worths = self.worths.get(post.id, ())[: mask.shape[1] - 1]
            worths[row, : len(post_worths)] = torch.tensor(post_worths, device=mask.device)
        return self.criterion.pairs(worths, mask)

    # ------------------------------------------------------------------ training

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Eq. 1."""
        scores, mask = self.encoder(batch).with_blank()
        return {"ranking": self.criterion(scores, self._pairs(batch, mask))}

    def on_validation_epoch_start(self) -> None:
        """Start new counts."""
        self._hits = torch.zeros(2, device=self.device)

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Count the pairs of held-out posts that are in the right order."""
        scores, mask = self.encoder(batch).with_blank()
        self._hits += torch.stack(pair_hits(scores, self._pairs(batch, mask)))

    def on_validation_epoch_end(self) -> None:
        """Log the share of pairs in the right order over all ranks; it selects the checkpoint."""
        gathered = self.all_gather(self._hits)
        assert isinstance(gathered, Tensor)
        right, pairs = gathered.view(-1, 2).sum(0).tolist()
        accuracy = 100 * right / pairs if pairs else 0.0
        self.log(self.monitor, accuracy, rank_zero_only=False, sync_dist=False)
        self.log("pair_accuracy", accuracy, prog_bar=True, logger=False)

    # ------------------------------------------------------------------ answering

    def answers(self, batch: Batch) -> list[Judged]:
        """Scores of the images of each post."""
        output = self.encoder(batch)
        mask, scores, relevance = (part.tolist() for part in (output.mask, output.images, output.relevance))

        def real(row: int, values: list[list[float]]) -> list[float | None]:
            count = min(len(batch.posts[row].images), self.options.max_images)
            return [value if present else None for value, present in zip(values[row], mask[row], strict=True)][:count]

        return [
            Judged(post, real(row, relevance), real(row, scores), blank)
            for row, (post, blank) in enumerate(zip(batch.posts, output.blank.tolist(), strict=True))
        ]

    def figures(self, answers: Sequence[Judged]) -> dict[str, Any]:
        """The distribution of R and, with ground truth, how well R separates relevant from irrelevant images."""
        figures: dict[str, Any] = spread([each.relevance for each in answers])
        if answers and all(each.post.truth is not None for each in answers):
            figures |= against_truth([(each.post, each.scores) for each in answers], [each.blank for each in answers])
            by_truth: dict[bool, list[float | None]] = defaultdict(list)
            for answer in answers:
                for value, relevant in zip(answer.relevance, answer.post.truth.relevant, strict=False):  # type: ignore[union-attr]
                    by_truth[relevant].append(value)
            for relevant, name in ((True, "relevant"), (False, "irrelevant")):
                figures |= {f"{name}/{key}": value for key, value in spread([by_truth[relevant]]).items()}
        return figures

    def rows(self, answers: Iterable[Judged]) -> Iterator[dict[str, Any]]:
        """Records for `--data.relevance FILE`: R of every picture, 0 for one that was not read."""
        for answer in answers:
            remaining = len(answer.post.images) - len(answer.relevance)
            yield {
                "id": answer.post.id,
                "images": [image.name for image in answer.post.images],
                "scores": [value or 0.0 for value in answer.relevance] + [0.0] * remaining,
                "raw": answer.scores,
                "blank": answer.blank,
            }

    def export(self, trainer: lightning.Trainer, data: MnerData, folder: Path) -> None:
        """Write R of all pictures of the corpus to `relevance.jsonl`, for `--data.relevance` of the second stage."""
        header = {"format": FORMAT, "plugin": self.plugin, **data.content.header}
        header |= {"train_on": data.options.train_on, "supervision": self.notes.get("supervision")}
        rows: list[dict[str, Any]] = [header]
        for split in ("all_train", "dev", "test"):
            rows += self.rows(evaluation.predictions(trainer, self, data, split))
        if trainer.is_global_zero:
            write_lines(folder / "relevance.jsonl", rows)


def _with_margin(result: tuple[list[Ranked], dict[str, int]]) -> tuple[list[Ranked], float, dict[str, int]]:
    return result[0], 0.0, result[1]
