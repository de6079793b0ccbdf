"""What cells, layers and modules promise: the equations of the notes, by known answers and by programs written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import FIXTURES, apart, complex_step, generator, leaf, normal

from tinygrad_rnn import Tensor, nn, no_grad, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.sweep import order, sweep

T, B, D, H = 5, 3, 4, 6


def cell_of(**settings: Any) -> nn.RNNCell:
    return nn.RNNCell(D, H, rng=generator(1), **settings)


def by_numpy(values: dict[str, np.ndarray], xs: np.ndarray, h: np.ndarray, phi: Any = np.tanh) -> np.ndarray:
    """h_t = φ(x_t U + h_{t-1} W + b), written out with loops over the elements: sums and products of numbers."""
    outputs = []
    for x in xs:
        z = np.zeros((len(x), values["W"].shape[0]))
        for n, k in np.ndindex(z.shape):
            z[n, k] = sum(x[n, i] * values["U"][i, k] for i in range(x.shape[1]))
            z[n, k] += sum(h[n, j] * values["W"][j, k] for j in range(h.shape[1]))
            z[n, k] += values["b"][k] if "b" in values else 0.0
        h = phi(z)
        outputs.append(h)
    return np.stack(outputs)


def loss_of(outputs: list[Tensor], weights: np.ndarray) -> Tensor:
    return (F.stack(outputs) * weights).sum()


# -------------------------------------------------------------------------------------------------------- known answers
def test_the_cell_has_the_outputs_and_every_gradient_of_pytorch() -> None:
    with np.load(FIXTURES / "rnn.npz") as archive:
        known = dict(archive)
    cell = cell_of()
    cell.load_state_dict({"U": known["weight_ih"].T, "W": known["weight_hh"].T,
                          "b": known["bias_ih"] + known["bias_hh"]})
    xs, h_0 = leaf(known["x"]), leaf(known["h_0"])
    outputs, h_T = nn.unroll(cell, xs, h_0)
    assert apart(F.stack(outputs).data, known["h"]) <= 1e-12 and h_T is outputs[-1]
    loss_of(outputs, known["g"]).backward()
    for got, expected in ((xs.grad, known["d x"]), (h_0.grad, known["d h_0"]), (cell.U.grad, known["d weight_ih"].T),
                          (cell.W.grad, known["d weight_hh"].T), (cell.b.grad, known["d bias_ih"]),  # type: ignore[union-attr]
                          (cell.b.grad, known["d bias_hh"])):  # type: ignore[union-attr]
        assert apart(got, expected) <= 1e-12


@pytest.mark.parametrize("nonlinearity", ["tanh", "sigmoid"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_cell_is_its_equation_written_out(nonlinearity: str, bias: bool) -> None:
    cell = cell_of(nonlinearity=nonlinearity, bias=bias)
    assert list(cell.state_dict()) == (["U", "W", "b"] if bias else ["U", "W"])
    xs, h_0 = normal(2, T, B, D), normal(3, B, H)
    phi = np.tanh if nonlinearity == "tanh" else (lambda z: 1 / (1 + np.exp(-z)))
    outputs, _ = nn.unroll(cell, xs, Tensor(h_0))
    assert apart(F.stack(outputs).data, by_numpy(cell.state_dict(), xs, h_0, phi)) <= 1e-13


@pytest.mark.parametrize("nonlinearity", ["tanh", "sigmoid"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_gradients_of_a_cell_are_the_closed_form(nonlinearity: str, bias: bool) -> None:
    cell = cell_of(nonlinearity=nonlinearity, bias=bias)
    xs, h_0, weights = leaf(normal(2, T, B, D)), leaf(normal(3, B, H)), normal(4, T, B, H)
    outputs, _ = nn.unroll(cell, xs, h_0)
    loss_of(outputs, weights).backward()
    h = [h_0.data, *[x.data for x in outputs]]
    carry = np.zeros((B, H))
    d: dict[str, Any] = {"U": 0.0, "W": 0.0, "b": 0.0}
    dx = np.zeros((T, B, D))
    for t in range(T, 0, -1):
        slope = 1 - h[t] ** 2 if nonlinearity == "tanh" else h[t] * (1 - h[t])
        delta = (weights[t - 1] + carry) * slope
        d["U"], d["W"], d["b"] = d["U"] + xs.data[t - 1].T @ delta, d["W"] + h[t - 1].T @ delta, d["b"] + delta.sum(0)
        dx[t - 1], carry = delta @ cell.U.data.T, delta @ cell.W.data.T
    for name, parameter in cell.named_parameters():
        assert apart(parameter.grad, d[name]) <= 1e-12, name
    assert apart(xs.grad, dx) <= 1e-12 and apart(h_0.grad, carry) <= 1e-12


def test_the_smallest_worked_case_is_three_equal_shares_of_0_036() -> None:
    w, s = leaf(0.2, "w"), Tensor(0.9)
    for t in (1, 2, 3):
        with scope(t=t):
            s = w * s
    edges = sweep({s: np.array(1.0)})
    shares = {node.scope["t"]: float(d) for node, position, _, d in edges if node.inputs[position] is w}
    assert list(shares) == [3, 2, 1]
    assert list(shares.values()) == pytest.approx([0.036] * 3, rel=1e-14)
    s.backward()
    assert w.grad == pytest.approx(0.108, rel=1e-14)


def test_a_gradient_through_200_steps_is_the_complex_step_along_a_direction() -> None:
    cell = cell_of()
    xs, h_0, weights = normal(2, 200, B, D), normal(3, B, H), normal(4, 200, B, H)
    outputs, _ = nn.unroll(cell, xs, Tensor(h_0))
    loss_of(outputs, weights).backward()
    for seed, name in enumerate(cell.state_dict()):
        values = cell.state_dict()
        u = normal(seed, *values[name].shape)
        h, total = h_0.astype(complex), 0.0
        moved = {key: a + 1e-20j * u if key == name else a for key, a in values.items()}
        for x, w in zip(xs, weights):
            h = np.tanh(x @ moved["U"] + h @ moved["W"] + moved["b"])
            total = total + (w * h).sum()
        slope = (dict(cell.named_parameters())[name].grad * u).sum()
        assert slope == pytest.approx(total.imag / 1e-20, rel=1e-12)


def test_every_gradient_of_a_sequence_of_ids_is_the_complex_step() -> None:
    cell, ids, h_0, weights = cell_of(), generator(5).integers(D, size=(T, B)), normal(3, B, H), normal(4, T, B, H)
    outputs, _ = nn.unroll(cell, ids, Tensor(h_0))
    loss_of(outputs, weights).backward()
    for i, (name, parameter) in enumerate(cell.named_parameters()):
        def run(*values: Tensor) -> Tensor:
            h, losses = Tensor(h_0), []
            for t in range(T):
                h = F.tanh(Tensor(np.eye(D)[ids[t]]) @ values[0] + h @ values[1] + values[2])
                losses.append((h * weights[t]).sum())
            return F.stack(losses).sum()
        numeric = complex_step(run, list(cell.state_dict().values()), i, 1.0)
        assert apart(parameter.grad, numeric) <= 1e-12, name


# ---------------------------------------------------------------------------------------------------- inputs and states
def test_ids_and_one_hot_rows_are_the_same_input() -> None:
    ids = np.array([[0, 3, 3], [1, 0, 2], [3, 3, 0], [2, 2, 2]])
    cell, h_0 = cell_of(), normal(3, B, H)
    results = []
    for xs in (ids, np.eye(D)[ids], ids.astype(np.int8), Tensor(np.eye(D)[ids]), list(ids)):
        cell.zero_grad()
        outputs, _ = nn.unroll(cell, xs, Tensor(h_0))
        loss_of(outputs, normal(4, 4, B, H)).backward()
        results.append([F.stack(outputs).data, *[p.grad for p in cell.parameters()]])
    for other in results[1:]:
        assert all(apart(a, b) <= 1e-14 for a, b in zip(results[0], other))


def test_a_sequence_may_be_an_array_a_tensor_or_a_list() -> None:
    cell, xs = cell_of(), normal(2, T, B, D)
    expected = F.stack(nn.unroll(cell, xs)[0]).data
    for form in (Tensor(xs), leaf(xs), list(xs), tuple(xs), xs.tolist(), [Tensor(x) for x in xs],
                 [leaf(x) for x in xs]):
        assert np.array_equal(F.stack(nn.unroll(cell, form)[0]).data, expected)


@pytest.mark.parametrize(("initial", "value"), [(0.0, 0.0), (0.5, 0.5), (-1, -1.0), ("learned", 0.0)])
def test_the_initial_state_is_what_was_asked_for(initial: Any, value: float) -> None:
    cell, xs = cell_of(initial=initial), normal(2, T, B, D)
    h_0 = cell.initial_state(B)
    assert h_0.shape == (B, H) and (h_0.data == value).all() and h_0.name == "h" and h_0.scope["t"] == 0
    given = nn.unroll(cell, xs, Tensor(np.full((B, H), value)))[1]
    assert np.array_equal(nn.unroll(cell, xs)[1].data, given.data)
    assert [name for name, _ in cell.named_parameters()] == ["h_0"] * (initial == "learned") + ["U", "W", "b"]


def test_a_learned_initial_state_has_the_summed_gradient_of_a_given_one() -> None:
    cell, xs, weights = cell_of(initial="learned"), normal(2, T, B, D), normal(4, T, B, H)
    assert cell.h_0 is not None
    cell.h_0.data = normal(5, H)
    loss_of(nn.unroll(cell, xs)[0], weights).backward()
    given = leaf(np.tile(cell.h_0.data, (B, 1)))
    loss_of(nn.unroll(cell, xs, given)[0], weights).backward()
    assert apart(cell.h_0.grad, given.grad.sum(0)) <= 1e-14


def test_a_float32_cell_stays_float32() -> None:
    cell = cell_of(dtype=np.float32, initial="learned")
    _, h = nn.unroll(cell, normal(2, T, B, D).astype(np.float32))
    (h * h).sum().backward()
    assert h.dtype == np.float32 and all(p.dtype == np.float32 == p.grad.dtype for p in cell.parameters())
    ids = nn.unroll(cell_of(dtype=np.float32), np.zeros((T, B), int))[1]
    assert ids.dtype == np.float32


def test_rows_of_a_batch_do_not_influence_one_another() -> None:
    cell, xs, h_0, weights = cell_of(), normal(2, T, B, D), normal(3, B, H), normal(4, T, B, H)
    outputs, _ = nn.unroll(cell, xs, Tensor(h_0))
    loss_of(outputs, weights).backward()
    together = [p.grad for p in cell.parameters()]
    alone: list[Any] = [0.0, 0.0, 0.0]
    for n in range(B):
        cell.zero_grad()
        rows, _ = nn.unroll(cell, xs[:, n:n + 1], Tensor(h_0[n:n + 1]))
        assert apart(F.stack(rows).data, F.stack(outputs).data[:, n:n + 1]) <= 1e-14
        loss_of(rows, weights[:, n:n + 1]).backward()
        alone = [a + p.grad for a, p in zip(alone, cell.parameters())]
    assert all(apart(a, b) <= 1e-13 for a, b in zip(alone, together))
    leaf_xs = leaf(xs)
    nn.unroll(cell, leaf_xs, Tensor(h_0))[1][1].backward(normal(5, H))
    assert leaf_xs.grad is not None and leaf_xs.grad[:, 1].all() and not leaf_xs.grad[:, [0, 2]].any()


def test_no_state_sees_the_future() -> None:
    cell, xs = cell_of(), leaf(normal(2, T, B, D))
    outputs, _ = nn.unroll(cell, xs)
    outputs[2].backward(normal(5, B, H))
    assert xs.grad is not None and xs.grad[:3].all() and not xs.grad[3:].any()


def test_the_same_parameters_serve_4_steps_and_40() -> None:
    cell = cell_of()
    before = cell.state_dict()
    short, long = (nn.unroll(cell, normal(2, 40, B, D)[:steps])[0] for steps in (4, 40))
    assert (len(short), len(long)) == (4, 40)
    assert all(np.array_equal(a.data, b.data) for a, b in zip(short, long))
    assert {k: v.shape for k, v in before.items()} == {"U": (D, H), "W": (H, H), "b": (H,)}


def test_unrolling_says_where_it_is() -> None:
    cell = cell_of()
    with scope(sequence="encoder"):
        outputs, h = nn.unroll(cell, normal(2, T, B, D), layer=2, direction="backward")
    for t, state in enumerate(outputs, 1):
        assert state.scope == {"sequence": "encoder", "layer": 2, "direction": "backward", "t": t} and state.name == "h"
    assert {node.scope["t"] for node in order([h])} == set(range(1, T + 1))
    assert cell.W.scope == {}


def test_one_step_is_a_sequence_and_inputs_are_named_x_unless_they_have_a_name() -> None:
    cell, x = cell_of(), normal(2, B, D)
    outputs, h = nn.unroll(cell, x[None])
    assert outputs == [h] and apart(h.data, by_numpy(cell.state_dict(), x[None], np.zeros((B, H)))[0]) <= 1e-13
    named = Tensor(x, name="word")
    for form, name in (([x], "x"), ([named], "word"), (Tensor(x[None]), "x")):
        _, h = nn.unroll(cell, form)
        product = next(node for node in order([h]) if node.inputs[-1] is cell.U)
        assert product.inputs[0].name == name


def test_what_does_not_fit_is_refused_and_the_step_is_named() -> None:
    cell, x, h = cell_of(), normal(2, B, D), Tensor(normal(3, B, H))
    for state in (h[:1], h[:, :1], Tensor(np.zeros(H)), Tensor(np.zeros((1, B, H))), Tensor(np.zeros((B + 1, H)))):
        with scope(t=3), pytest.raises(ValueError, match=r"t=3.*got h of shape.*\(3, 6\)"):
            cell(x, state)
    for wrong in (normal(1, B, D + 1), normal(1, D), normal(1, T, B, D), np.zeros((B, D), int), Tensor(np.zeros(B))):
        with scope(t=3), pytest.raises(ValueError, match=r"x has shape.*t=3.*\(B, 4\)"):
            cell(wrong, h)
    for ids in ([0, 1, D], [0, -1, 2]):
        with scope(t=3), pytest.raises(IndexError, match=r"4 rows of U.*t=3"):
            cell(np.array(ids), h)
    xs = list(normal(2, T, B, D))
    xs[2] = normal(1, B + 1, D)
    with pytest.raises(ValueError):
        nn.unroll(cell, xs)
    xs[2] = np.full((B, D), 1)
    with pytest.raises(ValueError, match="t=3"):
        nn.unroll(cell, xs)


@pytest.mark.parametrize("empty", [[], (), np.zeros((0, B, D)), Tensor(np.zeros((0, B, D)))])
def test_a_sequence_without_steps_is_refused(empty: Any) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        nn.unroll(cell_of(), empty)


@pytest.mark.parametrize("wrong", [3.0, np.zeros(4), Tensor(np.zeros(4)), np.arange(4)])
def test_a_sequence_without_a_batch_is_refused_and_told_its_shape(wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"xs has shape .*expected \(T, B, {D}\)"):
        nn.unroll(cell_of(), wrong)


def test_a_list_of_steps_is_the_array_of_them() -> None:
    cell, x = cell_of(), normal(5, 4, B, D)
    whole, _ = nn.unroll(cell, x)
    listed, _ = nn.unroll(cell, [Tensor(step) for step in x])
    assert all(np.array_equal(a.data, b.data) for a, b in zip(whole, listed))


def test_a_cell_is_made_of_sizes_and_a_known_nonlinearity() -> None:
    for sizes, error in (((0, 3), ValueError), ((3, -1), ValueError), ((2.0, 3), TypeError), ((True, 3), TypeError),
                         (("2", 3), TypeError)):
        with pytest.raises(error, match="_size"):
            nn.RNNCell(*sizes, rng=generator(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"relux.*tanh.*sigmoid"):
        cell_of(nonlinearity="relux")
    with pytest.raises(TypeError, match="bias 'relu'"):  # by position, as a nonlinearity might be given
        nn.RNNCell(2, 3, "relu", rng=np.random.default_rng(0))  # type: ignore[arg-type]
    for error_of in (lambda: nn.Linear(0, 2, rng=generator(1)), lambda: nn.Embedding(3, 0, rng=generator(1))):
        with pytest.raises(ValueError, match="at least 1"):
            error_of()
    assert nn.RNNCell(np.int64(2), np.int32(3), rng=generator(1)).W.shape == (3, 3)  # type: ignore[arg-type]


def test_an_unknown_initial_state_is_refused_where_it_is_given() -> None:
    with pytest.raises((TypeError, ValueError), match="zeros"):
        cell_of(initial="zeros")


def test_parameters_start_where_pytorch_starts_them_and_depend_on_the_generator_alone() -> None:
    cell = nn.RNNCell(50, 64, rng=generator(1))
    for p in cell.parameters():
        assert np.abs(p.data).max() <= 1 / 8 and np.abs(p.data).max() > 0.11
        assert abs(p.data.mean()) < 0.02 or p.ndim == 1
    again, other = nn.RNNCell(50, 64, rng=generator(1)), nn.RNNCell(50, 64, rng=generator(2))
    assert all(np.array_equal(a, b) for a, b in zip(cell.state_dict().values(), again.state_dict().values()))
    assert not any(np.array_equal(a, b) for a, b in zip(cell.state_dict().values(), other.state_dict().values()))
    table = nn.Embedding(200, 50, rng=generator(1)).M.data
    assert abs(table.mean()) < 0.05 and abs(table.std() - 1) < 0.05
    assert np.abs(nn.Linear(25, 40, rng=generator(1)).V.data).max() <= 0.2


# --------------------------------------------------------------------------------------------------------------- layers
@pytest.mark.parametrize("shape", [(D,), (B, D), (T, B, D)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_its_equation(shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(D, H, bias, rng=generator(1))
    s, g = leaf(normal(2, *shape)), normal(3, *shape[:-1], H)
    q = layer(s)
    expected = np.einsum("...i,ik->...k", s.data, layer.V.data) + (layer.c.data if layer.c is not None else 0.0)
    assert apart(q.data, expected) <= 1e-14
    q.backward(g)
    assert apart(layer.V.grad, s.data.reshape(-1, D).T @ g.reshape(-1, H)) <= 1e-13
    assert apart(s.grad, g @ layer.V.data.T) <= 1e-13
    assert layer.c is None or apart(layer.c.grad, g.reshape(-1, H).sum(0)) <= 1e-13


def test_linear_takes_ids_for_one_hot_rows() -> None:
    layer, ids = nn.Linear(D, H, rng=generator(1)), np.array([[0, 3], [3, 1]])
    assert apart(layer(ids).data, layer(np.eye(D)[ids]).data) <= 1e-15
    with pytest.raises(IndexError, match="rows of V"):
        layer(np.array([D]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_the_gradient_of_an_embedding_is_the_sum_over_the_uses_of_each_row(dtype: Any) -> None:
    table, ids = nn.Embedding(300, D, rng=generator(1)), generator(2).integers(7, size=(T, B)).astype(dtype)
    x = table(ids)
    assert np.array_equal(x.data, table.M.data[ids])
    g = normal(3, T, B, D)
    x.backward(g)
    expected = np.zeros((300, D))
    np.add.at(expected, ids, g)
    assert apart(table.M.grad, expected) <= 1e-15
    assert table.M.grad is not None and not table.M.grad[7:].any()


def test_an_embedding_refuses_what_is_no_id() -> None:
    table = nn.Embedding(5, D, rng=generator(1))
    for wrong in (np.array([0.5]), np.array([True]), Tensor([1.0])):
        with pytest.raises(TypeError, match="ids"):
            table(wrong)
    for outside in (np.array([5]), np.array([-1])):
        with scope(t=2), pytest.raises(IndexError, match=r"5 rows of M.*t=2"):
            table(outside)


# -------------------------------------------------------------------------------------------------------------- modules
class Model(nn.Module):
    def __init__(self) -> None:
        rng = generator(1)
        self.embedding = nn.Embedding(7, D, rng=rng)
        self.layers = [nn.RNNCell(D, H, rng=rng), nn.RNNCell(H, H, bias=False, rng=rng)]
        self.scale = nn.Parameter(2.0)
        self.head = nn.Linear(H, 7, rng=rng)
        self.note = "no parameter"
        self.constant = Tensor([1.0])


NAMES = ["scale", "embedding.M", "layers.0.U", "layers.0.W", "layers.0.b", "layers.1.U", "layers.1.W", "head.V",
         "head.c"]


def test_parameters_come_in_the_order_of_assignment_under_the_names_of_their_places() -> None:
    model = Model()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert [p for _, p in model.named_parameters()] == model.parameters()
    assert list(model.state_dict()) == NAMES
    assert [name for name, _ in model.head.named_parameters("model.")] == ["model.V", "model.c"]


def test_modules_in_lists_and_tuples_are_found() -> None:
    for kind in (list, tuple):
        module = nn.Module()
        module.heads = kind(nn.Linear(2, 3, rng=generator(k)) for k in range(2))  # type: ignore[attr-defined]
        assert list(module.state_dict()) == ["heads.0.V", "heads.0.c", "heads.1.V", "heads.1.c"]
        assert not module.eval().heads[1].training  # type: ignore[attr-defined]


def test_a_parameter_that_is_held_twice_comes_once() -> None:
    model = Model()
    model.head.V = model.embedding.M
    model.again = model.layers[0]  # type: ignore[attr-defined]
    names = [name for name, _ in model.named_parameters()]
    assert names == [name for name in NAMES if name != "head.V"]
    assert len(set(model.parameters())) == len(model.parameters())


def test_a_tied_parameter_gets_the_gradient_of_both_uses() -> None:
    table, ids = nn.Embedding(7, D, rng=generator(1)), np.array([1, 3, 3])
    g = normal(2, 3, 7)
    (table(ids) @ table.M.T).backward(g)
    M = table.M.data
    expected = g.T @ M[ids]
    np.add.at(expected, ids, g @ M)
    assert apart(table.M.grad, expected) <= 1e-14


def test_a_state_dict_goes_round_exactly_and_shares_nothing() -> None:
    model, other = Model(), Model()
    for p in other.parameters():
        p.data = generator(9).normal(size=p.shape)
    state = model.state_dict()
    other.load_state_dict(state)
    assert all(np.array_equal(a.data, b.data) for a, b in zip(model.parameters(), other.parameters()))
    for array in state.values():
        array[...] = 0.0
    assert all(p.data.any() for p in [*model.parameters(), *other.parameters()])


def test_loading_names_everything_that_is_wrong_and_changes_nothing() -> None:
    model = Model()
    before = model.state_dict()
    state = {name: array + 1.0 for name, array in model.state_dict().items()}
    del state["head.c"], state["layers.0.U"]
    state |= {"stray": np.zeros(2), "odd": np.zeros(2), "layers.0.W": np.zeros((H, H + 1)), "scale": np.zeros(1)}
    with pytest.raises(ValueError) as caught:
        model.load_state_dict(state)
    for part in ("Model", "missing head.c", "missing layers.0.U", "unknown stray", "unknown odd",
                 "layers.0.W has shape (6, 7), expected (6, 6)", "scale has shape (1,), expected ()"):
        assert part in str(caught.value)
    assert all(np.array_equal(a, b) for a, b in zip(before.values(), model.state_dict().values()))
    with pytest.raises((ValueError, TypeError)):
        model.load_state_dict({**{k: v + 1.0 for k, v in before.items()}, "head.c": np.array(["x"] * 7)})
    assert all(np.array_equal(a, b) for a, b in zip(before.values(), model.state_dict().values()))


def test_loading_keeps_the_dtype_of_the_model_and_graphs_made_before() -> None:
    cell = nn.Linear(D, H, rng=generator(1), dtype=np.float32)
    s = np.ones((B, D), np.float32)
    q = (cell(s) * cell(s)).sum()
    q.backward()
    expected = cell.V.grad
    cell.zero_grad()
    cell.load_state_dict({name: np.zeros(a.shape) for name, a in cell.state_dict().items()})
    assert cell.V.dtype == np.float32 and not cell.V.data.any()
    q.backward()
    assert np.array_equal(cell.V.grad, expected)


def test_zero_grad_forgets_and_train_and_eval_reach_every_module() -> None:
    model = Model()
    for p in model.parameters():
        (p * 1.0).sum().backward()
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    assert model.training and model.eval() is model
    assert not any(m.training for m in (model, model.head, *model.layers))
    assert model.train() is model and model.layers[1].training


def test_a_parameter_asks_for_a_gradient_also_inside_no_grad() -> None:
    with no_grad():
        p = nn.Parameter([1.0], name="p")
    assert p.requires_grad and isinstance(p, Tensor) and p.name == "p" and type(p * 2.0) is Tensor
    with pytest.raises(TypeError, match="gradient"):
        nn.Parameter([1, 2])


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(TypeError, match="Model defines no forward"):
        Model()(1)


def test_a_sequence_in_two_calls_is_the_sequence_in_one_when_the_second_says_where_it_starts() -> None:
    cell, x = nn.RNNCell(2, 3, rng=np.random.default_rng(1)), np.random.default_rng(2).normal(size=(5, 2, 2))
    whole, _ = nn.unroll(cell, x)
    first, h = nn.unroll(cell, x[:2])
    second, _ = nn.unroll(cell, x[2:], h, start=3)
    assert all(np.array_equal(a.data, b.data) for a, b in zip([*first, *second], whole))
    assert [h.scope["t"] for h in (*first, *second)] == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"step 2 .*start=3.*detach"):
        nn.unroll(cell, x[2:], h)
    again, _ = nn.unroll(cell, x[2:], h.detach())
    assert np.array_equal(again[-1].data, whole[-1].data)
