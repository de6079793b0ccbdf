"""The gallery: the figures of the study notes S0 to S4, drawn by this program with the numbers of small models.

`python -m viz.gallery.make` writes every picture and the README.md beside it, the same bytes on every run: pictures by
the built-in writer, so that they do not depend on the version of Graphviz; plots by matplotlib, whose versions may
differ. What the texts say of numbers is read from the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinygrad_rnn import Tensor, bptt, functional, models, nn, scope
from tinygrad_rnn.bptt.jacobian import bounds, decay
from tinygrad_rnn.recording import record
from tinygrad_rnn.trace import trace
from viz import Drawing, Term, draw, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
D, H, V = 2, 3, 4  # sizes of all models here: input, hidden, classes


class Plate(NamedTuple):
    """A picture of the gallery: its file, a heading, whose figure it is, and what to look at."""

    name: str
    heading: str
    notes: str
    look: str
    picture: Drawing | Figure


class Chapter(NamedTuple):
    heading: str
    plates: Callable[[], Iterator[Plate]]


# ------------------------------------------------------------------------------------------------------------- material
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def inputs(T: int) -> list[Tensor]:
    return [Tensor(x, name="x") for x in np.random.default_rng(4).normal(size=(T, 1, D))]


def targets(T: int) -> Any:
    return np.random.default_rng(5).integers(0, V, (T, 1))


def first(*names: str, requires_grad: bool = False) -> tuple[Tensor, ...]:
    """A state before the first step that is not 0."""
    values = np.random.default_rng(6).normal(size=(len(names), 1, H))
    with scope(layer=0, direction="forward", t=0):
        return tuple(Tensor(value, requires_grad, name) for name, value in zip(names, values))


def total(losses: list[Tensor]) -> Tensor:
    return functional.stack(losses).sum().named("E")


def losses_of(cell: nn.Cell, T: int, requires_grad: bool = False) -> list[Tensor]:
    """E_1 … E_T of one linear head on a cell that reads T vectors; requires_grad: does the first state?"""
    state = first(*cell.states, requires_grad=requires_grad)
    outputs, _ = nn.unroll(cell, inputs(T), state if len(state) > 1 else state[0])
    return models.errors(models.scores(nn.Linear(H, V, rng=rng()), outputs), targets(T))


def smallest() -> Tensor:
    """E_3 = s_3 of s_t = w s_{t-1}, w = 0.2, s_0 = 0.9 (26), as a loop written by hand."""
    w = nn.Parameter(0.2, name="w")
    with scope(t=0):
        s = Tensor(0.9, name="s")
    for t in range(1, 4):
        with scope(t=t):
            s = (w * s).named("s")
            E = s.sum().named("E")  # a box of its own for the loss
    return E


def one_step(cell: nn.Cell, h: Tensor, *others: Tensor) -> Tensor:
    """E = Σ h_1 after one step from the given state: nothing but the cell."""
    with scope(layer=0, direction="forward", t=1):
        state = cell(inputs(1)[0], (h, *others) if others else h)
    E: Tensor = (state[0] if isinstance(state, tuple) else state).sum().named("E")
    return E


def drawn(E: Tensor, **options: Any) -> Drawing:
    return draw(E, recording=record(E), label_edges=True, **options)


def on_arrow(drawing: Drawing, tail: str, head: str) -> str:
    """The number that a picture has on the arrow from one box to another, by the names in the boxes."""
    assert drawing.picture is not None
    names = {box.id: box.rows[0].text for box in drawing.picture.boxes}
    ids = [wire.id for wire in drawing.picture.wires if (names.get(wire.tail), names.get(wire.head)) == (tail, head)]
    (label,) = (note.text for note in drawing.picture.notes if note.id == f"{ids[0]}_label")
    return label


class ElmanCell(nn.Cell):
    """s_t = tanh(U x_t + W s_{t-1} + b) (1), in the letters of S0."""

    states = ("s",)

    def __init__(self, input_size: int, hidden_size: int, **options: Any) -> None:
        super().__init__(input_size, hidden_size, **options)
        self.U, self.W, self.b = self.gate()

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        return functional.tanh(nn.affine(x, self.U, s, self.W, self.b))


class JoinedCell(nn.Cell):
    """h_t = tanh([x_t, h_{t-1}] [U; W] + b) (3; S4), with the numbers of an RNNCell."""

    def __init__(self, like: nn.RNNCell) -> None:
        super().__init__(like.input_size, like.hidden_size, rng=rng())
        assert like.b is not None
        self.W = nn.Parameter(np.vstack([like.U.data, like.W.data]), name="[U; W]")
        self.b = nn.Parameter(like.b.data, name="b")

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        both = functional.concat([x, h], -1).named("[x, h]")
        return functional.tanh((both @ self.W + self.b).named("z"))


# -------------------------------------------------------------------------------------------------------------- the RNN
def rnn_plates() -> Iterator[Plate]:
    picture = drawn(smallest())
    yield Plate("sum", "Why the gradient of a shared weight is a sum",
                "No figure of the notes: S0's sum over k, in its smallest case",
                "s_t = w s_{t-1}, three times, from s₀ = 0.9 with w = 0.2. The line of w has three dots, and each "
                "adds 0.036 to its gradient: 0.036 + 0.036 + 0.036 = 0.108 = 3 w² s₀. The last dot is explicit, the "
                "others are implicit, behind one and two dashed arrows.", picture)
    picture = drawn(total(losses_of(nn.RNNCell(D, H, rng=rng()), 3)))
    yield Plate("rnn", "An RNN of three steps", "Redraws the RNN of S1 and the traditional RNN of S3 (figure 2)",
                "W is one line with three dots, for all steps use the same W. Backward each dot adds its own matrix, "
                "of the norm beside `+=`, and W.grad is their sum. The dashed arrows are the only way in which a "
                "later loss reaches an earlier dot: cut them, and what is left is the explicit part.", picture)
    losses = losses_of(ElmanCell(D, H, rng=rng()), 3)
    picture = drawn(losses[2])
    yield Plate("e3", "E₃ and all three uses of W", "Redraws what S0's figure of BPTT with gradients adds up to",
                "E₃ alone. The dot at t = 3 is explicit: no dashed arrow lies between it and E₃. The dots at t = 2 "
                "and t = 1 are implicit, behind one and two dashed arrows, which carry back "
                f"{on_arrow(picture, 's₂', 'Ws₂')} and {on_arrow(picture, 's₁', 'Ws₁')}. The sum over k is exact, not "
                "approximated.", picture)
    cell = ElmanCell(D, H, rng=rng())
    losses = losses_of(cell, 4)
    picture = draw(total(losses), term=Term(losses[2], cell.W, 1), label_edges=True, detail="cells")
    yield Plate("e3_path", "∂E₃/∂s₃ · ∂s₃/∂s₂ · ∂s₂/∂s₁", "Redraws S0's figure of BPTT with gradients",
                "One path lit, that of the use of W at t = 1. The arrow from s₂ to s₃ carries the norm "
                f"of ∂E₃/∂s₃ · ∂s₃/∂s₂, {on_arrow(picture, 's₂', 's₃')}, the one before it, with ∂s₂/∂s₁ too, "
                f"{on_arrow(picture, 's₁', 's₂')}. s₄ comes later and has no part in E₃.", picture)
    like = nn.RNNCell(D, H, rng=rng())
    picture = drawn(total(losses_of(JoinedCell(like), 3, requires_grad=True)))
    yield Plate("joined", "The same as one product",
                "Redraws S4's computational logic of an RNN at three adjacent steps",
                "x_t and h_{t-1} are joined, and multiplied by U on top of W: the numbers in h₁, h₂, h₃ are those of "
                "the RNN above. One matrix holds what are two parameters elsewhere, so that its gradient has the "
                "gradient of U on top of that of W.", picture)
    model = models.ManyToOne(nn.RNN(D, H, rng=rng()), V, rng=rng())
    picture = drawn(model.loss(inputs(10), targets(1)[0]), detail="cells")
    yield Plate("vanishing", "What one loss says about ten steps", "Redraws S2's figure of vanishing gradients",
                f"Follow the dashed arrows from right to left: {on_arrow(picture, 'h₉', 'h₁₀')} arrives at h₉, "
                f"{on_arrow(picture, 'h₁', 'h₂')} at h₁, and the green of the gradient rows fades. Every step "
                "multiplies by one more Jacobian; the states themselves do not shrink.", picture)
    deep = models.ManyToMany(nn.RNN(D, H, 3, rng=rng()), V, rng=rng())
    picture = drawn(total(deep.losses(inputs(3), targets(3))), detail="cells")
    yield Plate("deep_rnn", "Three layers, unrolled", "Redraws S0's deep RNN, unrolled",
                "Each layer has weights of its own, one line each, and a dashed lane of its own. The loss reaches the "
                "lowest layer by every way up and to the right.", picture)


# ----------------------------------------------------------------------------------------------------- cells with gates
def gated_plates() -> Iterator[Plate]:
    h, c = first("h", "c", requires_grad=True)
    picture = drawn(one_step(nn.LSTMCell(D, H, rng=rng()), h, c))
    yield Plate("lstm_cell", "Inside an LSTM cell",
                "Redraws the LSTM cell of S0, S1 and S2 (inputs and outputs, candidate, cell state, hidden state)",
                "On top the conveyor belt: c₀ is only multiplied by f₁ and added to, so "
                f"{on_arrow(picture, 'f₁∘c₀', 'c₁')} of gradient comes back along it and "
                f"{on_arrow(picture, 'c₀', 'f₁∘c₀')} is left after the forget gate. All four gates read x₁ and h₀.",
                picture)
    picture = drawn(total(losses_of(nn.LSTMCell(D, H, rng=rng()), 3)))
    yield Plate("lstm", "An LSTM of three steps", "Redraws S2's LSTM layer of three cells",
                "One cell used three times, not three cells: every parameter has a dot in each step. Two states go "
                "on, c above and h below.", picture)
    cell = nn.GRUCell(D, H, reset=None, update="u", rng=rng())
    of_s2(cell)
    (h,) = first("h", requires_grad=True)
    h.data = np.concatenate([[[1.0]], h.data[:, 1:]], axis=1)
    picture = drawn(one_step(cell, h))
    yield Plate("gru_cell", "Inside the GRU of S2", "S2 describes this cell and does not draw it",
                "S2's c is h here, its c̃ is n. The first unit is S2's example: an update gate u of 0.4, the old "
                "state 1 and the candidate 0 give 0.4·0 + 0.6·1 = 0.6. h₀ comes in three times: as it is, to the "
                "gate, and to the candidate.", picture)
    picture = drawn(total(losses_of(nn.GRUCell(D, H, rng=rng()), 3)))
    yield Plate("gru", "A GRU of three steps, with a reset gate", "S2 leaves the reset gate out",
                "r decides how much of W_n h the candidate sees, z how much of the old state stays. One state goes "
                "on, by four dashed ways into each step.", picture)
    picture = drawn(total(losses_of(nn.LSTMCell(D, H, rng=rng()), 200)))
    yield Plate("lstm_200_steps", "An LSTM of 200 steps", "No figure of the notes",
                "The first and the last three steps, and a strip of gradient norms for the 194 between.", picture)


def of_s2(cell: nn.GRUCell) -> None:
    """Make the first unit S2's example whatever is read: u = 0.4 and n = 0."""
    for parameter in cell.parameters():
        data = parameter.data.copy()
        data[..., 0] = np.log(0.4 / 0.6) if parameter is cell.b_u else 0.0
        parameter.data = data


