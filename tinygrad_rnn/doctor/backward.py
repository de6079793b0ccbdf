"""Floor 0: the BPTT of every cell written by hand in plain NumPy, with switches that put mistakes where they happen.

Without a switch these are the closed forms (22) to (25), with forward passes of their own; nothing is shared with the
engine. `on` maps a place to what is written there instead; the places are the calls `on.get(...)`, the mistakes stand
in the table of `mistakes`.

All losses go back at once: δ[t, k] is δ_t→k, what the loss of step t sends to the step k; forgotten and truncated paths
are masks on it. A direction counts steps in its own order, so the backward one of a BiRNN is one that reads x from
its end. Symbols: T steps, B batch, D input, H hidden, V classes; rows, W (in, out); t and k count from 0 here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]
On = Mapping[str, Any]
Carried = dict[str, list[Array]]  # state: what each step of the loop carried on, by loss (T, B, H); the last to s_0
Uses = dict[str, tuple[str | None, str]]  # parameter: (what it multiplies, the δ of its product)


def sigmoid(z: Array) -> Array:
    y: Array = np.exp(-np.logaddexp(0, -z))
    return y


PHI: dict[str, Callable[[Array], Array]] = {"tanh": np.tanh, "sigmoid": sigmoid}
SLOPE: dict[str, Callable[[Array], Array]] = {"tanh": lambda y: 1 - y * y, "sigmoid": lambda y: y * (1 - y)}
FORMULAS: dict[str, Callable[[Array], Array]] = {
    **SLOPE, "missing": np.ones_like, "1-y": lambda y: 1 - y, "(1-y)²": lambda y: (1 - y) ** 2}


def slope(phi: str, z: Array, y: Array, wrong: str | None) -> Array:
    """φ'(z) from y = φ(z); wrong: another formula of y, or the right one of something else."""
    right = SLOPE[phi]
    match wrong:
        case None: return right(y)
        case "of h_{k-1}": return right(y)  # see RNN.backward
        case "again": return right(PHI[phi](y))
        case "of z": return right(z)
        case "missing at σ": return np.ones_like(y) if phi == "sigmoid" else right(y)
        case "twice": return right(y) ** 2
        case formula: return FORMULAS[formula](y)


def gate_slope(s: Arrays, k: int, g: str, phi: str, y: Array, wrong: str | None) -> Array:
    """φ'(z_g) at step k; wrong: as in `slope`, or the name of another gate, of which it is taken."""
    return SLOPE[phi](s[wrong][k]) if wrong in s else slope(phi, s[f"z_{g}"][k], y, wrong)


def steps(T: int, on: On) -> range:
    """The order in which the errors go back: from the last step to the first."""
    return range(T) if on.get("order") == "forward" else range(T)[::-1]


def into(carry: Array, direct: Array, k: int) -> Array:
    """δh_k (T, B, H): what later steps carry back, and for the loss of step k itself Vᵀ ε_k."""
    dh = carry.copy()
    dh[k] += direct[k]
    return dh


def back(delta: Array, W: Array, other: Array, on: On) -> Array:
    """Wᵀ δ, in rows δ Wᵀ."""
    match on.get("matrix"):
        case "W": return delta @ W
        case "missing": return delta
        case "other direction": return delta @ other.T
        case _: return delta @ W.T


