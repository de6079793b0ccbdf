"""Magnitudes as colours: one log ramp from pale to full green, legible under black text and in print."""

from __future__ import annotations

import math
from collections.abc import Iterable

PALEST, FULLEST = (0xF3, 0xFA, 0xF6), (0x1F, 0xA8, 0x7A)
NOTHING = "#ffffff"  # exactly zero


class Ramp:
    """Colours for norms between the least and the largest of those given, zero and what is not finite apart."""

    def __init__(self, norms: Iterable[float]) -> None:
        known = [n for n in norms if n > 0 and math.isfinite(n)]
        self.low: float | None = min(known, default=None)
        self.high = max(known, default=1.0)
        self.cache: dict[int, str] = {}

    def color(self, norm: float) -> str:
        if self.low is None or norm <= 0 or norm != norm:
            return NOTHING
        span = math.log(self.high / self.low)
        share = math.log(min(norm, self.high) / self.low) / span if span > 1e-9 else 0.5
        return self.at(round(40 * max(0.0, share)))

    def at(self, step: int) -> str:
        if step not in self.cache:
            mixed = [round(a + (b - a) * step / 40) for a, b in zip(PALEST, FULLEST)]
            self.cache[step] = "#" + "".join([f"{c:02x}" for c in mixed])
        return self.cache[step]

    def sample(self, n: int) -> list[str]:
        return [self.at(round(40 * i / (n - 1))) for i in range(n)]
