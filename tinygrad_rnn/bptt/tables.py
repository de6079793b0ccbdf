"""Floor 5: explanations, term matrices and proofs as text that a learner can read, with the symbols of the notes."""

from __future__ import annotations

from html import escape
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from ..ops import Array
from ..steps import recurrence_edges, step_of
from ..sweep import order

if TYPE_CHECKING:
    from .parts import Explanation, Step, Terms
    from .proof import Proof

SUBSCRIPTS = str.maketrans("0123456789-", "₀₁₂₃₄₅₆₇₈₉₋")
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

    rows = [row(use_label(k), kind_of(e, k), path(e, k), part) for k, part in shown(e)]
    rows += [[""] * 6, row("all", "explicit ∂⁺", f"∂⁺{E}/∂{W}", e.explicit), row("", "implicit", "", e.implicit),
             row("", "total", f"d{E}/d{W}", e.total)]
    shape = " × ".join(map(str, e.total.shape)) or "one number"
    notes = [f"explicit: paths from {W} to {E} that cross no state of an earlier step.  implicit: all other paths.  "
             f"{element} is the largest entry; entries and shares (a part's projection on d{E}/d{W}; negative: it "
             "pulls against the total) add up, norms do not."]
    if e.implicit.any():
        h = state_symbol(e)
        notes.append(f"∂⁺{h}_k/∂{W}: how the state of step k changes with the {W} that step k reads, the states before "
                     "it held fixed.")
    if zeros := [use_label(k) for k, part in e.terms.items() if not part.any()]:
        named = ", ".join(zeros) if len(zeros) <= 3 else f"{zeros[0]}, {zeros[1]} and {len(zeros) - 2} more"
        notes.append(f"What is used at {named} contributes exactly 0: what {W} multiplies there is zero (h_0 = 0?), "
                     "nothing leads on to the loss, or the term has vanished below what a float can hold.")
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


def state_symbol(e: Explanation) -> str:
    """What the states are called, if all are called the same; else s."""
    read = [node.inputs[i] for node, i in recurrence_edges(order([e.loss]))]
    names = {x.name for x in read if x.op is not None} or {x.name for x in read}
    return names.pop() or "s" if len(names) == 1 else "s"


def path(e: Explanation, k: Step | range) -> str:
    """The term of use k as the notes write it (17): ∂E_t/∂h_t · ∂h_t/∂h_k · ∂⁺h_k/∂W."""
    W, E = symbols(e)
    if isinstance(k, range):
        return "Σ of these"
    if k is None or not e.implicit.any():
        return f"∂⁺{E}/∂{W}"
    h = state_symbol(e)
    now, then = subscript(h, e.step), subscript(h, k)
    if step_of(e.loss) is None and len(e.explicit_terms) != 1:
        return f"d{E}/d{then} · ∂⁺{then}/∂{W}"
    between = f"∂{now}/∂{then} · " if k != e.step else ""
    first = f"∂{E}/∂{now} · " if now != E else ""
    return f"{first}{between}∂⁺{then}/∂{W}"


def shown(e: Explanation) -> list[tuple[Step | range, Array]]:
    """(k, term), the newest use first; of many, the middle ones as one sum under a range."""
    uses: list[tuple[Step | range, Array]] = [(k, e.terms[k]) for k in reversed(e.terms)]
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
            f"  A row sums to dE_t/d{W}, a column to all that one use contributes. In one forward layer the\n"
            "  diagonal is explicit, what is below it implicit. ‖sum‖: norms do not add up to the norm of the sum.")


def norms_table(a: Terms, most: int) -> str:
    rows_shown, columns = ends(len(a.losses), most), ends(len(a.steps), most)
    rows = []
    for i in rows_shown:
        t = a.losses[i].scope.get("t", i + 1)
        rows.append([subscript(a.losses[i].name or "E", t), *(f"{a.norms[i, j]:.3g}" for j in columns),
                     f"{norm(a.rows[i]):.3g}"])
    rows.append(["all losses", *(f"{norm(a.columns[j]):.3g}" for j in columns), f"{norm(a.total):.3g}"])
    return table(["", *(use_label(a.steps[j]) for j in columns), "‖sum‖"], rows)


def ends(n: int, most: int) -> list[int]:
    """All of n places where they are at most so many, else the first and the last four."""
    return list(range(n)) if n <= most else [*range(4), *range(n - 4, n)]


def proof_table(p: Proof) -> str:
    W, E = symbols(p.explanation)
    rows = [[w.part, w.route, w.shares, f"{w.error:.1e}", f"{w.tolerance:.0e}", "agrees" if w else "DISAGREES"]
            for w in p.witnesses]
    verdict = "proved" if p else "NOT PROVED"
    return "\n".join([
        f"d{E}/d{W}: {verdict} by {len(rows)} witnesses", "",
        table(["part", "route", "shares with the engine", "error", "allowed", ""], rows, left=(0, 1, 2, 5)), "",
        "  error: the largest difference between two elements, by the largest element; each term by its own size.\n"
        "  A witness cannot see a mistake in what it shares; copies that are swept repeat the same arithmetic, so 0\n"
        "  is no surprise there."])