@dataclass(frozen=True)
class RNN:
    """h_t = φ(x_t U + h_{t-1} W + b) (1), and its BPTT (22)."""

    nonlinearity: str = "tanh"
    gates: tuple[str, ...] = ("",)
    states: tuple[str, ...] = ("h",)

    def forward(self, p: Arrays, x: Array, on: On) -> Arrays:
        """z (T, B, H) and h (T+1, B, H), h[0] = h_0."""
        h, zs, phi = [p["h_0"]], [], on.get("model", self.nonlinearity)
        for x_t in x:
            zs.append(x_t @ p["U"] + h[-1] @ p["W"] + p["b"])
            h.append(PHI[phi](zs[-1]))
        return {"z": np.stack(zs), "h": np.stack(h)}

    def backward(self, p: Arrays, other: Arrays, s: Arrays, direct: Array, on: On) -> tuple[Arrays, Carried]:
        """{"": δ (T, T, B, H)} for the errors direct = Vᵀ ε (T, B, H), and what is carried to h_0."""
        T, phi, W = len(direct), on.get("model", self.nonlinearity), p["W"]
        Ds = np.stack([slope(phi, s["z"][k], s["h"][k + 1], on.get("slope")) for k in range(T)])
        if on.get("slope") == "of h_{k-1}":
            Ds = SLOPE[phi](s["h"][:-1])
        delta, used, carry = np.zeros((T, *direct.shape)), np.zeros((T, *direct.shape)), np.zeros(direct.shape)
        history = []
        for k in steps(T, on):
            dh, later = into(carry, direct, k), np.arange(T) != k
            delta[:, k] = Ds[k] * dh  # δ_t→k = D_k (Vᵀ ε_k where t = k, else Wᵀ δ_t→k+1)
            if on.get("slope at k = t"):
                delta[k, k] = dh[k]
            match on.get("slope in the carry"):
                case "missing": delta[later, k] = dh[later]
                case "D_{k+1}": delta[later, k] = Ds[min(k + 1, T - 1)] * dh[later]
                case "D_t": delta[later, k] = Ds[later] * dh[later]
            match on.get("slope in the carry"):
                case "too late": carried = back(dh, W, other["W"], on)
                case "on the other side": carried = Ds[k] * back(dh, W, other["W"], on)
                case _: carried = back(delta[:, k], W, other["W"], on)
            used[:, k] = dh if on.get("slope in the uses") else delta[:, k]
            carry = carry + carried if on.get("carry") == "+=" else carried
            history.append(carry)
        history[-1] = {"δ_1": delta[:, 0], "with D_0": SLOPE[phi](s["h"][0]) * carry}.get(on.get("start", ""), carry)
        return {"": used}, {"h_0": history}

    def uses(self, on: On) -> Uses:
        return {"U": ("x", ""), "W": ("h", ""), "b": (None, "")}


