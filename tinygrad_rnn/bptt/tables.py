"""Floor 5: explanations, term matrices and proofs as text that a learner can read, with the symbols of the notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from .. import ops
from ..ops import Array
from ..steps import is_recurrence, lane_of, recurrence_edges, step_of, way, ways
from ..sweep import order
from ..tensor import Tensor
from .uses import Recurrence, Step, pattern, recurrence_of, uses

if TYPE_CHECKING:
    from .matrix import Terms
    from .parts import Explanation
    from .proof import Proof, Witness

SUBSCRIPTS = str.maketrans("0123456789-", "₀₁₂₃₄₅₆₇₈₉₋")
SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
SHOWN = 12  # steps listed one by one; of more, the newest and the oldest
WIDTH = 110  # of a line of text


class Printed:
    """What shows itself in a notebook as it prints."""

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


def subscript(symbol: str, t: object) -> str:
    return symbol if t is None else f"{symbol}{str(t).translate(SUBSCRIPTS)}"


def norm(x: Array) -> float:
    """Frobenius."""
    return float(norms(np.asarray(x)[None])[0])


def norms(x: Array) -> Array:
    """The Frobenius norm of each x[i], also of numbers whose squares leave the range of floats."""
    size = np.abs(x).reshape(len(x), -1)
    largest = size.max(axis=1, initial=0.0)
    largest[largest == 0] = 1.0
    found: Array = largest * np.sqrt(((size / largest[:, None]) ** 2).sum(axis=1))
    return found


def table(head: list[str], rows: list[list[str]], *, left: tuple[int, ...] = (0,)) -> str:
    """Columns as wide as their widest cell, numbers to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [[cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
             for row in [head, ["─" * w for w in widths], *rows]]
    return "\n".join(("  " + "  ".join(line)).rstrip() for line in lines)


def paragraph(text: str) -> str:
    return fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def symbols(e: Explanation) -> tuple[str, str]:
    """W and E_t as the table calls them; a loss made outside the steps has no t."""
    return e.parameter.name or "W", loss_symbol(e.loss)


def loss_symbol(loss: Tensor) -> str:
    """E_t, or what else the scalar is called: h₃[0, 2], where it is an element of a tensor with a name."""
    if loss.name is None and loss.op is ops.GETITEM and (whole := loss.inputs[0]).name:
        mark = "'" * (whole.scope.get("direction") == "backward" and not str(whole.name).endswith("'"))
        index = str((loss.settings or {})["index"]).strip("()").rstrip(",")
        return f"{subscript(f'{whole.name}{mark}', step_of(whole))}[{index}]"
    return subscript(loss.name or "E", step_of(loss))


def explanation_table(e: Explanation) -> str:
    """Each use of W, what it contributes, and the explicit and implicit parts they add up to."""
    W, E = symbols(e)
    entry, element = largest(e)
    square = float((e.total * e.total).sum())
    kinds = kinds_of(e)
    split = "both" in kinds.values()  # then it is told how much of each term is explicit

    def row(label: str, kind: str, formula: str, part: Array, explicit: Array | None) -> list[str]:
        share = f"{100 * float((part * e.total).sum()) / square:.1f} %".replace("-0.0 ", "0.0 ") if square else "–"
        told = [f"{norm(explicit):.4g}" if explicit is not None else ""] * split
        return [label, kind, formula, f"{norm(part):.4g}", *told, f"{part[entry]:+.6g}", share]

    zero, through = np.zeros_like(e.total), recurrence_of(e.loss, e.parameter) if e.implicit.any() else None
    rows = [row(use_label(k), kind_of(kinds, k), path(e, k, through), part,
                np.sum([e.explicit_terms.get(j, zero) for j in within(e, k)], axis=0))
            for k, part in shown(e, through)]
    head = ["use", "kind", "term", "‖·‖", *["‖explicit‖"] * split, element, "share"]
    rows += [[""] * len(head), row("all", "explicit ∂⁺", f"∂⁺{E}/∂{W}", e.explicit, None),
             row("", "implicit", "", e.implicit, None), row("", "total", f"d{E}/d{W}", e.total, None)]
    shape = " × ".join(map(str, e.total.shape)) or "one number"
    notes = [f"explicit: paths from {W} to {E} on which no state goes from one step to another.  implicit: all other "
             f"paths."]
    if split:
        notes[0] += (f"  both: paths of both kinds lead from this use to {E}, as where {E} sums losses of several "
                     "steps; ‖explicit‖ is the norm of the explicit part.")
    if square:
        where = " (as stored, counted from 0)" if entry else ""
        largest_one = f"{element} is the largest entry{where}; entries" if e.total.size > 1 else "Numbers"
        notes.append(f"{largest_one} and shares (a part's projection on d{E}/d{W}; negative: it pulls against the "
                     "total) add up, norms do not.")
    if through:
        notes.append(state_note(through, W))
    zeros = [k for k, part in e.terms.items() if not part.any()]
    notes += zeros_notes([e.loss], e.parameter, zeros) + graph_notes([e.loss], e.parameter)
    return "\n".join([
        f"d{E}/d{W} = Σ_k ∂{E}/∂{W}⁽ᵏ⁾, the sum over the uses k of {W} ({shape});  {E} = {float(e.loss.data):.6g}", "",
        table(head, rows, left=(0, 1, 2)), "", *map(paragraph, notes)])


def largest(e: Explanation) -> tuple[tuple[int, ...], str]:
    """The place of the largest entry of dE/dW, and its name."""
    W, entry = symbols(e)[0], tuple(int(i) for i in np.unravel_index(int(np.abs(e.total).argmax()), e.total.shape))
    return entry, f"{W}[{', '.join(map(str, entry))}]" if entry else W


def within(e: Explanation, k: Step | range) -> list[Step]:
    """The uses under one label."""
    return [j for j in e.terms if isinstance(j, int) and j in k] if isinstance(k, range) else [k]


def kinds_of(e: Explanation) -> dict[Step, str]:
    """Each use: explicit, implicit, or both, by the paths that lead from it to E, so that a term of 0 has a kind too.

    One use may be explicit for one loss in a sum, and implicit for later ones.
    """
    crossed = ways(e.loss)
    names = {(False,): "explicit ∂⁺", (True,): "implicit", (False, True): "both"}
    return {k: names[tuple(sorted(frozenset().union(*(way(crossed, *edge) for edge in edges))))]
            for k, edges in uses([e.loss], e.parameter).items()}


def kind_of(kinds: dict[Step, str], k: Step | range) -> str:
    """The kind of one use, or of all those in a range."""
    found = {kind for j, kind in kinds.items() if j is not None and j in k} if isinstance(k, range) else {kinds[k]}
    return found.pop() if len(found) == 1 else "both"


def zeros_notes(losses: Sequence[Tensor], parameter: Tensor, zeros: Sequence[Step]) -> list[str]:
    """Why some uses contribute exactly 0: what W multiplies there is 0, or another factor is, on every path."""
    W, E = parameter.name or "W", loss_symbol(losses[0]) if len(losses) == 1 else "a loss"
    read = uses(losses, parameter)

    def multiplies_zero(node: Tensor, i: int) -> bool:
        others = [node.saved[1 + j] for j in range(len(node.inputs)) if j != i]
        return node.op in (ops.MATMUL, ops.MUL) and not any(np.any(x) for x in others)

    def because(reason: str, its: list[str]) -> list[str]:
        named = ", ".join(its) if len(its) <= 3 else f"{its[0]}, {its[1]} and {len(its) - 2} more"
        return [f"What is used at {named} contributes exactly 0: {reason}."] * bool(its)

    nothing = [k for k in zeros if all(multiplies_zero(*edge) for edge in read[k])]
    others = [use_label(k) for k in zeros if k not in nothing]
    return [*because(f"what {W} multiplies there is 0, as a first state of zeros is", [use_label(k) for k in nothing]),
            *because(f"on every path from there to {E} a factor is 0, or the product has vanished below what a float "
                     "can hold", others)]


def graph_notes(losses: Sequence[Tensor], parameter: Tensor) -> list[str]:
    """What a reader has to know of the graph: where it is cut, and whether a step k is one step."""
    W, nodes, read = parameter.name or "W", order(losses), uses(losses, parameter)
    edges = recurrence_edges(nodes)
    recurrent = {lane_of(node) for node, _ in edges}
    entered = {(lane_of(node), step_of(node)) for node, i in edges
               if node.inputs[i].op is not None or node.inputs[i].requires_grad}
    read_in: dict[tuple[object, object, object], set[int]] = {}
    for k, its in read.items():
        for node, _ in its:
            if k is not None and step_of(node) == k:
                read_in.setdefault(lane_of(node), set()).add(k)
    cut = {k for lane, ks in read_in.items() if lane in recurrent for k in ks
           if (lane, k) not in entered and (k != max(ks) if lane[2] == "backward" else k > 1)}
    notes = []
    if cut:
        first = ", ".join(map(str, sorted(cut)[:8])) + " …" * (len(cut) > 8)
        notes.append(f"The graph is cut: into step {first} goes no state that another step has computed (it was "
                     f"detached, or made under no_grad, or a new sequence starts there). What lies beyond contributes "
                     "nothing here, so this is a truncated gradient.")
    if len(read_in) > 1:
        scopes = [", ".join(f"{name} {value}" for name, value in zip(("sequence", "layer", "direction"), lane)
                            if value is not None) or "no name" for lane in read_in]
        notes.append(f"{W} is read in {len(read_in)} places that count steps of their own ({'; '.join(scopes)}): k is "
                     "step k of each, and a term is the sum over them.")
    if len(losses) == 1 and summands(losses[0])[1]:
        notes.append(f"{loss_symbol(losses[0])} is a running total made inside the steps, which counts as a state: "
                     "what was added at earlier steps reaches it by implicit paths alone. Added up outside the steps, "
                     "each E_t keeps its explicit part.")
    return notes


def summands(loss: Tensor) -> tuple[list[Tensor], bool]:
    """The losses that a sum of losses is made of, and whether what is added up is carried from step to step.

    A summand is a scalar that is made of more than scalars. A state s_t = w s_{t-1} is carried too, but adds nothing.
    """
    scalars, found, running = {loss: None}, list[Tensor](), False
    waiting = [loss]
    for x in waiting:
        parts = [y for y in x.inputs if y.op is not None]
        if parts and all(y.shape == () or (y.op is ops.STACK and y.ndim == 1) for y in parts):
            if x.op in (ops.ADD, ops.SUM, ops.STACK):
                running = running or any(is_recurrence(x, i) for i, y in enumerate(x.inputs) if y in parts)
            waiting += [y for y in parts if y not in scalars]
            scalars |= dict.fromkeys(parts)
        else:
            found.append(x)
    return found, running


def state_symbol(through: Recurrence) -> str:
    """What the state is called, h' in a backward direction; s where it has several parts, or one without a name."""
    symbol = (through.names[0] if len(through.names) == 1 else None) or "s"
    return symbol + "'" * (through.lane[2] == "backward" and not symbol.endswith("'"))


def state_note(through: Recurrence, W: str) -> str:
    """What the symbols of the terms mean: the state, of which recurrence, and what ∂⁺ holds fixed."""
    s, E = state_symbol(through), loss_symbol(through.loss)
    parts = [name for name in through.names if name]
    whole = f" [{'; '.join(parts)}]" if len(parts) == len(through.names) > 1 else ""
    sequence, layer, direction = (mine if len({mine, *theirs}) > 1 else None
                                  for mine, *theirs in zip(through.lane, *through.others))
    backward = through.lane[2] == "backward"
    where = [f" of the {through.lane[2]} direction"] * (direction is not None or backward)
    where += [f" of layer {layer}"] * (layer is not None) + [f" of sequence {sequence}"] * (sequence is not None)
    goes = ", which goes from the last step to the first" if backward else ""
    said = [f"{s}_k: the state{whole} at step k{''.join(where)}{goes}."] if whole or where else []
    said += [f"d{E}/d{s}_k: along all paths from {s}_k to {E}."] if len(through.last) != 1 else []
    said += [f"∂⁺{s}_k/∂{W}: how the state of step k changes with the {W} that step k reads, the state that it starts "
             "from held fixed."]
    return "  ".join(said)


def path(e: Explanation, k: Step | range, through: Recurrence | None) -> str:
    """The term of use k as the notes write it (17): ∂E_t/∂h_t · ∂h_t/∂h_k · ∂⁺h_k/∂W.

    It is dE/dh_k · ∂⁺h_k/∂W where E depends on h_k not by one later state alone: a sum of losses, or a layer above.
    """
    W, E = symbols(e)
    if isinstance(k, range):
        return "Σ of these"
    if k is None or through is None or not through.carries(k):
        alone = [j for j, kind in kinds_of(e).items() if kind != "implicit"] == [k] and kinds_of(e)[k] != "both"
        return f"∂⁺{E}/∂{W}" if alone else f"∂{E}/∂{W}" + (f"⁽{k}⁾".translate(SUPERSCRIPTS) if k is not None else "")
    h = state_symbol(through)
    then = subscript(h, k)
    if len(through.last) != 1:
        return f"d{E}/d{then} · ∂⁺{then}/∂{W}"
    (last,) = through.last
    now = subscript(h, last)
    between = f"∂{now}/∂{then} · " if k != last else ""
    first = f"∂{E}/∂{now} · " if now != E else ""
    return f"{first}{between}∂⁺{then}/∂{W}"


def shown(e: Explanation, through: Recurrence | None) -> list[tuple[Step | range, Array]]:
    """(k, term), the use that the recurrence makes last first; of many, the middle ones as one sum under a range."""
    backward = through is not None and through.lane[2] == "backward"
    uses: list[tuple[Step | range, Array]] = [(k, e.terms[k]) for k in (e.terms if backward else reversed(e.terms))]
    if len(uses) <= SHOWN:
        return uses
    middle = uses[6:-3]
    steps = [k for k, _ in middle if isinstance(k, int)]
    together = range(min(steps), max(steps) + 1), np.sum([term for _, term in middle], axis=0)
    return [*uses[:6], together, *uses[-3:]]


def use_label(k: Step | range) -> str:
    if isinstance(k, range):
        return f"k = {k.start} … {k.stop - 1}"
    return "outside the steps" if k is None else f"k = {k}"


def terms_table(a: Terms) -> str:
    """The norms of A[t,k], whole where they are few and fit on a line."""
    W = a.parameter.name or "W"
    most = whole(a)
    elided = "; the middle is left out" if max(len(a.losses), len(a.steps)) > most else ""
    return (f"‖A[t,k]‖ = ‖∂E_t/∂{W}⁽ᵏ⁾‖: what the use of {W} at step k contributes to the gradient of E_t{elided}\n\n"
            f"{norms_table(a, most)}\n\n"
            + "\n".join(map(paragraph, (
                f"A row sums to dE_t/d{W}, a column to all that one use contributes. ‖sum‖: norms do not add up to the "
                f"norm of the sum. {pattern_note(a)}", *empty_notes(a), *graph_notes(a.losses, a.parameter)))))


def empty_notes(a: Terms) -> list[str]:
    """Why a column is 0, a use that contributes exactly 0 to every loss, and a row to which no other use leads."""
    zeros = [k for k, column in zip(a.steps, a.norms.T) if not column.any()]
    notes = zeros_notes(a.losses, a.parameter, zeros)
    empty = [loss for loss, row in zip(a.losses, a.norms) if not row.any()]
    if zeros and len(empty) == 1 and set(uses(empty, a.parameter)) <= set(zeros):
        notes[-1] += f" No other use leads to {loss_symbol(empty[0])}, so its row is 0 too."
    return notes


def pattern_note(a: Terms) -> str:
    """Which terms are explicit: a triangle where all that carries a state to the losses goes one way in time (19)."""
    ways, places = pattern(a.losses, a.parameter)
    if not ways:
        return "All of it is explicit: on no path to a loss does a state go from one step to another."
    if not places:
        return "All of it is implicit: on every path to a loss a state goes from one step to another."
    if any(t is None or t != k for t, k in places):
        return "`explain` tells what of a term is explicit."
    if len(ways) == 2:
        return ("Off the diagonal (k ≠ t) all is implicit, on both sides of it, for states are carried both ways in "
                "time; what of the diagonal is explicit, `explain` tells.")
    if ways == {True}:
        return "On the diagonal (k = t) all is explicit, below it (k < t) implicit."
    return ("On the diagonal (k = t) all is explicit, above it (k > t) implicit: this direction goes from the last "
            "step to the first.")


def norms_table(a: Terms, most: int) -> str:
    sums = [f"{norm(row):.3g}" for row in a.rows]
    rows = matrix_rows(a, most, lambda i, j: f"{a.norms[i, j]:.3g}", sums)
    below = ["…" if j is None else f"{norm(a.columns[j]):.3g}" for j in ends(len(a.steps), most)]
    return table([*matrix_head(a, most), "‖sum‖"], [*rows, ["all losses", *below, f"{norm(a.total):.3g}"]])


def cosines_table(a: Terms) -> str:
    """The cosine of each term with dE/dW, in the places of the norms."""
    W = a.parameter.name or "W"
    most = whole(a)
    rows = matrix_rows(a, most, lambda i, j: f"{a.cosines[i, j]:+.2f}" if a.norms[i, j] else "–")
    return (f"The cosine of A[t,k] with dE/d{W}\n\n{table(matrix_head(a, most), rows)}\n\n"
            + paragraph(f"+1: the term pulls {W} where the sum of all terms does; -1: against it; 0: across.  –: it is "
                        "0."))


def whole(a: Terms) -> int:
    """So many rows and columns are shown whole: fewer, where their numbers are wide."""
    return SHOWN if len(norms_table(a, SHOWN).splitlines()[0]) <= 120 else 8


def matrix_head(a: Terms, most: int) -> list[str]:
    return ["", *("…" if j is None else use_label(a.steps[j]) for j in ends(len(a.steps), most))]


def matrix_rows(a: Terms, most: int, cell: Callable[[int, int], str], last: Sequence[str] = ()) -> list[list[str]]:
    """A row for each loss: its name, its cells, and what `last` has for it; … for what is left out."""
    columns = ends(len(a.steps), most)
    rows = []
    for i in ends(len(a.losses), most):
        if i is None:
            rows.append(["…"] * (1 + len(columns) + bool(last)))
            continue
        E, t = a.losses[i].name or "E", step_of(a.losses[i])
        label = subscript(E, t) if t is not None else f"{E} (loss {i + 1})"
        rows.append([label, *("…" if j is None else cell(i, j) for j in columns), *([last[i]] if last else [])])
    return rows


def ends(n: int, most: int) -> list[int | None]:
    """All of n places where they are at most so many, else the first and the last four, and None between them."""
    return list(range(n)) if n <= most else [*range(4), None, *range(n - 4, n)]


def proof_table(p: Proof) -> str:
    W, E = symbols(p.explanation)
    return witness_table(f"d{E}/d{W}", p.witnesses)


def witness_table(what: str, witnesses: Sequence[Witness]) -> str:
    rows = [[w.part, w.route, w.shares, f"{w.error:.1e}", f"{w.tolerance:.0e}", "agrees" if w else "DISAGREES"]
            for w in witnesses]
    return "\n".join([
        f"{what}: {'proved' if all(witnesses) else 'NOT PROVED'} by {len(rows)} witnesses", "",
        table(["part", "route", "shares with the engine", "error", "allowed", ""], rows, left=(0, 1, 2, 5)), "",
        "  error: the largest difference between two elements, by the largest element; each term by its own size.\n"
        "  A witness cannot see a mistake in what it shares; copies that are swept repeat the same arithmetic, so 0\n"
        "  is no surprise there."])
