"""Plots of training and of terms, with matplotlib (the extra `plots`); no window, and the same bytes each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOSS, GRADIENT, BASELINE = "#0072b2", "#d55e00", "#444444"
STYLES = ("--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
PERPLEXITIES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)  # where the right axis has its marks
COLORS, MARKS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#444444"), "os^Dv"  # told apart by the colour-blind too
WORDS = ("dashed", "dash-dotted", "dotted")  # the first of STYLES, in words
LOST = 1e-16  # where a contribution is lost in a sum with 1
PRINTED = 12  # up to so many steps, a map prints its numbers
STAMPS: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, drawn without a window. Raises ImportError where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"viz.plots needs matplotlib ({error}): pip install 'tinygrad-rnn[plots]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def training_curves(losses: Sequence[float], gradient_norms: Sequence[float],
                    baselines: Mapping[str, float] | None = None) -> Figure:
    """Loss and gradient norm against the update, counted from 1; baselines on held-out text as labelled lines.

    losses and baselines in nats per symbol, with their perplexity on the right; gradient norms before clipping, on a
    log axis, where those that are 0 or not finite leave a gap. Raises ValueError for no losses at all.
    """
    if len(losses) == 0:
        raise ValueError("training_curves: expected at least one loss, got none")
    figure = new_figure(8, 6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    steps = np.arange(1, len(losses) + 1)
    above.plot(steps, losses, color=LOSS, linewidth=1.2, label="loss")
    lines = sorted((baselines or {}).items(), key=lambda line: -line[1])
    close = 0.05 * max([*losses, *(value for _, value in lines)])
    for i, (name, value) in enumerate(lines):
        under = i > 0 and lines[i - 1][1] - value < close  # its label would run into the one above
        above.axhline(value, color=BASELINE, linewidth=1, linestyle=STYLES[i % len(STYLES)])
        above.annotate(f"{name}: {value:.3f} (perplexity {np.exp(value):.3g})", (1, value),
                       xycoords=("axes fraction", "data"), xytext=(-4, -2 if under else 2), textcoords="offset points",
                       ha="right", va="top" if under else "bottom", fontsize=8, color=BASELINE,
                       bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.9})
    above.set_ylabel("loss in nats")
    if lines:
        above.set_title("curve: loss while training; lines: the same text for all, not trained on", fontsize=9)
    above.margins(y=0.1)
    right = above.secondary_yaxis("right", functions=(np.exp, nats))
    right.set_ylabel("perplexity")
    low, high = np.exp(above.get_ylim())
    right.set_yticks([tick for tick in PERPLEXITIES if low <= tick <= high], minor=False)
    right.yaxis.set_major_formatter("{x:g}")
    norms = np.asarray(gradient_norms, float)
    shown = np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
    below.plot(np.arange(1, len(norms) + 1), shown, color=GRADIENT, linewidth=1)
    if np.isfinite(shown).any():
        below.set_yscale("log")
    below.set_ylabel("gradient norm")
    below.set_xlabel("update")
    for axes in (above, below):
        axes.grid(alpha=0.25)
    return figure


def nats(perplexity: Any) -> Any:
    """ln of a perplexity; matplotlib also asks for 0, which gets a very low one."""
    return np.log(np.maximum(perplexity, 1e-300))


def term_map(norms: Any, title: str = "") -> Figure:
    """‖A[t, k]‖, what the loss at step t says about the use at step k (19), as a map on a log scale.

    norms (T, T), rows t and columns k, both counted from 1; exact zeros stay white. The numbers are printed up to 12
    steps. Raises ValueError for anything but a square matrix of numbers that are not negative.
    """
    A = np.asarray(norms, float)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or A.size == 0 or not (A >= 0).all():
        raise ValueError(f"term_map: expected norms of shape (T, T), none negative, got shape {A.shape}")
    figure = new_figure(6.4, 5.4)
    from matplotlib.colors import LogNorm
    T, axes = len(A), figure.subplots()
    positive = A[(A > 0) & np.isfinite(A)]
    low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
    scale = LogNorm(low if low < high else high / 10, high)
    image = axes.imshow(np.ma.masked_where(A == 0, A), cmap="cividis", norm=scale, extent=(0.5, T + 0.5, T + 0.5, 0.5))
    figure.colorbar(image, ax=axes, label="‖A[t, k]‖, log scale")
    axes.set_xlabel("k, the step that uses the parameter")
    axes.set_ylabel("t, the step of the loss")
    axes.set_title(title)
    if T <= PRINTED:
        axes.set_xticks(range(1, T + 1))
        axes.set_yticks(range(1, T + 1))
        for (i, k), value in np.ndenumerate(A):
            dark = value > 0 and scale(value) < 0.5
            axes.text(k + 1, i + 1, f"{value:.2g}", ha="center", va="center", fontsize=8 if T <= 8 else 6,
                      color="white" if dark else "black")
    return figure


def decay_curves(norms: Mapping[str, Any], beside: Mapping[str, Mapping[str, Any]]) -> Figure:
    """‖∂s_T/∂s_k‖ against the lag T - k = 1, 2, … (18): a solid line with markers for each name, on one log axis.

    beside: for a name the curves that belong to it by what they are, as its bounds (21) or its direct path: broken
    lines of its colour. Names with the same kinds share a panel. The axis ends at 1e-16, where a contribution is lost
    in a sum with 1. What is 0 or not finite leaves a gap. Raises ValueError for no curves, or of different lengths.
    """
    curves = [np.asarray(a, float) for a in (*norms.values(), *(a for its in beside.values() for a in its.values()))]
    shapes = {a.shape for a in curves}
    if len(shapes) != 1 or curves[0].ndim != 1 or not curves[0].size:
        raise ValueError(f"decay_curves: expected curves of one length, at least 1, got shapes {sorted(shapes)}")
    panels: dict[tuple[str, ...], list[str]] = {}
    for name in norms:
        panels.setdefault(tuple(beside.get(name, ())), []).append(name)
    K, highest = len(curves[0]), max(float(np.max(a)) for a in norms.values())
    figure, lags = new_figure(5.8 * len(panels), 5.4), np.arange(1, K + 1)
    figure.supxlabel("lag T - k, in steps", fontsize=10)
    for axes, (kinds, names) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items()):
        axes.set_yscale("log")
        axes.set_ylim(LOST, max(10.0, 100 * highest))
        axes.set_xlim(0, K * 1.5)
        axes.grid(alpha=0.25)
        broken = "".join(f"; {word}: {kind}" for word, kind in zip(WORDS, kinds))
        axes.set_title(f"solid: ‖∂s_T/∂s_k‖{broken}", fontsize=10)
        ends = []
        for i, name in enumerate(names):
            lines = {name: norms[name], **{f"{name}: {kind}": a for kind, a in beside.get(name, {}).items()}}
            for style, (label, values) in zip(("-", *STYLES), lines.items()):
                values = np.asarray(values, float)
                shown = np.where(np.isfinite(values) & (values >= LOST), values, np.nan)
                axes.plot(lags, shown, color=COLORS[i], linestyle=style, linewidth=1.6 if style == "-" else 1.2,
                          marker=MARKS[i] if style == "-" else None, markevery=(2 * i, max(1, K // 8)), markersize=5)
                there = np.flatnonzero(np.isfinite(shown))
                ends += [(lags[there[-1]], shown[there[-1]], label, COLORS[i])] if there.size else []
        place_labels(axes, ends)
    figure.axes[0].set_ylabel("log scale, down to where a term is lost in a sum with 1")
    return figure


def place_labels(axes: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Each label beside the end of its line, (x, y, label, colour), moved up where it would run into another.

    A line that leaves the plot below, before the others end, is joined to its label, for more may leave there.
    """
    low, high = np.log10(axes.get_ylim())
    across, gap = axes.get_xlim()[1], (high - low) / 28
    final, leader = max(x for x, *_ in ends), {"arrowstyle": "-", "relpos": (0, 0.5), "linewidth": 0.7}
    for below in (True, False):
        last = low - gap / 2
        its = [end for end in ends if (end[0] < final) == below]
        for x, y, label, color in sorted(its, key=lambda end: -end[0] if below else end[1]):
            last = max(np.log10(y), last + gap)
            axes.annotate(label, (x, y), (x + (0.05 if below else 0.02) * across, 10**last), color=color, fontsize=8,
                          va="center", arrowprops=leader | {"color": color} if below else None,
                          bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.9})


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as its suffix says, .png, .svg or .pdf; the same figure gives the same bytes."""
    import matplotlib
    path = Path(path)
    with matplotlib.rc_context({"svg.hashsalt": "tinygrad_rnn", "svg.fonttype": "none"}):
        figure.savefig(path, dpi=120, metadata=STAMPS.get(path.suffix[1:].lower()))
    return path