@dataclass(frozen=True)
class LSTM:
    """f, i, o = σ(z_g), c̃ = tanh(z_c), c_t = f∘c_{t-1} + i∘c̃, h_t = o∘tanh(c_t) (4), and its BPTT (23)."""

    gates: tuple[str, ...] = ("f", "i", "o", "c")
    states: tuple[str, ...] = ("h", "c")

    def forward(self, p: Arrays, x: Array, on: On) -> Arrays:
        """The gates and their z (T, B, H), the candidate as "c̃"; h and c (T+1, B, H)."""
        found: dict[str, list[Array]] = {"h": [p["h_0"]], "c": [p["c_0"]]}
        for x_t in x:
            h, c = found["h"][-1], found["c"][-1]
            z = {g: x_t @ p[f"U_{g}"] + h @ p[f"W_{g}"] + p[f"b_{g}"] for g in self.gates}
            f, i, o, candidate = sigmoid(z["f"]), sigmoid(z["i"]), sigmoid(z["o"]), np.tanh(z["c"])
            c = f * c + i * candidate
            h = o * (c if on.get("model") == "o∘c" else np.tanh(c))
            for name, value in {"f": f, "i": i, "o": o, "c̃": candidate, "h": h, "c": c,
                                **{f"z_{g}": z_g for g, z_g in z.items()}}.items():
                found.setdefault(name, []).append(value)
        return {name: np.stack(values) for name, values in found.items()}

    def backward(self, p: Arrays, other: Arrays, s: Arrays, direct: Array, on: On) -> tuple[Arrays, Carried]:
        """{g: δz_g (T, T, B, H)}, and what is carried to h_0 and c_0."""
        T = len(direct)
        delta, used = ({g: np.zeros((T, *direct.shape)) for g in self.gates} for _ in range(2))
        carry, cell = np.zeros(direct.shape), np.zeros(direct.shape)
        history: Carried = {"h_0": [], "c_0": []}
        for k in steps(T, on):
            f, i, o, candidate = s["f"][k], s["i"][k], s["o"][k], s["c̃"][k]
            c, c_before = s["c"][k + 1], s["c"][k]
            if on.get("roles") == "f and i":
                f, i = i, f
            squashed, d_squashed = np.tanh(c), 1 - np.tanh(c) ** 2
            if on.get("model") == "o∘c":
                squashed, d_squashed = c, np.ones_like(c)
            match on.get("tanh c"):
                case "missing": d_squashed = np.ones_like(c)
                case "1-c²": d_squashed = 1 - c * c
                case "1-tanh c": d_squashed = 1 - np.tanh(c)
                case "c_{t-1}": d_squashed = 1 - np.tanh(c_before) ** 2
                case "1-h²": d_squashed = 1 - s["h"][k + 1] ** 2

            dh = into(np.zeros_like(carry) if on.get("gate paths") else carry, direct, k)
            dc = dh * d_squashed if on.get("o in δc") else dh * o * d_squashed  # δc = δh∘o∘(1 - tanh²c)
            match on.get("cell path"):  # … + δc_{k+1}∘f_{k+1}, which is what `cell` brings
                case "inside tanh'": dc = dc + cell * d_squashed
                case "f_t": dc = dc + cell * f
                case _: dc = dc + cell
            others = {"c_t": c, "c_{t-1}": c_before, "h": s["h"][k + 1], "f": f, "missing": np.ones_like(c)}
            d = {"o": dh * others.get(on.get("output", ""), squashed),
                 "f": dc * others.get(on.get("forget", ""), c_before),
                 "i": dc * others.get(on.get("input", ""), candidate),
                 "c": dc * others.get(on.get("candidate", ""), i)}
            for g in self.gates:  # δz_g = δg∘φ'(z_g)
                y, phi = (candidate, "tanh") if g == "c" else (s[g][k], "sigmoid")
                delta[g][:, k] = d[g] * gate_slope(s, k, g, phi, y, on.get(f"slope {g}", on.get("slope")))
                used[g][:, k] = d[g] if on.get("slope in the uses") else delta[g][:, k]
            carried = np.zeros_like(carry)
            for g in self.gates:  # Σ_g W_gᵀ δz_g
                if not on.get(f"path {g}") and on.get("only path", g) == g:
                    carried = carried + back(delta[g][:, k], p[f"W_{g}"], other[f"W_{g}"], on)
            carry = carry + carried if on.get("carry") == "+=" else carried
            match on.get("cell path"):
                case "missing": cell = np.zeros_like(dc)
                case "without f" | "f_t": cell = dc
                case "i": cell = dc * i
                case _: cell = dc * f
            history["h_0"].append(carry)
            history["c_0"].append(dc if on.get("start") else cell)
        return used, history

    def uses(self, on: On) -> Uses:
        return {name: use for g in self.gates
                for name, use in ((f"U_{g}", ("x", g)), (f"W_{g}", ("h", g)), (f"b_{g}", (None, g)))}