# ------------------------------------------------------------------------------------------------------- two directions
def two_way_plates() -> Iterator[Plate]:
    model = models.BiRNN(nn.RNN(D, H, bidirectional=True, initial=0.5, rng=rng()), V, rng=rng())
    picture = drawn(total(model.losses(inputs(3), targets(3))))
    yield Plate("birnn", "A BiRNN of three steps", "Redraws S3's computational graph (figure 4) and its figure 3",
                "h goes to the right and h' to the left, each with its own U and W, and both start from 0.5. No arrow "
                "leads from one lane to the other: they meet in q. The gradient of h' runs forward in time, so that W' "
                "hears at t = 3 of the losses at t = 1 and 2.", picture)
    tagging = models.ManyToMany(nn.LSTM(D, H, bidirectional=True, rng=rng()), V, rng=rng())
    picture = drawn(total(tagging.losses(inputs(3), targets(3))), detail="cells")
    yield Plate("bilstm", "A BiLSTM, one box for each step", "Redraws S0's bidirectional LSTM",
                "The same shape with two states in each lane. The two directions are two cells with weights of their "
                "own, not the same units.", picture)


# --------------------------------------------------------------------------------------------------------- types of RNN
def type_plates() -> Iterator[Plate]:
    one = models.OneToOne(nn.RNN(D, H, rng=rng()), V, rng=rng())
    yield Plate("one_to_one", "One to one", "Redraws S4's types of RNN, and S2's traditional network",
                "One input, one output. With h₀ = 0 the use of W adds exactly 0 to its gradient: this is a plain "
                "network with a layer of tanh.", drawn(one.loss(inputs(1)[0], targets(1)[0])))
    letters = nn.RNN(V, H, rng=rng())
    many = models.OneToMany(letters, D, start=0, end=1, rng=rng())
    yield Plate("one_to_many", "One to many", "Redraws S4's types of RNN; S0 has image to text",
                "One vector x becomes the first state; after that the decoder reads the symbol that it should have "
                "written before, w.",
                drawn(total(many.losses(inputs(1)[0], np.array([[2], [3], [1]]))), detail="cells"))
    words = np.array([[0], [1], [2], [3]])  # this, movie, was, brilliant
    review = models.Sentiment(nn.RNN(4, H, rng=rng()), rng=rng())
    yield Plate("many_to_one", "Many to one",
                "Redraws S2's sentiment of \"This movie was brilliant\", and S4's types of RNN",
                "Four words, each of which picks a row of U, and one loss, at the end: whatever it says about the "
                "first word has come through all the states.",
                drawn(review.loss(words, np.array([1.0])), detail="cells"))
    tagging = models.ManyToMany(nn.RNN(D, H, rng=rng()), V, rng=rng())
    yield Plate("many_to_many", "Many to many, aligned", "Redraws S4's types of RNN",
                "A loss at every step: what arrives at h₁ is the sum of E₁'s own and of what came back along the "
                "dashed arrow.", drawn(total(tagging.losses(inputs(3), targets(3))), detail="cells"))
    pair = models.EncoderDecoder(nn.RNN(D, H, rng=rng()), letters, start=0, end=1, rng=rng())
    yield Plate("encoder_decoder", "Many to many, encoder and decoder", "Redraws S4's types of RNN; S0 has translation",
                "Two networks with weights of their own. All that the decoder knows of the input, and all that its "
                "losses tell the encoder, goes through one dashed arrow.",
                drawn(total(pair.losses(inputs(3), np.array([[2], [1]]))), detail="cells"))


