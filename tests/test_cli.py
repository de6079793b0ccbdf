"""The command line: every verb on small input, its files, its JSON, its exit status, and the README's commands."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tinygrad_rnn import ops
from tinygrad_rnn.cli import main, parser
from tinygrad_rnn.language import CharRNN
from tinygrad_rnn.text import Vocabulary
from viz import render

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    words = ["the", "state", "of", "a", "step", "is", "what", "it", "read", "and", "what", "came", "before"]
    sentences = [" ".join(rng.choice(words, 6)).capitalize() + "." for _ in range(200)]
    path = tmp_path / "book.txt"
    path.write_text(" ".join(sentences), encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_tour_trains_explains_proves_and_draws(book: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    assert run("tour", "--file", book, "--hidden", 8, "--epochs", 2, "--out", out) == 0
    said = capsys.readouterr()
    for promise in ("uniform", "1-gram", "2-gram", "3-gram", "this model", "explicit ∂⁺", "proved by 12 witnesses"):
        assert promise in said.out
    assert "steps, loss" in said.err and "steps, loss" not in said.out
    for name in ("unrolled.svg", "one_term.svg"):
        assert ElementTree.parse(out / name).getroot().tag.endswith("svg")
    for name in ("unrolled.dot", "one_term.dot"):
        assert (out / name).read_text(encoding="utf-8").startswith("digraph")
    assert (out / "model.npz").exists()


def test_tour_fails_if_a_rule_is_wrong_by_a_millionth(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      capsys: Captured) -> None:
    monkeypatch.setattr(ops.TANH, "rules", (lambda g, y, x: (g - g * y * y) * (1 + 1e-6),))
    assert run("tour", "--file", book, "--hidden", 4, "--epochs", 1, "--out", tmp_path / "out") == 1
    said = capsys.readouterr().out
    assert "NOT PROVED" in said and "DISAGREES" in said


def test_explain_gives_the_numbers_as_json_and_nothing_else(capsys: Captured) -> None:
    assert run("explain", "--text", "hello", "--loss", 3, "--parameter", "U", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["proved"] and found["t"] == 3 and found["parameter"] == "U"
    assert set(found["terms"]) == {"1", "2", "3"} and len(found["witnesses"]) == 12
    assert np.linalg.norm(found["total"]) == pytest.approx(found["norms"]["total"], rel=1e-12)


@pytest.mark.parametrize("arguments", [["explain"], ["check", "--steps", "3"]])
def test_out_keeps_the_result_of_what_writes_no_other_file(arguments: list[str], tmp_path: Path,
                                                           capsys: Captured) -> None:
    assert run(*arguments, "--json", "--out", tmp_path / "new") == 0
    written = (tmp_path / "new" / f"{arguments[0]}.json").read_text(encoding="utf-8")
    assert json.loads(written) == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("parameter", ["U", "W", "b", "V", "c"])
@pytest.mark.parametrize("nonlinearity", ["rnn", "rnn-sigmoid"])
def test_explain_proves_every_parameter(parameter: str, nonlinearity: str, capsys: Captured) -> None:
    assert run("explain", "--text", "recurrent", "--parameter", parameter, "--cell", nonlinearity) == 0
    assert f"dE₈/d{parameter}: proved" in capsys.readouterr().out


def test_explain_fails_with_1_if_the_forward_pass_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.TANH, "forward", lambda x: np.tanh(x) * (1 + 1e-6))
    assert run("explain", "--text", "hello") == 1


def test_explain_and_terms_say_what_is_read_and_asked_for_by_which_model(tmp_path: Path, capsys: Captured) -> None:
    model = CharRNN(Vocabulary.of("hello"), 3, "gru", rng=np.random.default_rng(0)).save(tmp_path / "model")
    for arguments, scene in (
            (["explain", "--text", "hello", "--seed", 7],
             "rnn, 1 layer, H=4, random weights (seed 7): reads 'hell', E₄ asks for 'o'."),
            (["explain", "--text", "hello", "--loss", 2, "--markdown", "--bidirectional"],
             "rnn, 1 layer, both directions, H=4, random weights (seed 0): reads 'hell', E₂ asks for 'l' after 'he'."),
            (["explain", "--text", "hello", "--model", model],
             f"gru, 1 layer, H=3, weights of {model}: reads 'hell', E₄ asks for 'o'."),
            (["terms", "--text", "hello"],
             "rnn, 1 layer, H=4, random weights (seed 0): reads 'hell', predicts 'ello'.")):
        assert run(*arguments) == 0
        assert " ".join(capsys.readouterr().out.split()).removeprefix("## dE₂/dW ").startswith(scene)


def test_explain_as_markdown_has_the_equations_and_says_why_a_use_is_0(capsys: Captured) -> None:
    assert run("explain", "--markdown") == 0
    said = capsys.readouterr().out
    assert "\n\n    z_t = U x_t + W h_{t-1} + b\n    h_t = tanh(z_t)\n" in said
    assert "\nWhat is used at k = 1 contributes exactly 0: what W multiplies there is 0" in said


def test_draw_writes_the_picture_asked_for(tmp_path: Path, capsys: Captured) -> None:
    assert run("draw", "--text", "abcd", "--term", 2, "--out", tmp_path, "--json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [Path(f).suffix for f in files] == [".svg", ".dot"]
    assert "W⁽²⁾" in Path(files[0]).read_text(encoding="utf-8")
    assert run("draw", "--text", "abcd", "--format", "dot", "--out", tmp_path) == 0


def test_check_passes_and_fails_where_it_should(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert run("check", "--steps", 3) == 0 and run("check", "--cell", "lstm", "--layers", 2, "--steps", 2) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 110 and "b_c_l1" in said
    monkeypatch.setattr(ops.TANH, "rules", (lambda g, y, x: g - g * y,))
    assert run("check", "--steps", 3) == 1
    assert "culprit: tanh" in capsys.readouterr().out


def test_train_then_generate(book: Path, tmp_path: Path, capsys: Captured) -> None:
    assert run("train", "--file", book, "--hidden", 8, "--epochs", 1, "--out", tmp_path) == 0
    capsys.readouterr()
    texts = []
    for seed in (1, 1, 2):
        model = tmp_path / "model.npz"
        assert run("generate", "--model", model, "--prompt", "The ", "--length", 30, "--seed", seed) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2] and texts[0].startswith("The ") and len(texts[0]) == 4 + 30 + 1
    assert run("explain", "--model", tmp_path / "model.npz", "--text", "The state") == 0
    assert "E₈" in capsys.readouterr().out


def test_the_seed_decides_every_number(capsys: Captured) -> None:
    said = []
    for seed in (3, 3, 4):
        run("explain", "--text", "hello", "--seed", seed)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize("arguments", [
    ["explain", "--text", ""], ["explain", "--text", "a"], ["explain", "--text", "abc", "--loss", "9"],
    ["explain", "--text", "abc", "--loss", "0"], ["explain", "--text", "abc", "--hidden", "0"],
    ["explain", "--model", str(ROOT / "LICENSE")], ["explain", "--seed", "-1"],
    ["draw", "--text", "abc", "--term", "7"], ["draw", "--text", "abc", "--loss", "1", "--term", "2"],
    ["draw", "--text", "abc", "--loss", "9"], ["draw", "--text", "abc", "--out", str(ROOT / "LICENSE" / "x")],
    ["train", "--file", "no such file"], ["train", "--epochs", "0"], ["train", "--out", str(ROOT / "LICENSE" / "x")],
    ["generate", "--model", "no such file"], ["check", "--steps", "0"],
])
def test_wrong_input_is_one_sentence_and_status_2(arguments: list[str], capsys: Captured) -> None:
    try:
        status = run(*arguments)
    except SystemExit as stop:  # what the parser itself refuses
        status = stop.code
    said = capsys.readouterr()
    assert status == 2 and said.err.splitlines()[-1].startswith(f"tinygrad-rnn {arguments[0]}: ")
    assert "Traceback" not in said.err and "Train" not in said.out


@pytest.mark.parametrize("arguments", [["--prompt", ""], ["--prompt", "漢"], ["--length", "-1"],
                                       *(["--temperature", value] for value in ("nan", "-1", "1e-320"))])
def test_generate_refuses_before_it_writes(arguments: list[str], tmp_path: Path, capsys: Captured) -> None:
    model = CharRNN(Vocabulary.of("The state"), 3, rng=np.random.default_rng(0)).save(tmp_path / "model")
    try:
        status = run("generate", "--model", model, *arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and not capsys.readouterr().out


def test_without_graphviz_a_png_is_refused_with_one_sentence_and_an_svg_is_drawn(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(render.importlib.util, "find_spec", lambda name: None)
    assert run("draw", "--text", "abc", "--format", "png", "--out", tmp_path) == 2
    assert "not on the PATH" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert run("draw", "--text", "abc", "--out", tmp_path) == 0


def test_a_reader_that_stops_reading_and_a_terminal_without_greek_are_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m tinygrad_rnn explain"
    piped = f"set -o pipefail; {command} | head -1"
    done = subprocess.run(["bash", "-c", piped], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.stdout.startswith("rnn, 1 layer, H=4, random weights (seed 0): reads 'hell', E₄ asks")
    assert done.stdout.count("\n") == 1 and not done.stderr and done.returncode == 0
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=False,
                          env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and b"\ndE?/dW" in done.stdout


def test_an_interrupted_training_says_so_and_keeps_the_model(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tinygrad_rnn", "train", "--epochs", "99", "--hidden", "4", "--out", tmp_path]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()  # it says that it trains
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert "Interrupted after" in out and (tmp_path / "model.npz").exists() and process.returncode == 0


def test_help_shows_examples_for_every_verb(capsys: Captured) -> None:
    for arguments in ([], *([verb] for verb in ("tour", "explain", "draw", "check", "train", "generate"))):
        with pytest.raises(SystemExit) as stop:
            parser().parse_args([*arguments, "--help"])
        said = capsys.readouterr().out
        assert stop.value.code == 0 and "example" in said and "tinygrad-rnn" in said


def test_help_has_a_line_for_each_verb_and_the_keys_of_step_are_in_its_own(capsys: Captured) -> None:
    listed, own = [], []
    for arguments, lines in ((["--help"], listed), (["step", "--help"], own)):
        with pytest.raises(SystemExit):
            parser().parse_args(arguments)
        lines += capsys.readouterr().out.splitlines()
    verbs = listed[listed.index("  verb") + 1:listed.index("options:") - 1]
    assert len(verbs) == 15 and all(re.fullmatch(r" {4}[a-z]+ +[A-Z].*\.", line) for line in verbs)
    assert any("w NAME" in line for line in own)


def test_generate_without_a_model_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in ([], ["--model", "other.npz"]):
        assert run("generate", *arguments) == 2
        assert "run `tinygrad-rnn train` first" in capsys.readouterr().err


def test_without_matplotlib_one_sentence_says_so(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: Captured) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("train", "--file", book, "--hidden", 4, "--epochs", 1, "--out", tmp_path) == 0
    assert "matplotlib is missing" in capsys.readouterr().out and not (tmp_path / "training.svg").exists()


def test_compare_puts_one_direction_beside_both_where_the_next_letter_decides(capsys: Captured) -> None:
    assert run("compare", "--task", "article", "--cells", "rnn", "--hidden", 8, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    one, both = found["cells"]["rnn"], found["cells"]["rnn, both"]
    assert one["right"] < found["baseline"] + 0.05 and both["right"] > 0.9 and both["weights"] > one["weights"]


def test_compare_shows_every_cell_beside_the_baselines(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the state of a cell is all that it keeps. " * 60, encoding="utf-8")
    options = "--cells", "rnn", "gru-update", "--hidden", 4, "--epochs", 20, "--json"
    assert run("compare", "--file", tmp_path / "text.txt", *options) == 0
    found = json.loads(capsys.readouterr().out)
    kinds = len(set("the state of a cell is all that it keeps. "))
    recurrent = {"rnn": 1, "gru-update": 2}
    for cell, row in found["cells"].items():
        assert row["weights"] == recurrent[cell] * 4 * (kinds + 4 + 1) + 5 * kinds and 1 < row["perplexity"] < kinds
    assert set(found["baselines"]) == {"1-gram", "2-gram", "3-gram"}


# ------------------------------------------------------------------------------------------------------- the README
def test_the_readme_holds_exactly_two_shell_blocks_of_one_line() -> None:
    blocks = re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", README, re.M | re.S)
    assert [len(block.splitlines()) for block in blocks] == [1, 1]
    assert blocks[0].rstrip().endswith("tour") and blocks[1].rstrip().endswith("pytest")


def test_the_python_of_the_readme_runs_and_proves() -> None:
    first, *later = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(first.splitlines()) == 10 and len(later) == 1
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", first + later[0]], capture_output=True, text=True,
                          env=environment, check=False)
    assert done.returncode == 0 and "proved by 7 witnesses" in done.stdout, done.stderr
    assert "n_t = tanh(U_n x_t + W_n (f_t∘h_{t-1}) + b_n)" in done.stdout


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`(tinygrad-rnn [a-z][^`]*)`", README))))
def test_every_command_of_the_readme_is_one(command: str) -> None:
    assert parser().parse_args(shlex.split(command)[1:]).verb


def test_every_file_the_readme_names_is_there() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)|`python ([\w/.]+\.py)`", README):
        assert (ROOT / (path[0] or path[1])).exists(), path


def test_the_command_line_loads_no_plotting_library_before_it_draws() -> None:
    code = "import sys, tinygrad_rnn.cli; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