@dataclass(frozen=True)
class GRU:
    """r, and the update gate z or u; n; h_t = z∘h_{t-1} + (1-z)∘n, or u = 1 - z (5, 6); its BPTT is (24) transposed.

    δz_n = δh∘(1-z)∘(1-n²), δz_z = δh∘(h_{t-1}-n)∘z(1-z), and with the reset gate after the product, m = W_n h_{t-1} +
    b_hn: δm = δz_n∘r, δz_r = δz_n∘m∘r(1-r), dW_n = Σ δm h_{t-1}ᵀ; before it: δ(r∘h) = W_nᵀ δz_n,
    δz_r = δ(r∘h)∘h_{t-1}∘r(1-r), dW_n = Σ δz_n (r∘h_{t-1})ᵀ.
    """

    reset: str | None = "after"
    update: str = "z"
    states: tuple[str, ...] = ("h",)

    @property
    def gates(self) -> tuple[str, ...]:
        return (*(("r",) if self.reset else ()), self.update, "n")

    def placed(self, on: On) -> str | None:
        """Where the reset gate stands, as the forward pass has it."""
        return {"after": "before", "before": "after"}[self.reset or ""] if on.get("model") == "reset" else self.reset

    def weighs_old(self, on: On) -> bool:
        """Does the update gate weigh the old state?"""
        return (self.update == "z") != (on.get("model") == "update")

    def forward(self, p: Arrays, x: Array, on: On) -> Arrays:
        """r, n, the weight of the old state, m, and the z of the gates (T, B, H); h (T+1, B, H); rh = r∘h_{t-1}."""
        found: dict[str, list[Array]] = {"h": [p["h_0"]]}
        g, reset = self.update, self.placed(on)
        for x_t in x:
            h = found["h"][-1]
            z = {name: x_t @ p[f"U_{name}"] + h @ p[f"W_{name}"] + p[f"b_{name}"]
                 for name in self.gates if name != "n"}
            r = sigmoid(z["r"]) if reset else np.ones_like(h)
            m = h @ p["W_n"] + p["b_hn"]
            remembered = (r * h) @ p["W_n"] + p["b_hn"] if reset == "before" else r * m
            z["n"] = x_t @ p["U_n"] + p["b_n"] + remembered
            n, gate = np.tanh(z["n"]), sigmoid(z[g])
            old = gate if self.weighs_old(on) else 1 - gate
            for name, value in {"r": r, "n": n, g: gate, "old": old, "m": m, "rh": r * h,
                                "h": old * h + (1 - old) * n, **{f"z_{a}": z_a for a, z_a in z.items()}}.items():
                found.setdefault(name, []).append(value)
        return {name: np.stack(values) for name, values in found.items()}

    def backward(self, p: Arrays, other: Arrays, s: Arrays, direct: Array, on: On) -> tuple[Arrays, Carried]:
        """{g: δz_g (T, T, B, H)}, with "m" for δm, and what is carried to h_0."""
        T, g = len(direct), self.update
        reset = self.placed({"model": "reset"} if on.get("placement") else on)
        sign = 1.0 if self.weighs_old(on) else -1.0
        used = {name: np.zeros((T, *direct.shape)) for name in (*self.gates, "m")}
        carry, history = np.zeros(direct.shape), []
        for k in steps(T, on):
            r, n, old, h = s["r"][k], s["n"][k], s["old"][k], s["h"][k]
            new = 1 - old
            match on.get("mix"):
                case "exchanged": old, new = new, old
                case "exchanged in the direct path": old = new
                case "exchanged at the candidate": new = old

            def d(name: str, value: Array, k: int = k) -> Array:
                phi = "tanh" if name == "n" else "sigmoid"
                wrong = on.get(f"slope {name}", on.get("slope"))
                dz = value * gate_slope(s, k, name, phi, s[name][k], wrong)
                used[name][:, k] = value if on.get("slope in the uses") else dz
                return dz

            dh = into(carry, direct, k)
            direct_path = {"missing": np.zeros_like(dh), "without gate": dh}.get(on.get("direct", ""), dh * old)
            paths: Arrays = {"direct": direct_path}
            others = {"sign": n - h, "without h": -n, "without n": h, "h_k": s["h"][k + 1] - n}
            dz_g = d(g, sign * dh * others.get(on.get("update", ""), h - n))
            dz_n = d("n", dh if on.get("candidate") else dh * new)
            paths[g] = back(dz_g, p[f"W_{g}"], other[f"W_{g}"], on)
            through = back(dz_n, p["W_n"], other["W_n"], on)  # W_nᵀ δz_n
            if reset == "before":
                paths["n"] = through if on.get("reset in the carry") else through * r
                d_r = dz_n if on.get("reset's derivative") else through
                d_r = d_r * h
            elif reset == "after":
                used["m"][:, k] = used["n"][:, k] * r
                paths["n"] = through if on.get("reset in the carry") else back(dz_n * r, p["W_n"], other["W_n"], on)
                d_r = dz_n * {"h": h, "without b": s["m"][k] - p["b_hn"]}.get(on.get("reset's derivative", ""),
                                                                              s["m"][k])
            else:
                paths["n"] = through
            if reset:
                paths["r"] = back(d("r", d_r), p["W_r"], other["W_r"], on)
            only = on.get("only path")
            carried = sum((path for name, path in paths.items()
                           if not on.get(f"path {name}") and only in (None, name)), np.zeros(carry.shape))
            carry = carry + carried if on.get("carry") == "+=" else carried
            history.append(carry)
        return used, {"h_0": history}

    def uses(self, on: On) -> Uses:
        reset = self.placed({"model": "reset"} if on.get("placement") else on)
        found: Uses = {name: use for g in self.gates
                       for name, use in ((f"U_{g}", ("x", g)), (f"W_{g}", ("h", g)), (f"b_{g}", (None, g)))}
        if reset == "before" and not on.get("reset in dW_n"):
            found["W_n"] = ("rh", "n")
        if reset == "after" and not on.get("reset in dW_n"):
            found["W_n"] = ("h", "m")
        found["b_hn"] = (None, "m" if reset == "after" and not on.get("reset in dW_n") else "n")
        return found


