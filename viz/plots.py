"""Plots of training, of terms and of gates, with matplotlib (the extra `plots`); no window, the same bytes each time.

One look for all: text of 9 points and more, lines told apart by dashes, markers and a label at their end, colours that
the colour-blind tell apart, and colour maps whose lightness goes one way only, so that they survive a grey print.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_rnn.bptt.tables import norm
from tinygrad_rnn.bptt.truncation import Truncation
from tinygrad_rnn.ops import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: Any = {
    "font.family": ["DejaVu Sans", "sans-serif"], "font.size": 10, "axes.titlesize": 10, "axes.titlelocation": "left",
    "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9, "axes.spines.top": False,
    "axes.spines.right": False, "grid.alpha": 0.25, "lines.linewidth": 1.6, "lines.markersize": 5, "savefig.dpi": 120,
    "svg.hashsalt": "tinygrad_rnn", "svg.fonttype": "none"}
LABEL = 9  # points, the smallest text
COLORS, MARKS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#444444"), "os^Dv"
LOSS, GRADIENT, *_, BASELINE = COLORS
STYLES = ("--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
WORDS = ("dashed", "dash-dotted", "dotted")  # the first of STYLES, in words
SIZES = ("#d5eee4", "#1fa87a", "#05382a")  # of norms, small to large: the green of the pictures, and on to dark
BEYOND = "#d55e00"  # what is infinite
OPEN, SIGNED = "Blues", "cividis"  # of gates, light 0 to dark 1; of states, dark blue, 0 grey, yellow
PERPLEXITIES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)  # where the right axis has its marks
LOST = 1e-16  # where a contribution is lost in a sum with 1
FAR = (1e-280, 1e200)  # a log axis ends between these, for what matplotlib computes around it must not overflow
MANY = 100  # updates from which on a mean is drawn through the losses
PRINTED = 12  # up to so many steps, a map prints its numbers
UNITS, LETTERS = 8, 70  # up to so many units and steps, strips name each
GATES = frozenset({"f", "i", "o", "r", "z", "u"})  # what the cells here call what lies between 0, closed, and 1, open
MEANINGS = {
    "f": "forget gate: how much of c stays", "i": "input gate: how much of c̃ comes in",
    "o": "output gate: how much of tanh c is shown", "c̃": "candidate: what could be written",
    "c": "cell state: what is remembered", "h": "hidden state: what others see",
    "r": "reset gate: how much of h the candidate reads", "z": "update gate: how much of the old h stays",
    "u": "update gate: how much of the candidate comes in", "n": "candidate: what could be written"}
VISIBLE = {  # signs for what has no shape; the last two lines are what XML, and so an SVG, cannot hold
    ord(" "): "␣", ord("\x7f"): "␡", **dict.fromkeys(range(0x80, 0xa0), "\ufffd"),
    **{code: chr(0x2400 + code) for code in range(0x20)}, ord("\n"): "↵", ord("\t"): "⇥", ord("\r"): "↵",
    **dict.fromkeys((*range(0xd800, 0xe000), 0xfffe, 0xffff), "\ufffd")}
STAMPS: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


@contextmanager
def one_look() -> Iterator[None]:
    """matplotlib as all plots here have it, whatever the reader's own settings. ImportError where it is missing."""
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError as error:
        raise ImportError(f"viz.plots needs matplotlib ({error}): pip install 'tinygrad-rnn[plots]'") from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, drawn without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@one_look()
