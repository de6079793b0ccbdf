"""Floor 8: the verbs that learn from text: tour, train, compare, generate."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

import viz

from .. import functional as F
from ..language import CELLS, CharRNN, History, generate, perplexity, train
from ..models import ManyToMany
from ..nn import Recurrent
from ..optim import Adam
from ..scope import no_grad
from ..text import HIDDEN, NGram, Vocabulary, articles, language_reference, read_text, split
from .common import (
    Adder,
    Progress,
    at_least,
    cell_option,
    described,
    drawn,
    listing,
    losses_sum,
    parameter_of,
    read,
    say,
)
from .gradients import explained_loss


def verbs(add: Adder) -> None:
    added = add("tour", tour, "Train on real text, explain and prove one loss, draw it.", "tinygrad-rnn tour --out out",
                files=True)
    training_options(added, 64, 3)
    cell_option(added)
    added = add("train", train_verb, "Train a character model and compare it with n-grams.",
                "tinygrad-rnn train --file book.txt --cell gru --epochs 3", files=True)
    training_options(added, 64, 3)
    cell_option(added)
    added.add_argument("--layers", type=at_least(1), default=1, help="stacked layers (default 1)")
    added = add("compare", compare, "Train every cell on one text, from equal seeds, side by side.",
                "tinygrad-rnn compare --cells rnn lstm gru --hidden 64")
    training_options(added, 32, 1)
    added.add_argument("--task", choices=("language", "article"), default="language",
                       help="the next character, in one direction; or which article, a or an, stands before a word,\n"
                            "in one direction and in both (default language)")
    added.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), metavar="CELL",
                       help=f"of {', '.join(CELLS)} (default all)")
    added = add("generate", generate_verb, "Let a trained model write.",
                'tinygrad-rnn generate --model out/model.npz --prompt "The " --temperature 0.7')
    added.add_argument("--model", type=Path, default=Path("out/model.npz"),
                       help="the model.npz that train or tour wrote (default out/model.npz)")
    added.add_argument("--prompt", default="The ", help="what to go on from (default 'The ')")
    added.add_argument("--length", type=at_least(0), default=200, help="characters to write (default 200)")
    added.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (default 0.7)")


def training_options(added: argparse.ArgumentParser, hidden: int, epochs: int) -> None:
    added.add_argument("--file", type=Path, help="a UTF-8 text (default: the language reference inside Python)")
    added.add_argument("--hidden", type=at_least(1), default=hidden, help=f"hidden units (default {hidden})")
    added.add_argument("--epochs", type=at_least(1), default=epochs, help=f"times through the text (default {epochs})")


def tour(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """The main job on real text, from training to proof and picture."""
    result, model, test = trained(options)
    sentence = a_sentence(model.vocabulary.decode(test))
    say(options, "", f"One sentence it has not seen: {sentence!r}", "")
    losses, x, y = read(model, sentence)
    explained, good = explained_loss(options, losses[-1], parameter_of(model, None), model.reference(x, y))
    short, _, _ = read(model, sentence[:5])
    result["files"] += [
        *drawn(options, "unrolled", losses_sum(losses)),
        *drawn(options, "one_term", losses_sum(short), term=viz.Term(short[-1], parameter_of(model, None), 2)),
    ]
    listing(options, result["files"])
    return {**result, "sentence": sentence, "explanation": explained}, good


def train_verb(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    result, _, _ = trained(options)
    listing(options, result["files"])
    return result, True


def compare(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Every cell with the same hidden size, seed and text; the table grows as they are done."""
    text = read_text(options.file) if options.file else language_reference()
    if options.task == "article":
        return compare_on_articles(options, text)
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


def compare_on_articles(options: argparse.Namespace, text: str) -> tuple[dict[str, Any], bool]:
    """Tag hidden articles as "a" or "an": every cell in one direction and in both, in windows it was not trained on."""
    windows, which = articles(text)
    vocabulary = Vocabulary.of("".join(windows))
    x = np.stack([vocabulary.encode(window) for window in windows], axis=1)
    at, cut = windows[0].index(HIDDEN), len(windows) * 9 // 10
    y = np.zeros_like(x)
    y[at] = which
    known = set(windows[:cut])
    new = [b for b in range(cut, len(windows)) if windows[b] not in known]
    if not new:
        raise ValueError(f"{len(windows)} articles: none of the last tenth stands where no other stood before")
    baseline = float(np.mean(which[new] == 1))
    say(options, f"{len(windows):,} articles, {len(new)} of them for the test; {8 * options.epochs} times; H = "
                 f"{options.hidden}. Always \"a\" is right in {baseline:.1%}.", "",
        f"  {'cell':<15}{'directions':<12}{'weights':>9}{'ms per step':>13}{'loss, nats':>12}{'right':>9}")
    rows: dict[str, dict[str, float]] = {}
    for cell in options.cells:
        for both in (False, True):
            rng = np.random.default_rng(options.seed)
            kind, settings = CELLS[cell]
            layer = Recurrent(kind, len(vocabulary), options.hidden, bidirectional=both, rng=rng, **settings)
            model = ManyToMany(layer, 3, rng=rng)
            parts = [part for _ in range(8 * options.epochs)
                     for part in np.array_split(rng.permutation(cut), max(1, cut // 32))]
            optimizer, losses, progress = Adam(model.parameters(), lr=1e-2), [], Progress(cell)
            began = time.perf_counter()
            for part in parts:
                loss = F.stack(model.losses(x[:, part], y[:, part])).sum() / (x.shape[0] * len(part))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                progress(len(losses), len(parts), losses[-1])
            spent = 1e3 * (time.perf_counter() - began) / len(parts)
            with no_grad():
                right = float(np.mean(model(x[:, new]).data[at].argmax(-1) == which[new]))
            name = f"{cell}, both" if both else cell
            row = rows[name] = {"weights": sum(p.size for p in model.parameters()), "ms per step": spent,
                                "loss": float(np.mean(losses[-40:])), "right": right}
            say(options, f"  {cell:<15}{'both' if both else 'one':<12}{row['weights']:>9,}{spent:>13.2f}"
                         f"{row['loss']:>12.4f}{right:>9.1%}")
    say(options, "", "  One direction has read what stands before the article; both have read the letter after it too.")
    return {"cells": rows, "baseline": baseline}, True


def generate_verb(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    if not options.model.exists():
        raise ValueError(f"no model in {options.model}: run `tinygrad-rnn train` first")
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
