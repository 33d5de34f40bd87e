"""Options of the data (`--data.X`): corpus, pictures, batches, few-shot protocol. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from mnerkit.errors import UsageError
from mnerkit.options import COUNT, SHARE, Options, Range, option

Pictures = Literal["right", "shuffled", "blank"]
Support = Literal["total", "per_type", "greedy"]
OutOfPlay = Literal["O", "ignore", "drop_sentence"]
Queries = int | Literal["all_queries"]
Types = list[str] | str
TrainMode = Literal["plain", "episodic"]  # what a head trains on: plain batches, or episodes


@dataclass(frozen=True, kw_only=True)
class EpisodeOptions(Options):
    """How few-shot episodes are drawn: an option for each way in which papers read the protocol."""

    section: ClassVar[str] = "data"

    n_way: int = option(2, "types in play in an episode", COUNT)
    k_shot: int = option(5, "size of an episode's support, as support counts it", COUNT)
    train_types: Types | None = option(
        None,
        "types of training and dev episodes, as a list or as Per+Loc; given, dev and test are episodes (a head that "
        "reads a support gets episodes either way). Default: the first half of the corpus's types",
    )
    test_types: Types | None = option(None, "types of test episodes. Default: the types that are not in train_types")
    dev_types: Types = option(
        "source",
        "types of dev episodes, which select the checkpoint: those of training (source), those of testing (target; "
        "nothing is left unseen then), or types by name",
    )
    support: Support = option(
        "total",
        "k_shot counts all support posts (total), those of each type (per_type), or the entities of each type, of "
        "which there may be up to twice as many (greedy)",
    )
    support_from: Literal["test", "train"] = option(
        "test",
        "where an evaluation episode's support comes from: the split that is evaluated (test), or the training split "
        "(train)",
    )
    ensure_all_types: bool = option(True, "with support total, each type in play occurs in the support")
    query_has_entity: bool = option(
        True,
        "a query holds at least one entity of the types in play; else any post may be a query, also one without "
        "entities",
    )
    out_of_play: OutOfPlay = option(
        "O",
        "entities of types that are not in play are O, are neither learnt nor scored (ignore: their words have no "
        "loss, are in no prototype, and a predicted entity with such a word does not count), or their posts are "
        "neither support, query nor plain training post (drop_sentence)",
    )
    train_out_of_play: OutOfPlay | None = option(
        None,
        "the same for training posts and training episodes alone; what is scored stays as out_of_play says. Default: "
        "as out_of_play",
        since=("0.1.0", None),
    )

    def out_of_play_in(self, split: str) -> tuple[str, OutOfPlay]:
        """The option that decides on types that are not in play in a split's posts and episodes, and its value."""
        if split == "train" and self.train_out_of_play is not None:
            return "--data.train_out_of_play", self.train_out_of_play
        return "--data.out_of_play", self.out_of_play


