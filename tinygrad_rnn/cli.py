"""Floor 8: the command line, the only place that knows both the library and the pictures.

Exit status: 0 all went well, 1 a proof or a check failed, 2 the input was wrong or something is missing, 130
interrupted. Results go to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import viz

from . import __version__, bptt
from . import functional as F
from .check import gradcheck
from .language import CELLS, CharRNN, History, generate, perplexity, train
from .nn import Linear, Recurrent
from .recording import record
from .tensor import Tensor
from .text import NGram, Vocabulary, language_reference, read_text, split

EXAMPLES = """examples:
  tinygrad-rnn tour                                     all of it, on the language reference inside Python
  tinygrad-rnn explain --text "hello" --loss 4          where every number of dE₄/dW comes from, proved
  tinygrad-rnn draw --text "abc" --term 1               the unrolled graph, with the term of the use at step 1
  tinygrad-rnn explain --cell lstm --parameter W_f      the same for a gate of an LSTM; --cell takes every model
  tinygrad-rnn check --cell gru --bidirectional         every element of every gradient against two other routes
  tinygrad-rnn compare --file book.txt                  all cells on one text: weights, time per step, perplexity
  tinygrad-rnn train --file book.txt --epochs 3         a character RNN on any text, beside n-gram baselines
  tinygrad-rnn generate --model out/model.npz --prompt "The "
