"""Floor 8: the verb that shows what is left of a state many steps later: vanish."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from ..bptt.jacobian import Decay, bounds, decay, parts_of, prove_decay, shown_lags
from ..bptt.proof import EXACT, VANISHED, Witness, witness
from ..bptt.tables import paragraph, table
from ..ops import Array
from ..text import Vocabulary, language_reference
from ..trace import trace
from .common import Adder, at_least, listing, say

MODELS: dict[str, tuple[type[nn.Cell], dict[str, Any]]] = {
    "RNN tanh": (nn.RNNCell, {}), "RNN sigmoid": (nn.RNNCell, {"nonlinearity": "sigmoid"}),
    **{f"LSTM b_f={bias}": (nn.LSTMCell, {"forget_bias": float(bias)}) for bias in (0, 1, 3, 5)},
    "GRU": (nn.GRUCell, {}),
}
GATES = {nn.LSTMCell: ("c", "f"), nn.GRUCell: ("h", "z")}  # what of the state keeps itself, and by which gate
SMALL = 1e-3


@dataclass(frozen=True)
class Measured:
    """Norms by lag, [0] is lag 1: of the whole Jacobian, and beside it of its bounds or its direct path."""

    norms: Array
    beside: dict[str, Array]
    witnesses: list[Witness]


def verbs(add: Adder) -> None:
    added = add("vanish", vanish, "What is left of a state many steps later: ‖∂s_T/∂s_k‖ against T - k, for all cells.",
                "tinygrad-rnn vanish --steps 100 --hidden 32", files=True)
    added.add_argument("--steps", type=at_least(2), default=60, help="characters to read (default 60)")
    added.add_argument("--hidden", type=at_least(1), default=32, help="hidden units (default 32)")


def vanish(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    text, T = language_reference().partition("\n\n")[2], options.steps  # the first line is a title
    if len(text) < T:
        raise ValueError(f"--steps {T}: the text has {len(text):,} characters")
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text[:T])[:, None]
    found = {}
    for name in MODELS:
        print(f"  {name} …", file=sys.stderr, flush=True)
        found[name] = measured(name, ids, len(vocabulary), options)
    good = all(w for m in found.values() for w in m.witnesses)
    words = seen(found)
    report(options, text[:T], found)
    say(options, *(f"{paragraph(line)}\n" for line in words), witnesses_table(found))
    files = plotted(options, found)
    if files:
        listing(options, files)
    return {"steps": T, "hidden": options.hidden, "proved": good, "seen": words,
            "models": {name: as_data(m) for name, m in found.items()}, "files": files}, good


def measured(name: str, ids: Array, D: int, options: argparse.Namespace) -> Measured:
    """One cell on the sequence ids (T, 1): its Jacobians for all lags, and their witnesses."""
    kind, settings = MODELS[name]
    cell = kind(D, options.hidden, rng=np.random.default_rng(options.seed), **settings)
    hs, last = nn.unroll(cell, ids)
    d = decay(last)
    norms, witnesses = d.norms[:, 0], prove_decay(d)
    if isinstance(cell, nn.RNNCell):
        tight, loose = bounds(cell.W.data, np.stack([h.data for h in hs]), cell.nonlinearity)
        tight = tight[:, 0]
        over = max(over_bound(norms, tight), over_bound(tight, loose))
        witnesses.append(Witness("every lag", "‖·‖ ≤ Π‖D_j W‖ ≤ (γλ)^lag (21)", "forward pass", over, EXACT))
        return Measured(norms, {"Π‖D_j W‖": tight, "(γλ)^lag": loose}, witnesses)
    part, gate = GATES[kind]
    witnesses.append(gates_witness(d, last, part, gate))
    return Measured(norms, {"direct path": d.direct_norms[:, 0]}, witnesses)


def over_bound(norms: Array, bound: Array) -> float:
    """By how much, relatively, norms exceed their bound at the most; 0 if nowhere."""
    told = norms >= VANISHED
    return max(0.0, float((norms[told] / bound[told]).max(initial=0.0)) - 1)


def gates_witness(d: Decay, last: Any, part: str, gate: str) -> Witness:
    """The direct path against the product of the gates, as a trace of the run gives them: diag Π f, diag Π z."""
    parts = parts_of(last)
    gates = trace(parts[0])[gate]
    products = np.cumprod([gates[t][0] for t in sorted(gates, reverse=True)], axis=0)
    kept = np.repeat([x.name == part for x in parts], [x.shape[1] for x in parts])
    expected = np.zeros(d.direct[:, 0].shape)
    expected[:, np.flatnonzero(kept), np.flatnonzero(kept)] = products
    found = [witness("direct, every lag", f"product of the gates {gate}", "forward pass, scopes", *pair)
             for pair in zip(d.direct[:, 0], expected)]
    return max(found, key=lambda w: (np.isnan(w.error), w.error))


def report(options: argparse.Namespace, text: str, found: dict[str, Measured]) -> None:
    """The norms by lag, as tables."""
    lags = shown_lags(len(text))
    bounded: dict[str, Array] = {}
    direct: dict[str, Array] = {}
    for name, m in found.items():
        if "direct path" in m.beside:
            direct[name] = m.beside["direct path"]
        else:
            bounded |= {f"{name} {kind}".rstrip(): a for kind, a in {"": m.norms, **m.beside}.items()}
    say(options, f"Untrained cells of {options.hidden} units read the same {len(text)} characters: {text[:40]!r}"
                 f"{' …' * (len(text) > 40)}", "",
        "‖∂s_T/∂s_k‖, the largest singular value, by lag T - k", "",
        lag_table({name: m.norms for name, m in found.items()}, lags), "",
        paragraph("s is h, or [h; c] of an LSTM, whose forget gates start from the bias b_f. A number says how large a "
                  "change of size 1 in s_k can still be in s_T, T - k steps later; and how large a gradient of size 1 "
                  "at s_T can still be at s_k."), "",
        "The bounds (21): ‖·‖ ≤ Π‖D_j W‖ ≤ (γλ)^lag, γ = sup|φ'|, λ the largest singular value of W", "",
        lag_table(bounded, lags), "",
        "The direct path alone, the largest product of forget gates, or of a GRU's z", "", lag_table(direct, lags), "",
        paragraph("On it a state is only multiplied by gates; the rest goes through gates and candidates."), "")


def lag_table(columns: dict[str, Array], lags: list[int]) -> str:
    return table(["lag", *columns], [[str(lag), *(f"{a[lag - 1]:.2g}" for a in columns.values())] for lag in lags])


def seen(found: dict[str, Measured]) -> list[str]:
    """What the numbers say, in words."""
    T = len(next(iter(found.values())).norms)
    ends = {name: float(m.norms[-1]) for name, m in found.items()}
    most, least = max(ends, key=ends.__getitem__), min(ends, key=ends.__getitem__)
    lost = [f"{name} at lag {np.argmax(m.norms < SMALL) + 1}" if (m.norms < SMALL).any() else f"{name} never"
            for name, m in found.items()]
    shares = [f"{m.beside['direct path'][-1]:.2g} of {ends[name]:.2g} in {name}" for name, m in found.items()
              if "direct path" in m.beside]
    return [f"Over {T} steps the norm ends at {ends[most]:.2g} in {most} and at {ends[least]:.2g} in {least}. It first "
            f"falls below {SMALL:g}: {', '.join(lost)}.",
            f"Along the direct path alone arrives {', '.join(shares)}: a product of gates vanishes too, unless they "
            "are open; what a norm is above it has come through gates and candidates."]


def witnesses_table(found: dict[str, Measured]) -> str:
    rows = [[name, w.part, w.route, w.shares, f"{w.error:.1e}", f"{w.tolerance:.0e}", "agrees" if w else "DISAGREES"]
            for name, m in found.items() for w in m.witnesses]
    verdict = "proved" if all(row[-1] == "agrees" for row in rows) else "NOT PROVED"
    return f"∂s_T/∂s_k: {verdict} by {len(rows)} witnesses\n\n" + table(
        ["cell", "part", "route", "shares with the engine", "error", "allowed", ""], rows, left=(0, 1, 2, 3, 6))


def as_data(m: Measured) -> dict[str, Any]:
    """Norms as lists; what is not finite, as a bound beyond the range of floats, as null."""
    def numbers(a: Array) -> list[float | None]:
        return [float(x) if np.isfinite(x) else None for x in a]

    return {"norms": numbers(m.norms), **{symbol: numbers(a) for symbol, a in m.beside.items()},
            "witnesses": [{"part": w.part, "route": w.route, "shares": w.shares, "error": w.error, "agrees": bool(w)}
                          for w in m.witnesses]}


def plotted(options: argparse.Namespace, found: dict[str, Measured]) -> list[str]:
    """The plot of all norms against the lag, where matplotlib is there."""
    from viz import plots

    try:
        figure = plots.decay_curves({name: m.norms for name, m in found.items()},
                                    {name: m.beside for name, m in found.items()})
    except ImportError as error:
        say(options, "", f"No plot, only the tables: {error}")
        return []
    options.out.mkdir(parents=True, exist_ok=True)
    return [str(plots.save(figure, options.out / "vanish.svg"))]
