"""Floor 0: the BPTT of every cell written by hand in plain NumPy, with switches that put mistakes where they happen.

Without a switch these are the closed forms (22) to (24), with forward passes of their own; nothing is shared with the
engine. `on` maps a place to what is written there instead; the places are the calls `on.get(...)`, the mistakes stand
in the tables of `mistakes` and `cell_mistakes`.

All losses go back at once: δ[t, k] is δ_t→k, what the loss of step t sends to the step k. What an error is multiplied
with at a step depends on no other error, so it is made for all steps before the loop. Symbols: T steps, B batch,
D input, H hidden; rows, W (in, out); t and k count from 0 here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


PHI: dict[str, Callable[[Array], Array]] = {"tanh": np.tanh, "sigmoid": sigmoid, "relu": lambda z: np.maximum(z, 0)}
SLOPE: dict[str, Callable[[Array], Array]] = {
    "tanh": lambda y: 1 - y * y, "sigmoid": lambda y: y * (1 - y), "relu": lambda y: (y > 0).astype(float)}
FORMULAS: dict[str, Callable[[Array], Array]] = {
    **SLOPE, "missing": np.ones_like, "y": lambda y: y, "1-y": lambda y: 1 - y, "(1-y)²": lambda y: (1 - y) ** 2}


def slope(phi: str, z: Array, y: Array, wrong: str | None, elsewhere: Arrays | None = None) -> Array:
    """φ'(z) from y = φ(z); wrong: another formula of y, or the right one of something else, or of what is elsewhere."""
    right = SLOPE[phi]
    match wrong:
        case None: return right(y)
        case "again": return right(PHI[phi](y))
        case "of z": return right(z)
        case "missing at σ": return np.ones_like(y) if phi == "sigmoid" else right(y)
        case "twice": return right(y) ** 2
        case other if elsewhere and other in elsewhere: return right(elsewhere[other])
        case formula: return FORMULAS[formula](y)


def steps(T: int, on: On) -> range:
    """The order in which the errors go back: from the last step to the first."""
    return range(T) if on.get("order") == "forward" else range(T)[::-1]


def into(carry: Array, direct: Array, k: int) -> Array:
    """δh_k (T, B, H): what later steps carry back, and for the loss of step k itself Vᵀ ε_k."""
    dh = carry.copy()
    dh[k] += direct[k]
    return dh


def way_back(gate: str, p: Arrays, other: Arrays, on: On) -> Array:
    """What carries the errors of a gate on: Wᵀ, where nothing else stands there."""
    name = f"W_{gate}" if gate else "W"
    match on.get(f"matrix {gate}", on.get("matrix")):
        case None: return p[name].T
        case "W": return p[name]
        case "missing": return np.eye(len(p[name]))
        case "other direction": return other[name].T
        case gate_of_another: return p[f"W_{gate_of_another}"].T


def parameters(gates: tuple[str, ...]) -> Uses:
    return {name: use for g in gates
            for name, use in ((f"U_{g}", ("x", g)), (f"W_{g}", ("h", g)), (f"b_{g}", (None, g)))}


