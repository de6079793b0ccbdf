"""What every cell promises: its equations, and every gradient of them.

The equations stand here once more in plain NumPy, and take complex numbers, so that the complex step of them is the
gradient of every element of every parameter, input and initial state, without any of our rules.
"""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import apart, generator, leaf, normal
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn import Tensor, nn, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.check import gradcheck

T, B, D, H = 4, 3, 2, 5
STEP = 1e-20
Values = dict[str, np.ndarray]
State = tuple[np.ndarray, ...]
Step = Callable[[Values, np.ndarray, State], State]
repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=50)
seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(*[st.integers(1, 4)] * 4)  # T, B, D, H


# -------------------------------------------------------------------------------------------------- the cells, in NumPy
def sigma(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


PHI = {"tanh": np.tanh, "sigmoid": sigma, "relu": lambda z: np.where(np.real(z) > 0, z, 0)}


def pre(p: Values, gate: str, x: np.ndarray, h: np.ndarray) -> Any:
    """z_g = x U_g + h W_g + b_g (1, 4, 5)."""
    return x @ p["U" + gate] + h @ p["W" + gate] + p.get("b" + gate, 0.0)


def np_rnn(nonlinearity: str = "tanh") -> Step:
    return lambda p, x, state: (PHI[nonlinearity](pre(p, "", x, state[0])),)


def np_lstm(p: Values, x: np.ndarray, state: State) -> State:
    h, c = state
    f = sigma(pre(p, "_f", x, h) + p.get("p_f", 0.0) * c)
    i = sigma(pre(p, "_i", x, h) + p.get("p_i", 0.0) * c)
    c = f * c + i * np.tanh(pre(p, "_c", x, h))
    o = sigma(pre(p, "_o", x, h) + p.get("p_o", 0.0) * c)
    return o * np.tanh(c), c


def np_gru(reset: str | None = "after", update: str = "z") -> Step:
    def step(p: Values, x: np.ndarray, state: State) -> State:
        (h,) = state
        r = 1.0 if reset is None else sigma(pre(p, "_r", x, h))
        if reset == "after":
            n = np.tanh(x @ p["U_n"] + p.get("b_n", 0.0) + r * (h @ p["W_n"] + p.get("b_hn", 0.0)))
        else:
            n = np.tanh(pre(p, "_n", x, r * h))
        new = sigma(pre(p, "_u", x, h)) if update == "u" else 1 - sigma(pre(p, "_z", x, h))
        return (new * n + (1 - new) * h,)
    return step


Variant = tuple[type[nn.Cell], dict[str, Any], Step]
VARIANTS: dict[str, Variant] = {
    **{f"rnn {phi}": (nn.RNNCell, {"nonlinearity": phi}, np_rnn(phi)) for phi in PHI},
    "rnn without bias": (nn.RNNCell, {"bias": False}, np_rnn()),
    "lstm": (nn.LSTMCell, {}, np_lstm),
    "lstm without bias": (nn.LSTMCell, {"bias": False}, np_lstm),
    "lstm with a forget bias": (nn.LSTMCell, {"forget_bias": 1.0}, np_lstm),
    "lstm with peepholes": (nn.LSTMCell, {"peepholes": True}, np_lstm),
    "lstm with peepholes without bias": (nn.LSTMCell, {"peepholes": True, "bias": False}, np_lstm),
    **{f"gru {reset} {update}": (nn.GRUCell, {"reset": reset, "update": update}, np_gru(reset, update))
       for reset in ("after", "before", None) for update in "zu"},
    "gru without bias": (nn.GRUCell, {"bias": False}, np_gru()),
    "gru before u without bias": (nn.GRUCell, {"reset": "before", "update": "u", "bias": False}, np_gru("before", "u")),
}
every_variant = pytest.mark.parametrize("name", VARIANTS)


# --------------------------------------------------------------------------------------------------- one loss, two ways
def cell_of(name: str, **more: Any) -> nn.Cell:
    kind, options, _ = VARIANTS[name]
    return kind(D, H, rng=generator(1), **options, **more)


def values_of(cell: nn.Cell, seed: int = 2) -> Values:
    """A sequence, the state before it, which is not 0, and the cell's parameters."""
    values = {"x": normal(seed, T, B, cell.input_size)}
    values |= {f"{s}_0": normal(seed + 1 + i, B, cell.hidden_size) for i, s in enumerate(cell.states)}
    return values | cell.state_dict()


def weights_of(cell: nn.Cell, seed: int = 5) -> list[np.ndarray]:
    """A weight for every element of every h_t, and of every part of the last state."""
    return [normal(seed, T, B, cell.hidden_size), *(normal(seed + 1 + i, B, cell.hidden_size) for i in
                                                    range(len(cell.states)))]


def by_numpy(step: Step, values: Values, direction: str = "forward") -> list[np.ndarray]:
    """Every h_t, and each part of the last state."""
    xs = values["x"]
    state = tuple(values[s] + np.zeros((xs.shape[1], 1)) for s in ("h_0", "c_0") if s in values)
    outputs: dict[int, np.ndarray] = {}
    for t in range(len(xs)) if direction == "forward" else range(len(xs))[::-1]:
        state = step(values, xs[t], state)
        outputs[t] = state[0]
    return [np.stack([outputs[t] for t in range(len(xs))]), *state]


def by_library(cell: nn.Cell, values: Values, direction: Any = "forward") -> tuple[list[Tensor], dict[str, Tensor]]:
    """The same, and the leaves: the sequence, the state before it unless the cell learns it, and the parameters."""
    cell.load_state_dict({key: values[key] for key in cell.state_dict()})
    leaves: dict[str, Tensor] = dict(cell.named_parameters())
    leaves |= {key: leaf(a) for key, a in values.items() if key not in leaves}
    state = None
    if cell.initial != "learned":
        parts = tuple(leaves[f"{s}_0"] for s in cell.states)
        state = parts if len(parts) > 1 else parts[0]
    outputs, last = nn.unroll(cell, leaves["x"], state, direction=direction)
    return [F.stack(outputs), *(last if isinstance(last, tuple) else [last])], leaves


def gradients_of(results: list[Tensor], leaves: dict[str, Tensor], weights: list[np.ndarray]) -> Values:
    for x in leaves.values():
        x.grad = None
    F.stack([(y * w).sum() for y, w in zip(results, weights, strict=True)]).sum().backward()
    return {key: np.zeros(x.shape) if x.grad is None else x.grad for key, x in leaves.items()}


def complex_steps(loss: Callable[[Values], Any], values: Values, eps: float = STEP) -> Values:
    """d(loss)/d(every element) by Im loss(x + ih) / h."""
    found: Values = {}
    for key, array in values.items():
        found[key] = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[index] += 1j * eps
            found[key][index] = loss({**values, key: moved}).imag / eps
    return found


def differences(loss: Callable[[Values], Any], values: Values, eps: float = 1e-5) -> Values:
    found: Values = {}
    for key, array in values.items():
        found[key] = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            sides = []
            for sign in (1, -1):
                moved = array.copy()
                moved[index] += sign * eps
                sides.append(loss({**values, key: moved}))
            found[key][index] = (sides[0] - sides[1]) / (2 * eps)
    return found


def loss_by_numpy(step: Step, weights: list[np.ndarray], direction: str = "forward") -> Callable[[Values], Any]:
    return lambda values: sum((y * w).sum() for y, w in zip(by_numpy(step, values, direction), weights, strict=True))


def worst(got: Values, expected: Values) -> float:
    assert got.keys() == expected.keys()
    return max(apart(got[key], expected[key]) for key in expected)


def distances(name: str, direction: str = "forward") -> tuple[float, float]:
    """How far a cell's results, and its gradients, are from those of its equations."""
    cell = cell_of(name)
    values, weights, step = values_of(cell), weights_of(cell), VARIANTS[name][2]
    results, leaves = by_library(cell, values, direction)
    forward = max(apart(y.data, e) for y, e in zip(results, by_numpy(step, values, direction), strict=True))
    expected = complex_steps(loss_by_numpy(step, weights, direction), values)
    return forward, worst(gradients_of(results, leaves, weights), expected)


# -------------------------------------------------------------------------------------------------------- known answers
@every_variant
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_cell_and_every_gradient_is_its_equations_written_out(name: str, direction: str) -> None:
    forward, gradients = distances(name, direction)
    assert forward <= 1e-13 and gradients <= 1e-12


@every_variant
def test_every_gradient_is_the_central_difference_of_the_equations(name: str) -> None:
    cell = cell_of(name)
    values, weights = values_of(cell), weights_of(cell)
    got = gradients_of(*by_library(cell, values), weights)
    assert worst(got, differences(loss_by_numpy(VARIANTS[name][2], weights), values)) <= 1e-7


@every_variant
def test_a_learned_initial_state_has_its_gradient(name: str) -> None:
    cell = cell_of(name, initial="learned")
    assert all(not getattr(cell, f"{s}_0").data.any() for s in cell.states)
    values = values_of(cell) | {f"{s}_0": normal(20 + i, H) for i, s in enumerate(cell.states)}
    weights, step = weights_of(cell), VARIANTS[name][2]
    results, leaves = by_library(cell, values)
    assert apart(results[0].data, by_numpy(step, values)[0]) <= 1e-13
    expected = complex_steps(loss_by_numpy(step, weights), values)
    assert worst(gradients_of(results, leaves, weights), expected) <= 1e-12


@every_variant
@pytest.mark.parametrize("initial", [0.0, 0.5, -2])
def test_a_constant_initial_state_is_that_constant_in_every_part(name: str, initial: float) -> None:
    cell = cell_of(name, initial=initial)
    values = values_of(cell) | {f"{s}_0": np.full(H, float(initial)) for s in cell.states}
    outputs, _ = nn.unroll(cell, values["x"])
    assert apart(F.stack(outputs).data, by_numpy(VARIANTS[name][2], values)[0]) <= 1e-13


@every_variant
def test_ids_are_one_hot_rows(name: str) -> None:
    cell, ids = cell_of(name), np.array([[0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1]])
    values, weights = values_of(cell) | {"x": np.eye(D)[ids]}, weights_of(cell)
    h_0, *rest = (leaf(values[f"{s}_0"], f"{s}_0") for s in cell.states)
    outputs, last = nn.unroll(cell, ids, (h_0, *rest) if rest else h_0)
    results = [F.stack(outputs), *(last if isinstance(last, tuple) else [last])]
    leaves = {**dict(cell.named_parameters()), **{x.name or "": x for x in (h_0, *rest)}}
    got = gradients_of(results, leaves, weights)
    expected = complex_steps(loss_by_numpy(VARIANTS[name][2], weights), values)
    del expected["x"]
    assert worst(got, expected) <= 1e-12


@every_variant
def test_gradcheck_passes_every_cell_by_both_methods(name: str) -> None:
    cell = cell_of(name, initial="learned")
    xs = leaf(normal(3, T, B, D), "x")
    for method in ("differences", "complex step"):
        report = gradcheck(lambda *_: F.stack(nn.unroll(cell, xs)[0]), [xs, *cell.parameters()], atol=1e-9, rtol=1e-5,
                           method=method)  # type: ignore[arg-type]
        assert report, report


@every_variant
def test_the_same_parameters_serve_4_steps_and_40(name: str) -> None:
    cell = cell_of(name)
    before = cell.state_dict()
    short, long = (nn.unroll(cell, normal(2, 40, B, D)[:steps])[0] for steps in (4, 40))
    assert all(np.array_equal(a.data, b.data) for a, b in zip(short, long))
    assert all(np.array_equal(a, cell.state_dict()[key]) for key, a in before.items())


def set_to(cell: nn.Cell, **values: Any) -> nn.Cell:
    """The cell with these parameters, all others 0."""
    state = {key: np.zeros_like(a) for key, a in cell.state_dict().items()}
    cell.load_state_dict(state | {key: np.reshape(a, state[key].shape).astype(float) for key, a in values.items()})
    return cell


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@pytest.mark.parametrize("reset", ["after", "before", None])
def test_u_of_0_4_an_old_state_of_1_and_a_candidate_of_0_give_0_6(reset: Any) -> None:
    cell = set_to(nn.GRUCell(1, 1, reset=reset, update="u", rng=generator(1)), b_u=logit(0.4))
    assert cell(np.zeros((1, 1)), Tensor([[1.0]])).item() == pytest.approx(0.6, rel=1e-15)
    cell = set_to(nn.GRUCell(1, 1, reset=reset, update="z", rng=generator(1)), b_z=logit(0.4))
    assert cell(np.zeros((1, 1)), Tensor([[1.0]])).item() == pytest.approx(0.4, rel=1e-15)


def test_the_two_placements_of_the_reset_gate_by_hand() -> None:
    # r = (1/4, 3/4), z = 1/2, h = (1, 1); W_n carries the first element to the second.
    given = {"b_r": [logit(0.25), logit(0.75)], "W_n": [[0, 1], [0, 0]]}
    for reset, passed in (("before", 0.25), ("after", 0.75)):
        cell = set_to(nn.GRUCell(1, 2, reset=reset, rng=generator(1)), **given)  # type: ignore[arg-type]
        h = cell(np.zeros((1, 1)), Tensor([[1.0, 1.0]]))
        assert h.data.ravel().tolist() == pytest.approx([0.5, 0.5 + math.tanh(passed) / 2], rel=1e-15)
    # b_hn is inside the reset, b_n outside: n = tanh(b_n + r b_hn).
    cell = set_to(nn.GRUCell(1, 1, rng=generator(1)), b_r=logit(0.25), b_n=0.5, b_hn=2.0)
    assert cell(np.zeros((1, 1)), Tensor([[0.0]])).item() == pytest.approx(math.tanh(1.0) / 2, rel=1e-15)


def test_a_step_of_the_lstm_by_hand() -> None:
    # f = 1/2, i = 1/4, o = 3/4, c̃ = tanh 2, c = 3.
    gates = {"b_f": 0.0, "b_i": logit(0.25), "b_o": logit(0.75), "b_c": 2.0}
    state = Tensor([[7.0]]), Tensor([[3.0]])
    h, c = set_to(nn.LSTMCell(1, 1, rng=generator(1)), **gates)(np.zeros((1, 1)), state)
    remembered = 1.5 + math.tanh(2.0) / 4
    assert c.item() == pytest.approx(remembered, rel=1e-15)
    assert h.item() == pytest.approx(0.75 * math.tanh(remembered), rel=1e-15)


def test_f_and_i_see_the_old_memory_through_peepholes_and_o_the_new_one() -> None:
    # c = 1: f = σ(ln 3) = 3/4, i = σ(-ln 3) = 1/4, c̃ = 0, so c = 3/4 and o = σ(4 · 3/4).
    cell = set_to(nn.LSTMCell(1, 1, peepholes=True, rng=generator(1)), p_f=math.log(3), p_i=-math.log(3), p_o=4.0)
    h, c = cell(np.zeros((1, 1)), (Tensor([[0.0]]), Tensor([[1.0]])))
    assert c.item() == pytest.approx(0.75, rel=1e-15)
    assert h.item() == pytest.approx(math.tanh(0.75) / (1 + math.exp(-3)), rel=1e-15)


@pytest.mark.parametrize(("nonlinearity", "z", "expected"), [
    ("tanh", 0.1, 0.09966799462495582), ("sigmoid", 0.1, 0.52497918747894), ("relu", 0.1, 0.1), ("relu", -0.4, 0.0)])
def test_a_step_of_the_rnn_by_hand(nonlinearity: str, z: float, expected: float) -> None:
    # 0.5 · 1 - 0.25 · 2 + b
    cell = set_to(nn.RNNCell(1, 1, nonlinearity=nonlinearity, rng=generator(1)), U=0.5, W=-0.25, b=z)
    assert cell(np.ones((1, 1)), Tensor([[2.0]])).item() == pytest.approx(expected, rel=1e-14)


# ----------------------------------------------------------------------------------------------------------- parameters
@pytest.mark.parametrize(("kind", "options", "blocks", "more"), [
    (nn.RNNCell, {}, 1, 0), (nn.GRUCell, {"reset": None}, 2, 0), (nn.GRUCell, {"reset": "before"}, 3, 0),
    (nn.GRUCell, {}, 3, 7), (nn.LSTMCell, {}, 4, 0), (nn.LSTMCell, {"peepholes": True}, 4, 3 * 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_has_as_many_parameters_as_it_has_products(kind: Any, options: Any, blocks: int, more: int,
                                                          bias: bool) -> None:
    D, H = 3, 7
    cell = kind(D, H, bias=bias, rng=generator(1), **options)
    more = more if bias or "peepholes" in options else 0
    assert sum(p.size for p in cell.parameters()) == blocks * H * (D + H + bias) + more
    learned = kind(D, H, bias=bias, rng=generator(1), initial="learned", **options)
    assert len(learned.parameters()) == len(cell.parameters()) + len(cell.states)


def test_parameters_are_called_as_in_the_equations() -> None:
    expected = {"rnn tanh": "U W b", "lstm without bias": "U_f W_f U_i W_i U_o W_o U_c W_c",
                "lstm with peepholes": "U_f W_f b_f U_i W_i b_i U_o W_o b_o U_c W_c b_c p_f p_i p_o",
                "gru after z": "U_r W_r b_r U_z W_z b_z U_n W_n b_n b_hn", "gru None u": "U_u W_u b_u U_n W_n b_n",
                "gru before u": "U_r W_r b_r U_u W_u b_u U_n W_n b_n"}
    for name, parameters in expected.items():
        cell = cell_of(name)
        assert list(cell.state_dict()) == parameters.split()
        assert [p.name for p in cell.parameters()] == parameters.split()


@every_variant
def test_parameters_start_uniform_in_1_over_root_h_and_depend_on_the_generator_alone(name: str) -> None:
    kind, options, _ = VARIANTS[name]
    cell, again, other = (kind(30, 64, rng=generator(seed), **options) for seed in (1, 1, 2))
    drawn = {key: a for key, a in cell.state_dict().items() if not (key == "b_f" and "forget_bias" in options)}
    for key, a in drawn.items():
        assert 0.11 < np.abs(a).max() <= 1 / 8, key
        assert np.array_equal(a, again.state_dict()[key]) and not np.array_equal(a, other.state_dict()[key])
    assert len({a.ravel()[0] for a in drawn.values()}) == len(drawn)


def test_a_forget_bias_fills_b_f_and_nothing_else() -> None:
    with_bias, without = (nn.LSTMCell(D, H, forget_bias=value, rng=generator(1)) for value in (1.5, None))
    assert (with_bias.b_f.data == 1.5).all()  # type: ignore[union-attr]
    for key, a in without.state_dict().items():
        assert key == "b_f" or np.array_equal(a, with_bias.state_dict()[key])
    assert (without.b_f.data != 1.5).all()  # type: ignore[union-attr]


@every_variant
def test_a_float32_cell_stays_float32(name: str) -> None:
    cell = cell_of(name, dtype=np.float32, initial="learned")
    for xs in (normal(2, T, B, D).astype(np.float32), np.zeros((T, B), int)):
        outputs, _ = nn.unroll(cell, xs, lengths=[4, 2, 3])
        (outputs[-1] * outputs[0]).sum().backward()
        assert outputs[-1].dtype == np.float32
        assert all(p.dtype == np.float32 == p.grad.dtype for p in cell.parameters() if p.grad is not None)


# ----------------------------------------------------------------------------------------------------------- properties
@repeatable
@given(shape=sizes, seed=seeds, reset=st.sampled_from(["after", "before", None]))
def test_negating_the_update_gate_turns_one_convention_into_the_other(shape: Any, seed: int, reset: Any) -> None:
    T, B, D, H = shape
    weighs_old = nn.GRUCell(D, H, reset=reset, update="z", rng=generator(seed))
    weighs_new = nn.GRUCell(D, H, reset=reset, update="u", rng=generator(seed))
    weighs_new.load_state_dict({key.replace("_z", "_u"): -a if key.endswith("_z") else a
                                for key, a in weighs_old.state_dict().items()})
    xs, h_0, weights = normal(seed, T, B, D), normal(seed + 1, B, H), normal(seed + 2, T, B, H)
    found = []
    for cell in (weighs_old, weighs_new):
        outputs = F.stack(nn.unroll(cell, xs, Tensor(h_0))[0])
        outputs.backward(weights)
        found.append((outputs.data, {key: p.grad for key, p in cell.named_parameters()}))
    (h, old), (also_h, new) = found
    assert apart(h, also_h) <= 1e-12
    for key, g in old.items():
        assert apart(g, -new[key.replace("_z", "_u")] if key.endswith("_z") else new[key]) <= 1e-12  # type: ignore[operator]


@repeatable
@given(shape=sizes, seed=seeds)
def test_two_products_are_one_of_the_concatenation(shape: Any, seed: int) -> None:
    _, B, D, H = shape
    arrays = normal(seed, B, D), normal(seed + 1, D, H), normal(seed + 2, B, H), normal(seed + 3, H, H), normal(seed, H)
    weights, found = normal(seed + 4, B, H), []
    for run in (nn.affine, lambda x, U, h, W, b: F.concat([x, h], -1) @ F.concat([U, W]) + b):
        leaves = [leaf(a) for a in arrays]
        z = run(*leaves)
        z.backward(weights)
        found.append([z.data, *(x.grad for x in leaves)])
    assert all(apart(a, b) <= 1e-12 for a, b in zip(*found, strict=True))


def reset_placements(T: int, B: int, D: int, H: int, seed: int, b_hn: float) -> tuple[Any, Any]:
    """After and before, with the same parameters otherwise."""
    after = nn.GRUCell(D, H, rng=generator(seed))
    after.b_hn.data = np.full(H, b_hn)  # type: ignore[union-attr]
    before = nn.GRUCell(D, H, reset="before", rng=generator(seed))
    before.load_state_dict({key: a for key, a in after.state_dict().items() if key != "b_hn"})
    return after, before


@repeatable
@given(shape=sizes, seed=seeds, b_hn=st.sampled_from([0.0, 1e-6, -0.3, 2.0]))
def test_both_resets_agree_at_one_step_from_0_exactly_when_b_hn_is_0(shape: Any, seed: int, b_hn: float) -> None:
    _, B, D, H = shape
    x = normal(seed, B, D)
    one, other = (cell(x, Tensor(np.zeros((B, H)))).data for cell in reset_placements(*shape, seed, b_hn))
    distance = np.abs(one - other).max()
    assert distance <= 1e-15 if b_hn == 0 else distance > 1e-9


@repeatable
@given(B=st.integers(1, 3), D=st.integers(1, 3), H=st.integers(2, 4), T=st.integers(3, 6), seed=seeds)
def test_both_resets_differ_from_3_steps_on_and_in_the_derivative_even_at_1(B: int, D: int, H: int, T: int,
                                                                            seed: int) -> None:
    cells = reset_placements(T, B, D, H, seed, b_hn=0.0)
    xs, h_0 = normal(seed, T, B, D), normal(seed + 1, B, H)
    one, other = (nn.unroll(cell, xs, Tensor(h_0))[1].data for cell in cells)
    assert np.abs(one - other).max() > 1e-9
    starts = [leaf(np.zeros((B, H))) for _ in cells]
    for cell, start in zip(cells, starts):
        cell(xs[0], start).backward(normal(seed + 2, B, H))
    assert np.abs(starts[0].grad - starts[1].grad).max() > 1e-9  # type: ignore[operator]


@repeatable
@given(name=st.sampled_from(list(VARIANTS)), seed=seeds, row=st.integers(0, B - 1))
def test_rows_of_a_batch_do_not_influence_one_another(name: str, seed: int, row: int) -> None:
    cell = cell_of(name)
    values = values_of(cell, seed)
    results, leaves = by_library(cell, values)
    mine = {key: a[..., row:row + 1, :] if key in ("x", "h_0", "c_0") else a for key, a in values.items()}
    alone, _ = by_library(cell, mine)
    assert all(apart(y.data, z.data[..., row:row + 1, :]) <= 1e-13 for y, z in zip(alone, results, strict=True))
    weights = [np.zeros(y.shape) for y in results]
    for w in weights:
        w[..., row, :] = normal(seed, *w[..., row, :].shape)
    got = gradients_of(results, leaves, weights)
    others = [i for i in range(B) if i != row]
    for key in ("x", *(f"{s}_0" for s in cell.states)):
        assert not got[key][..., others, :].any() and got[key][..., row, :].any()


# -------------------------------------------------------------------------------------------------- a reader's own cell
class MinimalGatedUnit(nn.Cell):
    """One gate only (Zhou et al. 2016)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, **options: Any) -> None:
        super().__init__(input_size, hidden_size, bias, **options)
        self.U_f, self.W_f, self.b_f = self.gate("f")
        self.U_n, self.W_n, self.b_n = self.gate("n")

    def forward(self, x: Any, h: Tensor) -> Tensor:
        f = F.sigmoid(nn.affine(x, self.U_f, h, self.W_f, self.b_f))
        n = F.tanh(nn.affine(x, self.U_n, f * h, self.W_n, self.b_n))
        return f * n + (1 - f) * h


def np_minimal(p: Values, x: np.ndarray, state: State) -> State:
    (h,) = state
    f = sigma(pre(p, "_f", x, h))
    return (f * np.tanh(pre(p, "_n", x, f * h)) + (1 - f) * h,)


class Memory(nn.Cell):
    """A state of one part that is not called h."""

    states = ("s",)

    def __init__(self, input_size: int, hidden_size: int, **options: Any) -> None:
        super().__init__(input_size, hidden_size, **options)
        self.U, self.W, self.b = self.gate()

    def forward(self, x: Any, s: Tensor) -> Tensor:
        return F.tanh(nn.affine(x, self.U, s, self.W, self.b))


def test_a_cell_of_ones_own_is_its_equations_and_passes_gradcheck() -> None:
    cell = MinimalGatedUnit(D, H, rng=generator(1))
    values, weights = values_of(cell), weights_of(cell)
    for direction in ("forward", "backward"):
        results, leaves = by_library(cell, values, direction)
        loss = loss_by_numpy(np_minimal, weights, direction)
        assert apart(results[0].data, by_numpy(np_minimal, values, direction)[0]) <= 1e-13
        assert worst(gradients_of(results, leaves, weights), complex_steps(loss, values)) <= 1e-12
    xs, h_0 = leaf(values["x"], "x"), leaf(values["h_0"], "h_0")
    report = gradcheck(lambda *_: F.stack(nn.unroll(cell, xs, h_0)[0]), [xs, h_0, *cell.parameters()])
    assert report and report.entries == sum(a.size for a in values.values())


@pytest.mark.parametrize("initial", [0.5, "learned"])
def test_the_one_part_of_a_state_may_have_any_name(initial: Any) -> None:
    cell = Memory(D, H, initial=initial, rng=generator(1))
    plain = nn.RNNCell(D, H, initial=initial, rng=generator(1))
    assert [name for name, _ in cell.named_parameters()] == ["s_0"] * (initial == "learned") + ["U", "W", "b"]
    xs = normal(2, T, B, D)
    assert np.array_equal(nn.unroll(cell, xs)[1].data, nn.unroll(plain, xs)[1].data)
    with pytest.raises(ValueError, match=r"Memory.*got s of shape.*\(3, 5\)"):
        cell(xs[0], Tensor(np.zeros((1, H))))
    with pytest.raises(ValueError, match=r"Memory.*2 parts; expected s"):
        cell(xs[0], (Tensor(np.zeros((B, H))), Tensor(np.zeros((B, H)))))


# ------------------------------------------------------------------------------------------------------------ bad input
@every_variant
def test_a_state_that_does_not_fit_is_refused_and_never_broadcast(name: str) -> None:
    cell, x = cell_of(name), normal(2, B, D)
    good = [Tensor(normal(3, B, H)) for _ in cell.states]
    for part, shape in ((k, s) for k in range(len(good)) for s in ((1, H), (B, 1), (H,), (), (1, B, H), (B + 1, H))):
        parts = [*good]
        parts[part] = Tensor(np.zeros(shape))
        with scope(t=3), pytest.raises(ValueError) as caught:
            cell(x, tuple(parts) if len(parts) > 1 else parts[0])
        assert f"{cell.states[part]} of shape {shape}" in str(caught.value)
        assert "(3, 5)" in str(caught.value) and "t=3" in str(caught.value)
    state = tuple(good) if len(good) > 1 else good[0]
    for wrong in ((*good, good[0]), (), (good[0],) if len(good) > 1 else tuple(good), [*good, good[0]], None):
        with scope(t=3), pytest.raises((ValueError, TypeError), match=type(cell).__name__):
            cell(x, wrong)
    for x_wrong in (normal(1, B, D + 1), normal(1, D), normal(1, T, B, D), np.zeros((B, D), int), Tensor(np.zeros(B))):
        with scope(t=3), pytest.raises(ValueError, match=r"x has shape.*t=3.*\(B, 2\)"):
            cell(x_wrong, state)
    for ids in ([0, 1, D], [0, -1, 1]):
        with scope(t=3), pytest.raises(IndexError, match=r"2 rows of U.*t=3"):
            cell(np.array(ids), state)


def test_the_number_of_parts_of_a_state_is_named() -> None:
    h, x = Tensor(np.zeros((B, H))), normal(1, B, D)
    with pytest.raises(ValueError, match=r"LSTMCell: got a state of 1 parts; expected the tuple \(h, c\)"):
        cell_of("lstm")(x, h)
    with pytest.raises(ValueError, match=r"LSTMCell: got a state of 3 parts; expected the tuple \(h, c\)"):
        cell_of("lstm")(x, (h, h, h))
    with pytest.raises(ValueError, match=r"GRUCell: got a state of 2 parts; expected h"):
        cell_of("gru after z")(x, (h, h))


@pytest.mark.parametrize(("made", "error", "told"), [
    (lambda rng: nn.RNNCell(D, H, nonlinearity="relux", rng=rng), ValueError, "relux.*tanh, sigmoid, relu"),
    (lambda rng: nn.RNNCell(D, H, initial="zeros", rng=rng), ValueError, "'zeros'.*a number or 'learned'"),
    (lambda rng: nn.GRUCell(D, H, initial=None, rng=rng), TypeError, "initial None.*a number"),
    (lambda rng: nn.LSTMCell(D, H, initial=np.ones(H), rng=rng), TypeError, r"\[1\., 1\..*a number"),
    (lambda rng: nn.GRUCell(D, H, reset="during", rng=rng), ValueError, "during.*'after', 'before' or None"),
    (lambda rng: nn.GRUCell(D, H, reset=True, rng=rng), ValueError, "True.*'after', 'before' or None"),
    (lambda rng: nn.GRUCell(D, H, update="r", rng=rng), ValueError, "'r'.*'z'.*'u'"),
    (lambda rng: nn.GRUCell(D, H, update=None, rng=rng), ValueError, "None.*'z'.*'u'"),
    (lambda rng: nn.LSTMCell(D, H, False, forget_bias=1.0, rng=rng), ValueError, r"forget_bias 1\.0.*no bias"),
    (lambda rng: nn.LSTMCell(D, H, forget_bias=np.ones(2), rng=rng), TypeError, "forget_bias.*a number"),
    (lambda rng: nn.LSTMCell(D, H, peephole=True, rng=rng), TypeError, "peephole"),
    (lambda rng: nn.GRUCell(D, H, nonlinearity="tanh", rng=rng), TypeError, "nonlinearity"),
    (lambda rng: nn.RNNCell(D, H, reset="after", rng=rng), TypeError, "reset"),
    (lambda rng: nn.RNNCell(D, H), TypeError, "rng"),
    (lambda rng: nn.RNNCell(D, H, rng=1), TypeError, "rng.*got 1"),
    (lambda rng: nn.LSTMCell(0, H, rng=rng), ValueError, "input_size.*0"),
    (lambda rng: nn.GRUCell(D, 2.0, rng=rng), TypeError, r"hidden_size.*2\.0"),
])
def test_an_unknown_option_is_refused_with_what_was_given(made: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        made(generator(1))


def test_a_refused_option_draws_nothing_from_the_generator() -> None:
    rng = generator(1)
    for kind, options in ((nn.RNNCell, {"nonlinearity": "relux"}), (nn.GRUCell, {"reset": "during"}),
                          (nn.GRUCell, {"update": "x"}), (nn.LSTMCell, {"bias": False, "forget_bias": 1.0}),
                          (nn.RNNCell, {"initial": "ones"})):
        with pytest.raises(ValueError):
            kind(D, H, rng=rng, **options)
    assert rng.bit_generator.state == generator(1).bit_generator.state


class Returns(nn.Cell):
    """A cell whose forward is given."""

    def __init__(self, forward: Any, states: tuple[str, ...] = ("h",)) -> None:
        self.states = states
        super().__init__(D, H, rng=generator(1))
        self.forward = forward  # type: ignore[method-assign]


@pytest.mark.parametrize(("forward", "error", "told"), [
    (lambda x, h: None, TypeError, "NoneType"),
    (lambda x, h: h.data + 1.0, TypeError, "ndarray"),
    (lambda x, h: 0.0, TypeError, "float"),
    (lambda x, h: [h], TypeError, "list"),
    (lambda x, h: h[:1], ValueError, r"h of shape \(1, 5\); expected \(3, 5\)"),
    (lambda x, h: h.sum(0), ValueError, r"h of shape \(5,\); expected \(3, 5\)"),
    (lambda x, h: h @ h.T, ValueError, r"h of shape \(3, 3\); expected \(3, 5\)"),
    (lambda x, h: (h, h), ValueError, "2 parts; expected h"),
    (lambda x, h: (h,), ValueError, "1 parts; expected h"),
])
@pytest.mark.parametrize("lengths", [None, [4, 1, 2]])
def test_a_forward_that_returns_no_state_is_told_so_with_the_step(forward: Any, error: Any, told: str,
                                                                  lengths: Any) -> None:
    with pytest.raises(error, match=rf"Returns.*t=1.*forward returned.*{told}"):
        nn.unroll(Returns(forward), normal(2, T, B, D), Tensor(normal(3, B, H)), lengths=lengths)


@pytest.mark.parametrize(("forward", "error", "told"), [
    (lambda x, s: s[0], ValueError, r"1 parts; expected the tuple \(h, c\)"),
    (lambda x, s: [s[0], s[1]], TypeError, "list"),
    (lambda x, s: (s[0], s[1], s[1]), ValueError, r"3 parts; expected the tuple \(h, c\)"),
    (lambda x, s: (s[0], s[1][:, :2]), ValueError, r"c of shape \(3, 2\)"),
    (lambda x, s: (s[0], s[1].data), TypeError, "ndarray"),
])
def test_a_forward_that_returns_half_a_state_is_told_which(forward: Any, error: Any, told: str) -> None:
    with pytest.raises(error, match=rf"Returns.*forward returned.*{told}"):
        nn.unroll(Returns(forward, ("h", "c")), normal(2, T, B, D))


def test_a_cell_without_forward_says_so() -> None:
    with pytest.raises(TypeError, match="Cell defines no forward"):
        nn.Cell(D, H, rng=generator(1))(normal(1, B, D), Tensor(np.zeros((B, H))))


# ----------------------------------------------------------------------------------------------------- the tests notice
def mutate(monkeypatch: pytest.MonkeyPatch, function: Any, old: str, new: str) -> None:
    """Let a function of the library read `new` where its source has `old`, until the test is over."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) >= 1, f"{function.__name__} has no {old!r}"
    made: dict[str, Any] = {}
    code = "from __future__ import annotations\n" + source.replace(old, new, 1)
    exec(compile(code, function.__code__.co_filename, "exec"), dict(function.__globals__), made)
    monkeypatch.setattr(function, "__code__", made[function.__name__].__code__)


E = "(1 + 1e-6)"
MUTANTS: list[tuple[str, Any, str, str]] = [
    ("rnn tanh", nn.RNNCell.forward, "](z)", f"](z * {E})"),
    ("rnn relu", nn.RNNCell.forward, "](z)", f"](z * {E})"),
    ("rnn sigmoid", nn.RNNCell.forward, "[self.nonlinearity]", "['tanh']"),
    ("rnn tanh", nn.affine, "h @ W", f"h @ W * {E}"),
    ("rnn tanh", nn.affine, "h @ W", "h @ W.T"),
    ("rnn tanh", nn.affine, "z + b", f"z + b * {E}"),
    ("lstm", nn.LSTMCell.forward, "f * c +", f"f * c * {E} +"),
    ("lstm", nn.LSTMCell.forward, "f * c + i * candidate", "i * c + f * candidate"),
    ("lstm", nn.LSTMCell.forward, "i * candidate", "(1 - f) * candidate"),
    ("lstm", nn.LSTMCell.forward, "o * tanh(c)", "o * c"),
    ("lstm", nn.LSTMCell.forward, "o * tanh(c)", "o * tanh(state[1])"),
    ("lstm", nn.LSTMCell.forward, "sigmoid(z_o)", "sigmoid(z_i)"),
    ("lstm", nn.LSTMCell.forward, "h, self.W_c", "c, self.W_c"),
    ("lstm", nn.LSTMCell.forward, "f * c +", "f * c.detach() +"),
    ("lstm with peepholes", nn.LSTMCell.forward, "self.p_o * c", "self.p_o * state[1]"),
    ("lstm with peepholes", nn.LSTMCell.forward, "self.p_i * c", f"self.p_i * c * {E}"),
    ("gru after z", nn.GRUCell.forward, "(1 - z) * n + z * h", "z * n + (1 - z) * h"),
    ("gru before z", nn.GRUCell.forward, "z * h", f"z * h * {E}"),
    ("gru None u", nn.GRUCell.forward, "(1 - u) * h", f"(1 - u) * h * {E}"),
    ("gru before u", nn.GRUCell.candidate, "r * h", f"r * h * {E}"),
    ("gru before u", nn.GRUCell.candidate, "r * h", "h"),
    ("gru after u", nn.GRUCell.candidate, "r * remembered", "remembered"),
    ("gru after z", nn.GRUCell.candidate, "remembered + self.b_hn", "remembered + self.b_n"),
    ("gru after z", nn.GRUCell.candidate, "remembered + self.b_hn", f"remembered + self.b_hn * {E}"),
    ("gru after z", nn.GRUCell.candidate, "h @ self.W_n", "h.detach() @ self.W_n"),
]


@pytest.mark.parametrize(("name", "function", "old", "new"), MUTANTS)
def test_the_comparison_with_the_equations_notices(monkeypatch: pytest.MonkeyPatch, name: str, function: Any, old: str,
                                                   new: str) -> None:
    assert max(distances(name)) <= 1e-12
    mutate(monkeypatch, function, old, new)
    assert max(distances(name)) > 1e-9
