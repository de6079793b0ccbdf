"""Floor 5: explanations, term matrices and proofs as text that a learner can read, with the symbols of the notes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from ..ops import Array
from ..steps import step_of
from .uses import Recurrence, Step, pattern, recurrence_of

if TYPE_CHECKING:
    from .matrix import Terms
    from .parts import Explanation
    from .proof import Proof, Witness

SUBSCRIPTS = str.maketrans("0123456789-", "₀₁₂₃₄₅₆₇₈₉₋")
SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
SHOWN = 12  # steps listed one by one; of more, the newest and the oldest


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
    return fill(text, 110, initial_indent="  ", subsequent_indent="  ")


def symbols(e: Explanation) -> tuple[str, str]:
    """W and E_t as the table calls them; a loss made outside the steps has no t."""
    return e.parameter.name or "W", subscript(e.loss.name or "E", step_of(e.loss))


def explanation_table(e: Explanation) -> str:
    """Each use of W, what it contributes, and the explicit and implicit parts they add up to."""
    W, E = symbols(e)
    entry = np.unravel_index(int(np.abs(e.total).argmax()), e.total.shape)
    element = f"{W}[{', '.join(str(int(i)) for i in entry)}]" if entry else W
    square = float((e.total * e.total).sum())

    def row(label: str, kind: str, formula: str, part: Array) -> list[str]:
        share = f"{100 * float((part * e.total).sum()) / square:.1f} %".replace("-0.0 ", "0.0 ") if square else "–"
        return [label, kind, formula, f"{norm(part):.4g}", f"{part[entry]:+.6g}", share]

    through = recurrence_of(e.loss, e.parameter) if e.implicit.any() else None
    rows = [row(use_label(k), kind_of(e, k), path(e, k, through), part) for k, part in shown(e, through)]
    rows += [[""] * 6, row("all", "explicit ∂⁺", f"∂⁺{E}/∂{W}", e.explicit), row("", "implicit", "", e.implicit),
             row("", "total", f"d{E}/d{W}", e.total)]
    shape = " × ".join(map(str, e.total.shape)) or "one number"
    notes = [f"explicit: paths from {W} to {E} on which no state goes from one step to another.  implicit: all other "
             f"paths.  {element} is the largest entry; entries and shares (a part's projection on d{E}/d{W}; negative: "
             "it pulls against the total) add up, norms do not."]
    if through:
        notes.append(state_note(through, W))
    if zeros := [use_label(k) for k, part in e.terms.items() if not part.any()]:
        named = ", ".join(zeros) if len(zeros) <= 3 else f"{zeros[0]}, {zeros[1]} and {len(zeros) - 2} more"
        notes.append(f"What is used at {named} contributes exactly 0: what {W} multiplies there is zero (the first "
                     "state?), nothing leads on to the loss, or the term has vanished below what a float can hold.")
    return "\n".join([
        f"d{E}/d{W} = Σ_k ∂{E}/∂{W}⁽ᵏ⁾, the sum over the uses k of {W} ({shape});  {E} = {float(e.loss.data):.6g}", "",
        table(["use", "kind", "term", "‖·‖", element, "share"], rows, left=(0, 1, 2)), "", *map(paragraph, notes)])


def kind_of(e: Explanation, k: Step | range) -> str:
    """Explicit, implicit, or both: one use may be explicit for one loss in a sum and implicit for later ones."""
    uses = [j for j in e.terms if isinstance(j, int) and j in k] if isinstance(k, range) else [k]
    kinds = set()
    for j in uses:
        explicit = e.explicit_terms.get(j)
        if explicit is None or not explicit.any():
            kinds.add("implicit")
        else:
            kinds.add("explicit ∂⁺" if np.allclose(explicit, e.terms[j], rtol=1e-12, atol=0) else "both")
    return kinds.pop() if len(kinds) == 1 else "both"


def state_symbol(through: Recurrence) -> str:
    """What the state is called, h' in a backward direction; s where it has several parts, or one without a name."""
    symbol = (through.names[0] if len(through.names) == 1 else None) or "s"
    return symbol + "'" * (through.lane[2] == "backward" and not symbol.endswith("'"))


def state_note(through: Recurrence, W: str) -> str:
    """What the symbols of the terms mean: the state, of which recurrence, and what ∂⁺ holds fixed."""
    s, E = state_symbol(through), subscript(through.loss.name or "E", step_of(through.loss))
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
        alone = [j for j, part in e.explicit_terms.items() if part.any()] == [k] and kind_of(e, k) != "both"
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
    most = SHOWN if len(norms_table(a, SHOWN).splitlines()[0]) <= 120 else 8
    elided = "; the middle is left out" if max(len(a.losses), len(a.steps)) > most else ""
    return (f"‖A[t,k]‖ = ‖∂E_t/∂{W}⁽ᵏ⁾‖: what the use of {W} at step k contributes to the gradient of E_t{elided}\n\n"
            f"{norms_table(a, most)}\n\n"
            + paragraph(f"A row sums to dE_t/d{W}, a column to all that one use contributes. ‖sum‖: norms do not add "
                        f"up to the norm of the sum. {pattern_note(a)}"))


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
    rows_shown, columns = ends(len(a.losses), most), ends(len(a.steps), most)
    rows = []
    for i in rows_shown:
        E, t = a.losses[i].name or "E", step_of(a.losses[i])
        label = subscript(E, t) if t is not None else f"{E} (loss {i + 1})"
        rows.append([label, *(f"{a.norms[i, j]:.3g}" for j in columns), f"{norm(a.rows[i]):.3g}"])
    rows.append(["all losses", *(f"{norm(a.columns[j]):.3g}" for j in columns), f"{norm(a.total):.3g}"])
    return table(["", *(use_label(a.steps[j]) for j in columns), "‖sum‖"], rows)


def ends(n: int, most: int) -> list[int]:
    """All of n places where they are at most so many, else the first and the last four."""
    return list(range(n)) if n <= most else [*range(4), *range(n - 4, n)]


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
