"""Floor 7: errata on cells and models: E9, E15, E17, E23, E26.

T steps, B batch, D input, H hidden, V symbols; numbers in brackets are the README's equations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import functional as F
from .. import nn
from ..check import Method, gradcheck
from ..language import CharRNN, generate, train
from ..models import Cloze, ManyToMany
from ..ops import Array
from ..optim import Adam
from ..scope import no_grad
from ..tensor import Tensor
from ..text import Vocabulary
from .demonstration import Demonstration


def weights_in(*modules: nn.Module) -> int:
    return sum(p.size for module in set(modules) for p in module.parameters())


# ----------------------------------------------------------------------------------------- E9: gates that read gates
class LSTMAsPrinted(nn.Cell):
    """S1's gates: i_t = σ(W_f i_{t-1} + U_i x_t + b_i), o_t = σ(W_f o_{t-1} + U_o x_t + b_o), from i_0 = o_0 = 0."""

    states = ("h", "c", "i", "o")

    def __init__(self, input_size: int, hidden_size: int, **options: Any) -> None:
        super().__init__(input_size, hidden_size, **options)
        self.U_f, self.W_f, self.b_f = self.gate("f")
        self.U_i, _, self.b_i = self.gate("i")  # neither W_i nor W_o occurs
        self.U_o, _, self.b_o = self.gate("o")
        self.U_c, self.W_c, self.b_c = self.gate("c")

    def forward(self, x: Any, state: Any) -> Any:
        h, c, i, o = state
        f = F.sigmoid(nn.affine(x, self.U_f, h, self.W_f, self.b_f))
        i = F.sigmoid(nn.affine(x, self.U_i, i, self.W_f, self.b_i))
        o = F.sigmoid(nn.affine(x, self.U_o, o, self.W_f, self.b_o))
        c = f * c + i * F.tanh(nn.affine(x, self.U_c, h, self.W_c, self.b_c))
        return o * F.tanh(c), c, i, o


def lstm_in_numpy(p: dict[str, Array], xs: Array) -> Array:
    """The known answer, h_1 … h_T (T, B, H) from zero states, without the engine (4)."""
    h = c = np.zeros((xs.shape[1], len(p["W_f"])))
    hs = []
    for x in xs:
        f, i, o = (1 / (1 + np.exp(-(x @ p[f"U_{g}"] + h @ p[f"W_{g}"] + p[f"b_{g}"]))) for g in "fio")
        c = f * c + i * np.tanh(x @ p["U_c"] + h @ p["W_c"] + p["b_c"])
        h = o * np.tanh(c)
        hs.append(h)
    return np.stack(hs)


def gates_that_read_gates(rng: np.random.Generator, printed: type[nn.Cell] = LSTMAsPrinted) -> Demonstration:
    """Both LSTMs with the same weights on the same input: their gradient checks, and how far from the known answer."""
    T, B, D, H = 5, 2, 3, 4
    xs, right, wrong = rng.normal(size=(T, B, D)), nn.LSTMCell(D, H, rng=rng), printed(D, H, rng=rng)
    share(wrong, right.state_dict())
    known = lstm_in_numpy(right.state_dict(), xs)
    cells = (wrong, right)

    def run(cell: nn.Cell) -> Tensor:
        return F.stack(nn.unroll(cell, xs)[0])

    def checked(cell: nn.Cell, method: Method, rtol: float) -> bool:
        return bool(gradcheck(lambda *_: run(cell), cell.parameters(), method=method, rtol=rtol, atol=1e-9))

    off = [np.abs(run(cell).data - known).max(axis=(1, 2)) for cell in cells]
    differences, steps = ([checked(cell, "differences", 1e-5) for cell in cells],
                          [checked(cell, "complex step", 1e-9) for cell in cells])
    said = {True: "passed", False: "failed"}
    return Demonstration(
        f"Two LSTMs of {H} units with the same weights read the same {T} random inputs from zero states. One has S1's "
        "gates, which read gates. The known answer is an LSTM in plain NumPy.",
        ("as printed", "right"),
        [("gradient check of all weights, differences", *(said[ok] for ok in differences)),
         ("gradient check of all weights, complex step", *(said[ok] for ok in steps)),
         *((f"distance of h_{t} from the known answer", *(float(o[t - 1]) for o in off)) for t in range(1, T + 1))],
        {f"the known answer, from the second step on: h_{T} is off by {off[0][-1]:.2g}":
            bool((off[0][1:] > 1e-6).all())},
        {"it runs and all is finite": bool(np.isfinite(off[0]).all()),
         "every gradient check passes, for it tests the gradient of what was written": all(differences + steps),
         f"one step from zero states gives the known answer, to {off[0][0]:.1g}": bool(off[0][0] < 1e-12),
         f"the right gates give the known answer at every step, to {off[1].max():.1g}": bool(off[1].max() < 1e-12)},
        f"It runs and passes every gradient check, but it is no LSTM: h_{T} is off by {off[0][-1]:.2g}. Only known "
        "answers over two or more steps can tell.")


