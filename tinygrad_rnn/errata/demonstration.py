"""Floor 6: what a demonstration returns, and the little mathematics that several of them need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np

from ..bptt.tables import Printed, paragraph, table
from ..ops import Array
from ..recording import walk
from ..tensor import Tensor

Cut = Callable[[Tensor, int], bool]


@dataclass(frozen=True, repr=False)
class Demonstration(Printed):
    """Numbers side by side, and what they show. True where everything claimed of them is so.

    fails, holds: what goes wrong with the printed form and what does not, each with whether the numbers bear it out.
    """

    setting: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]  # what, then one value for each column
    fails: dict[str, bool]
    holds: dict[str, bool]
    conclusion: str

    def __bool__(self) -> bool:
        return all((self.fails | self.holds).values())

    @property
    def verdict(self) -> str:
        """The conclusion, or what the numbers do not bear out."""
        unseen = [claim for claim, so in (self.fails | self.holds).items() if not so]
        return f"Not shown: {'; '.join(unseen)}." if unseen else self.conclusion

    def __repr__(self) -> str:
        cells = [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row] for row in self.rows]
        lines = [paragraph(self.setting), "", table(["", *self.columns], cells), ""]
        for heading, claims in (("What fails:", self.fails), ("What does not fail:", self.holds)):
            lines += [f"  {heading}", *(listed("seen" if so else "NOT SEEN", said) for said, so in claims.items()), ""]
        return "\n".join([*lines, paragraph(f"Verdict: {self.verdict}")])


def listed(mark: str, text: str) -> str:
    return fill(text, 110, initial_indent=f"    {mark}: ", subsequent_indent=" " * (len(mark) + 6))


def jacobian(y: Tensor, x: Tensor, cut: Cut = lambda node, position: False) -> Array:
    """∂y/∂x (y.size, x.size), x a leaf: one sweep that carries a seed for each element of y; nothing passes a cut."""
    totals = {y: np.eye(y.size).reshape(y.size, *y.shape)}
    for _ in walk(totals, cut):
        pass
    return np.asarray(totals[x]).reshape(y.size, x.size)


def size_of(matrix: Array) -> float:
    """The largest singular value."""
    return float(np.linalg.norm(matrix, 2))


def rotation(rng: np.random.Generator, n: int) -> Array:
    """An orthogonal matrix: all its singular values are 1."""
    return np.asarray(np.linalg.qr(rng.normal(size=(n, n)))[0])
