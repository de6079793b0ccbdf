"""What the plots promise: labelled baselines, log axes, honest zeros, the same bytes, and no window."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from viz import plots

pytest.importorskip("matplotlib", reason="matplotlib (the extra 'plots') is not installed")


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_curves_draw_the_losses_and_every_baseline_with_its_name() -> None:
    figure = plots.training_curves([3.0, 2.0, 1.5], [1.0, 0.5, 0.1], {"uniform": 3.2, "bigram": 1.8})
    above, below = figure.axes[:2]
    np.testing.assert_array_equal(above.lines[0].get_xydata(), [[1, 3.0], [2, 2.0], [3, 1.5]])
    assert [line.get_ydata()[0] for line in above.lines[1:]] == [3.2, 1.8]
    assert [text.split(":")[0] for text in texts(figure)] == ["uniform", "bigram"] and "24.5" in texts(figure)[0]
    assert below.get_yscale() == "log" and above.get_ylabel() == "loss in nats"


def test_gradient_norms_that_have_no_logarithm_leave_a_gap() -> None:
    figure = plots.training_curves([1.0] * 4, [1.0, 0.0, np.nan, np.inf])
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), [1.0, np.nan, np.nan, np.nan])
    plots.training_curves([1.0], [0.0]).canvas.draw()


def test_no_losses_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one loss"):
        plots.training_curves([], [])


def test_a_map_prints_its_numbers_up_to_twelve_steps_and_no_further() -> None:
    A = np.tril(np.arange(1.0, 10.0).reshape(3, 3))
    figure = plots.term_map(A, "terms of W")
    assert texts(figure) == ["1", "0", "0", "4", "5", "0", "7", "8", "9"]
    assert figure.axes[0].get_title() == "terms of W"
    assert texts(plots.term_map(np.ones((13, 13)))) == []


def test_exact_zeros_stay_white_in_a_map() -> None:
    image = plots.term_map(np.tril(np.ones((3, 3)))).axes[0].images[0]
    np.testing.assert_array_equal(image.get_array().mask, np.triu(np.ones((3, 3), bool), 1))
    plots.term_map(np.zeros((2, 2))).canvas.draw()


@pytest.mark.parametrize("wrong", [np.ones((2, 3)), np.ones(4), -np.ones((2, 2)), np.full((2, 2), np.nan), [[]]])
def test_what_is_no_map_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"\(T, T\)"):
        plots.term_map(wrong)


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_the_same_figure_gives_the_same_bytes_and_opens_no_window(form: str, tmp_path: Path) -> None:
    figures = [plots.training_curves([2.0, 1.0], [1.0, 2.0], {"x": 1.5}) for _ in range(2)]
    paths = [plots.save(figure, tmp_path / f"{i}.{form}") for i, figure in enumerate(figures)]
    assert paths[0].read_bytes() == paths[1].read_bytes() != b""
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install"):
        plots.term_map(np.ones((2, 2)))
