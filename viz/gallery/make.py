"""The committed pictures, with the numbers of small models: `python viz/gallery/make.py` writes the same bytes again.

They come from the built-in writer, so that they do not depend on the version of Graphviz.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from tinygrad_rnn import Tensor, functional, nn, scope
from tinygrad_rnn.recording import record
from viz import Drawing, Term, draw

HERE = Path(__file__).parent
SomeCell = TypeVar("SomeCell", bound=nn.Cell)


def losses_of(outputs: list[Tensor], rng: np.random.Generator) -> list[Tensor]:
    """E_t of one linear head on the output of every step."""
    head, losses = nn.Linear(outputs[0].shape[-1], 4, rng=rng), []
    for t, h in enumerate(outputs, start=1):
        with scope(t=t):
            losses.append(functional.cross_entropy(head(h), rng.integers(0, 4, 1), "sum").named("E"))
    return losses


def total(losses: list[Tensor]) -> Tensor:
    return functional.stack(losses).sum().named("E")


def unrolled(kind: type[SomeCell], T: int) -> tuple[SomeCell, list[Tensor]]:
    """A cell of 3 units that reads vectors of 2 numbers, from a random state, with a loss at every step."""
    rng = np.random.default_rng(3)
    cell = kind(2, 3, rng=rng)
    xs = rng.normal(size=(T, 1, 2))
    state = tuple(Tensor(rng.normal(size=(1, 3)), name=name) for name in cell.states)
    outputs, _ = nn.unroll(cell, xs, state if len(state) > 1 else state[0])
    return cell, losses_of(outputs, rng)


def layered(T: int, num_layers: int) -> list[Tensor]:
    """Both directions of an RNN of 3 units."""
    rng = np.random.default_rng(3)
    net = nn.RNN(2, 3, num_layers=num_layers, bidirectional=True, rng=rng)
    outputs, _ = net.steps([Tensor(x, name="x") for x in rng.normal(size=(T, 1, 2))])
    return losses_of(outputs, rng)


def pictures() -> Iterator[tuple[str, Drawing]]:
    kinds: tuple[tuple[str, type[nn.Cell]], ...] = (("rnn", nn.RNNCell), ("lstm", nn.LSTMCell), ("gru", nn.GRUCell))
    for name, kind in kinds:
        E = total(unrolled(kind, 3)[1])
        yield name, draw(E, recording=record(E))
    E = total(layered(3, num_layers=1))
    yield "birnn", draw(E, recording=record(E))
    E = total(layered(3, num_layers=2))
    yield "two_layers", draw(E, recording=record(E), detail="cells")
    E = total(unrolled(nn.LSTMCell, 200)[1])
    yield "lstm_200_steps", draw(E, recording=record(E))
    cell, losses = unrolled(nn.RNNCell, 4)
    yield "one_term", draw(total(losses), term=Term(loss=losses[3], parameter=cell.W, k=2))


if __name__ == "__main__":
    for name, drawing in pictures():
        (HERE / f"{name}.svg").write_text(drawing.svg, encoding="utf-8", newline="\n")
