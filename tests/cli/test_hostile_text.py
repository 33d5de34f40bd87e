"""Whatever words, types, titles, names, paths and options hold, it reaches no terminal raw and ends no command."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mnerkit.atomic_files import write_json, write_lines
from mnerkit.cli import VERBS, main
from mnerkit.cli import reproduce as reproduce_verb
from mnerkit.release import RELEASE
from tests.reproduce.small import Pretend, laid_out

# a colour, a bell, a line begun again, the C1 form of "erase all", an override of direction, a zero-width space; a byte
# of a file's name that is no UTF-8
STEERS = "x\x1b[31m\x07\r\x9b2J\u202e\u200b"
HALF = "\udc9b"
# what a word may hold besides
ENDS = "\x0b\x0c\x1c\x85\u2028\u2029"
TYPE, OTHER = "P\x1b[2J\u202eER", "L\x9bOC"  # without blanks
WHOLE = f"t{STEERS}{ENDS}"
TITLE = WHOLE + HALF
SHOWN = r"\x1b[31m\x07\r\x9b2J\u202e\u200b"


def raw(text: str) -> set[str]:
    """The characters that no terminal should get."""
    kinds = {letter: unicodedata.category(letter) for letter in set(text) - {"\n", "\t"}}
    return {letter for letter, kind in kinds.items() if kind in ("Cc", "Cf", "Cs", "Zl", "Zp")}


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command in the folder of the test; its exit code, and what it printed, in which nothing is raw."""
    monkeypatch.chdir(tmp_path)

    def ended(*argv: object) -> tuple[int, str]:
        code = main(list(map(str, argv)))
        printed = "".join(capsys.readouterr())
        assert not raw(printed), (argv, printed)
        return code, printed

    return ended


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of two finished runs with everything in them that can be hostile."""
    for seed in (0, 1):
        path = tmp_path / "runs" / "bert" / f"c{STEERS}" / f"r{seed}{STEERS}{HALF}"
        path.mkdir(parents=True)
        config: dict[str, object] = {"plugin": "bert", "ablation": WHOLE, "seed": seed}
        config |= {"model": {"text": WHOLE}, "data": {"corpus": WHOLE}}
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        write_json(path / "env.json", {"mnerkit": RELEASE, "command": ["mnerkit", TITLE], "device": TITLE})
        words = ["Ann", f"sees{STEERS}{ENDS}", "Rome"]
        answer = {"id": f"p{STEERS}{ENDS}", "words": words, "gold": [[0, 1, TYPE]]}
        entities = [{"start": 0, "end": 1, "type": TYPE}] * seed
        write_lines(path / "predictions.test.jsonl", [{**answer, "entities": entities}])
        scores = dict.fromkeys(("f1", "precision", "recall", "f1_strict", f"type/{TYPE}/f1"), 50.0)
        write_json(path / "metrics.json", {"plugin": "bert", "protocol": {"corpus": TITLE}, "test": scores})
    return tmp_path / "runs"


def test_the_table_of_runs(run: Run, runs: Path) -> None:
    assert SHOWN in run("runs", runs)[1]
    first, _ = map(json.loads, run("runs", runs, "--json")[1].strip().split("\n"))
    assert first["ablation"] == WHOLE and first["name"] == f"r0{STEERS}{HALF}"
    run("runs", runs, "--by-seed")
    assert run("runs", runs, "--where", f"{STEERS}=1")[0] == 2
    assert run("runs", runs, "--sort", STEERS)[0] == 2
    for name in ("a.csv", "a.json"):
        assert run("runs", runs, "--export", name)[0] == 0
        assert not raw(Path(name).read_bytes().decode("utf-8"))
    assert json.loads(Path("a.json").read_text("utf-8"))[0]["ablation"] == WHOLE


def test_a_comparison_and_a_repetition(run: Run, runs: Path) -> None:
    a, b = sorted(runs.glob("*/*/*"))
    assert r"P\x1b[2J\u202eER" in run("runs", "compare", a, b)[1]
    comparison = json.loads(run("runs", "compare", a, b, "--json")[1])
    assert list(comparison["by_type"]) == [TYPE] and comparison["a"] == [str(a)]
    assert run("runs", "repeat", a, "--dry-run")[0] == 0


def test_a_report_and_pages(run: Run, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / f"out{STEERS}{HALF}"
    code, printed = run("report", runs, "--out", out, "--title", TITLE)
    assert code == 0, printed
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "report.json"]
    assert len(files) == 4
    for path in files:
        assert not raw(path.read_bytes().decode("utf-8")), path
    assert SHOWN in (out / "index.html").read_text("utf-8")
    page = tmp_path / f"cases{STEERS}{HALF}.html"
    assert run("draw", "cases", *runs.glob("*/*/*"), "--out", page)[0] == 0
    assert not raw(page.read_bytes().decode("utf-8"))
    for kind in ("relevance", "tsne", "attention", "adjacency"):
        run("draw", kind, next(runs.glob("*/*/*")), "--out", f"{STEERS}.html")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with posts whose words, types, ids and pictures' names are hostile."""
    folder = tmp_path / f"corpus{STEERS}"
    folder.mkdir()
    for split, count in {"train": 8, "valid": 2, "test": 2}.items():
        rows = [
            {
                "id": f"{split}{number}{STEERS}{ENDS}",
                "text": ["Ann", f"sees{STEERS}{ENDS}", "Rome"],
                "label": [f"B-{TYPE}", "O", f"B-{OTHER}" if number % 2 else "O"],
                "images": [f"{number}\u202e\u200b.jpg"],
                f"note{STEERS}{HALF}": 1,
            }
            for number in range(count)
        ]
        write_lines(folder / f"{split}.jsonl", rows)
    return folder


