"""Floor 6: a character language model on real text: the model, its training, its perplexity, and what it writes.

Symbols: T steps, B batch, V characters. Training is truncated BPTT in chunks (19): the state is carried from one chunk
of T steps into the next, but detached there. A BiRNN has no place here: it would see the target it is to predict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import functional as F
from .bptt.reference import RNN
from .nn import Linear, Module, RNNCell, unroll
from .ops import Array
from .optim import Adam, Optimizer, clip_grad_norm_
from .scope import no_grad, scope
from .tensor import Tensor
from .text import Vocabulary, batch_count, batches


class CharRNN(Module):
    """q_t = h_t V + c over the states of an RNN cell, which reads characters as ids, the same as one-hot rows."""

    def __init__(self, vocabulary: Vocabulary, hidden_size: int, nonlinearity: str = "tanh", *,
                 rng: np.random.Generator, dtype: Any = np.float64) -> None:
        self.vocabulary = vocabulary
        self.cell = RNNCell(len(vocabulary), hidden_size, nonlinearity, rng=rng, dtype=dtype)
        self.head = Linear(hidden_size, len(vocabulary), rng=rng, dtype=dtype)

    def forward(self, ids: Array, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """ids (T, B) and h_0 (B, H), zeros if None, to logits (T, B, V) and h_T (B, H)."""
        hs, h = unroll(self.cell, ids, h)
        return self.head(F.stack(hs)), h

    def losses(self, ids: Array, targets: Array, h: Tensor | None = None) -> list[Tensor]:
        """E_1 … E_T, each summed over the batch and made inside its step: the model as one takes it apart."""
        hs, _ = unroll(self.cell, ids, h)
        found = []
        for t, h_t in enumerate(hs, start=1):
            with scope(t=t):
                q = self.head(h_t).named("q")
                found.append(F.cross_entropy(q, targets[t - 1], "sum").named("E"))
        return found

    def reference(self, ids: Array, targets: Array, h: Tensor | None = None) -> RNN:
        """The same model on the same characters in plain NumPy, as a witness."""
        cell, head = self.cell, self.head
        assert cell.b is not None and head.c is not None
        h_0 = cell.initial_state(np.shape(ids)[1]) if h is None else h
        return RNN(cell.U.data, cell.W.data, cell.b.data, head.V.data, head.c.data, h_0.data, np.asarray(ids),
                   np.asarray(targets), "sigmoid" if cell.nonlinearity == "sigmoid" else "tanh")

    def save(self, path: str | Path) -> Path:
        """Weights, characters and settings as an .npz file without pickles; returns its path."""
        settings = {"hidden_size": self.cell.hidden_size, "nonlinearity": self.cell.nonlinearity,
                    "symbols": self.vocabulary.symbols}
        path = Path(path).with_suffix(".npz")
        np.savez(path, allow_pickle=False, settings=np.array(json.dumps(settings)), **self.state_dict())
        return path

    @classmethod
    def load(cls, path: str | Path) -> CharRNN:
        """The model in a file that `save` wrote. Raises ValueError for any other file, OSError where there is none."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            settings = json.loads(str(arrays.pop("settings")))
            model = cls(Vocabulary(settings["symbols"]), settings["hidden_size"], settings["nonlinearity"],
                        rng=np.random.default_rng(0), dtype=arrays["cell.W"].dtype)
            model.load_state_dict(arrays)
        except OSError as error:
            raise type(error)(f"no model in {path}: {error.strerror or error}") from error
        except Exception as error:
            raise ValueError(f"{path} does not hold a model that CharRNN.save wrote") from error
        return model


@dataclass
class History:
    """Of every step: the loss in nats per character and the norm of the gradient before clipping."""

    losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    interrupted: bool = False


def train(model: CharRNN, ids: Array, *, epochs: int, batch_size: int = 16, steps: int = 25,
          optimizer: Optimizer | None = None, max_norm: float = 1.0,
          progress: Callable[[int, int, float], None] | None = None) -> History:
    """Truncated BPTT over the text `epochs` times, the gradient clipped to `max_norm`; Adam of 3e-3 unless told.

    progress(done, all, loss) is called after every step. An interrupt (Ctrl-C) ends it and keeps what was learned.
    Raises ValueError for a text too short for one batch.
    """
    optimizer = optimizer or Adam(model.parameters(), lr=3e-3)
    history = History()
    total = epochs * batch_count(len(ids), batch_size, steps)
    try:
        for _ in range(epochs):
            h: Tensor | None = None
            for inputs, targets in batches(ids, batch_size, steps):
                logits, h = model(inputs, h.detach() if h is not None else None)
                loss = F.cross_entropy(logits, targets)
                optimizer.zero_grad()
                loss.backward()
                history.gradient_norms.append(clip_grad_norm_(optimizer.parameters, max_norm))
                optimizer.step()
                history.losses.append(loss.item())
                if progress:
                    progress(len(history.losses), total, history.losses[-1])
    except KeyboardInterrupt:
        history.interrupted = True
    return history


def perplexity(model: CharRNN, ids: Array, steps: int = 500) -> float:
    """exp of the mean loss in nats per character (13) over a text read once from a zero state, its first given."""
    h: Tensor | None = None
    nats, count = 0.0, 0
    with no_grad():
        for start in range(0, len(ids) - 1, steps):
            chunk = np.asarray(ids[start:start + steps + 1])
            logits, h = model(chunk[:-1, None], h)
            nats += F.cross_entropy(logits, chunk[1:, None], "sum").item()
            count += len(chunk) - 1
    if not count:
        raise ValueError(f"perplexity: expected at least two characters, got {len(ids)}")
    return float(np.exp(nats / count))


def generate(model: CharRNN, prompt: str, length: int, *, temperature: float = 0.0,
             rng: np.random.Generator | None = None) -> Iterator[str]:
    """The `length` characters that follow `prompt`, one by one, each fed back (10).

    temperature 0 takes the likeliest (greedy, which soon loops, E26); otherwise samples from softmax(q / temperature),
    with `rng`. Raises ValueError for an empty prompt or one with unknown characters.
    """
    if not prompt:
        raise ValueError("the prompt is empty; expected at least one character to start from")
    if not 0 <= temperature < np.inf or 0 < temperature < 1e-3:
        raise ValueError(f"temperature {temperature}: expected 0, or a number from 0.001 on")
    if temperature and rng is None:
        raise ValueError("a temperature above 0 needs an rng to sample with")
    return _generate(model, model.vocabulary.encode(prompt), length, temperature, rng)


def _generate(model: CharRNN, ids: Array, length: int, temperature: float,
              rng: np.random.Generator | None) -> Iterator[str]:
    h: Tensor | None = None
    with no_grad():
        logits, h = model(ids[:, None], h)
    for _ in range(length):
        q = logits.data[-1, 0].astype(float)
        if temperature and rng is not None:
            p = np.exp((q - q.max()) / temperature)
            choice = int(rng.choice(len(q), p=p / p.sum()))
        else:
            choice = int(q.argmax())
        yield model.vocabulary.decode(np.array([choice]))
        with no_grad():
            logits, h = model(np.array([[choice]]), h)
