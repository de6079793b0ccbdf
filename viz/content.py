"""What boxes, lines and tooltips say: values, gradients and equations as rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tinygrad_rnn.bptt.tables import norm
from tinygrad_rnn.tensor import Tensor

from . import notation
from .graph import Arc, Edge, Graph, Item
from .heat import Ramp
from .picture import BLUE, GREY, LINE, SIZE, SMALL, WHITE, Cell, Row
from .shown import Shown, total

PAD = 5.0  # points between the text and the border of a box
MANY = 3000  # with more boxes than this, tooltips leave the numbers out
BINS = 36  # at most so many cells of the strip that stands for the steps between
LONGEST = 28  # characters of a cell's equation, its steps aside
MOST_ROWS = 4  # with more parameters than this on one line, several of them share a row
CELL = 4.0  # points: the least width of a cell of a strip


class Content:
    """The rows and tooltips of one picture. `boxes`: for each box the tensors whose gradients it shows."""

    def __init__(self, graph: Graph, shown: Shown, boxes: Sequence[Sequence[Tensor]], values: bool,
                 labels: bool) -> None:
        self.graph, self.shown, self.values, self.labels = graph, shown, values, labels
        self.lean = len(boxes) > MANY
        known = ((x, g) for box in boxes for x in box if (g := shown.gradient(x)) is not None)
        self.norms = {x: norm(g) for x, g in known} if values else {}
        self.ramp = Ramp(self.norms.values())
        self.recurrent = recurrent_parameters(graph)
        root = shown.recording.root if shown.recording is not None else graph.root
        self.root = graph.labels.get(root, root.name or "root")  # whose gradient it is

    # -------------------------------------------------------------------------------------------------- one tensor
    def tensor_rows(self, x: Tensor, arcs: Iterable[Arc] = ()) -> tuple[Row, ...]:
        title = Row(self.graph.labels[x], self.remark(x, arcs), bold=True)
        said = x.op is None and x.size == 1 and not x.requires_grad and not x.name  # a number, called after its value
        if not self.values or said:
            return (title,)
        off_path = self.shown.term is not None and x not in self.shown.nodes and x is not self.shown.term.parameter
        return title, Row(notation.brief(x.data)), *([] if off_path else [self.gradient_row(x)])

    def remark(self, x: Tensor, arcs: Iterable[Arc]) -> str:
        """What is said in grey beside a name: the primitive, a leaf's shape, or of a copy what it is equal to.

        arcs: those that lead to its box, for what is moved only, such as a reshaped tensor, may have no box of its own.
        """
        if not is_copy(x):
            return notation.remark(x, self.graph.labels[x])
        (y,) = x.inputs
        for arc in arcs:
            if (x, 0) in arc.edges and y not in arc.source.tensors:
                y = arc.source.outputs[-1]
        return f"{'=' if x.size == y.size else 'of'} {self.graph.labels[y]}"

    def gradient_row(self, x: Tensor) -> Row:
        g = self.shown.gradient(x)
        if g is None:
            return Row("∇ –", color=GREY)
        sign = "∇" if self.shown.term is None else "δ"
        return Row(f"{sign} {notation.brief(g)}", fill=self.ramp.color(self.norms[x]))

    def norm_row(self, text: str, x: Tensor) -> Row:
        if x not in self.norms:
            return Row(f"‖{text}‖ –", color=GREY)
        return Row(f"‖{text}‖ {notation.magnitude(self.norms[x])}", fill=self.ramp.color(self.norms[x]))

    def with_respect_to(self, x: Tensor | None) -> str:
        """∂E/∂h₃, by the name of the loss whose gradient is shown."""
        if self.shown.term is not None and x is self.shown.term.parameter:
            return self.shown.formula()[0]  # of one use alone
        return f"∂{self.root}/∂{'' if x is None else self.graph.labels[x]}"

    def scale(self) -> str:
        """What the colours of the gradient rows mean, or what the dash in them means."""
        if self.ramp.low is None:
            return "∇ –   no gradient has been recorded"
        whose = f"∇: gradient of {self.root}" if self.shown.term is None else f"gradient of {self.root} alone (δ)"
        return (f"{whose}, coloured by its norm from {notation.magnitude(self.ramp.low)} to "
                f"{notation.magnitude(self.ramp.high)} on a log scale; – where there is none")

    # ------------------------------------------------------------------------------------------------ other boxes
    def rows_of(self, item: Item) -> tuple[Row, ...]:
        if item.place == "bus":
            return self.bus_rows(item)
        if len(item.tensors) == 1:
            return self.tensor_rows(item.first, item.inward)
        return self.strip_rows(item) if item.many_steps else self.cell_rows(item)

    def bus_rows(self, item: Item) -> tuple[Row, ...]:
        """A parameter, or all the parameters of a cell, and how many uses its gradient is the sum of."""
        labels, term = self.graph.labels, self.shown.term
        names = [labels[x] for x in item.tensors]
        uses = max([len(self.graph.readers[x]) for x in item.tensors])
        total = f"Σ {uses} use{'s' * (uses > 1)}"
        if len(names) > 1:
            return self.rows_of_many(item.tensors, f"each .grad = {total}")
        x, name = item.first, names[0]
        said = [notation.brief(x.data) if self.values else "", notation.remark(x, name), self.sequence_of(x)]
        title = Row(name, " ".join(filter(None, said)), bold=True, color=BLUE)
        if term is not None:
            return (title, self.gradient_row(x)) if term.parameter is x else (title,)
        g = self.shown.gradient(x) if self.values else None
        if g is None:
            return title, Row(f"{name}.grad = {total}" + (" = –" if self.values else ""), color=BLUE)
        size = f", ‖·‖ = {notation.magnitude(self.norms[x])}" if self.labels else ""  # beside it, those of its terms
        return title, Row(f"{name}.grad = {total} = {notation.brief(g)}{size}", fill=self.ramp.color(self.norms[x]))

    def sequence_of(self, parameter: Tensor) -> str:
        """The sequence that reads a parameter, where there are several, each with a W of its own."""
        read = {node.scope.get("sequence") for node, _ in self.graph.readers[parameter]}
        return str(read.pop() or "") if len(self.graph.sequences) > 1 and len(read) == 1 else ""

    def rows_of_many(self, parameters: list[Tensor], total: str) -> tuple[Row, ...]:
        """Several parameters on one line: the norm of each one's gradient, three to a row where they are many."""
        names = [self.graph.labels[x] for x in parameters]
        many = len(names) > MOST_ROWS
        head = f"{len(names)} parameters" if many else ", ".join(names)
        title = Row(head, self.sequence_of(parameters[0]), bold=True, color=BLUE)
        last = Row(total, color=BLUE)
        if not many:
            norms = [self.norm_row(self.with_respect_to(x), x) for x in parameters] if self.values else []
            return title, *norms, last
        cells = [Cell(self.ramp.color(self.norms[x]), f"{name} {notation.magnitude(self.norms[x])}")
                 if x in self.norms else Cell(WHITE, name) for name, x in zip(names, parameters)]
        cells += [Cell(WHITE)] * (-len(cells) % 3)
        rows = [Row("", cells=tuple(cells[i : i + 3])) for i in range(0, len(cells), 3)]
        meant = [Row(f"‖{self.with_respect_to(None)}·‖ of each:", color=GREY)] if self.norms else []
        return title, *meant, *rows, last

    def cell_rows(self, item: Item) -> tuple[Row, ...]:
        """A step of a cell: its state, the gradient there, and what this step adds to the recurrent weights."""
        labels, shown = self.graph.labels, gradients_shown(item)
        rows = []
        for x in item.outputs:
            equation = f"sum of {len(item.inward)}" if item.place == "after" else self.equation(item, x)
            rows.append(Row(labels[x], equation, bold=True))
            if self.values:
                rows.append(Row(notation.brief(x.data)))
                rows += [self.norm_row(self.with_respect_to(x), x)] if x in shown else []
        if not self.values:
            return tuple(rows)
        rows += [self.norm_row(self.with_respect_to(x), x) for x in shown if x not in item.outputs]
        inside = set(item.tensors)
        for parameter in self.recurrent:
            uses = [edge for edge in self.graph.readers[parameter] if edge[0] in inside]
            added = total([d for edge in uses if (d := self.shown.contribution(edge)) is not None])
            if uses:
                size = "–" if added is None else notation.magnitude(norm(added))
                rows.append(Row(f"‖∂⁺{labels[parameter]}‖ {size}", color=BLUE))
        return tuple(rows)

    def equation(self, item: Item, x: Tensor) -> str:
        """What a cell computes: of its inputs, = tanh(Ux₃ + Wh₂ + b), or of its gates, = f₃∘c₂ + i₃∘c̃₃."""
        if x.op is None:
            return ""
        if is_copy(x):
            return self.remark(x, item.inward)
        full = self.expression(x, set(item.tensors), 6)
        gates = notation.made_of(x, self.graph.labels, self.graph.shared)
        fitting = (text for text in (full, gates) if 0 < len(notation.steps_removed(text)) <= LONGEST)
        return f"= {next(fitting, notation.remark(x, ''))}"

    def expression(self, x: Tensor, inside: set[Tensor], depth: int) -> str:
        if x.op is None or x not in inside or depth == 0 or x.op.name in ("matmul", "getitem"):
            return self.graph.labels[x]
        parts = [self.expression(y, inside, depth - 1) for y in x.inputs]
        if x.op.name in ("sum", "mean") and x.inputs[0].size == 1:
            return parts[0]
        symbol = notation.SYMBOLS.get(x.op.name, x.op.name.replace("_", " "))
        if len(parts) == 2 and x.op.name in notation.SYMBOLS:
            return f" {symbol} ".join(parts if x.op.name == "add" else map(notation.atom, parts))
        return f"{symbol}({', '.join(parts)})"

    def strip_rows(self, item: Item) -> tuple[Row, ...]:
        """All the steps between in one box: a cell of colour for the gradient at each, or at the largest of several."""
        rows: list[Row] = []
        for last, shown in zip(one_of_each(item.outputs), one_of_each(shown_of(item))):
            rows += self.strip(alike_in(item, last), alike_in(item, shown), leaf=item.first.op is None)
        return tuple(rows)

    def strip(self, outputs: list[Tensor], shown: list[Tensor], leaf: bool) -> list[Row]:
        labels = self.graph.labels
        title = Row(f"{labels[outputs[0]]} … {labels[outputs[-1]]}", f"{len(outputs)} steps", bold=True)
        if not self.values or leaf:
            return [title, Row(f"each {shown[0].shape}", color=GREY)]
        what = self.with_respect_to(None) + notation.steps_removed(labels[shown[0]])
        if not any(x in self.norms for x in shown):
            return [title, Row(f"each {shown[0].shape}", color=GREY), Row(f"‖{what}‖ –", color=GREY)]
        sizes = [self.norms.get(x, 0.0) for x in shown]  # 0, which is white, where no gradient is known
        grain = -(-len(sizes) // BINS)
        cells = [Cell(self.ramp.color(max(sizes[i : i + grain]))) for i in range(0, len(sizes), grain)]
        each = "of each step" if grain == 1 else f"{grain} steps to a cell"
        return [title, Row("", cells=tuple(cells)), Row(f"‖{what}‖, {each}", color=GREY)]

    # --------------------------------------------------------------------------------------------------- tooltips
    def box_tooltip(self, item: Item) -> str:
        if len(item.tensors) > 1:
            return ", ".join([self.graph.labels[x] for x in item.outputs[:6]]) + f": {len(item.tensors)} tensors"
        return self.tooltip(item.first)

    def tooltip(self, x: Tensor) -> str:
        where = "".join([f", {key}={value}" for key, value in x.scope.items()])
        text = f"{self.graph.labels[x]}: {x.op.equation if x.op else 'leaf'}\nshape {x.shape}{where}"
        if self.lean:
            return text
        g = self.shown.gradient(x)
        return f"{text}\nvalue {notation.full(x.data)}" + ("" if g is None else f"\ngradient {notation.full(g)}")

    def edge_tooltip(self, source: Tensor, target: Tensor, edges: Sequence[Edge], cut: bool) -> str:
        text = f"{self.graph.labels[source]} → {self.graph.labels[target]}"
        if cut:
            return text + ": cut, no gradient flows back here"
        for edge in () if self.lean else edges[:3]:
            d = self.shown.contribution(edge)
            if d is not None:
                text += f"\ncontribution of norm {norm(d):.4g}: {notation.full(d)}"
        return text

    def arc_tooltip(self, arc: Arc) -> str:
        return self.edge_tooltip(arc.source.outputs[-1], arc.target.outputs[-1], arc.edges, arc.cut)

    def edge_label(self, edges: Sequence[Edge]) -> str:
        """The norm of what flowed back into a tensor along these edges; nothing where they lead to several tensors."""
        if not self.labels or len({node.inputs[i] for node, i in edges}) > 1:
            return ""
        came = total([d for edge in edges if (d := self.shown.contribution(edge)) is not None])
        return "" if came is None else notation.magnitude(norm(came))


def is_copy(x: Tensor) -> bool:
    """Is x its input over again, as a state is that one sequence hands on to another?"""
    return x.op is not None and x.op.name == "broadcast_to" and x.shape == x.inputs[0].shape


def shown_of(item: Item) -> list[Tensor]:
    """The tensors of a box whose gradients it shows: its states, or for a loss its logits, where the errors start."""
    inside = set(item.tensors)
    readers = [x for x in item.tensors if x.op and x.op.name in notation.LOGIT_READERS]
    logits = [x.inputs[0] for x in readers if x.inputs[0] in inside]
    return logits[:1] if logits and item.outputs[0].shape == () else item.outputs


def one_of_each(tensors: list[Tensor]) -> list[Tensor]:
    """Of every name the last: of the c and h of many steps, one c and one h."""
    return list({notation.stem(x.name or ""): x for x in tensors}.values())


def alike_in(item: Item, last: Tensor) -> list[Tensor]:
    """What `last` is at its step, of every step that a box stands for, in the order of the steps."""
    name = notation.stem(last.name or "")
    states = [x for x in item.outputs if notation.stem(x.name or "") == name]
    found = states if len(states) > 1 else [x for x in item.tensors if notation.stem(x.name or "") == name
                                            and x.op is last.op and x.shape == last.shape]
    return sorted(found, key=lambda x: (x.scope.get("t", 0), x.index))


def gradients_shown(item: Item) -> list[Tensor]:
    if item.place == "bus" or len(item.tensors) == 1:
        return item.tensors
    shown = shown_of(item)
    return [x for last in one_of_each(shown) for x in alike_in(item, last)] if item.many_steps else shown


def recurrent_parameters(graph: Graph) -> list[Tensor]:
    """The parameters that multiply a state: those read beside an implicit edge."""
    beside = {x for node, _ in graph.implicit for x in node.inputs if graph.place[x] == "bus"}
    return sorted(beside, key=lambda x: x.index)


def size_of(rows: Iterable[Row]) -> tuple[float, float]:
    """Width and height, in points, of a box with these rows."""
    width, count = 24.0, 0
    for row in rows:
        count += 1
        line = notation.text_width(row.text, SIZE if row.bold else SMALL, row.bold)
        if row.cells:
            texts = max([notation.text_width(cell.text, SMALL) for cell in row.cells])
            line = len(row.cells) * max(CELL, texts + 9)
        if row.remark:
            line += 9 + notation.text_width(row.remark, SMALL)
        width = max(width, line)
    return float(round(width + 2 * PAD)), count * LINE + 4
