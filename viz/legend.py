"""What stands under a picture: what the lines and colours mean, and the formula of a highlighted term."""

from __future__ import annotations

from tinygrad_rnn.bptt.tables import subscript
from tinygrad_rnn.steps import lane_of

from . import notation
from .content import Content
from .notation import stem
from .picture import SIZE, Dot, Kind, Note, Patch, Picture, Wire

SAMPLE = 42.0  # points: the length of a line that is explained
STEP = 19.0  # points between two lines of the legend


def put_legend(picture: Picture, content: Content, parameter: str, x: float, y: float) -> float:
    """Append the legend with its left upper corner at (x, y); returns where it ends. `parameter` serves as example."""
    shown = content.shown
    if shown.term is not None:
        product, sentence = shown.formula()
        picture.notes.append(Note("formula", x, y, product, 14.0, bold=True))
        picture.notes.append(Note("sentence", x, y + 22, sentence))
        y += 50
    elif sentence := whole_gradient(content, parameter):
        picture.notes.append(Note("formula", x, y, sentence, 12.0, bold=True))
        y += 26
    for kind, text in explained(parameter):
        if any(wire.kind == kind for wire in picture.wires):
            picture.notes.append(Note(f"legend_{kind}", x + SAMPLE + 10, y, text))
            picture.wires.append(sample(kind, x, y))
            if kind in ("explicit", "collect"):
                picture.dots.append(Dot(f"dot_{kind}", x + 8, y, kind))
            y += STEP
    if any(row.text.startswith("‖∂⁺") for box in picture.boxes for row in box.rows):
        picture.notes.append(Note("legend_use", x + SAMPLE + 10, y,
                                  f"‖∂⁺{parameter}‖: the size of what the use of {parameter} at this step adds to "
                                  f"{parameter}.grad"))
        y += STEP
    if any(wire.cut for wire in picture.wires):
        picture.wires.append(sample("implicit", x, y, cut=True))
        picture.notes.append(Note("legend_cut", x + SAMPLE + 10, y, "cut (truncated or detached): the value goes on, "
                                                                  "no gradient comes back"))
        y += STEP
    return put_scale(picture, content, x, y) if content.values else y


def sample(kind: Kind, x: float, y: float, cut: bool = False) -> Wire:
    name = "cut" if cut else kind
    return Wire(f"sample_{name}", f"s_{name}0", f"s_{name}1", kind, ((x, y), (x + SAMPLE, y)), "", cut=cut)


def whole_gradient(content: Content, parameter: str) -> str:
    """The gradient as the sum of all its terms (17), for one layer with one loss, or losses that are just added up."""
    graph = content.graph
    lanes = {lane_of(node) for node, _ in graph.implicit}
    root = graph.labels[graph.root]
    total = graph.root.op is not None and graph.root.op.name in ("sum", "add")
    added = total and (graph.column[graph.root] is None or graph.is_accumulator(graph.root))
    one_layer = len({lane[:2] for lane in lanes}) == 1
    if not (graph.root.name and content.recurrent and added and one_layer):
        return ""
    states = {stem(x.name or ""): None for x in graph.tensors
              if x in graph.results_carried and lane_of(x)[2] != "backward"}
    if not states:
        return ""
    h = next(iter(states)) if len(states) == 1 else "s"
    meant = f" where s = ({', '.join(states)})" if len(states) > 1 else ""
    read = {c[1] for x in graph.tensors if graph.place[x] == "after" for y in x.inputs
            if (c := graph.column[y]) is not None}
    if len(read) == 1:  # one loss, of one step
        (last,) = read
        now, before, loss, until = subscript(h, last), subscript(h, last - 1), root, str(last)
    else:
        now, before, loss, until = f"{h}ₜ", f"{h}ₜ₋₁", f"{root}ₜ", "t"
    other = f"; in the backward direction over all k ≥ {until}" if len(lanes) > 1 else ""
    return (f"d{root}/d{parameter} = Σ ∂{loss}/∂{now} · ∂{now}/∂{before} · … · ∂⁺{h}ₖ/∂{parameter}{meant} "
            f"over all k ≤ {until} (k = {until}: explicit, k < {until}: implicit{other})")


def explained(parameter: str) -> list[tuple[Kind, str]]:
    return [
        ("explicit", f"explicit (∂⁺): one parameter, one line, a dot for every use of it. Backward, each dot does "
                     f"{parameter}.grad += its own term, so the gradient is the sum over the dots."),
        ("implicit", f"implicit: the state goes on to the next step. Backward, what later losses say comes back along "
                     f"these edges, and so reaches the earlier dots of {parameter}."),
        ("step", "inside one step, or from outside the steps"),
        ("collect", "collected from all the steps"),
    ]


def put_scale(picture: Picture, content: Content, x: float, y: float) -> float:
    """The ramp of the gradient rows with its range, or what the dash in them means."""
    ramp, term = content.ramp, content.shown.term
    if ramp.low is None:
        picture.notes.append(Note("legend_scale", x + SAMPLE + 10, y, "∇ –   no gradient has been recorded"))
        return y + STEP
    for i, fill in enumerate(ramp.sample(14)):
        picture.patches.append(Patch(f"scale{i}", x + i * SAMPLE / 14, y - 6, SAMPLE / 14, 12, fill))
    whose = f"∇: gradient of {content.root}" if term is None else f"δ: gradient of {content.root} alone"
    picture.notes.append(Note("legend_scale", x + SAMPLE + 10, y,
                              f"{whose}, coloured by its norm from {notation.magnitude(ramp.low)} to "
                              f"{notation.magnitude(ramp.high)} on a log scale; – where there is none", SIZE))
    return y + STEP
