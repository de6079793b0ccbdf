"""Floor 5: an explanation opened up: what is inside its implicit part, step by step; as Markdown; as plain data."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops import Array
from ..steps import step_of
from .parts import Explanation
from .tables import (
    SHOWN,
    Printed,
    graph_notes,
    kinds_of,
    largest,
    norm,
    paragraph,
    path,
    state_note,
    state_symbol,
    subscript,
    symbols,
    table,
    use_label,
)
from .uses import Recurrence, Step, recurrence_of


@dataclass(frozen=True)
class Level:
    """dE/ds_k · ds_k/dW, or dE/dW itself: the use at step k, and what lies behind it, in states still further on."""

    k: Step
    whole: Array
    use: Array
    behind: Array


@dataclass(frozen=True, repr=False)
class Inside(Printed):
    """dE_t/dW = ∂⁺E_t/∂W + dE_t/ds_{t-1} · ds_{t-1}/dW, and what is behind it opened in the same way, down to s_0 (16).

    For a loss that one state leads to; for a backward direction t-1 is t+1.
    """

    explanation: Explanation
    levels: tuple[Level, ...]

    def __repr__(self) -> str:
        e, (entry, element) = self.explanation, largest(self.explanation)
        through = through_of(e)
        (W, E), s = symbols(e), state_symbol(through)

        def row(depth: int, formula: str, kind: str, part: Array) -> list[str]:
            return ["    " * depth + formula, kind, f"{norm(part):.4g}", f"{part[entry]:+.6g}"]

        opened = list(zip(self.levels, formulas(self)))
        rows = [row(0, opened[0][1][0], "total", self.levels[0].whole)] if opened else []
        left_out = len(opened) - 9 if len(opened) > SHOWN else 0
        for depth, (level, (_, use, behind)) in enumerate([*opened[:6], *opened[6 + left_out:]]):
            if left_out and depth == 6:
                rows.append(["    " * depth + f"⋮ {left_out} levels more", "", "", ""])
            of = f" in {subscript(s, level.k)}" * (depth > 0)
            rows.append(row(depth, f"= {use}", f"explicit ∂⁺{of}", level.use))
            if behind:
                rows.append(row(depth, f"+ {behind}", f"implicit{of}", level.behind))
        k = "k-1" if forward(through) else "k+1"
        note = (f"Two lines add up to the line they open (16): d{s}_k/d{W} = ∂⁺{s}_k/∂{W} + ∂{s}_k/∂{s}_{{{k}}} · "
                f"d{s}_{{{k}}}/d{W}.  explicit ∂⁺ in {s}_k: by the {W} that step k reads, {s}_{{{k}}} held fixed; for "
                f"{E} all that is indented is implicit.  d{E}/d{s}_k: along all paths from {s}_k to {E}.")
        return (f"What is inside d{E}/d{W}\n\n{table(['part', 'kind', '‖·‖', element], rows, left=(0, 1))}\n\n"
                f"{paragraph(note)}")


def inside(e: Explanation) -> Inside:
    """Open the implicit part again and again. Raises ValueError unless E is the loss of one step of one recurrence."""
    through = through_of(e)
    order = [k for k in (reversed(e.terms) if forward(through) else e.terms) if isinstance(k, int)]
    levels: list[Level] = []
    behind = np.zeros_like(e.total)
    for k in reversed(order):
        levels.insert(0, Level(k, e.terms[k] + behind, e.terms[k], behind))
        behind = levels[0].whole
    return Inside(e, tuple(levels))


def through_of(e: Explanation) -> Recurrence:
    through = recurrence_of(e.loss, e.parameter)
    if through is None or len(through.last) != 1 or None in e.terms or "both" in kinds_of(e).values():
        raise ValueError(f"inside: {symbols(e)[1]} is not the loss of one step of the one recurrence that reads "
                         f"{symbols(e)[0]}; its terms by use are all that can be told apart")
    return through


def forward(through: Recurrence) -> bool:
    return through.lane[2] != "backward"


def formulas(opened: Inside) -> list[tuple[str, str, str]]:
    """The three formulas of each level: its whole, its use and what is behind."""
    e, through = opened.explanation, through_of(opened.explanation)
    (W, E), s = symbols(e), state_symbol(through)
    found = []
    for here, after in zip(opened.levels, (*opened.levels[1:], None)):
        now = subscript(s, here.k)
        whole = f"d{E}/d{W}" if here is opened.levels[0] else f"d{E}/d{now} · d{now}/d{W}"
        then = subscript(s, after.k) if after else ""
        found.append((whole, f"d{E}/d{now} · ∂⁺{now}/∂{W}", f"d{E}/d{then} · d{then}/d{W}" if after else ""))
    return found


def markdown(e: Explanation) -> str:
    """The explanation in Markdown: the sum in symbols, the same with the numbers of the largest entry, and a table."""
    W, E = symbols(e)
    entry, element = largest(e)
    through, kinds = recurrence_of(e.loss, e.parameter) if e.implicit.any() else None, kinds_of(e)
    newest = e.terms if through is not None and not forward(through) else reversed(e.terms)
    uses = [(k, path(e, k, through), e.terms[k]) for k in newest]
    lines = [f"## d{E}/d{W}", "", f"{E} = {float(e.loss.data):.6g}", "",
             f"d{E}/d{W} = " + " + ".join(formula for _, formula, _ in uses), "",
             f"{element}: {e.total[entry]:+.6g} = " + " ".join(f"{part[entry]:+.6g}" for *_, part in uses), "",
             f"| use | kind | term | norm | {element} |", "|---|---|---|---:|---:|"]
    lines += [f"| {use_label(k)} | {kinds[k]} | {formula} | {norm(part):.4g} | {part[entry]:+.6g} |"
              for k, formula, part in uses]
    lines += [f"| all | {kind} | {formula} | {norm(part):.4g} | {part[entry]:+.6g} |" for kind, formula, part in (
        ("explicit ∂⁺", f"∂⁺{E}/∂{W}", e.explicit), ("implicit", "", e.implicit), ("total", f"d{E}/d{W}", e.total))]
    lines += ["", f"∂⁺, explicit: along paths from {W} to {E} on which no state goes from one step to another; "
                  "implicit: along all others; d: along all."]
    lines += [line for note in (*([state_note(through, W)] if through else []), *graph_notes([e.loss], e.parameter))
              for line in ("", note)]
    try:
        opened = inside(e)
    except ValueError:
        return "\n".join(lines)
    lines += ["", "What is inside:", ""]
    for level, (whole, use, behind) in zip(opened.levels, formulas(opened)):
        symbols_ = f"{whole} = {use}" + (f" + {behind}" if behind else "")
        lines.append(f"- {symbols_}; {element}: {level.whole[entry]:+.6g} = {level.use[entry]:+.6g}"
                     + (f" {level.behind[entry]:+.6g}" if behind else ""))
    return "\n".join(lines)


def as_data(e: Explanation) -> dict[str, Any]:
    """Everything in an explanation as lists and numbers, ready for JSON.

    inside: what `inside` opens, level by level, where it can; graph: what there is to know of the graph, in words.
    """
    kinds, levels = kinds_of(e), list[dict[str, Any]]()
    with suppress(ValueError):  # where no one state leads to E
        opened = inside(e)
        levels = [{"k": level.k, "formulas": dict(zip(("total", "explicit", "implicit"), said)),
                   "total": level.whole.tolist(), "explicit": level.use.tolist(), "implicit": level.behind.tolist()}
                  for level, said in zip(opened.levels, formulas(opened))]
    return {"loss": float(e.loss.data), "t": step_of(e.loss), "parameter": e.parameter.name,
            "total": e.total.tolist(), "explicit": e.explicit.tolist(), "implicit": e.implicit.tolist(),
            "terms": {str(k): {"kind": kinds[k].removesuffix(" ∂⁺"), "norm": norm(part), "values": part.tolist()}
                      for k, part in e.terms.items()},
            "norms": {"total": norm(e.total), "explicit": norm(e.explicit), "implicit": norm(e.implicit)},
            "inside": levels, "graph": graph_notes([e.loss], e.parameter)}
