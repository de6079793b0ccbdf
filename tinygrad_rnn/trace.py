"""Floor 3: what a run computed, every gate and state of every step, read from its graph by name and scope."""

from __future__ import annotations

from typing import Any

from .ops import Array
from .steps import lane_of, recurrence_edges, step_of, the_lane
from .sweep import order
from .tensor import Tensor


class Trace(dict[str, dict[int, Array]]):
    """{name: {t: array}}; printed it is its names, steps and shapes."""

    def __repr__(self) -> str:
        lines = [f"  {name}: t = {min(steps)} … {max(steps)}, each {next(iter(steps.values())).shape}"
                 for name, steps in self.items()]
        return "\n".join(["trace[name][t], an array each:", *lines])


def trace(root: Tensor, **where: Any) -> Trace:
    """{name: {t: array}} of all that one recurrence made: trace(output)["f"][3] is f_3 (B, H), ["h"][0] is h_0.

    root: anything computed from the run, as its output or a loss. where: which recurrence, as layer=0,
    direction="backward" or sequence="encoder", where the graph has more than one. Of several tensors of one name at a
    step the newest is taken: of a masked step the state that is carried on. Raises ValueError where no recurrence, or
    more than one, answers to `where`, naming those there are.
    """
    nodes = order([root])
    lane = the_lane(recurrence_edges(nodes), where)
    found: dict[str, dict[int, Array]] = {}
    for x in sorted({x for node in nodes for x in (node, *node.inputs)}, key=lambda x: x.index):
        t = step_of(x)
        if t is not None and x.name and lane_of(x) == lane:
            found.setdefault(x.name, {})[t] = x.data
    return Trace((name, dict(sorted(steps.items()))) for name, steps in found.items())
