"""Weights by PyTorch's names and in files; equations of cells; traces. T time, B batch, D input, H hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import apart, generator, normal

from tinygrad_rnn import Tensor, nn, no_grad, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.trace import trace
from tinygrad_rnn.weights import from_pytorch, load, names, save, to_pytorch

T, B, D, H = 4, 3, 5, 2
LAYERS = {
    "RNN": [{}, {"num_layers": 3, "bidirectional": True}, {"nonlinearity": "relu"}, {"bias": False}],
    "LSTM": [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}],
    "GRU": [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}],
}
CASES = [(kind, settings) for kind, all_settings in LAYERS.items() for settings in all_settings]


class Tagger(nn.Module):
    """Ids to classes, with a module of every kind that has weights."""

    def __init__(self, update: Any = "z", seed: int = 0) -> None:
        rng = generator(seed)
        self.embedding = nn.Embedding(7, D, rng=rng)
        self.layers = nn.GRU(D, H, 2, bidirectional=True, update=update, rng=rng)
        self.heads = [nn.Linear(2 * H, 3, rng=rng), nn.Linear(3, 2, bias=False, rng=rng)]

    def forward(self, ids: np.ndarray) -> Tensor:
        output, _ = self.layers(self.embedding(ids))
        logits: Tensor = self.heads[1](self.heads[0](output))
        return logits


def layer_of(kind: str, settings: dict[str, Any], seed: int = 0) -> Any:
    return getattr(nn, kind)(D, H, rng=generator(seed), **settings)


def gates_of(state: dict[str, np.ndarray], name: str, order: str) -> dict[str, np.ndarray]:
    """PyTorch's stacked tensor taken apart, by the order that its documentation gives."""
    return dict(zip(order, np.split(state[name], len(order))))


# --------------------------------------------------------------------------------------------------- PyTorch's names
def test_an_lstm_is_written_in_the_order_i_f_g_o_and_a_gru_in_r_z_n_transposed() -> None:
    lstm, gru = nn.LSTM(D, H, rng=generator(0)), nn.GRU(D, H, rng=generator(1))
    for layer, order, ours in ((lstm, "ifgo", "ifco"), (gru, "rzn", "rzn")):
        state, cell = to_pytorch(layer), layer.cells["l0"]
        assert list(state) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"] or set(state) == {
            "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
        for symbol, name in (("U", "weight_ih_l0"), ("W", "weight_hh_l0"), ("b", "bias_ih_l0")):
            for theirs, gate in zip(order, ours):
                part = gates_of(state, name, order)[theirs]
                np.testing.assert_array_equal(part, getattr(cell, f"{symbol}_{gate}").data.T)
    assert not to_pytorch(lstm)["bias_hh_l0"].any()
    second = gates_of(to_pytorch(gru), "bias_hh_l0", "rzn")
    assert not second["r"].any() and not second["z"].any()
    np.testing.assert_array_equal(second["n"], gru.cells["l0"].b_hn.data)  # type: ignore[attr-defined]


def test_two_biases_are_added_on_the_way_in_but_those_of_a_grus_candidate_stay_apart() -> None:
    state = {"weight_ih": normal(1, 3 * H, D), "weight_hh": normal(2, 3 * H, H), "bias_ih": normal(3, 3 * H),
             "bias_hh": normal(4, 3 * H)}
    gru = nn.GRUCell(D, H, rng=generator(0))
    from_pytorch(gru, state)
    both = state["bias_ih"] + state["bias_hh"]
    assert gru.b_r is not None and gru.b_n is not None and gru.b_hn is not None and gru.b_z is not None
    np.testing.assert_array_equal(gru.b_r.data, both[:H])
    np.testing.assert_array_equal(gru.b_z.data, both[H:2 * H])
    np.testing.assert_array_equal(gru.b_n.data, state["bias_ih"][2 * H:])
    np.testing.assert_array_equal(gru.b_hn.data, state["bias_hh"][2 * H:])
    np.testing.assert_array_equal(gru.W_n.data, state["weight_hh"][2 * H:].T)


