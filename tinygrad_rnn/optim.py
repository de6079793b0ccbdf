"""Floor 5: optimisers. Each step rebinds `.data`, so a graph made before it keeps the values it was made with.

g_t is a parameter's gradient at step t, θ the parameter. A parameter without gradient is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .nn import Parameter
from .ops import Array
from .tensor import Tensor


class Optimizer:
    """Holds the parameters and one slot of state for each."""

    def __init__(self, parameters: Iterable[Parameter], lr: float) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError("optimiser: no parameters to train")
        for parameter in self.parameters:
            if not isinstance(parameter, Parameter):
                raise TypeError(f"optimiser: expected Parameters, got {type(parameter).__name__}")
        if not (np.isfinite(lr) and lr > 0):
            raise ValueError(f"optimiser: lr must be a positive number, got {lr}")
        self.lr = lr

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient. Raises ValueError, and changes nothing, if one does not fit."""
        moving = [(i, p, p.grad) for i, p in enumerate(self.parameters) if p.grad is not None]
        for _, parameter, g in moving:
            if np.shape(g) != parameter.shape:
                raise ValueError(f"optimiser: {parameter.name} has shape {parameter.shape}, its gradient {np.shape(g)}")
        for i, parameter, g in moving:
            parameter.data = parameter.data - self.change(i, np.asarray(g))

    def change(self, i: int, g: Array) -> Array:
        """What is subtracted from parameter i."""
        raise TypeError(f"{type(self).__name__} defines no change")


class SGD(Optimizer):
    """v_t = μ v_{t-1} + g_t, θ -= lr v_t, with momentum μ (0: plain gradient descent)."""

    def __init__(self, parameters: Iterable[Parameter], lr: float, momentum: float = 0.0) -> None:
        super().__init__(parameters, lr)
        if not 0 <= momentum < 1:
            raise ValueError(f"SGD: momentum must be in [0, 1), got {momentum}")
        self.momentum = momentum
        self.v = [np.zeros(p.shape, p.dtype) for p in self.parameters]

    def change(self, i: int, g: Array) -> Array:
        self.v[i] = self.momentum * self.v[i] + g
        return self.lr * self.v[i]


class Adagrad(Optimizer):
    """s_t = s_{t-1} + g_t², θ -= lr g_t / (√s_t + ε), ε outside the root as PyTorch's."""

    def __init__(self, parameters: Iterable[Parameter], lr: float = 1e-2, eps: float = 1e-10) -> None:
        super().__init__(parameters, lr)
        self.eps = eps
        self.s = [np.zeros(p.shape, p.dtype) for p in self.parameters]

    def change(self, i: int, g: Array) -> Array:
        self.s[i] = self.s[i] + g * g
        return self.lr * g / (np.sqrt(self.s[i]) + self.eps)


class Adam(Optimizer):
    """m_t = β₁ m_{t-1} + (1-β₁) g_t, v_t = β₂ v_{t-1} + (1-β₂) g_t², θ -= lr m̂_t / (√v̂_t + ε).

    m̂_t = m_t / (1-β₁ᵗ) and v̂_t = v_t / (1-β₂ᵗ) correct the start from zero; ε stands outside the root.
    """

    def __init__(self, parameters: Iterable[Parameter], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8) -> None:
        super().__init__(parameters, lr)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Adam: betas must be in [0, 1), got {betas}")
        self.betas, self.eps = betas, eps
        self.m = [np.zeros(p.shape, p.dtype) for p in self.parameters]
        self.v = [np.zeros(p.shape, p.dtype) for p in self.parameters]
        self.t = [0] * len(self.parameters)

    def change(self, i: int, g: Array) -> Array:
        one, two = self.betas
        self.t[i] += 1
        self.m[i] = one * self.m[i] + (1 - one) * g
        self.v[i] = two * self.v[i] + (1 - two) * g * g
        m, v = self.m[i] / (1 - one ** self.t[i]), self.v[i] / (1 - two ** self.t[i])
        return self.lr * m / (np.sqrt(v) + self.eps)


def clip_grad_norm_(parameters: Iterable[Parameter] | Parameter, max_norm: float) -> float:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), which keeps their direction; returns the norm before.

    norm is that of all gradients as one vector. Raises ValueError, and changes nothing, if it is not finite.
    """
    having = with_gradients(parameters)
    norm = float(np.sqrt(np.sum([np.vdot(g.astype(float), g.astype(float)) for _, g in having])))
    if not np.isfinite(norm):
        raise ValueError(f"clip_grad_norm_: the norm of the gradients is {norm}")
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be positive, got {max_norm}")
    scale = min(1.0, max_norm / (norm + 1e-6))
    for parameter, g in having:
        parameter.grad = np.asarray(g * scale, parameter.dtype)
    return norm


def clip_grad_value_(parameters: Iterable[Parameter] | Parameter, clip_value: float) -> None:
    """Clip every element of every gradient to ±clip_value, which changes the direction."""
    if not clip_value > 0:
        raise ValueError(f"clip_grad_value_: clip_value must be positive, got {clip_value}")
    for parameter, g in with_gradients(parameters):
        parameter.grad = np.asarray(np.clip(g, -clip_value, clip_value), parameter.dtype)


def with_gradients(parameters: Iterable[Parameter] | Parameter) -> list[tuple[Parameter, Array]]:
    """The parameters, or the one parameter, that have a gradient, with it."""
    every = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [(parameter, parameter.grad) for parameter in every if parameter.grad is not None]