def test_looks_at_a_corpus(run: Run, corpus: Path, tmp_path: Path) -> None:
    assert r"P\x1b[2J\u202eER" in run("data", "stats", corpus)[1]
    # remarks follow, on the other stream
    counts, _ = json.JSONDecoder().raw_decode(run("data", "stats", corpus, "--json")[1])
    assert TYPE in counts["types"]
    assert r"note" in run("data", "verify", corpus)[1]
    assert run("data", "show", corpus, "--out", "page.html")[0] == 0
    assert not raw(Path("page.html").read_text("utf-8"))
    protocol = ("--n_way", "1", "--k_shot", "1", "--train_types", OTHER, "--test_types", TYPE)
    code, printed = run("data", "episodes", corpus, "--out", f"{STEERS}.jsonl", *protocol)
    assert code == 0, printed
    assert run("data", "objects", corpus, "--detector", f"/{STEERS}", "--out", "o.jsonl")[0] != 0


def test_training_scoring_and_predicting(run: Run, corpus: Path) -> None:
    name = f"n{STEERS}{HALF}"
    code, printed = run(
        *("fit", "--plugin", "bilstm", "--data.corpus", corpus, "--name", name, "--test"),
        *("--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"),
    )
    assert code == 0 and SHOWN in printed and r"P\x1b[2J\u202eER" in printed
    [folder] = Path("runs").glob("*/*/*")
    assert folder.name == name
    code, printed = run(
        "fit", "--plugin", "bilstm", "--name", f"w{HALF}", "--logger", "wandb", "--wandb.mode", "offline"
    )
    assert code == 2 and "is not UTF-8" in printed and len([*Path("runs").glob("*/*/*")]) == 1
    assert run("test", "--ckpt_path", folder)[0] == 0
    assert run("fit", "--plugin", "bilstm", "--config", folder / "config.yaml", "--name", name)[0] == 0
    assert run("runs", "repeat", folder, "--dry-run")[0] == 0
    posts = corpus / "test.jsonl"
    code, printed = run("predict", "--ckpt_path", folder, "--input", posts, "--output", "-")
    lines = [json.loads(line) for line in printed.split("\n") if line.startswith("{")]
    assert code == 0 and [line["words"][1] for line in lines] == [f"sees{STEERS}{ENDS}"] * 2
    assert run("predict", "--ckpt_path", folder, "--input", posts, "--output", f"out{HALF}.jsonl")[0] == 0
    words = [json.loads(line)["words"] for line in Path(f"out{HALF}.jsonl").read_bytes().decode().split("\n")[:-1]]
    assert words == [line["words"] for line in lines]
    assert run("predict", "--ckpt_path", folder, "--input", f"{STEERS}{HALF}", "--output", "-")[0] == 1
    images = Path(f"i{STEERS}{HALF}")
    images.mkdir()
    again = ("predict", "--ckpt_path", folder, "--images", images, "--output", "b.jsonl", "--input", "bad.jsonl")
    Path("bad.jsonl").write_bytes(posts.read_bytes() + b"{\n")
    for more in ((), ("--resume",), ("--resume", "--overwrite", "--on_bad_line", "skip")):
        code, printed = run(*again, *more)
        assert code == 1 - len(more) // 4, printed
    halved = Path("halved.jsonl")
    halved.write_text(json.dumps({"id": "a", "words": ["Ann", HALF]}) + "\n")
    code, printed = run("predict", "--ckpt_path", folder, "--input", halved, "--output", "-")
    assert code == 1 and "half of a surrogate pair" in printed and printed.count("\n") == 1


