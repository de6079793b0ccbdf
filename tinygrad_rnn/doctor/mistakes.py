"""Floor 0: the table of mistakes in hand-written BPTT. Each is one place of it with something else written there.

The places are the switches of `cells` and `model`; what goes wrong inside a cell stands in `cell_mistakes`.

A row is (name, place, what stands there, the sentence that explains it, the equation to read). Formulas are those of
the notes, in column vectors; z_k stands for all that φ is taken of, D_k = diag φ'(z_k).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np

from .cell_mistakes import Row, joined, of_cell
from .cells import GRU, LSTM, PHI, RNN, Arrays, On
from .model import Model

Pass = Literal["forward", "backward", "uses", "result"]


@dataclass(frozen=True)
class Mistake:
    """name: in a few words. sentence: what was done, and what is right. equation: number and formula to read.

    where: in the forward pass, in the errors on their way back, in what they are multiplied with and summed over, or in
    the result. place, value: the switch; or parts, the mistakes that this one is made of.
    """

    name: str
    place: str
    value: Any
    sentence: str
    equation: str
    where: Pass
    parts: tuple[Mistake, ...] = ()

    @cached_property
    def places(self) -> frozenset[str]:
        return frozenset(m.place for m in self.parts or (self,))

    @property
    def local(self) -> bool:
        """Can it be in one gradient and not in the others? A mistake on the way to the errors cannot."""
        return all(m.where in ("uses", "result") and m.place not in ("losses", "rows") for m in self.parts or (self,))

    def touches(self, name: str) -> bool:
        """Can it change the gradient of this name? For what each gradient is multiplied with, and V and c."""
        if self.parts:
            return any(m.touches(name) for m in self.parts)
        if self.place == "zero":
            return "_0" not in name  # of a state that is "the initial state gets nothing"
        if self.place in ONLY:
            return name[0] == ONLY[self.place]
        return self.where != "backward" or self.place in BEFORE_V or name.rstrip("'") not in ("V", "c")

    def __str__(self) -> str:
        return self.name


ONLY = {"x": "U", "h": "W", "seen": "V", "peeped": "p"}  # place: the first letter of what it can change
BEFORE_V = ("error", "error order", "targets", "stored")  # places of the way back that V and c depend on
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
SOFTMAX: list[tuple[Any, str, Callable[[int, int], int]]] = [  # axes of the maximum and of the sum, in words, by T, B
    ((1, 1), "the rows", lambda T, B: B), ((-1, 1), "the rows, with the maximum over the classes", lambda T, B: B),
    (((1, 2), (1, 2)), "rows and classes", lambda T, B: B), ((0, 0), "the steps", lambda T, B: T),
]
OFF_BY_ONE: list[Row] = [
    ("y_{t+1} where y_t is meant", "targets", -1, "Every step is scored with the target of the step after, the last "
     "with the first one.", "(11) E = Σ_t -ln ŷ_t[y_t]"),
    ("y_{t-1} where y_t is meant", "targets", 1, "Every step is scored with the target of the step before, the first "
     "with the last one (in Python index -1).", "(11) E = Σ_t -ln ŷ_t[y_t]"),
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


def mistakes(m: Model) -> list[Mistake]:
    """All that can go wrong in this case, one by one; what would change nothing by definition is left out."""
    found = [Mistake(*row, "forward") for row in forward(m)]
    found += [Mistake(*row, "backward") for row in backward(m)]
    found += [Mistake(*row, "uses") for row in uses(m)]
    found += [Mistake(*row, "result") for row in results(m)]
    named = {mistake.name: mistake for mistake in found}
    for name, parts, sentence, equation in joined(m.cell, len(m.sides) == 2):
        found.append(Mistake(name, "joined", parts, sentence, equation, "backward", tuple(named[p] for p in parts)))
    return found


def forward(m: Model) -> Iterator[Row]:
    yield from FORWARD
    starts = tuple(name for name in m.p if name.removesuffix("'").endswith("_0"))
    for zeros in dict.fromkeys((starts, *((name,) for name in starts))):
        yield (f"{' and '.join(zeros)} taken as 0", "initial", zeros, "The forward pass starts from zeros, not from "
               "the state that is given.", "(1) s_1 = φ(U x_1 + W s_0 + b)")
    T, B, _ = m.x.shape
    for value, over, size in SOFTMAX:
        if size(T, B) > 1:
            yield (f"softmax over {over}", "softmax", value, "What adds up to 1 are not the probabilities of the "
                   "classes at one step, in one row.", "(2) ŷ_t = softmax(V s_t + c)")
    match m.cell:
        case RNN(phi):
            for other in PHI:
                if other != phi:
                    yield (f"{other} for {phi}", "model", other, f"Forward and backward pass are those of a network "
                           f"with {other}; this one has {phi}.", "(1) s_t = φ(z_t)")
        case LSTM(peepholes):
            if peepholes:
                yield ("peepholes left out of the forward pass", "without peepholes", True, "The gates do not see "
                       "the cell state.", "Gers, Schmidhuber 2000: z_f has p_f∘c_{t-1} in it, z_i and z_o likewise")
                yield ("o sees c_{t-1}", "model", "o sees c_{t-1}", "f and i see the cell state before the step, o "
                       "that after it.", "Gers, Schmidhuber 2000: z_o has p_o∘c_t in it")
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
        yield ("h' not put in the order of time, ε is", "reading", "not turned back, ε is", "The output layer, and "
               "dV', have h_t beside h'_{T+1-t}; the errors are turned round for the backward direction all the same.",
               "(7) ŷ_t = softmax(V h_t + V' h'_t + c)")
        yield ("V for V' in the forward pass", "joined", "V twice", "Both directions come to the output by V.",
               "(7) ŷ_t = softmax(V h_t + V' h'_t + c)")
        first = " and ".join(f"{state}_0" for state in m.cell.states)
        yield (f"{first} for both directions", "initial", "h_0 for both", "The backward direction starts from the "
               "state that is given for the forward one.", "(7) h'_T = tanh(U' x_T + W' h'_{T+1})")


def backward(m: Model) -> Iterator[Row]:
    yield from ERROR
    yield from OFF_BY_ONE if len(m.x) > 1 else ()
    yield from CARRY
    yield from STORED
    if m.p["V"].shape[0] == m.p["V"].shape[1]:
        yield ("V where Vᵀ is meant", "head", "V", "The errors are brought into the hidden layer by V itself.",
               "(22) δ_t→t = D_t Vᵀ ε_t")
        yield ("Vᵀ left out", "head", "missing", "The errors ε of the output are taken for those of the state.",
               "(22) δ_t→t = D_t Vᵀ ε_t")
    yield from of_cell(m.cell, len(m.sides) == 2)
    if m.x.shape[1] > 1:
        yield ("carry not reset between the rows", "not reset", "rows", "The rows of the batch go back one after the "
               "other, and the first carry of a row is the last of the row before: it has to be 0.",
               "(25) dh_t: at t = T nothing comes from later steps")
    if len(m.sides) == 2:
        yield ("the other direction's W in the carry", "matrix", "other direction", "The errors of one direction are "
               "carried by the recurrent weights of the other; no path joins the two.",
               "(25) δ_t = (1-h_t²)∘(Vᵀ ε_t + Wᵀ δ_{t+1}); δ'_t with V', W'")
        yield ("carry not reset between the directions", "not reset", "directions", "The backward direction begins "
               "with what the forward one has carried to h_0; at its last step nothing comes from later ones.",
               "(25) δ'_t = (1-h'_t²)∘(V'ᵀ ε_t + W'ᵀ δ'_{t-1}), δ'_0 = 0")
        yield ("the other direction's V", "head", "other direction", "The errors come into one direction through the "
               "projection of the other.", "(25) δ_t = (1-h_t²)∘(Vᵀ ε_t + Wᵀ δ_{t+1}); δ'_t with V', W'")
        yield ("ε not put in the order of the backward direction", "error order", "as it comes", "The backward "
               "direction works from t = T to 1, the errors ε_t are fed to it from t = 1 to T.",
               "(25) δ'_t = (1-h'_t²)∘(V'ᵀ ε_t + W'ᵀ δ'_{t-1}), t = 1…T")


def uses(m: Model) -> Iterator[Row]:
    T, B, both = len(m.x), m.x.shape[1], len(m.sides) == 2
    yield from STATE
    yield from (row for row in LOSSES if T > 2 or "left out" not in row[0])
    yield from USES
    if isinstance(m.cell, LSTM):
        yield ("c_{k-1} where h_{k-1} is meant", "h", "c_{k-1}", "The gates read h, not the cell state.",
               "(23) dW_g = Σ δz_g h_{t-1}ᵀ")
        yield "c_t where h_t is meant, at V", "seen", "c_t", "The output reads h, not the cell state.", "(2) V s_t + c"
        if m.cell.peepholes:
            see = "f and i see c_{t-1}, o sees c_t: dp_f = Σ δz_f∘c_{t-1}, dp_i = Σ δz_i∘c_{t-1}, dp_o = Σ δz_o∘c_t"
            yield "c_t for c_{t-1} at p_f, p_i", "peeped", "c_k", "These gates saw the state before the step.", see
            yield "c_{t-1} for c_t at p_o", "peeped", "c_{k-1}", "o saw the state that the step made.", see
            yield "c left out at the peepholes", "peeped", "missing", "p_g multiplies c; b_g multiplies 1.", see
    if isinstance(m.cell, RNN):
        yield "z_t where h_t is meant, at V", "seen", "z_t", "V was multiplied with h_t = φ(z_t).", "(2) V s_t + c"
    if both:
        yield ("h_{k+1} where h_{k-1} is meant, s_0 past the end", "h", "h_{k+1}, s_0", "The error of step k is "
               "multiplied with the state on its other side, h'_{t-1} for h'_{t+1}; at t = 1 that is index -1, where "
               "h'_{T+1} stands.", "(25) dW' = Σ δ'_t h'_{t+1}ᵀ")
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
        yield ("one direction's gradient added to the other's", "added", "'", "What belongs to the backward direction "
               "(with a prime) stands in the sum of the forward one, and its own is 0.",
               "(25) dW = Σ δ_t h_{t-1}ᵀ, dW' = Σ δ'_t h'_{t+1}ᵀ; dV, dV' likewise")
    yield ("0: nothing added to it", "zero", True, "All entries are 0: this sum was begun and nothing came to it, or "
           "what came went elsewhere.", "(17) a sum over all k = 1 … T")


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
    return {part.place: part.value for m in combination for part in m.parts or (m,)
            if not where or part.where in where}


def terms(m: Model, names: list[str], combination: tuple[Mistake, ...] = ()) -> Arrays:
    """{θ: what every use contributes, (K, *θ.shape)} with these mistakes; without any the truth. See `Model.terms`."""
    on = switches(combination)
    asked = names
    if on.get("added"):
        asked = list(dict.fromkeys((*names, *(f"{name}'" for name in names if f"{name}'" in m.p))))
    found = m.terms(asked, on, switches(combination, "forward"), switches(combination, "backward"))
    T, B = m.x.shape[:2]
    if on.get("added"):
        found = {name: 0 * found[name] if name.endswith("'") else
                 found[name] + found[f"{name}'"][::-1] if f"{name}'" in found else found[name] for name in names}
    for place, value in on.items():
        if place.startswith("factor"):
            scale = FACTORS[value][0](T, B) if isinstance(value, str) else value
            found = {name: scale * term for name, term in found.items()}
        if place == "zero":
            found = {name: 0 * term for name, term in found.items()}
        if place == "clip":
            totals = {name: term.sum(0) for name, term in found.items()}
            found = {name: term * (value / np.maximum(np.abs(totals[name]), value))
                     for name, term in found.items()}
        if place == "transposed":
            found = {name: np.swapaxes(term, 1, 2) for name, term in found.items()}
    return found
