"""Floor 0: a model with its output layer in plain NumPy, and what every use of a parameter contributes to a gradient.

The errors go back through the cells in `cells`; here they are made from the losses, and multiplied with what the
parameters read (22, 25). Forgotten and truncated paths are masks on δ_t→k. A direction counts steps in its own order,
so the backward one of a BiRNN is one that reads x from its end. V classes; the rest is as in `cells`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .cells import Array, Arrays, Carried, NumPyCell, On, Uses, sigmoid

SIDES = ("", "'")


@dataclass(frozen=True)
class Model:
    """A cell in one or both directions, q_t = h_t V + h'_t V' + c, and E = weight · Σ_t Σ_b -ln softmax(q_t)[y_t].

    p: all arrays by name, those of the backward direction with a prime, biases that are not there as zeros.
    x (T, B, D); y (T, B, V), one-hot; h_0, c_0 (B, H). learned: one initial state for all rows, its gradient summed
    over them. kept: the results of passes with at most one mistake.
    """

    cell: NumPyCell
    p: Arrays
    x: Array
    y: Array
    weight: float = 1.0
    learned: bool = False
    kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def sides(self) -> tuple[str, ...]:
        return SIDES if "V'" in self.p else SIDES[:1]

    def of(self, side: str, on: On) -> Arrays:
        """The arrays of one direction, without their prime."""
        own = {name.removesuffix("'"): array for name, array in self.p.items() if name.endswith("'") == bool(side)}
        if on.get("turned"):
            own |= {name: W.T for name, W in own.items() if name.startswith("W")}
        return own

    def forward(self, on: On) -> dict[str, Arrays]:
        """Per direction: its x, and the states and gates of its steps in its own order; ŷ under "ŷ"."""
        found, q = {}, np.zeros(self.y.shape) + (0 if on.get("without c") else self.p["c"])
        for side in self.sides:
            p = self.of(side, on)
            if on.get("initial") == "h_0 for both":
                p |= {f"{state}_0": self.p[f"{state}_0"] for state in self.cell.states}
            else:
                p |= {name: np.zeros_like(p[name]) for name in p if f"{name}{side}" in on.get("initial", ())}
            if on.get("without b"):
                p |= {name: np.zeros_like(array) for name, array in p.items() if name.startswith("b")}
            reading = on.get("reading") if side else "from the front"
            x = self.x if reading == "from the front" else self.x[::-1]
            found[side] = {"x": x, **self.cell.forward(p, x, on)}
            h = found[side]["h"][1:]
            V = self.p["V"] if on.get("joined") == "V twice" else p["V"]
            q = q + (h if reading else h[::-1]) @ V  # the backward direction's, put in the order of time
        highest, added = on.get("softmax", (-1, -1))  # axes
        e = np.exp(q - q.max(axis=highest, keepdims=True))
        return {**found, "ŷ": {"ŷ": e / e.sum(axis=added, keepdims=True)}}

    def error(self, y_hat: Array, on: On) -> Array:
        """ε = ŷ - y (12)."""
        y = np.roll(self.y, on.get("targets", 0), axis=0)
        epsilon: Array = y_hat - y
        match on.get("error"):
            case "ŷ": epsilon = y_hat
            case "-y": epsilon = -y
            case "∘ŷ(1-ŷ)": epsilon = epsilon * y_hat * (1 - y_hat)
            case "softmax twice": epsilon = y_hat * (epsilon - (epsilon * y_hat).sum(-1, keepdims=True))
            case "without softmax": epsilon = -y / y_hat
        return epsilon

    def backward(self, s: dict[str, Arrays], on: On) -> dict[str, tuple[Array, Array, Carried]]:
        """Per direction, in its own order: ε (T, B, V), the δ by gate, and what is carried to the initial states."""
        found: dict[str, tuple[Array, Array, Carried]] = {}
        errors = self.weight * self.error(s["ŷ"]["ŷ"], on)
        (T, B), names = self.x.shape[:2], [f"{state}_0" for state in self.cell.states]
        for side in self.sides:
            p, other = self.of(side, on), {}
            if len(self.sides) == 2:
                across = SIDES[not side]
                other = {**self.of(across, on), "h": s[across]["h"][1:][::-1]}
            as_it_comes = not side or on.get("reading") or on.get("error order")
            epsilon = errors if as_it_comes else errors[::-1]
            into_loop = errors[::-1] if side and on.get("reading") == "not turned back, ε is" else epsilon
            match on.get("head"):
                case "V": direct = into_loop @ p["V"]
                case "missing": direct = into_loop
                case "other direction": direct = into_loop @ other["V"].T
                case _: direct = into_loop @ p["V"].T

            later = {name: np.zeros((T, *direct.shape[1:])) for name in names}
            if side and on.get("not reset") == "directions":
                later = {name: found[""][2][name][-1][::-1] for name in names}
            delta, history = self.cell.backward(p, other, s[side], direct, later, on)
            for _ in range(1, B if on.get("not reset") == "rows" else 1):  # each round one row more is settled
                later = {name: shifted(history[name][-1], 1, axis=1) for name in names}
                delta, history = self.cell.backward(p, other, s[side], direct, later, on)
            found[side] = (epsilon, delta, history)
        return found

    def terms(self, names: list[str], on: On, forward: On, backward: On) -> Arrays:
        """{θ: what every use contributes, (K, *θ.shape)}, K = T, in the order of the direction; a state has K = 1.

        Their sum is the gradient. forward, backward: what of `on` lies in these passes, whose results are kept.
        """
        s = self.once(("forward", *sorted(forward.items())), lambda: self.forward(on))
        if on.get("stored") or on.get("recomputed"):
            s = {**s, **{side: self.stored(s[side], side, on) for side in self.sides}}
        back = self.once(("backward", *sorted({**forward, **backward}.items())), lambda: self.backward(s, on))
        summed = {**forward, **backward, **{place: on[place] for place in ("uses", "losses", "pairing") if place in on}}
        T, uses, rows = len(self.x), self.cell.uses(on), rows_of(self.x.shape[1], on)
        found: Arrays = {}
        arrived: Arrays = {}  # by direction
        products: dict[tuple[str, str | None], Array] = {}  # by direction and what is read: of all gates at once
        for name in names:
            source = renamed(name, on, uses, len(self.sides) == 2)
            side, plain = "'" * source.endswith("'"), source.removesuffix("'")
            epsilon, delta, start = back[side]
            if plain in ("V", "c"):
                counted = self.mask(side, {**on, "uses": None} if on.get("uses") == "implicit" else on)
                epsilon = epsilon * counted[range(T), range(1, T + 1), None, None] * rows
                found[name] = epsilon.sum(1) if plain == "c" else outer(self.seen(s[side], side, on), epsilon)
            elif plain in start:
                loop = on["uses"][1] if on.get("uses", " ")[0] == "stops" else T  # how many steps it made
                grown = (self.mask(side, on)[:, 0, None, None] * start[plain][loop - 1]).sum(0)
                found[name] = (grown.sum(0) if self.learned else grown)[None]
            else:
                read, product = uses[plain]
                if side not in arrived:
                    arrived[side] = rows[:, :, None] * self.once((f"by use{side}", *sorted(summed.items())),
                                                                 partial(self.by_use, delta, side, on))
                if (side, read) not in products:
                    products[side, read] = self.product(read, arrived[side], s[side], side, on)
                term = products[side, read][..., self.cell.products.index(product), :]
                found[name] = np.swapaxes(term, 1, 2) if on.get("turned") and plain.startswith("W") else term
        return found

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """The result of a pass; with at most one mistake it is kept, for most pairs have it in common."""
        if len(key) > 2:
            return make()
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def mask(self, side: str, on: On) -> Array:
        return mask_of(len(self.x), on, backwards=bool(side) and not (on.get("reading") or on.get("error order")))

    def by_use(self, delta: Array, side: str, on: On) -> Array:
        """Σ_t δ[t, k] (T, B, P, H): all that comes to the use at step k."""
        if "uses" not in on and "losses" not in on:
            counted = delta
        else:
            counted = self.mask(side, on)[:, 1:, None, None, None] * delta
        found: Array = counted.sum(1 if on.get("pairing") == "t" else 0)
        return found

    def product(self, read: str | None, d: Array, s: Arrays, side: str, on: On) -> Array:
        """What the gates' errors d (T, B, P, H) give with what was read: (T, D, P, H), of vectors (T, P, H)."""
        T, B, P, H = d.shape
        what = np.ones((T, B, H)) if read is None else self.read(read, s, side, on)
        if read is None or read.startswith("c"):
            found: Array = (what[:, :, None] * d).sum(1)
            return found
        return outer(what, d.reshape(T, B, P * H)).reshape(T, -1, P, H)

    def read(self, what: str, s: Arrays, side: str, on: On) -> Array:
        """What a parameter multiplied at every step: x_k, h_{k-1}, r∘h_{k-1}; a peephole c_{k-1} or c_k."""
        if what == "x":
            match on.get("x"):
                case "x_{k-1}": return shifted(s["x"], 1)
                case "x_{k-1}, x_T": return np.roll(s["x"], 1, axis=0)
                case "x_{k+1}": return shifted(s["x"], -1)
                case "as it comes" if side: return s["x"][::-1]
                case _: return s["x"]
        if what.startswith("c"):
            match on.get("peeped", what):
                case "missing": return np.ones_like(s["f"])
                case "c_k": return s["c"][1:]
                case _: return s["c"][:-1]
        if what == "rh":
            return s["r"] * s["h"][1:] if on.get("h") == "h_k" else s["rh"]
        match on.get("h"):
            case "h_k": return s["h"][1:]
            case "h_{k+1}": return shifted(s["h"][1:], -1)
            case "h_{k+1}, s_0": return np.concatenate([s["h"][2:], s["h"][:1]])
            case "h_{k-2}": return shifted(s["h"][:-1], 1)
            case "c_{k-1}": return s["c"][:-1]
            case _: return s["h"][:-1]

    def seen(self, s: Arrays, side: str, on: On) -> Array:
        """What V multiplied: h_t."""
        match on.get("seen"):
            case "h_{t-1}": return s["h"][:-1]
            case "c_t": return s["c"][1:]
            case "z_t": return s["z"]
            case "as it comes" if side: return s["h"][1:][::-1]
            case _: return s["h"][1:]

    def stored(self, s: Arrays, side: str, on: On) -> Arrays:
        """The states and gates as the backward pass finds them: as the forward pass made them."""
        found = dict(s)
        for name in {"h", "c"} & set(s):
            found[name] = s[name].copy()
            match on.get("stored"):
                case "s_T first": found[name][0] = s[name][-1]
                case "0 first": found[name][0] = 0
                case "s_T everywhere": found[name][:] = s[name][-1]
        if g := on.get("recomputed"):
            p = self.of(side, on)
            found[g] = sigmoid(s["x"] @ p[f"U_{g}"] + found["h"][1:] @ p[f"W_{g}"] + p[f"b_{g}"])
        if "rh" in s:
            found["rh"] = found["r"] * found["h"][:-1]
        return found


