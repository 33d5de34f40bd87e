"""Writes what the test of kept checkpoints reads: `python tests/kept/write.py 0.1.0 [PLUGIN|runs ...]`.

A set of files is written once, by the release whose name its folder bears, and is never written again: it is what users
of that release have on their disks. A later release that adds an option or a plugin adds a folder of its own.

Each PLUGIN.tar.xz holds a folder for each head: `best.ckpt`, `config.yaml`, what `mnerkit.load(...).predict` returned
for `posts/posts.jsonl`, and the head's emissions. sizes.json says how large a method each `config.yaml` describes.
runs.tar.xz holds two run folders, a finished and a killed one, as they were.

Sizes are small: few posts, narrow towers (`towers/`), and matrices are rounded to a few bits after training, so that
files compress well; the predictions are those of the rounded weights. Nothing else of a checkpoint is touched. Written
twice by one release on one machine, the files are equal.
"""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import adapter  # noqa: E402

from mnerkit.methods.checkpoint import AtomicCheckpoints  # noqa: E402

# bits behind the leading one that a weight of a matrix keeps
BITS = 3

BERT = ["--model.text", "random:towers/bert"]
CLIP = ["--model.vision", "random:towers/clip"]
# weights that a checkpoint leaves in their folder
FIXED_CLIP = ["--model.vision", "towers/clip", "--model.freeze_vision", "true"]
SMALL = ["--data.limit", "40", "--data.batch_size", "8", "--trainer.max_epochs", "3", "--model.lr", "1e-2"]
SMALL += ["--trainer.enable_progress_bar", "false"]
FEW = ["--data.n_way", "2", "--data.k_shot", "2", "--data.episodes_per_epoch", "8", "--data.dev_episodes", "2"]
FEW += ["--data.eval_episodes", "2", "--data.train_types", "PER+LOC", "--data.test_types", "ORG+MISC"]
MULTI = ["--data.variant", "multi"]

# options of each head, beside those of the plugin
HEADS: dict[str, list[str]] = {
    "softmax": ["--model.head.dropout", "0.1", "--trainer.max_epochs", "25", "--model.lr", "5e-3"],
    "crf": ["--trainer.max_epochs", "25", "--model.lr", "5e-3"],
    "prototype": ["--model.head.proto_classes", "bio"],
    "prototype_crf": [],
    "nearest": [],
    "struct": [],
    "finetune": ["--model.head.steps", "3"],
}
FEW_SHOT = ("prototype", "prototype_crf", "nearest", "struct", "finetune")


def heads(common: str, **own: str) -> dict[str, list[str]]:
    """Options of a plugin under each head: `common` and the head's `own`."""
    return {head: [*options(common), *options(own.get(head, ""))] for head in HEADS}


def options(line: str) -> list[str]:
    """`text=tiny head.tau=0.5 data.k_shot=1` as a command line; a name without a section is the model's."""
    argv = []
    for each in line.split():
        name, _, value = each.partition("=")
        argv += [f"--{name}" if name.startswith(("data.", "trainer.")) else f"--model.{name}", value]
    return argv