def training_curves(losses: Sequence[float], gradient_norms: Sequence[float],
                    baselines: Mapping[str, float] | None = None) -> Figure:
    """Loss and gradient norm against the update, counted from 1; baselines on held-out text as labelled lines.

    losses and baselines in nats per symbol, with their perplexity on the right; of many losses also the running mean.
    Gradient norms before clipping, on a log axis, where those that are 0 or not finite leave a gap. Raises ValueError
    for no losses at all.
    """
    if len(losses) == 0:
        raise ValueError("training_curves: expected at least one loss, got none")
    figure = new_figure(8.5, 6.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    steps, N, width = np.arange(1, len(losses) + 1), len(losses), len(losses) // 50
    mean = len(losses) >= MANY
    look: dict[str, Any] = {"linewidth": 0.6} if mean else {"marker": "o", "markersize": 3}  # one alone shows too
    above.plot(steps, losses, color=LOSS, alpha=0.45 if mean else 1.0, **look)
    if mean:
        smooth = np.convolve(np.asarray(losses, float), np.ones(width) / width, "valid")
        above.plot(steps[width - 1:], smooth, color=LOSS, linewidth=2)
    lines = sorted((baselines or {}).items(), key=lambda line: -line[1])
    for i, (_, value) in enumerate(lines):
        above.plot([1, N], [value, value], color=BASELINE, linewidth=1.2, linestyle=STYLES[i % len(STYLES)])
    above.set_ylabel("loss in nats")
    above.set_title(f"Loss while training{f', bold: mean of {width} updates' * mean}"
                    f"{'; broken lines: text not trained on' * bool(lines)}")
    above.margins(y=0.12)
    above.set_ylim(*above.get_ylim())
    if lines:
        across = max(N - 1, 1)
        above.set_xlim(1 - 0.02 * across, 1 + 1.5 * across)  # room for their labels
        place_labels(above, [(N, value, f"{name}: {value:.3f} = ln {np.exp(value):.3g}", BASELINE)
                             for name, value in lines], 17)
    right = above.secondary_yaxis("right", functions=(np.exp, nats))
    right.set_ylabel("perplexity")
    low, high = np.exp(above.get_ylim())
    right.set_yticks([tick for tick in PERPLEXITIES if low <= tick <= high], minor=False)
    right.yaxis.set_major_formatter("{x:g}")
    norms = np.asarray(gradient_norms, float)
    shown = np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
    below.plot(np.arange(1, len(norms) + 1), shown, color=GRADIENT, **look)
    if np.isfinite(shown).any():
        below.set_yscale("log", subs=[])
        below.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
        below.yaxis.set_major_formatter("{x:g}")
    below.set_ylabel("gradient norm")
    below.set_xlabel("update")
    below.xaxis.get_major_locator().set_params(integer=True)
    below.set_xticks([tick for tick in below.get_xticks() if tick <= N and below.get_xlim()[0] <= tick])
    below.set_title("Norm of the gradient, before clipping, log scale")
    for axes in (above, below):
        axes.grid()
    return figure


def nats(perplexity: Any) -> Any:
    """ln of a perplexity; matplotlib also asks for 0, which gets a very low one."""
    return np.log(np.maximum(perplexity, 1e-300))


@one_look()
def term_maps(norms: Mapping[str, Any], window: int | None = None) -> Figure:
    """‖A[t, k]‖, what the loss at step t says about the use at step k (19), for each parameter a map, one log scale.

    norms: {parameter: (T, T)}, rows t and columns k, both counted from 1; exact zeros stay white, what is below 1e-16
    of the largest has the lightest colour, what is infinite is vermillion. The scale ends within FAR, colours stay
    the same beyond it. The numbers are printed up to 12 steps.
    window: the τ of truncated BPTT; a solid stair ends what a sliding window keeps, a dashed one what chunks keep.
    Raises ValueError for no map, for anything but square matrices of one size without negative numbers, and for a
    window below 1; TypeError for a window that is no integer.
    """
    maps = {name: np.asarray(A, float) for name, A in norms.items()}
    shapes = [A.shape for A in maps.values()]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2 or shapes[0][0] != shapes[0][1] or shapes[0] == (0, 0):
        raise ValueError(f"term_maps: expected norms of shape (T, T), the same for all, got {shapes}")
    if wrong := [name for name, A in maps.items() if not (A >= 0).all()]:
        raise ValueError(f"term_maps: {', '.join(wrong)}: expected norms of shape (T, T), none negative or nan")
    if window is not None and (not isinstance(window, int | np.integer) or isinstance(window, bool)):
        raise TypeError(f"term_maps: window {window!r}; expected a number of steps, an integer")
    if window is not None and window < 1:
        raise ValueError(f"term_maps: window {window}; expected a number of steps from 1 on")
    from matplotlib.colors import LinearSegmentedColormap, LogNorm
    from matplotlib.ticker import MaxNLocator

    T, everything = shapes[0][0], np.concatenate([A.ravel() for A in maps.values()])
    positive = everything[(everything > 0) & np.isfinite(everything)]
    high = np.clip(positive.max(), *FAR) if positive.size else 1.0
    low = max(positive.min(), LOST * high) if positive.size else 0.1
    scale = LogNorm(low if low < high else high / 10, high)
    colors = LinearSegmentedColormap.from_list("norms", SIZES).with_extremes(over=BEYOND)
    side = min(max(0.62 * T, 3.6), 7.0)
    width = side * len(maps) + 1.9
    figure = new_figure(width, side + (1.1 if window is None else 1.6))
    several = figure.subplots(1, len(maps), squeeze=False, sharey=True)[0]
    for axes, (name, A) in zip(several, maps.items()):
        shown = np.ma.masked_where(A == 0, np.where(np.isinf(A), 2 * high, np.minimum(A, high)))
        image = axes.imshow(shown, cmap=colors, norm=scale, interpolation="nearest",
                            extent=(0.5, T + 0.5, T + 0.5, 0.5))
        axes.set_title(f"{name}: ‖A[t, k]‖", fontsize=11)
        axes.set_xlabel(f"k, the step that uses {name}")
        axes.xaxis.set_major_locator(MaxNLocator(min(T, 12), integer=True, min_n_ticks=1))
        if T <= PRINTED:
            axes.set_xticks(range(1, T + 1))
            axes.set_yticks(range(1, T + 1))
            for (i, k), value in np.ndenumerate(A):
                dark = value > 0 and scale(value) > 0.65
                axes.text(k + 1, i + 1, f"{value:.2g}", ha="center", va="center", fontsize=LABEL,
                          color="white" if dark else "black")
        if window is not None:
            draw_window(axes, A, window)
    figure.colorbar(image, ax=several, label="norm, log scale; white: exactly 0", fraction=0.3 / width, aspect=4 * side,
                    pad=0.15 / width, extend="min" if positive.size and positive.min() < low else "neither")
    several[0].set_ylabel("t, the step of the loss")
    several[0].yaxis.set_major_locator(MaxNLocator(min(T, 12), integer=True, min_n_ticks=1))
    kept = "" if window is None else (f"\ntruncated BPTT of τ = {window} keeps the diagonal's side of a line:\n"
                                      "solid, of a sliding window; dashed, of chunks")
    figure.suptitle(f"What each loss says about each use{kept}", fontsize=10)
    return figure


def draw_window(axes: Axes, A: Array, window: int) -> None:
    """How far from the diagonal truncation reaches: as a solid stair the window |t - k| < τ, as a dashed one chunks.

    Only on the sides where A has terms: below the diagonal for W, above it for the W' of a backward direction.
    """
    T = len(A)
    t = np.arange(T)
    chunk = t // window * window
    below, above = np.tril(A, -1).any(), np.triu(A, 1).any()
    for there, sliding, chunked in ((below, t - window + 1, chunk), (above, t + window, chunk + window)):
        for reach, style in ((sliding, "-"), (chunked, "--")) if there else ():
            stair = np.repeat(np.clip(reach, 0, T), 2) + 0.5, np.repeat(np.arange(T + 1), 2)[1:-1] + 0.5
            axes.plot(*stair, color="white", linewidth=4)
            axes.plot(*stair, color="black", linewidth=1.8, linestyle=style)


@one_look()
def truncation_curves(truncated: Truncation) -> Figure:
    """What truncated BPTT leaves of dE/dW against its window τ: the cosine with the whole gradient, and the norm.

    truncated: of `bptt.truncation`. Where the whole gradient, or what is left of it, is 0, there is no cosine, and a
    gap. Norms are parts of the whole one's; both kinds of truncation in both panels.
    """
    total, W = truncated.terms.total, truncated.terms.parameter.name or "W"
    from matplotlib.ticker import NullLocator

    order = np.argsort(truncated.windows)
    windows = np.asarray(truncated.windows)[order]
    figure = new_figure(9.6, 4.2)
    left, right = figure.subplots(1, 2)
    for axes, measure in ((left, cosine), (right, relative)):
        ends = []
        for i, (kind, parts) in enumerate((("chunked", truncated.chunked), ("sliding", truncated.sliding))):
            values = np.array([measure(part, total) for part in parts[order]])
            axes.plot(windows, values, color=COLORS[i], linestyle=("-", "--")[i], marker=MARKS[i])
            if there := np.flatnonzero(np.isfinite(values)).tolist():
                ends.append((windows[there[-1]], values[there[-1]], kind, COLORS[i]))
        axes.axhline(1.0, color=BASELINE, linewidth=1, linestyle=":")
        axes.set_xscale("log", base=2)
        axes.set_xlabel("window τ, in steps, log scale")
        axes.set_xlim(windows[0] / 1.1, windows[-1] * 1.1 * (windows[-1] / windows[0] + 1) ** 0.35)
        axes.set_xticks([2.0**i for i in range(40) if windows[0] <= 2**i <= windows[-1]] or windows)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(y=0.15)
        axes.set_ylim(*axes.get_ylim())
        axes.grid()
        if ends:
            place_labels(axes, ends, 16)
    left.set_title(f"cosine of truncated and whole dE/d{W}: 1, same way")
    right.set_title(f"norm of truncated / norm of whole dE/d{W}, {norm(total):.3g}")
    return figure


def cosine(part: Array, whole: Array) -> float:
    size, of = norm(part), norm(whole)
    return float((part / size * (whole / of)).sum()) if size and of else np.nan


def relative(part: Array, whole: Array) -> float:
    return norm(part) / norm(whole) if norm(whole) else np.nan


@one_look()
def gate_strips(traced: Mapping[str, Mapping[int, Array]], text: Sequence[str] | None = None, *,
                gates: Collection[str] = GATES, row: int = 0) -> Figure:
    """What a run computed, units against steps: a strip for each gate, 0 to 1, candidate and state, -1 to 1.

    traced: {name: {t: (B, H)}}, as `trace(output)` gives it; inputs and the sums z_g that go into gates are left out,
    and steps at which not all was made, as that of h_0. Gates come first, states last. What leaves -1 … 1, as c may, is
    drawn up to its largest magnitude. text: what was read at each of the steps, for the time axis. gates: the names of
    what lies between 0 and 1. row: of the batch. Raises ValueError for nothing to draw, another number of characters
    than steps, and a gate beyond 0 … 1 or not a number; IndexError for a row that is not there.
    """
    steps, names = strips_of(traced, gates)
    if text is not None and len(text) != len(steps):
        raise ValueError(f"gate_strips: {len(text)} characters for {len(steps)} steps, t = {steps[0]} … {steps[-1]}")
    values = {name: np.stack([traced[name][t][row] for t in steps], axis=1) for name in names}
    opening = [name for name in names if name in gates]
    for name in opening:
        if not ((values[name] >= 0) & (values[name] <= 1)).all():
            raise ValueError(f"gate_strips: gate {name}: expected numbers from 0 to 1; name what is a gate in `gates`")
    from matplotlib.ticker import MaxNLocator

    T, heights = len(steps), [min(max(0.14 * len(a), 0.55), 1.3) for a in values.values()]
    figure = new_figure(min(max(0.17 * T + 2.2, 6.0), 14.0), sum(heights) + 0.36 * len(names) + 1.1)
    figure.suptitle(f"{'Gates and states' if opening else 'The state'} of every unit at each step", fontsize=11)
    grid = figure.add_gridspec(len(names), 2, width_ratios=(45, 1), height_ratios=heights)
    first = figure.add_subplot(grid[0, 0])
    *_, last = several = [first, *(figure.add_subplot(grid[i, 0], sharex=first) for i in range(1, len(names)))]
    ranges = [0.0 if name in opening else max(1.0, float(np.abs(a[np.isfinite(a)]).max(initial=0.0)))
              for name, a in values.items()]
    for i, (axes, most, (name, a)) in enumerate(zip(several, ranges, values.items())):
        image = axes.imshow(a, aspect="auto", interpolation="nearest", cmap=SIGNED if most else OPEN, vmin=-most,
                            vmax=most or 1.0, extent=(0.5, T + 0.5, len(a) + 0.5, 0.5))
        axes.set_title(", ".join(filter(None, (name, MEANINGS.get(name)))))
        axes.set_yticks(range(1, len(a) + 1) if len(a) <= UNITS else (1, len(a)))
        axes.tick_params(axis="x", length=0, labelbottom=axes is last)
        if i == 0 or most != ranges[i - 1]:  # one scale for all strips in a row that have it
            its = next((j for j in range(i, len(names)) if ranges[j] != most), len(names))
            bar = figure.colorbar(image, cax=figure.add_subplot(grid[i:its, 1]))
            bar.set_ticks([-most, 0, most] if most else [0, 1],
                          labels=[f"−{most:.3g}", "0", f"{most:.3g}"] if most else ["0 closed", "1 open"])
    several[len(several) // 2].set_ylabel("unit")
    if T <= LETTERS:
        last.set_xticks(range(1, T + 1), [str(c).translate(VISIBLE) for c in text or steps], parse_math=False)
    else:
        last.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        last.xaxis.set_major_formatter(lambda x, _: str(steps[round(x) - 1]) if 1 <= x <= T else "")
    last.set_xlabel("step t" if text is None or T > LETTERS else "what is read at each step")
    return figure


def strips_of(traced: Mapping[str, Mapping[int, Array]], gates: Collection[str]) -> tuple[list[int], list[str]]:
    """The steps at which all was made, and the names to show there: gates, candidates, states. See `gate_strips`."""
    made = {name: set(its) for name, its in traced.items() if name != "x" and not name.startswith("m∘")}  # m∘h: masked
    steps = sorted(set.intersection(*made.values())) if made else []
    shown = [name for name in made if not is_sum(name, made)]
    if not (steps and shown):
        raise ValueError(f"gate_strips: expected gates or states made at the same steps, got {[*traced]}")
    opening = [name for name in shown if name in gates]
    states = [name for name in shown if len(made[name]) > len(steps) and name not in opening]
    return steps, [*opening, *(name for name in shown if name not in (*opening, *states)), *reversed(states)]


def is_sum(name: str, traced: Collection[str]) -> bool:
    """Is it what goes into a gate, z_g? An RNN's is z, which in a GRU is a gate, made of z_z."""
    return name.startswith("z_") or (name == "z" and "z_z" not in traced)


@one_look()
def decay_curves(norms: Mapping[str, Any], beside: Mapping[str, Mapping[str, Any]]) -> Figure:
    """‖∂s_T/∂s_k‖ against the lag T - k = 1, 2, … (18): a solid line with markers for each name, on one log axis.

    beside: for a name the curves that belong to it by what they are, as its bounds (21) or its direct path: broken
    lines of its colour. Names with the same kinds share a panel. The axis goes from 1e-16, where a contribution is
    lost in a sum with 1, to 1e200 and no further. What is 0 or not finite leaves a gap. Raises ValueError for no
    curves, or of different lengths.
    """
    curves = [np.asarray(a, float) for a in (*norms.values(), *(a for its in beside.values() for a in its.values()))]
    shapes = {a.shape for a in curves}
    if not norms or len(shapes) != 1 or curves[0].ndim != 1 or not curves[0].size:
        raise ValueError(f"decay_curves: expected curves of one length, at least 1, got shapes {sorted(shapes)}")
    panels: dict[tuple[str, ...], list[str]] = {}
    for name in norms:
        panels.setdefault(tuple(beside.get(name, ())), []).append(name)
    K, every = len(curves[0]), np.concatenate([np.asarray(a, float) for a in norms.values()])
    highest = min(every[np.isfinite(every)].max(initial=0.0), FAR[1] / 100)
    figure, lags = new_figure(6.2 * len(panels), 5.6), np.arange(1, K + 1)
    figure.supxlabel("lag T - k, in steps", fontsize=10)
    for axes, (kinds, names) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items()):
        axes.set_yscale("log")
        axes.set_ylim(LOST, max(10.0, 100 * highest))
        axes.set_xlim(0, K * 1.6)  # room for the labels
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= K])
        axes.grid()
        broken = "".join(f"; {word}: {kind}" for word, kind in zip(WORDS, kinds))
        axes.set_title(f"solid: ‖∂s_T/∂s_k‖{broken}", loc="center")
        ends = []
        for i, name in enumerate(names):
            lines = {name: norms[name], **{f"{name}: {kind}": a for kind, a in beside.get(name, {}).items()}}
            for style, (label, values) in zip(("-", *STYLES), lines.items()):
                values = np.asarray(values, float)
                shown = np.where(np.isfinite(values) & (values >= LOST), values, np.nan)
                axes.plot(lags, shown, color=COLORS[i % len(COLORS)], linestyle=style,
                          linewidth=1.6 if style == "-" else 1.2,
                          marker=MARKS[i % len(MARKS)] if style == "-" else None, markevery=(2 * i, max(1, K // 8)))
                there = np.flatnonzero(np.isfinite(shown))
                ends += [(lags[there[-1]], shown[there[-1]], label, COLORS[i % len(COLORS)])] if there.size else []
        if ends:
            place_labels(axes, ends, 27)
    figure.axes[0].set_ylabel("‖∂s_T/∂s_k‖ (log scale, down to where a term is lost in a sum with 1)")
    return figure


def place_labels(axes: Any, ends: list[tuple[float, float, str, str]], rows: int) -> None:
    """Each label beside the end of its line, (x, y, label, colour), moved up where it would run into another.

    rows: how many labels fit above one another. A line that leaves the plot below, before the others end, is joined to
    its label, for more may leave there; so is one whose label had to move.
    """
    across, along = axes.xaxis.get_transform(), axes.yaxis.get_transform()
    (left, right), (low, high) = across.transform(np.array(axes.get_xlim())), along.transform(np.array(axes.get_ylim()))
    gap, final = (high - low) / rows, max(x for x, *_ in ends)
    ground = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
    for below in (True, False):
        last = low - gap / 2
        its = [(float(along.transform(y)), x, y, label, color) for x, y, label, color in ends if (x < final) == below]
        for height, x, y, label, color in sorted(its, key=lambda end: -end[1] if below else end[0]):
            last = max(height, last + gap)
            led = below or last > height + gap / 2
            at = across.transform(x) + (0.05 if led else 0.02) * (right - left)
            place = float(across.inverted().transform(at)), float(along.inverted().transform(last))
            axes.annotate(label, (x, y), place, color=color, fontsize=LABEL, va="center", bbox=ground, arrowprops={
                "arrowstyle": "-", "relpos": (0, 0.5), "linewidth": 0.7, "color": color} if led else None)


@one_look()
def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as its suffix says, .png, .svg or .pdf; the same figure gives the same bytes.

    What the font has no sign for, as 日, is a box in a .png and a .pdf; in an .svg, where text is text, it is shown.
    """
    path = Path(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        figure.savefig(path, metadata=STAMPS.get(path.suffix[1:].lower()))
    return path
