"""Contestants side by side: they take turns, once to warm up and once timed; each is judged by its median."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def machine() -> str:
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__} on {threads} thread(s)"


def medians(steps: Mapping[str, Callable[[], Any]], rounds: int, tolerance: float) -> dict[str, float]:
    """Seconds per step of each; all have to agree with the first, array by array, relative to its largest element."""
    expected = next(iter(steps.values()))()
    for name, step in steps.items():
        for got, want in zip(step(), expected, strict=True):
            assert np.abs(np.asarray(got) - want).max() <= tolerance * np.abs(want).max(), name
    gc.collect()
    gc.freeze()  # so that one contestant's collections do not walk over another's library
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            step()  # what another has pushed out of the caches
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def rows(columns: Mapping[str, Mapping[str, float]], unit: float, above: str, below: str) -> str:
    """A table in Markdown, a column for each case, and the ratio of two contestants under it."""
    names = list(next(iter(columns.values())))
    lines = [f"| {name} | " + " | ".join(f"{case[name] / unit:.2f}" for case in columns.values()) + " |"
             for name in names]
    if {above, below} <= set(names):
        ratios = " | ".join(f"**{case[above] / case[below]:.3g}**" for case in columns.values())
        lines.append(f"| {above} / {below} | {ratios} |")
    return "\n".join(lines)