NumPyCell = RNN | LSTM | GRU
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
            p |= {name: np.zeros_like(p[name]) for name in p if f"{name}{side}" in on.get("initial", ())}
            if on.get("without b"):
                p |= {name: np.zeros_like(array) for name, array in p.items() if name.startswith("b")}
            reading = on.get("reading") if side else "from the front"
            x = self.x if reading == "from the front" else self.x[::-1]
            found[side] = {"x": x, **self.cell.forward(p, x, on)}
            h = found[side]["h"][1:]
            q = q + (h if reading else h[::-1]) @ p["V"]  # the backward direction's, put in the order of time
        y_hat = np.exp(q - np.logaddexp.reduce(q, axis=-1, keepdims=True))
        return {**found, "ŷ": {"ŷ": y_hat}}

    def error(self, y_hat: Array, on: On) -> Array:
        """ε = ŷ - y (12)."""
        epsilon: Array = y_hat - self.y
        match on.get("error"):
            case "ŷ": epsilon = y_hat
            case "-y": epsilon = -self.y
            case "∘ŷ(1-ŷ)": epsilon = epsilon * y_hat * (1 - y_hat)
            case "softmax twice": epsilon = y_hat * (epsilon - (epsilon * y_hat).sum(-1, keepdims=True))
            case "without softmax": epsilon = -self.y / y_hat
        return epsilon

    def backward(self, s: dict[str, Arrays], on: On) -> dict[str, tuple[Array, Arrays, Carried]]:
        """Per direction, in its own order: ε (T, B, V), the δ by gate, and what is carried to the initial states."""
        found, errors = {}, self.weight * self.error(s["ŷ"]["ŷ"], on)
        for side in self.sides:
            p, other = self.of(side, on), self.of("'" if len(self.sides) == 2 and not side else "", on)
            epsilon = errors[::-1] if side and not (on.get("reading") or on.get("error order")) else errors
            match on.get("head"):
                case "V": direct = epsilon @ p["V"]
                case "missing": direct = epsilon
                case "other direction": direct = epsilon @ other["V"].T
                case _: direct = epsilon @ p["V"].T
            found[side] = (epsilon, *self.cell.backward(p, other, s[side], direct, on))
        return found

    def terms(self, names: list[str], on: On, forward: On, backward: On) -> Arrays:
        """{θ: what every use contributes, (K, *θ.shape)}, K = T, in the order of the direction; a state has K = 1.

        Their sum is the gradient. forward, backward: what of `on` lies in these passes, whose results are kept.
        """
        s = self.once(("forward", *sorted(forward.items())), lambda: self.forward(on))
        if on.get("stored"):
            s = {side: stored(states, on) for side, states in s.items()}
        back = self.once(("backward", *sorted({**forward, **backward}.items())), lambda: self.backward(s, on))
        T, uses = len(self.x), self.cell.uses(on)
        found, masked = {}, {}
        for name in names:
            source = renamed(name, on, len(self.sides) == 2)
            side, plain = "'" * source.endswith("'"), source.removesuffix("'")
            epsilon, delta, start = back[side]
            mask = mask_of(T, on, backwards=bool(side) and not (on.get("reading") or on.get("error order")))
            rows = rows_of(self.x.shape[1], on)
            if plain in ("V", "c"):
                epsilon = epsilon * mask[range(T), range(1, T + 1), None, None] * rows
                found[name] = epsilon.sum(1) if plain == "c" else outer(self.seen(s[side], side, on), epsilon)
            elif plain in start:
                loop = on["uses"][1] if on.get("uses", " ")[0] == "stops" else T  # how many steps it made
                grown = (mask[:, 0, None, None] * start[plain][loop - 1]).sum(0)
                found[name] = (grown.sum(0) if self.learned else grown)[None]
            else:
                read, product = uses[plain]
                if (side, product) not in masked:
                    by_loss = on.get("pairing") == "t"
                    masked[side, product] = (mask[:, 1:, None, None] * delta[product]).sum(1 if by_loss else 0) * rows
                d = masked[side, product]
                term = d.sum(1) if read is None else outer(self.read(read, s[side], side, on), d)
                found[name] = np.swapaxes(term, 1, 2) if on.get("turned") and plain.startswith("W") else term
        return found

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """The result of a pass; with at most one mistake it is kept, for most pairs have it in common."""
        if len(key) > 2:
            return make()
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def read(self, what: str, s: Arrays, side: str, on: On) -> Array:
        """What a matrix multiplied at every step: x_k, h_{k-1}, or r∘h_{k-1}."""
        if what == "x":
            match on.get("x"):
                case "x_{k-1}": return shifted(s["x"], 1)
                case "x_{k-1}, x_T": return np.roll(s["x"], 1, axis=0)
                case "x_{k+1}": return shifted(s["x"], -1)
                case "as it comes" if side: return s["x"][::-1]
                case _: return s["x"]
        if what == "rh":
            return s["r"] * s["h"][1:] if on.get("h") == "h_k" else s["rh"]
        match on.get("h"):
            case "h_k": return s["h"][1:]
            case "h_{k+1}": return shifted(s["h"][1:], -1)
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