def share(cell: nn.Cell, weights: dict[str, Array]) -> None:
    """Give a cell those of the weights that it has, and no b_hn, which the other kinds of GRU do not have."""
    given = weights | {"b_hn": np.zeros(cell.hidden_size)}
    cell.load_state_dict({name: given[name] for name in cell.state_dict()})


# ----------------------------------------------------------------------------- E15: one cell, as often as it is needed
def a_cell_for_each_step(cell: nn.LSTMCell, T: int) -> Sequence[nn.Module]:
    """As printed: the number of cells in a layer is the number of time steps."""
    return [nn.LSTMCell(cell.input_size, cell.hidden_size, rng=cell.rng) for _ in range(T)]


def the_same_cell(cell: nn.LSTMCell, T: int) -> Sequence[nn.Module]:
    """Corrected: one cell, applied T times."""
    return [cell] * T


def one_cell_for_any_length(rng: np.random.Generator,
                            cells: Callable[[nn.LSTMCell, int], Sequence[nn.Module]] = a_cell_for_each_step
                            ) -> Demonstration:
    """The same weights at T = 4 and at T = 40, each sequence alone, then both padded into one batch."""
    D, H, short, long = 3, 4, 4, 40
    cell, xs = nn.LSTMCell(D, H, rng=rng), rng.normal(size=(long, 2, D))

    def run(xs: Array, lengths: Any = None) -> tuple[Array, Array]:
        with no_grad():
            hs, (h, _) = nn.unroll(cell, xs, lengths=lengths)
        return F.stack(hs).data, h.data

    (hs, last), (longer, _), (_, other) = run(xs[:short, :1]), run(xs[:, :1]), run(xs[:, 1:])
    _, batch = run(xs, [short, long])  # what row 0 has after `short` steps is padding
    prefix = float(np.abs(longer[:short] - hs).max())
    padded = [float(np.abs(h - alone).max()) for h, alone in zip(batch, (last, other))]
    have, needed = weights_in(cell), [weights_in(*cells(cell, T)) for T in (short, long)]
    return Demonstration(
        f"One LSTM cell of {H} units reads the first {short} inputs of a sequence, then all {long}; then the {short} "
        f"again, padded with noise, in one batch with a sequence of {long}.",
        (f"T = {short}", f"T = {long}"),
        [("weights, had each step a cell", *needed), ("weights of the cell that ran", have, have),
         (f"first unit of h_{short}", float(last[0, 0]), float(longer[short - 1, 0, 0])),
         ("last state: padded from alone, distance", *padded)],
        {f"the count: for {long} steps the note needs {needed[1]:,} weights, {have:,} ran them": needed[1] > have,
         f"padding as a need: both lengths ran without; their h_1 … h_{short} differ by {prefix:.1g}": prefix < 1e-12},
        {f"padding for batching: with the lengths given, the last states differ by {max(padded):.1g} from those alone":
            max(padded) < 1e-12},
        f"The same {have:,} weights run {short} steps and {long}, and h_1 … h_{short} of both differ by {prefix:.1g}: "
        "steps are uses of one cell, not cells.")


