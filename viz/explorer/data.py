"""A run as plain data for the page: every number is the engine's own, rounded to what a reader can use.

`page/run.js` reads it, and gives names to what the lists hold. Tensors are numbers, their places in order of
creation; arrays are numbers, their places in one pool, in which equal ones are one.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Sequence
from inspect import getsourcefile, getsourcelines
from itertools import chain
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np

from tinygrad_rnn import local, nn
from tinygrad_rnn.bptt.jacobian import parts_of, spectral_norm, state_jacobians, states
from tinygrad_rnn.bptt.tables import norm
from tinygrad_rnn.bptt.tables import norms as norms_of
from tinygrad_rnn.bptt.uses import Use
from tinygrad_rnn.nn.equations import PLACE
from tinygrad_rnn.ops import Array
from tinygrad_rnn.recording import record
from tinygrad_rnn.steps import Lane, is_recurrence, lane_of, recurrence_edges, step_of
from tinygrad_rnn.tensor import Tensor
from tinygrad_rnn.ticks import Flow, Tick, ticks

from ..graph import Graph
from ..layout import lay_out
from ..notation import remark
from ..picture import Picture
from ..shown import Shown
from .sweeps import Found, Uses, cuts_of, swept, uses_of, ways

MOST, FEWER = 64, 16  # numbers of an array that is given whole; in a long run
LONG = 500  # results that make a run long
FEWEST = 8  # numbers of a dE_t/ds, of which there are T²
DENSE = 6  # rows and columns of a local derivative that is given as numbers


class Pool:
    """The arrays of a page, each distinct one once: [shape, numbers], or [shape, null, norm, min, max, first three].

    Where a call says how many numbers are the `most`, a larger one is [shape, null, norm].
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.arrays: list[list[Any]] = []
        self.places: dict[tuple[tuple[int, ...], bytes, bool], int] = {}

    def __call__(self, array: Array, most: int | None = None) -> int:
        large = array.size > (most or self.most)
        key = array.shape, array.tobytes(), large
        if key not in self.places:
            self.places[key] = len(self.arrays)
            self.arrays.append([list(array.shape), *(told(array, brief=most is not None) if large else
                                                     [rounded(array.flat)])])
        return self.places[key]


def told(array: Array, brief: bool) -> list[Any]:
    """What is said of a large array instead of its numbers."""
    size, ends = rounded([norm(array)]), rounded([array.min(), array.max()])
    return [None, *size] if brief else [None, *size, *ends, rounded(array.flat[:3])]


def rounded(numbers: Iterable[Any], digits: int = 6) -> list[Any]:
    """Numbers as JSON knows them: integers without a point; what is not finite as text, for JSON has no word for it."""
    texts = [f"{x:.{digits}g}" for x in numbers]
    found = [float(text) for text in texts]
    return [(int(x) if x.is_integer() and abs(x) < 1e15 else x) if math.isfinite(x) else text
            for x, text in zip(found, texts)]


def trimmed(row: Array, digits: int) -> list[Any]:
    """A row without the zeros at its end."""
    return rounded(np.trim_zeros(row, "b"), digits)


def exact(x: Any) -> Any:
    """One number to ten digits, for what is added up before the reader's eyes."""
    return rounded([x], 10)[0]