def stored(s: Arrays, on: On) -> Arrays:
    """The states as the backward pass finds them: as the forward pass made them."""
    found = dict(s)
    for name in {"h", "c"} & set(s):
        found[name] = s[name].copy()
        match on["stored"]:
            case "s_T first": found[name][0] = s[name][-1]
            case "0 first": found[name][0] = 0
            case "s_T everywhere": found[name][:] = s[name][-1]
    if "rh" in s:
        found["rh"] = s["r"] * found["h"][:-1]
    return found


def outer(a: Array, b: Array) -> Array:
    """Σ a_k b_kᵀ over the rows of the batch, for every k."""
    product: Array = np.swapaxes(a, 1, 2) @ b
    return product


def shifted(x: Array, by: int) -> Array:
    """x_{k-by}, 0 where there is none."""
    y = np.roll(x, by, axis=0)
    y[range(by) if by > 0 else range(by, 0)] = 0
    return y


def renamed(name: str, on: On, both: bool) -> str:
    """Whose gradient stands under this name: its own."""
    if both and on.get("result") == "directions" and name != "c":
        return name.removesuffix("'") if name.endswith("'") else f"{name}'"
    if isinstance(gates := on.get("result"), tuple) and (plain := name.removesuffix("'"))[:2] in ("U_", "W_", "b_"):
        gate = plain[2:]
        a, b = gates
        return name.replace(f"_{gate}", f"_{ {a: b, b: a}.get(gate, gate)}")
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
