"""A corpus that changes between two commands: the second one refuses, does the run again, or says so in a line."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mnerkit.cli import main
from mnerkit.data.pictures import picture_loader
from mnerkit.runs import files_read, identity
from mnerkit.runs.config.configuration import resolve
from mnerkit.runs.run_folder import RunFolder

SPLITS = ("train", "valid", "test")
SIZES = {"train": 6, "valid": 3, "test": 3}
QUIET = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--data.cache", "none"]
NUMBERS = ("O", "B-PER", "B-LOC")


class Planted:
    """A folder of corpora in which something changes.

    Attributes:
        root: the folder.
        draw: decides what changes.
        split: whose posts or pictures do.
    """

    def __init__(self, root: Path, draw: random.Random) -> None:
        self.root, self.draw, self.split = root, draw, draw.choice(SPLITS)

    @property
    def posts(self) -> Path:
        return self.root / "twitter2015" / f"{self.split}.txt"

    def change_post(self, change: Callable[[list[str]], list[str]]) -> None:
        """Change the lines of one post."""
        blocks = self.posts.read_text().strip().split("\n\n")
        place = self.draw.randrange(len(blocks))
        blocks[place] = "\n".join(change(blocks[place].split("\n")))
        self.posts.write_text("\n\n".join(blocks) + "\n")

    def change_posts(self, change: Callable[[list[str]], list[str]]) -> None:
        """Change the posts of a split as blocks of lines."""
        self.posts.write_text("\n\n".join(change(self.posts.read_text().strip().split("\n\n"))) + "\n")

    def picture(self) -> Path:
        """A picture that some post of the split names."""
        return self.draw.choice(sorted((self.root / "twitter2015_images").glob(f"{self.split}*.jpg")))

    def replace(self, path: Path, old: str, new: str) -> None:
        """Put `new` in place of one `old` in a file, drawn among all."""
        parts = path.read_text().split(old)
        place = self.draw.randrange(1, len(parts))
        path.write_text(old.join(parts[:place]) + new + old.join(parts[place:]))

    def flip_byte(self, path: Path) -> None:
        """Change a byte of a file, which keeps its size and its times."""
        content, status = bytearray(path.read_bytes()), path.stat()
        content[self.draw.randrange(len(content))] ^= 1 << self.draw.randrange(8)
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def a_word(p: Planted) -> None:
    p.change_post(lambda lines: [line.replace("sings", "sang") for line in lines])


def its_case(p: Planted) -> None:
    p.change_post(lambda lines: [line.replace("sings", "Sings") for line in lines])


def its_tag(p: Planted) -> None:
    p.change_post(lambda lines: [line.replace("\tB-LOC", "\tO") for line in lines])


def its_type(p: Planted) -> None:
    p.change_post(lambda lines: [line.replace("B-PER", "B-ORG") for line in lines])


def two_words_are_one(p: Planted) -> None:
    p.change_post(lambda lines: [lines[0], "singsin\tO", *lines[1:2], *lines[4:]])


def a_post_added(p: Planted) -> None:
    p.change_posts(lambda posts: [*posts, "IMGID:new\nBob\tB-PER\nleaves\tO"])


def a_post_removed(p: Planted) -> None:
    p.change_posts(lambda posts: posts[1:])


def posts_reordered(p: Planted) -> None:
    p.change_posts(lambda posts: posts[::-1])


def an_image_name(p: Planted) -> None:
    p.change_post(lambda lines: [f"{lines[0]}0", *lines[1:]])


def an_image_byte(p: Planted) -> None:
    p.flip_byte(p.picture())


def an_image_longer(p: Planted) -> None:
    path = p.picture()
    path.write_bytes(path.read_bytes() + b"\0")


def an_image_removed(p: Planted) -> None:
    p.picture().unlink()


def an_image_that_was_missing(p: Planted) -> None:
    name = {"train": "train5", "valid": "valid2", "test": "test2"}[p.split]
    (p.root / "twitter2015_images" / f"{name}.jpg").write_bytes(p.picture().read_bytes())


def two_images_swapped(p: Planted) -> None:
    one, other = (p.root / "twitter2015_images" / f"{p.split}{number}.jpg" for number in (0, 1))
    swap(one, other)


def a_split_file_swapped(p: Planted) -> None:
    other = p.draw.choice([split for split in SPLITS if split != p.split])
    swap(p.posts, p.root / "twitter2015" / f"{other}.txt")


def a_caption(p: Planted) -> None:
    p.replace(p.root / "captions" / "twitter2015.txt", "cat", "dog")


def captions_gone(p: Planted) -> None:
    (p.root / "captions" / "twitter2015.txt").unlink()


def a_box(p: Planted) -> None:
    p.replace(p.root / "boxes" / "twitter2015.jsonl", "[1, 1,", "[2, 1,")


def a_score_of_a_box(p: Planted) -> None:
    p.replace(p.root / "boxes" / "twitter2015.jsonl", "0.5", "0.6")


def boxes_gone(p: Planted) -> None:
    (p.root / "boxes" / "twitter2015.jsonl").unlink()


def a_byte_of_a_crop(p: Planted) -> None:
    p.flip_byte(p.root / "twitter2017_aux_images" / p.split.replace("valid", "val") / "crops" / "crop.jpg")


def a_dict_of_crops(p: Planted) -> None:
    path = p.root / "twitter2017_aux_images" / f"twitter2017_{p.split.replace('valid', 'val')}_dict.pth"
    torch.save({f"{p.split}0.jpg": [], f"{p.split}1.jpg": ["crop.jpg"]}, path)


def names_of_labels(p: Planted) -> None:
    (p.root / "numbers" / "labels.txt").write_text("\n".join(("O", "B-LOC", "B-PER")) + "\n")


def a_label(p: Planted) -> None:
    p.replace(p.root / "numbers" / f"{p.split}.jsonl", "[1,", "[2,")


def a_caption_of_a_record(p: Planted) -> None:
    p.replace(p.root / "numbers" / f"{p.split}.jsonl", "a cat", "a dog")


CHANGES: dict[Callable[[Planted], None], tuple[str, ...]] = {
    # of the words that any method reads; of what one with pictures, or with captions, looks at
    **dict.fromkeys((a_word, its_case, its_tag, its_type, two_words_are_one, a_post_added), ("pictures", "captions")),
    **dict.fromkeys((a_post_removed, posts_reordered, an_image_name, a_split_file_swapped), ("captions", "pictures")),
    **dict.fromkeys((an_image_byte, an_image_longer, an_image_removed), ("pictures",)),
    **dict.fromkeys((an_image_that_was_missing, two_images_swapped), ("pictures",)),
    **dict.fromkeys((a_caption, captions_gone), ("captions",)),
    **dict.fromkeys((a_box, a_score_of_a_box, boxes_gone), ("pictures",)),
    **dict.fromkeys((a_byte_of_a_crop, a_dict_of_crops), ("crops",)),
    **dict.fromkeys((names_of_labels, a_label, a_caption_of_a_record), ("numbers",)),
}


def lay_out(root: Path) -> None:
    """Corpora with pictures, boxes and captions, with crops, and with tags that are numbers."""
    draw = random.Random(0)
    for name in ("twitter2015", "twitter2017", "twitter2015_images", "twitter2017_images", "captions", "boxes"):
        (root / name).mkdir(parents=True)
    (root / "numbers").mkdir()
    (root / "numbers" / "labels.txt").write_text("\n".join(NUMBERS) + "\n")
    captions, boxes = [], []
    for split, size in SIZES.items():
        posts, records = [], []
        for number in range(size):
            name, words = f"{split}{number}.jpg", [f"Ada{split}{number}", "sings", "in", f"Rome{number}{split}"]
            tags = ["B-PER", "O", "O", "B-LOC"]
            posts.append("\n".join([f"IMGID:{split}{number}", *map("\t".join, zip(words, tags, strict=True))]))
            record = {"tokens": words, "ner_tags": [NUMBERS.index(tag) for tag in tags], "images": [name]}
            records.append(json.dumps({"id": f"{split}{number}", **record, "captions": [f"a cat, {number}"]}))
            captions.append(f"{name} :a cat, {split} {number}")
            if number < size - 1:  # the last picture of each split is missing
                image = Image.effect_noise((12, 12), 40 + 10 * draw.random()).convert("RGB")
                for corpus in ("twitter2015", "twitter2017"):
                    image.save(root / f"{corpus}_images" / name)
                boxes.append(json.dumps({"image": name, "objects": [{"box": [1, 1, 8, 8], "score": 0.5}]}))
        for corpus in ("twitter2015", "twitter2017"):
            (root / corpus / f"{split}.txt").write_text("\n\n".join(posts) + "\n")
        (root / "numbers" / f"{split}.jsonl").write_text("\n".join(records) + "\n")
        crops, own = root / "twitter2017_aux_images", split.replace("valid", "val")
        (crops / own / "crops").mkdir(parents=True)
        Image.effect_noise((10, 10), 50).convert("RGB").save(crops / own / "crops" / "crop.jpg")
        torch.save({f"{split}0.jpg": ["crop.jpg"], f"{split}1.jpg": []}, crops / f"twitter2017_{own}_dict.pth")
    (root / "captions" / "twitter2015.txt").write_text("\n".join(captions) + "\n")
    (root / "boxes" / "twitter2015.jsonl").write_text("\n".join(boxes) + "\n")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A folder of corpora, a copy of it, and for each method what begins its run, and the finished run."""
    place = tmp_path_factory.mktemp("changes")
    lay_out(place / "root")
    shutil.copytree(place / "root", place / "copy")
    runs = {}
    for name, plugin, corpus in (
        ("pictures", "hvpnet", "twitter2015"),
        ("captions", "captions", "twitter2015"),
        ("crops", "hvpnet", "twitter2017"),
        ("numbers", "captions", str(place / "root" / "numbers")),
    ):
        argv = ["fit", "--plugin", plugin, "--data.corpus", corpus, "--data.root", str(place / "root"), *QUIET]
        argv += ["--name", name, "--runs_dir", str(place / "runs")]
        argv += ["--model.vision", "tiny", "--model.text", "tiny-bert"] if plugin == "hvpnet" else []
        assert main([*argv, "--test", "--keep_last"]) == 0
        runs[name] = argv, next((place / "runs").glob(f"*/*/{name}"))
    return {"place": place, "runs": runs}


