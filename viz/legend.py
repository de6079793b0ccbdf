"""What stands under a picture: what the lines and colours mean, and the formula of a highlighted term."""

from __future__ import annotations

from tinygrad_rnn.bptt.tables import norm, subscript
from tinygrad_rnn.steps import lane_of

from . import notation
from .content import Content
from .graph import Graph
from .notation import stem, text_width
from .picture import BACK, GREY, LINE, SMALL, WHITE, Dot, Kind, Note, Patch, Picture, Wire

SAMPLE = 42.0  # points: the length of a line that is explained
STEP = 21.0  # points between two lines of the legend
FORMULA, TEXT = 18.0, 11.0  # font sizes
NUMBERS = ("number on an arrow: the norm of the gradient that comes back along it. Gradients add up, their norms do "
           "not: terms may cancel.")


def put_legend(picture: Picture, content: Content, parameter: str, x: float, y: float) -> float:
    """Append the legend with its left upper corner at (x, y); returns where it ends. `parameter` serves as example."""
    shown = content.shown
    if shown.term is not None:
        y = put_term(picture, content, x, y)
    elif sentence := whole_gradient(content, parameter):
        picture.notes.append(Note("formula", x, y, sentence, 15.0, bold=True))
        y += 26
    hollow = {wire.kind for wire in picture.wires if wire.back}
    if hollow:
        picture.notes.append(Note("legend_forward", x, y, f"Forward, values run along the arrows, to the full heads. "
                                  f"Backward, gradients run against them, from {content.root} on, and where several "
                                  "come back they are added up.", TEXT))
        picture.notes.append(Note("legend_backward", x, y + STEP - 4, "Hollow heads show where gradients go back to a "
                                  "parameter or to another step.", TEXT))
        y += 2 * STEP - 2
    for kind, text in explained(parameter):
        if any(wire.kind == kind for wire in picture.wires):
            picture.notes.append(Note(f"legend_{kind}", x + SAMPLE + 10, y, text, TEXT))
            picture.wires.append(sample(kind, x, y, hollow=kind in hollow))
            if kind in ("explicit", "collect"):
                picture.dots.append(Dot(f"dot_{kind}", x + 3, y, kind))
            y += STEP
    if any(row.text.startswith("‖∂⁺") for box in picture.boxes for row in box.rows):
        picture.notes.append(Note("legend_use", x + SAMPLE + 10, y,
                                  f"‖∂⁺{parameter}‖: the size of what the use of {parameter} at this step adds to "
                                  f"{parameter}.grad", TEXT))
        y += STEP
    if content.labels and shown.recording is not None:
        picture.notes.append(Note("legend_number", x + SAMPLE + 10, y, NUMBERS, TEXT))
        y += STEP
    if any(wire.cut for wire in picture.wires):
        picture.wires.append(sample("implicit", x, y, cut=True))
        picture.notes.append(Note("legend_cut", x + SAMPLE + 10, y, "cut (truncated or detached): the value goes on, "
                                                                  "no gradient comes back", TEXT))
        y += STEP
    return put_scale(picture, content, x, y) if content.values else y


def put_term(picture: Picture, content: Content, x: float, y: float) -> float:
    """A term as a product, and below each factor how large the product is up to there."""
    shown = content.shown
    total, factors = shown.formula()
    picture.notes.append(Note("formula", x, y, f"{total} = {' · '.join([factor.text for factor in factors])}", FORMULA,
                              bold=True))
    start = x + text_width(f"{total} = ", FORMULA, bold=True)
    picture.notes.append(Note("so_far", x, y + 20, "multiplied so far:", SMALL, GREY))
    for i, factor in enumerate(factors):
        width = text_width(factor.text, FORMULA, bold=True)
        if factor.gradients:
            sizes = [norm(g) for g in factor.gradients]
            text = f"‖·‖ = {', '.join(map(notation.magnitude, sizes))}"
            fill = content.ramp.color(sizes[0]) if len(sizes) == 1 else WHITE
            picture.patches.append(Patch(f"factor{i}", start - 2, y + 13, max(width, text_width(text, SMALL) + 8), LINE,
                                         fill))
            picture.notes.append(Note(f"factor{i}_size", start + 2, y + 20, text, SMALL))
        start += width + text_width(" · ", FORMULA, bold=True)
    picture.notes.append(Note("sentence", x, y + 42, shown.sentence(), TEXT))
    return y + 66


