"""Layers that are compiled, recomputed or laid out for a GPU compute what they computed before."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from mnerkit.cli import main
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import UsageError
from mnerkit.methods import checkpoint
from mnerkit.methods.options import TextOptions
from mnerkit.options import make
from mnerkit.runs import identity
from mnerkit.runs.config.configuration import filled
from mnerkit.runs.run_folder import RunFolder
from mnerkit.towers import layers, text_tower, vision_tower
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.layers import channels_last, compile_layers, layers_of, recompute, trained_layers

FACTS = CorpusFacts((), ("the", "cat"))


def test_a_cnn_with_channels_last_computes_the_same() -> None:
    torch.manual_seed(0)
    for spec, size in (("random:resnet18", 64), ("tiny", 32)):
        tower = vision_tower(spec).eval()
        turned = copy.deepcopy(tower)
        channels_last([turned])
        weights = [weight for weight in turned.parameters() if weight.dim() == 4 and weight.shape[1] > 1]
        assert weights and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
        pixels = torch.rand(2, 3, size, size)
        ours, theirs = turned(pixels), tower(pixels)
        assert ours.stages[0].is_contiguous(memory_format=torch.channels_last)
        for name in ("regions", "pooled", "stages"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-4)
        assert turned.state_dict().keys() == tower.state_dict().keys()


def test_a_transformer_keeps_its_layout() -> None:
    tower = vision_tower("tiny-vit")
    channels_last([tower])
    assert all(weight.is_contiguous() for weight in tower.parameters())
    channels_last([text_tower("tiny", facts=FACTS)])


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounter]:
    """What counts the graphs, which then run as they are: no compiler is needed."""
    counter = CompileCounter()
    monkeypatch.setattr(layers, "BACKEND", counter)
    torch._dynamo.reset()
    yield counter
    torch._dynamo.reset()


def plain(tower: Any) -> Any:
    """A tower in training without dropout and without words that are forgotten."""
    tower.train().forget = 0.0
    for part in tower.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(getattr(part, "dropout_prob", None), float):
            part.dropout_prob = 0.0
    return tower


def rows(tower: Any, count: int, length: int) -> Any:
    return tower.reader.collate([["the"] * length, *([["cat"]] * (count - 1))])


def prefix_of(count: int, width: int = 96) -> Prefix:
    parts = tuple(torch.randn(count, 2, width) for _ in range(3))
    return Prefix(parts, parts, torch.ones(count, 2, dtype=torch.bool))


def gradients(tower: Any, text: Any, prefix: Prefix | None = None) -> list[Any]:
    tower.zero_grad()
    words = tower(text, prefix).words
    words.square().sum().backward()
    return [words.detach(), *(weight.grad.clone() for weight in tower.parameters() if weight.grad is not None)]


def test_layers_that_are_compiled_compute_the_same_and_no_length_compiles_them_anew(compiled: CompileCounter) -> None:
    torch.manual_seed(0)
    tower = plain(text_tower("tiny-bert", facts=FACTS))
    again, names = copy.deepcopy(tower), list(tower.state_dict())
    compile_layers(trained_layers([again]), "cpu")
    assert list(again.state_dict()) == names
    counts = []
    for count, length in ((3, 5), (3, 9), (4, 9), (5, 17), (2, 30)):
        prefix = prefix_of(count)
        for each in (None, prefix):
            text = rows(tower, count, length)
            torch.testing.assert_close(gradients(again, text, each), gradients(tower, text, each))
        counts.append(compiled.frame_count)
    assert counts[0] > 0 and counts[1] == counts[-1] <= 16, "without a prefix, and around attention with one"


def products(tower: Any, text: Any) -> int:
    """Matrix products with a bias of a forward pass."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        tower(text)
    return sum(event.count for event in profile.key_averages() if event.key == "aten::addmm")


def test_queries_keys_and_values_of_a_trained_layer_are_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = plain(text_tower("tiny-bert", facts=FACTS))
    text = rows(tower, 3, 9)
    ours, joint = gradients(tower, text, None), products(tower, text)
    with torch.no_grad():
        assert products(tower, text) == joint + 2 * len(layers_of(tower)), "nothing to save without gradients"
    monkeypatch.setattr(layers, "_self_attention", lambda _: [])
    assert products(tower, text) == joint + 2 * len(layers_of(tower))
    torch.testing.assert_close(ours, gradients(tower, text, None))