# ---------------------------------------------------------------------------------------------------------------- plots
def plot_plates() -> Iterator[Plate]:
    xs = np.random.default_rng(4).normal(size=(40, 1, D))
    rnn, norms, beside = nn.RNNCell(D, 16, rng=rng()), {}, {}
    hs, last = nn.unroll(rnn, xs)
    norms["RNN"] = decay(last).norms[:, 0]
    tight, loose = bounds(rnn.W.data, np.stack([h.data for h in hs]))
    beside["RNN"] = {"Π‖D_j W‖": tight[:, 0], "(γλ)^lag": loose}
    for bias in (0.0, 2.0, 5.0):
        _, state = nn.unroll(nn.LSTMCell(D, 16, forget_bias=bias, rng=rng()), xs)
        found = decay(state)
        norms[f"LSTM b_f={bias:g}"] = found.norms[:, 0]
        beside[f"LSTM b_f={bias:g}"] = {"direct path": found.direct_norms[:, 0]}
    yield Plate("vanish", "‖∂s_T/∂s_k‖, measured and bound", "Measures S0's bound on ∂s_T/∂s_k",
                "The bound with γλ lies far above what is measured: γλ > 1 explodes nothing here. An LSTM keeps what "
                "its forget gates let it keep: with b_f = 0 it forgets like an RNN.", plots.decay_curves(norms, beside))
    cell = nn.RNNCell(D, 8, rng=rng())
    hs, _ = nn.unroll(cell, xs[:12])
    losses = models.errors(models.scores(nn.Linear(8, V, rng=rng()), hs), targets(12))
    maps = {str(p.name): bptt.terms(losses, p).norms for p in (cell.W, cell.U)}
    yield Plate("terms", "Every loss and every use of W and U", "S0's sum over k, a number for each pair of steps",
                "A row is a loss, a column a use. On the diagonal the explicit terms; to the left of it the implicit "
                "ones, fading with the distance. W's first column is 0, for h₀ is. Left of the stairs is what "
                "truncation drops.", plots.term_maps(maps, 4))
    windows = [1, 2, 3, 4, 6, 8, 12]
    yield Plate("truncation", "What truncated BPTT keeps", "Measures S0's truncation",
                "Here a sliding window finds the direction of the whole gradient sooner than chunks of the same "
                "length, which cut most paths shorter than that. Both have all of it only when the window is as long "
                "as the sequence. The norm is no measure of what is lost: it may even grow.",
                plots.truncation_curves(bptt.truncation(losses, cell.W, windows)))
    text = "aaaabbbbaaabbb"
    outputs, _ = nn.unroll(counting(), np.array([["ab".index(letter)] for letter in text]))
    yield Plate("gates", "Gates over time", "S2's gates as doors that open and close",
                "Four units with weights set by hand, reading a's and b's. Unit 1 keeps everything (f open) and "
                "counts up and down. Unit 2 forgets at once (f closed). Unit 3 is emptied by every b. Unit 4 counts "
                "as unit 1 does and shows it only at b (o).", plots.gate_strips(trace(outputs[-1]), text))


