"""Floor 2: the public functions of tensors. Each makes one node, or says of which nodes it is made.

Numbers and arrays are taken wherever a tensor is. Equations and derivatives stand in `ops.py`.
Shapes that do not fit raise ValueError, wrong kinds TypeError, indices outside IndexError, naming the scope.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np

from . import ops
from .ops import Axis, from_end
from .scope import current, told
from .tensor import Tensor, apply

Reduction = Literal["none", "sum", "mean"]


def as_tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)


def tanh(x: Any) -> Tensor:
    """y = tanh x, of x's shape. Stable everywhere: y' = 1 - y²."""
    return apply(ops.TANH, (x,))


def sigmoid(x: Any) -> Tensor:
    """y = σ(x) = 1 / (1 + e⁻ˣ), of x's shape. Stable everywhere: y' = y (1 - y)."""
    return apply(ops.SIGMOID, (x,))


def relu(x: Any) -> Tensor:
    """y = max(x, 0), of x's shape. At the kink y'(0) = 0."""
    return apply(ops.RELU, (x,))


def exp(x: Any) -> Tensor:
    """y = eˣ, of x's shape."""
    return apply(ops.EXP, (x,))


def log(x: Any) -> Tensor:
    """y = ln x, of x's shape; where x ≤ 0 NumPy warns and gives -inf or nan."""
    return apply(ops.LOG, (x,))


def sqrt(x: Any) -> Tensor:
    """y = √x, of x's shape; y' is infinite at 0."""
    return apply(ops.SQRT, (x,))


def abs(x: Any) -> Tensor:
    """y = |x|, of x's shape. At the kink y'(0) = 0."""
    return apply(ops.ABS, (x,))