B, C, FIXED = "text=random:towers/bert", "vision=random:towers/clip", "vision=towers/clip freeze_vision=true"
RUNS: dict[str, dict[str, list[str]]] = {
    "bert": heads(
        "",
        crf="head.transitions=tied head.constrain_bio=true",  # text: tiny
        softmax=f"{B} bilstm_after_encoder=true word_pool=mean",
        prototype=f"{B} head.distance=cosine head.dist_scale=5 head.o_proto=nearest",
        prototype_crf=f"{B} head.transitions=full freeze=true bilstm_after_encoder=true data.out_of_play=ignore",
        nearest=f"{B} head.normalise=false word_pieces=2",
        struct="text=towers/bert-weights freeze=true bilstm_after_encoder=true head.tau=0.5 max_tokens=30",
        finetune=f"{B} head.layer=crf head.scope=all head.encoder_lr=1e-3",
    ),
    "bilstm": heads(
        "width=16 word_width=12 char_width=6",
        crf="chars=lstm",
        softmax="chars=none",
        prototype="head.proto_classes=io head.distance=euclid",
        prototype_crf="chars=lstm head.emission=p",
        nearest="dropout=0.3",
        struct="chars=none",
        finetune="head.tuning_dropout=false head.lr=0.05",
    ),
    "captions": heads(
        B,
        crf="agreement=1.0 read=both",
        softmax="agreement=0.5 read=text caption_dropout=0.3",
        prototype="second_words=3",
        prototype_crf="word_pool=mean",
        nearest="max_images=2 data.variant=multi",
        struct="read=caption dropout=0.0",
        finetune="second_words=8",
    ),
    "cross": heads(
        "",
        crf="",  # text: tiny, vision: tiny
        softmax=f"{B} {C} attention=dot heads=4",
        prototype=f"{B} {FIXED}",
        prototype_crf=f"{B} {FIXED} gate=false head.o_proto=learned_bias",
        nearest=f"{B} {FIXED} matching=0.0",
        struct=f"{B} {FIXED} max_images=2 data.variant=multi",
        finetune=f"{B} {FIXED} freeze_text=true word_pool=mean",
    ),
    "gei": heads(
        f"{B} width=16 hidden=16 transformer_heads=2",
        crf=C,
        softmax=f"{FIXED} visual=regions tokens=words",
        prototype=f"{FIXED} norm=pre residual=false gate=scalar",
        prototype_crf=f"{FIXED} entity_nodes=false span_task=false lambda_span=0.0",
        nearest=f"{FIXED} obj_update=sequential decode_on=concat_bert",
        struct=f"{FIXED} use_global=false entity_state=carry span_repair=strict",
        finetune=f"{FIXED} obj_update=none isolate_non_entity=true graph_layers=1",
    ),
    "gifr": heads(
        f"{B} {FIXED} heads=2",
        crf="",
        softmax="irrelevant=drop gt_block=attn_only",
        prototype="relevance=ones pos=order",
        prototype_crf="graph=false",
        nearest="residual_scale_r=true r_axis=target",
        struct="renorm=true pos=none max_degree=3",
        finetune="prompt_kv=shared_bert max_images=2",
    ),
    "gmf": heads(
        f"{B} vision=tiny freeze_vision=true",
        crf="",
        softmax="vcg=last_stage_only csa_norm=gn csa_dilation=2",
        prototype="vision=captions freeze_vision=false csa_relu=false",
        prototype_crf="prefix_grid=2 prefix_share_layers=true cm_text=fused",
        nearest="vcg=false alpha=1.0",
        struct="csa=false cm_image=raw standardise=false",
        finetune="prefix_layers=[1] prefix_bias=true csa_r=4",
    ),
    "hvpnet": heads(
        f"{B} vision=tiny freeze_vision=true hidden=24",
        crf="text=tiny-bert",
        softmax="layout=released prefix_grid=2",
        prototype="vision=captions freeze_vision=false",
        prototype_crf="gate=false",
        nearest="pictures=image gate_input=mean",
        struct="pictures=objects standardise=false",
        finetune="prefix_grid=2 gate_input=mean max_objects=2",
    ),
    "mgips_cl": heads(
        f"{B} {C} tiny_heads=1 mge_heads=2 ips_k=1 crop_size=12",
        crf="",
        softmax="kv_source=same_layer_vision_first first_layer=projected n_interweave=2",
        prototype="use_mgi=false w_cl=0.0",
        prototype_crf="use_row=false gate=token mge_ffn=true",
        nearest="vision=captions w_ips=0.0 length_align=cross_attn",
        struct="use_col=false mge_value=source cl_pool=cls mask_missing_crops=false",
        finetune="column_reading=literal interweave_residual=eq10 final_image_mge=false",
    ),
    "mousing": heads(
        "text=towers/clip vision=towers/clip hidden=16 kl_width=8",
        crf="text=tiny vision=tiny",
        softmax="num_env=1 kl_mode=none image_nodes=pooled_tokens neighbourhood=dense edge_sim=raw delta=0.2",
        prototype="use_image=false multiview=false",
        prototype_crf="head.distance=cosine head.dist_scale=10 head.proto_classes=io",
        nearest="intervention=gaussian kl_mode=none adj_norm=sym neighbourhood=topk topk=2",
        struct=f"{B} freeze=false image_nodes=captions num_views=2 view_weight=linear num_layers=1",
        finetune="image_projection=true ste=true env_inference=g1 recompute_adj_each_layer=true kl_mode=neg_js",
    ),
    "relevance": {
        "oracle": options("joint=16 hidden=16"),  # text: tiny, vision: tiny
        "clip": options(
            "text=towers/clip vision=towers/clip preference=clip joint=8 hidden=8 max_images=3 blank=black"
        ),
        "utility": options(
            f"{B} {C} freeze=false preference=utility utility_seeds=1 utility_epochs=1 joint=8 hidden=8"
        ),
    },
    "tpm_mi": heads(
        f"{B} {FIXED} prompt_hidden=12 heads=2",
        crf="",
        softmax="pos=none word_pool=first",
        prototype="max_images=1",
        prototype_crf="graph_layers=1",
        nearest="freeze_text=true",
        struct="vision=random:towers/clip freeze_vision=false",
        finetune="max_images=2 head.layer=crf",
    ),
}
OWN_DATA = {"gifr": [*MULTI, "--data.relevance", "oracle"], "tpm_mi": MULTI, "relevance": [*MULTI]}