class Run:
    """All that the page shows of E = Σ E_t: the graph and its picture, both passes, terms, Jacobians and cuts."""

    def __init__(self, E: Tensor, losses: Sequence[Tensor], parameter: Tensor | None, model: nn.Module | None) -> None:
        recording = record(E)
        self.E, self.losses, self.graph = E, losses, Graph(E, recording, ())
        self.same = 1e4 * float(np.finfo(E.dtype).eps)  # what is off by less is off by rounding
        self.number, self.labels = self.graph.number, self.graph.labels
        self.nodes = [x for x in self.graph.tensors if x.op is not None]
        self.pool = Pool(MOST if len(self.nodes) <= LONG else FEWER)
        picture = lay_out(self.graph, Shown(self.graph, None), "ops", values=True, labels=False)
        newest_first = self.nodes[::-1]
        self.uses = [uses_of(newest_first, p, recording.gradients[p]) for p in self.graph.tensors
                     if p.op is None and p.requires_grad and p in recording.gradients]
        self.lanes = {lane: states(E, **conditions(lane)) for lane in
                      dict.fromkeys(lane_of(node) for node, _ in sorted(recurrence_edges(self.nodes),
                                                                       key=lambda edge: edge[0].index))}
        watched = {part for found in self.lanes.values() for state in found.values() for part in parts_of(state)}
        self.whole = swept(losses, self.uses, lambda node, i: False, watched)
        self.data = {
            "losses": [[self.number[x], self.labels[x], step_of(x)] for x in losses], "root": self.number[E],
            "nodes": self.node_data(model), **self.picture_data(picture),
            "backward": [self.tick_data(tick) for tick in ticks(E)],
            "parameters": self.parameter_data(recording.gradients), "lanes": self.lane_data(), "cuts": self.cut_data(),
            "chosen": self.first_shown(parameter), "arrays": self.pool.arrays}

    # ------------------------------------------------------------------------------------------------------ the graph
    def node_data(self, model: nn.Module | None) -> list[list[Any]]:
        """[label, remark, op, equation, scope, source, value, inputs, a state?, carried inputs, has a gradient?]."""
        labels, sources = self.labels, sources_of(self.nodes, model)
        found = []
        for x in self.graph.tensors:
            equation = local.equation(x, labels[x], [labels[y] for y in x.inputs]) if x.op else ""
            where = ", ".join(f"{key}={value}" for key, value in x.scope.items())
            found.append([labels[x], remark(x, labels[x]), x.op.name if x.op else "", equation, where,
                          sources.get(x, ""), self.pool(x.data), [self.number[y] for y in x.inputs],
                          int(x in self.graph.results_carried),
                          [i for i in range(len(x.inputs)) if is_recurrence(x, i)], int(x.requires_grad)])
        return found

    def picture_data(self, picture: Picture) -> dict[str, Any]:
        """Boxes, wires, dots and bands where the picture has them, without its legend."""
        def points(numbers: Iterable[float]) -> list[Any]:
            return rounded(numbers, 6)

        last = max(band.y + band.height for band in picture.bands)
        return {
            "size": points((max(box.x + box.width / 2 for box in picture.boxes) + 12, last + 12)),
            "bands": [[band.title, *points((band.x, band.y, band.width, band.height))] for band in picture.bands],
            "boxes": [[number, *points((box.x, box.y, box.width, box.height)),
                       int(self.graph.place[self.graph.tensors[number]] == "bus")]
                      for box in picture.boxes for number in [int(box.id[1:])]],
            "wires": [[wire.id, wire.kind, int(wire.arrow), points(chain.from_iterable(wire.points))]
                      for wire in picture.wires if not wire.id.startswith("sample_")],
            "dots": [[dot.id, dot.kind, *points((dot.x, dot.y))] for dot in picture.dots
                     if not dot.id.startswith("dot_")]}

    # ------------------------------------------------------------------------------------------------ the backward pass
    def tick_data(self, tick: Tick) -> list[Any]:
        """[node, kind, incoming, edges]."""
        return [self.number[tick.node], tick.kind, self.pool(tick.incoming),
                [self.flow_data(tick.node, flow) for flow in tick.flows]]

    def flow_data(self, node: Tensor, flow: Flow) -> list[Any]:
        """[position, kind, contribution, after, rule, product, Jacobian, entry]; after is null at a first contribution.

        entry: of a parameter [contribution, before, after] at the one entry that is shown, else null.
        """
        i, names = flow.position, [self.labels[y] for y in node.inputs]
        rule = local.rule(node, i, self.labels[node], names)
        product = local.product(node, i, "g", rule)
        small = max(node.size, flow.x.size) <= DENSE and node.size * flow.x.size <= self.pool.most
        dense = local.jacobian(node, i) if small and rule not in ("1", "-1") else None
        entry = next((its.entry for its in self.uses if its.parameter is flow.x), None)
        shown = None if entry is None else [
            exact(flow.contribution[entry]), 0 if flow.before is None else exact(flow.before[entry]),
            exact(flow.after[entry])]
        return [i, flow.kind, self.pool(flow.contribution), None if flow.before is None else self.pool(flow.after),
                rule, product, None if dense is None else self.pool(dense), shown]

    # ------------------------------------------------------------------------------------------------ terms and states
    def parameter_data(self, gradients: dict[Tensor, Array]) -> list[dict[str, Any]]:
        explicit = swept(self.losses, self.uses, is_recurrence)
        return [self.one_parameter(p, its, explicit, gradients[its.parameter]) for p, its in enumerate(self.uses)]

    def one_parameter(self, p: int, its: Uses, explicit: Found, total: Array) -> dict[str, Any]:
        """dE/dW, its two parts, the K uses with what each adds, and A (T, K): norms, one entry of each, kinds.

        sums and norms: of the total, the explicit and the implicit part, at that entry and of all. uses: [k, edges,
        what it adds to the entry, what of that is explicit, norm]. rows: ‖dE_t/dW‖. kinds, a letter for each:
        e explicit, i implicit, b both, . where no gradient comes.
        """
        W, entry, own = its.parameter, its.entry, explicit.total(p, its.parameter.shape)
        whole, norms, direct = self.whole.columns[p], self.whole.norms[p], explicit.norms[p]
        off = np.abs(explicit.entries[p] - self.whole.entries[p]) + np.abs(direct - norms)
        kinds = np.where(norms == 0, ".", np.where(direct == 0, "i", np.where(off <= self.same * norms, "e", "b")))
        none = np.zeros(W.shape)
        return {
            "node": self.number[W], "label": self.labels[W], "entry": list(entry),
            "total": self.pool(total), "explicit": self.pool(own), "implicit": self.pool(np.asarray(total - own)),
            "sums": [exact(a[entry]) for a in (total, own, total - own)],
            "norms": [exact(norm(a)) for a in (total, own, total - own)],
            "uses": [[k, [[self.number[node], i] for node, i in edges], exact(whole.get(k, none)[entry]),
                      exact(explicit.columns[p].get(k, none)[entry]), exact(norm(whole.get(k, none)))]
                     for k, edges in its.edges.items()],
            "A": [trimmed(row, 5) for row in norms], "entries": [trimmed(row, 7) for row in self.whole.entries[p]],
            "rows": rounded(norms_of(self.whole.rows[p])), "kinds": ["".join(row) for row in kinds.tolist()]}

    def lane_data(self) -> list[dict[str, Any]]:
        """Of each recurrence its states, the norms of ∂s_t/∂s_k, and dE_t/ds_k."""
        found = []
        for lane, run in self.lanes.items():
            sequence, layer, direction = lane
            parts = [parts_of(state) for state in run.values()]
            name = ", ".join([str(part) for part in (sequence, direction) if part]
                             + [f"layer {layer}"] * (layer is not None and len({a[1] for a in self.lanes}) > 1))
            deltas = [[self.pool(self.whole.deltas[x][row], FEWEST) if x in self.whole.deltas else None for x in each]
                      for row in range(len(self.losses)) for each in parts]
            found.append({"label": name, "steps": list(run), "deltas": deltas,
                          "states": [[self.number[x] for x in each] for each in parts],
                          "J": jacobian_norms(list(run.values()))})
        return found

    def cut_data(self) -> list[dict[str, Any]]:
        """For every place where a state can be cut: the gradients then, and what is left of every A.

        changed: ‖dE/dx‖ of the results for which it is another one. Of each parameter [dE/dW, its entry, its norm,
        null if of A exactly the block (t > s ≥ k or k > s ≥ t) has become 0, else the cells that differ, each with its
        norm and its entry].
        """
        found = []
        for (sequence, s), edges in cuts_of(self.losses).items():
            left = swept(self.losses, self.uses, lambda node, i, edges=edges: (node, i) in edges,  # type: ignore[misc]
                         together=True)
            sizes = {x: left.gradients.get(x, 0.0) for x in self.whole.gradients}
            changed = {str(self.number[x]): rounded([size], 4)[0] for x, size in sizes.items()
                       if not math.isclose(size, self.whole.gradients[x], rel_tol=self.same)}
            rows = []
            for p, (its, (norms, entries)) in enumerate(zip(self.uses, self.maps_cut(edges))):
                total = left.total(p, its.parameter.shape)
                rows.append([self.pool(total), exact(total[its.entry]), exact(norm(total)),
                             self.cells_cut(p, norms, entries, sequence, s)])
            found.append({"after": s, "sequence": str(sequence or ""), "changed": changed, "parameters": rows,
                          "edges": sorted([self.number[node], i] for node, i in edges)})
        return found

    def maps_cut(self, edges: set[Use]) -> list[tuple[Array, Array]]:
        """Norms and entries of every A under a cut: where no term has ways of both kinds, a term stays, or is 0."""
        by_parameter = ways(self.losses, self.uses, edges)
        if any((free & crossing).any() for free, crossing in by_parameter):
            left = swept(self.losses, self.uses, lambda node, i: (node, i) in edges)
            return list(zip(left.norms, left.entries))
        return [(np.where(free, norms, 0.0), np.where(free, entries, 0.0))
                for (free, _), norms, entries in zip(by_parameter, self.whole.norms, self.whole.entries)]

    def cells_cut(self, p: int, norms: Array, entries: Array, sequence: object, s: int) -> list[list[Any]] | None:
        """The cells that differ, or None where they are the block."""
        whole, its = self.whole.norms[p], self.uses[p]
        inside = [k is not None and all(node.scope.get("sequence") == sequence for node, _ in edges)
                  for k, edges in its.edges.items()]
        beside = [step_of(x) is not None and x.scope.get("sequence") == sequence for x in self.losses]
        later = np.array([(step_of(x) or 0) > s for x in self.losses])[:, None] != [(k or 0) > s for k in its.steps]
        block = later & np.array(beside)[:, None] & np.array(inside)
        off = np.abs(entries - self.whole.entries[p]) + np.abs(norms - whole)
        rest = off <= self.same * whole  # a stack of other seeds may round otherwise
        if ((norms == 0) | ~block).all() and (rest | block).all():
            return None
        return [[int(t), int(k), *rounded([norms[t, k], entries[t, k]])] for t, k in np.argwhere(~rest)]

    def first_shown(self, parameter: Tensor | None) -> int:
        """The place of the parameter asked for; else of the first that multiplies a state, else of the first."""
        if parameter is not None:
            return next(p for p, its in enumerate(self.uses) if its.parameter is parameter)
        beside = {x for node, _ in self.graph.implicit for x in node.inputs}
        return next((p for p, its in enumerate(self.uses) if its.parameter in beside and its.parameter.size > 1
                     and step_of(its.parameter) is None), 0)


