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

# of preference: an image's worth comes out of networks, of which two devices may make two numbers
COMPUTED = ("utility", "clip")


@dataclass
class Judged:
    """What the discriminator says of a post.

    Attributes:
        post: the post.
        relevance: R of each of its first images; None for one that could not be read.
        scores: raw scores r, likewise.
        blank: r of the blank image.
        episode: None; there are no episodes.
    """

    post: Post
    relevance: list[float | None]
    scores: list[float | None]
    blank: float
    episode: int | None = None


class RelevanceMethod(Method):
    """How relevant each image is to its post: GIFR's first stage, a discriminator that learns from rankings."""

    plugin = "relevance"
    options_class = RelevanceOptions
    encoder: RelevanceEncoder
    monitor: ClassVar[str] = "held_out/pair_accuracy"

    def __init__(self, options: RelevanceOptions | None = None, **given: Any) -> None:
        super().__init__(options, **given)
        self.criterion = PairRankLoss(self.options.pair_mean)
        self.worths: dict[str, tuple[float, ...]] = {}

    def make_encoder(self) -> RelevanceEncoder:
        o = self.options
        text = self.text_tower("text", o.text, max_tokens=o.max_tokens)
        # pictures teach new towers before they are fixed (`warm_start`), captions do not
        if o.freeze and (text.loaded or o.vision != CAPTIONS):
            freeze(text)
        return RelevanceEncoder(text, self.sight("vision", o.vision, text, freeze=o.freeze, augment=o.augment), o)

    def needs(self) -> Needs:
        # matched posts have as many images of others beside their own
        most = self.options.max_images * (2 if self.options.preference == "matched" else 1)
        return self.encoder.sight.needs(self.towers["text"].reader, max_images=most)

    # ------------------------------------------------------------------ supervision

    def prepare(self, data: MnerData) -> None:
        """Rank the images of the training posts, and keep some of these posts apart to select the checkpoint.

        Of several processes the first alone computes rankings; the others hear of them in `setup`.

        Raises:
            DataError: the rankings leave no pair to learn from.
        """
        if self.options.preference not in COMPUTED or data.trainer is None or data.trainer.is_global_zero:
            self._learn_from(data, *self._ranked(data))

    def setup(self, stage: str) -> None:
        """Share computed rankings, here since processes can speak to each other from here on."""
        if stage != "fit" or self.options.preference not in COMPUTED:
            return
        worths, margin = self.trainer.strategy.broadcast((self.worths, self.criterion.margin))
        if not self.trainer.is_global_zero:
            data: MnerData = self.trainer.datamodule  # type: ignore[attr-defined]
            posts = [preference.first_images(post, self.options.max_images) for post in data.posts("train")]
            self._learn_from(data, [Ranked(post, worths[post.id]) for post in posts if post.id in worths], margin, {})

    def _learn_from(self, data: MnerData, ranked: list[Ranked], margin: float, counts: dict[str, int]) -> None:
        """Train on ranked posts and select on others of them; `counts` are for the record."""
        o = self.options
        self.criterion.margin = margin
        ranked = [each for each in ranked if each.pairs(margin)]
        if len(ranked) < 2:
            raise DataError(
                f"--model.preference {o.preference}: {len(ranked)} of the {len(data.posts('train'))} training posts "
                "have images that are ranked; there is nothing to learn"
            )
        train, apart = preference.held_out(ranked, o.held_out, data.options.dis_seed)
        ranks = data.trainer.world_size if data.trainer is not None else 1
        if len(apart) < ranks:
            raise DataError(
                f"{len(apart)} ranked posts are held out to select the checkpoint, and {ranks} processes share them; "
                "give a larger --model.held_out"
            )
        self.worths = {each.post.id: each.worths for each in ranked}
        self.notes["supervision"] = {
            "preference": o.preference,
            "posts": len(train),
            "held_out_posts": len(apart),
            "pairs": sum(each.pairs(margin) for each in train),
            "margin": margin,
            **counts,
        }
        if o.preference in ("utility", "clip", "file") and all(each.post.truth is not None for each in ranked):
            scores = [(each.post, [*each.worths]) for each in ranked]
            self.notes["supervision"]["against_truth"] = against_truth(scores, blank=0.0)
        data.train_with([each.post for each in train], [each.post for each in apart])

    def _ranked(self, data: MnerData) -> tuple[list[Ranked], float, dict[str, int]]:
        """Ranked posts, the margin within which images are tied, and counts for the record."""
        o = self.options
        posts, most = data.posts("train"), o.max_images
        if o.preference == "oracle":
            return preference.oracle(posts, most), 0.0, {}
        if o.preference == "matched":
            return preference.matched(posts, most, data.options.dis_seed), 0.0, {}
        if o.preference == "file":
            assert o.rankings is not None
            content = data.content
            # posts that --data.limit left out may be ranked, too, and are not unknown
            known: dict[str, int | None] = dict.fromkeys(content.split_ids.get("train", ()))
            known |= {post.id: len(post.images) for post in content.splits["train"]}
            forbidden = {name for split in ("dev", "test") for name in content.split_ids.get(split, ())}
            forbidden |= {post.id for split in ("dev", "test") for post in content.splits[split]}
            return _with_margin(preference.from_file(o.rankings, posts, known, forbidden, most))
        device = data.trainer.strategy.root_device if data.trainer is not None else torch.device("cpu")
        text, sight, collator = self.encoder.text.to(device), self.encoder.sight.to(device), data.collator()
        trial = Trial(text, sight, collator, o.blank, o.utility_epochs, data.options.dis_seed, device)
        if o.preference == "clip":
            return self._by_cosine(posts, trial), 0.0, {}
        return (*utility(posts, trial, most, o.utility_seeds), {})

    @torch.no_grad()
    def _by_cosine(self, posts: Sequence[Post], trial: Trial) -> list[Ranked]:
        """Cosine of text and image in the towers' joint space, less the quantile where the blank image stands."""
        o, text, sight = self.options, trial.text.eval(), trial.sight.eval()
        if text.joint_width != sight.pooled_width:
            raise UsageError(
                f"--model.preference clip compares texts and images, and towers {o.text} and {o.vision} share no "
                "space; give two halves of one CLIP"
            )
        kept = [preference.first_images(post, o.max_images) for post in posts]
        kept = [post for post in kept if post.images]
        cosines: list[Tensor] = []
        for batch in trial.batches(kept):
            vectors = text.joint(text(batch.text).pooled).unsqueeze(1)
            found = functional.cosine_similarity(vectors, sight.whole(batch, regions=False).pooled, -1).cpu()
            cosines += [row[: len(post.images)] for post, row in zip(batch.posts, found, strict=True)]
        self.train()
        blank = float(torch.cat(cosines).quantile(o.clip_quantile)) if cosines else 0.0
        return [Ranked(post, tuple((row - blank).tolist())) for post, row in zip(kept, cosines, strict=True)]

    def _pairs(self, batch: Batch, mask: Tensor) -> Tensor:
        """The ranked pairs of a batch, (B, m + 1, m + 1), the blank image last; `mask` (B, m + 1)."""
        worths = torch.zeros(mask.shape, device=mask.device)
        for row, post in enumerate(batch.posts):
            own = self.worths.get(post.id, ())[: mask.shape[1] - 1]
            worths[row, : len(own)] = torch.tensor(own, device=mask.device)
        return self.criterion.pairs(worths, mask)

    # ------------------------------------------------------------------ training

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Eq. 1."""
        scores, mask = self.encoder(batch).with_blank()
        return {"ranking": self.criterion(scores, self._pairs(batch, mask))}

    def on_validation_epoch_start(self) -> None:
        """Fresh counts."""
        self._hits = torch.zeros(2, device=self.device)

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Count pairs of held-out posts that are in order."""
        scores, mask = self.encoder(batch).with_blank()
        self._hits += torch.stack(pair_hits(scores, self._pairs(batch, mask)))

    def on_validation_epoch_end(self) -> None:
        """Log the share of pairs in order, over all ranks; it selects the checkpoint."""
        gathered = self.all_gather(self._hits)
        assert isinstance(gathered, Tensor)
        right, pairs = gathered.view(-1, 2).sum(0).tolist()
        accuracy = 100 * right / pairs if pairs else 0.0
        self.log(self.monitor, accuracy, rank_zero_only=False, sync_dist=False)
        self.log("pair_accuracy", accuracy, prog_bar=True, logger=False)

    # ------------------------------------------------------------------ answering

    def answers(self, batch: Batch) -> list[Judged]:
        """Scores of the images of each post."""
        found = self.encoder(batch)
        mask, scores, relevance = (each.tolist() for each in (found.mask, found.images, found.relevance))

        def real(row: int, values: list[list[float]]) -> list[float | None]:
            count = min(len(batch.posts[row].images), self.options.max_images)
            return [value if there else None for value, there in zip(values[row], mask[row], strict=True)][:count]

        return [
            Judged(post, real(row, relevance), real(row, scores), blank)
            for row, (post, blank) in enumerate(zip(batch.posts, found.blank.tolist(), strict=True))
        ]

    def figures(self, answers: Sequence[Judged]) -> dict[str, Any]:
        """How R spreads, and where the truth is known how well it tells relevant images from the others."""
        found: dict[str, Any] = spread([each.relevance for each in answers])
        if answers and all(each.post.truth is not None for each in answers):
            found |= against_truth([(each.post, each.scores) for each in answers], [each.blank for each in answers])
            by_truth: dict[bool, list[float | None]] = defaultdict(list)
            for each in answers:
                for value, relevant in zip(each.relevance, each.post.truth.relevant, strict=False):  # type: ignore[union-attr]
                    by_truth[relevant].append(value)
            for relevant, name in ((True, "relevant"), (False, "irrelevant")):
                found |= {f"{name}/{key}": value for key, value in spread([by_truth[relevant]]).items()}
        return found

    def rows(self, answers: Iterable[Judged]) -> Iterator[dict[str, Any]]:
        """Lines that `--data.relevance FILE` reads: R of every picture, 0 for one that was not read."""
        for each in answers:
            behind = len(each.post.images) - len(each.relevance)
            yield {
                "id": each.post.id,
                "images": [image.name for image in each.post.images],
                "scores": [value or 0.0 for value in each.relevance] + [0.0] * behind,
                "raw": each.scores,
                "blank": each.blank,
            }

    def export(self, trainer: lightning.Trainer, data: MnerData, folder: Path) -> None:
        """Write R of all pictures of the corpus to `relevance.jsonl`, for `--data.relevance` of the second stage."""
        said = {"format": FORMAT, "plugin": self.plugin, **data.content.header}
        said |= {"train_on": data.options.train_on, "supervision": self.notes.get("supervision")}
        rows: list[dict[str, Any]] = [said]
        for split in ("all_train", "dev", "test"):
            rows += self.rows(evaluation.predictions(trainer, self, data, split))
        if trainer.is_global_zero:
            write_lines(folder / "relevance.jsonl", rows)


def _with_margin(found: tuple[list[Ranked], dict[str, int]]) -> tuple[list[Ranked], float, dict[str, int]]:
    return found[0], 0.0, found[1]