def argv_of(plugin: str, head: str) -> list[str]:
    """The command line of a kept run, without its name and place."""
    argv = ["--plugin", plugin, *SMALL, *OWN_DATA.get(plugin, [])]
    if plugin == "relevance":
        return last_of_each([*argv, *RUNS[plugin][head]])
    argv += ["--model.head", head, *HEADS[head]]
    if head in FEW_SHOT:
        argv += FEW
    elif plugin == "mousing":
        argv += ["--data.train_types", "null", "--data.test_types", "null"]
    if plugin == "mousing":
        argv += ["--data.variant", "default"]
    return last_of_each([*argv, *RUNS[plugin][head]])


def last_of_each(argv: list[str]) -> list[str]:
    """Each option once, with its last value."""
    given = dict(zip(argv[::2], argv[1::2], strict=True))
    return [part for option in given.items() for part in option]


def rounded(tensor: torch.Tensor, bits: int = BITS) -> torch.Tensor:
    """A matrix of floats with so few bits that its file can be compressed; anything else as it is."""
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return tensor
    mantissa, exponent = torch.frexp(tensor)
    return torch.ldexp((mantissa * 2 ** (bits + 1)).round() / 2 ** (bits + 1), exponent).to(tensor.dtype)


def write_towers() -> None:
    """Towers that are smaller than the tiny ones, as folders that transformers can read."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import BertConfig, BertModel, BertTokenizer, CLIPConfig, CLIPModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["a", "the", "in", "of", "at", "and", "again", "red", "green", "blue", "met", "shares", "team", "look"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{each}" for each in letters), *words]
    pieces += list("#@:/._!?,'-")
    for name in ("bert", "bert-weights"):
        folder = HERE / "towers" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vocab.txt").write_text("".join(each + "\n" for each in dict.fromkeys(pieces)))
        BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
        config = BertConfig(
            vocab_size=len(dict.fromkeys(pieces)),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=96,
            initializer_range=0.2,
        )
        config.save_pretrained(folder)
        if name == "bert-weights":
            save_rounded(BertModel(config, add_pooling_layer=False), folder)
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|startoftext|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=special, end_of_word_suffix="</w>"
    )
    tokenizer.train_from_iterator(words, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    for letter in alphabet:
        model["vocab"].setdefault(letter + "</w>", len(model["vocab"]))
    folder = HERE / "towers" / "clip"
    merges: Any = [tuple(pair) for pair in model["merges"]]
    CLIPTokenizer(vocab=model["vocab"], merges=merges).save_pretrained(folder)
    layers = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    text = {"vocab_size": len(model["vocab"]), "max_position_embeddings": 64, "eos_token_id": 1, "bos_token_id": 0}
    vision = {"image_size": 48, "patch_size": 12}
    clip = CLIPModel(CLIPConfig(text_config={**layers, **text}, vision_config={**layers, **vision}, projection_dim=16))
    for value in clip.parameters():
        if value.ndim > 1:  # CLIP's own deviation is made for wide layers
            value.data.normal_(0.0, 0.2)
    save_rounded(clip, folder)


def save_rounded(model: Any, folder: Path) -> None:
    """Save a transformers model with rounded weights."""
    model.load_state_dict({name: rounded(value) for name, value in model.state_dict().items()})
    model.save_pretrained(folder)


def write_posts(folder: Path) -> None:
    """Posts of the probe corpus with their pictures, and all that is known of these."""
    from PIL import Image

    from mnerkit.data.pictures.decoding import decode
    from mnerkit.data.probe import generate

    lines = []
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for preset in ("default", "multi"):
        posts = generate(preset, "train", 30)  # among those that the runs train on
        chosen = [post for post in posts if len(post.images) <= 2 and set(post.tags) != {"O"}][:3]
        for number, post in enumerate(chosen):
            record: dict[str, Any] = {"id": f"{preset}{number}", "words": list(post.words), "images": []}
            record |= {"captions": [], "boxes": [], "unit": "shares", "relevance": []}
            for place, image in enumerate(post.images):
                name = f"{preset}{number}-{place}.png"
                Image.fromarray(decode(image)).quantize(32, dither=Image.Dither.NONE).save(folder / "pictures" / name)
                record["images"].append(name)
                record["captions"].append(image.caption)
                record["boxes"].append([{"box": list(each.box), "score": each.score} for each in image.objects])
                record["relevance"].append(float(post.truth.relevant[place]))
            lines.append(json.dumps(record))
    (folder / "posts.jsonl").write_text("\n".join(lines) + "\n")


def read_posts() -> list[dict[str, Any]]:
    """The posts that every kept checkpoint predicts."""
    return [json.loads(line) for line in (HERE / "posts" / "posts.jsonl").read_text("utf-8").splitlines()]


def predicted(folder: Path, name: str) -> tuple[bytes, list[dict[str, Any]], list[Any]]:
    """A best.ckpt of a run with the rounded weights of its checkpoint `name`; records and emissions of the posts."""
    content = torch.load(folder / "best.ckpt", weights_only=True)
    state = torch.load(folder / name, weights_only=True)["state_dict"]
    content["state_dict"] = {key: rounded(value) for key, value in state.items()}
    file = folder / "rounded.ckpt"
    torch.save(content, file)
    posts, pictures, towers = read_posts(), str(HERE / "posts" / "pictures"), str(HERE / "towers")
    return file.read_bytes(), *adapter.predictions(str(file), posts, pictures, towers)


def number_of_entities(records: list[dict[str, Any]]) -> int:
    """How many entities the records hold."""
    return sum(len(each.get("entities", ())) for each in records)


def write_run(plugin: str, head: str, runs: Path, files: dict[str, bytes]) -> Path:
    """Train one, and add its files under `HEAD/`; returns its folder."""
    argv = ["fit", *argv_of(plugin, head), "--name", head, "--runs_dir", str(runs), "--overwrite", "--keep_last"]
    if code := adapter.main(argv):
        raise SystemExit(f"{' '.join(argv)}: exit code {code}")
    folder = next(runs.glob(f"{plugin}/*/{head}"))
    # of so few posts dev may choose the weights of the first epoch, which find nothing
    tried = [predicted(folder, name) for name in ("best.ckpt", "last.ckpt") if (folder / name).exists()]
    content, records, emissions = max(tried, key=lambda each: number_of_entities(each[1]))
    files[f"{head}/best.ckpt"] = content
    files[f"{head}/config.yaml"] = (folder / "config.yaml").read_bytes()
    files[f"{head}/predictions.jsonl"] = "".join(json.dumps(each) + "\n" for each in records).encode()
    buffer = io.BytesIO()
    np.save(buffer, np.array(emissions[0] if emissions else [], dtype=np.float32))
    files[f"{head}/emissions.npy"] = buffer.getvalue()
    counts = [number_of_entities(each[1]) for each in tried]
    print(f"{plugin} {head}: {len(content) >> 10} KiB, entities {counts}", file=sys.stderr, flush=True)
    return folder


def command_of(name: str) -> list[str]:
    """The command of one of the two kept run folders, `finished` and `killed`, without `--runs_dir`."""
    small = [
        "--data.batch_size",
        "8",
        "--trainer.max_epochs",
        "6",
        "--trainer.enable_progress_bar",
        "false",
        "--seed",
        "3",
    ]
    if name == "finished":
        own = options(f"{B} {FIXED} lr=5e-3 data.limit=16")
        return ["fit", "--plugin", "cross", "--test", *small, *own, "--name", name]
    # its best epoch comes after its death
    own = options("width=16 word_width=12 char_width=6 lr=2e-2 data.limit=100")
    return ["fit", "--plugin", "bilstm", *small, *own, "--name", name]


def write_runs(scratch: Path, target: Path) -> None:
    """A finished run, one that was killed after its third epoch, and what the latter comes to when it is left alone."""
    kept: dict[str, bytes] = {}
    for place, name in (("finished", "finished"), ("undisturbed", "killed"), ("killed", "killed")):
        argv = [*command_of(name), "--runs_dir", str(scratch / place)]
        if place == "killed":
            fit_until_killed(argv)
        elif adapter.main(argv):
            raise SystemExit(f"{' '.join(argv)} failed")
        for file in sorted(path for path in (scratch / place).rglob("*") if path.is_file()):
            # the optimiser's state of a run that is over is read by nobody, nor are the weights of the undisturbed one
            left_out = ("last.ckpt", ".", *(["best.ckpt"] if place == "undisturbed" else []))
            if place == "killed" or not file.name.startswith(left_out):
                kept[f"{place}/{file.relative_to(scratch / place).as_posix()}"] = file.read_bytes()
        kept[f"{place}.json"] = json.dumps(command_of(name)).encode()  # without `--runs_dir`
    pack(kept, target / "runs.tar.xz")


def fit_until_killed(argv: list[str]) -> None:
    """Train in a process of its own that dies, without a word, when three epochs are done and saved."""
    if child := os.fork():
        os.waitpid(child, 0)
        return
    save, saved = AtomicCheckpoints.save_checkpoint, []

    def dying(self: Any, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save(self, checkpoint, path, storage_options)
        saved.append(Path(path).name == "last.ckpt")
        if sum(saved) == 3:
            os._exit(0)

    AtomicCheckpoints.save_checkpoint = dying  # type: ignore[method-assign]
    adapter.main(argv)
    os._exit(1)


def size_of(plugin: str, config: Path) -> dict[str, int]:
    """How many parameters the method of a configuration file has, and how many of them learn."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if code := adapter.main(["plugins", plugin, "--params", "--json", "--config", str(config)]):
            raise SystemExit(f"mnerkit plugins {plugin} --params --config {config}: exit code {code}")
    found = json.loads(printed.getvalue())
    return {name: found[name] for name in ("parameters", "trainable")}