@dataclass(frozen=True, kw_only=True)
class DataOptions(EpisodeOptions):
    """A corpus, what is seen of its pictures, and how its posts become batches or episodes."""

    corpus: str = option("probe", "probe, twitter2015, twitter2017, mner-mi, mner-mi-plus, or a folder of one's own")
    root: str | None = option(None, "folder that holds the corpora")
    variant: str | None = option(None, "whose release of the corpus; for probe, the preset")
    columns: str | None = option(
        None,
        "which columns of the text files of one's own folder are read, as word,_,_,tag. Default: they are recognised, "
        "and a remark says how",
        since=("0.1.0", None),
    )
    captions: str | None = option(
        None,
        "file of captions, one line a picture; none turns them off. Default: captions/<corpus>.txt below root, where "
        "it is there, else the captions of the corpus's own records",
    )
    boxes: str | None = option(
        None,
        "objects in the pictures, for methods that look at them: a file of boxes (`mnerkit data objects --help` shows "
        "the formats), a folder of Pascal-VOC XML files, or a folder of crops with its *_dict.pth; none takes set "
        "places of each picture. Default: the true boxes of probe; else the boxes of the corpus's own records, "
        "boxes/<corpus>.jsonl below root, or the crops in <corpus>_aux_images, where they are there",
    )
    ocr: str | None = option(
        None,
        "words that are written in the pictures, for methods that read them: a file of lines '<picture>: words'",
        since=("0.1.0", None),
    )
    max_objects: int | None = option(None, "at most this many objects of a picture, where the method takes more", COUNT)
    object_score: float = option(0.0, "leave out objects whose detector is less sure than this", SHARE)
    relevance: str | None = option(
        None,
        "how much each picture has to do with its post: a file of scores, one line a post, or the truth of probe "
        "(oracle). Default: that of the corpus's own records, else not known",
    )
    batch_size: int = option(16, "posts a training batch (and rank), at most; a plain batch, not an episode", COUNT)
    eval_batch_size: int = option(64, "posts a batch when evaluating", COUNT)
    workers: int | Literal["auto"] = option(
        "auto",
        "processes that read pictures and build batches, for each process that trains; 0 does it in that process. "
        "auto: up to 8 where a GPU would wait for them, as far as there are CPUs; 0 without a GPU, since the model "
        "needs the CPUs itself",
        Range(0, 1024),
    )
    missing_images: Literal["blank", "skip", "error"] = option(
        "blank",
        "a missing or broken picture that the method looks at leaves its place empty (blank), drops the post (skip) or "
        "is an error",
    )
    pictures: Pictures = option(
        "right", "each post's own pictures (right), another post's (shuffled) or grey ones (blank), in all splits"
    )
    drop_trained: bool = option(
        False,
        "leave out dev and test posts that the model was trained on, under whatever id, words or picture, and count "
        "them; else they are refused in another corpus, and counted in the run's own",
        since=("0.1.0", False),
    )
    folds: int | None = option(
        None,
        "cross-validation: train and dev posts in this many folds, posts that are alike in one of them; fold is scored "
        "as test, a tenth of the others chooses the checkpoint, and the corpus's own test posts are left alone",
        Range(2, 100),
        since=("0.1.0", None),
    )
    fold: int | None = option(
        None, "which of the folds is scored, from 0; the others are trained on", Range(0, 99), since=("0.1.0", None)
    )
    limit: int | None = option(None, "read only the first posts of each split, this many, for a quick try", COUNT)
    train_limit: int | None = option(None, "train on this many posts only, a sample that the seed fixes", COUNT)
    train_fraction: float | None = option(
        None,
        "likewise on this share of the posts; with one seed a smaller share is part of a larger one",
        Range(0, 1, above=True),
    )
    train_on: Literal["all_train", "d_model", "d_dis"] = option(
        "all_train",
        "all training posts, or one of two parts (GIFR): the posts that rank images (d_dis), or the others, for the "
        "tagger that uses what was learnt from them (d_model)",
    )
    dis_fraction: float = option(0.2, "share of d_dis", Range(0, 1, above=True, below=True))
    dis_seed: int = option(0, "seed of the draw of d_dis; the same for both stages, whatever their own seeds are")
    episode_file: Types | None = option(
        None,
        "file of frozen episodes (`mnerkit data episodes`), or several, for instance of dev and of test; the episodes "
        "of the splits that they name come from them, all of them, others are drawn",
    )
    episode_digest: str | None = option(
        None,
        "SHA-256 of the episode files, with commas between; a run notes it, so that it is not continued or scored with "
        "files that have changed",
    )
    episodes_per_epoch: int = option(500, "training episodes an epoch, over all ranks")
    dev_episodes: Queries = option(200, "dev episodes: a number, or all_queries for each eligible post once")
    eval_episodes: Queries = option(
        "all_queries", "test episodes: a number, or all_queries for each eligible post once"
    )
    features: Literal["float32", "half"] = option(
        "float32",
        "how outputs of frozen towers are kept: as computed, or in half the space and rounded to half precision",
        since=("0.1.0", "float32"),
    )
    picture_cache: float = option(
        20.0,
        "at most so many gigabytes of resized pictures are kept in the cache, so that later epochs and runs decode "
        "none; 0 keeps none",
        Range(0, 1e6),
        since=("0.1.0", 20.0),
    )
    cache: str | None = option(
        None,
        "folder where outputs of frozen towers, resized pictures, and tiny towers as they were trained, are kept "
        "between runs (default: "
        "MNERKIT_CACHE, else mnerkit in the user's cache folder); with none nothing is written outside the run's "
        "folder, outputs are kept in memory alone and tiny towers are trained anew",
    )

    def check(self) -> None:
        """Refuse two sizes of the training sample, a fold that is none of the folds, and a cache that is a file."""
        super().check()
        if (self.folds is None) != (self.fold is None):
            raise UsageError("--data.folds and --data.fold go together: how many folds, and which one is scored")
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise UsageError(f"--data.fold {self.fold}: of {self.folds} folds the last is {self.folds - 1}")
        if self.train_limit is not None and self.train_fraction is not None:
            raise UsageError(
                "--data.train_limit and --data.train_fraction both say how many posts to train on; give one"
            )
        if self.cache not in (None, "none") and Path(str(self.cache)).is_file():
            raise UsageError(f"--data.cache {self.cache}: is a file; give a folder, or none")
