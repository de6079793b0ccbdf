"""Floor 0: the table of mistakes in hand-written BPTT. Each is one place of `backward` with something else in it.

A row is (name, place, what stands there, the sentence that explains it, the equation to read). Formulas are those of
the notes, in column vectors; z_k stands for all that φ is taken of, D_k = diag φ'(z_k).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from .backward import GRU, LSTM, RNN, Arrays, Model, On

Pass = Literal["forward", "backward", "uses", "result"]
Row = tuple[str, str, Any, str, str]


@dataclass(frozen=True)
class Mistake:
    """name: in a few words. sentence: what was done, and what is right. equation: number and formula to read.

    where: in the forward pass, in the errors on their way back, in what they are multiplied with and summed over, or in
    the result. place, value: the switch of `backward`.
    """

    name: str
    place: str
    value: Any
    sentence: str
    equation: str
    where: Pass

    def __str__(self) -> str:
        return self.name


FORWARD: list[Row] = [
    ("b left out of the forward pass", "without b", True, "All states are computed without the hidden biases.",
     "(1) z_t = U x_t + W s_{t-1} + b"),
    ("W the other way round", "turned", True, "The forward pass multiplies with Wᵀ where this W is meant, as it is a "
     "square matrix no shape objects: in rows h @ W, in columns W.T @ h. All that follows is that of another network.",
     "(1) z_t = U x_t + W s_{t-1} + b, in rows h @ W"),
    ("c left out of the forward pass", "without c", True, "The logits are computed without the output bias.",
     "(2) ŷ_t = softmax(V s_t + c)"),
]
ERROR: list[Row] = [
    ("y not subtracted", "error", "ŷ", "ε_t is ŷ_t alone; the one-hot target has to be subtracted from it.",
     "(12) ∂E/∂q = ŷ - y"),
    ("ŷ left out of ŷ - y", "error", "-y", "ε_t is -1 at the target and 0 elsewhere; the prediction belongs to it.",
     "(12) ∂E/∂q = ŷ - y"),
    ("ŷ(1-ŷ) besides ŷ - y", "error", "∘ŷ(1-ŷ)", "ŷ - y is already the derivative by the logits: softmax' is in it.",
     "(12) ∂E/∂q = ŷ - y"),
    ("softmax's Jacobian besides ŷ - y", "error", "softmax twice",
     "ŷ - y is already the derivative by the logits; with the Jacobian once more it is that of the squared error.",
     "(12) ∂ŷ_k/∂q_l = ŷ_k (δ_kl - ŷ_l); ∂E/∂q = ŷ - y"),
    ("softmax's Jacobian left out", "error", "without softmax",
     "-y/ŷ is the derivative by ŷ, not by the logits q that V and c make.",
     "(12) ∂ŷ_k/∂q_l = ŷ_k (δ_kl - ŷ_l); ∂E/∂q = ŷ - y"),
]
CARRY: list[Row] = [
    ("W where Wᵀ is meant, in the carry", "matrix", "W",
     "The errors are carried back by W itself; what W carried forward, Wᵀ carries back. In rows: δ @ W.T.",
     "(22) δ_t→k-1 = D_{k-1} Wᵀ δ_t→k"),
    ("W left out of the carry", "matrix", "missing", "The errors go from step to step without Wᵀ.",
     "(18) ∂s_T/∂s_k = J_T … J_{k+1}, J_t = D_t W"),
    ("carry added up: += for =", "carry", "+=",
     "What is carried to step k - 1 still has in it what was carried to step k: each step has to start a new sum.",
     "(22) δ_t→k-1 = D_{k-1} Wᵀ δ_t→k"),
    ("errors carried the wrong way through time", "order", "forward",
     "The loop makes the steps in the order of the forward pass; errors go the other way, from the step made last to "
     "that made first. (For a backward direction that is t = 1 to T.)", "(25) δ_t needs δ_{t+1}; δ'_t needs δ'_{t-1}"),
]
STORED: list[Row] = [
    ("s_0 read as s_T: index -1", "stored", "s_T first", "At step 1 the state before is looked up at index -1, which "
     "in Python is the last one.", "(22) A[t,1] = δ_t→1 s_0ᵀ"),
    ("s_0 taken as 0 in the backward pass", "stored", "0 first", "At step 1 the state before counts as 0, or that step "
     "is passed over; the forward pass did start from s_0.", "(22) A[t,1] = δ_t→1 s_0ᵀ"),
    ("all stored states are the last one", "stored", "s_T everywhere", "The list of states holds one array, which was "
     "overwritten at every step: store a copy.", "(22) A[t,k] = δ_t→k s_{k-1}ᵀ"),
]
STATE: list[Row] = [
    ("h_k where h_{k-1} is meant", "h", "h_k", "The error of step k is multiplied with the state that step k made; W "
     "was multiplied with the state before it.", "(22) A[t,k] = δ_t→k s_{k-1}ᵀ"),
    ("h_{k+1} where h_{k-1} is meant", "h", "h_{k+1}", "The error of step k is multiplied with the state on its other "
     "side (0 past the end); in a backward direction h'_{t-1} for h'_{t+1}.", "(25) dW = Σ δ_t h_{t-1}ᵀ, dW' = "
     "Σ δ'_t h'_{t+1}ᵀ"),
    ("x_{k-1} where x_k is meant", "x", "x_{k-1}", "The error of step k is multiplied with the input of the step "
     "before (0 where there is none).", "(22) for U⁽ᵏ⁾: δ_t→k x_kᵀ"),
    ("x_{k-1} where x_k is meant, x_T at step 1", "x", "x_{k-1}, x_T", "The error of step k is multiplied with the "
     "input of the step before; at step 1 that is index -1, which in Python is the last one.",
     "(22) for U⁽ᵏ⁾: δ_t→k x_kᵀ"),
    ("h_{k-2} where h_{k-1} is meant", "h", "h_{k-2}", "The error of step k is multiplied with the state of two steps "
     "before (0 where there is none).", "(22) A[t,k] = δ_t→k s_{k-1}ᵀ"),
    ("x_{k+1} where x_k is meant", "x", "x_{k+1}", "The error of step k is multiplied with the input of the step after "
     "(0 where there is none).", "(22) for U⁽ᵏ⁾: δ_t→k x_kᵀ"),
    ("indices of the loss's step t, not of the use's step k", "pairing", "t", "In the double loop the inner step is k: "
     "δ_t→k is multiplied with s_{k-1} and x_k, not with s_{t-1} and x_t.", "(22) A[t,k] = δ_t→k s_{k-1}ᵀ"),
    ("h_{t-1} where h_t is meant, at V", "seen", "h_{t-1}", "V was multiplied with the state that step t made.",
     "(25) dV = Σ ε_t h_tᵀ"),
]
LOSSES: list[Row] = [
    ("only the last loss", "losses", "last", "Only E_T is differentiated; E is the sum of the losses of all steps.",
     "(19) dE/dW = Σ_t Σ_k A[t,k]: the last row alone"),
    ("only the first loss", "losses", "first", "Only E_1 is differentiated; E is the sum of the losses of all steps.",
     "(19) dE/dW = Σ_t Σ_k A[t,k]: the first row alone"),
    ("the last loss left out", "losses", "without last", "E_T is missing: the loop over the losses stops one short.",
     "(19) dE/dW = Σ_t Σ_k A[t,k]: without the last row"),
    ("the first loss left out", "losses", "without first", "E_1 is missing: the loop over the losses stops one short.",
     "(19) dE/dW = Σ_t Σ_k A[t,k]: without the first row"),
    ("a loss counted again for every later step", "losses", "again and again",
     "A loop over the losses and a carry that has all later losses in it already: E_t comes in as often as there are "
     "steps that the errors start from before it. Either the double loop, or one loop with a carry.",
     "(19) row t: each A[t,k] once"),
]
USES: list[Row] = [
    ("the initial state gets nothing", "uses", "not to s_0", "From step 1 no error is carried on to the state before "
     "it.", "(25) dh_0 = Wᵀ δ_1"),
    ("the initial state gets E_1's error alone", "uses", "to s_0 from E_1", "What is carried to the initial state "
     "comes from a δ_1 without the errors of later steps.", "(25) dh_0 = Wᵀ δ_1, δ_1 with Wᵀ δ_2 in it"),
    ("only the explicit term", "uses", "explicit",
     "Only paths that cross no recurrence edge are counted: the errors of later losses never come back to step k.",
     "(16) ds_t/dW = ∂⁺s_t/∂W + J_t ds_{t-1}/dW"),
    ("only the implicit terms", "uses", "implicit", "What the use at step t does to E_t itself, k = t, is missing.",
     "(16) ds_t/dW = ∂⁺s_t/∂W + J_t ds_{t-1}/dW"),
    ("overwritten in the loop: = for +=", "uses", "overwritten",
     "Only the use at the step that the loop reaches last is left: each step has to add its contribution. A bias is "
     "counted once instead of T times.", "(17) a sum over k, for the one W that all steps use"),
]
NONSENSE_SLOPES = [  # value, what it is in words
    ("missing", "φ' missing", "φ' is missing altogether: the errors pass the non-linearity as if it were not there."),
    ("again", "φ' taken of h, not of z", "φ' is evaluated at h, which φ has already been applied to; from h it is a "
     "formula of h itself, as 1 - h² for tanh."),
    ("of z", "h's formula of φ' taken of z", "1 - z² and z(1 - z) are no derivatives: the formulas want h = φ(z)."),
    ("twice", "φ' applied twice", "φ' is multiplied in twice at every step."),
    ("1-y", "1-h for φ'", "1 - h is no derivative of φ: for tanh 1 - h², for the sigmoid h(1 - h)."),
    ("(1-y)²", "(1-h)² for φ'", "(1 - h)² is not 1 - h²."),
]
UNUSED_SLOPE = ("φ' missing in the products, not in the carry", "slope in the uses", "missing", "x_k and h_{k-1} are "
                "multiplied with the error of h_k, or of the gate; it has to be that of z_k, which is carried on.",
                "(22) δ_t→t = D_t Vᵀ ε_t")
D = "(16) D_t = diag(φ'(z_t)): tanh' = 1 - h², σ' = h(1 - h)"


def mistakes(m: Model) -> list[Mistake]:
    """All that can go wrong in this case, one by one; what would change nothing by definition is left out."""
    found = [Mistake(*row, "forward") for row in forward(m)]
    found += [Mistake(*row, "backward") for row in backward(m)]
    found += [Mistake(*row, "uses") for row in uses(m)]
    found += [Mistake(*row, "result") for row in results(m)]
    return found


def forward(m: Model) -> Iterator[Row]:
    yield from FORWARD
    starts = tuple(name for name in m.p if name.removesuffix("'").endswith("_0"))
    for zeros in dict.fromkeys((starts, *((name,) for name in starts))):
        yield (f"{' and '.join(zeros)} taken as 0", "initial", zeros, "The forward pass starts from zeros, not from "
               "the state that is given.", "(1) s_1 = φ(U x_1 + W s_0 + b)")
    match m.cell:
        case RNN(phi):
            other = {"tanh": "sigmoid", "sigmoid": "tanh"}[phi]
            yield (f"{other} for {phi}", "model", other, f"Forward and backward pass are those of a network with "
                   f"{other}; this one has {phi}.", "(1) s_t = φ(z_t)")
        case LSTM():
            yield ("h = o∘c, without tanh", "model", "o∘c", "The output gate multiplies tanh(c_t), not c_t (E14).",
                   "(4) h_t = o∘tanh(c_t)")
        case GRU(reset, update):
            weighs = {"z": "z weighs the old state", "u": "u weighs the new one"}[update]
            yield ("the other convention of the update gate", "model", "update", f"Forward and backward pass exchange "
                   f"what the gate and what 1 minus it weigh; here {weighs}.", "(5), (6) u = 1 - z")
            if reset:
                yield ("the other place of the reset gate", "model", "reset", f"Forward and backward pass have the "
                       f"reset gate on the other side of the product; here it acts {reset} it.",
                       "(6) before: W_n (r∘h); after: r∘(W_n h + b_hn)")
    if len(m.sides) == 2:
        yield ("both directions read from the front", "reading", "from the front",
               "The states of the backward direction are computed from t = 1 on; it starts at t = T and reads the "
               "sequence from its end.", "(7) h'_t = tanh(U' x_t + W' h'_{t+1})")
        yield ("h' not put in the order of time", "reading", "not turned back", "The states of the backward direction "
               "are made from t = T to 1, and joined to the h_t in that order: h_t stands beside h'_{T+1-t}.",
               "(7) ŷ_t = softmax(V h_t + V' h'_t + c)")


def backward(m: Model) -> Iterator[Row]:
    yield from ERROR
    yield from CARRY
    yield from STORED
    yield UNUSED_SLOPE
    if m.p["V"].shape[0] == m.p["V"].shape[1]:
        yield ("V where Vᵀ is meant", "head", "V", "The errors are brought into the hidden layer by V itself.",
               "(22) δ_t→t = D_t Vᵀ ε_t")
        yield ("Vᵀ left out", "head", "missing", "The errors ε of the output are taken for those of the state.",
               "(22) δ_t→t = D_t Vᵀ ε_t")
    for value, name, sentence in NONSENSE_SLOPES:
        yield name, "slope", value, sentence, D
    match m.cell:
        case RNN(phi):
            yield from rnn(phi)
        case LSTM():
            yield from lstm()
        case GRU():
            yield from gru(m.cell)
    if len(m.sides) == 2:
        yield ("the other direction's W in the carry", "matrix", "other direction", "The errors of one direction are "
               "carried by the recurrent weights of the other; no path joins the two.",
               "(25) δ_t = (1-h_t²)∘(Vᵀ ε_t + Wᵀ δ_{t+1}); δ'_t with V', W'")
        yield ("the other direction's V", "head", "other direction", "The errors come into one direction through the "
               "projection of the other.", "(25) δ_t = (1-h_t²)∘(Vᵀ ε_t + Wᵀ δ_{t+1}); δ'_t with V', W'")
        yield ("ε not put in the order of the backward direction", "error order", "as it comes", "The backward "
               "direction works from t = T to 1, the errors ε_t are fed to it from t = 1 to T.",
               "(25) δ'_t = (1-h'_t²)∘(V'ᵀ ε_t + W'ᵀ δ'_{t-1}), t = 1…T")


def rnn(phi: str) -> Iterator[Row]:
    other = {"tanh": "sigmoid", "sigmoid": "tanh"}[phi]
    yield (f"{other}' for {phi}'", "slope", other, f"The derivative is that of {other}; the network has {phi}.", D)
    yield ("φ' of the step before", "slope", "of h_{k-1}", "δ_k is multiplied with D_{k-1}, from the state before.",
           "(22) δ_t→t = D_t Vᵀ ε_t")
    yield ("φ' missing at k = t", "slope at k = t", "missing",
           "The error of a loss enters its own step without D_t; later it is multiplied in.",
           "(22) δ_t→t = D_t Vᵀ ε_t")
    in_carry, carry = "slope in the carry", "(22) δ_t→k-1 = D_{k-1} Wᵀ δ_t→k"
    yield ("φ' missing in the carry", in_carry, "missing",
           "D is multiplied in where the error starts, but not at the steps that it is carried to.", carry)
    yield ("the carry taken before φ'", in_carry, "too late", "What goes on to the step before is Wᵀ δh_k, without "
           "D_k; it has to be Wᵀ δ_k with δ_k = D_k δh_k.", carry)
    yield ("D on the other side of Wᵀ in the carry", in_carry, "on the other side", "The Jacobian is J_k = D_k W, so "
           "errors go back by Wᵀ D_k; here W and D have changed places.",
           "(18) ∂s_T/∂s_k = J_T … J_{k+1}, J_t = D_t W")
    yield ("D_k for D_{k-1} in the carry", in_carry, "D_{k+1}", "What arrives at step k - 1 is multiplied with the D "
           "of the step that it comes from.", carry)
    yield ("D_t for D_{k-1} in the carry", in_carry, "D_t", "All along the way back the D of the loss's own step t is "
           "used.", carry)
    yield ("h_0 gets δ_1 without Wᵀ", "start", "δ_1", "The last factor is missing: step 1 read h_0 through W.",
           "(25) dh_0 = Wᵀ δ_1")
    yield ("D_0 at h_0", "start", "with D_0", "h_0 is given, no φ made it: Wᵀ δ_1 is all.", "(25) dh_0 = Wᵀ δ_1")


def gate_slopes(gates: dict[str, str]) -> Iterator[Row]:
    """gates: {gate: its φ}."""
    yield ("σ' missing at every gate", "slope", "missing at σ", "δz_g lacks its factor y(1 - y) at all gates; the "
           "candidate has its own.", "(23), (24) δz = δy∘φ'(z)")
    yield ("tanh' for σ' at every gate", "slope", "tanh", "δz_g has the factor 1 - y² at all gates, which have σ: "
           "y(1 - y).", "(23), (24) δz = δy∘φ'(z)")
    for g, phi in gates.items():
        right, wrong, other = ("1 - y²", "y(1 - y)", "sigmoid") if phi == "tanh" else ("y(1 - y)", "1 - y²", "tanh")
        place, δz = f"slope {g}", "(23), (24) δz = δy∘φ'(z)"
        yield f"{g}: φ' missing", place, "missing", f"δz_{g} lacks its factor {right}.", δz
        yield (f"{g}: {other}' for {phi}'", place, other, f"δz_{g} has the factor {wrong}; its φ is {phi}, whose "
               f"derivative is {right}.", δz)
        yield (f"{g}: φ' taken of the gate, not of z", place, "again",
               f"φ' is evaluated at {g}, which φ has already been applied to.", δz)
        for gate in gates:
            if gate != g and phi == gates[gate] == "sigmoid":
                yield (f"{g}: σ' of the gate {gate}", place, gate,
                       f"δz_{g} has the factor {gate}(1 - {gate}); it is {g}(1 - {g}).", δz)


def paths(gates: tuple[str, ...]) -> Iterator[Row]:
    for g in gates:
        yield (f"path through {g} missing in the carry", f"path {g}", "missing",
               f"h_{{t-1}} also acts by way of {g}: W_{g}ᵀ δz_{g} belongs to what is carried back.",
               "(23) δh_t = Vᵀ ε_t + Σ_g W_gᵀ δz_{g,t+1}")


def only_paths(names: tuple[str, ...], equation: str) -> Iterator[Row]:
    for name in names:
        what = "direct path" if name == "direct" else f"path through {name}"
        yield (f"only the {what} in the carry", "only path", name,
               "h_{t-1} acts in more ways than this one: what they bring back has to be added up.", equation)


def lstm() -> Iterator[Row]:
    δc = "(23) δc_t = δh_t∘o_t∘(1-tanh²c_t) + δc_{t+1}∘f_{t+1}"
    yield ("direct path of the cell missing", "cell path", "missing",
           "c_{t-1} goes into c_t directly: δc_{t+1}∘f_{t+1} is part of δc_t.", δc)
    yield "f left out of the direct path", "cell path", "without f", "δc_{t+1} is carried on without f_{t+1}.", δc
    yield "f_t where f_{t+1} is meant", "cell path", "f_t", "The forget gate of the later step let c_t through.", δc
    yield "i where f is meant in the direct path", "cell path", "i", "What lets c_{t-1} through is f, not i.", δc
    yield ("the cell's carry sent through tanh'", "cell path", "inside tanh'",
           "δc_{t+1}∘f_{t+1} comes to c_t directly: tanh is on the way to h_t only.", δc)
    yield ("gate paths missing", "gate paths", "missing", "Only the cell carries errors back; the gates read h_{t-1} "
           "too.", "(23) δh_t = Vᵀ ε_t + Σ_g W_gᵀ δz_{g,t+1}")
    yield "tanh' of c missing", "tanh c", "missing", "On the way from h_t to c_t stands tanh.", δc
    yield "1-c² for tanh' of c", "tanh c", "1-c²", "tanh'(c) = 1 - tanh²(c), and c is not tanh(c).", δc
    yield "1-h² for tanh' of c", "tanh c", "1-h²", "tanh'(c) = 1 - tanh²(c), and h is o∘tanh(c).", δc
    yield "1-tanh(c) for tanh' of c", "tanh c", "1-tanh c", "tanh'(c) = 1 - tanh²(c), squared.", δc
    yield "tanh' of c_{t-1} for that of c_t", "tanh c", "c_{t-1}", "h_t is made of c_t.", δc
    yield "o missing in δc", "o in δc", "missing", "h_t = o∘tanh(c_t): o is a factor of the way back to c_t.", δc
    yield ("c for tanh(c) in δz_o", "output", "c_t", "The output gate multiplies tanh(c_t).",
           "(23) δz_o = δh∘tanh c∘o(1-o)")
    yield ("h for tanh(c) in δz_o", "output", "h", "The output gate multiplies tanh(c_t), of which h_t is the product.",
           "(23) δz_o = δh∘tanh c∘o(1-o)")
    yield ("c_t for c_{t-1} in δz_f", "forget", "c_t", "The forget gate multiplies the cell state before the step.",
           "(23) δz_f = δc∘c_{t-1}∘f(1-f)")
    yield ("c_{t-1} missing in δz_f", "forget", "missing", "The forget gate multiplies c_{t-1}.",
           "(23) δz_f = δc∘c_{t-1}∘f(1-f)")
    yield ("c̃ missing in δz_i", "input", "missing", "The input gate multiplies c̃.", "(23) δz_i = δc∘c̃∘i(1-i)")
    yield "c_t for c̃ in δz_i", "input", "c_t", "The input gate multiplies c̃.", "(23) δz_i = δc∘c̃∘i(1-i)"
    yield "c_{t-1} for c̃ in δz_i", "input", "c_{t-1}", "The input gate multiplies c̃.", "(23) δz_i = δc∘c̃∘i(1-i)"
    yield "f for i in δz_c", "candidate", "f", "The candidate is multiplied with i.", "(23) δz_c̃ = δc∘i∘(1-c̃²)"
    yield ("c_0 gets δc_1 without f_1", "start", "δc_1", "The last factor is missing: the gate f_1 let c_0 through.",
           "(23) Direct path of the cell: ∂c_t/∂c_{t-1} = diag(f_t)")
    yield ("i missing in δz_c", "candidate", "missing", "The candidate is multiplied with i.",
           "(23) δz_c̃ = δc∘i∘(1-c̃²)")
    yield ("i and f exchanged in the equations", "roles", "f and i", "f stands where i lets the candidate in, and i "
           "where f lets c_{t-1} through.", δc)
    yield from gate_slopes({"f": "sigmoid", "i": "sigmoid", "o": "sigmoid", "c": "tanh"})
    yield from paths(("f", "i", "o", "c"))
    yield from only_paths(("f", "i", "o", "c"), "(23) δh_t = Vᵀ ε_t + Σ_g W_gᵀ δz_{g,t+1}")


def gru(cell: GRU) -> Iterator[Row]:
    g, reset = cell.update, cell.reset
    old, new = ("z", "1-z") if g == "z" else ("1-u", "u")
    J = "(24) diag(z) + diag((h_{t-1}-n) z(1-z)) W_z + diag((1-z)(1-n²)) K" if g == "z" else \
        "(24) diag(1-u) + diag((n-h_{t-1}) u(1-u)) W_u + diag(u(1-n²)) K"
    K = "(24) K = W_n (diag(r) + diag(h_{t-1} r(1-r)) W_r)" if reset == "before" else \
        "(24) K = diag(r) W_n + diag((W_n h_{t-1}+b_hn) r(1-r)) W_r"
    yield ("direct path of the state missing", "direct", "missing", f"h_{{t-1}} goes into h_t directly: δh∘({old}) "
           "belongs to what is carried back.", J)
    yield "gate left out of the direct path", "direct", "without gate", f"The direct path has the factor {old}.", J
    yield f"{old} and {new} exchanged", "mix", "exchanged", f"Here {old} weighs the old state, {new} the candidate.", J
    yield (f"{new} for {old} in the direct path", "mix", "exchanged in the direct path",
           f"{old} weighs the old state.", J)
    yield f"{old} for {new} at n", "mix", "exchanged at the candidate", f"{new} weighs the candidate.", J
    yield f"{new} missing at n", "candidate", "missing", f"The candidate is weighed by {new}.", J
    yield f"sign of δz_{g}", "update", "sign", f"δ{g} = δh∘({'h_{t-1}-n' if g == 'z' else 'n-h_{t-1}'}).", J
    yield f"h_{{t-1}} missing in δz_{g}", "update", "without h", "The gate weighs n against h_{t-1}: both count.", J
    yield f"n missing in δz_{g}", "update", "without n", "The gate weighs n against h_{t-1}: both count.", J
    yield f"h_t for h_{{t-1}} in δz_{g}", "update", "h_k", "The gate weighs n against the state before the step.", J
    yield from gate_slopes({name: "tanh" if name == "n" else "sigmoid" for name in cell.gates})
    yield from only_paths(("direct", *cell.gates), J)
    yield from ((name, place, value, sentence, J) for name, place, value, sentence, _ in paths(cell.gates))
    if reset:
        yield "reset gate ignored in the carry", "reset in the carry", "ignored", "n reads h_{t-1} through r.", K
        yield ("reset gate ignored in W_n's gradient", "reset in dW_n", "ignored", "W_n was multiplied with r∘h_{t-1}."
               if reset == "before" else "W_n h_{t-1} + b_hn is multiplied with r: δ is δz_n∘r for W_n and b_hn.", K)
        yield ("W_n missing in δz_r", "reset's derivative", "h", "What r multiplies is W_n h_{t-1} + b_hn."
               if reset == "after" else "Between r and z_n stands W_n: δr = (W_nᵀ δz_n)∘h_{t-1}.", K)
        yield ("reset gate on the other side of the product, going back", "placement", "other",
               f"The equations are those of the other placement; here r acts {reset} the product.", K)
        if reset == "after":
            yield ("b_hn missing in δz_r", "reset's derivative", "without b",
                   "What r multiplies is W_n h_{t-1} + b_hn.", K)


def uses(m: Model) -> Iterator[Row]:
    T, B, both = len(m.x), m.x.shape[1], len(m.sides) == 2
    yield from STATE
    yield from (row for row in LOSSES if T > 2 or "left out" not in row[0])
    yield from USES
    if isinstance(m.cell, LSTM):
        yield ("c_{k-1} where h_{k-1} is meant", "h", "c_{k-1}", "The gates read h, not the cell state.",
               "(23) dW_g = Σ δz_g h_{t-1}ᵀ")
        yield "c_t where h_t is meant, at V", "seen", "c_t", "The output reads h, not the cell state.", "(2) V s_t + c"
    if isinstance(m.cell, RNN):
        yield "z_t where h_t is meant, at V", "seen", "z_t", "V was multiplied with h_t = φ(z_t).", "(2) V s_t + c"
    if both:
        yield ("x not put in the backward direction's order", "x", "as it comes", "The backward direction reads from "
               "t = T to 1; its k-th step has to be paired with x_{T+1-k}.", "(25) dU' = Σ δ'_t x_tᵀ")
        yield ("h' not put in the order of time, at V'", "seen", "as it comes", "The states of the backward direction "
               "are made from t = T to 1; ε_t belongs to h'_t.", "(25) dV' = Σ ε_t h'_tᵀ")
    for n in range(2, T):
        yield (f"truncated to {n} steps (sliding window)", "uses", ("sliding", n),
               f"Every E_t goes back over {n} uses only.", "(19) the band of width τ; (17) is exact without it")
    for n in range(2, T):
        yield (f"truncated in chunks of {n} steps", "uses", ("chunks", n), f"Every {n} steps, counted from the start, "
               "the carry is cut.", "(19) lower-triangular blocks; (17) is exact without them")
        if T % n:
            yield (f"truncated in chunks of {n} steps from the end", "uses", ("chunks from the end", n),
                   f"Every {n} steps, counted from the end, the carry is cut.",
                   "(19) lower-triangular blocks; (17) is exact without them")
    for n in range(1, T):
        yield (f"only the last {n} uses" if n > 1 else "only the use at the last step", "uses", ("stops", n),
               f"The loop starts at the last step and ends after {n}: the uses before are not counted, for no loss."
               if n > 1 else "Only the step that the loop starts from is counted; a bias once instead of T times.",
               "(17) a sum over all k = 1 … T")
    if B > 1:
        for row, name in ((0, "first"), (B - 1, "last")):
            yield (f"only the {name} row of the batch", "rows", row, "A gradient is summed over all rows of the batch.",
                   "(11) E is summed over the batch")


def results(m: Model) -> Iterator[Row]:
    for a, b in combinations(m.cell.gates, 2):
        yield (f"gates {a} and {b} exchanged", "result", (a, b), f"The gradients of {a} are handed in under the name "
               f"{b}, and the other way round.", "(4), (6) one matrix for each gate")
    if len(m.sides) == 2:
        yield ("the two directions exchanged", "result", "directions", "The gradients of one direction are handed in "
               "under the names of the other.", "(25) dW = Σ δ_t h_{t-1}ᵀ, dW' = Σ δ'_t h'_{t+1}ᵀ")


DIVIDED = "Divided by {}; this loss is the sum over the {}."
UNDIVIDED = "Not divided by {}; this loss is the mean over the {}."
REDUCTION = "(11) sum, or mean over the steps; over the batch likewise"
FACTORS: dict[str, tuple[Callable[[int, int], float], str, str, str]] = {  # of T and B
    "-1": (lambda T, B: -1.0, "the opposite sign", "y - ŷ for ŷ - y, or the step of descent -dE/dW for the gradient.",
           "(12) ∂E/∂q = ŷ - y"),
    "1/T": (lambda T, B: 1 / T, "mean for sum over the steps", DIVIDED.format("T", "steps"), REDUCTION),
    "T": (lambda T, B: float(T), "sum for mean over the steps", UNDIVIDED.format("T", "steps"), REDUCTION),
    "1/B": (lambda T, B: 1 / B, "mean for sum over the batch", DIVIDED.format("B", "batch"), REDUCTION),
    "B": (lambda T, B: float(B), "sum for mean over the batch", UNDIVIDED.format("B", "batch"), REDUCTION),
    "1/(TB)": (lambda T, B: 1 / (T * B), "mean for sum over steps and batch", DIVIDED.format("T B", "steps and batch"),
               REDUCTION),
    "TB": (lambda T, B: float(T * B), "sum for mean over steps and batch", UNDIVIDED.format("T B", "steps and batch"),
           REDUCTION),
}
TRANSPOSED = Mistake("transposed", "transposed", True, "The matrix is the transpose of its gradient: row and column of "
                     "every product δ sᵀ are exchanged.", "(22) A[t,k] = δ_t→k s_{k-1}ᵀ, in rows s_{k-1}ᵀ δ", "result")


def named_factors(means: tuple[bool, bool]) -> list[Mistake]:
    """Sign, T and B the way that they can be wrong: means says whether the loss is a mean over the steps, the batch."""
    keys = ["-1", "T" if means[0] else "1/T", "B" if means[1] else "1/B"]
    keys += ["TB"] if means == (True, True) else ["1/(TB)"] if means == (False, False) else []
    return [Mistake(FACTORS[key][1], "factor -1" if key == "-1" else "factor", key, *FACTORS[key][2:], "result")
            for key in keys]


def constant(factor: float) -> Mistake:
    return Mistake(f"{factor:.9g} times the gradient", "factor", factor, f"All entries are {factor:.12g} times what "
                   "they should be: a constant got in, or was left out.", "(11) E and its reduction", "result")


def clipped(bound: float) -> Mistake:
    return Mistake(f"clipped by value at ±{bound:.9g}", "clip", bound, "Entries beyond this bound were cut off; that "
                   "belongs to the step that is taken, not to the gradient.", "(14) clipping by value", "result")


def switches(combination: tuple[Mistake, ...], *where: Pass) -> On:
    """The switches of a combination; where passes are named, of its mistakes that lie in one of them."""
    return {m.place: m.value for m in combination if not where or m.where in where}


def terms(m: Model, names: list[str], combination: tuple[Mistake, ...] = ()) -> Arrays:
    """{θ: what every use contributes, (K, *θ.shape)} with these mistakes; without any the truth. See `Model.terms`."""
    on = switches(combination)
    found = m.terms(names, on, switches(combination, "forward"), switches(combination, "backward"))
    T, B = m.x.shape[:2]
    for place, value in on.items():
        if place.startswith("factor"):
            scale = FACTORS[value][0](T, B) if isinstance(value, str) else value
            found = {name: scale * term for name, term in found.items()}
        if place == "clip":
            totals = {name: term.sum(0) for name, term in found.items()}
            found = {name: term * (value / np.maximum(np.abs(totals[name]), value))
                     for name, term in found.items()}
        if place == "transposed":
            found = {name: np.swapaxes(term, 1, 2) for name, term in found.items()}
    return found
