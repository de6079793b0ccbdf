"""Floor 5: the doctor. Which mistake makes the truth into the gradient that was handed in?

Every variant is computed, alone and two combined, and has to agree in all entries to 1e-8 of the largest: there are no
thresholds to tune. Variants that agree equally well are all named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np

from ..bptt.tables import Printed
from ..weights import load
from .backward import Array, Arrays, Model
from .case import Case
from .mistakes import FACTORS, TRANSPOSED, Mistake, clipped, constant, mistakes, named_factors, terms
from .report import report

SAME = 1e-8  # of the largest entry: what agrees to this is the same
CHUNK = 512  # variants compared at once
MOST = 4  # mistakes that are named together: two, the sign or a mean, and a transpose
Combination = tuple[Mistake, ...]
Gradients = Mapping[str, Any] | str | Path | Callable[[Arrays], Mapping[str, Any]]


@dataclass(frozen=True)
class Place:
    """The first step, in the order of BPTT, at which the contribution goes wrong, and the entry that is most off."""

    step: int | None  # None where no single step can be said to be wrong
    entry: tuple[int, ...]
    wrong: float
    right: float


@dataclass(frozen=True)
class Match:
    """Mistakes that together give exactly what was handed in, and where it first goes wrong."""

    mistakes: Combination
    place: Place

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(mistake.name for mistake in self.mistakes)


@dataclass(frozen=True)
class Unknown:
    """What can be said of a gradient that no known mistake makes: no diagnosis, only comparisons.

    weights: the a_k of the best fit Σ_k a_k A_k of the true terms, by step, and its relative residual.
    """

    worst: tuple[tuple[tuple[int, ...], float, float], ...]
    agreeing: int
    size: int
    ratio: float
    cosine: float
    weights: dict[int, float]
    residual: float


@dataclass(frozen=True)
class Finding:
    """What is wrong with one gradient. Truthy when nothing is.

    orientation: 'ours', (in, out); 'notes', (out, in), which is not wrong; 'either' where a matrix is its own
    transpose; '' for a vector. matches: all that explain it equally well, and others, which explain this gradient too,
    but not the rest. tell: what could tell the matches apart. alone: it is right in the notes' orientation, and square,
    with nothing besides to show which orientation was meant.
    """

    name: str
    orientation: str
    matches: tuple[Match, ...] = ()
    others: tuple[Match, ...] = ()
    unknown: Unknown | None = None
    tell: str = ""
    alone: bool = False

    def __bool__(self) -> bool:
        return not self.matches and self.unknown is None


@dataclass(frozen=True, repr=False)
class Diagnosis(Printed):
    """What `diagnose` found, gradient by gradient. Truthy when all are correct; it prints itself.

    unseen: of correct gradients, the mistakes that would have changed nothing in this case, but do in others; and why.
    """

    case: Case
    findings: tuple[Finding, ...]
    unseen: tuple[Mistake, ...] = ()
    why: str = ""

    def __bool__(self) -> bool:
        return all(self.findings)

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"{name}: handed in were {', '.join(finding.name for finding in self.findings)}")

    def __repr__(self) -> str:
        return report(self)


def diagnose(case: Case, gradients: Gradients) -> Diagnosis:
    """Name the mistakes in gradients of E that a hand-written BPTT gave.

    gradients: arrays by name (`case.names`, any of them; V may be of both directions, V above V'), the .npz that holds
    them, or a function of `case.arrays()` that returns them. Matrices (in, out), or (out, in) as the notes have them.
    Raises ValueError for names and shapes that do not fit, for nan and inf, and for less than float64; TypeError for
    what are no real numbers; RuntimeError if the engine and the doctor's own BPTT disagree.
    """
    truth = case.truth()
    if callable(gradients):
        gradients = gradients(case.arrays())
    given = handed_in(case, truth, load(gradients) if isinstance(gradients, str | Path) else gradients)
    model = case.model
    known = Known(model, mistakes(model), named_factors(case.means), truth)
    best = min((known.look(given, notes) for notes in hypotheses(given, truth)), key=cost)
    findings = tuple(known.settled(given, best))
    return Diagnosis(case, findings, *(known.unseen(list(given)) if all(findings) else ()))


def close(a: Array, b: Array) -> bool:
    """To 1e-8 of the largest entry of either; arrays of different shapes are not."""
    if a.shape != b.shape:
        return False
    return bool(np.abs(a - b).max(initial=0.0) <= SAME * max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)))


# ------------------------------------------------------------------------------------------------- what was handed in
def handed_in(case: Case, truth: Arrays, gradients: Mapping[str, Any]) -> Arrays:
    """Float64 arrays of the right shape or its transpose, V taken apart; every thing that is wrong is said at once."""
    if not isinstance(gradients, Mapping):
        raise TypeError(f"doctor: gradients are a {type(gradients).__name__}; expected arrays by name")
    arrays = {name: np.asarray(array) for name, array in gradients.items()}
    wrong, found = [], {}
    if not arrays:
        wrong.append("nothing handed in")
    for name, array in list(arrays.items()):
        if array.dtype.kind not in "fiu":
            raise TypeError(f"doctor: {name} is {array.dtype}; expected real numbers")
        if array.dtype.kind == "f" and array.dtype.itemsize < 8:
            wrong.append(f"{name} is {array.dtype}; expected float64, for mistakes are told apart to 1e-8")
        if not np.isfinite(array).all():
            wrong.append(f"{name}{list(map(int, np.argwhere(~np.isfinite(array))[0]))} is not finite")
    if "V'" in truth and "V" in arrays and "V'" not in arrays:
        whole, (H, V) = arrays["V"], truth["V"].shape
        if whole.shape == (2 * H, V):
            arrays |= {"V": whole[:H], "V'": whole[H:]}
        elif whole.shape == (V, 2 * H):
            arrays |= {"V": whole[:, :H], "V'": whole[:, H:]}
    for name, array in arrays.items():
        if name not in truth:
            wrong.append(f"unknown {name}: expected {', '.join(truth)}")
            continue
        shape = truth[name].shape
        flat = len(shape) == 1 or 1 in shape
        if array.shape in (shape, shape[::-1]):
            found[name] = array.astype(np.float64)
        elif flat and array.size == truth[name].size and array.ndim <= 2 and array.size in (*array.shape, 1):
            found[name] = array.astype(np.float64).reshape(shape)  # a column, or one row without its axis
        else:
            turned = f", or {shape[::-1]} as the notes write it" if len(shape) == 2 and shape[0] != shape[1] else ""
            wrong.append(f"{name} has shape {array.shape}; expected {shape}{turned}")
    if wrong:
        raise ValueError(f"doctor: {'; '.join(wrong)}")
    return found


def is_square(x: Array) -> bool:
    return x.ndim == 2 and x.shape[0] == x.shape[1] > 1


def hypotheses(given: Arrays, truth: Arrays) -> list[bool]:
    """Are square matrices (out, in)? As those matrices are that show it; both where none does."""
    shown = {given[name].shape != truth[name].shape for name in given
             if given[name].ndim == 2 and not is_square(truth[name]) and 1 not in truth[name].shape}
    return [False, True] if len(shown) != 1 else [*shown]


@dataclass(frozen=True)
class Look:
    """The gradients read in one orientation, and all cheapest explanations of each; None where there is none."""

    notes: bool
    sure: bool
    read: Arrays
    explained: dict[str, list[Combination] | None]


def cost(look: Look) -> tuple[int, int]:
    """Unexplained ones, then mistakes."""
    found = look.explained.values()
    return sum(1 for e in found if e is None), sum(len(e[0]) for e in found if e)


# ---------------------------------------------------------------------------------------------- what is known of a case
@dataclass
class Known:
    """All variants of the gradients of a case, made as far as they are needed."""

    model: Model
    mistakes: list[Mistake]
    factors: list[Mistake]
    truth: Arrays

    def look(self, given: Arrays, notes: bool) -> Look:
        read = {name: g.T if g.shape != self.truth[name].shape or (notes and is_square(g)) else g
                for name, g in given.items()}
        explained: dict[str, list[Combination] | None] = {name: None for name in given}
        singles: list[Combination] = [(), *((m,) for m in self.mistakes)]
        pairs = (pair for pair in combinations(self.mistakes, 2) if pair[0].place != pair[1].place)
        left = list(given)
        found = {name: Matches(read[name], self, name) for name in left}
        for variants, most in ((singles, 1), (pairs, MOST)):
            for chunk in chunks(variants):
                for name, rows in self.totals(chunk, left).items():
                    found[name].compare(chunk, rows)
            for name in left:
                explained[name] = found[name].cheapest(most)
            left = [name for name in left if explained[name] is None]
            if not left:
                break
        return Look(notes, len(hypotheses(given, self.truth)) == 1, read, explained)

    def totals(self, variants: Sequence[Combination], names: list[str]) -> Arrays:
        """{θ: (N, *θ.shape)}, the gradients of θ by N variants."""
        with np.errstate(all="ignore"):
            rows = [terms(self.model, names, variant) for variant in variants]
            return {name: np.stack([row[name].sum(0) for row in rows]) for name in names}

    def settled(self, given: Arrays, look: Look) -> Iterator[Finding]:
        """Where several mistakes explain a gradient, those that fit best to the others; and where each goes wrong."""
        for name, explained in look.explained.items():
            orientation = self.orientation(given, look, name)
            if explained == [()]:
                alone = orientation == "notes" and not look.sure and is_square(given[name])
                yield Finding(name, orientation, alone=alone)
            elif explained is None:
                yield Finding(name, orientation, unknown=self.unknown(look.read[name], name))
            else:
                support = {c: sum(self.gives(c, other, look.read[other]) for other in given) for c in explained}
                most = max(support.values())
                matches = [Match(c, self.place(c, name)) for c in explained if support[c] == most]
                others = [Match(c, self.place(c, name)) for c in explained if support[c] < most]
                tell = self.tell([m.mistakes for m in matches], name, list(given)) if len(matches) > 1 else ""
                yield Finding(name, orientation, tuple(matches), tuple(others), tell=tell)

    def orientation(self, given: Arrays, look: Look, name: str) -> str:
        g = given[name]
        if g.ndim < 2:
            return ""
        if g.shape == g.shape[::-1] and close(g, g.T):
            return "either"
        turned = g.shape != self.truth[name].shape or (look.notes and is_square(g))
        return "notes" if turned else "ours"

    def gives(self, combination: Combination, name: str, g: Array) -> bool:
        """Do these mistakes make that gradient what was handed in?"""
        if any(m is TRANSPOSED for m in combination) and not is_square(g):
            return False
        with np.errstate(all="ignore"):
            return close(terms(self.model, [name], combination)[name].sum(0), g)

    def place(self, combination: Combination, name: str) -> Place:
        """The first step going back at which the terms differ from the true ones, by their largest difference."""
        right, wrong = (terms(self.model, [name], c)[name] for c in ((), combination))
        if any(m.place == "clip" for m in combination):
            right, wrong = right.sum(0, keepdims=True), wrong.sum(0, keepdims=True)
        off = [np.abs(r - w).max() > SAME * max(np.abs(r).max(), np.abs(w).max()) for r, w in zip(right, wrong)]
        k = max((k for k, it in enumerate(off) if it), default=len(off) - 1)
        entry = np.unravel_index(np.abs(right[k] - wrong[k]).argmax(), right[k].shape)
        step = self.step(name, k) if len(right) == len(self.model.x) or "_0" in name else None
        return Place(step, tuple(map(int, entry)), float(wrong[k][entry]), float(right[k][entry]))

    def step(self, name: str, k: int) -> int:
        """The t of the k-th term; a state is that before the first step."""
        T, backward = len(self.model.x), name.endswith("'")
        if name.rstrip("'").endswith("_0"):
            return T + 1 if backward else 0
        return T - k if backward else k + 1

    def unknown(self, g: Array, name: str) -> Unknown:
        true, parts = self.truth[name], terms(self.model, [name])[name]
        size, other = float(np.linalg.norm(true)), float(np.linalg.norm(g))
        worst = [tuple(map(int, np.unravel_index(i, g.shape))) for i in np.argsort(-np.abs(g - true), axis=None)[:3]]
        off = np.abs(g - true) > SAME * max(np.abs(g).max(), np.abs(true).max())
        weights: dict[int, float] = {}
        residual = 1.0
        if 1 < len(parts) <= g.size and other:
            A = parts.reshape(len(parts), -1).T
            fit, _, rank, _ = np.linalg.lstsq(A, g.ravel(), rcond=None)
            if rank == len(parts):
                residual = float(np.linalg.norm(A @ fit - g.ravel())) / other
                weights = {self.step(name, k): float(a) for k, a in enumerate(fit)}
        return Unknown(tuple((i, float(g[i]), float(true[i])) for i in worst), int((~off).sum()), g.size,
                       other / size if size else np.inf,
                       float((g * true).sum() / (size * other)) if size and other else np.nan,
                       dict(sorted(weights.items())), residual)

    # ------------------------------------------------------------------------------------------- telling them apart
    def unseen(self, names: list[str]) -> tuple[tuple[Mistake, ...], str]:
        """The mistakes that change none of these gradients here, but do in another case; what this case lacks."""
        lacking = list(other_cases(self.model))
        *_, (_, change, other) = lacking
        true = {name: t.sum(0) for name, t in terms(other, names).items()}
        with np.errstate(all="ignore"):
            found = tuple(m for m in self.mistakes if all(self.gives((m,), name, self.truth[name]) for name in names)
                          and not all(close(t.sum(0), true[name]) for name, t in terms(other, names, (m,)).items()))
        return found, change

    def tell(self, variants: list[Combination], name: str, handed_in: list[str]) -> str:
        """What would tell these variants apart: another gradient of this case, or another case; tried out."""
        more = [other for other in self.truth if other not in handed_in]
        shape = {n: self.truth[n].shape for n in self.truth}
        fit = [n for n in more if shape[n] == shape[n][::-1] or not any(m is TRANSPOSED for c in variants for m in c)]
        apart = [n for n in fit if all_differ(self.model, variants, n)]
        said = [f"the gradient of {' or '.join(apart[:4])} can"] if apart else []
        why = []
        changes = list(other_cases(self.model))
        for reason, change, model in changes[:-1] or changes:
            if all_differ(model, variants, name):
                why.append(reason)
                said.append(f"so can a case with {change}" if said else f"a case with {change} can")
                break
        else:
            if changes and all_differ(changes[-1][2], variants, name):
                why += [reason for reason, _, _ in changes[:-1]] or [changes[-1][0]]
                said.append(("so can " if said else "") + f"a case with {changes[-1][1]}" + ("" if said else " can"))
        because = f", because {' and '.join(why)}" if why else ""
        if said:
            return f"This case cannot tell them apart by this alone{because}; {', '.join(said)}."
        generic = changes[-1][2] if changes else self.model
        if not any(close_sum(generic, a, b, name) for a, b in combinations(variants, 2)):
            return "This case cannot tell them apart by this alone; another one can."
        return ("Some of them come to the same here in every case that was tried, so nothing could tell them apart: "
                "correct one, and ask again.")


def close_sum(model: Model, a: Combination, b: Combination, name: str) -> bool:
    with np.errstate(all="ignore"):
        return close(terms(model, [name], a)[name].sum(0), terms(model, [name], b)[name].sum(0))


def all_differ(model: Model, variants: list[Combination], name: str) -> bool:
    return not any(close_sum(model, a, b, name) for a, b in combinations(variants, 2))


def other_cases(m: Model) -> Iterator[tuple[str, str, Model]]:
    """(what this case lacks, what another one has, such a case): one change after the other, then all at once."""
    T, B, _ = m.x.shape
    H = len(m.p["h_0"][0])
    lacks = []
    if T < 4:
        lacks.append((f"T = {T}", "T = 5 steps", {"T": 5}))
    elif T == B:
        lacks.append(("T = B", "another T than B", {"T": T + 1}))
    if H == 1:
        lacks.append(("H = 1", "H = 3 hidden units", {"H": 3}))
    if B == 1:
        lacks.append(("B = 1", "B = 3 rows", {"B": 3}))
    if any(not array.any() for key, array in m.p.items() if "_0" in key):
        lacks.append(("the initial state is 0", "another initial state than 0", {"states": 1}))
    if any(is_square(W) and close(W, W.T) for key, W in m.p.items() if key.startswith("W")):
        lacks.append(("W is symmetric", "a W that is not symmetric", {"weights": 1}))
    for reason, change, what in lacks:
        yield reason, change, changed(m, **what)
    everything: dict[str, int] = {"weights": 1, "states": 1}
    for _, _, what in lacks:
        everything |= what
    if m.p["c"].size < 3:
        everything |= {"V": 4}
    changes = [change for _, change, _ in lacks] or ["other numbers"]
    yield "its numbers do not show it", " and ".join(changes), changed(m, **everything)


def changed(m: Model, **what: int) -> Model:
    """The model with other sizes, states or weights, drawn anew where they are changed."""
    rng = np.random.default_rng(0)
    T, B, D = m.x.shape
    V, H = len(m.p["c"]), m.p["h_0"].shape[-1]
    T, B, classes, hidden = (what.get(size, old) for size, old in (("T", T), ("B", B), ("V", V), ("H", H)))
    p: Arrays = {}
    for key, array in m.p.items():
        plain = key.removesuffix("'")
        if plain.endswith("_0"):
            if "states" in what or (array.any() and array.shape != (B, hidden)):
                p[key] = rng.normal(size=(B, hidden)) * 0.7
            else:
                p[key] = array if array.shape == (B, hidden) else np.zeros((B, hidden))
        else:
            fresh = "weights" in what or hidden != H or (classes != V and plain in ("V", "c"))
            shape = {"U": (D, hidden), "W": (hidden, hidden), "b": (hidden,), "V": (hidden, classes),
                     "c": (classes,)}[plain[0]]
            p[key] = rng.normal(size=shape) * 0.7 if fresh else array
    same = (T, B, classes) == (*m.x.shape[:2], V)
    x = m.x if same else rng.normal(size=(T, B, D))
    y = m.y if same else np.eye(classes)[rng.integers(0, classes, (T, B))]
    return Model(m.cell, p, x, y, m.weight, m.learned)


# --------------------------------------------------------------------------------------------------- what is the same
@dataclass
class Matches:
    """The variants that agree with one gradient g, by number of mistakes."""

    g: Array
    known: Known
    name: str
    found: dict[int, list[Combination]] = field(default_factory=dict)
    scaled: dict[int, list[Combination]] = field(default_factory=dict)  # with a constant that g itself has given
    directions: int = 0  # variants with a right ε that are no multiple of the truth: else a constant says nothing

    def compare(self, variants: Sequence[Combination], rows: Array) -> None:
        """Is g one of rows (N, *g.shape), a multiple of one, its transpose, or both?"""
        true = self.known.truth[self.name]
        other = rows[[row.any() and all(m.place != "error" for m in v) for v, row in zip(variants, rows)]]
        self.directions += int((~agree(other, true, scales(other, true))).sum())
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
        T, B = self.known.model.x.shape[:2]
        values = {m: FACTORS[m.value][0](T, B) for m in self.known.factors}
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


def chunks(variants: Iterable[Combination]) -> Iterator[list[Combination]]:
    rest = iter(variants)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