def test_a_sweep(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = laid_out(tmp_path / "experiments")
    for name in ("table1", "sweep"):
        path = folder / "paper" / f"{name}.yaml"
        content = yaml.safe_load(path.read_text())
        content |= {"title": WHOLE, "note": WHOLE}
        content["rows"][0]["name"] = f"{name}{STEERS}"
        content.pop("printed", None)
        path.write_text(yaml.safe_dump(content))
    monkeypatch.setattr(reproduce_verb, "_executor", lambda *_: Pretend(failing=("softmax",)))
    out = tmp_path / f"o{STEERS}{HALF}"
    command = ("reproduce", "--experiments", folder, "--out", out)
    code, printed = run(*command, "--dry-run")
    assert code == 0, printed
    code, printed = run(*command)
    assert code == 1 and SHOWN in printed and "page: " in printed
    file = out / "paper" / "table1" / "table.json"
    content = json.loads(file.read_text("utf-8"))
    assert content["title"] == WHOLE
    write_json(file, content | {"title": TITLE})
    assert run("report", "--tables", file, "--out", "again")[0] == 0
    assert r"\udc9b" in Path("again/index.html").read_text("utf-8")
    for kind in ("csv", "md", "tex", "html"):
        for path in out.glob(f"report/**/*.{kind}"):
            assert not raw(path.read_bytes().decode("utf-8")), path
    assert run(*command, "--wandb-sweep", tmp_path / f"s{STEERS}{HALF}")[0] == 0
    assert run(*command, "--wandb-report", tmp_path / f"r{STEERS}{HALF}.json")[0] == 0
    assert run("reproduce", STEERS, "--experiments", folder)[0] == 2


SUBVERBS = {
    "data": ("stats", "verify", "show", "episodes", "objects"),
    "runs": ("compare", "repeat"),
    "draw": ("adjacency", "attention", "cases", "relevance", "tsne"),
    "cache": ("info", "clear"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_arguments_that_do_not_fit(run: Run, verb: str) -> None:
    for argv in ([verb], *([verb, name] for name in SUBVERBS.get(verb, ()))):
        for bad in (f"--{STEERS}{HALF}", f"{STEERS}{ENDS}{HALF}", f"--model.{STEERS}=1"):
            code, printed = run(*argv, bad)
            # without a verb of its own the help is printed
            assert code in (1, 2) or argv == [verb], (argv, bad)
            assert code == 0 or printed.startswith("mnerkit: "), printed


@pytest.mark.parametrize("option", ["data.corpus", "model.lr", "model.head", "trainer.precision", "data.x"])
def test_values_that_do_not_fit(run: Run, option: str) -> None:
    for bad in (f"{STEERS}{HALF}", f'"{STEERS[:4]}\\ud800"', f"[{STEERS}"):
        code, printed = run("fit", "--plugin", "bert", f"--{option}", bad)
        assert code in (1, 2) and printed.startswith("mnerkit: ")


def test_files_of_configurations(run: Run, tmp_path: Path) -> None:
    path = tmp_path / f"c{HALF}.yaml"
    for content in ({STEERS: 1}, {"model": {"lr": TITLE}}, {"plugin": TITLE}, {"model": {"text": TITLE}}, [TITLE]):
        path.write_text(yaml.safe_dump(content))
        assert run("fit", "--plugin", "bert", "--config", path)[0] in (1, 2)