"""


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    options = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that has no ∂ shows a question mark
            stream.reconfigure(errors="replace")
    try:
        result, good = options.run(options)
        text = json.dumps(result, ensure_ascii=False, indent=2, allow_nan=False)
        if options.json:
            print(text)
        if "files" not in result and options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / f"{options.verb}.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, IndexError, TypeError, OSError, viz.NoRendererError) as error:
        print(f"tinygrad-rnn {options.verb}: {error}", file=sys.stderr)
        return 2
    return 0 if good else 1


def at_least(least: int) -> Callable[[str], int]:
    """An argument type: a whole number from `least` on."""
    def integer(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: expected at least {least}")
        return int(text)

    return integer


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="tinygrad-rnn", epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter,
                                  description="How recurrent networks learn: every number of dE/dW, drawn and proved.")
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="verb")

    def verb(name: str, run: Callable[..., Any], what: str, example: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=what, description=what, epilog=f"example:\n  {example}",
                                 formatter_class=argparse.RawTextHelpFormatter)
        added.set_defaults(run=run)
        added.add_argument("--seed", type=at_least(0), default=0, help="of all random numbers (default 0)")
        if run in (tour, draw, train_verb):
            added.add_argument("--out", type=Path, default=Path("out"), help="folder for files (default out)")
        else:
            added.add_argument("--out", type=Path, help="folder for the result as JSON (default: none is written)")
        added.add_argument("--json", action="store_true", help="print the result as JSON instead")
        return added

    def cell_option(added: argparse.ArgumentParser, of: str = "") -> None:
        added.add_argument("--cell", choices=CELLS, default="rnn", metavar="CELL",
                           help=f"{', '.join(CELLS)}{of} (default rnn)")

    def layer_options(added: argparse.ArgumentParser, of: str = "") -> None:
        cell_option(added, of)
        added.add_argument("--layers", type=at_least(1), default=1, help=f"stacked layers{of} (default 1)")
        added.add_argument("--bidirectional", action="store_true", help=f"both directions{of}")

    def model_options(added: argparse.ArgumentParser) -> None:
        added.add_argument("--text", default="hello", help="the characters to read (default hello)")
        added.add_argument("--model", type=Path, help="a trained model; without it a fresh one")
        added.add_argument("--hidden", type=at_least(1), default=4, help="hidden units of a fresh model (default 4)")
        layer_options(added, ", of a fresh model")
        added.add_argument("--loss", type=int, help="t of the loss E_t (default: the last)")
        added.add_argument("--parameter", help="as the tables call it: W, U_f, b', … (default: the first W)")

    def training_options(added: argparse.ArgumentParser, hidden: int, epochs: int) -> None:
        added.add_argument("--file", type=Path, help="a UTF-8 text (default: the language reference inside Python)")
        added.add_argument("--hidden", type=at_least(1), default=hidden, help=f"hidden units (default {hidden})")
        added.add_argument("--epochs", type=at_least(1), default=epochs,
                           help=f"times through the text (default {epochs})")

    tour_options = verb("tour", tour, "Train on real text, explain and prove one loss, draw it.",
                        "tinygrad-rnn tour --out out")
    training_options(tour_options, 64, 3)
    cell_option(tour_options)
    model_options(verb("explain", explain, "Take the gradient of one loss apart into explicit and implicit terms.",
                       'tinygrad-rnn explain --text "hello" --loss 4 --parameter W'))
    draw_options = verb("draw", draw, "Draw the unrolled graph with its gradients.",
                        'tinygrad-rnn draw --text "abc" --term 1 --format png')
    model_options(draw_options)
    draw_options.add_argument("--term", type=int, metavar="K", help="highlight the term of the use at step K")
    draw_options.add_argument("--detail", choices=("auto", "ops", "cells", "folded"), default="auto",
                              help="every op, one box per cell, or the first and last three steps (default by length)")
    draw_options.add_argument("--format", choices=("svg", "png", "pdf", "dot"), default="svg",
                              help="svg is drawn without Graphviz too (default svg)")
    check_options = verb("check", check, "Check every element of every gradient of a model by two other routes.",
                         "tinygrad-rnn check --cell lstm --layers 2 --steps 20")
    layer_options(check_options)
    check_options.add_argument("--steps", type=at_least(1), default=6, help="length of the sequence (default 6)")
    train_options = verb("train", train_verb, "Train a character model and compare it with n-grams.",
                         "tinygrad-rnn train --file book.txt --cell gru --epochs 3")
    training_options(train_options, 64, 3)
    cell_option(train_options)
    train_options.add_argument("--layers", type=at_least(1), default=1, help="stacked layers (default 1)")
    compare_options = verb("compare", compare, "Train every cell on one text, from equal seeds, side by side.",
                           "tinygrad-rnn compare --cells rnn lstm gru --hidden 64")
    training_options(compare_options, 32, 1)
    compare_options.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), metavar="CELL",
                                 help=f"of {', '.join(CELLS)} (default all)")
    generate_options = verb("generate", generate_verb, "Let a trained model write.",
                            'tinygrad-rnn generate --model out/model.npz --prompt "The " --temperature 0.7')
    generate_options.add_argument("--model", type=Path, required=True, help="the model.npz that train or tour wrote")
    generate_options.add_argument("--prompt", default="The ", help="what to go on from (default 'The ')")
    generate_options.add_argument("--length", type=at_least(0), default=200, help="characters to write (default 200)")
    generate_options.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (default 0.7)")
    return top


def say(options: argparse.Namespace, *lines: object) -> None:
    if not options.json:
        print(*lines, sep="\n", flush=True)


class Progress:
    """A bar on standard error: redrawn in a terminal, a line for every tenth elsewhere."""

    def __init__(self, what: str = "") -> None:
        self.start, self.tenths, self.what = time.monotonic(), 0, what and f"{what} "

    def __call__(self, done: int, total: int, loss: float) -> None:
        tenths = 10 * done // total
        live = sys.stderr.isatty()
        if (done % 20 and done != total) if live else tenths == self.tenths:
            return
        self.tenths = tenths
        bar = "█" * (3 * tenths) + "·" * (30 - 3 * tenths)
        left = (time.monotonic() - self.start) * (total - done) / done
        print(f"{chr(13) if live else ''}  {self.what}{bar} {done}/{total} steps, loss {loss:.3f} nats, "
              f"{left:3.0f} s left", end="" if live else "\n", file=sys.stderr, flush=True)
        if live and done == total:
            print(file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------- the verbs

def tour(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """The main job on real text, from training to proof and picture."""
    result, model, test = trained(options)
    sentence = a_sentence(model.vocabulary.decode(test))
    say(options, "", f"One sentence it has not seen: {sentence!r}", "")
    losses, x, y = read(model, sentence)
    explained, good = explained_loss(options, model, x, y, losses, None, len(losses))
    short, _, _ = read(model, sentence[:5])
    result["files"] += [
        *drawn(options, "unrolled", losses_sum(losses)),
        *drawn(options, "one_term", losses_sum(short), term=viz.Term(short[-1], parameter_of(model, None), 2)),
    ]
    listing(options, result["files"])
    return {**result, "sentence": sentence, "explanation": explained}, good


def explain(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    model = model_for(options)
    losses, x, y = read(model, options.text)
    cell = next(iter(model.layer.cells.values()))
    say(options, *(f"  {line}" for line in (*cell.equations().splitlines(), "q_t = V h_t + c")), "")
    if model.layer.bidirectional:
        say(options, "  h'_t goes from the last step to the first, with weights of its own; V reads [h_t, h'_t]. It",
            "  has seen the character that E_t asks for: no language model, but its gradients are what they are.", "")
    return explained_loss(options, model, x, y, losses, options.parameter, chosen(options, losses))


def draw(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    model = model_for(options)
    losses, _, _ = read(model, options.text)
    term, t = None, chosen(options, losses)
    if options.term is not None:
        last = len(losses) if model.layer.bidirectional else t
        if not 1 <= options.term <= last:
            raise ValueError(f"--term {options.term}: expected a step from 1 to {last}")
        term = viz.Term(loss=losses[t - 1], parameter=parameter_of(model, options.parameter), k=options.term)
    files = drawn(options, "unrolled", losses_sum(losses), options.detail, options.format, term)
    listing(options, files)
    return {"files": files}, True


def check(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    rng = np.random.default_rng(options.seed)
    T, B, D, H, V = options.steps, 3, 4, 5, 6
    kind, settings = CELLS[options.cell]
    layer = Recurrent(kind, D, H, options.layers, bidirectional=options.bidirectional, rng=rng, **settings)
    head = Linear(H * len(layer.directions), V, rng=rng)
    x = Tensor(rng.normal(size=(T, B, D)), requires_grad=True, name="x")
    first = tuple(Tensor(rng.normal(size=(len(layer.cells), B, H)), requires_grad=True, name=f"{name}_0")
                  for name in kind.states)
    y = rng.integers(0, V, (T, B))

    def loss(*_: Tensor) -> Tensor:
        output, _last = layer(x, first if len(first) > 1 else first[0])
        return F.cross_entropy(head(output), y)

    inputs = [*layer.parameters(), *head.parameters(), *first, x]
    say(options, f"{described(options.cell, options.layers, options.bidirectional)}, T={T}, B={B}, D={D}, H={H}, "
                 f"V={V}: {', '.join(str(p.name) for p in inputs)}", "")
    reports = [gradcheck(loss, inputs, method="differences", rtol=1e-6, atol=1e-9),
               gradcheck(loss, inputs, method="complex step", rtol=1e-9, atol=1e-15)]
    say(options, *(f"{report}\n" for report in reports))
    return {"reports": [{"method": r.method, "passed": bool(r), "entries": r.entries, "failed": r.failed}
                        for r in reports]}, all(reports)


def compare(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Every cell with the same hidden size, seed and text; the table grows as they are done."""
    text = read_text(options.file) if options.file else language_reference()
    vocabulary = Vocabulary.of(text)
    ids, test = split(vocabulary.encode(text))
    say(options, f"{len(text):,} characters of {len(vocabulary)} kinds, {options.epochs} times; H = {options.hidden}; "
                 "perplexity per character on the held-out last tenth.", "",
        f"  {'cell':<15}{'weights':>9}{'ms per step':>13}{'loss, nats':>12}{'perplexity':>12}")
    rows: dict[str, dict[str, float]] = {}
    for cell in options.cells:
        model = CharRNN(vocabulary, options.hidden, cell, rng=np.random.default_rng(options.seed))
        began = time.perf_counter()
        history = train(model, ids, epochs=options.epochs, progress=Progress(cell))
        spent = 1e3 * (time.perf_counter() - began) / max(1, len(history.losses))
        if history.interrupted:
            raise KeyboardInterrupt
        row = rows[cell] = {"weights": sum(p.size for p in model.parameters()), "ms per step": spent,
                            "loss": float(np.mean(history.losses[-100:])), "perplexity": perplexity(model, test)}
        say(options, f"  {cell:<15}{row['weights']:>9,}{spent:>13.2f}{row['loss']:>12.3f}{row['perplexity']:>12.3f}")
    baselines = {f"{n}-gram": NGram(ids, len(vocabulary), n).perplexity(test) for n in (1, 2, 3)}
    say(options, *(f"  {name:<49}{value:>12.3f}" for name, value in baselines.items()), "",
        "  A step is 16 rows of 25 characters, forward, backward and update. Loss: the mean of the last 100 steps.",
        "  Equal H is not equal weights: an LSTM cell has four times those of an RNN cell, a GRU three times.")
    return {"cells": rows, "baselines": baselines}, True