def add_sizes(sizes: dict[str, dict[str, int]], target: Path) -> None:
    """Put sizes into a release's sizes.json, a line each."""
    known = json.loads(target.read_text("utf-8")) if target.exists() else {}
    lines = [f"  {json.dumps(name)}: {json.dumps(size)}" for name, size in sorted({**known, **sizes}.items())]
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def pack(files: dict[str, bytes], target: Path) -> None:
    """One archive; like bytes of several checkpoints (frozen towers) are stored once."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    target.write_bytes(lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME))


def main() -> None:
    """Write a set."""
    release, *plugins = sys.argv[1:]
    target = HERE / release
    target.mkdir(exist_ok=True)
    os.chdir(HERE)
    if not (HERE / "towers").exists():
        write_towers()
    if not (HERE / "posts").exists():
        write_posts(HERE / "posts")
    scratch = Path(tempfile.mkdtemp(prefix="mnerkit-kept-"))
    os.environ.setdefault("MNERKIT_CACHE", str(scratch / "cache"))
    try:
        if not plugins or "runs" in plugins:
            write_runs(scratch, target)
        for plugin in [each for each in plugins if each != "runs"] or ([] if plugins else RUNS):
            files: dict[str, bytes] = {}
            for head in RUNS[plugin]:
                folder = write_run(plugin, head, scratch / "runs", files)
                add_sizes({f"{plugin}/{head}": size_of(plugin, folder / "config.yaml")}, target / "sizes.json")
            pack(files, target / f"{plugin}.tar.xz")
            print(f"{plugin}: {(target / f'{plugin}.tar.xz').stat().st_size >> 10} KiB", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
