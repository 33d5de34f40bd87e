"""`prompted`: a scripted server in place of a language model, whose scores are computed here by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from scripted_llm import ScriptedLlm, asked_text, scripted_llm, text_of
from small_tokenizers import byte_pieces

import mnerkit
from mnerkit.cli import main
from mnerkit.data.corpus.post import Entity, Post
from mnerkit.data.corpus.tags import entities
from mnerkit.data.datamodule import MnerData
from mnerkit.errors import DataError, TowerError, UsageError
from mnerkit.runs.build import Assembly
from mnerkit.scoring.counts import entity_scores
from mnerkit.testing import BasePluginTest, plugin_tests
from mnerkit.testing.plugin_tests import Workbench
from mnerkit_plugins.prompted.endpoint import MOST_BYTES, Endpoint
from mnerkit_plugins.prompted.local_model import LocalModel
from mnerkit_plugins.prompted.options import PromptedOptions
from mnerkit_plugins.prompted.parsing import parsed
from mnerkit_plugins.prompted.prompt import Prompt, Question
from mnerkit_plugins.prompted.replies import Reply, ReplyCache
from mnerkit_plugins.prompted.reply_file import ReplyFile

DATA = {"limit": 30, "eval_batch_size": 8}


def posts_of(split: str) -> list[Post]:
    """The posts of the probe that the tests ask about."""
    return MnerData(limit=DATA["limit"]).posts(split)


def listed(post: Post) -> list[dict[str, str]]:
    """A post's entities as a reply lists them."""
    spans = entities(post.tags or ())
    return [{"text": " ".join(post.words[span.start : span.end]), "type": span.type} for span in spans]


@pytest.fixture(scope="module")
def truth() -> dict[str, Post]:
    """The posts of dev and test by their text, which no two share."""
    posts = [post for split in ("dev", "test") for post in posts_of(split)]
    by_text = {" ".join(post.words): post for post in posts}
    assert len(by_text) == len(posts)
    return by_text


@pytest.fixture
def server(truth: dict[str, Post]) -> Iterator[ScriptedLlm]:
    """Answers each post with its own entities."""
    with scripted_llm(lambda text, _: json.dumps({"entities": listed(truth[text])})) as running:
        yield running


def fit(server: ScriptedLlm, folder: Path, data: dict[str, Any] | None = None, **model: Any) -> mnerkit.Run:
    """A run that asks the server."""
    data = {**DATA, "cache": str(folder / "cache"), **(data or {})}
    settings = {"llm": "scripted", "endpoint": server.url, "backoff": 0.01, **model}
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    return mnerkit.fit("prompted", model=settings, data=data, trainer=trainer, test=True, runs_dir=folder)


def test_spoilt_broken_and_failing_replies_score_as_computed_by_hand(
    server: ScriptedLlm, truth: dict[str, Post], tmp_path: Path
) -> None:
    """Every fifth reply lacks an entity and has a wrong one, every seventh is no JSON, every third request fails."""
    numbers = {text: number for number, text in enumerate(truth)}
    failed = set[str]()

    def say(text: str, _: Any) -> Any:
        number, items = numbers[text], listed(truth[text])
        if number % 3 == 0 and text not in failed:
            failed.add(text)
            return (503, b"busy") if number % 2 else None
        if number % 7 == 0:
            return '{"entities": [{"text": "Jor'
        if number % 5 == 0:
            items = [*items[1:], {"text": truth[text].words[0], "type": "MISC"}, {"text": "not there", "type": "PER"}]
        return "```json\n" + json.dumps({"entities": items}) + "\n```"

    server.say = say
    run = fit(server, tmp_path)
    for split in ("dev", "test"):
        gold, predicted, unplaced, unreadable = [], [], 0, 0
        for post in posts_of(split):
            number = numbers[" ".join(post.words)]
            spans = entities(post.tags or ())
            gold.append(list(post.tags or ()))
            if number % 7 == 0:
                unreadable += 1
                spans = []
            elif number % 5 == 0:
                unplaced += 1
                spans = spans[1:]
                if any(span.start == 0 for span in spans):
                    unplaced += 1
                else:
                    spans = [Entity(0, 1, "MISC"), *spans]
            tags = ["O"] * len(post.words)
            for span in spans:
                tags[span.start : span.end] = [f"B-{span.type}", *[f"I-{span.type}"] * (span.end - span.start - 1)]
            predicted.append(tags)
        figures = run.metrics[split]
        assert figures["f1"] == pytest.approx(entity_scores(gold, predicted)["f1"]) and 50 < figures["f1"] < 95
        assert (figures["replies/unreadable"], figures["replies/unplaced"]) == (unreadable, unplaced)
    assert len(server.requests) == len(truth) + len(failed)
    assert run.metrics["language_model"]["name"] == "scripted"
    assert sorted(server.replied) == sorted(truth)


