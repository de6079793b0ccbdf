"""The doctor: every mistake is named, none is taken for another, and what a case cannot tell is said.

The wrong BPTTs at the top are written out here, step by step, and share nothing with the doctor's own. The sweeps over
its whole table check that a variant is recognised as itself and as nothing else.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinygrad_rnn import Tensor, nn, ops
from tinygrad_rnn.cli import doctor as verb
from tinygrad_rnn.cli import main
from tinygrad_rnn.doctor import Case, Diagnosis, diagnose, mistakes, template
from tinygrad_rnn.doctor.mistakes import Mistake, terms

Arrays = dict[str, np.ndarray]
LAYERS: dict[str, tuple[type, dict[str, Any]]] = {
    "rnn": (nn.RNN, {}), "rnn sigmoid": (nn.RNN, {"nonlinearity": "sigmoid"}),
    "rnn relu": (nn.RNN, {"nonlinearity": "relu"}), "lstm": (nn.LSTM, {}),
    "lstm peepholes": (nn.LSTM, {"peepholes": True}),
    "gru": (nn.GRU, {}), "gru before u": (nn.GRU, {"reset": "before", "update": "u"}),
    "gru of S2": (nn.GRU, {"reset": None, "update": "u"}), "birnn": (nn.RNN, {"bidirectional": True}),
    "bilstm": (nn.LSTM, {"bidirectional": True})}


def case_of(label: str, seed: int = 0, T: int = 5, B: int = 2, D: int = 3, H: int = 4, V: int = 6,
            **options: Any) -> Case:
    """A case that tells mistakes apart: weights of some size, h_0 not 0, B, D, H, V all different."""
    kind, settings = LAYERS[label]
    rng = np.random.default_rng(seed)
    layer = kind(D, H, rng=rng, **settings)
    K = len(layer.cells)
    head = nn.Linear(K * H, V, rng=rng)
    for parameter in (*layer.parameters(), *head.parameters()):
        parameter.data = rng.normal(size=parameter.shape) * 0.6
    state = tuple(rng.normal(size=(K, B, H)) for _ in layer.cells["l0"].states)
    return Case(layer, head, rng.normal(size=(T, B, D)), rng.integers(0, V, (T, B)),
                state if len(state) > 1 else state[0], **options)


def names_of(diagnosis: Diagnosis, name: str) -> list[tuple[str, ...]]:
    return [match.names for match in diagnosis[name].matches]


def wrong(case: Case, *those: Mistake) -> Arrays:
    return {name: term.sum(0) for name, term in terms(case.model, case.names, those).items()}


def called(case: Case, *names: str) -> tuple[Mistake, ...]:
    known = {mistake.name: mistake for mistake in mistakes(case.model)}
    return tuple(known[name] for name in names)


# ------------------------------------------------------------------------------------- hand-written, right and wrong
def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def softmax(q: Any) -> Any:
    return np.exp(q) / np.exp(q).sum(-1, keepdims=True)


def one_loop(a: Arrays, bug: str = "", chunk: int = 99, last: int = 99) -> Arrays:
    """An RNN, one loop back with a carry, cut every `chunk` steps; it ends after `last` steps."""
    x, y, U, W, b, V, c = (a[name] for name in ("x", "y", "U", "W", "b", "V", "c"))
    h = [a["h_0"]]
    for x_t in x:
        h.append(np.tanh(x_t @ U + h[-1] @ W + b))
    d = {name: np.zeros_like(a[name]) for name in ("U", "W", "b", "V", "c")}
    carry = np.zeros_like(h[0])
    for t in range(len(x), 0, -1):
        if len(x) - t == last:
            break
        y_hat = softmax(h[t] @ V + c)
        e = {"y not subtracted": y_hat, "ŷ left out of ŷ - y": -y[t - 1],
             "ŷ(1-ŷ) besides ŷ - y": (y_hat - y[t - 1]) * y_hat * (1 - y_hat),
             "softmax's Jacobian left out": -y[t - 1] / y_hat}.get(bug, y_hat - y[t - 1])
        if (bug == "only the last loss" and t < len(x)) or (bug == "the last loss left out" and t == len(x)):
            e = 0 * e
        dh = e @ V.T + carry
        D = {"(1-h)² for φ'": (1 - h[t]) ** 2, "φ' taken of h, not of z": 1 - np.tanh(h[t]) ** 2,
             "φ' missing": 1, "φ' applied twice": (1 - h[t] ** 2) ** 2, "φ' of the step before": 1 - h[t - 1] ** 2,
             "1-h for φ'": 1 - h[t], "sigmoid' for tanh'": h[t] * (1 - h[t])}.get(bug, 1 - h[t] ** 2)
        delta = D * (e @ V.T) + carry if bug == "φ' missing in the carry" else D * dh
        if bug == "φ' missing at k = t":
            delta = e @ V.T + D * carry
        d["V"] += h[t - 1 if bug == "h_{t-1} where h_t is meant, at V" else t].T @ e
        d["c"] += e.sum(0)
        before = h[t if bug == "h_k where h_{k-1} is meant" else t - 1]
        if t == 1:
            before = {"s_0 read as s_T: index -1": h[-1],
                      "s_0 taken as 0 in the backward pass": 0 * before}.get(bug, before)
        if bug == "only the first row of the batch":
            new = {"U": np.outer(x[t - 1][0], delta[0]), "b": delta[0], "W": np.outer(before[0], delta[0])}
        else:
            used = dh if bug == "φ' missing in the products, not in the carry" else delta
            seen = x[t - 2 if bug == "x_{k-1} where x_k is meant, x_T at step 1" else t - 1]
            new = {"U": seen.T @ used, "b": used.sum(0), "W": before.T @ used}
        for name, value in new.items():
            d[name] = value if bug == "overwritten in the loop: = for +=" else d[name] + value
        carry = {"W where Wᵀ is meant, in the carry": delta @ W, "only the explicit term": 0 * delta,
                 "the carry taken before φ'": dh @ W.T,
                 "W left out of the carry": delta, "D on the other side of Wᵀ in the carry": D * (dh @ W.T),
                 "carry added up: += for =": carry + delta @ W.T}.get(bug, delta @ W.T)
        if t > 1 and (t - 1) % chunk == 0:
            carry = 0 * carry
    start = {"h_0 gets δ_1 without Wᵀ": delta, "D_0 at h_0": carry * (1 - h[0] ** 2),
             "the initial state gets nothing": 0 * carry}.get(bug, carry)
    return {**d, "h_0": start}


def two_loops(a: Arrays, steps: int = 99, bug: str = "") -> Arrays:
    """An RNN, for every loss a loop back of at most so many steps."""
    x, y, U, W, b, V, c = (a[name] for name in ("x", "y", "U", "W", "b", "V", "c"))
    h = [a["h_0"]]
    for x_t in x:
        h.append(np.tanh(x_t @ U + h[-1] @ W + b))
    d = {name: np.zeros_like(a[name]) for name in ("U", "W", "b", "V", "c")}
    for t in range(1, len(x) + 1):
        e = softmax(h[t] @ V + c) - y[t - 1]
        d["V"] += h[t].T @ e
        d["c"] += e.sum(0)
        delta = (e @ V.T) * (1 - h[t] ** 2)
        for k in range(t, max(0, t - steps), -1):
            at = t if bug == "indices of the loss's step t, not of the use's step k" else k
            d["U"] += x[at - 1].T @ delta
            d["W"] += h[at - 1].T @ delta
            if bug != "bias in the outer loop" or k == t:
                d["b"] += delta.sum(0)
            D = {"D_t for D_{k-1} in the carry": h[t], "D_k for D_{k-1} in the carry": h[k]}.get(bug, h[k - 1])
            delta = (delta @ W.T) * (1 - D**2)
    return d


def lstm(a: Arrays, bug: str = "") -> Arrays:
    x, y, V = a["x"], a["y"], a["V"]
    h, c, gates = [a["h_0"]], [a["c_0"]], []
    for x_t in x:
        z = {g: x_t @ a[f"U_{g}"] + h[-1] @ a[f"W_{g}"] + a[f"b_{g}"] for g in "fioc"}
        f, i, o, n = sigmoid(z["f"]), sigmoid(z["i"]), sigmoid(z["o"]), np.tanh(z["c"])
        c.append(f * c[-1] + i * n)
        h.append(o * np.tanh(c[-1]))
        gates.append((f, i, o, n))
    d = {name: np.zeros_like(a[name]) for name in a if name not in ("x", "y", "h_0", "c_0")}
    dh_next, dc_next = np.zeros_like(h[0]), np.zeros_like(h[0])
    for t in range(len(x), 0, -1):
        f, i, o, n = gates[t - 1]
        e = softmax(h[t] @ V + a["c"]) - y[t - 1]
        d["V"] += h[t].T @ e
        d["c"] += e.sum(0)
        dh = e @ V.T + (0 if bug == "gate paths missing" else dh_next)
        D = {"tanh' of c missing": 1, "1-c² for tanh' of c": 1 - c[t] ** 2, "1-h² for tanh' of c": 1 - h[t] ** 2,
             "1-tanh(c) for tanh' of c": 1 - np.tanh(c[t]),
             "tanh' of c_{t-1} for that of c_t": 1 - np.tanh(c[t - 1]) ** 2}.get(bug, 1 - np.tanh(c[t]) ** 2)
        if bug == "i and f exchanged in the equations":
            f, i = i, f
        dc = dh * (1 if bug == "o missing in δc" else o) * D + dc_next
        if bug == "the cell's carry sent through tanh'":
            dc = (dh * o + dc_next) * D
        d_gate = {
            "f": dc * {"c_t for c_{t-1} in δz_f": c[t], "c_{t-1} missing in δz_f": 1}.get(bug, c[t - 1]),
            "i": dc * {"c̃ missing in δz_i": 1, "c_t for c̃ in δz_i": c[t]}.get(bug, n),
            "o": dh * {"c for tanh(c) in δz_o": c[t], "h for tanh(c) in δz_o": h[t]}.get(bug, np.tanh(c[t])),
            "c": dc * {"i missing in δz_c": 1, "f for i in δz_c": f}.get(bug, i)}
        f, i = gates[t - 1][:2]
        slopes = {"f": f * (1 - f), "i": i * (1 - i), "o": o * (1 - o), "c": 1 - n**2}
        if bug == "o: φ' missing":
            slopes["o"] = 1
        if bug == "i: tanh' for sigmoid'":
            slopes["i"] = 1 - i**2
        if bug == "c: sigmoid' for tanh'":
            slopes["c"] = n * (1 - n)
        if bug == "σ' missing at every gate":
            slopes |= {"f": 1, "i": 1, "o": 1}
        dz = {g: d_gate[g] * slopes[g] for g in "fioc"}
        for g in "fioc":
            d[f"U_{g}"] += x[t - 1].T @ dz[g]
            d[f"W_{g}"] += h[t - 1].T @ dz[g]
            d[f"b_{g}"] += dz[g].sum(0)
        dh_next = sum(dz[g] @ a[f"W_{g}"].T for g in "fioc"
                      if (bug != "path through o missing in the carry" or g != "o")
                      and (bug != "only the path through f in the carry" or g == "f"))
        last = gates[t - 2][0] if t > 1 else 1
        dc_next = {"direct path of the cell missing": 0 * dc, "f left out of the direct path": dc,
                   "i where f is meant in the direct path": dc * i, "i and f exchanged in the equations": dc * i,
                   "f_t where f_{t+1} is meant": dc * last}.get(bug, dc * f)
    if bug == "gates f and i exchanged":
        d |= {f"{p}_{g}": d[f"{p}_{other}"] for p in "UWb" for g, other in (("f", "i"), ("i", "f"))}
    return {**d, "h_0": dh_next, "c_0": dc_next}


def gru(a: Arrays, bug: str = "") -> Arrays:
    """Reset gate after the product; z weighs the old state."""
    x, y, V = a["x"], a["y"], a["V"]
    h, kept = [a["h_0"]], []
    for x_t in x:
        r, z = (sigmoid(x_t @ a[f"U_{g}"] + h[-1] @ a[f"W_{g}"] + a[f"b_{g}"]) for g in "rz")
        m = h[-1] @ a["W_n"] + a["b_hn"]
        n = np.tanh(x_t @ a["U_n"] + a["b_n"] + r * m)
        old, new = (1 - z, z) if bug == "the other convention of the update gate" else (z, 1 - z)
        h.append(new * n + old * h[-1])
        kept.append((r, z, m, n))
    d = {name: np.zeros_like(a[name]) for name in a if name not in ("x", "y", "h_0")}
    carry = np.zeros_like(h[0])
    for t in range(len(x), 0, -1):
        r, z, m, n = kept[t - 1]
        before = h[t - 1]
        e = softmax(h[t] @ V + a["c"]) - y[t - 1]
        d["V"] += h[t].T @ e
        d["c"] += e.sum(0)
        dh = e @ V.T + carry
        turned = bug == "the other convention of the update gate"
        old, new = (1 - z, z) if turned or bug == "z and 1-z exchanged" else (z, 1 - z)
        dn = dh * new * (1 - n**2)
        dz = dh * ((n - before) if turned or bug == "sign of δz_z" else (before - n)) * z * (1 - z)
        dr = dn * m * r * (1 - r)
        for g, value in (("n", dn), ("z", dz), ("r", dr)):
            d[f"U_{g}"] += x[t - 1].T @ value
            d[f"b_{g}"] += value.sum(0)
        dm = dn if bug == "reset gate ignored in W_n's gradient" else dn * r
        d["W_n"] += before.T @ dm
        d["b_hn"] += dm.sum(0)
        d["W_z"] += before.T @ dz
        d["W_r"] += before.T @ dr
        through = (dn if bug == "reset gate ignored in the carry" else dn * r) @ a["W_n"].T
        carry = (0 if bug == "direct path of the state missing" else dh * old) + through + dr @ a["W_r"].T
        if bug != "path through z missing in the carry":
            carry = carry + dz @ a["W_z"].T
    return {**d, "h_0": carry}


def birnn(a: Arrays, bug: str = "") -> Arrays:
    x, y, (T, B, _), H = a["x"], a["y"], a["x"].shape, len(a["b"])
    V, V_ = a["V"][:H], a["V"][H:]
    h, g = np.zeros((T + 2, B, H)), np.zeros((T + 2, B, H))  # h[0] … h[T] and h'[1] … h'[T+1], by time
    h[0], g[T + 1] = a["h_0"], a["h_0'"]
    for t in range(1, T + 1):
        h[t] = np.tanh(x[t - 1] @ a["U"] + h[t - 1] @ a["W"] + a["b"])
    for t in range(T, 0, -1):
        g[t] = np.tanh(x[t - 1] @ a["U'"] + g[t + 1] @ a["W'"] + a["b'"])
    joined = g[T:0:-1] if bug == "h' not put in the order of time" else g[1:T + 1]
    e = softmax(h[1:T + 1] @ V + joined @ V_ + a["c"]) - y
    e_ = e[::-1] if bug == "h' not put in the order of time" else e
    d = {name: np.zeros_like(a[name]) for name in ("U", "W", "b", "U'", "W'", "b'")}
    W, W_ = (a["W'"], a["W"]) if bug == "the other direction's W in the carry" else (a["W"], a["W'"])
    carry = np.zeros((B, H))
    for t in range(T, 0, -1):
        delta = (1 - h[t] ** 2) * (e[t - 1] @ V.T + carry)
        d["U"] += x[t - 1].T @ delta
        d["W"] += h[t - 1].T @ delta
        d["b"] += delta.sum(0)
        carry = delta @ W.T
    carry_ = np.zeros((B, H))
    late = bug == "errors carried the wrong way through time"
    for t in range(T, 0, -1) if late else range(1, T + 1):
        delta = (1 - g[t] ** 2) * (e_[t - 1] @ V_.T + carry_)
        d["U'"] += x[t - 1].T @ delta
        before = t - 1 if bug == "h_{k+1} where h_{k-1} is meant" else t + 1
        d["W'"] += (g[before] if before else 0 * g[0]).T @ delta
        d["b'"] += delta.sum(0)
        carry_ = delta @ W_.T
    d |= {"V": sum(h[t].T @ e[t - 1] for t in range(1, T + 1)), "V'": sum(g[t].T @ e_[t - 1] for t in range(1, T + 1)),
          "c": e.sum((0, 1)), "h_0": carry, "h_0'": carry_}
    if bug == "the two directions exchanged":
        d = {(name[:-1] if name.endswith("'") else f"{name}'") if name != "c" else name: g for name, g in d.items()}
    return d


HAND: dict[str, tuple[Callable[..., Arrays], list[str]]] = {
    "rnn": (one_loop, ["only the last loss", "(1-h)² for φ'", "φ' taken of h, not of z", "φ' missing",
                       "sigmoid' for tanh'", "φ' missing in the carry", "φ' missing at k = t",
                       "h_k where h_{k-1} is meant", "overwritten in the loop: = for +=",
                       "W where Wᵀ is meant, in the carry", "only the explicit term", "the carry taken before φ'",
                       "carry added up: += for =", "y not subtracted", "ŷ left out of ŷ - y", "ŷ(1-ŷ) besides ŷ - y",
                       "softmax's Jacobian left out", "the last loss left out", "φ' applied twice",
                       "φ' of the step before", "1-h for φ'", "h_{t-1} where h_t is meant, at V",
                       "s_0 read as s_T: index -1", "s_0 taken as 0 in the backward pass",
                       "φ' missing in the products, not in the carry", "x_{k-1} where x_k is meant, x_T at step 1",
                       "W left out of the carry", "D on the other side of Wᵀ in the carry", "h_0 gets δ_1 without Wᵀ",
                       "D_0 at h_0"]),
    "lstm": (lstm, ["gate paths missing", "tanh' of c missing", "c_t for c_{t-1} in δz_f", "o: φ' missing",
                    "path through o missing in the carry", "direct path of the cell missing",
                    "f left out of the direct path", "gates f and i exchanged", "1-c² for tanh' of c",
                    "1-h² for tanh' of c", "1-tanh(c) for tanh' of c", "tanh' of c_{t-1} for that of c_t",
                    "i and f exchanged in the equations", "o missing in δc", "the cell's carry sent through tanh'",
                    "c_{t-1} missing in δz_f", "c̃ missing in δz_i", "c_t for c̃ in δz_i", "c for tanh(c) in δz_o",
                    "h for tanh(c) in δz_o", "i missing in δz_c", "f for i in δz_c", "i: tanh' for sigmoid'",
                    "c: sigmoid' for tanh'", "σ' missing at every gate", "only the path through f in the carry",
                    "i where f is meant in the direct path", "f_t where f_{t+1} is meant"]),
    "gru": (gru, ["the other convention of the update gate", "z and 1-z exchanged", "sign of δz_z",
                  "reset gate ignored in W_n's gradient", "reset gate ignored in the carry",
                  "direct path of the state missing", "path through z missing in the carry"]),
    "birnn": (birnn, ["h' not put in the order of time", "the other direction's W in the carry",
                      "errors carried the wrong way through time", "h_{k+1} where h_{k-1} is meant",
                      "the two directions exchanged"])}


@pytest.mark.parametrize(("label", "bug"), [(label, bug) for label, (_, bugs) in HAND.items() for bug in bugs],
                         ids=lambda v: v)
def test_a_mistake_in_hand_written_code_is_named_in_every_gradient_that_it_spoils(label: str, bug: str) -> None:
    case = case_of(label)
    right, spoiled = HAND[label][0](case.arrays()), HAND[label][0](case.arrays(), bug=bug)
    diagnosis = diagnose(case, spoiled)
    changed = [name for name in right if np.abs(right[name] - spoiled[name]).max() > 1e-9 * np.abs(right[name]).max()]
    assert changed and not diagnosis
    for name in right:
        assert names_of(diagnosis, name) == ([(bug,)] if name in changed else []), name
        assert bool(diagnosis[name]) == (name not in changed)


@pytest.mark.parametrize("label", HAND)
def test_hand_written_code_without_a_mistake_is_correct(label: str) -> None:
    for options in ({}, {"reduction": "mean"}, {"batch": "mean"}):
        case = case_of(label, **options)
        scale = case.weight
        found = diagnose(case, lambda arrays, scale=scale: {n: scale * g for n, g in HAND[label][0](arrays).items()})
        assert found and all(found.findings) and "All that was handed in is correct" in repr(found)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_double_loop_cut_after_some_steps_is_a_sliding_window(steps: int) -> None:
    case = case_of("rnn")
    diagnosis = diagnose(case, two_loops(case.arrays(), steps))
    expected = "only the explicit term" if steps == 1 else f"truncated to {steps} steps (sliding window)"
    assert all(names_of(diagnosis, name) == [(expected,)] for name in ("U", "W", "b"))
    assert diagnosis["V"] and diagnosis["c"]


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_a_carry_cut_at_every_so_many_steps_is_a_truncation_in_chunks(steps: int) -> None:
    case = case_of("rnn")
    diagnosis = diagnose(case, one_loop(case.arrays(), chunk=steps))
    assert all(names_of(diagnosis, n) == [(f"truncated in chunks of {steps} steps",)] for n in ("U", "W", "b", "h_0"))


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_loop_that_ends_early_has_only_the_last_uses(steps: int) -> None:
    case = case_of("rnn")
    diagnosis = diagnose(case, one_loop(case.arrays(), last=steps))
    expected = f"only the last {steps} uses" if steps > 1 else "only the use at the last step"
    assert all(names_of(diagnosis, name) == [(expected,)] for name in case.names)


def test_a_right_backward_pass_of_another_network_is_named() -> None:
    case = case_of("rnn")
    a = case.arrays()
    for change, name in (({"h_0": 0 * a["h_0"]}, "h_0 taken as 0"), ({"W": a["W"].T}, "W the other way round"),
                         ({"b": 0 * a["b"]}, "b left out of the forward pass"),
                         ({"c": 0 * a["c"]}, "c left out of the forward pass")):
        d = one_loop({**a, **change})
        d["W"] = d["W"].T if "W" in change else d["W"]
        diagnosis = diagnose(case, d)
        assert all(names_of(diagnosis, n) == [(name,)] for n in case.names), name
    birnn_case = case_of("birnn")
    d = birnn({**birnn_case.arrays(), "h_0'": 0 * birnn_case.arrays()["h_0'"]})
    assert names_of(diagnose(birnn_case, d), "W") == names_of(diagnose(birnn_case, d), "V'") == [("h_0' taken as 0",)]


@pytest.mark.parametrize("bug", ["indices of the loss's step t, not of the use's step k",
                                 "D_t for D_{k-1} in the carry", "D_k for D_{k-1} in the carry"])
def test_wrong_indices_in_a_double_loop_are_named(bug: str) -> None:
    case = case_of("rnn")
    diagnosis = diagnose(case, two_loops(case.arrays(), bug=bug))
    assert names_of(diagnosis, "U") == names_of(diagnosis, "W") == [(bug,)]


def test_a_bias_counted_once_for_each_loss_has_its_explicit_term_alone() -> None:
    case = case_of("rnn")
    diagnosis = diagnose(case, two_loops(case.arrays(), bug="bias in the outer loop"))
    assert names_of(diagnosis, "b") == [("only the explicit term",)]
    assert diagnosis["U"] and diagnosis["W"]


# ------------------------------------------------------------------------------------------ the whole table, no more
@pytest.mark.parametrize("label", [label for label in LAYERS if label != "bilstm"])
def test_every_mistake_alone_is_recognised_as_itself_and_as_nothing_else(label: str,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(label, T=4 if label == "rnn" else 3)
    model, truth = case.model, case.truth()
    monkeypatch.setattr(Case, "model", model)  # it keeps its passes: each is made once for all mistakes
    monkeypatch.setattr(Case, "truth", lambda self: truth)
    known = mistakes(case.model)[::1 if label in HAND else 3]
    if label == "lstm peepholes":  # the others are those of the LSTM
        known = [m for m in mistakes(case.model) if "p_" in m.name or "peep" in m.name or "sees" in m.name]
    for mistake in known:
        spoiled = wrong(case, mistake)
        changed = [n for n in truth if np.abs(truth[n] - spoiled[n]).max() > 1e-8 * np.abs(truth[n]).max()]
        assert changed, f"{mistake} changes nothing"
        some = {name: spoiled[name] for name in (changed[0], changed[-1])}
        diagnosis = diagnose(case, some)
        for name in some:
            assert (mistake,) in [match.mistakes for match in diagnosis[name].matches], (mistake.name, name)
            if len(diagnosis[name].matches) > 1:
                assert "tell" in diagnosis[name].tell or "come to the same" in diagnosis[name].tell
        assert mistake.sentence in " ".join(repr(diagnosis).split()) or len(diagnosis[changed[0]].matches) > 3


@given(st.sampled_from(sorted(LAYERS)), st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 3),
       st.integers(1, 4), st.integers(1, 4), st.integers(2, 4))
@example("rnn", 63, 2, 2, 1, 1, 2)  # all sums 0: of h_0 the doctor says in other words that it gets nothing
@settings(max_examples=12, derandomize=True, database=None, deadline=None)
def test_the_truth_is_correct_in_every_size_and_any_mistake_is_among_those_named(
        label: str, seed: int, T: int, B: int, D: int, H: int, V: int) -> None:
    case = case_of(label, seed, T, B, D, H, V)
    truth = case.truth()
    assert diagnose(case, truth)
    known = mistakes(case.model)
    mistake = known[seed % len(known)]
    spoiled = wrong(case, mistake)
    diagnosis = diagnose(case, spoiled)
    for name in truth:
        finding = diagnosis[name]
        explained = [match.mistakes for match in (*finding.matches, *finding.others)]
        square = truth[name].ndim == 2 and truth[name].shape == truth[name].shape[::-1]
        otherwise = explained and (square or not mistake.touches(name))
        assert finding or (mistake,) in explained or otherwise, (mistake.name, name)


@pytest.mark.parametrize(("label", "count"), [("rnn", 6), ("gru", 1), ("birnn", 3)])
def test_two_mistakes_combined_are_both_named(label: str, count: int) -> None:
    case = case_of(label, T=3)
    truth = case.truth()
    pairs = [pair for pair in combinations(mistakes(case.model), 2) if pair[0].place != pair[1].place]
    seen = 0
    for i in np.random.default_rng(3).permutation(len(pairs))[:count]:
        pair = pairs[i]
        both, first, second = wrong(case, *pair), wrong(case, pair[0]), wrong(case, pair[1])
        name = next((n for n in ("W", "W_f", "W_n", "U", "U_n", "h_0") if n in both and all(
            np.abs(both[n] - other[n]).max() > 1e-6 * np.abs(both[n]).max() for other in (truth, first, second))), None)
        if name is None:
            continue
        explained = diagnose(case, {name: both[name]})[name].matches
        assert set(pair) in [set(match.mistakes) for match in explained] or (
            explained and all(len(match.mistakes) == 1 for match in explained)), (pair, name)
        seen += 1
    assert seen >= count / 4


@pytest.mark.parametrize("label", ["rnn", "rnn relu", "gru of S2", "birnn", "lstm peepholes"])
def test_what_no_mistake_makes_gets_no_name(label: str) -> None:
    case = case_of(label, T=3)
    truth = case.truth()
    rng = np.random.default_rng(5)
    names = [name for name in truth if name[0] in "Wb"][:3]
    diagnosis = diagnose(case, {name: truth[name] + rng.normal(size=truth[name].shape) for name in names})
    assert all(finding.unknown and not finding.matches for finding in diagnosis.findings)
    assert "no mistake that the doctor knows" in repr(diagnosis)


def test_a_millionth_in_one_entry_is_wrong_and_gets_no_name() -> None:
    case = case_of("rnn")
    for name, gradient in case.truth().items():
        off = gradient.copy()
        off.flat[np.abs(off).argmax()] *= 1 + 1e-6
        finding = diagnose(case, {name: off})[name]
        assert not finding and not finding.matches
        assert finding.unknown and finding.unknown.agreeing == gradient.size - 1


def test_rounding_is_not_wrong() -> None:
    case = case_of("rnn")
    assert diagnose(case, {name: gradient * (1 + 1e-13) for name, gradient in case.truth().items()})


def test_the_hint_says_which_step_is_missing_or_weighed_and_is_called_a_hint() -> None:
    case = case_of("rnn")
    parts = terms(case.model, ["W"])["W"]
    finding = diagnose(case, {"W": parts.sum(0) - parts[1] + 0.5 * parts[3]})["W"]
    assert finding.unknown and finding.unknown.residual < 1e-10
    assert finding.unknown.weights == pytest.approx({1: 1, 2: 0, 3: 1, 4: 1.5, 5: 1}, abs=1e-9)
    assert "A hint, no diagnosis" in repr(diagnose(case, {"W": parts.sum(0) - parts[1] + 0.5 * parts[3]}))


# -------------------------------------------------------------------------------------------------------- the result
@pytest.mark.parametrize(("factor", "expected"), [
    (-1, ("the opposite sign",)), (1 / 5, ("mean for sum over the steps",)), (1 / 2, ("mean for sum over the batch",)),
    (1 / 10, ("mean for sum over steps and batch",)), (-1 / 5, ("the opposite sign", "mean for sum over the steps")),
    (0.37, ("0.37 times the gradient",)), (3, ("3 times the gradient",))])
def test_a_constant_factor_is_named_with_its_value(factor: float, expected: tuple[str, ...]) -> None:
    case = case_of("rnn")
    diagnosis = diagnose(case, {name: factor * gradient for name, gradient in case.truth().items()})
    assert all(names_of(diagnosis, finding.name) == [expected] for finding in diagnosis.findings)


def test_sums_where_means_are_meant_are_named() -> None:
    case = case_of("rnn", reduction="mean", batch="mean")
    truth = case.truth()
    for factor, expected in ((5, "sum for mean over the steps"), (2, "sum for mean over the batch"),
                             (10, "sum for mean over steps and batch")):
        diagnosis = diagnose(case, {name: factor * gradient for name, gradient in truth.items()})
        assert names_of(diagnosis, "W") == names_of(diagnosis, "c") == [(expected,)]


def test_a_constant_says_nothing_of_a_single_number_nor_of_two_that_are_opposite() -> None:
    one = case_of("rnn", H=1)
    assert not diagnose(one, {"b": 0.37 * one.truth()["b"]})["b"].matches
    two = case_of("rnn", V=2)
    assert not diagnose(two, {"c": 0.37 * two.truth()["c"]})["c"].matches


def test_a_mistake_with_sign_mean_and_the_notes_orientation_is_still_named() -> None:
    case = case_of("rnn")
    name = "W where Wᵀ is meant, in the carry"
    diagnosis = diagnose(case, {n: -g.T / 5 for n, g in wrong(case, *called(case, name)).items()})
    assert names_of(diagnosis, "W") == [(name, "the opposite sign", "mean for sum over the steps")]
    assert diagnosis["W"].orientation == diagnosis["U"].orientation == "notes"


def test_gradients_clipped_by_value_are_named_with_the_bound() -> None:
    case = case_of("rnn")
    truth = case.truth()
    bound = float(np.median(np.abs(truth["U"])))
    finding = diagnose(case, {"U": np.clip(truth["U"], -bound, bound)})["U"]
    assert finding.matches[0].names == (f"clipped by value at ±{bound:.9g}",) and finding.matches[0].place.step is None


# --------------------------------------------------------------------------------------------------------- orientation
@pytest.mark.parametrize("label", LAYERS)
def test_the_notes_orientation_is_recognised_and_not_called_wrong(label: str) -> None:
    case = case_of(label)
    diagnosis = diagnose(case, {name: gradient.T for name, gradient in case.truth().items()})
    assert diagnosis and "that is not wrong" in " ".join(repr(diagnosis).split())
    assert all(f.orientation == ("notes" if case.truth()[f.name].ndim == 2 else "") for f in diagnosis.findings)


def test_a_transposed_matrix_beside_others_that_are_not_is_a_mistake() -> None:
    case = case_of("rnn")
    truth = case.truth()
    assert names_of(diagnose(case, {"U": truth["U"], "W": truth["W"].T}), "W") == [("transposed",)]
    assert names_of(diagnose(case, {"U": truth["U"].T, "W": truth["W"]}), "W") == [("transposed",)]
    square = case_of("rnn", D=4)
    assert names_of(diagnose(square, {"U": square.truth()["U"], "W": square.truth()["W"].T}), "W") == [("transposed",)]


def test_a_square_matrix_alone_may_be_in_either_orientation_and_that_is_said() -> None:
    case = case_of("rnn")
    diagnosis = diagnose(case, {"W": case.truth()["W"].T})
    assert diagnosis and "nothing shows which orientation was meant" in repr(diagnosis)
    assert diagnose(case, {"W": case.truth()["W"]})["W"].orientation == "ours"


def test_columns_are_read_as_vectors() -> None:
    case = case_of("rnn", B=1)
    truth = case.truth()
    assert diagnose(case, {"b": truth["b"][:, None], "c": truth["c"][None], "h_0": truth["h_0"][0]})


# --------------------------------------------------------------------------------------------- what a case cannot tell
def test_with_h_0_zero_what_cannot_be_told_apart_is_named_with_the_reason_and_the_remedy() -> None:
    case = replace(case_of("rnn"), state=None)
    finding = diagnose(case, {"W": wrong(case, *called(case, "overwritten in the loop: = for +="))["W"]})["W"]
    assert {m.names for m in finding.matches} == {("overwritten in the loop: = for +=",), ("only the first loss",),
                                                  ("0: nothing added to it",)}
    for said in ("cannot tell them apart", "because the initial state is 0", "the gradient of U",
                 "another initial state than 0 can"):
        assert said in finding.tell.replace("so can a case with another initial state than 0",
                                            "another initial state than 0 can")


def test_where_T_is_B_the_two_means_cannot_be_told_apart() -> None:
    case = case_of("rnn", T=4, B=4, D=3, H=5)
    finding = diagnose(case, {"W": case.truth()["W"] / 4})["W"]
    assert {m.names for m in finding.matches} == {("mean for sum over the steps",), ("mean for sum over the batch",)}
    assert "because T = B" in finding.tell


def test_in_one_step_many_mistakes_coincide_and_all_are_named() -> None:
    case = case_of("rnn", T=1)
    finding = diagnose(case, {"W": wrong(case, *called(case, "φ' missing"))["W"]})["W"]
    assert {m.names for m in finding.matches} >= {("φ' missing",), ("φ' missing at k = t",)}
    assert "because T = 1" in finding.tell


def test_what_comes_to_the_same_in_every_case_is_said_to() -> None:
    case = case_of("rnn")
    pair = called(case, "φ' missing", "only the explicit term")
    finding = diagnose(case, {"W": wrong(case, *pair)["W"]})["W"]
    assert set(pair) in [set(m.mistakes) for m in finding.matches] and len(finding.matches) > 1
    assert "come to the same here in every case" in finding.tell


def test_other_gradients_decide_between_explanations_and_those_ruled_out_are_kept() -> None:
    case = replace(case_of("rnn"), state=None)
    spoiled = wrong(case, *called(case, "overwritten in the loop: = for +="))
    diagnosis = diagnose(case, {"W": spoiled["W"], "U": spoiled["U"]})
    assert names_of(diagnosis, "W") == [("overwritten in the loop: = for +=",)]
    assert [m.names for m in diagnosis["W"].others] == [("only the first loss",), ("0: nothing added to it",)]


def test_a_correct_gradient_says_what_its_case_could_not_have_shown() -> None:
    case = case_of("rnn")
    W = case.cells[0].W
    W.data = W.data + W.data.T
    diagnosis = diagnose(case, case.truth())
    assert diagnosis and [m.name for m in diagnosis.unseen] == ["W where Wᵀ is meant, in the carry"]
    assert "a W that is not symmetric" in diagnosis.why and "would not have shown" in repr(diagnosis)
    assert not diagnose(case_of("rnn"), case_of("rnn").truth()).unseen


def test_the_first_step_and_entry_that_go_wrong_are_those_of_the_terms() -> None:
    """W for Wᵀ in the carry: step T is still right; at T - 1 the bias gets D_{T-1} W δ_T for D_{T-1} Wᵀ δ_T."""
    case = case_of("rnn")
    a = case.arrays()
    place = diagnose(case, one_loop(a, "W where Wᵀ is meant, in the carry"))["b"].matches[0].place
    h = [a["h_0"]]
    for x_t in a["x"]:
        h.append(np.tanh(x_t @ a["U"] + h[-1] @ a["W"] + a["b"]))
    e = [softmax(h[t] @ a["V"] + a["c"]) - a["y"][t - 1] for t in (4, 5)]
    last = (1 - h[5] ** 2) * (e[1] @ a["V"].T)
    good, bad = ((1 - h[4] ** 2) * (e[0] @ a["V"].T + last @ M) for M in (a["W"].T, a["W"]))
    i = np.abs(good.sum(0) - bad.sum(0)).argmax()
    assert place.step == 4 and place.entry == (i,)
    assert (place.right, place.wrong) == pytest.approx((good.sum(0)[i], bad.sum(0)[i]), rel=1e-12)


# ---------------------------------------------------------------------------------------------- the case and bad input
def test_the_engine_and_the_doctors_own_backward_pass_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.TANH, "rules", (lambda g, y, x: (g - g * y * y) * (1 + 1e-9),))
    with pytest.raises(RuntimeError, match="engine and plain NumPy disagree about U by"):
        diagnose(case_of("rnn"), {"U": np.zeros((3, 4))})


def test_weights_that_are_changed_between_two_diagnoses_are_read_anew() -> None:
    case = case_of("rnn")
    before = case.truth()
    case.cells[0].W.data = case.cells[0].W.data + 0.1
    assert diagnose(case, case.truth()) and not diagnose(case, {"U": before["U"]})


def test_a_case_in_which_everything_is_square_can_be_asked_what_it_would_not_have_shown() -> None:
    """V where Vᵀ is meant can be written where H = V only: the other cases that are tried have to be square as well."""
    case = case_of("rnn relu", seed=1, T=1, B=1, D=2, H=2, V=2)
    diagnosis = diagnose(case, case.truth())
    assert diagnosis and "T = 5 steps" in diagnosis.why


def test_where_all_matrices_are_square_a_mistake_is_named_without_a_search_for_two() -> None:
    case = case_of("lstm", T=4, B=3, D=4, H=4, V=4)
    name = "f left out of the direct path"
    start = time.process_time()
    diagnosis = diagnose(case, lstm(case.arrays(), name))
    assert time.process_time() - start < 0.5 and names_of(diagnosis, "W_f") == [(name,)]


def test_diagnosing_leaves_the_gradients_of_the_model_alone() -> None:
    case = case_of("rnn")
    case.cells[0].W.grad = kept = np.ones((4, 4))
    diagnose(case, case.truth())
    assert case.cells[0].W.grad is kept and case.cells[0].U.grad is None


@pytest.mark.parametrize(("gradients", "message"), [
    ({"Q": np.zeros(3)}, r"unknown Q: expected U, W, b, h_0, V, c"),
    ({"U": np.zeros((4, 5))}, r"U has shape \(4, 5\); expected \(3, 4\), or \(4, 3\) as the notes write it"),
    ({"b": np.zeros((2, 4))}, r"b has shape \(2, 4\); expected \(4,\)"),
    ({"dU": np.zeros((3, 4)), "cell": np.array("rnn")}, r"unknown dU, cell: expected U, W, b, h_0, V, c"),
    ({"W": np.full((4, 4), np.nan)}, r"W\[0, 0\] is nan; expected finite"),
    ({"b": np.array([0, 1, np.inf, 0])}, r"b\[2\] is inf; expected finite"),
    ({"b": np.zeros(4, np.float32)}, "b is float32; expected float64"),
    ({"U": np.zeros((3, 4), np.float32), "b": np.zeros(4, np.float32)}, "U, b are float32; expected float64"),
    ({}, "nothing handed in")])
def test_bad_gradients_are_refused_with_what_is_expected(gradients: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diagnose(case_of("rnn"), gradients)


def test_a_gradient_of_float32_that_was_cast_is_said_to_be_one_and_gets_no_name() -> None:
    case = case_of("rnn")
    rounded = {name: g.astype(np.float32).astype(float) for name, g in case.truth().items()}
    text = " ".join(repr(diagnose(case, rounded)).split())
    assert "of the largest entry, and no further That is what rounding to float32 leaves" in text
    assert "no mistake that the doctor knows" not in text
    wrong_too = one_loop(case.arrays(), "φ' missing")["W"].astype(np.float32).astype(float)
    finding = diagnose(case, {"W": wrong_too})["W"]
    assert finding.unknown and finding.unknown.single and finding.unknown.distance > 1e-2
    assert "All its entries are numbers of float32" in repr(diagnose(case, {"W": wrong_too}))
    assert not diagnose(case, {"W": case.truth()["W"] + 0.1})["W"].unknown.single  # type: ignore[union-attr]


def test_a_function_that_writes_into_its_arrays_changes_nothing_of_the_case() -> None:
    case = case_of("rnn")
    before = {name: array.copy() for name, array in case.arrays().items()}

    def careless(a: Arrays) -> Arrays:
        d = one_loop(a)
        for array in a.values():
            array *= 0
        return d

    assert diagnose(case, careless)
    assert all(np.array_equal(array, before[name]) for name, array in case.arrays().items())


def test_the_true_contributions_of_every_step_to_the_worst_entry_stand_beside_what_is_unknown() -> None:
    case = case_of("rnn")
    off = case.truth()["W"] + np.eye(4)
    unknown = diagnose(case, {"W": off})["W"].unknown
    assert unknown and list(unknown.steps) == [1, 2, 3, 4, 5]
    assert sum(unknown.steps.values()) == pytest.approx(unknown.worst[0][2], rel=1e-12)
    assert "should add to W[" in " ".join(repr(diagnose(case, {"W": off})).split())


def test_gradients_that_are_no_real_numbers_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="b is complex128; expected real numbers"):
        diagnose(case_of("rnn"), {"b": np.zeros(4, complex)})
    with pytest.raises(TypeError, match="gradients are a list; expected arrays by name"):
        diagnose(case_of("rnn"), [np.zeros(4)])  # type: ignore[arg-type]


def test_cases_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(0)
    cell, head, x, y = nn.RNNCell(3, 4, rng=rng), nn.Linear(4, 6, rng=rng), np.zeros((5, 2, 3)), np.zeros((5, 2), int)
    with pytest.raises(ValueError, match=r"xs of shape \(5, 3\); expected \(T, B, 3\)"):
        diagnose(Case(cell, head, x[:, 0], y), {})
    with pytest.raises(ValueError, match=r"targets of shape \(4, 2\); expected ids \(5, 2\)"):
        diagnose(Case(cell, head, x, y[:4]), {})
    with pytest.raises(IndexError, match="targets from 7 to 7; expected 0 to 5"):
        diagnose(Case(cell, head, x, y + 7), {})
    with pytest.raises(ValueError, match=r"a state of shapes \[\(2, 3\)\]; expected \(2, 4\) for h"):
        diagnose(Case(cell, head, x, y, np.zeros((2, 3))), {})
    with pytest.raises(ValueError, match="a head for 5 features; expected 4"):
        Case(cell, nn.Linear(5, 6, rng=rng), x, y)
    with pytest.raises(ValueError, match="expected 'sum' or 'mean'"):
        Case(cell, head, x, y, reduction="none")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="2 layers; expected one"):
        Case(nn.RNN(3, 4, 2, rng=rng), head, x, y)
    with pytest.raises(ValueError, match="U is float32"):
        Case(nn.RNNCell(3, 4, rng=rng, dtype=np.float32), head, x, y)
    cell.W.data = np.where(np.eye(4, k=1), np.nan, cell.W.data)
    with pytest.raises(ValueError, match=r"W holds nan at \(0, 1\); expected finite numbers"):
        Case(cell, head, x, y)


def probabilities(case: Case) -> np.ndarray:
    return np.random.default_rng(3).dirichlet(np.ones(6), case.x.shape[:2])


def test_rows_of_probabilities_are_targets() -> None:
    case = case_of("rnn")
    case = replace(case, targets=probabilities(case))
    assert diagnose(case, one_loop(case.arrays()))


@pytest.mark.parametrize(("spoiled", "expected"), [
    (lambda case: {"xs": case.x.astype(np.float32)}, "x is float32; expected float64"),
    (lambda case: {"xs": case.x + 0j}, "x is complex128; expected float64"),
    (lambda case: {"xs": np.where(case.x == case.x[2, 1, 0], np.nan, case.x)}, r"x holds nan at \(2, 1, 0\)"),
    (lambda case: {"xs": np.array(1.0)}, r"xs of shape \(\); expected \(T, B, 3\)"),
    (lambda case: {"state": case.state[0].astype(np.float32)}, "h_0 is float32"),
    (lambda case: {"state": np.full((2, 4), -np.inf)}, r"h_0 holds -inf at \(0, 0\)"),
    (lambda case: {"state": 0.5}, r"a state of shapes \[\(\)\]; expected"),
    (lambda case: {"targets": probabilities(case).astype(np.float32)}, "y is float32"),
    (lambda case: {"targets": -probabilities(case)}, r"y\[0, 0\] is .* expected probabilities, none negative"),
    (lambda case: {"targets": np.broadcast_to([1.5, -0.5, 0, 0, 0, 0], (5, 2, 6))}, "none negative"),
    (lambda case: {"targets": probabilities(case) + 1e-9}, r"y\[0, 0\] is .* and of sum 1"),
    (lambda case: {"targets": np.full((5, 2, 6), np.nan)}, r"y holds nan at \(0, 0, 0\)")])
def test_numbers_that_no_gradient_can_be_told_by_are_refused(spoiled: Any, expected: str) -> None:
    case = case_of("rnn")
    with pytest.raises(ValueError, match=expected):
        diagnose(replace(case, **spoiled(case)), case.truth())


def test_a_case_whose_gradient_is_beyond_floats_has_no_diagnosis() -> None:
    case = case_of("rnn relu")
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"true gradient of .* holds .* expected finite"):
        replace(case, xs=1.7e308 * np.sign(case.x)).truth()


def test_a_cell_ids_and_a_learned_state_make_a_case() -> None:
    rng = np.random.default_rng(1)
    cell = nn.LSTMCell(3, 4, rng=rng, initial="learned")
    cell.h_0.data, cell.c_0.data = rng.normal(size=4), rng.normal(size=4)  # type: ignore[union-attr]
    case = Case(cell, nn.Linear(4, 6, rng=rng), rng.integers(0, 3, (5, 2)), rng.integers(0, 6, (5, 2)))
    a = case.arrays()
    d = lstm(a)
    assert diagnose(case, {**d, "h_0": d["h_0"].sum(0), "c_0": d["c_0"].sum(0)})
    given = replace(case, state=(Tensor(a["h_0"]), a["c_0"]))
    assert diagnose(given, d)


def test_a_model_without_biases_has_no_gradients_for_them() -> None:
    rng = np.random.default_rng(1)
    case = Case(nn.GRUCell(3, 4, bias=False, rng=rng), nn.Linear(4, 6, bias=False, rng=rng), rng.normal(size=(5, 2, 3)),
                rng.integers(0, 6, (5, 2)), rng.normal(size=(2, 4)))
    zeros = {name: np.zeros(4) for name in ("b_r", "b_z", "b_n", "b_hn")} | {"c": np.zeros(6)}
    d = gru({**case.arrays(), **zeros})
    assert diagnose(case, {name: d[name] for name in case.names})
    with pytest.raises(ValueError, match="unknown b_r"):
        diagnose(case, {"b_r": d["b_r"]})


def test_V_of_both_directions_may_be_handed_in_as_one_or_as_two() -> None:
    case = case_of("birnn")
    d = birnn(case.arrays())
    whole = np.concatenate([d["V"], d["V'"]])
    for one in (whole, whole.T):
        assert {f.name for f in diagnose(case, {"V": one}).findings} == {"V", "V'"}
        assert diagnose(case, {"V": one})
    assert diagnose(case, {"V": d["V"], "V'": d["V'"]})


@pytest.mark.parametrize("label", LAYERS)
def test_a_case_written_to_a_file_is_the_same_when_read(label: str, tmp_path: Path) -> None:
    case = case_of(label, reduction="mean")
    again = Case.load(case.save(tmp_path / "case.npz"))
    assert again.names == case.names and again.means == case.means and again.model.cell == case.model.cell
    for name, gradient in case.truth().items():
        assert np.array_equal(again.truth()[name], gradient), name
    np.savez(tmp_path / "mine.npz", **case.truth())
    assert diagnose(again, tmp_path / "mine.npz")


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_learned_state_is_still_learned_when_read(bidirectional: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    layer = nn.LSTM(3, 4, bidirectional=bidirectional, rng=rng, initial="learned")
    for cell in layer.cells.values():
        cell.h_0.data, cell.c_0.data = rng.normal(size=4), rng.normal(size=4)
    case = Case(layer, nn.Linear(4 * (1 + bidirectional), 6, rng=rng), rng.normal(size=(5, 2, 3)),
                rng.integers(0, 6, (5, 2)))
    again = Case.load(case.save(tmp_path / "case.npz"))
    assert again.learned and diagnose(again, case.truth())
    if not bidirectional:
        d = lstm(again.arrays())
        assert diagnose(again, {**d, "h_0": d["h_0"].sum(0), "c_0": d["c_0"].sum(0)})
    given = replace(case, state=tuple(rng.normal(size=(1 + bidirectional, 2, 4)) for _ in "hc"))  # this one is not
    assert not Case.load(given.save(tmp_path / "case.npz")).learned


@pytest.mark.parametrize(("name", "spoiled", "expected"), [
    *((name, lambda a: a.astype(np.float32), f"{name} is float32; expected float64")
      for name in ("x", "y", "U", "b", "V", "h_0")),
    ("W", lambda a: a.astype(complex), "W is complex128; expected float64"),
    ("W", lambda a: np.where(np.eye(4), np.nan, a), r"W holds nan at \(0, 0\); expected finite"),
    ("x", lambda a: np.where(a == a[1, 0, 2], np.inf, a), r"x holds inf at \(1, 0, 2\); expected finite"),
    ("x", lambda a: a[0, 0, 0], r"x of shape \(\); expected \(T, B, D\)"),
    ("h_0", lambda a: a[0, 0], r"h_0 of shape \(\); expected \(B, H\)"),
    ("V", lambda a: a[0], r"V of shape \(6,\); expected \(H, V\)"),
    ("initial", lambda a: np.array("zero"), "initial 'zero'; expected 'learned'"),
    ("initial", lambda a: np.array("learned"), "2 different rows of h_0; expected one: it is learned")])
def test_a_file_whose_entries_do_not_fit_says_which(name: str, spoiled: Any, expected: str, tmp_path: Path) -> None:
    file = dict(np.load(case_of("rnn").save(tmp_path / "case.npz")))
    np.savez(tmp_path / "case.npz", **{**file, name: spoiled(file.get(name))})
    with pytest.raises(ValueError, match=f"case.npz: {expected}"):
        Case.load(tmp_path / "case.npz")


def test_a_file_in_which_targets_are_no_probabilities_ends_in_a_sentence(tmp_path: Path, capsys: Any) -> None:
    file = dict(np.load(case_of("rnn").save(tmp_path / "case.npz")))
    np.savez(tmp_path / "case.npz", **{**file, "y": -file["y"]})
    np.savez(tmp_path / "mine.npz", W=file["W"])
    arguments = ["--case", str(tmp_path / "case.npz"), "--gradient", str(tmp_path / "mine.npz")]
    assert main(["doctor", *arguments]) == 2
    assert "expected probabilities, none negative and of sum 1" in capsys.readouterr().err


def test_a_file_that_is_no_case_says_what_is_missing(tmp_path: Path) -> None:
    np.savez(tmp_path / "case.npz", U=np.zeros((3, 4)))
    with pytest.raises(ValueError, match="is no case: cell is missing; it holds U"):
        Case.load(tmp_path / "case.npz")


def test_all_pairs_of_an_rnn_are_searched_in_a_second() -> None:
    case = case_of("rnn", T=6)
    off = {name: gradient + 0.1 for name, gradient in case.truth().items()}
    start = time.process_time()
    diagnose(case, off)
    assert time.process_time() - start < 1


# -------------------------------------------------------------------------------------------------- the command line
def options(tmp_path: Path, **given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"case": None, "gradient": None, "out": tmp_path, "seed": 0, "json": False, **given})


def test_the_demonstration_names_its_mistake_and_its_files_can_be_mended(tmp_path: Path,
                                                                         capsys: pytest.CaptureFixture[str]) -> None:
    result, good = verb.doctor(options(tmp_path))
    said = capsys.readouterr().out
    assert good and not result["correct"] and json.dumps(result)
    assert "U, W, b, h_0: W where Wᵀ is meant, in the carry" in said and "correct: V, c" in said
    script = tmp_path / "my_bptt.py"
    text = script.read_text(encoding="utf-8")
    assert text.count("carry = delta @ W  #") == 1
    script.write_text(text.replace("carry = delta @ W  #", "carry = delta @ W.T  #"), encoding="utf-8")
    case, mine = tmp_path / "case.npz", tmp_path / "mine.npz"
    subprocess.run([sys.executable, str(script), str(case), str(mine)], check=True)
    result, good = verb.doctor(options(tmp_path, case=case, gradient=mine))
    assert good and result["correct"] and "All that was handed in is correct." in capsys.readouterr().out


def test_the_verb_wants_both_files_or_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--case and --gradient go together"):
        verb.doctor(options(tmp_path, case=tmp_path / "case.npz"))


def test_the_template_needs_nothing_but_numpy() -> None:
    text = Path(str(template.__file__)).read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:from|import) (\S+)", text, re.M)) <= {"sys", "collections.abc", "typing", "numpy"}