def test_an_update_gate_that_weighs_the_new_state_is_negated_for_pytorch_and_back() -> None:
    new, old = nn.GRU(D, H, update="u", rng=generator(0)), nn.GRU(D, H, rng=generator(5))
    from_pytorch(old, to_pytorch(new))
    np.testing.assert_array_equal(old.cells["l0"].W_z.data, -new.cells["l0"].W_u.data)  # type: ignore[attr-defined]
    xs, h_0 = normal(1, T, B, D), normal(2, 1, B, H)
    assert apart(old(xs, h_0)[0].data, new(xs, h_0)[0].data) <= 1e-12


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_moved_to_pytorch_and_back_every_bit_is_the_same(kind: str, settings: dict[str, Any]) -> None:
    here, there = layer_of(kind, settings), layer_of(kind, settings, seed=9)
    before = here.state_dict()
    from_pytorch(there, to_pytorch(here))
    assert {k: v.tobytes() for k, v in there.state_dict().items()} == {k: v.tobytes() for k, v in before.items()}


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_pytorch_takes_the_weights_and_gives_the_same_outputs_states_and_gradients(
        torch: Any, kind: str, settings: dict[str, Any]) -> None:
    ours, theirs = layer_of(kind, settings), getattr(torch.nn, kind)(D, H, **settings).double()
    theirs.load_state_dict({name: torch.tensor(array) for name, array in to_pytorch(ours).items()})
    count = len(ours.cells)
    xs, first = normal(1, T, B, D), [normal(2 + i, count, B, H) for i in range(1 + (kind == "LSTM"))]
    x, state = Tensor(xs, requires_grad=True), tuple(Tensor(s, requires_grad=True) for s in first)
    x_t, state_t = torch.tensor(xs, requires_grad=True), tuple(torch.tensor(s, requires_grad=True) for s in first)
    output, last = ours(x, state if len(state) > 1 else state[0])
    output_t, last_t = theirs(x_t, state_t if len(state) > 1 else state_t[0])
    weights = [normal(7, *output.shape), *(normal(8 + i, count, B, H) for i in range(len(state)))]
    results = [output, *(last if isinstance(last, tuple) else (last,))]
    results_t = [output_t, *(last_t if isinstance(last_t, tuple) else (last_t,))]
    sum((y * r).sum() for y, r in zip(results, weights)).backward()  # type: ignore[union-attr]
    sum((y * torch.tensor(r)).sum() for y, r in zip(results_t, weights)).backward()
    for got, expected in zip(results, results_t, strict=True):
        assert apart(got.data, expected.detach().numpy()) <= 1e-12
    for leaf, leaf_t in zip((x, *state), (x_t, *state_t), strict=True):
        assert apart(leaf.grad, leaf_t.grad.numpy()) <= 1e-12
    mine = layer_of(kind, settings, seed=3)  # the gradients, moved as weights are, must be PyTorch's
    for parameter, of in zip(mine.parameters(), ours.parameters(), strict=True):
        parameter.data = of.grad
    for name, array in to_pytorch(mine).items():
        theirs_grad = dict(theirs.named_parameters())[name].grad.numpy()
        if "bias_hh" in name:
            array = theirs_grad if kind != "GRU" else np.concatenate([theirs_grad[:2 * H], array[2 * H:]])
        assert apart(array, theirs_grad) <= 1e-12, name