def test_layers_of_unequal_widths_are_joined_each_by_itself() -> None:
    def layer(width: int) -> nn.Module:
        made: Any = nn.Module()
        made.self_attn = nn.ModuleDict({f"{name}_proj": nn.Linear(width, width) for name in "qkv"})
        made.self_attn.q_proj, made.self_attn.k_proj, made.self_attn.v_proj = made.self_attn.values()
        return made

    torch.manual_seed(0)
    made: list[Any] = [layer(4), layer(6)]
    states = [torch.randn(3, 4), torch.randn(3, 6)]

    def mapped() -> list[Tensor]:
        return [m(x) for each, x in zip(made, states, strict=True) for m in each.self_attn.values()]

    wanted = mapped()
    with layers.joint_products(made):
        seen = mapped()
    assert all(each._base is not None for each in seen), "views of one product"
    torch.testing.assert_close(seen, wanted)


@pytest.mark.parametrize("with_prefix", [False, True])
def test_layers_that_are_computed_again_have_the_same_gradients(with_prefix: bool) -> None:
    torch.manual_seed(0)
    tower = text_tower("tiny-bert", facts=FACTS).train()
    text, prefix = rows(tower, 3, 9), prefix_of(3) if with_prefix else None
    again, runs = copy.deepcopy(tower), []
    recompute(trained_layers([again]))
    for layer in layers_of(again):
        layer.register_forward_pre_hook(lambda *_: runs.append(1))
        inner: Any = layer
        inner.attention.register_forward_pre_hook(lambda *_: runs.append(1))
    torch.manual_seed(1)
    ours = gradients(again, text, prefix)
    assert len(runs) == 3 * 3, "three layers, and their attention again in the backward pass"
    torch.manual_seed(1)
    theirs = gradients(tower, text, prefix)
    assert len(ours) == len(theirs) > 30
    # with dropout and forgotten words; rounding differs, as layers that are not recomputed multiply once for three maps
    torch.testing.assert_close(ours, theirs)


def fit(runs: Path, name: str, *options: str) -> RunFolder:
    command = ["fit", "--plugin", "bert", "--model.text", "tiny-bert", "--runs_dir", str(runs), "--name", name]
    command += ["--data.limit", "16", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    assert main([*command, "--trainer.accelerator", "cpu", *options]) == 0
    return RunFolder(runs / "bert" / "probe" / name)


def test_a_run_with_checkpointing_is_the_run_without_and_one_compiled_goes_on_from_the_same_weights(
    tmp_path: Path, compiled: CompileCounter
) -> None:
    plain_run, recomputed = fit(tmp_path, "plain"), fit(tmp_path, "again", "--model.checkpointing", "true")
    assert identity.digest_of(filled(plain_run.config())) == identity.digest_of(filled(recomputed.config()))
    assert not compiled.frame_count
    quick = fit(tmp_path, "quick", "--model.compile", "true")
    assert compiled.frame_count
    content, *others = [checkpoint.read(run.best)["state_dict"] for run in (plain_run, recomputed, quick)]
    for other in others:
        assert content.keys() == other.keys()
        for name, value in content.items():
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)
    assert main(["validate", "--ckpt_path", str(quick.best), "--trainer.enable_progress_bar", "false"]) == 0


@pytest.mark.parametrize("name", ["checkpointing", "compile"])
def test_a_tower_that_can_t_is_refused_in_a_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, freeze in (("tiny", "false"), ("tiny-bert", "true")):
        command = ["fit", "--plugin", "bert", "--runs_dir", str(tmp_path), "--data.limit", "16", "--model.text", text]
        assert main([*command, "--model.freeze", freeze, f"--model.{name}", "true"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"mnerkit: --model.{name} true: no transformer is trained here (towers: {text}")
        assert error.count("\n") == 1 and error.endswith(f"--model.{name} false\n")
    assert not list(tmp_path.rglob("config.yaml"))


def test_compiled_layers_are_not_computed_again_and_need_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"--model.compile true: .*checkpointing true.* give one of the two"):
        make(TextOptions, {"compile": True, "checkpointing": True})
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(UsageError, match="C\\+\\+ compiler: install g\\+\\+, or give false"):
        compile_layers([], "cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pip install triton, or give false"):
        compile_layers([], "cuda")
