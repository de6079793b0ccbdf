"""Floor 0: what goes wrong on the way back through one kind of cell, as rows of the table in `mistakes`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

from .cells import GRU, LSTM, PHI, RNN, NumPyCell

Row = tuple[str, str, Any, str, str]
Joined = tuple[str, tuple[str, ...], str, str]  # one mistake that is made at several places: the rows it is made of

NONSENSE_SLOPES = [  # value, what it is in words
    ("missing", "φ' missing", "φ' is missing altogether: the errors pass the non-linearity as if it were not there."),
    ("again", "φ' taken of h, not of z", "φ' is evaluated at h, which φ has already been applied to; from h it is a "
     "formula of h itself, as 1 - h² for tanh."),
    ("of z", "h's formula of φ' taken of z", "1 - z² and z(1 - z) are no derivatives: the formulas want h = φ(z)."),
    ("twice", "φ' applied twice", "φ' is multiplied in twice at every step."),
    ("1-y", "1-h for φ'", "1 - h is no derivative of φ: for tanh 1 - h², for the sigmoid h(1 - h)."),
    ("(1-y)²", "(1-h)² for φ'", "(1 - h)² is not 1 - h²."),
]
RELU_SLOPES = [NONSENSE_SLOPES[0],
               ("y", "ReLU for its derivative", "max(z, 0) stands where its derivative is meant, 1 where "
                "z > 0, else 0.")]
UNUSED_SLOPE = ("φ' missing in the products, not in the carry", "slope in the uses", "missing", "x_k and h_{k-1} are "
                "multiplied with the error of h_k, or of the gate; it has to be that of z_k, which is carried on.",
                "(22) δ_t→t = D_t Vᵀ ε_t")
D = "(16) D_t = diag(φ'(z_t)): tanh' = 1 - h², σ' = h(1 - h), relu' = 1 where h > 0"
δz = "(23), (24) δz = δy∘φ'(z)"
δc = "(23) δc_t = δh_t∘o_t∘(1-tanh²c_t) + δc_{t+1}∘f_{t+1}"


def of_cell(cell: NumPyCell, both: bool) -> Iterator[Row]:
    """All that can go wrong on the way back through this cell; both: in two directions."""
    yield UNUSED_SLOPE
    for value, name, sentence in RELU_SLOPES if cell == RNN("relu") else NONSENSE_SLOPES:
        yield name, "slope", value, sentence, D
    match cell:
        case RNN(phi):
            yield from rnn(phi, both)
        case LSTM(peepholes):
            yield from lstm()
            yield from peeping() if peepholes else ()
        case GRU():
            yield from gru(cell)


def joined(cell: NumPyCell, both: bool) -> Iterator[Joined]:
    """Mistakes that are one to who makes them, and several in the equations."""
    match cell:
        case RNN() if both:
            yield ("the backward direction taken for one that runs forward",
                   ("errors carried the wrong way through time", "φ' of the step before",
                    "h_k where h_{k-1} is meant"), "Its errors are carried from T to 1, its φ' is that of h'_{t+1}, "
                   "and dW' is made with h'_t: as if h'_t came after h'_{t-1}. It comes after h'_{t+1}.",
                   "(25) δ'_t = (1-h'_t²)∘(V'ᵀ ε_t + W'ᵀ δ'_{t-1}), dW' = Σ δ'_t h'_{t+1}ᵀ")
        case LSTM():
            yield ("c_{t-1} and c̃ exchanged in δz_f and δz_i", ("c̃ for c_{t-1} in δz_f", "c_{t-1} for c̃ in δz_i"),
                   "f multiplies c_{t-1}, i multiplies c̃, and that is what their errors have as a factor.",
                   "(23) δz_f = δc∘c_{t-1}∘f(1-f), δz_i = δc∘c̃∘i(1-i)")
        case GRU(reset, g):
            old, new = ("z", "1-z") if g == "z" else ("1-u", "u")
            yield (f"{old} and {new} exchanged in all of the backward pass",
                   (f"{old} and {new} exchanged", f"sign of δz_{g}"), "The equations are those of "
                   f"h_t = ({new})∘h_{{t-1}} + ({old})∘n; here {old} weighs the old state.", "(5), (6) u = 1 - z; (24)")
            if reset:
                yield ("reset gate ignored on the way back through W_n",
                       ("reset gate ignored in the carry", "reset gate ignored in W_n's gradient"),
                       "What W_n gets, and sends back to h_{t-1}, is " + ("δz_n∘r." if reset == "after" else
                       "made with r∘h_{t-1}: r is a factor of dW_n's state, and of what reaches h_{t-1}."),
                       "(24) K = W_n (diag(r) + …), before the product; K = diag(r) W_n + …, after it")


def rnn(phi: str, both: bool) -> Iterator[Row]:
    for other in PHI:
        if other != phi:
            yield (f"{other}' for {phi}'", "slope", other, f"The derivative is that of {other}; the network has {phi}.",
                   D)
    if both:
        yield ("φ' of the other direction's state", "slope", "other direction", "δ_t is multiplied with the D of the "
               "other direction's state at the same t.", "(25) δ_t = (1-h_t²)∘…, δ'_t = (1-h'_t²)∘…")
    yield ("φ' of the step before", "slope", "h_{k-1}", "δ_k is multiplied with D_{k-1}, from the state before.",
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
           "candidate has its own.", δz)
    yield ("tanh' for σ' at every gate", "slope", "tanh", "δz_g has the factor 1 - y² at all gates, which have σ: "
           "y(1 - y).", δz)
    for g, phi in gates.items():
        right, wrong, other = ("1 - y²", "y(1 - y)", "sigmoid") if phi == "tanh" else ("y(1 - y)", "1 - y²", "tanh")
        place = f"slope {g}"
        yield f"{g}: φ' missing", place, "missing", f"δz_{g} lacks its factor {right}.", δz
        yield (f"{g}: {other}' for {phi}'", place, other, f"δz_{g} has the factor {wrong}; its φ is {phi}, whose "
               f"derivative is {right}.", δz)
        yield (f"{g}: φ' taken of the gate, not of z", place, "again",
               f"φ' is evaluated at {g}, which φ has already been applied to.", δz)
        yield f"{g}: 1-y for φ'", place, "1-y", f"δz_{g} has the factor 1 - y; the derivative is {right}.", δz
        for gate in gates:
            if gate != g and phi == gates[gate] == "sigmoid":
                yield (f"{g}: σ' of the gate {gate}", place, f"gate {gate}",
                       f"δz_{g} has the factor {gate}(1 - {gate}); it is {g}(1 - {g}).", δz)


def paths(gates: tuple[str, ...]) -> Iterator[Row]:
    for g in gates:
        yield (f"path through {g} missing in the carry", f"path {g}", "missing",
               f"h_{{t-1}} also acts by way of {g}: W_{g}ᵀ δz_{g} belongs to what is carried back.",
               "(23) δh_t = Vᵀ ε_t + Σ_g W_gᵀ δz_{g,t+1}")


def ways_back(gates: tuple[str, ...], equation: str) -> Iterator[Row]:
    for g in gates:
        yield (f"W_{g} where its transpose is meant, in the carry", f"matrix {g}", "W", f"δz_{g} is carried back by "
               f"W_{g} itself. In rows: δ @ W.T.", equation)
    for g, other in permutations(gates, 2):
        yield (f"W_{other} for W_{g} in the carry", f"matrix {g}", other, f"δz_{g} is carried back by the matrix that "
               f"h_{{t-1}} came to {g} by, W_{g}.", equation)


def only_paths(names: tuple[str, ...], equation: str) -> Iterator[Row]:
    for name in names:
        what = "direct path" if name == "direct" else f"path through {name}"
        yield (f"only the {what} in the carry", "only path", name,
               "h_{t-1} acts in more ways than this one: what they bring back has to be added up.", equation)


def lstm() -> Iterator[Row]:
    δh = "(23) δh_t = Vᵀ ε_t + Σ_g W_gᵀ δz_{g,t+1}"
    yield ("direct path of the cell missing", "cell path", "missing",
           "c_{t-1} goes into c_t directly: δc_{t+1}∘f_{t+1} is part of δc_t.", δc)
    yield "f left out of the direct path", "cell path", "without f", "δc_{t+1} is carried on without f_{t+1}.", δc
    yield "f_t where f_{t+1} is meant", "cell path", "f_t", "The forget gate of the later step let c_t through.", δc
    yield "i where f is meant in the direct path", "cell path", "i", "What lets c_{t-1} through is f, not i.", δc
    yield ("the cell's carry sent through tanh'", "cell path", "inside tanh'",
           "δc_{t+1}∘f_{t+1} comes to c_t directly: tanh is on the way to h_t only.", δc)
    yield ("gate paths missing", "gate paths", "missing", "Only the cell carries errors back; the gates read h_{t-1} "
           "too.", δh)
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
    yield ("c̃ for c_{t-1} in δz_f", "forget", "c̃", "The forget gate multiplies c_{t-1}; c̃ is what i multiplies.",
           "(23) δz_f = δc∘c_{t-1}∘f(1-f)")
    for g in "fic":
        yield (f"later steps left out of δc in δz_{g}", "only h at", g, f"δz_{g} is made of δh_t∘o∘tanh' alone, "
               "without δc_{t+1}∘f_{t+1}, which the cell's carry has.", δc)
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
    yield from only_paths(("f", "i", "o", "c"), δh)
    yield from ways_back(("f", "i", "o", "c"), δh)


def peeping() -> Iterator[Row]:
    z = "Gers, Schmidhuber 2000: z_f has p_f∘c_{t-1} in it, z_i has p_i∘c_{t-1}, z_o has p_o∘c_t"
    yield ("path into c_t through p_o missing", "peephole o", "missing", "o sees c_t: δz_o∘p_o belongs to δc_t.", z)
    yield ("p_o's error sent to c_{t-1}", "peephole o", "c_{t-1}", "o sees c_t, f and i see c_{t-1}: δz_o∘p_o belongs "
           "to δc_t.", z)
    for g in "fi":
        yield (f"path to c_{{t-1}} through p_{g} missing", f"peephole {g}", "missing", f"{g} sees c_{{t-1}}: "
               f"δz_{g}∘p_{g} belongs to what is carried to it.", z)


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
    yield from ways_back(cell.gates, J)
    for gate in cell.gates[:-1]:
        yield (f"{gate} computed again from h_t", "recomputed", gate, f"The backward pass computes {gate} once more, "
               "but the state that it finds is that after the step; or h was overwritten.", "(5), (6) from h_{t-1}")
    yield from ((name, place, value, sentence, J) for name, place, value, sentence, _ in paths(cell.gates))
    if reset:
        yield "reset gate ignored in the carry", "reset in the carry", "ignored", "n reads h_{t-1} through r.", K
        yield ("reset gate ignored in W_n's gradient", "reset in dW_n", "ignored", "W_n was multiplied with r∘h_{t-1}."
               if reset == "before" else "W_n h_{t-1} + b_hn is multiplied with r: δ is δz_n∘r for W_n and b_hn.", K)
        yield ("W_n missing in δz_r", "reset's derivative", "h" if reset == "after" else "without W",
               "What r multiplies is W_n h_{t-1} + b_hn."
               if reset == "after" else "Between r and z_n stands W_n: δr = (W_nᵀ δz_n)∘h_{t-1}.", K)
        yield ("h_t for h_{t-1} in δz_r", "reset's derivative", "h_k", "r acts on the state before the step.", K)
        yield ("reset gate on the other side of the product, going back", "placement", "other",
               f"The equations are those of the other placement; here r acts {reset} the product.", K)
        if reset == "after":
            yield ("b_hn missing in δz_r", "reset's derivative", "without b",
                   "What r multiplies is W_n h_{t-1} + b_hn.", K)