# ---------------------------------------------------------------------------------------------- E17: the GRU's gates
def one_gate_or_two(rng: np.random.Generator, printed: Any = None) -> Demonstration:
    """S2's GRU (reset=None) beside the full one, reset before and after the product, all with the same weights."""
    T, D, H = 6, 3, 4
    xs, h_0 = rng.normal(size=(T, 1, D)), rng.normal(size=(1, H))
    cells = [nn.GRUCell(D, H, reset=reset, update="u", rng=rng) for reset in (printed, "before", "after")]
    weights = cells[1].state_dict()
    wide_open = weights | {"U_r": np.zeros((D, H)), "W_r": np.zeros((H, H)), "b_r": np.full(H, 40.0)}  # r = 1

    def run(weights: dict[str, Array], steps: int, h_0: Array) -> list[Array]:
        for cell in cells:
            share(cell, weights)
        return [nn.unroll(cell, xs[:steps], h_0)[1].data for cell in cells]

    last, opened, first = run(weights, T, h_0), run(wide_open, T, h_0), run(weights, 1, np.zeros((1, H)))
    off, same = ([float(np.abs(h - hs[0]).max()) for h in hs] for hs in (last, opened))
    places, once = (float(np.abs(hs[1] - hs[2]).max()) for hs in (last, first))
    return Demonstration(
        f"Three GRUs of {H} units read the same {T} random inputs, with the same weights as far as they have them.",
        ("S2: update gate alone", "reset before W_n", "reset after W_n"),
        [("weights", *map(weights_in, cells)), (f"first unit of h_{T}", *(float(h[0, 0]) for h in last)),
         (f"distance of h_{T} from S2's", *off), ("the same with the reset gate held open", *same),
         ("first unit of h_1 from h_0 = 0", *(float(h[0, 0]) for h in first))],
        {f"S2's for the GRU: a reset gate changes h_{T} by {off[1]:.2g} (before) or {off[2]:.2g} (after the product)":
            min(off[1:]) > 1e-6,
         f"'the' full GRU: the two places of the reset gate differ by {places:.2g}": places > 1e-6},
        {f"S2's is a special case: with the reset gate open all three differ by at most {max(same):.1g}":
            max(same) < 1e-12,
         f"after one step from h_0 = 0 (b_hn = 0) both places differ by {once:.1g}: a test there sees nothing":
            once < 1e-12},
        f"S2 describes the simplified GRU; the full one has a reset gate too, and with the same weights its h_{T} "
        f"differs by {off[1]:.2g} (gate before the product) or {off[2]:.2g} (after it).")


# ------------------------------------------------------------------------------- E23: seeing what is to be predicted
def loss_on_noise(model: ManyToMany, shift: int, rng: np.random.Generator, T: int, V: int) -> float:
    """Train on random symbols to tell the one `shift` steps on; the mean loss in nats on 1,000 new sequences."""
    optimizer = Adam(model.parameters(), lr=0.03)

    def loss(B: int) -> Tensor:
        ids = rng.integers(0, V, (T + 1, B))
        return F.stack(model.losses(ids[:T], ids[shift:T + shift])).sum() / (T * B)

    for _ in range(150):
        optimizer.zero_grad()
        loss(16).backward()
        optimizer.step()
    with no_grad():
        return float(loss(1000).item())


def refuses_both_directions(rng: np.random.Generator) -> bool:
    """Does the library refuse to train a bidirectional language model?"""
    model = CharRNN(Vocabulary.of("ab"), 3, bidirectional=True, rng=rng)
    try:
        train(model, rng.integers(0, 2, 99), epochs=1, batch_size=2, steps=4)
    except ValueError:
        return True
    return False


