"""The committed pictures, with the numbers of a small model: `python viz/gallery/make.py` writes the same bytes again.

They come from the built-in writer, so that they do not depend on the version of Graphviz.
"""

from pathlib import Path

import numpy as np

from tinygrad_rnn import Tensor, functional, nn, scope
from tinygrad_rnn.recording import record
from viz import Term, draw

HERE = Path(__file__).parent


def model(T: int) -> tuple[nn.RNNCell, list[Tensor], Tensor]:
    """A tanh RNN of 3 units that reads vectors of 2 numbers, with a loss at every step."""
    rng = np.random.default_rng(3)
    cell, head = nn.RNNCell(2, 3, rng=rng), nn.Linear(3, 4, rng=rng)
    hs, _ = nn.unroll(cell, rng.normal(size=(T, 1, 2)), Tensor(rng.normal(size=(1, 3)), name="h"))
    losses = []
    for t, h in enumerate(hs, start=1):
        with scope(t=t):
            losses.append(functional.cross_entropy(head(h), rng.integers(0, 4, 1), "sum").named("E"))
    return cell, losses, functional.stack(losses).sum().named("E")


def main() -> None:
    _, _, E = model(3)
    (HERE / "rnn.svg").write_text(draw(E, recording=record(E)).svg, encoding="utf-8", newline="\n")
    cell, losses, E = model(4)
    term = draw(E, term=Term(loss=losses[3], parameter=cell.W, k=2))
    (HERE / "one_term.svg").write_text(term.svg, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
