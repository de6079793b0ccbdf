"""Floor 0: what the program says about the place it is in, and whether it records. Kept per thread and per task."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Context:
    scope: Mapping[str, Any]
    recording: bool


_outside = Context(MappingProxyType({}), True)
_context: ContextVar[Context] = ContextVar("tinygrad_rnn", default=_outside)
current = _context.get


@contextmanager
def scope(**where: Any) -> Iterator[None]:
    """Tensors made inside remember where: `with scope(layer=0, t=3): …`. Scopes nest; the engine gives them no meaning.

    It is also a decorator.
    """
    token = _context.set(Context(MappingProxyType({**current().scope, **where}), current().recording))
    try:
        yield
    finally:
        _context.reset(token)


@contextmanager
def no_grad() -> Iterator[None]:
    """Results made inside are constants: nothing is recorded. It is also a decorator."""
    token = _context.set(Context(current().scope, False))
    try:
        yield
    finally:
        _context.reset(token)


def told(where: Mapping[str, Any]) -> str:
    """A scope as the end of a sentence: ' at layer=0, t=3', or nothing outside every scope."""
    return " at " + ", ".join(f"{k}={v}" for k, v in where.items()) if where else ""