def counting() -> nn.LSTMCell:
    """An LSTM of four units over a and b, its weights set by hand and not learned; 8 opens a gate, -8 closes it."""
    cell = nn.LSTMCell(2, 4, rng=rng())
    for parameter in cell.parameters():
        parameter.data = np.zeros(parameter.shape)
    assert cell.b_f is not None and cell.b_i is not None and cell.b_o is not None
    cell.U_c.data = np.array([[0.3, 2.0, 0.3, 0.3], [-0.3, -2.0, 0.0, -0.3]])  # rows a and b
    cell.b_i.data = np.full(4, 8.0)
    cell.b_f.data = np.array([8.0, -8.0, 0.0, 8.0])
    cell.U_f.data = np.array([[0.0, 0.0, 8.0, 0.0], [0.0, 0.0, -8.0, 0.0]])
    cell.b_o.data = np.array([8.0, 8.0, 8.0, 0.0])
    cell.U_o.data = np.array([[0.0, 0.0, 0.0, -8.0], [0.0, 0.0, 0.0, 8.0]])
    return cell


# ------------------------------------------------------------------------------------------------------------- the page
CHAPTERS = (Chapter("The RNN and its gradient", rnn_plates), Chapter("Cells with gates", gated_plates),
            Chapter("Two directions", two_way_plates), Chapter("Types of RNN", type_plates),
            Chapter("Plots", plot_plates))