def maximum(a: Any, b: Any) -> Tensor:
    """y = max(a, b) element by element. Where they tie, each gets half of the gradient."""
    return apply(ops.MAXIMUM, (a, b))


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest x over `axis` (None: over all). Elements that tie share the gradient evenly."""
    return as_tensor(x).max(axis, keepdims)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Σ x over `axis` (None: over all)."""
    return as_tensor(x).sum(axis, keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Σ x / n over `axis` (None: over all)."""
    return as_tensor(x).mean(axis, keepdims)


def reshape(x: Any, shape: tuple[int, ...]) -> Tensor:
    """The elements of x, in C order, in another shape."""
    return apply(ops.RESHAPE, (x,), {"shape": shape})


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """x with its axes in the order `axes` (None: reversed)."""
    return apply(ops.TRANSPOSE, (x,), {"axes": None if axes is None else tuple(axes)})


def broadcast_to(x: Any, shape: tuple[int, ...]) -> Tensor:
    """x repeated to `shape` by NumPy's rules; its gradient is summed over the copies."""
    return apply(ops.BROADCAST_TO, (x,), {"shape": shape})


def concat(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """[x₁, x₂, …] along `axis`. Raises ValueError for no tensors at all."""
    xs = tuple(xs)
    return apply(ops.CONCAT, xs, {"axis": from_end(axis, np.ndim(xs[0]))[0] if xs else axis})


def stack(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """x₁, x₂, … of one shape along a new `axis`. Raises ValueError for no tensors at all."""
    xs = tuple(xs)
    return apply(ops.STACK, xs, {"axis": from_end(axis, np.ndim(xs[0]) + 1)[0] if xs else axis})


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where `condition` (boolean, no gradient) holds, else b."""
    return apply(ops.WHERE, (a, b), {"condition": np.array(condition, bool)})


def dropout(x: Any, p: float, *, rng: np.random.Generator) -> Tensor:
    """x∘m / (1-p), where each m is 0 with probability p, else 1, drawn from `rng`: the mean stays. 0 ≤ p < 1."""
    check_probability(p)
    x = as_tensor(x)
    kept = ((rng.random(x.shape) >= p) / (1 - p)).astype(x.dtype)
    return apply(ops.MUL, (x, kept))


def check_probability(p: float) -> None:
    if not isinstance(p, Real):
        raise TypeError(f"dropout {p!r}: expected a number from 0 to below 1")
    if not 0 <= p < 1:
        raise ValueError(f"dropout {p!r}: expected a number from 0 to below 1")


def one_axis(axis: int, x: Any) -> int:
    if not isinstance(axis, int | np.integer):
        raise TypeError(f"axis {axis!r}: expected one integer")
    return from_end(axis, np.ndim(x))[0]


def softmax(x: Any, axis: int = -1) -> Tensor:
    """ŷ_k = eˣᵏ / Σ_j eˣʲ along `axis` (2). Stable everywhere; dŷ_k/dx_l = ŷ_k (δ_kl - ŷ_l) (12)."""
    return apply(ops.SOFTMAX, (x,), {"axis": one_axis(axis, x)})


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """x_k - ln Σ_j eˣʲ along `axis`: ln softmax, without the underflow."""
    return apply(ops.LOG_SOFTMAX, (x,), {"axis": one_axis(axis, x)})


def cross_entropy(logits: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """E = -Σ_j y_j ln softmax(logits)_j (11), over the last axis; in nats.

    logits (..., V). target, a constant: integer ids (...), or rows of probabilities (..., V), such as one-hot rows.
    `mean` is over all the rows, steps and batch alike; `none` keeps one E per row.
    Raises ValueError where shapes do not fit, IndexError for an id outside 0 … V-1.
    """
    logits, y = as_tensor(logits), fixed(target)
    if y.dtype.kind not in "iu":
        if y.shape != logits.shape:
            raise ValueError(f"cross_entropy: rows of probabilities {y.shape} for logits {logits.shape}"
                             f"{told(current().scope)}")
        return reduced(-(log_softmax(logits) * y.astype(logits.dtype)).sum(-1), reduction)
    if logits.ndim == 0 or y.shape != logits.shape[:-1]:
        raise ValueError(f"cross_entropy: ids of shape {y.shape} for logits {logits.shape}{told(current().scope)}; "
                         f"expected {logits.shape[:-1]}")
    if y.size and not (y.min() >= 0 and y.max() < logits.shape[-1]):
        raise IndexError(f"cross_entropy: ids from {y.min()} to {y.max()} for {logits.shape[-1]} classes"
                         f"{told(current().scope)}")
    return reduced(apply(ops.CROSS_ENTROPY, (logits,), {"target": y}), reduction)


def binary_cross_entropy_with_logits(logits: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """E = -y ln σ(q) - (1-y) ln(1-σ(q)), element by element; in nats. dE/dq = ŷ - y.

    logits q and target y, between 0 and 1, of one shape. Raises ValueError where they do not fit.
    """
    logits = as_tensor(logits)
    y = fixed(target).astype(logits.dtype)
    if y.shape != logits.shape or (y.size and not (y.min() >= 0 and y.max() <= 1)):
        raise ValueError(f"binary_cross_entropy: targets {y.shape} for logits {logits.shape}"
                         f"{told(current().scope)}; expected one number between 0 and 1 for each")
    return reduced(apply(ops.BINARY_CROSS_ENTROPY, (logits,), {"target": y}), reduction)


def mse_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """(ŷ - y)², element by element, of one shape. Raises ValueError where they do not fit: nothing is broadcast."""
    prediction = as_tensor(prediction)
    target = target if isinstance(target, Tensor) else Tensor(target, dtype=prediction.dtype)
    if prediction.shape != target.shape:
        raise ValueError(f"mse_loss: prediction {prediction.shape}, target {target.shape}"
                         f"{told(current().scope)}; expected one shape")
    difference = prediction - target
    return reduced(difference * difference, reduction)


def fixed(target: Any) -> Any:
    """A copy of a target, which is a constant: TypeError for one that asks for a gradient, which it would not get."""
    if isinstance(target, Tensor) and target.requires_grad:
        raise TypeError(f"target {target!r} asks for a gradient, but a target is a constant here; detach() it")
    return np.array(target)


def reduced(losses: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return losses
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction {reduction!r} of a loss{told(losses.scope)}: expected 'none', 'sum' or 'mean'")
    return losses.sum() if reduction == "sum" else losses.mean()


def perplexity(logits: Any, target: Any) -> float:
    """exp of the mean cross-entropy in nats (13), which is 2 to its mean in bits. A uniform model gives V."""
    return float(np.exp(cross_entropy(np.asarray(logits), target).item()))