def test_a_whole_model_has_pytorchs_names_and_results(torch: Any) -> None:
    class Theirs(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.layers = torch.nn.Embedding(7, D), torch.nn.GRU(D, H, 2, bidirectional=True)
            self.heads = torch.nn.ModuleList([torch.nn.Linear(2 * H, 3), torch.nn.Linear(3, 2, bias=False)])

    theirs, ours = Theirs().double(), Tagger()
    from_pytorch(ours, theirs.state_dict())
    ids = generator(0).integers(0, 7, (T, B))
    expected = theirs.heads[1](theirs.heads[0](theirs.layers(theirs.embedding(torch.tensor(ids)))[0]))
    assert apart(ours(ids).data, expected.detach().numpy()) <= 1e-12
    theirs.load_state_dict({name: torch.tensor(array) for name, array in to_pytorch(ours).items()})


def test_everything_that_does_not_fit_is_named_in_one_message_and_nothing_changes() -> None:
    model = Tagger()
    before, state = model.state_dict(), to_pytorch(model)
    wrong = {name: array for name, array in state.items() if name not in ("embedding.weight", "heads.0.bias")}
    wrong |= {"layers.weight_ih_l0": state["layers.weight_ih_l0"].T, "layers.weight_ih_l9": np.zeros(1)}
    with pytest.raises(ValueError, match="from_pytorch into Tagger") as caught:
        from_pytorch(model, wrong)
    for part in ("missing embedding.weight", "missing heads.0.bias", "unknown layers.weight_ih_l9",
                 "layers.weight_ih_l0 has shape (5, 6), expected (6, 5)"):
        assert part in str(caught.value)
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())


@pytest.mark.parametrize(("layer", "parameter"), [
    (nn.GRU(D, H, reset="before", rng=generator(0)), "cells.l0.W_n"),
    (nn.GRU(D, H, reset=None, rng=generator(0)), "cells.l0.U_z"),
    (nn.LSTM(D, H, peepholes=True, rng=generator(0)), "cells.l0.p_f"),
    (nn.RNN(D, H, nonlinearity="sigmoid", rng=generator(0)), "cells.l0.b"),
    (nn.RNN(D, H, initial="learned", rng=generator(0)), "cells.l0.h_0"),
])
def test_what_pytorch_has_no_place_for_is_refused_by_name(layer: nn.Recurrent, parameter: str) -> None:
    with pytest.raises(ValueError, match=f"PyTorch has no place for .*{parameter}"):
        to_pytorch(layer)
    with pytest.raises(ValueError, match="PyTorch has no place"):
        from_pytorch(layer, {})


# ------------------------------------------------------------------------------------------------------------- files
@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_file_gives_back_every_bit_and_holds_no_pickle(kind: str, tmp_path: Path) -> None:
    if kind == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is an optional extra")
    model = Tagger()
    for state in (model.state_dict(), to_pytorch(model)):
        path = save(tmp_path / f"model.{kind}", state)
        again = load(path)
        assert {k: v.tobytes() for k, v in again.items()} == {k: v.tobytes() for k, v in state.items()}
        assert all(again[k].shape == v.shape and again[k].dtype == v.dtype for k, v in state.items())
        assert b"pickle" not in path.read_bytes() and b"cnumpy" not in path.read_bytes()


def test_safetensors_files_go_both_ways_with_pytorch(torch: Any, tmp_path: Path) -> None:
    theirs = pytest.importorskip("safetensors.torch", reason="safetensors is an optional extra")
    state = to_pytorch(Tagger())
    read = theirs.load_file(save(tmp_path / "ours.safetensors", state))
    assert all(np.array_equal(read[name].numpy(), array) for name, array in state.items())
    theirs.save_file(read, tmp_path / "theirs.safetensors")
    assert all(np.array_equal(array, state[name]) for name, array in load(tmp_path / "theirs.safetensors").items())