INTRODUCTION = """# Gallery

The figures of five study notes, S0 to S4, drawn by this program from models that run: `python -m viz.gallery.make`
writes them all, and this page. Boxes hold values and, on green, gradients; a number on an arrow is the norm of what
flows back through it, and `+=` beside a dot the norm of what this use adds to the gradient of its parameter. (Norms do
not add up: the gradients themselves do.) Blue and solid is a parameter, with a dot for every use; orange and dashed
is a state that goes to another step. The term of a dot is explicit if the way from the loss to it crosses no dashed
line.
"""


def page(chapters: list[tuple[str, list[Plate]]]) -> str:
    parts = [INTRODUCTION]
    for heading, plates in chapters:
        parts.append(f"## {heading}\n")
        for plate in plates:
            parts.append(f"### {plate.heading}\n\n[![{plate.heading}]({plate.name}.svg)]({plate.name}.svg)\n\n"
                         f"{fill(f'{plate.notes}. {plate.look}', 118)}\n")
    return "\n".join(parts)


def write(folder: Path) -> None:
    chapters = [(chapter.heading, list(chapter.plates())) for chapter in CHAPTERS]
    for _, plates in chapters:
        for plate in plates:
            path = folder / f"{plate.name}.svg"
            if isinstance(plate.picture, Drawing):
                path.write_text(plate.picture.svg, encoding="utf-8", newline="\n")
            else:
                plots.save(plate.picture, path)
    (folder / "README.md").write_text(page(chapters), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(HERE)