@dataclass(frozen=True)
class RNN:
    """h_t = φ(x_t U + h_{t-1} W + b) (1), and its BPTT (22)."""

    nonlinearity: str = "tanh"
    gates: tuple[str, ...] = ("",)
    products: tuple[str, ...] = ("",)
    states: tuple[str, ...] = ("h",)

    def forward(self, p: Arrays, x: Array, on: On) -> Arrays:
        """z (T, B, H) and h (T+1, B, H), h[0] = h_0."""
        h, zs, phi = [p["h_0"]], [], on.get("model", self.nonlinearity)
        for x_t in x:
            zs.append(x_t @ p["U"] + h[-1] @ p["W"] + p["b"])
            h.append(PHI[phi](zs[-1]))
        return {"z": np.stack(zs), "h": np.stack(h)}

    def backward(self, p: Arrays, other: Arrays, s: Arrays, direct: Array, later: Arrays,
                 on: On) -> tuple[Array, Carried]:
        """δ (T, T, B, 1, H) for the errors direct = Vᵀ ε (T, B, H), and what is carried to h_0.

        other: the arrays of the other direction; later: what comes from beyond the last step, which is 0.
        """
        T, phi, back = len(direct), on.get("model", self.nonlinearity), way_back("", p, other, on)
        elsewhere = {"h_{k-1}": s["h"][:-1], **({"other direction": other["h"]} if "h" in other else {})}
        Ds = slope(phi, s["z"], s["h"][1:], on.get("slope"), elsewhere)
        delta, used = (np.zeros((T, *direct.shape)) for _ in range(2))
        carry, history, in_carry = later["h_0"], [], on.get("slope in the carry")
        for k in steps(T, on):
            dh, later_losses = into(carry, direct, k), np.arange(T) != k
            delta[:, k] = Ds[k] * dh  # δ_t→k = D_k (Vᵀ ε_k where t = k, else Wᵀ δ_t→k+1)
            if on.get("slope at k = t"):
                delta[k, k] = dh[k]
            match in_carry:
                case "missing": delta[later_losses, k] = dh[later_losses]
                case "D_{k+1}": delta[later_losses, k] = Ds[min(k + 1, T - 1)] * dh[later_losses]
                case "D_t": delta[later_losses, k] = Ds[later_losses] * dh[later_losses]
            match in_carry:
                case "too late": carried = dh @ back
                case "on the other side": carried = Ds[k] * (dh @ back)
                case _: carried = delta[:, k] @ back
            used[:, k] = dh if on.get("slope in the uses") else delta[:, k]
            carry = carry + carried if on.get("carry") == "+=" else carried
            history.append(carry)
        history[-1] = {"δ_1": delta[:, 0], "with D_0": SLOPE[phi](s["h"][0]) * carry}.get(on.get("start", ""), carry)
        return used[:, :, :, None], {"h_0": history}

    def uses(self, on: On) -> Uses:
        return {"U": ("x", ""), "W": ("h", ""), "b": (None, "")}


