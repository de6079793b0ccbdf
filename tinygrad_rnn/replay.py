"""Floor 2: a recorded graph evaluated again, with leaves changed, a state held fixed, or one copy of W per use."""

from collections.abc import Mapping
from typing import Any

from .scope import scope
from .tensor import Tensor, apply, constant, order


def replay(root: Tensor, substitutions: Mapping[Any, Any]) -> Tensor:
    """The graph of `root` evaluated again with some tensors replaced, by tensors or arrays.

    A key is a tensor (a leaf changed, a state held fixed) or an edge (node, input position), which replaces one use of
    a tensor and leaves the others. What the substitutions do not reach keeps the values the forward pass saw; gradients
    flow to substituted tensors only. Raises ValueError for a key that is not in the graph.
    """
    given: dict[Any, Tensor] = {key: x if isinstance(x, Tensor) else Tensor(x) for key, x in substitutions.items()}
    made, unused = dict(given), set(given)
    for node in reversed(order([root])):
        keys = [next((key for key in ((node, i), x) if key in made), None) for i, x in enumerate(node.inputs)]
        unused.difference_update(keys, [node])
        if node in given or all(key is None for key in keys):
            continue
        inputs = tuple(constant(seen) if key is None else made[key] for key, seen in zip(keys, node.saved[1:]))
        with scope(**node.scope):
            made[node] = apply(node.op, inputs, node.settings)
        made[node].name = node.name
    if unused - {root}:
        raise ValueError(f"replay: not in the graph of {root!r}: {unused}")
    result: Tensor = made.get(root, root)
    return result
