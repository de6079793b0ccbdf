"""Floor 6: a character language model on real text: the model, its training, its perplexity, and what it writes.

Symbols: T steps, B batch, V characters. Training is truncated BPTT in chunks (19): the state is carried from one chunk
of T steps into the next, but detached there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import functional as F
from . import weights
from .bptt.routes import Cells, OneWay, plain
from .models import errors, scores
from .nn import Cell, GRUCell, Linear, LSTMCell, Module, Recurrent, RNNCell
from .nn.cell import State
from .nn.unroll import each
from .ops import Array
from .optim import Adam, Optimizer, clip_grad_norm_
from .scope import no_grad
from .tensor import Tensor
from .text import Vocabulary, batch_count, batches

CELLS: dict[str, tuple[type[Cell], dict[str, Any]]] = {  # as the command line and saved models call them
    "rnn": (RNNCell, {}),
    "rnn-sigmoid": (RNNCell, {"nonlinearity": "sigmoid"}),
    "lstm": (LSTMCell, {}),
    "lstm-peepholes": (LSTMCell, {"peepholes": True}),
    "gru": (GRUCell, {}),
    "gru-before": (GRUCell, {"reset": "before"}),
    "gru-update": (GRUCell, {"reset": None, "update": "u"}),
}


class CharRNN(Module):
    """q_t = h_t V + c over the states of recurrent layers, which read characters as ids, the same as one-hot rows.

    cell: one of CELLS. A bidirectional one can be taken apart like any other, but sees the target that it is to predict
    (E23): it is refused where a language model is trained, measured or asked to write.
    """

    def __init__(self, vocabulary: Vocabulary, hidden_size: int, cell: str = "rnn", *, num_layers: int = 1,
                 bidirectional: bool = False, rng: np.random.Generator, dtype: Any = np.float64) -> None:
        if cell not in CELLS:
            raise ValueError(f"cell {cell!r}: expected one of {', '.join(CELLS)}")
        kind, options = CELLS[cell]
        self.vocabulary, self.cell = vocabulary, cell
        self.layer = Recurrent(kind, len(vocabulary), hidden_size, num_layers, bidirectional=bidirectional, rng=rng,
                               dtype=dtype, **options)
        self.head = Linear(hidden_size * len(self.layer.directions), len(vocabulary), rng=rng, dtype=dtype)

    def __repr__(self) -> str:
        text = super().__repr__()
        with suppress(AttributeError, TypeError):  # one that is not whole is printed too
            count, both = self.layer.num_layers, ", both directions" * self.layer.bidirectional
            what = f"{self.cell}, {count} layer{'s' * (count > 1)} of {self.layer.hidden_size} units{both}"
            text = text.replace(":", f" ({what}, {len(self.vocabulary)} characters):", 1)
        return text

    def forward(self, ids: Array, state: State = None) -> tuple[Tensor, State]:
        """ids (T, B) and the layers' state, zeros if None, to logits (T, B, V) and the last state."""
        output, state = self.layer(ids, state)
        return self.head(output), state

    def losses(self, ids: Array, targets: Array, state: State = None) -> list[Tensor]:
        """E_1 … E_T, each summed over the batch and made inside its step: the model as one takes it apart."""
        return errors(scores(self.head, self.layer.steps(ids, state)[0]), targets)

    def reference(self, ids: Array, targets: Array) -> Cells | None:
        """The same model on the same characters in plain NumPy, as a witness, where there is one: for one layer."""
        made = plain(self.layer, self.head, ids, targets)
        return made.cell if isinstance(made, OneWay) else None

    def save(self, path: str | Path) -> Path:
        """Weights, characters and settings as an .npz file without pickles; returns its path."""
        settings = {"hidden_size": self.layer.hidden_size, "cell": self.cell, "num_layers": self.layer.num_layers,
                    "bidirectional": self.layer.bidirectional, "symbols": self.vocabulary.symbols}
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
        return weights.save(path, {"settings": np.array(json.dumps(settings)), **self.state_dict()})

    @classmethod
    def load(cls, path: str | Path) -> CharRNN:
        """The model in a file that `save` wrote. Raises ValueError for any other file, OSError where there is none."""
        try:
            arrays = weights.load(path)
            settings = json.loads(str(arrays.pop("settings")))
            model = cls(Vocabulary(settings.pop("symbols")), **settings, rng=np.random.default_rng(0),
                        dtype=arrays["head.V"].dtype)
            model.load_state_dict(arrays)
        except OSError as error:
            raise type(error)(f"no model in {path}: {error.strerror or error}") from error
        except Exception as error:
            raise ValueError(f"{path} does not hold a model that CharRNN.save wrote") from error
        return model


def one_way(model: CharRNN) -> None:
    """ValueError for a model that reads the text in both directions."""
    if model.layer.bidirectional:
        raise ValueError("a bidirectional model sees the next character, which it is to predict (E23): as a language "
                         "model its loss says nothing; tag or fill gaps with it")


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
    Raises ValueError for a text too short for one batch, and for a bidirectional model.
    """
    one_way(model)
    optimizer = optimizer or Adam(model.parameters(), lr=3e-3)
    history = History()
    total = epochs * batch_count(len(ids), batch_size, steps)
    try:
        for _ in range(epochs):
            state: State = None
            for inputs, targets in batches(ids, batch_size, steps):
                logits, state = model(inputs, None if state is None else each(Tensor.detach, state))
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
    one_way(model)
    state: State = None
    nats, count = 0.0, 0
    with no_grad():
        for start in range(0, len(ids) - 1, steps):
            chunk = np.asarray(ids[start:start + steps + 1])
            logits, state = model(chunk[:-1, None], state)
            nats += F.cross_entropy(logits, chunk[1:, None], "sum").item()
            count += len(chunk) - 1
    if not count:
        raise ValueError(f"perplexity: expected at least two characters, got {len(ids)}")
    return float(np.exp(nats / count))


def generate(model: CharRNN, prompt: str, length: int, *, temperature: float = 0.0,
             rng: np.random.Generator | None = None) -> Iterator[str]:
    """The `length` characters that follow `prompt`, one by one, each fed back (10).

    temperature 0 takes the likeliest (greedy, which soon loops, E26); otherwise samples from softmax(q / temperature),
    with `rng`. Raises ValueError for an empty prompt or one with unknown characters, and for a bidirectional model.
    """
    one_way(model)
    if not prompt:
        raise ValueError("the prompt is empty; expected at least one character to start from")
    if not 0 <= temperature < np.inf or 0 < temperature < 1e-3:
        raise ValueError(f"temperature {temperature}: expected 0, or a number from 0.001 on")
    if temperature and rng is None:
        raise ValueError("a temperature above 0 needs an rng to sample with")
    return _generate(model, model.vocabulary.encode(prompt), length, temperature, rng)


def _generate(model: CharRNN, ids: Array, length: int, temperature: float,
              rng: np.random.Generator | None) -> Iterator[str]:
    with no_grad():
        logits, state = model(ids[:, None])
    for _ in range(length):
        q = logits.data[-1, 0].astype(float)
        if temperature and rng is not None:
            p = np.exp((q - q.max()) / temperature)
            choice = int(rng.choice(len(q), p=p / p.sum()))
        else:
            choice = int(q.argmax())
        yield model.vocabulary.decode(np.array([choice]))
        with no_grad():
            logits, state = model(np.array([[choice]]), state)