def conditions(lane: Lane) -> dict[str, object]:
    return dict(zip(("sequence", "layer", "direction"), lane))


def jacobian_norms(run: list[Any]) -> list[list[Any]] | None:
    """‖∂s_t/∂s_k‖ (spectral, the largest of the batch) for the states in the order in which they are made, k before t.

    None where states are no rows of a batch.
    """
    found: list[list[Any]] = []
    for n, later in enumerate(run):
        try:
            earlier = state_jacobians(later, dict(enumerate(run[:n]))) if n else {}
        except (ValueError, RuntimeError):
            return None
        found.append(rounded([float(spectral_norm(earlier[k]).max()) for k in range(n)], 5))
    return found


# --------------------------------------------------------------------------------------------------------- source lines
def sources_of(nodes: list[Tensor], model: nn.Module | None) -> dict[Tensor, str]:
    """file:line of the cell's own code that names each result; of an unnamed one that of the result it goes into."""
    found: dict[Tensor, str] = {}
    for cell in cells_in(model) if model is not None else ():
        own, file, lines = set(cell.parameters()), *lines_of(type(cell))
        lanes = {lane_of(node) for node in nodes if any(x in own for x in node.inputs)}
        goes_into: dict[Tensor, str] = {}
        for node in reversed(nodes):
            if lane_of(node) in lanes:
                known = lines.get(node.name or "", [])
                line = f"{file}:{best(known, node)}" if known else goes_into.get(node, "")
                if line:
                    found[node] = line
                    goes_into.update({x: line for x in node.inputs if step_of(x) == step_of(node)})
    return found