def test_a_dry_run_counts_and_asks_nothing(
    server: ScriptedLlm, truth: dict[str, Post], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model.llm", "scripted", "--model.endpoint", server.url, "--data.limit", "30", "--runs_dir"]
    command = ["fit", "--plugin", "prompted", *options, str(tmp_path / "runs"), "--data.cache", str(tmp_path), "--test"]
    assert main([*command, "--dry-run"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "0 weights to train; posts: train 30, dev 30, test 30" in printed
    assert "60 questions about dev and test to scripted, of which 0 are answered; 60 requests: some " in printed
    assert not server.requests and not list((tmp_path / "runs").rglob("config.yaml"))
    assert main([*command, "--dry-run", "--overwrite"]) == 2
    assert main([*command, "--trainer.accelerator", "cpu"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    tokens = sum(len(text_of(each["content"])) for body in server.requests[:30] for each in body["messages"])
    assert f"dev: {tokens:,} tokens read, 210 written; not used: nothing" in printed
    assert "replies of scripted; 60 requests made; test labels that are public may be in" in printed


def test_a_second_run_makes_no_request(server: ScriptedLlm, truth: dict[str, Post], tmp_path: Path) -> None:
    run = fit(server, tmp_path)
    assert run.metrics["test"]["f1"] == 100 and len(server.requests) == len(truth)
    assert run.metrics["language_model"]["requests"] == {"made": len(truth)}
    again = mnerkit.fit(
        "prompted", config=run.path / "config.yaml", test=True, runs_dir=tmp_path, overwrite=True, name="again"
    )
    assert len(server.requests) == len(truth) and again.metrics["language_model"]["requests"] == {"made": 0}
    assert again.metrics["test"] == run.metrics["test"]
    files = [path for path in (tmp_path / "cache" / "replies").iterdir()]
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert {row["id"] for row in rows} == {post.id for post in truth.values()} and len(rows) == len(truth)
    assert all({"id", "model", "prompt_digest", "reply"} <= row.keys() for row in rows)


def test_entities_are_matched_with_words_in_their_order() -> None:
    words, types = ["Paris", "met", "Paris", "Hilton", "in", "new", "york"], ("PER", "LOC")

    def spans(*items: tuple[str, str]) -> list[tuple[int, int, str]]:
        reply = json.dumps({"entities": [{"text": text, "type": kind} for text, kind in items]})
        return [(span.start, span.end, span.type) for span in parsed(reply, words, types).spans]

    assert spans(("Paris", "LOC"), ("Paris Hilton", "PER")) == [(0, 1, "LOC"), (2, 4, "PER")]
    assert spans(("Paris", "LOC"), ("Paris", "PER")) == [(0, 1, "LOC"), (2, 3, "PER")]
    assert spans(("New York", "LOC"), ("Paris", "LOC")) == [(0, 1, "LOC"), (5, 7, "LOC")]
    assert spans(("Par", "LOC"), ("Hilton in Paris", "PER")) == []


# ---------------------------------------------------------------------- examples


def test_episodes_show_the_support_of_the_query(server: ScriptedLlm, truth: dict[str, Post], tmp_path: Path) -> None:
    few = {"train_types": ["PER", "LOC"], "test_types": ["ORG", "MISC"], "k_shot": 2, "limit": 60}
    few |= {"dev_episodes": 2, "eval_episodes": 3}
    every = {
        " ".join(post.words): post for split in ("train", "dev", "test") for post in MnerData(limit=60).posts(split)
    }

    def say(text: str, messages: list[dict[str, Any]]) -> str:
        types = re.findall(r"^- (\w+)", messages[0]["content"], re.M)
        shown = [json.loads(each["content"])["entities"] for each in messages if each["role"] == "assistant"]
        counts = Counter(item["type"] for items in shown for item in items)
        assert set(counts) == set(types) and sum(counts.values()) >= 2
        return json.dumps({"entities": [item for item in listed(every[text]) if item["type"] in types]})

    server.say = say
    run = fit(server, tmp_path, few, examples="support")
    assert run.metrics["test"]["f1"] == 100 and run.metrics["protocol"]["k_shot"] == 2
    assert {tuple(row["types"]) for row in run.predictions("test")} == {("MISC", "ORG")}


def test_nearest_training_posts_are_shown_the_nearest_last(
    server: ScriptedLlm, truth: dict[str, Post], tmp_path: Path
) -> None:
    run = fit(server, tmp_path, examples="nearest", shots=3, text="tiny")
    assert run.metrics["test"]["f1"] == 100
    training = {" ".join(post.words) for post in posts_of("train")}
    asked = [[asked_text([each]) for each in body["messages"] if each["role"] == "user"] for body in server.requests]
    assert all(len(texts) == 4 and set(texts[:3]) <= training for texts in asked)
    # a training post that is asked about is not its own example; its nearest ones read most like it
    method, post = mnerkit.load(run).method, posts_of("train")[0]
    batch = MnerData(**DATA)
    batch.connect(method.needs(), types=method.facts.types)
    method.scored_pass, server.say = "train", lambda *_: "{}"
    method.answers(batch.collator()([post]))
    texts = [asked_text([each]) for each in server.requests[-1]["messages"] if each["role"] == "user"]
    assert texts[-1] == " ".join(post.words) and texts[-1] not in texts[:-1]


# ---------------------------------------------------------------------- servers that fail


def endpoint(url: str, **options: Any) -> Endpoint:
    """A server that is asked without waiting long."""
    given = {"retries": 2, "backoff": 0.01, "timeout": 5.0, **options}
    return Endpoint(PromptedOptions(llm="scripted", endpoint=url, **given))


HELLO = [{"role": "user", "content": "Post: hello"}]
KEY = "sk-of-a-test"


@pytest.mark.parametrize(
    ("said", "kind", "words", "requests"),
    [
        ((401, b'{"error": {"message": "wrong key sk-of-a-test"}}'), UsageError, "refuses the key in the", 1),
        ((403, b"no"), UsageError, "refuses the key", 1),
        ((404, b"{}"), UsageError, "no model 'scripted'", 1),
        ((400, b'{"error": "too long\\nby far"}'), UsageError, "answers 400 .too long by far.", 1),
        ((307, b""), UsageError, "points to another address", 1),
        ((429, b"slowly"), DataError, "answers 429, in 3 tries", 3),
        ((200, b"<html>"), DataError, "sends no JSON, in 3 tries", 3),
        ((200, b"[" * 100_000), DataError, "sends no JSON", 3),
        ((200, b'{"choices": []}'), DataError, "without choices", 3),
        ((200, b'{"choices": [{"message": {"content": 5}}]}'), DataError, "no text", 3),
        ((200, b" " * (MOST_BYTES + 1)), DataError, "sends more than 8 MB", 1),
        (None, DataError, "ends the connection", 3),
    ],
)
def test_a_server_that_refuses_or_fails_is_reported_in_a_line(
    said: Any, kind: type[Exception], words: str, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNERKIT_LLM_KEY", KEY)
    with scripted_llm(lambda *_: said) as server, pytest.raises(kind, match=words) as error:
        endpoint(server.url).ask(HELLO)
    assert "\n" not in str(error.value) and KEY not in str(error.value)
    assert len(server.requests) == requests and set(server.keys) == {f"Bearer {KEY}"}


def test_a_server_that_is_not_there_or_slow_is_reported_at_once_or_asked_again() -> None:
    with scripted_llm(lambda *_: "late") as server:
        url, server.wait = server.url, 0.4
        with pytest.raises(DataError, match=r"gives no answer within 0.1 s, in 3 tries"):
            endpoint(url, timeout=0.1).ask(HELLO)
    with pytest.raises(DataError, match=r"does not answer: .*is the server running"):
        endpoint(url, backoff=30.0).ask(HELLO)


def test_requests_keep_to_the_limit_and_run_at_once() -> None:
    questions = [Question(str(n), [{"role": "user", "content": f"Post: {n}"}], str(n)) for n in range(8)]
    kept: list[str] = []
    with scripted_llm(lambda *_: "{}") as server:
        server.wait = 0.2
        started = time.monotonic()
        endpoint(server.url, parallel=8).ask_all(questions, lambda each, _: kept.append(each.id))
        assert sorted(kept) == [each.id for each in questions] and time.monotonic() - started < 8 * 0.2
        server.wait, started = 0.0, time.monotonic()
        endpoint(server.url, per_second=20.0).ask_all(questions, lambda *_: None)
        assert time.monotonic() - started >= 7 / 20


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host/v1", "http://host/v1?key=1", "http://ho st/v1"])
def test_an_address_is_a_plain_url(url: str) -> None:
    with pytest.raises(UsageError, match="give an address such as"):
        PromptedOptions(llm="scripted", endpoint=url)
    with pytest.raises(UsageError, match="MNERKIT_LLM_KEY") as error:
        PromptedOptions(llm="scripted", endpoint="https://me:secret@host/v1")
    assert "secret" not in str(error.value)


def test_the_key_is_in_no_file_of_a_run(server: ScriptedLlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNERKIT_LLM_KEY", KEY)
    fit(server, tmp_path, {"limit": 6})
    assert set(server.keys) == {f"Bearer {KEY}"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5 and all(KEY.encode() not in path.read_bytes() for path in files)


ASKS = """
import sys
from pathlib import Path
from mnerkit_plugins.prompted.endpoint import Endpoint
from mnerkit_plugins.prompted.options import PromptedOptions
from mnerkit_plugins.prompted.prompt import Question
from mnerkit_plugins.prompted.replies import ReplyCache
cache = ReplyCache(Path(sys.argv[2]), "scripted")
asked = [Question(str(n), [{"role": "user", "content": f"Post: {n}"}], "digest") for n in range(60)]
left = [each for each in asked if cache.get(each.id, each.digest) is None]
endpoint = Endpoint(PromptedOptions(llm="scripted", endpoint=sys.argv[1], parallel=3))
endpoint.ask_all(left, lambda each, reply: cache.add(each.id, each.digest, reply))
"""


def test_killed_and_continued_no_reply_is_lost_or_asked_twice(tmp_path: Path) -> None:
    with scripted_llm(lambda text, _: f"reply to {text}") as server:
        server.wait = 0.02
        command = [sys.executable, "-c", ASKS, server.url, str(tmp_path)]
        first = subprocess.Popen(command)
        while len(server.replied) < 20:
            time.sleep(0.005)
        first.kill()
        first.wait()
        (file,) = tmp_path.iterdir()
        before = [json.loads(line)["id"] for line in file.read_text().splitlines()]
        with file.open("a") as stream:  # as if the last line had been cut off
            stream.write('{"id": "59", "model": "scr')
        asked = len(server.requests)
        subprocess.run(command, check=True)
        again = [asked_text(body["messages"]) for body in server.requests[asked:]]
    assert len(before) >= 17 and not {*before} & {*again}
    assert sorted([*before, *again], key=int) == [str(number) for number in range(60)]
    cache = ReplyCache(tmp_path, "scripted")
    replies = [cache.get(str(number), "digest") for number in range(60)]
    assert [reply and reply.text for reply in replies] == [f"reply to {number}" for number in range(60)]


# ---------------------------------------------------------------------- replies of others


def written(path: Path, rows: list[Any]) -> str:
    """A file of JSON lines."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def test_replies_of_a_file_are_scored_without_asking(truth: dict[str, Post], tmp_path: Path) -> None:
    rows = [
        {"id": post.id, "model": "someone's", "reply": json.dumps({"entities": listed(post)})}
        for post in posts_of("test")[1:]
    ]
    file = written(tmp_path / "replies.jsonl", rows)
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    run = mnerkit.fit("prompted", model={"replies": file}, data=DATA, trainer=trainer, test=True, runs_dir=tmp_path)
    lost = len(listed(posts_of("test")[0]))
    gold = sum(len(listed(post)) for post in posts_of("test"))
    assert run.metrics["test"]["recall"] == pytest.approx(100 * (gold - lost) / gold)
    assert run.metrics["test"]["replies/missing"] == 1 and run.metrics["dev"]["replies/missing"] == DATA["limit"]
    assert run.metrics["language_model"]["name"] == "someone's"
    with pytest.raises(DataError, match="has no reply about post new"):
        mnerkit.load(run).predict([{"id": "new", "text": "Jordan scores"}])


REPLY = '{"entities": [{"text": "Jordan", "type": "PER"}]}'


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"id": "1", "reply": REPLY}, "no json"], r"replies.jsonl:2: no line of JSON"),
        ([{"id": "1", "text": REPLY}], r"replies.jsonl:1: a line is"),
        ([{"id": "1", "reply": REPLY}, {"id": "1", "reply": "other"}], "a second, other reply"),
        ([{"id": "1", "reply": REPLY}, {"id": "3", "reply": REPLY}], "post 3 is not in the corpus"),
        ([{"id": "1", "reply": REPLY.replace("PER", "PERSON")}], "name the types PERSON, and the corpus has PER, LOC"),
        ([{"id": "1", "reply": REPLY, "prompt_digest": "0123"}], r"is to another prompt \(0123\) than this run's"),
    ],
)
def test_replies_that_do_not_fit_are_refused_in_a_line(rows: list[Any], words: str, tmp_path: Path) -> None:
    def use() -> None:
        file = ReplyFile(written(tmp_path / "replies.jsonl", rows), "anyone")
        file.check({"1", "2"}, ("PER", "LOC"))
        file.get(Question("1", [], "4567"))

    with pytest.raises(DataError, match=words) as error:
        use()
    assert "\n" not in str(error.value)


def test_the_model_of_a_file_is_named(tmp_path: Path) -> None:
    rows = [{"id": "1", "reply": REPLY, "model": "a"}, {"id": "2", "reply": REPLY, "model": "b"}]
    with pytest.raises(UsageError, match=r"replies of 2 models: give one as --model\.llm"):
        ReplyFile(written(tmp_path / "both.jsonl", rows), None)
    with pytest.raises(UsageError, match="do not name their model: give one"):
        ReplyFile(written(tmp_path / "none.jsonl", [{"id": "1", "reply": REPLY}]), None)
    assert [*ReplyFile(str(tmp_path / "both.jsonl"), "b").replies] == ["2"]


# ---------------------------------------------------------------------- a model on this machine


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a chat model with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.decoders import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "chat"
    vocabulary, merges = byte_pieces(["<pad>", "<end>"])
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = (
        "{% for each in messages %}{{ each.role }}: {{ each.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"vocab_size": len(fast), "max_position_embeddings": 2048, "initializer_range": 0.5}
    LlamaForCausalLM(LlamaConfig(**sizes, pad_token_id=0, eos_token_id=1, bos_token_id=1)).save_pretrained(folder)
    return str(folder)


def test_a_model_here_answers_in_batches_as_it_does_alone(chat_model: str) -> None:
    prompt = Prompt(None, False, "none", 1, 12)
    questions = [prompt.question(Post(str(n), ("Jordan",) * (3 * n + 1)), ("PER", "LOC")) for n in range(3)]
    kept: list[dict[str, Reply]] = [{}, {}]
    for batch, replies in zip((3, 1), kept, strict=True):
        model = LocalModel(chat_model, False, 12, batch)
        model.ask_all(
            questions, lambda each, reply, into=replies: into.__setitem__(each.id, reply), torch.device("cpu")
        )
        assert model.requests == 3 and re.fullmatch(r"chat@[0-9a-f]{12}", model.name)
    assert kept[0] == kept[1] and len({reply.text for reply in kept[0].values()}) > 1
    assert all(reply.completion_tokens and reply.completion_tokens <= 12 for reply in kept[0].values())
    with pytest.raises(TowerError, match=r"reads 2,048 tokens, and a question of .* has more"):
        LocalModel(chat_model, False, 2000, 1).ask_all(questions, lambda *_: None, torch.device("cpu"))


def test_a_run_asks_a_model_of_a_folder(chat_model: str, tmp_path: Path) -> None:
    data = {**DATA, "limit": 4, "cache": str(tmp_path / "cache")}
    model = {"llm": chat_model, "max_new_tokens": 8}
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    run = mnerkit.fit("prompted", model=model, data=data, trainer=trainer, runs_dir=tmp_path)
    assert run.metrics["dev"]["replies/unreadable"] == 4 and run.metrics["dev"]["f1"] == 0
    assert run.metrics["language_model"]["name"].startswith("chat@")


# ---------------------------------------------------------------------- as every plugin


def by_captions(text: str, messages: list[dict[str, Any]]) -> str:
    """A reply that depends on the words and on the captions."""
    types = re.findall(r"^- (\w+)", messages[0]["content"], re.M)
    number = sum(text_of(messages[-1]["content"]).encode()) % len(types)
    return json.dumps({"entities": [{"text": text.split()[0], "type": types[number]}]})


class TestPrompted(BasePluginTest):
    """What holds of every plugin, but for learning."""

    plugin: ClassVar[str] = "prompted"
    test_training_lowers_the_loss = None
    test_one_batch_is_learnt_by_heart = None

    @pytest.fixture(scope="class")
    def bench(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
        """Makes the method, which asks a server."""
        cache = str(tmp_path_factory.mktemp("cache"))
        with scripted_llm(by_captions) as server:
            model = {"llm": "scripted", "endpoint": server.url, "backoff": 0.01}
            data = {**plugin_tests.DATA, "cache": cache}
            yield Workbench("prompted", {"model": model, "data": data, "trainer": plugin_tests.TRAINER})

    def assert_trains(self, made: Assembly) -> None:
        """There is nothing to train; the method answers."""
        assert made.method.trainable_parameters() == 0
        batch = next(iter(made.data.loader("dev")))
        made.method.scored_pass = "dev"
        assert len(plugin_tests.answers(made.method, batch)) == int(batch.query.sum())

    def test_a_run_is_fitted_scored_and_predicts(self, bench: Workbench, tmp_path: Path) -> None:
        run = mnerkit.fit("prompted", **bench.settings, runs_dir=tmp_path)
        assert run.metrics["epochs"] == 0 and run.metrics["parameters"] == 0 and run.predictions("dev")
        assert plugin_tests.are_near(mnerkit.score(run, "dev")["dev"], run.metrics["dev"])
        (answer,) = mnerkit.load(run).predict([{"id": "one", "text": "Jordan scores again in Chicago"}])
        assert [entity["text"] for entity in answer["entities"]] == ["Jordan"]