def test_files_of_other_kinds_and_with_other_contents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends with \.npz or \.safetensors"):
        save(tmp_path / "model.pt", {})
    (tmp_path / "text.npz").write_text("no arrays")
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], object))
    for name in ("text.npz", "pickled.npz", "model.pt"):
        with pytest.raises(ValueError, match=name):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.npz")


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_save_that_fails_leaves_the_file_that_was_there(kind: str, tmp_path: Path) -> None:
    if kind == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is an optional extra")
    path = save(tmp_path / f"model.{kind}", {"a": np.ones(2)})
    for wrong in ({"a": np.ones(2), "b": np.array([None])}, {"file": np.ones(2)}):
        with pytest.raises(ValueError, match=r"b of object|file cannot be"):
            save(path, wrong)
        np.testing.assert_array_equal(load(path)["a"], np.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_parameter_held_twice_is_one_on_the_way_in_and_must_not_differ() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            self.one = self.other = nn.Linear(3, 2, rng=generator(0))

    state = to_pytorch(Tied())
    assert set(state) == {"one.weight", "one.bias", "other.weight", "other.bias"}
    from_pytorch(Tied(), state)
    with pytest.raises(ValueError, match="one parameter"):
        from_pytorch(Tied(), state | {"other.bias": state["other.bias"] + 1})


def test_names_do_not_depend_on_what_a_parameter_is_called_and_scalars_have_them_too() -> None:
    embedding = nn.Embedding(7, 3, rng=generator(0))
    embedding.M.name = "E_w"
    np.testing.assert_array_equal(to_pytorch(embedding)["weight"], embedding.M.data)

    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.scale = nn.Parameter(2.0)

    assert "scale" in str(names(Scaled())) and Scaled().scale.name == "scale"


# ------------------------------------------------------------------------------------------------------- the table
def test_one_table_has_the_names_of_all_the_notes_and_of_pytorch() -> None:
    assert str(names(nn.RNN(4, 3, rng=generator(0)))).splitlines()[2:] == [
        "  cells.l0.U  4 × 3  U       W^(hx)  W_xh    weight_ih_l0",
        "  cells.l0.W  3 × 3  W       W^(hh)  W_hh    weight_hh_l0",
        "  cells.l0.b      3  b               b_h     bias_ih_l0 + bias_hh_l0"]
    text = str(names(nn.LSTMCell(4, 3, rng=generator(0))))
    assert "W_f        3 × 3          W_f  W_fh    weight_hh[3:6]" in text
    assert "U_c        4 × 3          U_c  W_cx    weight_ih[6:9]" in text
    text = str(names(nn.GRUCell(4, 3, update="u", rng=generator(0))))
    assert "W_uc    -weight_hh[3:6]" in text and "W_cc    weight_hh[6:9]" in text and "bias_hh[6:9]" in text
    text = str(names(nn.RNN(4, 3, bidirectional=True, rng=generator(0))))
    assert "W'" in text and "weight_hh_l0_reverse" in text


# --------------------------------------------------------------------------------------------------------- equations
def test_the_equations_of_every_cell_are_those_of_the_notes() -> None:
    rng = generator(0)
    assert nn.RNNCell(D, H, rng=rng).equations() == "z_t = U x_t + W h_{t-1} + b\nh_t = tanh(z_t)"
    assert nn.LSTMCell(D, H, rng=rng).equations().splitlines() == [
        "f_t = σ(U_f x_t + W_f h_{t-1} + b_f)", "i_t = σ(U_i x_t + W_i h_{t-1} + b_i)",
        "c̃_t = tanh(U_c x_t + W_c h_{t-1} + b_c)", "c_t = f_t∘c_{t-1} + i_t∘c̃_t",
        "o_t = σ(U_o x_t + W_o h_{t-1} + b_o)", "h_t = o_t∘tanh(c_t)"]
    assert "o_t = σ(U_o x_t + W_o h_{t-1} + b_o + p_o∘c_t)" in nn.LSTMCell(D, H, peepholes=True, rng=rng).equations()
    assert nn.GRUCell(D, H, reset=None, update="u", rng=rng).equations().splitlines() == [
        "n_t = tanh(U_n x_t + W_n h_{t-1} + b_n)", "u_t = σ(U_u x_t + W_u h_{t-1} + b_u)",
        "h_t = u_t∘n_t + (1 - u_t)∘h_{t-1}"]
    before = nn.GRUCell(D, H, reset="before", rng=rng).equations()
    assert "n_t = tanh(U_n x_t + W_n (r_t∘h_{t-1}) + b_n)" in before
    assert "h_t = (1 - z_t)∘n_t + z_t∘h_{t-1}" in before


def test_the_equations_in_pytorchs_notation_are_those_of_its_documentation() -> None:
    rng = generator(0)
    assert nn.RNNCell(D, H, rng=rng).equations("pytorch").splitlines()[0] == (
        "z_t = W_ih x_t + W_hh h_{t-1} + b_ih + b_hh")
    lstm = nn.LSTMCell(D, H, rng=rng).equations("pytorch")
    assert "g_t = tanh(W_ig x_t + W_hg h_{t-1} + b_ig + b_hg)" in lstm and "c_t = f_t∘c_{t-1} + i_t∘g_t" in lstm
    gru = nn.GRUCell(D, H, rng=rng).equations("pytorch")
    assert "n_t = tanh(W_in x_t + b_in + r_t∘(W_hn h_{t-1} + b_hn))" in gru
    assert "z_t = σ(W_iz x_t + W_hz h_{t-1} + b_iz + b_hz)" in gru


def test_a_readers_own_cell_writes_the_equations_that_it_computes() -> None:
    class Own(nn.Cell):
        def __init__(self, *sizes: int, **options: Any) -> None:
            super().__init__(*sizes, **options)
            self.U, self.W, self.b = self.gate()

        def forward(self, x: Any, h: Tensor) -> Tensor:
            return (2 * F.relu(nn.affine(x, self.U, F.exp(h), self.W, None)) / (h - self.b - 1)).named("h")

    assert Own(D, H, rng=generator(0)).equations().splitlines() == [
        "z_t = U x_t + W exp(h_{t-1})", "h_t = (2∘relu(z_t)) / (h_{t-1} - b - 1)"]


def test_equations_refuse_an_unknown_notation_and_a_step_that_is_not_recorded() -> None:
    cell = nn.RNNCell(D, H, rng=generator(0))
    with pytest.raises(ValueError, match="notation 'keras'"):
        cell.equations("keras")  # type: ignore[arg-type]
    with no_grad(), pytest.raises(RuntimeError, match="no_grad"):
        cell.equations()


# ------------------------------------------------------------------------------------------------------------- traces
def test_a_trace_holds_every_gate_and_state_of_every_step() -> None:
    xs, h_0, c_0 = normal(1, T, B, D), normal(2, 1, B, H), normal(3, 1, B, H)
    layer = nn.LSTM(D, H, rng=generator(0))
    found = trace(layer(xs, (h_0, c_0))[0])
    p = {name.removeprefix("cells.l0."): array for name, array in layer.state_dict().items()}
    h, c = h_0[0], c_0[0]
    for t in range(1, T + 1):
        z = {g: xs[t - 1] @ p[f"U_{g}"] + h @ p[f"W_{g}"] + p[f"b_{g}"] for g in "fioc"}
        f, i, o = (1 / (1 + np.exp(-z[g])) for g in "fio")
        c = f * c + i * np.tanh(z["c"])
        h = o * np.tanh(c)
        for name, expected in (("f", f), ("i", i), ("o", o), ("c̃", np.tanh(z["c"])), ("c", c), ("h", h)):
            assert apart(found[name][t], expected) <= 1e-12
    assert list(found["f"]) == [1, 2, 3, 4] and list(found["h"]) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(found["h"][0], h_0[0])


def test_a_trace_tells_recurrences_apart_and_says_which_there_are() -> None:
    output, _ = nn.GRU(D, H, 2, bidirectional=True, rng=generator(0))(normal(1, T, B, D), lengths=[4, 2, 3])
    forward, backward = (trace(output, layer=1, direction=way) for way in ("forward", "backward"))
    assert list(forward["h"]) == [0, 1, 2, 3, 4] and list(backward["h"]) == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(np.where([[True], [False], [True]], forward["h"][3], 0), output.data[2, :, :H])
    np.testing.assert_array_equal(forward["h"][4][1], forward["h"][2][1])  # held where the row is over
    with pytest.raises(ValueError, match=r"4 of 4.*layer=1, direction='backward'"):
        trace(output)
    with pytest.raises(ValueError, match="0 of 4"):
        trace(output, layer=7)


def test_a_hand_written_loop_is_traced_too() -> None:
    w, h = Tensor(0.2, requires_grad=True), Tensor(0.9)
    for t in range(1, 4):
        with scope(t=t):
            h = (w * h).named("h")
    assert {t: round(float(x), 9) for t, x in trace(h)["h"].items()} == {1: 0.18, 2: 0.036, 3: 0.0072}
