"""Floor 0: which variants are one gradient, exactly, or but for a constant, a transpose, or entries cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from .cells import Array
from .mistakes import FACTORS, TRANSPOSED, Mistake, clipped, constant
from .model import Model

SAME = 1e-8  # of the largest entry: what agrees to this is the same
EPSILON = {"error", "targets", "softmax"}  # places that change ε
Combination = tuple[Mistake, ...]


def close(a: Array, b: Array) -> bool:
    """To 1e-8 of the largest entry of either; arrays of different shapes are not."""
    if a.shape != b.shape:
        return False
    return bool(np.abs(a - b).max(initial=0.0) <= SAME * max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)))


def is_square(x: Array) -> bool:
    return x.ndim == 2 and x.shape[0] == x.shape[1] > 1


@dataclass
class Matches:
    """The variants that agree with one gradient g, by number of mistakes."""

    g: Array
    truth: Array
    model: Model
    named: list[Mistake]
    found: dict[int, list[Combination]] = field(default_factory=dict)
    scaled: dict[int, list[Combination]] = field(default_factory=dict)  # with a constant that g itself has given
    directions: int = 0  # variants with a right ε that are no multiple of the truth: else a constant says nothing

    def compare(self, variants: Sequence[Combination], rows: Array) -> None:
        """Is g one of rows (N, *g.shape), a multiple of one, its transpose, or both?"""
        if not self.directions:
            other = rows[[row.any() and not any(m.places & EPSILON for m in v) for v, row in zip(variants, rows)]]
            self.directions += int((~agree(other, self.truth, scales(other, self.truth))).sum())
        ways: list[tuple[Array, Combination]] = [(self.g, ())]
        if is_square(self.g):
            ways.append((self.g.T, (TRANSPOSED,)))
        for g, turned in ways:
            alpha = scales(rows, g)
            exact = agree(rows, g, np.ones(len(rows)))
            for i in map(int, np.flatnonzero(exact | agree(rows, g, alpha))):
                factors = [()] if exact[i] else self.factors(float(alpha[i]))
                for factor in factors:
                    self.found.setdefault(len(variants[i]) + len(factor) + len(turned), []).append(
                        (*variants[i], *factor, *turned))
                if not factors:
                    self.add((*variants[i], constant(float(alpha[i])), *turned))
            bound = np.abs(g).max(initial=0.0)
            outside = (np.abs(rows).reshape(len(rows), -1) > bound * (1 + SAME)).sum(1)
            within = agree(np.clip(rows, -bound, bound), g, np.ones(len(rows)))
            for i in map(int, np.flatnonzero(within & (outside > 0) & (outside < g.size))):
                self.add((*variants[i], clipped(float(bound)), *turned))

    def factors(self, alpha: float) -> list[Combination]:
        """Sign, T or B, or two of them, that make this factor; as few as will do."""
        T, B = self.model.x.shape[:2]
        values = {m: FACTORS[m.value][0](T, B) for m in self.named}
        useful = [m for m in values if abs(values[m] - 1) > SAME and (min(T, B) > 1 or "TB" not in m.value)]
        for count in (1, 2):
            fit: list[Combination] = [
                chosen for chosen in combinations(useful, count) if len({m.place for m in chosen}) == count
                and abs(np.prod([values[m] for m in chosen]) - alpha) <= SAME * abs(alpha)]
            if fit:
                return fit
        return []

    def add(self, combination: Combination) -> None:
        """Note a combination with a constant of g's own; besides it no more than one mistake."""
        if len(combination) <= 2:
            self.scaled.setdefault(len(combination), []).append(combination)

    def cheapest(self, most: int) -> list[Combination] | None:
        """All with the fewest mistakes; a constant without a name only where nothing else is as cheap.

        Two mistakes, and besides them the sign, a mean or a transpose: these cost no variants.
        """
        for count in range(most + 1):
            if count in self.found:
                return self.found[count]
            if count in self.scaled and self.directions and self.g.size > count:
                return self.scaled[count]
        return None


def scales(rows: Array, g: Array) -> Array:
    """The α for which α · row is nearest to g, for every row."""
    flat = rows.reshape(len(rows), g.size)
    with np.errstate(all="ignore"):
        found: Array = np.nan_to_num(flat @ g.ravel() / (flat * flat).sum(1))
    return found


def agree(rows: Array, g: Array, alpha: Array) -> Array:
    """Which rows times α are g?"""
    flat = rows.reshape(len(rows), g.size) * alpha[:, None]
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(flat).max(1, initial=0.0), np.abs(g).max(initial=0.0))
        found: Array = np.abs(flat - g.ravel()).max(1, initial=0.0) <= SAME * size
    return found