def outer(a: Array, b: Array) -> Array:
    """Σ a_k b_kᵀ over the rows of the batch, for every k."""
    product: Array = np.swapaxes(a, 1, 2) @ b
    return product


def shifted(x: Array, by: int, axis: int = 0) -> Array:
    """x_{k-by}, 0 where there is none."""
    y = np.roll(x, by, axis)
    np.moveaxis(y, axis, 0)[range(by) if by > 0 else range(by, 0)] = 0
    return y


def renamed(name: str, on: On, uses: Uses, both: bool) -> str:
    """Whose gradient stands under this name: its own."""
    if both and on.get("result") == "directions" and name != "c":
        return name.removesuffix("'") if name.endswith("'") else f"{name}'"
    if isinstance(gates := on.get("result"), tuple) and "_" in name:
        kind, gate = name.removesuffix("'").split("_")
        a, b = gates
        other = f"{kind}_{ {a: b, b: a}.get(gate, gate)}"
        return other + "'" * name.endswith("'") if other in uses else name
    return name


def rows_of(B: int, on: On) -> Array:
    """Which rows of the batch count: all."""
    kept = np.ones((B, 1))
    if "rows" in on:
        kept[:] = 0
        kept[on["rows"]] = 1
    return kept


def mask_of(T: int, on: On, backwards: bool = False) -> Array:
    """(T, T+1): does what E_t sends to the use at step k count? All does. k = 0 is the initial state.

    backwards: the steps go from the last t to the first, but the last loss stays the last in time.
    """
    t, k = np.arange(1, T + 1)[:, None], np.arange(T + 1)
    match on.get("uses"):
        case None: mask: Array = np.ones((T, T + 1))
        case "explicit": mask = k == t
        case "implicit": mask = k != t
        case "overwritten": mask = np.broadcast_to(k <= 1, (T, T + 1))
        case ("sliding", n): mask = abs(t - k) < n
        case ("chunks", n): mask = (t - 1) // n == np.maximum(k - 1, 0) // n
        case ("chunks from the end", n): mask = (T - t) // n == (T - np.maximum(k, 1)) // n
        case ("stops", n): mask = np.broadcast_to((k > T - n) | (k == 0), (T, T + 1))
        case "not to s_0": mask = np.broadcast_to(k > 0, (T, T + 1))
        case "to s_0 from E_1": mask = (k > 0) | (t == 1)
    time = T + 1 - t if backwards else t
    match on.get("losses"):
        case None: weight: Array = np.ones((T, 1))
        case "last": weight = time == T
        case "first": weight = time == 1
        case "without last": weight = time < T
        case "without first": weight = time > 1
        case "again and again": weight = T + 1 - t
    found: Array = mask * weight.astype(float)
    return found
