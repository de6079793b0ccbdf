"""Floor 5: an explanation opened up: what is inside its implicit part, step by step; as Markdown; as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops import Array
from ..steps import step_of
from .parts import Explanation
from .tables import Printed, kind_of, norm, path, state_symbol, subscript, symbols, table, use_label
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
        e, entry, element = self.explanation, *largest(self.explanation)
        rows = []
        for level, (whole, use, behind) in zip(self.levels, formulas(self)):
            numbers = f"{level.whole[entry]:+.6g} = {level.use[entry]:+.6g} {level.behind[entry]:+.6g}"
            rows.append([whole, f"= {use}", f"+ {behind}" if behind else "", f"{norm(level.use):.4g}",
                         f"{norm(level.behind):.4g}", numbers])
        head = ["total", "explicit in this state", "implicit in it", "‖explicit‖", "‖implicit‖", element]
        W, E = symbols(e)
        return f"What is inside d{E}/d{W}\n\n" + table(head, rows, left=(0, 1, 2, 5))


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
    if through is None or len(through.last) != 1 or None in e.terms or "both" in {kind_of(e, k) for k in e.terms}:
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


def largest(e: Explanation) -> tuple[tuple[int, ...], str]:
    """The place of the largest entry of dE/dW, and its name."""
    entry = tuple(int(i) for i in np.unravel_index(int(np.abs(e.total).argmax()), e.total.shape))
    return entry, f"{symbols(e)[0]}[{', '.join(map(str, entry))}]" if entry else symbols(e)[0]


def markdown(e: Explanation) -> str:
    """The explanation in Markdown: the sum in symbols, the same with the numbers of the largest entry, and a table."""
    W, E = symbols(e)
    entry, element = largest(e)
    through = recurrence_of(e.loss, e.parameter) if e.implicit.any() else None
    uses = [(k, path(e, k, through), e.terms[k]) for k in reversed(e.terms)]
    lines = [f"## d{E}/d{W}", "", f"{E} = {float(e.loss.data):.6g}", "",
             f"d{E}/d{W} = " + " + ".join(formula for _, formula, _ in uses), "",
             f"{element}: {e.total[entry]:+.6g} = " + " ".join(f"{part[entry]:+.6g}" for *_, part in uses), "",
             f"| use | kind | term | norm | {element} |", "|---|---|---|---:|---:|"]
    lines += [f"| {use_label(k)} | {kind_of(e, k)} | {formula} | {norm(part):.4g} | {part[entry]:+.6g} |"
              for k, formula, part in uses]
    lines += [f"| all | {kind} | {formula} | {norm(part):.4g} | {part[entry]:+.6g} |" for kind, formula, part in (
        ("explicit", f"∂⁺{E}/∂{W}", e.explicit), ("implicit", "", e.implicit), ("total", f"d{E}/d{W}", e.total))]
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
    """Everything in an explanation as lists and numbers, ready for JSON."""
    return {"loss": float(e.loss.data), "t": step_of(e.loss), "parameter": e.parameter.name,
            "total": e.total.tolist(), "explicit": e.explicit.tolist(), "implicit": e.implicit.tolist(),
            "terms": {str(k): {"kind": kind_of(e, k), "norm": norm(part), "values": part.tolist()}
                      for k, part in e.terms.items()},
            "norms": {"total": norm(e.total), "explicit": norm(e.explicit), "implicit": norm(e.implicit)}}
