"""Floor 7: the 34 rows, each with its note, what is written, what is right, and where the library documents that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from textwrap import wrap

import numpy as np

from . import gradients, models, vanishing
from .demonstration import Demonstration

NOTES = {"S0": "notes on RNN, BPTT, LSTM and BiLSTM", "S1": "review of CS224n's RNN and LSTM",
         "S2": "notes on RNN, LSTM and GRU", "S3": "notes on training a BiRNN", "S4": "study notes on RNN and LSTM"}


@dataclass(frozen=True)
class Erratum:
    """One row: what a note says, what is right, where the library documents it (below `tinygrad_rnn`), and the demo."""

    number: str
    note: str
    written: str
    right: str
    place: str
    demo: Callable[[np.random.Generator], Demonstration] | None = None

    def demonstrate(self, seed: int = 0) -> Demonstration | None:
        """Run the demonstration, where there is one; equal seeds give equal numbers."""
        return self.demo(np.random.default_rng(seed)) if self.demo else None

    def __str__(self) -> str:
        sources = "; ".join(f"{note}, {NOTES[note]}" for note in self.note.split(", "))
        lines = [f"{self.number} ({sources})", "", f"  as written   {self.written}", f"  right        {self.right}",
                 f"  see          tinygrad_rnn.{self.place}"]
        return "\n".join(lines)


ERRATA = (
    Erratum("E1", "S0", "tanh makes a vector, then a sigmoid over it gives S_i", "one non-linearity: S_i = tanh(…)",
            "nn.RNNCell"),
    Erratum("E2", "S0", "ŷ_i depends on S_{i-1}", "on S_i: ŷ_i = softmax(V S_i + c)", "models.ManyToMany"),
    Erratum("E3", "S0", "dS_T/dW is approximated by the sum over k",
            "the sum is exact; only a truncated one approximates", "errata.gradients.exact_sum",
            gradients.exact_sum),
    Erratum("E4", "S0", "γλ > 1 means exploding; what γ and λ are is not said",
            "γ = sup|φ'|, λ = largest singular value of W; γλ > 1 is only necessary",
            "errata.vanishing.explodes_by_the_product",
            vanishing.one_bound_two_fates),
    Erratum("E5", "S2", "tanh controls vanishing and exploding gradients, as it returns values in ±1",
            "it bounds values; Jacobians only by ‖W‖, and tanh' ≤ 1 helps them vanish",
            "errata.vanishing.controlled_by_the_jacobian",
            vanishing.values_are_not_gradients),
    Erratum("E6", "S0", "the cell path is linear, so its gradient does not vanish",
            "it is a product of forget gates, each below 1, and there are paths through the gates besides",
            "errata.vanishing.product_of_gates", vanishing.forget_gates_multiply),
    Erratum("E7", "S0", "the forget gate reads the hidden state",
            "gates read h_{t-1} and x_t; c only where there are peepholes", "nn.LSTMCell"),
    Erratum("E8", "S1", "h_t is among the parameters to be solved", "h_t is a state; h_0 may be a parameter",
            "nn.Cell"),
    Erratum("E9", "S1", "i = σ(W_f i_{t-1} + U_i x_t + b_i), o = σ(W_f o_{t-1} + U_o x_t + b_o)",
            "i = σ(W_i h_{t-1} + U_i x_t + b_i), o = σ(W_o h_{t-1} + U_o x_t + b_o)", "nn.LSTMCell",
            models.gates_that_read_gates),
    Erratum("E10", "S1, S0", "y_t is the prediction here and the target there", "target y_t, prediction ŷ_t",
            "functional.cross_entropy"),
    Erratum("E11", "S2", "in an RNN the parameters learned for one example depend on those of other examples",
            "the steps of a sequence share one set of weights", "nn.unroll"),
    Erratum("E12", "S2", "gate = σ(W h_{t-1} + W x_t + b), one W for both", "two matrices: W h_{t-1} + U x_t + b",
            "nn.affine"),
    Erratum("E13", "S2", "insert gate", "input gate, i", "nn.LSTMCell"),
    Erratum("E14", "S2", "the new hidden state is the output gate times the cell state",
            "times tanh of the cell state: h_t = o∘tanh(c_t)", "nn.LSTMCell"),
    Erratum("E15", "S2", "a layer has as many cells as there are time steps, hence the padding",
            "one cell, applied T times; padding is for batching", "nn.unroll", models.one_cell_for_any_length),
    Erratum("E16", "S2", "the GRU's candidate has a scrambled Wc_cc^{t-1}",
            "W_cc c_{t-1}: a matrix times the old state", "nn.GRUCell"),
    Erratum("E17", "S2", "a GRU has only one gate, the update gate", "that is the simplified GRU; the full one has a "
            "reset gate, before or after the product", "nn.GRUCell", models.one_gate_or_two),
    Erratum("E18", "S2", "outputs of an 'LSTM cell', in the part on the GRU", "of a GRU cell", "nn.GRUCell"),
    Erratum("E19", "S3, S1, S0", "1/N, 1/T or nothing before the sum of the losses",
            "say which reduction; sum for mean is the commonest constant factor in a failed gradient check",
            "functional.cross_entropy"),
    Erratum("E20", "S3", "∂E/∂q_l = -(y_l/ŷ_l) ŷ_l + Σ_{k≠l} (y_k/ŷ_k)(-ŷ_k ŷ_l)",
            "-(y_l/ŷ_l) ŷ_l (1-ŷ_l) + Σ_{k≠l} (y_k/ŷ_k)(ŷ_k ŷ_l) = ŷ_l - y_l",
            "errata.gradients.prediction_minus_target", gradients.lost_sign_and_factor),
    Erratum("E21", "S3", "q_t = V h_t + V h'_t; dE/dV = (ŷ_t - y_y)⊗h_t; nothing on V'",
            "q_t = V h_t + V' h'_t; y_t; and dE/dV' = Σ ε_t h'_tᵀ, ε_t = ŷ_t - y_t", "bptt.reference.BiRNN"),
    Erratum("E22", "S3", "a '3 layered' BiRNN", "3 steps of one layer in two directions", "nn.Recurrent"),
    Erratum("E23", "S3", "language modelling is vastly improved by both directions",
            "right for tagging and gaps; in a next-token task a BiRNN reads its own targets", "language.CharRNN",
            models.leakage),
    Erratum("E24", "S4", "the output of a step is part of the next input",
            "the hidden state is; outputs are fed back only when text is written", "language.generate"),
    Erratum("E25", "S4", "y_t = W_yh h_t + b_t", "one output bias for all steps, b_y", "nn.Linear"),
    Erratum("E26", "S4", "the next word is always the argmax; repeat until done",
            "greedy is one choice, sampling another; define the end: a symbol or a length", "language.generate",
            models.greedy_loops),
    Erratum("E27", "S4", "weights of earlier layers get extremely small updates",
            "one W, one update; what vanishes are contributions of early steps to late losses",
            "errata.gradients.one_update", gradients.one_weight_one_update),
    Erratum("E28", "S2", "the update gate multiplies the previous state (prose)",
            "1 - u multiplies it, u the candidate", "nn.GRUCell"),
    Erratum("E29", "S0", "a BiLSTM uses the same LSTM units", "the same kind; each direction has weights of its own",
            "nn.Recurrent"),
    Erratum("E30", "S0", "cell state and hidden state are independent of each other",
            "coupled: h = o∘tanh(c), and the gates that change c read h", "nn.LSTMCell"),
    Erratum("E31", "S0", "truncation and clipping stop vanishing and exploding",
            "clipping limits exploding only, truncation drops far terms; neither brings a vanished one back",
            "errata.gradients.remedies", gradients.remedies),
    Erratum("E32", "S2", "gradients vanish because old information was shrunk in the forward pass",
            "because Jacobians multiply, whatever the size of the states",
            "errata.vanishing.vanishes_by_the_jacobians",
            vanishing.large_states_small_jacobians),
    Erratum("E33", "S2", "weights are learned at the current cell", "they are shared by all steps and get one update",
            "errata.gradients.one_update"),
    Erratum("E34", "S3", "N as divisor and as number of classes; log ŷ_y; h_{t_1}; dE/dV without Σ_t and 1/T",
            "T before the sum, classes apart; log ŷ_t; h_{t-1}; dV = Σ ε_t h_tᵀ, ε_t = (ŷ_t - y_t)/T",
            "bptt.reference.BiRNN"),
)


def find(number: str) -> Erratum:
    """The row 'E9', also as 'e9' or '9'. Raises ValueError where there is none."""
    wanted = f"E{number.upper().removeprefix('E')}"
    for erratum in ERRATA:
        if erratum.number == wanted:
            return erratum
    raise ValueError(f"erratum {number!r}: expected a number from E1 to E{len(ERRATA)}")


def errata_table(seen: dict[str, Demonstration | None]) -> str:
    """All rows with what was seen of each, {number: demonstration}, in columns of wrapped text."""
    widths = (3, 4, 30, 34, 36)

    def row(*cells: str) -> str:
        parts = zip_longest(*(wrap(cell, width) for cell, width in zip(cells, widths)), fillvalue="")
        lines = ("  ".join(part.ljust(width) for part, width in zip(line, widths)) for line in parts)
        return "\n".join(f"  {line}".rstrip() for line in lines)

    rows = [row("", "note", "as written", "right", "seen"), row(*("─" * width for width in widths))]
    for e in ERRATA:
        demonstration = seen[e.number]
        told = f"note: see {e.place}" if demonstration is None else demonstration.verdict
        rows += [row(e.number, e.note, e.written, e.right, told), ""]
    return "\n".join(rows)
