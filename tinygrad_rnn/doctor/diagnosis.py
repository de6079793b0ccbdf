"""Floor 5: the doctor. Which mistake makes the truth into the gradient that was handed in?

Every variant is computed, alone and two combined, and has to agree in all entries to 1e-8 of the largest: there are no
thresholds to tune. Variants that agree equally well are all named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np

from ..bptt.tables import Printed
from ..weights import load
from .case import Case
from .cells import Array, Arrays
from .matches import SAME, Combination, Matches, close, is_square
from .mistakes import TRANSPOSED, Mistake, mistakes, named_factors, terms
from .model import Model
from .report import report

CHUNK = 512  # variants compared at once
MOST = 4  # mistakes that are named together: two, the sign or a mean, and a transpose
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
    """Mistakes that together give exactly what was handed in, and where it first goes wrong.

    spared: gradients that were handed in and are right, though these mistakes in all of the code would change them.
    """

    mistakes: Combination
    place: Place
    spared: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(mistake.name for mistake in self.mistakes)


@dataclass(frozen=True)
class Unknown:
    """What can be said of a gradient that no known mistake makes: no diagnosis, only comparisons.

    distance: the largest difference, by the largest right entry. single: all entries are numbers of float32.
    steps: what each step really adds to the worst entry.
    weights: the a_k of the best fit Σ_k a_k A_k of the true terms, by step, and its relative residual.
    """

    worst: tuple[tuple[tuple[int, ...], float, float], ...]
    agreeing: int
    size: int
    ratio: float
    cosine: float
    distance: float
    single: bool
    steps: dict[int, float]
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
        gradients = gradients({name: array.copy() for name, array in case.arrays().items()})
    given = handed_in(case, truth, load(gradients) if isinstance(gradients, str | Path) else gradients)
    model = case.model
    known = Known(model, mistakes(model), named_factors(case.means), truth)
    for pairs in (False, True):  # pairs only where no orientation is explained without them
        best = min((known.look(given, notes, pairs) for notes in hypotheses(given, truth)), key=cost)
        if cost(best)[0] == 0:
            break
    findings = tuple(known.settled(given, best))
    return Diagnosis(case, findings, *(known.unseen(list(given)) if all(findings) else ()))


# ------------------------------------------------------------------------------------------------- what was handed in
def handed_in(case: Case, truth: Arrays, gradients: Mapping[str, Any]) -> Arrays:
    """Float64 arrays of the right shape or its transpose, V taken apart; every thing that is wrong is said at once."""
    if not isinstance(gradients, Mapping):
        raise TypeError(f"doctor: gradients are a {type(gradients).__name__}; expected arrays by name")
    arrays = {name: np.asarray(array) for name, array in gradients.items()}
    wrong, found = [], {}
    if not arrays:
        wrong.append("nothing handed in")
    if unknown := [name for name in arrays if name not in truth]:
        wrong.append(f"unknown {', '.join(unknown)}: expected {', '.join(truth)}")
    for name, array in arrays.items():
        if name in truth and array.dtype.kind not in "fiu":
            raise TypeError(f"doctor: {name} is {array.dtype}; expected real numbers")
    real = {name: array for name, array in arrays.items() if name in truth}
    if coarse := [name for name, array in real.items() if array.dtype.kind == "f" and array.dtype.itemsize < 8]:
        wrong.append(f"{', '.join(coarse)} {'is' if len(coarse) == 1 else 'are'} {real[coarse[0]].dtype}; expected "
                     "float64 from the first step to the last, for mistakes are told apart to 1e-8")
    for name, array in real.items():
        if not np.isfinite(array).all():
            at = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
            wrong.append(f"{name}{list(at)} is {array[at]}; expected finite numbers")
    if "V'" in truth and "V" in arrays and "V'" not in arrays:
        whole, (H, V) = arrays["V"], truth["V"].shape
        if whole.shape == (2 * H, V):
            arrays |= {"V": whole[:H], "V'": whole[H:]}
        elif whole.shape == (V, 2 * H):
            arrays |= {"V": whole[:, :H], "V'": whole[:, H:]}
    for name, array in arrays.items():
        if name not in truth:
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

    def look(self, given: Arrays, notes: bool, with_pairs: bool) -> Look:
        read = {name: g.T if g.shape != self.truth[name].shape or (notes and is_square(g)) else g
                for name, g in given.items()}
        explained: dict[str, list[Combination] | None] = {name: None for name in given}
        singles: list[Combination] = [(), *((m,) for m in self.mistakes)]
        pairs = (pair for pair in combinations(self.mistakes, 2) if not pair[0].places & pair[1].places)
        left = list(given)
        found = {name: Matches(read[name], self.truth[name], self.model, self.factors) for name in left}
        for variants, most in ((singles, 1), (pairs, MOST))[:1 + with_pairs]:
            for chunk in chunks(variants):
                for name, (those, rows) in self.totals(chunk, left).items():
                    found[name].compare(those, rows)
            for name in left:
                explained[name] = found[name].cheapest(most)
            left = [name for name in left if explained[name] is None]
            if not left:
                break
        return Look(notes, len(hypotheses(given, self.truth)) == 1, read, explained)

    def totals(self, variants: Sequence[Combination], names: list[str]) -> dict[str, tuple[list[Combination], Array]]:
        """{θ: (N variants, (N, *θ.shape) the gradients of θ by them)}; without those that leave θ to fewer mistakes."""
        found: dict[str, tuple[list[Combination], list[Array]]] = {}
        reach = {m.name: frozenset(filter(m.touches, names)) for m in self.mistakes}
        with np.errstate(all="ignore"):
            for variant in variants:
                reached = frozenset(names).intersection(*(reach[m.name] for m in variant))
                touched = [name for name in names if name in reached]
                for name, term in terms(self.model, touched, variant).items() if touched else ():
                    those, rows = found.setdefault(name, ([], []))
                    those.append(variant)
                    rows.append(term.sum(0))
        return {name: (those, np.stack(rows)) for name, (those, rows) in found.items()}

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
                right = [other for other in given if look.explained[other] == [()]]
                given_too = {c: [other for other in given if self.gives(c, other, look.read[other])] for c in explained}
                spared = {c: tuple(other for other in right if other not in given_too[c]
                                   and not all(m.local for m in c)) for c in explained}
                support = {c: (len({*given_too[c]} - {*right}), -len(spared[c]), len(given_too[c])) for c in explained}
                most = max(support.values())
                matches, others = ([Match(c, self.place(c, name), spared[c]) for c in explained
                                    if (support[c] == most) == best] for best in (True, False))
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
                       float(np.abs(g - true).max() / np.abs(true).max()) if size else np.inf,
                       bool((g.astype(np.float32) == g).all()) and bool((g.astype(np.float16) != g).any()),
                       {self.step(name, k): float(part[worst[0]]) for k, part in enumerate(parts)}
                       if len(parts) > 1 else {}, dict(sorted(weights.items())), residual)

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
        if all_differ(generic, variants, name):
            return "This case cannot tell them apart by this alone; another one can."
        return ("Some of them come to the same here in every case that was tried, so nothing could tell them apart: "
                "correct one, and ask again.")


def all_differ(model: Model, variants: list[Combination], name: str) -> bool:
    with np.errstate(all="ignore"):
        totals = [terms(model, [name], variant)[name].sum(0) for variant in variants]
    return not any(close(a, b) for a, b in combinations(totals, 2))


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
    if V == H:  # V stays square, or mistakes of a square V could not be made
        classes = hidden = max(classes, hidden)
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
            shape = {"U": (D, hidden), "W": (hidden, hidden), "b": (hidden,), "p": (hidden,), "V": (hidden, classes),
                     "c": (classes,)}[plain[0]]
            p[key] = rng.normal(size=shape) * 0.7 if fresh else array
    same = (T, B, classes) == (*m.x.shape[:2], V)
    x = m.x if same else rng.normal(size=(T, B, D))
    y = m.y if same else np.eye(classes)[rng.integers(0, classes, (T, B))]
    return Model(m.cell, p, x, y, m.weight, m.learned)


def chunks(variants: Iterable[Combination]) -> Iterator[list[Combination]]:
    rest = iter(variants)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
