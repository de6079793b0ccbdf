"""Floor 5: is the gradient right? Every element against finite differences or the complex step, and the culprit if not.

Both routes run the function itself again and use none of its derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .ops import Array
from .scope import no_grad, told
from .sweep import order, partials, sweep
from .tensor import Tensor

Method = Literal["differences", "complex step"]
COMPLEX_STEP = 1e-20  # its square underflows against 1: the complex step has no truncation error and no cancellation


@dataclass(frozen=True)
class Entry:
    """One element of one input: its gradient by backward and by the check."""

    name: str
    index: tuple[int, ...]
    backward: float
    numeric: float

    def __str__(self) -> str:
        place = f"{self.name}[{', '.join(map(str, self.index))}]" if self.index else self.name
        ratio = f"{self.backward / self.numeric:.9g}" if self.numeric else "–"
        return f"{place}: backward {self.backward:.12g}, check {self.numeric:.12g}, ratio {ratio}"


@dataclass(frozen=True)
class Culprit:
    """A node whose own rule is wrong on the inputs it had."""

    node: Tensor
    position: int
    error: float

    def __str__(self) -> str:
        op, x = self.node.op, self.node.inputs[self.position]
        assert op is not None
        named = f" ({x.name})" if x.name else ""
        return (f"{op.name} ({op.equation}){told(self.node.scope)}: its rule for argument {self.position}{named} "
                f"is wrong by {self.error:.1e} relative")


@dataclass(frozen=True, repr=False)
class Report:
    """What a gradient check found. True when the gradient passed and the check could have failed."""

    method: Method
    atol: float
    rtol: float
    entries: int
    failed: int
    only_atol: int
    worst: Entry | None
    deterministic: bool = True
    same_factor: float | None = None
    float32: list[str] = field(default_factory=list)
    culprits: list[Culprit] = field(default_factory=list)

    @property
    def vacuous(self) -> bool:
        """Nothing to compare, or all passed by the absolute tolerance alone: this check could not have failed."""
        return self.only_atol == self.entries

    def __bool__(self) -> bool:
        return self.deterministic and not self.failed and not self.vacuous

    def __repr__(self) -> str:
        lines = []
        if not self.deterministic:
            lines.append("The function is not deterministic: two runs on the same inputs differ; compare nothing.")
        if self.float32:
            lines.append(f"Warning: {', '.join(self.float32)} in float32, whose rounding swamps a difference of 1e-6; "
                         "use float64.")
        verdict = "passed" if self else "vacuous" if self.vacuous else "failed"
        lines.append(f"gradcheck {verdict}: {self.failed} of {self.entries} entries disagree with the {self.method} "
                     f"(atol {self.atol:g}, rtol {self.rtol:g})")
        if self.only_atol and not self.vacuous:
            lines.append(f"{self.only_atol} passed by atol alone: gradients so near 0 that a difference of more than "
                         "rtol of them is within atol")
        if self.vacuous:
            lines.append("Every entry passed by atol alone: this check could not have failed. Choose a smaller atol.")
        if self.worst:
            lines.append(f"worst entry {self.worst}")
        if self.same_factor is not None:
            lines.append(f"Every entry is off by the same factor, {self.same_factor:.9g}: look for a mean that should "
                         "be a sum (1/T, 1/B), or the other way round.")
        lines += [f"culprit: {culprit}" for culprit in self.culprits[:3]]
        if len(self.culprits) > 3:
            lines.append(f"… and {len(self.culprits) - 3} more such nodes")
        if self.deterministic and self.failed and not self.culprits:
            lines.append("Every rule in the graph is right where it stands, so graph and function differ: look "
                         "for detach(), .data or NumPy inside it, a kink, or steep Jacobians (try the complex step).")
        return "\n".join(lines)


def gradcheck(fn: Callable[..., Tensor], inputs: Tensor | Sequence[Tensor], eps: float = 1e-6, atol: float = 1e-5,
              rtol: float = 1e-3, method: Method = "differences") -> Report:
    """Compare backward with numeric derivatives, |backward - numeric| ≤ atol + rtol |numeric|, at every element.

    fn(*inputs) gives a tensor of any shape; it is weighted by random numbers, so that a rule that ignores its incoming
    gradient is seen. method: central differences of step `eps`, or the complex step, exact to rounding in float64.
    Inputs that require no gradient are left alone; `.data` and `.grad` of all are as before when it returns or raises.
    On failure the report names the nodes whose own rule is wrong.
    Raises TypeError where fn gives no tensor, ValueError where nothing requires a gradient.
    """
    tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if not all(isinstance(x, Tensor) for x in tensors):
        raise TypeError(f"gradcheck: expected tensors, got {[type(x).__name__ for x in tensors]}")
    if method not in ("differences", "complex step") or not eps > 0:
        raise ValueError(f"gradcheck: method {method!r}, eps {eps}; expected 'differences' or 'complex step', eps > 0")
    leaves = [x for x in dict.fromkeys(tensors) if x.requires_grad]
    if not leaves or any(x.op is not None for x in leaves):
        raise ValueError("gradcheck: give leaf tensors, at least one with requires_grad=True")
    root = fn(*tensors)
    if not isinstance(root, Tensor):
        raise TypeError(f"gradcheck: the function gave {type(root).__name__}, expected a Tensor")
    with no_grad():
        deterministic = np.array_equal(fn(*tensors).data, root.data, equal_nan=True)
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1.5, root.shape) * rng.choice([-1.0, 1.0], root.shape)
    totals = {root: np.asarray(weights, root.dtype)}
    for _ in sweep(totals):
        pass
    names = [x.name or f"input {tensors.index(x)}" for x in leaves]
    found = [(x, np.asarray(totals.get(x, np.zeros(x.shape))), numeric_gradient(fn, tensors, x, weights, eps, method))
             for x in leaves]
    backward = np.concatenate([b.ravel() for _, b, _ in found]).astype(float)
    numeric = np.concatenate([n.ravel() for _, _, n in found])
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(backward - numeric)
        wrong = ~(error <= atol + rtol * np.abs(numeric))  # so that nan is wrong
        excess = np.where(np.isfinite(error), error / (atol + rtol * np.abs(numeric)), np.inf)
        ratio = backward / numeric
    worst = None
    if len(error):
        at = int(excess.argmax())
        which = int(np.searchsorted(np.cumsum([x.size for x in leaves]), at, side="right"))
        inside = at - sum(x.size for x in leaves[:which])
        index = tuple(map(int, np.unravel_index(inside, leaves[which].shape)))
        worst = Entry(names[which], index, float(backward[at]), float(numeric[at]))
    finite = wrong.all() and len(error) > 1 and np.isfinite(ratio).all()
    same = finite and np.ptp(ratio) < 1e-4 * np.abs(ratio).max()
    by_atol = ~wrong & (error > rtol * np.abs(numeric))
    return Report(method, atol, rtol, len(error), int(wrong.sum()), int(by_atol.sum()), worst, deterministic,
                  float(ratio.mean()) if same else None,
                  [n for n, x in zip(names, leaves, strict=True) if x.dtype == np.float32],
                  culprits(root) if wrong.any() else [])


def numeric_gradient(fn: Callable[..., Tensor], inputs: Sequence[Tensor], leaf: Tensor, weights: Any, eps: float = 1e-6,
                     method: Method = "differences") -> Array:
    """d(Σ weights ∘ fn)/d(leaf), leaf.shape, one element after the other, by running fn alone."""
    before = leaf._data
    work = before.astype(complex if method == "complex step" else before.dtype)
    gradient = np.empty(leaf.shape)

    def run() -> Array:
        leaf._data = work.copy()  # fn may look at leaf.data, which seals it, and may give a view of it
        return np.array(fn(*inputs)._data)

    try:
        with no_grad():
            for index in np.ndindex(leaf.shape):
                value = work[index]
                if method == "complex step":
                    work[index] = value + 1j * COMPLEX_STEP
                    gradient[index] = (weights * run().imag).sum() / COMPLEX_STEP
                else:
                    work[index] = value + eps
                    above, up = run(), work[index]
                    work[index] = value - eps
                    gradient[index] = (weights * (above - run())).sum() / (up - work[index])
                work[index] = value
    finally:
        leaf._data = before
    return gradient


def culprits(root: Tensor, tolerance: float = 1e-9) -> list[Culprit]:
    """The nodes under `root` whose own rule is wrong on the inputs they had, in the order the program made them.

    Each rule is asked for a random incoming gradient and compared along random directions with the complex step of the
    node's own forward pass (with differences where that takes no complex numbers). Wrong means by more than `tolerance`
    of the size of the terms summed.
    """
    rng = np.random.default_rng(1)
    found = []
    for node in reversed(order([root])):
        g = rng.normal(size=node.shape)
        for position, d in enumerate(partials(node, g)):
            if d is not None and not (error := rule_error(node, position, g, np.asarray(d), rng)) <= tolerance:
                found.append(Culprit(node, position, error))
    return found


def rule_error(node: Tensor, position: int, g: Array, d: Array, rng: np.random.Generator) -> float:
    """How far <d, u> is from the derivative of <g, forward> along u, relative to Σ |d u|; the worst of three u."""
    op = node.op
    assert op is not None
    arguments, settings = [x.astype(float) for x in node.saved[1:]], node.settings or {}
    x = arguments[position]

    def run(value: Array) -> Array:
        y = op.forward(*arguments[:position], value, *arguments[position + 1:], **settings)
        return np.asarray(y[0] if op.saves else y)

    worst = 0.0
    for _ in range(3):
        u = rng.normal(size=x.shape)
        noise = 1e-4 if node.dtype == np.float32 else 0.0
        try:
            slope = (g * run(x + 1j * COMPLEX_STEP * u).imag).sum() / COMPLEX_STEP
        except TypeError:
            slope = (g * (run(x + 1e-6 * u) - run(x - 1e-6 * u))).sum() / 2e-6
            noise = 1e-6  # what a central difference can tell
        try:
            terms = np.broadcast_to(d, np.broadcast_shapes(d.shape, x.shape)) * u
        except ValueError:
            return np.inf
        size = max(np.abs(terms).sum(), abs(slope)) + 1e-6 * np.abs(g).sum()  # 1 - y² of a flat tanh has few digits
        worst = np.maximum(worst, abs(terms.sum() - slope) / size - noise)  # which keeps a nan
    return float(worst)