@pytest.fixture
def again(fitted: dict[str, Any]) -> Iterator[Callable[[str], tuple[list[str], RunFolder]]]:
    """Gives the command of a run, and the run as it was; run and corpora are put back afterwards."""
    place, used = fitted["place"], list[Path]()

    def of(name: str) -> tuple[list[str], RunFolder]:
        argv, run = fitted["runs"][name]
        used.append(run)
        shutil.copytree(run, place / "before")
        return argv, RunFolder(run)

    yield of
    for now, before in ((used[0], place / "before"), (place / "root", place / "copy")):
        shutil.rmtree(now)
        shutil.copytree(before, now)
    shutil.rmtree(place / "before")
    shutil.rmtree(used[0].parent / "repeated", ignore_errors=True)


def config_of(run: RunFolder) -> dict[str, Any]:
    """A run's configuration, as a new process that has looked at no file yet reads it."""
    identity._corpus_digest.cache_clear()
    identity.content_of.cache_clear()
    files_read._pictures_now.cache_clear()
    picture_loader._contents.clear()
    return resolve(base=run.config()).content


def noticed(command: str, argv: list[str], run: RunFolder, before: str, capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether a command refuses the run, or says in a line that something is not what it was."""
    if command == "reproduce":
        config = config_of(run)
        other = files_read.has_other_pictures(config, run.environment()["pictures"])
        return other or identity.digest_of(config) != before
    words = argv
    if command in ("validate", "test"):
        words = [command, "--ckpt_path", str(run.path), "--trainer.enable_progress_bar", "false"]
    elif command == "resume":
        run.metrics_file.unlink()
    elif command == "finished":
        words = [*argv, "--test"]
    else:
        words = ["runs", "repeat", str(run.path), "--name", "repeated"]
    capsys.readouterr()
    code = main(words)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("mnerkit: ")]
    if code in (1, 2) and command != "repeat":
        return len(lines) == 1 and len(err.splitlines()) <= 3
    if command == "repeat":
        return len(lines) == 1 if lines else " before, " in out and (code == 1 or "but not the same data" in out)
    return code == 0 and any("is not what it was when" in line for line in lines)


COMMANDS = ("test", "finished", "reproduce", "resume", "validate")


@pytest.mark.parametrize("number", range(50))
def test_a_change_of_a_corpus_between_two_commands_is_noticed(
    number: int, fitted: dict[str, Any], again: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(number)
    change = list(CHANGES)[number % len(CHANGES)]
    # to repeat a run is to train it again
    command = COMMANDS[number % len(COMMANDS)] if number % 12 else "repeat"
    argv, run = again(CHANGES[change][number // len(CHANGES) % len(CHANGES[change])])
    before = identity.digest_of(config_of(run))
    planted = Planted(fitted["place"] / "root", draw)
    change(planted)
    config_of(run)
    assert noticed(command, argv, run, before, capsys), f"{command} after {change.__name__} of {planted.split}"


@pytest.mark.parametrize("command", [*COMMANDS, "repeat"])
def test_nothing_is_noticed_where_nothing_has_changed(
    command: str, fitted: dict[str, Any], again: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, run = again("pictures")
    before = identity.digest_of(config_of(run))
    root = fitted["place"] / "root"
    path = root / "twitter2015" / "train.txt"
    path.write_text(path.read_text().replace("\n", "\r\n") + "\r\n\r\n")  # the same posts
    for picture in (root / "twitter2015_images").iterdir():
        os.utime(picture)
    assert not noticed(command, argv, run, before, capsys)