def leakage(rng: np.random.Generator, bidirectional: bool = True) -> Demonstration:
    """Random symbols cannot be predicted with less than ln V nats. A model that does so has seen its targets."""
    T, V, H = 8, 4, 8
    one, two, gap = (nn.RNN(V, H, bidirectional=both, rng=rng) for both in (False, bidirectional, True))
    best, refused = float(np.log(V)), refuses_both_directions(rng)
    losses = (loss_on_noise(ManyToMany(one, V, rng=rng), 1, rng, T, V),
              loss_on_noise(ManyToMany(two, V, rng=rng), 1, rng, T, V),
              loss_on_noise(Cloze(gap, V, rng=rng), 0, rng, T, V))
    return Demonstration(
        f"{V} symbols drawn at random, all as likely: nobody can predict them with a mean loss below ln {V} = "
        f"{best:.3f} nats. RNNs of {H} units train on sequences of {T} and are tested on new ones. 'Next symbol' reads "
        "symbol t and is asked for symbol t + 1; 'gap' is asked for symbol t and reads all but that.",
        ("next symbol, forwards", "next symbol, both ways", "gap, both ways"),
        [("reads its own target", "no", "yes, all but the last" if bidirectional else "no", "no"),
         ("mean loss on new symbols, nats", *losses), ("perplexity", *(float(np.exp(loss)) for loss in losses)),
         ("least honest loss, nats", best, best, best), ("least loss of who peeks, nats", "–", best / T, "–")],
        {f"'vastly improved': {losses[1]:.2f} nats are fewer than the least possible, {best:.2f}; it reads its targets":
            losses[1] < best - 0.3},
        {f"one direction is honest: {losses[0]:.2f} nats": abs(losses[0] - best) < 0.1,
         f"both directions around a gap are honest: {losses[2]:.2f} nats": abs(losses[2] - best) < 0.1,
         "the library refuses to train a bidirectional language model": refused},
        f"Reading both ways, a model 'predicts' random symbols with {losses[1]:.2f} nats where {best:.2f} is the least "
        "possible: it has read its targets. That is leakage; for tagging or for gaps both ways are right.")


# ------------------------------------------------------------------------------------------ E26: always the likeliest
def loop_in(text: str) -> tuple[int, int] | None:
    """(start, period) of what the text repeats to its end, from its first half on and four times at least; or None."""
    for period in range(1, len(text) // 8 + 1):
        differ = [i for i in range(len(text) - period) if text[i] != text[i + period]]
        start = differ[-1] + 1 if differ else 0
        if start <= len(text) // 2:
            return start, period
    return None


def writer(rng: np.random.Generator) -> tuple[CharRNN, str]:
    """A small character model and the text that it was trained on: sentences with random words."""
    beasts, verbs = ("cat", "dog", "rat", "owl"), ("saw", "met", "fed")
    text = "".join(f"the {rng.choice(beasts)} {rng.choice(verbs)} the {rng.choice(beasts)}. " for _ in range(120))
    model = CharRNN(Vocabulary.of(text), 16, rng=rng)
    train(model, model.vocabulary.encode(text), epochs=8, batch_size=8, steps=20,
          optimizer=Adam(model.parameters(), lr=0.02))
    return model, text


def greedy_loops(rng: np.random.Generator, temperature: float = 0.0) -> Demonstration:
    """A small model of random sentences writes on, always the likeliest character, and sampled."""
    length, (model, text) = 600, writer(rng)
    greedy, sampled = ("".join(generate(model, "the ", length, temperature=heat, rng=rng))
                       for heat in (temperature, 1.0))
    loop, other = loop_in(greedy), loop_in(sampled)
    start, period = loop or (0, length)
    kinds = [len({piece[i:i + 12] for i in range(length - 11)}) for piece in (greedy, sampled)]
    return Demonstration(
        f"A character RNN of 16 units has learned sentences like {text[:text.index('.') + 1]!r}, each animal and verb "
        f"drawn at random, and writes {length} characters after 'the '.",
        ("always argmax", "sampled"),
        [("begins with", repr(greedy[:30]), repr(sampled[:30])),
         ("ends with", repr(greedy[-30:]), repr(sampled[-30:])),
         ("repeats for ever a piece of", *(f"{found[1]} characters" if found else "–" for found in (loop, other))),
         ("different pieces of 12 characters", *kinds)],
        {f"always argmax: from character {start + 1} on it only repeats {greedy[start:start + period][:40]!r}":
            loop is not None,
         f"'until done': no end is defined; it stopped at the {length} characters that it was told to write":
            len(greedy) == length},
        {f"sampling from the same model: {kinds[1]} different pieces, no loop": other is None},
        f"Always taking the likeliest falls into a loop of {period} characters ({kinds[0]} different pieces of 12, "
        f"against {kinds[1]} when sampled) and is never done: an end symbol or a length must say when.")