def best(lines: list[tuple[int, str]], node: Tensor) -> int:
    """Of several lines that give a name the one that reads what the result is made of."""
    read, seen = list(node.inputs), set()
    for x in read:
        if x.name:
            seen.add(PLACE.sub("", x.name))
        else:
            read += x.inputs
    return max(lines, key=lambda line: (sum(name in re.findall(r"\w+", line[1]) for name in seen), -line[0]))[0]


def cells_in(module: nn.Module) -> list[nn.Cell]:
    here = [module] if isinstance(module, nn.Cell) else []
    return [*here, *(cell for _, child in module.children() for cell in cells_in(child))]


def lines_of(kind: type[nn.Cell]) -> tuple[str, dict[str, list[tuple[int, str]]]]:
    """The file of a cell, and the lines that name a result: by `.named("h")`, or by assigning `z_f = …`."""
    try:
        text, start = getsourcelines(kind)
        file = Path(getsourcefile(kind) or "")
    except (OSError, TypeError):  # typed into a console
        return "", {}
    found: dict[str, list[tuple[int, str]]] = {}
    for node in ast.walk(ast.parse(dedent("".join(text)))):
        match node:
            case ast.Call(func=ast.Attribute(attr="named"), args=[ast.Constant(value=str(name))]):
                found.setdefault(name, []).append((start + node.lineno - 1, text[node.lineno - 1]))
            case ast.Assign(targets=[ast.Name(id=name)]):
                found.setdefault(name, []).append((start + node.lineno - 1, text[node.lineno - 1]))
    return f"{file.parent.name}/{file.name}", found