@dataclass(frozen=True)
class LSTM:
    """f, i, o = σ(z_g), c̃ = tanh(z_c), c_t = f∘c_{t-1} + i∘c̃, h_t = o∘tanh(c_t) (4), and its BPTT (23).

    peepholes: z_f and z_i have p_f∘c_{t-1} and p_i∘c_{t-1} in them, z_o has p_o∘c_t. Then δz_o∘p_o belongs to δc_t,
    and δz_f∘p_f + δz_i∘p_i to δc_{t-1}; dp_f = Σ δz_f∘c_{t-1}, dp_i likewise, dp_o = Σ δz_o∘c_t.
    """

    peepholes: bool = False
    gates: tuple[str, ...] = ("f", "i", "o", "c")
    products: tuple[str, ...] = ("f", "i", "o", "c")
    states: tuple[str, ...] = ("h", "c")

    def forward(self, p: Arrays, x: Array, on: On) -> Arrays:
        """The gates and their z (T, B, H), the candidate as "c̃"; h and c (T+1, B, H)."""
        found: dict[str, list[Array]] = {"h": [p["h_0"]], "c": [p["c_0"]]}
        looking = self.peepholes and not on.get("without peepholes")
        for x_t in x:
            h, c = found["h"][-1], found["c"][-1]
            z = {g: x_t @ p[f"U_{g}"] + h @ p[f"W_{g}"] + p[f"b_{g}"] for g in self.gates}
            if looking:
                z |= {g: z[g] + p[f"p_{g}"] * c for g in "fi"}
            f, i, candidate = sigmoid(z["f"]), sigmoid(z["i"]), np.tanh(z["c"])
            before, c = c, f * c + i * candidate
            if looking:
                z["o"] = z["o"] + p["p_o"] * (before if on.get("model") == "o sees c_{t-1}" else c)
            o = sigmoid(z["o"])
            h = o * (c if on.get("model") == "o∘c" else np.tanh(c))
            for name, value in {"f": f, "i": i, "o": o, "c̃": candidate, "h": h, "c": c,
                                **{f"z_{g}": z_g for g, z_g in z.items()}}.items():
                found.setdefault(name, []).append(value)
        return {name: np.stack(values) for name, values in found.items()}

    def backward(self, p: Arrays, other: Arrays, s: Arrays, direct: Array, later: Arrays,
                 on: On) -> tuple[Array, Carried]:
        """δz_g (T, T, B, 4, H), and what is carried to h_0 and c_0. The rest is as in `RNN.backward`."""
        T, B, H = direct.shape
        f, i, o, candidate = s["f"], s["i"], s["o"], s["c̃"]
        c, c_before, h, one = s["c"][1:], s["c"][:-1], s["h"][1:], np.ones_like(s["f"])
        if on.get("roles") == "f and i":
            f, i = i, f
        without_tanh = on.get("model") == "o∘c"
        squashed = c if without_tanh else np.tanh(c)
        d_squashed = one if without_tanh else 1 - squashed ** 2
        match on.get("tanh c"):
            case "missing": d_squashed = one
            case "1-c²": d_squashed = 1 - c * c
            case "1-tanh c": d_squashed = 1 - np.tanh(c)
            case "c_{t-1}": d_squashed = 1 - np.tanh(c_before) ** 2
            case "1-h²": d_squashed = 1 - h * h
        others = {"c_t": c, "c_{t-1}": c_before, "c̃": candidate, "h": h, "f": f, "missing": one}
        factors = {"f": others.get(on.get("forget", ""), c_before), "i": others.get(on.get("input", ""), candidate),
                   "o": others.get(on.get("output", ""), squashed), "c": others.get(on.get("candidate", ""), i)}
        to_gate = np.stack([factors[g] for g in self.gates], 2)
        to_z = to_gate * np.stack([self.slope(s, g, on) for g in self.gates], 2)  # δz_g = δc∘factor∘φ', for o of δh
        to_c = (one if on.get("o in δc") else o) * d_squashed

        kept = [g for g in self.gates if not on.get(f"path {g}") and on.get("only path", g) == g]
        back = np.concatenate([way_back(g, p, other, on) * (g in kept) for g in self.gates])
        peeping = {g: on.get(f"peephole {g}", "") for g in "fio"} if self.peepholes else {}
        delta = np.zeros((T, *direct.shape[:2], 4, H))
        used = np.zeros(delta.shape) if on.get("slope in the uses") else delta
        carry, cell = later["h_0"], later["c_0"]
        history: Carried = {"h_0": [], "c_0": []}

        def sent(dh: Array, dc: Array, own: Array, factors: Array) -> Array:
            """The errors of the gates (T, B, 4, H): o has its own from h_t, the others from c_t."""
            d: Array = dc[:, :, None] * factors
            d[:, :, 2] = dh * factors[:, 2]
            if g := on.get("only h at"):
                d[:, :, self.gates.index(g)] = own * factors[:, self.gates.index(g)]
            return d

        for k in steps(T, on):
            dh = into(np.zeros_like(carry) if on.get("gate paths") else carry, direct, k)
            own = dh * to_c[k]  # δc = δh∘o∘(1 - tanh²c)
            if peeping.get("o") == "":
                own = own + dh * to_z[k, :, 2] * p["p_o"]
            match on.get("cell path"):  # … + δc_{k+1}∘f_{k+1}, which is what `cell` brings
                case "inside tanh'": dc = own + cell * d_squashed[k]
                case "f_t": dc = own + cell * f[k]
                case _: dc = own + cell
            dz = delta[:, k] = sent(dh, dc, own, to_z[k])
            if used is not delta:
                used[:, k] = sent(dh, dc, own, to_gate[k])
            carried = (dz.reshape(T * B, 4 * H) @ back).reshape(T, B, H)  # Σ_g W_gᵀ δz_g
            carry = carry + carried if on.get("carry") == "+=" else carried
            match on.get("cell path"):
                case "missing": cell = np.zeros_like(dc)
                case "without f" | "f_t": cell = dc
                case "i": cell = dc * i[k]
                case _: cell = dc * f[k]
            for at, g in enumerate("fio"):
                if peeping.get(g) == ("c_{t-1}" if g == "o" else ""):
                    cell = cell + dz[:, :, at] * p[f"p_{g}"]
            history["h_0"].append(carry)
            history["c_0"].append(dc if on.get("start") else cell)
        return used, history

    def slope(self, s: Arrays, g: str, on: On) -> Array:
        y, phi = (s["c̃"], "tanh") if g == "c" else (s[g], "sigmoid")
        gates = {f"gate {name}": s[name] for name in "fio"}
        return slope(phi, s[f"z_{g}"], y, on.get(f"slope {g}", on.get("slope")), gates)

    def uses(self, on: On) -> Uses:
        found = parameters(self.gates)
        if self.peepholes:
            found |= {"p_f": ("c_{k-1}", "f"), "p_i": ("c_{k-1}", "i"), "p_o": ("c_k", "o")}
        return found


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

    @property
    def products(self) -> tuple[str, ...]:
        return (*self.gates, "m")

    def placed(self, on: On) -> str | None:
        """Where the reset gate stands, as the forward pass has it."""
        return {"after": "before", "before": "after"}[self.reset or ""] if on.get("model") == "reset" else self.reset

    def weighs_old(self, on: On) -> bool:
        """Does the update gate weigh the old state?"""
        return (self.update == "z") != (on.get("model") == "update")

    def forward(self, p: Arrays, x: Array, on: On) -> Arrays:
        """r, n, the update gate, m, and the z of the gates (T, B, H); h (T+1, B, H); rh = r∘h_{t-1}."""
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
            for name, value in {"r": r, "n": n, g: gate, "m": m, "rh": r * h,
                                "h": old * h + (1 - old) * n, **{f"z_{a}": z_a for a, z_a in z.items()}}.items():
                found.setdefault(name, []).append(value)
        return {name: np.stack(values) for name, values in found.items()}

    def backward(self, p: Arrays, other: Arrays, s: Arrays, direct: Array, later: Arrays,
                 on: On) -> tuple[Array, Carried]:
        """δz_g of the gates, and δm last (T, T, B, G+1, H), and what is carried to h_0. See `RNN.backward`."""
        T, g = len(direct), self.update
        reset = self.placed({"model": "reset"} if on.get("placement") else on)
        r, n, h, gate, m = s["r"], s["n"], s["h"][:-1], s[g], s["m"]
        old = gate if self.weighs_old(on) else 1 - gate
        new = 1 - old
        match on.get("mix"):
            case "exchanged": old, new = new, old
            case "exchanged in the direct path": old = new
            case "exchanged at the candidate": new = old
        others = {"sign": n - h, "without h": -n, "without n": h, "h_k": s["h"][1:] - n}
        to_gate = others.get(on.get("update", ""), h - n) * (1 if self.weighs_old(on) else -1)
        to_n = np.ones_like(n) if on.get("candidate") else new
        slopes = {name: self.slope(s, name, on) for name in self.gates}
        back = {name: way_back(name, p, other, on) for name in self.gates}
        to_r = h if reset == "before" else m
        match on.get("reset's derivative"):
            case "h": to_r = h
            case "without b": to_r = m - p["b_hn"]
            case "h_k": to_r = s["h"][1:] if reset == "before" else s["h"][1:] @ p["W_n"] + p["b_hn"]

        used = np.zeros((T, *direct.shape[:2], len(self.products), direct.shape[2]))
        carry, history = later["h_0"], []
        for k in steps(T, on):
            dh = into(carry, direct, k)
            d, dz = {}, {}
            d[g], d["n"] = dh * to_gate[k], dh * to_n[k]
            dz[g], dz["n"] = d[g] * slopes[g][k], d["n"] * slopes["n"][k]
            paths = {"direct": {"missing": 0 * dh, "without gate": dh}.get(on.get("direct", ""), dh * old[k]),
                     g: dz[g] @ back[g]}
            through = dz["n"] @ back["n"]  # W_nᵀ δz_n
            dm = dz["n"] * r[k]
            paths["n"] = through if on.get("reset in the carry") or not reset else \
                through * r[k] if reset == "before" else dm @ back["n"]
            if reset:
                skips = reset == "after" or on.get("reset's derivative") == "without W"
                d["r"] = (dz["n"] if skips else through) * to_r[k]
                dz["r"] = d["r"] * slopes["r"][k]
                paths["r"] = dz["r"] @ back["r"]
            for at, name in enumerate(self.gates):
                used[:, k, :, at] = d[name] if on.get("slope in the uses") else dz[name]
            used[:, k, :, -1] = used[:, k, :, -2] * r[k]  # n is the last of the gates
            only = on.get("only path")
            carried = sum((path for name, path in paths.items()
                           if not on.get(f"path {name}") and only in (None, name)), np.zeros(carry.shape))
            carry = carry + carried if on.get("carry") == "+=" else carried
            history.append(carry)
        return used, {"h_0": history}

    def slope(self, s: Arrays, g: str, on: On) -> Array:
        phi = "tanh" if g == "n" else "sigmoid"
        gates = {f"gate {name}": s[name] for name in self.gates}
        return slope(phi, s[f"z_{g}"], s[g], on.get(f"slope {g}", on.get("slope")), gates)

    def uses(self, on: On) -> Uses:
        reset = self.placed({"model": "reset"} if on.get("placement") else on)
        found = parameters(self.gates)
        product = "m" if reset == "after" and not on.get("reset in dW_n") else "n"
        found["W_n"] = ("rh", "n") if reset == "before" and not on.get("reset in dW_n") else ("h", product)
        found["b_hn"] = (None, product)
        return found


NumPyCell = RNN | LSTM | GRU