def train_verb(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    result, _, _ = trained(options)
    listing(options, result["files"])
    return result, True


def generate_verb(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    model = CharRNN.load(options.model)
    pieces = generate(model, options.prompt, options.length, temperature=options.temperature,
                      rng=np.random.default_rng(options.seed))
    text = options.prompt
    if not options.json:
        print(text, end="")
    for piece in pieces:
        text += piece
        if not options.json:
            print(piece, end="", flush=True)
    say(options, "")
    return {"text": text}, True


# ------------------------------------------------------------------------------------------------------ their parts

def trained(options: argparse.Namespace) -> tuple[dict[str, Any], CharRNN, Any]:
    """Train on the text, compare with n-grams, save model and curves; the result, the model and the test ids."""
    text = read_text(options.file) if options.file else language_reference()
    options.out.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    vocabulary = Vocabulary.of(text)
    ids, test = split(vocabulary.encode(text))
    name = options.file or "the language reference inside Python"
    say(options, f"Text: {name}, {len(text):,} characters of {len(vocabulary)} kinds; the last tenth is held out.")
    layers = getattr(options, "layers", 1)
    model = CharRNN(vocabulary, options.hidden, options.cell, num_layers=layers,
                    rng=np.random.default_rng(options.seed))
    say(options, f"Training: {described(options.cell, layers)} of {options.hidden} units, "
                 f"{sum(p.size for p in model.parameters()):,} weights, {options.epochs} times through the text.")
    history = train(model, ids, epochs=options.epochs, progress=Progress())
    if history.interrupted:
        say(options, f"Interrupted after {len(history.losses)} steps; what was learned is kept.")
    scores = {"uniform": float(len(vocabulary))}
    scores |= {f"{n}-gram": NGram(ids, len(vocabulary), n).perplexity(test) for n in (1, 2, 3)}
    scores["this model"] = perplexity(model, test)
    say(options, "", "Perplexity per character on the held-out tenth (lower is better; e to the mean loss in nats):",
        *(f"  {who:<10} {value:8.3f}" for who, value in scores.items()))
    sample = "".join(generate(model, vocabulary.decode(test[:20]), 100, temperature=0.7,
                              rng=np.random.default_rng(options.seed)))
    say(options, "", f"It writes, after {vocabulary.decode(test[:20])!r}: {sample!r}")
    files = [str(model.save(options.out / "model")), *curves(options, history, scores)]
    return {"perplexity": scores, "steps": len(history.losses), "interrupted": history.interrupted,
            "files": files}, model, test


def described(cell: str, layers: int, bidirectional: bool = False) -> str:
    return f"{cell}, {layers} layer{'s' * (layers > 1)}{', both directions' * bidirectional}"


def explained_loss(options: argparse.Namespace, model: CharRNN, x: Any, y: Any, losses: list[Tensor],
                   name: str | None, t: int) -> tuple[dict[str, Any], bool]:
    """Print the table of one loss and its proof; the same as data, and whether all witnesses agree."""
    parameter = parameter_of(model, name)
    explanation = bptt.explain(losses[t - 1], parameter)
    say(options, explanation, "")
    if t * explanation.total.size > 20_000:
        print(f"  proving {explanation.total.size:,} numbers over {t} steps …", file=sys.stderr, flush=True)
    proof = bptt.prove(explanation, model.reference(x, y))
    say(options, proof)
    norm = np.linalg.norm
    return {
        "loss": losses[t - 1].item(), "t": t, "parameter": parameter.name, "proved": bool(proof),
        "norms": {"explicit": float(norm(explanation.explicit)), "implicit": float(norm(explanation.implicit)),
                  "total": float(norm(explanation.total)),
                  "terms": {str(k): float(norm(term)) for k, term in explanation.terms.items()}},
        "total": explanation.total.tolist(), "explicit": explanation.explicit.tolist(),
        "witnesses": [{"part": w.part, "route": w.route, "shares": w.shares, "error": w.error, "agrees": bool(w)}
                      for w in proof.witnesses],
    }, bool(proof)


def model_for(options: argparse.Namespace) -> CharRNN:
    if options.model:
        return CharRNN.load(options.model)
    if len(options.text) < 2:
        raise ValueError(f"--text {options.text!r}: expected at least two characters, one to read and one to predict")
    return CharRNN(Vocabulary.of(options.text), options.hidden, options.cell, num_layers=options.layers,
                   bidirectional=options.bidirectional, rng=np.random.default_rng(options.seed))


def read(model: CharRNN, text: str) -> tuple[list[Tensor], Any, Any]:
    """E_1 … E_T of predicting each next character of the text, with its inputs and targets (T, 1)."""
    ids = model.vocabulary.encode(text)
    if len(ids) < 2:
        raise ValueError(f"text {text!r}: expected at least two characters, one to read and one to predict")
    x, y = ids[:-1, None], ids[1:, None]
    return model.losses(x, y), x, y


def chosen(options: argparse.Namespace, losses: list[Tensor]) -> int:
    t = len(losses) if options.loss is None else options.loss
    if not 1 <= t <= len(losses):
        raise ValueError(f"--loss {t}: expected a step from 1 to {len(losses)}")
    return t


def parameter_of(model: CharRNN, name: str | None) -> Tensor:
    """The parameter of that name; without one the first W."""
    known = {str(p.name): p for p in model.parameters()}
    name = name or next(key for key in known if key.startswith("W"))
    if name not in known:
        raise ValueError(f"--parameter {name}: this model has {', '.join(known)}")
    return known[name]


def losses_sum(losses: list[Tensor]) -> Tensor:
    return F.stack(losses).sum().named("E")


def drawn(options: argparse.Namespace, name: str, E: Tensor, detail: Any = "auto", suffix: str = "svg",
          term: viz.Term | None = None) -> list[str]:
    """Write a picture of E with its gradients, and its DOT text; the paths."""
    drawing = viz.draw(E, detail=detail, recording=record(E), term=term)
    options.out.mkdir(parents=True, exist_ok=True)
    return [str(drawing.render(options.out / f"{name}.{form}")) for form in dict.fromkeys((suffix, "dot"))]


def curves(options: argparse.Namespace, history: History, scores: dict[str, float]) -> list[str]:
    """The plot of loss and gradient norm against step, where matplotlib is there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        say(options, "", "No plot of the training: matplotlib is missing (pip install 'tinygrad-rnn[plots]').")
        return []
    from viz import plots

    baselines = {name: float(np.log(value)) for name, value in scores.items()}
    figure = plots.training_curves(history.losses, history.gradient_norms, baselines)
    return [str(plots.save(figure, options.out / "training.svg"))]


def a_sentence(text: str) -> str:
    """The first plain sentence of 24 to 48 characters in a text, or its first 32 characters."""
    found = re.search(r"(?<=[.\n] )[A-Z][a-z ,']{22,46}\.", re.sub(r"\s+", " ", text))
    return found.group() if found else text[:32]


def listing(options: argparse.Namespace, files: list[str]) -> None:
    say(options, "", "Written:", *(f"  {file}" for file in files))
