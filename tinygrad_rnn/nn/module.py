"""Floor 4: parameters, and the modules that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..ops import Array
from ..tensor import Tensor


class Parameter(Tensor):
    """A leaf that training changes: a tensor that requires a gradient."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(data, requires_grad, name, dtype)


class Module:
    """Holds parameters, and modules that hold more, as attributes; their order is that of assignment."""

    training = True

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            value.name = value.name or name
        super().__setattr__(name, value)

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return self.forward(*args, **settings)

    def forward(self, *args: Any, **settings: Any) -> Any:
        raise TypeError(f"{type(self).__name__} defines no forward")

    def __repr__(self) -> str:
        named = list(self.named_parameters())
        width = max((len(name) for name, _ in named), default=0)
        lines = [f"{type(self).__name__}: {sum(p.size for _, p in named):,} numbers in {len(named)} parameters"]
        for name, p in named:
            called = f", called {p.name}" if p.name not in (None, name.rpartition(".")[2]) else ""
            lines.append(f"  {name.ljust(width)}  {' × '.join(map(str, p.shape)) or 'one number'}{called}")
        return "\n".join(lines)

    def held(self) -> Iterator[tuple[str, Any]]:
        """The attributes with their names; lists, tuples and dicts one level deep: 'layers.0'."""
        for name, value in vars(self).items():
            if isinstance(value, dict):
                yield from ((f"{name}.{key}", item) for key, item in value.items())
            elif isinstance(value, list | tuple):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(value))
            else:
                yield name, value

    def children(self) -> Iterator[tuple[str, Module]]:
        return ((name, value) for name, value in self.held() if isinstance(value, Module))

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """('cell.W', parameter), …; one that is held twice comes once, under its first name."""
        seen: set[Parameter] = set()
        own = ((prefix + name, value) for name, value in self.held() if isinstance(value, Parameter))
        below = (pair for name, child in self.children() for pair in child.named_parameters(f"{prefix}{name}."))
        for name, parameter in (*own, *below):
            if parameter not in seen:
                seen.add(parameter)
                yield name, parameter

    def parameters(self) -> list[Parameter]:
        return [parameter for _, parameter in self.named_parameters()]

    def zero_grad(self) -> None:
        """Forget the gradients, which otherwise add up from one backward to the next."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Module:
        self.training = mode
        for _, child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Module:
        return self.train(False)

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter, by name."""
        return {name: parameter.data.copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the values of a `state_dict`. ValueError, and nothing changed, unless all names and shapes fit."""
        own = dict(self.named_parameters())
        wrong = [f"missing {name}" for name in own if name not in state]
        wrong += [f"unknown {name}" for name in state if name not in own]
        wrong += [f"{name} has shape {np.shape(state[name])}, expected {parameter.shape}"
                  for name, parameter in own.items() if name in state and np.shape(state[name]) != parameter.shape]
        if wrong:
            raise ValueError(f"load_state_dict of {type(self).__name__}: {'; '.join(wrong)}")
        arrays = {name: np.array(state[name], parameter.dtype) for name, parameter in own.items()}
        for name, parameter in own.items():
            parameter.data = arrays[name]