def sample(kind: Kind, x: float, y: float, cut: bool = False, hollow: bool = False) -> Wire:
    name = "cut" if cut else kind
    start = x + 3 * (kind in ("explicit", "collect"))
    return Wire(f"sample_{name}", f"s_{name}0", f"s_{name}1", kind, ((start, y), (x + SAMPLE, y)), "", cut=cut,
                back=BACK.get(kind, 0.0) if hollow else 0.0)


def whole_gradient(content: Content, parameter: str) -> str:
    """The gradient as the sum of all its terms (17), for one layer with one loss, or losses that are just added up."""
    graph = content.graph
    lanes = {lane_of(node) for node, _ in graph.implicit}
    root, carried = graph.labels[graph.root], graph.results_carried
    one_layer = len({lane[:2] for lane in lanes}) == 1
    if not (graph.root.name and content.recurrent and one_layer):
        return ""
    states = {stem(x.name or ""): None for x in sorted(carried, key=graph.number.__getitem__)
              if lane_of(x)[2] != "backward"}
    above = graph.above_states  # what the losses are made of: all their parts but the states themselves
    if not all(states) or not states or any(y in content.recurrent for x in above for y in x.inputs):
        return ""
    h = next(iter(states)) if len(states) == 1 else "s"
    meant = f" where s = ({', '.join(states)})" if len(states) > 1 else ""
    read = {c[1] for x in above for y in x.inputs if y in carried and (c := graph.column[y]) is not None}
    if len(read) == 1:  # one loss, of one step
        (last,) = read
        if len(graph.columns) == 1:
            only = subscript(h, last)
            return (f"d{root}/d{parameter} = ∂{root}/∂{only} · ∂⁺{only}/∂{parameter}{meant}: one step, "
                    "all of it explicit")
        now, before, loss, until = subscript(h, last), subscript(h, last - 1), root, str(last)
    elif is_sum_over_steps(graph):
        now, before, loss, until = f"{h}ₜ", f"{h}ₜ₋₁", f"{root}ₜ", "t"
    else:
        return ""
    other = f"; in the backward direction over all k ≥ {until}" if len(lanes) > 1 else ""
    return (f"d{root}/d{parameter} = Σ ∂{loss}/∂{now} · ∂{now}/∂{before} · … · ∂⁺{h}ₖ/∂{parameter}{meant} "
            f"over all k ≤ {until} (k = {until}: explicit, k < {until}: implicit{other})")


def is_sum_over_steps(graph: Graph) -> bool:
    """Is the root made after the steps, E = Σ E_t, of losses that are made in them?"""
    made_after = [x for x in graph.tensors if graph.place[x] == "after"]
    return (graph.root in made_after and graph.root.op is not None and graph.root.op.name in ("sum", "add")
            and not any(y in graph.results_carried for x in made_after for y in x.inputs))


def explained(parameter: str) -> list[tuple[Kind, str]]:
    return [
        ("explicit", f"solid: one parameter, one line, a dot for every use of it. Backward, each dot does "
                     f"{parameter}.grad += its own term, so the gradient is the sum over the dots."),
        ("implicit", "dashed: a state that goes to another step. A term is explicit (∂⁺) if its way from the loss to "
                     "the dot crosses no such line, else implicit."),
        ("step", "inside one step, or from outside the steps"),
        ("collect", "added up, or collected, over the steps"),
    ]


def put_scale(picture: Picture, content: Content, x: float, y: float) -> float:
    """The ramp of the gradient rows with its range, or what the dash in them means."""
    if content.ramp.low is not None:
        for i, fill in enumerate(content.ramp.sample(14)):
            picture.patches.append(Patch(f"scale{i}", x + i * SAMPLE / 14, y - 6, SAMPLE / 14, 12, fill))
    picture.notes.append(Note("legend_scale", x + SAMPLE + 10, y, content.scale(), TEXT))
    return y + STEP
