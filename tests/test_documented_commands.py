"""Every `mnerkit ...` command of README, documentation and Makefile is run, in miniature."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mnerkit.cli import main
from mnerkit.data.corpus.corpus import load_corpus
from tests.documented_commands import PAGES, ROOT, commands
from tests.small_tokenizers import bert_pieces, byte_pieces
from tests.towers.test_detectors import write_grounding_dino

# what can't be done here, by a pattern of the command
ELSEWHERE = {
    r"data verify twitter": "compares with counts of the releases (tests/data/test_oddities.py)",
    r"mnerkit demo ": "serves until it is interrupted (tests/report/test_demo.py)",
    r"--trainer\.accelerator gpu": "needs GPUs",
    r"--executor ray": "needs a cluster (tests/reproduce/test_ray.py)",
    r"reproduce .*--logger wandb --wandb\.project": "logs in at W&B",
    r"--push |OWNER/": "needs the model hub (tests/methods/test_model_folder.py)",
    r"mnerkit import ": "needs weights that authors released (tests/test_import.py)",
    r"--plugin prompted": "asks a language model (tests/plugins/test_prompted.py)",
    r"reproduce .*--rehearse": "takes minutes (tests/reproduce/test_rehearsal.py)",
}
# how little is enough: options that are added to a command, by a pattern of it
LITTLE = "--trainer.max_epochs 1 --trainer.limit_train_batches 2 --trainer.limit_val_batches 2 --data.batch_size 4"
EPISODES = "--data.episodes_per_epoch 2 --data.dev_episodes 2 --data.eval_episodes 4"
MINIATURE = {
    r"mnerkit fit": f"{LITTLE} --trainer.enable_progress_bar false",
    r"mnerkit fit(?!.*(mousing|train_types|--name (NAME|RUN)|--baseline))": "--data.limit 12",
    r"mnerkit fit.*(mousing|train_types)": EPISODES,
    r"mnerkit fit(?!.*--data\.root).*(mousing|train_types)": "--data.limit 40",
    r"mnerkit fit.*head finetune": "--model.head.steps 2",
    r"mnerkit fit.*-gei\.yaml": "--model.hidden 24 --model.width 24",
    r"mnerkit reproduce(?!.*(mine/first|--dry-run|--commands|--wandb-))": "--dry-run",
    r"mnerkit cache clear": "--yes",
    r"mnerkit reproduce mine/first": "--experiments experiments --jobs 1",
}
# what stands for a name of the reader's own, or for what has to be downloaded
WORDS = {
    r"\bOTHER_RUN\b": "runs/bert/twitter2017/A",
    r"draw cases RUN RUN": "draw cases runs/bert/twitter2017/A runs/mousing/twitter2017/B",
    r"(draw relevance|predict --ckpt_path) RUN\b": r"\1 runs/relevance/probe-multi/RUN",
    r"(draw \w+(?: --ckpt_path)?) RUN\b": r"\1 runs/mousing/twitter2017/B",
    r"--data\.captions FILE": "--data.captions DIR/captions/twitter2017.txt",
    r"--data\.boxes FILE": "--data.boxes DIR/boxes.jsonl",
    r"--data\.relevance FILE": "--data.relevance runs/relevance/mner-mi/RUN/relevance.jsonl",
    r"data convert FOLDER OUT": "data convert posts OUT",
    r"--detector grounding-dino": "--detector dino",
    r"(runs/\w+/twitter2017)/\*": r"\1/NAME*",
    r"report runs": "report runs/mousing runs/bilstm",
    r"resnet(50|152)": "tiny",
}
# runs that the pages name, made as a reader would have made them
FIT_BERT = "mnerkit fit --config experiments/twitter2017-bert.yaml --data.root DIR --test"
FIT_CAPTIONS = "mnerkit fit --plugin captions --data.corpus twitter2017 --data.root DIR --test"
FEW_SHOT = "mnerkit fit --plugin bert --model.head nearest --data.train_types Per+Loc --data.corpus twitter2017"
PREPARED = [
    *(f"{FIT_BERT} --seed {seed} --name NAME{seed or ''}" for seed in range(3)),
    *(f"{FIT_CAPTIONS} --seed {seed} --name NAME{seed or ''}" for seed in range(3)),
    f"{FEW_SHOT} --data.root DIR --test --name A",
    "mnerkit fit --config experiments/twitter2017-mousing.yaml --data.root DIR --test --name B",
    "mnerkit fit --plugin bilstm --data.corpus posts --test --name NAME",
    "mnerkit fit --plugin relevance --data.variant multi --data.limit 12 --test --name RUN",
    "mnerkit fit --config experiments/mner-mi-relevance.yaml --data.root DIR --name RUN",
]
# towers of the hub are folders of their names here, with small random weights
BERTS = ("bert-base-cased", "bert-base-uncased", "roberta-base", "my-roberta", "path/to/bert", "FOLDER")
CLIPS = ("openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14")
# options whose values are other code, not other numbers
NAMES = ("--plugin", "--config", "--ablation", "--model.head", "--logger", "--model.vision")


def write_corpora(root: Path) -> None:
    """Generated posts in the form of the released corpora, with pictures, captions and boxes."""
    for folder in ("captions", "boxes", "images", "twitter2015", "twitter2017", "twitter2017_images"):
        (root / folder).mkdir(parents=True)
    captions, boxes = [], []
    for split, posts in load_corpus("probe", limit=40).splits.items():
        name = {"dev": "valid"}.get(split, split)
        lines, records = [], []
        for post in posts:
            (picture,) = post.images
            captions.append(f"{post.id}.jpg :{picture.caption}\n")
            objects = [{"box": each.box} for each in picture.objects]
            boxes.append({"image": f"{post.id}.jpg", "unit": "shares", "objects": objects})
            for folder in ("images", "twitter2017_images"):
                Image.fromarray(picture.pixels).save(root / folder / f"{post.id}.jpg")
            lines += [f"IMGID:{post.id}", *map("\t".join, zip(post.words, post.tags or (), strict=True)), ""]
            record = {"id": post.id, "text": [*post.words], "label": [*post.tags], "images": [f"{post.id}.jpg"] * 2}
            records.append(repr(record))
        for corpus in ("twitter2015", "twitter2017"):
            (root / corpus / f"{name}.txt").write_text("\n".join(lines) + "\n")
        (root / f"MNER-MI_{name}.txt").write_text("\n".join(records) + "\n")
    (root / "captions" / "twitter2017.txt").write_text("".join(captions))
    (root / "boxes.jsonl").write_text("".join(json.dumps(each) + "\n" for each in boxes))


def write_towers(folder: Path) -> None:
    """Small towers with random weights, under the names that the pages have."""
    from transformers import (
        BertConfig,
        BertModel,
        BertTokenizer,
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPTokenizer,
        ViTConfig,
        ViTImageProcessor,
        ViTModel,
    )

    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 24, "num_attention_heads": 12, "intermediate_size": 24}
    size |= {"num_hidden_layers": 4}
    pieces = folder / "vocab.txt"
    pieces.write_text("\n".join(bert_pieces()))
    bert = BertModel(BertConfig(vocab_size=len(bert_pieces()), max_position_embeddings=160, **size))
    for name in BERTS:
        bert.save_pretrained(folder / name)
        BertTokenizer(vocab=str(pieces)).save_pretrained(folder / name)
    vocabulary, merges = byte_pieces(["!", "<|startoftext|>", "<|endoftext|>"], "</w>")
    text = {**size, "vocab_size": len(vocabulary), "max_position_embeddings": 77, "bos_token_id": 1, "eos_token_id": 2}
    vision = {**size, "image_size": 32, "patch_size": 16}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
    for name in CLIPS:
        clip.save_pretrained(folder / name)
        CLIPTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder / name)
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
            folder / name
        )
    vit = folder / "google" / "vit-base-patch16-224"
    ViTModel(ViTConfig(**vision)).save_pretrained(vit)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(vit)
    (folder / "dino").mkdir()
    write_grounding_dino(folder / "dino")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with everything that the pages speak of, which is the working folder."""
    folder = tmp_path_factory.mktemp("workshop")
    write_corpora(folder / "DIR")
    write_towers(folder)
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    (guide,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/guides/experiments.md").read_text(), re.M | re.S)
    (folder / "experiments" / "mine").mkdir()
    (folder / "experiments" / "mine" / "first.yaml").write_text(guide)
    for path in (folder / "experiments").glob("*.yaml"):
        path.write_text(re.sub(r"resnet\d+", "tiny", path.read_text()))
    shutil.copytree(ROOT / "plugins", folder / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MNERKIT_CACHE", "cache")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("WANDB_SILENT", "true")
        write_files()
        for line in PREPARED:
            assert main(argv_of(line)) == 0, line
        shutil.copy("runs/bert/twitter2017/NAME/best.ckpt", "best.ckpt")
        yield folder


def write_files() -> None:
    """A picture, posts, predictions and word vectors in the working folder."""
    shutil.copytree("DIR/twitter2017", "posts")
    Image.new("RGB", (30, 20), "teal").save("game.jpg")
    Path("posts.jsonl").write_text('{"id": "1", "text": "Ada flies to Lima", "images": ["game.jpg"]}\n')
    Path("posts.csv").write_text("text\nAda flies to Lima\n")
    posts, first = load_corpus("twitter2017", "DIR").splits["test"], load_corpus("posts").splits["train"][0]
    for width in (100, 200):
        vectors = [f"{word}{' 0.5' * width}\n" for word in {*first.words}]
        Path(f"glove.twitter.27B.{width}d.txt").write_text("".join(vectors))
    rows = [[f"{word} {tag} {tag}\n" for word, tag in zip(post.words, post.tags or (), strict=True)] for post in posts]
    Path("conlleval_input.txt").write_text("\n".join(map("".join, rows)))
    Path("FOLDER/train.conll").write_text(Path("conlleval_input.txt").read_text())
    shutil.copy("DIR/twitter2017/test.txt", "system.txt")
    for name in ("system.jsonl", "gpt.jsonl"):
        Path(name).write_text("".join(json.dumps({"id": post.id, "predictions": post.tags}) + "\n" for post in posts))


def argv_of(command: str) -> list[str]:
    """The words of a command in the workshop, with what makes it small."""
    little = [options for pattern, options in MINIATURE.items() if re.match(pattern, command)]
    for pattern, instead in WORDS.items():
        command = re.sub(pattern, instead, command)
    return [*shlex.split(command, comments=True)[1:], *shlex.split(" ".join(little))]


def shows(command: str) -> frozenset[str]:
    """What a command shows: its options, each with the verb and the method, whatever their numbers and files are."""
    words = shlex.split(command, comments=True)[1:]
    named = [f"{option} {value}" for option, value in pairwise(words) if option in NAMES]
    of = " ".join(
        [*words[: 2 if words[0] in ("cache", "data", "draw", "plugins", "reproduce", "runs") else 1], *named[:1]]
    )
    return frozenset({of, *(f"{of} {word}" for word in (*words, *named) if word.startswith("--"))})


def to_run() -> dict[Path, list[str]]:
    """The commands of each page, without those that show nothing that one before them does not."""
    chosen: dict[Path, list[str]] = {}
    shown: set[str] = set()
    for page in PAGES:
        for command in commands(page):
            if not any(re.search(pattern, command) for pattern in ELSEWHERE) and not shows(command) <= shown:
                shown |= shows(command)
                chosen.setdefault(page, []).append(command)
    return chosen


CHOSEN = to_run()


@pytest.mark.parametrize("page", CHOSEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run_one_after_the_other(
    page: Path, workshop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    written: set[str] = set()
    for command in CHOSEN[page]:
        argv = argv_of(command)
        out = dict(pairwise(argv)).get("--out" if "--out" in argv else "--output", "")
        if out and out not in (*written, "DIR"):  # what another page has written; this one's own is in the way
            shutil.rmtree(out) if Path(out).is_dir() else Path(out).unlink(missing_ok=True)
        written.add(out)
        assert main(argv) == 0, f"{command}\n{capfd.readouterr().err}"


def test_every_exception_is_of_a_documented_command() -> None:
    lines = [command for page in PAGES for command in commands(page)]
    for patterns in (ELSEWHERE, MINIATURE, WORDS):
        assert [pattern for pattern in patterns if not any(re.search(pattern, line) for line in lines)] == []
    named = {path for reason in ELSEWHERE.values() for path in re.findall(r"tests/[\w/]+\.py", reason)}
    assert [path for path in named if not (ROOT / path).is_file()] == []
