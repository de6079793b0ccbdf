"""The wirings of recurrent networks: each is plain NumPy written out, row by row without padding; and each learns.

Symbols: T steps, B batch, D input, H hidden, V classes. What training has to beat is computed beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from tinygrad_rnn import Tensor, bptt, nn
from tinygrad_rnn import functional as F
from tinygrad_rnn.models import (
    BiRNN,
    Cloze,
    Decoder,
    EncoderDecoder,
    ManyToMany,
    ManyToOne,
    OneToMany,
    OneToOne,
    Sentiment,
)
from tinygrad_rnn.optim import Adam, clip_grad_norm_
from tinygrad_rnn.scope import current
from tinygrad_rnn.steps import recurrence_edges
from tinygrad_rnn.sweep import order
from tinygrad_rnn.text import Vocabulary, language_reference

T, B, D, H, V = 4, 3, 6, 5, 7
START, END = 2, 1
LENGTHS, TARGET_LENGTHS = [4, 2, 3], [3, 4, 1]


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def filled(model: Any, seed: int = 0) -> Any:
    """Every parameter normal, so that no h_0 and no bias is zero."""
    rng = random(seed)
    for parameter in model.parameters():
        parameter.data = rng.normal(0, 0.6, parameter.shape)
    return model


# --- In NumPy alone, one row of the batch at a time: a state is a list of arrays (H,), h first. Arrays may be complex.


def sigma(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def rnn(p: dict[str, Any], at: str, x: Any, s: list[Any]) -> list[Any]:
    return [np.tanh(x @ p[at + "U"] + s[0] @ p[at + "W"] + p[at + "b"])]


def lstm(p: dict[str, Any], at: str, x: Any, s: list[Any]) -> list[Any]:
    z = {g: x @ p[f"{at}U_{g}"] + s[0] @ p[f"{at}W_{g}"] + p[f"{at}b_{g}"] for g in "fioc"}
    c = sigma(z["f"]) * s[1] + sigma(z["i"]) * np.tanh(z["c"])
    return [sigma(z["o"]) * np.tanh(c), c]


STEPS = {nn.RNN: rnn, nn.LSTM: lstm}


def states(p: dict[str, Any], at: str, xs: Any, cell: Any, s: list[Any] | None = None) -> list[list[Any]]:
    """s_0, s_1, …; s_0 is the learned one where none is given."""
    found = [[p[at + "h_0"]] + ([p[at + "c_0"]] if cell is lstm else []) if s is None else s]
    for x in xs:
        found.append(cell(p, at, x, found[-1]))
    return found


def both(p: dict[str, Any], xs: Any, cell: Any) -> tuple[list[list[Any]], list[list[Any]]]:
    """s_0 … s_T, and s'_1 … s'_{T+1}."""
    return (states(p, "layer.cells.l0.", xs, cell),
            states(p, "layer.cells.l0_reverse.", xs[::-1], cell)[::-1])


def nats(q: Any, y: int) -> Any:
    return np.log(np.exp(q).sum()) - q[y]


def head(p: dict[str, Any], h: Any, at: str = "") -> Any:
    return h @ p[at + "head.V"] + p[at + "head.c"]


def one_to_one(p: Any, cell: Any, xs: Any, y: Any) -> list[Any]:
    return [nats(head(p, states(p, "layer.cells.l0.", xs[:1], cell)[1][0]), y[0])]


def many_to_one(p: Any, cell: Any, xs: Any, y: Any) -> list[Any]:
    return [nats(head(p, states(p, "layer.cells.l0.", xs, cell)[-1][0]), y[0])]


def many_to_one_both(p: Any, cell: Any, xs: Any, y: Any) -> list[Any]:
    ahead, back = both(p, xs, cell)
    return [nats(head(p, np.concatenate([ahead[-1][0], back[0][0]])), y[0])]


def sentiment(p: Any, cell: Any, xs: Any, y: Any) -> list[Any]:
    probability = sigma(head(p, states(p, "layer.cells.l0.", xs, cell)[-1][0])[0])
    return [-np.log(probability if y[0] % 2 else 1 - probability)]


def many_to_many(p: Any, cell: Any, xs: Any, y: Any) -> list[Any]:
    return [nats(head(p, s[0]), k) for s, k in zip(states(p, "layer.cells.l0.", xs, cell)[1:], y)]


def many_to_many_both(p: Any, cell: Any, xs: Any, y: Any) -> list[Any]:
    ahead, back = both(p, xs, cell)
    return [nats(head(p, np.concatenate([s[0], r[0]])), k) for s, r, k in zip(ahead[1:], back, y)]


def birnn(p: Any, cell: Any, xs: Any, y: Any) -> list[Any]:
    ahead, back = both(p, xs, cell)
    return [nats(head(p, s[0]) + r[0] @ p["head_reverse.V"], k) for s, r, k in zip(ahead[1:], back, y)]


def cloze(p: Any, cell: Any, xs: Any, y: Any) -> list[Any]:
    ahead, back = both(p, xs, cell)
    return [nats(head(p, s[0]) + r[0] @ p["head_reverse.V"], k) for s, r, k in zip(ahead, back[1:], y)]


def decoder(p: Any, cell: Any, s_0: list[list[Any]], y: Any) -> list[Any]:
    """Teacher forcing, through as many layers as there are states in s_0."""
    xs: Any = np.eye(V)[[START, *y[:-1]]]
    for layer, s in enumerate(s_0):
        xs = [s[0] for s in states(p, f"decoder.layer.cells.l{layer}.", xs, cell, s)[1:]]
    return [nats(head(p, h, "decoder."), k) for h, k in zip(xs, y)]


def one_to_many(p: Any, cell: Any, x: Any, y: Any) -> list[Any]:
    """Two layers: x P + p holds h of layer 0, of layer 1, then c of layer 0, of layer 1."""
    s = (x @ p["projection.V"] + p["projection.c"]).reshape(-1, 2, H)
    return decoder(p, cell, [list(s[:, layer]) for layer in range(2)], y)


def encoder_decoder(p: Any, cell: Any, xs: Any, y: Any) -> list[Any]:
    return decoder(p, cell, [states(p, "encoder.cells.l0.", xs, cell)[-1]], y)


XS = random(1).normal(size=(T, B, D))
YS = random(2).integers(V, size=(T, B))
Wiring = tuple[Callable[..., Any], Callable[..., list[Tensor]], Callable[..., list[Any]]]
WIRINGS: dict[str, Wiring] = {  # how it is made of a kind of layer; its losses; the same for one row in NumPy
    "one to one": (lambda kind, **o: OneToOne(kind(D, H, **o), V, rng=random(0)),
                   lambda m: [m.loss(XS[0], YS[0])], one_to_one),
    "many to one": (lambda kind, **o: ManyToOne(kind(D, H, **o), V, rng=random(0)),
                    lambda m: [m.loss(XS, YS[0], LENGTHS)], many_to_one),
    "many to one, both": (lambda kind, **o: ManyToOne(kind(D, H, bidirectional=True, **o), V, rng=random(0)),
                          lambda m: [m.loss(XS, YS[0], LENGTHS)], many_to_one_both),
    "sentiment": (lambda kind, **o: Sentiment(kind(D, H, **o), rng=random(0)),
                  lambda m: [m.loss(XS, YS[0] % 2, LENGTHS)], sentiment),
    "many to many": (lambda kind, **o: ManyToMany(kind(D, H, **o), V, rng=random(0)),
                     lambda m: m.losses(XS, YS, LENGTHS), many_to_many),
    "many to many, both": (lambda kind, **o: ManyToMany(kind(D, H, bidirectional=True, **o), V, rng=random(0)),
                           lambda m: m.losses(XS, YS, LENGTHS), many_to_many_both),
    "birnn": (lambda kind, **o: BiRNN(kind(D, H, bidirectional=True, **o), V, rng=random(0)),
              lambda m: m.losses(XS, YS, LENGTHS), birnn),
    "cloze": (lambda kind, **o: Cloze(kind(D, H, bidirectional=True, **o), V, rng=random(0)),
              lambda m: m.losses(XS, YS, LENGTHS), cloze),
    "one to many": (lambda kind, **o: OneToMany(kind(V, H, 2, **o), D, start=START, end=END, rng=random(0)),
                    lambda m: m.losses(XS[0], YS, LENGTHS), one_to_many),
    "encoder-decoder": (lambda kind, **o: EncoderDecoder(kind(D, H, **o), kind(V, H, **o), start=START, end=END,
                                                         rng=random(0)),
                        lambda m: m.losses(XS, YS, LENGTHS, TARGET_LENGTHS), encoder_decoder),
}
LEARNED = {"one to many": {}}  # its s_0 is given, so that there is none to learn


def rows_by_hand(name: str, p: dict[str, Any], cell: Any) -> list[Any]:
    """E_1 … E_T, each a sum over the rows that are that long; every row alone, cut to its length."""
    truth, found = WIRINGS[name][2], [0.0] * T
    for b in range(B):
        xs = XS[0, b] if name == "one to many" else XS[:LENGTHS[b], b]
        y = YS[:TARGET_LENGTHS[b] if name == "encoder-decoder" else LENGTHS[b], b]
        for t, E in enumerate(truth(p, cell, xs, y)):
            found[t] = found[t] + E
    return found


@pytest.mark.parametrize("kind", STEPS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", WIRINGS)
def test_the_losses_and_every_gradient_are_those_of_rows_without_padding_in_numpy(name: str, kind: Any) -> None:
    make, losses, _ = WIRINGS[name]
    model = filled(make(kind, rng=random(0), **LEARNED.get(name, {"initial": "learned"})))
    Es, p = losses(model), model.state_dict()
    expected = rows_by_hand(name, p, STEPS[kind])[:len(Es)]
    np.testing.assert_allclose([E.item() for E in Es], expected, rtol=1e-12)

    w = random(3).normal(size=len(Es))
    (F.stack(Es) * w).sum().backward()
    assert list(p) == [name for name, _ in model.named_parameters()]
    for key, parameter in model.named_parameters():
        gradient = np.zeros(parameter.shape)
        for index in np.ndindex(parameter.shape):
            moved = p[key].astype(complex)
            moved[index] += 1e-20j
            Es_moved = rows_by_hand(name, {**p, key: moved}, STEPS[kind])[:len(Es)]
            gradient[index] = (w * np.imag(Es_moved)).sum() / 1e-20
        if parameter.grad is None:  # a decoder that is given its state has no use for a learned one
            assert key.startswith("decoder.layer.cells") and key.endswith("_0") and not gradient.any()
        else:
            assert np.abs(parameter.grad - gradient).max() <= 1e-12 * np.abs(gradient).max(), key


@pytest.mark.parametrize("name", WIRINGS)
def test_every_loss_is_made_at_its_step(name: str) -> None:
    make, losses, _ = WIRINGS[name]
    Es = losses(make(nn.GRU, rng=random(0)))
    last = {"one to one": 1}.get(name, T)
    assert [E.scope["t"] for E in Es] == (list(range(1, T + 1)) if len(Es) > 1 else [last])
    assert all(E.name == "E" and E.shape == () for E in Es)
    assert {x.scope["t"] for x in order(Es) if x.name == "q"} == {E.scope["t"] for E in Es}


def test_cloze_reads_the_states_of_the_steps_beside_its_own() -> None:
    Es = WIRINGS["cloze"][0](nn.RNN, initial="learned", rng=random(0)).losses(XS, YS)
    for t, E in enumerate(Es, start=1):
        q = next(x for x in order([E]) if x.name == "q")
        outside = [node for node in order([q]) if "layer" not in node.scope and node.scope["t"] == t]
        read = {x.scope["t"] for node in outside for x in node.inputs if "t" in x.scope}
        assert {t - 1, t + 1} <= read <= {t - 1, t, t + 1}
        assert not recurrence_edges(outside), "what q_t reads, it does not hand on"


@pytest.mark.parametrize("name", ["many to many", "many to many, both", "birnn", "cloze"])
def test_forward_gives_the_logits_of_the_losses(name: str) -> None:
    make, losses, _ = WIRINGS[name]
    model = filled(make(nn.GRU, rng=random(0)))
    q = model(XS, LENGTHS).data
    assert q.shape == (T, B, V)
    expected = [sum(nats(q[t, b], YS[t, b]) for b in range(B) if t < LENGTHS[b]) for t in range(T)]
    np.testing.assert_allclose([E.item() for E in losses(model)], expected, rtol=1e-12)


def test_positive_is_a_probability_above_one_half() -> None:
    model = filled(Sentiment(nn.RNN(D, H, rng=random(0)), rng=random(0)), 1)
    q = model(XS, LENGTHS).data
    assert q.shape == (B,) and 0 < (q > 0).sum() < B
    np.testing.assert_array_equal(model.positive(XS, LENGTHS), 1 / (1 + np.exp(-q)) > 0.5)


def test_the_gradient_of_a_sentiment_logit_is_prediction_minus_target() -> None:
    model = filled(Sentiment(nn.LSTM(D, H, rng=random(0)), rng=random(0)))
    y = np.array([0.0, 1.0, 0.25])
    model.loss(XS, y, LENGTHS).backward()
    np.testing.assert_allclose(model.head.c.grad, [(1 / (1 + np.exp(-model(XS, LENGTHS).data)) - y).sum()], rtol=1e-12)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_two_projections_are_one_projection_of_the_concatenation(kind: Any) -> None:
    two = filled(BiRNN(kind(D, H, bidirectional=True, initial=0.5, rng=random(0)), V, rng=random(0)))
    one = ManyToMany(kind(D, H, bidirectional=True, initial=0.5, rng=random(0)), V, rng=random(0))
    p = two.state_dict()
    one.load_state_dict({**{key: a for key, a in p.items() if key.startswith("layer.")}, "head.c": p["head.c"],
                         "head.V": np.concatenate([p["head.V"], p["head_reverse.V"]])})
    a, b = two(XS, LENGTHS), one(XS, LENGTHS)
    np.testing.assert_allclose(a.data, b.data, rtol=1e-12, atol=1e-13)
    g = random(4).normal(size=a.shape)
    a.backward(g)
    b.backward(g)
    V_and_V_ = np.concatenate([two.head.V.grad, two.head_reverse.V.grad])
    assert np.abs(V_and_V_ - one.head.V.grad).max() <= 1e-12 * np.abs(V_and_V_).max()
    for ours, its in zip(two.layer.parameters(), one.layer.parameters(), strict=True):
        assert np.abs(ours.grad - its.grad).max() <= 1e-12 * np.abs(its.grad).max(), ours.name


@pytest.mark.parametrize("name", ["many to one", "many to one, both", "sentiment", "many to many, both", "cloze",
                                  "encoder-decoder"])
def test_what_stands_after_the_end_of_a_row_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, losses, _ = WIRINGS[name]
    model = filled(make(nn.LSTM, rng=random(0), initial="learned"))

    def outcome() -> list[Any]:
        model.zero_grad()
        Es = losses(model)
        F.stack(Es).sum().backward()
        return [[E.item() for E in Es], *(p.grad for p in model.parameters() if p.grad is not None)]

    expected = outcome()
    xs, ys, name_of_lengths = XS.copy(), YS.copy(), TARGET_LENGTHS if name == "encoder-decoder" else LENGTHS
    for b in range(B):
        xs[LENGTHS[b]:, b] = np.nan
        if "one" not in name and name != "sentiment":
            ys[name_of_lengths[b]:, b] = -1
    monkeypatch.setitem(globals(), "XS", xs)
    monkeypatch.setitem(globals(), "YS", ys)
    for got, its in zip(outcome(), expected, strict=True):
        np.testing.assert_array_equal(got, its)


def seen(steps: list[Tensor], x: Tensor) -> np.ndarray:
    """(T, T): does q_t change with x_k?"""
    rows = []
    for q in steps:
        x.grad = None
        q.backward(random(5).normal(size=q.shape))
        rows.append(np.abs(x.grad).sum((1, 2)) > 0 if x.grad is not None else np.zeros(T, bool))
    return np.array(rows)


def test_each_wiring_reads_the_steps_that_it_should_and_no_other() -> None:
    x = Tensor(XS, requires_grad=True)
    one_way = nn.GRU(D, H, 2, rng=random(0))
    two_ways = nn.GRU(D, H, bidirectional=True, rng=random(0))
    everything = np.ones((T, T), bool)
    np.testing.assert_array_equal(seen(ManyToMany(one_way, V, rng=random(0)).steps(x), x), np.tril(everything))
    np.testing.assert_array_equal(seen(ManyToMany(two_ways, V, rng=random(0)).steps(x), x), everything)
    np.testing.assert_array_equal(seen(BiRNN(two_ways, V, rng=random(0)).steps(x), x), everything)
    np.testing.assert_array_equal(seen(Cloze(two_ways, V, rng=random(0)).steps(x), x), ~np.eye(T, dtype=bool))


# --- Writing


def written_by_hand(p: dict[str, Any], s: list[Any], length: int, cell: Any) -> list[int]:
    symbol, found = START, []
    for _ in range(length):
        s = cell(p, "decoder.layer.cells.l0.", np.eye(V)[symbol], s)
        symbol = int(np.argmax(head(p, s[0], "decoder.")))
        if symbol == END:
            break
        found.append(symbol)
    return found


@pytest.mark.parametrize("kind", STEPS, ids=lambda kind: kind.__name__)
def test_what_is_written_is_fed_back_until_the_end_symbol_or_the_length(kind: Any) -> None:
    ended, full = 0, 0
    for seed in range(6):
        model = EncoderDecoder(kind(D, H, rng=random(0)), kind(V, H, rng=random(0)), start=START, end=END,
                               rng=random(0))
        p = filled(model, seed).state_dict()
        zero = [np.zeros(H)] * (2 if kind is nn.LSTM else 1)
        expected = [written_by_hand(p, states(p, "encoder.cells.l0.", XS[:n, b], STEPS[kind], zero)[-1], 9, STEPS[kind])
                    for b, n in enumerate(LENGTHS)]
        assert model.generate(XS, 9, LENGTHS) == expected
        ended, full = ended + sum(len(row) < 9 for row in expected), full + sum(len(row) == 9 for row in expected)
    assert ended >= 3 and full >= 3, "neither way to stop may be missing here"


def test_a_row_is_written_as_it_would_be_alone() -> None:
    model = filled(OneToMany(nn.LSTM(V, H, 2, rng=random(0)), D, start=START, end=END, rng=random(0)), 4)
    x = random(6).normal(0, 2, (8, D))
    together = model.generate(x, 6)
    assert together == [model.generate(x[b:b + 1], 6)[0] for b in range(8)]
    assert len({len(row) for row in together}) > 1


def test_writing_goes_from_step_to_step_and_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = filled(translator(layer_of(), layer_of(size=V)), 1)
    inside = []

    def spy(cell: nn.Cell, x: Any, h: Tensor, forward: Any = nn.RNNCell.forward) -> Tensor:
        inside.append((current().scope["sequence"], current().scope["t"], current().recording))
        return forward(cell, x, h)

    monkeypatch.setattr(nn.RNNCell, "forward", spy)
    written = model.generate(XS, 3)
    assert max(map(len, written)) == 3
    assert inside == [("encoder", t, False) for t in (1, 2, 3, 4)] + [("decoder", t, False) for t in (1, 2, 3)]
    model.decoder.generate(model.state(XS), 1)
    assert inside[-5:] == [("encoder", t, True) for t in (1, 2, 3, 4)] + [("decoder", 1, False)]
    model.decoder.head.c.data = 99.0 * np.eye(V)[END]
    inside.clear()
    assert model.generate(XS, 3) == [[]] * B and inside[-1] == ("decoder", 1, False)


# --- Taken apart


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_loss_of_the_decoder_is_taken_apart_into_uses_of_the_encoders_weights(kind: Any) -> None:
    model = filled(EncoderDecoder(kind(D, H, rng=random(0)), kind(V, H, rng=random(0)), start=START, end=END,
                                  rng=random(0)))
    Es = model.losses(XS, YS[:3], LENGTHS)
    W = next(p for key, p in model.encoder.named_parameters() if ".W" in key)
    explanation = bptt.explain(Es[1], W)
    assert sorted(explanation.terms) == [1, 2, 3, 4] and not explanation.explicit.any()
    assert bptt.prove(explanation)
    A = bptt.terms(Es, W)
    assert A.norms.shape == (3, 4)
    F.stack(Es).sum().backward()
    assert np.abs(A.total - W.grad).max() <= 1e-12 * np.abs(W.grad).max()
    mine = bptt.explain(Es[1], next(p for key, p in model.decoder.named_parameters() if ".W" in key))
    assert sorted(mine.terms) == [1, 2] and mine.explicit.any() and bptt.prove(mine)


@pytest.mark.parametrize("name", WIRINGS)
def test_the_losses_of_every_wiring_can_be_taken_apart_and_proved(name: str) -> None:
    make, losses, _ = WIRINGS[name]
    model = filled(make(nn.RNN, rng=random(0)))
    Es = losses(model)
    for key, parameter in model.named_parameters():
        if key.endswith((".U", ".W")):
            assert bptt.prove(bptt.explain(Es[-1] if name != "cloze" else Es[1], parameter)), key


# --- Learning. Every baseline is computed from what the model has to learn.


def fit(model: Any, examples: Iterator[tuple[Any, int]], lr: float = 1e-2) -> None:
    """Adam on the mean loss of every (losses, how many were counted)."""
    optimizer = Adam(model.parameters(), lr=lr)
    for losses, count in examples:
        optimizer.zero_grad()
        (F.stack(losses).sum() / count).backward()
        clip_grad_norm_(optimizer.parameters, 1.0)
        optimizer.step()


def majority(train: Any, test: Any) -> float:
    """How often the commonest of `train` is right on `test`."""
    values, counts = np.unique(train, return_counts=True)
    return float((np.asarray(test) == values[counts.argmax()]).mean())


def test_one_to_one_learns_exclusive_or() -> None:
    x = np.array(list(product([0.0, 1.0], repeat=2)))
    y = np.array([0, 1, 1, 0])
    model = OneToOne(nn.RNN(2, 6, rng=random(0)), 2, rng=random(0))
    fit(model, (([model.loss(x, y)], 4) for _ in range(150)), 3e-2)
    assert (model(x).data.argmax(-1) == y).mean() == 1 > majority(y, y)


def sentences() -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Ids (T, B), lengths and 'is it positive' of sentences such as 'it was not at all bad', where 'not' turns it."""
    verdicts = {"good": 1, "great": 1, "bad": 0, "dull": 0}
    found = [(f"{subject} was {no}{adverb}{verdict}".split(), int(verdicts[verdict] != bool(no)))
             for subject, no, adverb, verdict in product(["it", "the film", "the long play"], ["", "not "],
                                                         ["", "very ", "at all "], verdicts)]
    words = sorted({word for sentence, _ in found for word in sentence})
    xs = np.zeros((max(len(sentence) for sentence, _ in found), len(found)), int)
    for b, (sentence, _) in enumerate(found):
        xs[:len(sentence), b] = [words.index(word) for word in sentence]
    return xs, np.array([len(s) for s, _ in found]), np.array([y for _, y in found]), len(words)


def best_word(xs: np.ndarray, lengths: np.ndarray, y: np.ndarray, words: int) -> float:
    """The accuracy of the one word, there or not there, that tells most."""
    there = np.array([[word in xs[:n, b] for b, n in enumerate(lengths)] for word in range(words)])
    agree = (there == y).mean(1)
    return float(np.maximum(agree, 1 - agree).max())


def test_sentiment_learns_what_no_single_word_tells() -> None:
    xs, lengths, y, words = sentences()
    order = random(0).permutation(len(y))
    train, test = order[18:], order[:18]
    rng = random(1)
    model = Sentiment(nn.LSTM(words, 8, rng=rng), rng=rng)
    fit(model, (([model.loss(xs[:, train], y[train], lengths[train])], len(train)) for _ in range(120)), 3e-2)
    baseline = max(majority(y[train], y[test]), best_word(xs, lengths, y, words))
    assert baseline < 0.7 and (model.positive(xs[:, test], lengths[test]) == y[test]).mean() > 0.9


def test_many_to_one_learns_the_temporal_order_of_two_symbols() -> None:
    """Hochreiter and Schmidhuber 1997, 6a, shorter: in which order came X (4) and Y (5), among four others?"""
    rng = random(3)

    def sequences(batch: int) -> tuple[np.ndarray, np.ndarray]:
        xs, which = rng.integers(4, size=(10, batch)), rng.integers(2, size=(2, batch))
        xs[rng.integers(4, size=batch), range(batch)] = 4 + which[0]
        xs[rng.integers(5, 9, batch), range(batch)] = 4 + which[1]
        return xs, 2 * which[0] + which[1]

    model = ManyToOne(nn.LSTM(6, 12, forget_bias=1.0, rng=rng), 4, rng=rng)
    fit(model, (([model.loss(*sequences(32))], 32) for _ in range(250)), 2e-2)
    xs, y = sequences(400)
    assert (model(xs).data.argmax(-1) == y).mean() > 0.95 > 3 * majority(y, y)


def articles(before: int, after: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Windows (T, B) of the language reference around every 'a' or 'an', which is hidden, and 'is it an'."""
    text = language_reference()
    places = list(re.finditer(rf"(?s)(?<=.{{{before}}})\b(an?) (?=[a-z].{{{after - 1}}})", text))
    windows = [text[m.start() - before:m.start()] + "\0" + text[m.end():m.end() + after] for m in places]
    vocabulary = Vocabulary.of("".join(windows))
    xs = np.stack([vocabulary.encode(window) for window in windows], 1)
    return xs, np.array([m[1] == "an" for m in places]), len(vocabulary)


def test_the_article_before_a_word_is_learned_in_both_directions_and_not_in_one() -> None:
    at = 6
    xs, an, symbols = articles(at, 3)
    tags = np.zeros_like(xs)
    tags[at] = 1 + an
    cut = round(0.9 * len(an))

    def accuracy(bidirectional: bool) -> float:
        rng = random(0)
        model = ManyToMany(nn.GRU(symbols, 8, bidirectional=bidirectional, rng=rng), 3, rng=rng)
        batches = (rows for _ in range(3) for rows in np.array_split(rng.permutation(cut), cut // 32))
        fit(model, ((model.losses(xs[:, rows], tags[:, rows]), len(rows)) for rows in batches))
        return float((model(xs[:, cut:]).data[at].argmax(-1) == tags[at, cut:]).mean())

    baseline = majority(an[:cut], an[cut:])
    assert accuracy(False) < baseline + 0.05
    assert accuracy(True) > 0.95 > baseline + 0.1


def test_both_directions_leak_the_target_of_a_language_model_and_cloze_does_not() -> None:
    """E23: symbols drawn evenly cannot be foreseen; better than V is only who has seen them, all but the last of T."""
    V, T = 4, 6

    def perplexity(model: Any, ahead: int, rng: np.random.Generator) -> float:
        def pairs(batch: int) -> tuple[np.ndarray, np.ndarray]:
            w = rng.integers(V, size=(T + ahead, batch))
            return w[:T], w[ahead:]

        fit(model, ((model.losses(*pairs(32)), T * 32) for _ in range(250)), 2e-2)
        xs, y = pairs(2000)
        return F.perplexity(model(xs), y)

    def layer(bidirectional: bool) -> nn.RNN:
        return nn.RNN(V, 16, bidirectional=bidirectional, rng=random(0))

    one_way = perplexity(ManyToMany(layer(False), V, rng=random(0)), 1, random(1))
    both_ways = perplexity(ManyToMany(layer(True), V, rng=random(0)), 1, random(1))
    missing = perplexity(Cloze(layer(True), V, rng=random(0)), 0, random(1))
    assert one_way > 0.99 * V and missing > 0.99 * V
    assert both_ways == pytest.approx(V ** (1 / T), rel=0.02)


def test_cloze_learns_a_symbol_that_only_both_sides_together_tell() -> None:
    """Every other symbol has its high bit from the left neighbour and its low bit from the right: a side leaves 2."""
    rng = random(0)

    def sequences(batch: int) -> np.ndarray:
        w = rng.integers(4, size=(5, batch))
        w[1::2] = 2 * (w[0:-1:2] % 2) + w[2::2] % 2
        return w

    def perplexity(model: ManyToMany, losses: Callable[[np.ndarray], list[Tensor]]) -> float:
        fit(model, ((losses(xs), 64) for xs in (sequences(32) for _ in range(150))), 3e-2)
        xs = sequences(500)
        return float(np.exp(F.stack(losses(xs)).sum().item() / xs[1::2].size))

    cloze = Cloze(nn.RNN(4, 12, bidirectional=True, rng=rng), 4, rng=rng)
    one_side = ManyToMany(nn.RNN(4, 12, rng=rng), 4, rng=rng)
    assert perplexity(cloze, lambda xs: cloze.losses(xs, xs)[1::2]) < 1.1
    assert perplexity(one_side, lambda xs: one_side.losses(xs[:-1], xs[1:])[::2]) > 0.97 * 2


def test_one_to_many_learns_to_tell_a_vector_in_words() -> None:
    """(size, colour, count) as three numbers, told as such words: 'big red', or 'many small blue', then the end."""
    words = ["<end>", "big", "small", "red", "blue", "green", "many"]
    things = list(product([0, 1], [0, 1, 2], [0, 1]))
    x = np.array([np.concatenate([np.eye(2)[a], np.eye(3)[b], [c]]) for a, b, c in things])
    told = [[6] * c + [1 + a, 3 + b] for a, b, c in things]
    y = np.array([row + [0] * (4 - len(row)) for row in told]).T
    lengths = [len(row) + 1 for row in told]
    rng = random(0)
    model = OneToMany(nn.GRU(len(words), 12, rng=rng), 6, start=0, end=0, rng=rng)
    fit(model, ((model.losses(x, y, lengths), sum(lengths)) for _ in range(120)), 2e-2)
    assert model.generate(x, 5) == told
    assert max(map(told.count, told)) / len(told) < 0.2  # one text for all is right this often


def test_an_encoder_decoder_learns_to_reverse() -> None:
    V, T, rng = 4, 4, random(2)

    def pairs(batch: int) -> tuple[np.ndarray, np.ndarray]:
        xs = rng.integers(V, size=(T, batch))
        return xs, np.concatenate([xs[::-1], np.full((1, batch), V)])

    model = EncoderDecoder(nn.GRU(V, 24, rng=rng), nn.GRU(V + 1, 24, rng=rng), start=V, end=V, rng=rng)
    fit(model, ((model.losses(*pairs(32)), (T + 1) * 32) for _ in range(300)))
    xs, _ = pairs(200)
    right = np.mean([row == list(x) for row, x in zip(model.generate(xs, 8), xs[::-1].T)])
    same = np.mean([list(x) == list(x[::-1]) for x in xs.T])  # as often would copying be right
    assert right > 0.95 > 3 * same


# --- Refused


def layer_of(kind: Any = nn.RNN, size: int = D, hidden: int = H, **options: Any) -> Any:
    return kind(size, hidden, rng=random(0), **options)


def tagger(**options: Any) -> ManyToMany:
    return ManyToMany(layer_of(**options), V, rng=random(0))


def translator(encoder: Any, decoder: Any, start: int = START) -> EncoderDecoder:
    return EncoderDecoder(encoder, decoder, start=start, end=END, rng=random(0))


@pytest.mark.parametrize(("error", "says", "do"), [
    (TypeError, "recurrent layer", lambda: ManyToOne(nn.RNNCell(D, H, rng=random(0)), V, rng=random(0))),
    (TypeError, "recurrent layer", lambda: BiRNN(nn.RNN, V, rng=random(0))),
    (TypeError, "recurrent layer", lambda: Decoder(None, 0, 1, rng=random(0))),
    (TypeError, "recurrent layer", lambda: translator(layer_of(), nn.GRUCell(D, H, rng=random(0)))),
    (TypeError, "rng", lambda: ManyToMany(layer_of(), V, rng=0)),
    (ValueError, "one bidirectional layer", lambda: BiRNN(layer_of(), V, rng=random(0))),
    (ValueError, "2 layers", lambda: Cloze(layer_of(num_layers=2, bidirectional=True), V, rng=random(0))),
    (ValueError, r"shape \(3,\); expected", lambda: WIRINGS["cloze"][0](nn.RNN, rng=random(0))(YS[0])),
    (ValueError, r"shape \(0, 3, 6\); expected", lambda: WIRINGS["cloze"][0](nn.RNN, rng=random(0))(XS[:0])),
    (ValueError, "at least one step", lambda: tagger()(XS[:0])),
    (ValueError, "E23", lambda: Decoder(layer_of(bidirectional=True), 0, 1, rng=random(0))),
    (ValueError, "E23", lambda: OneToMany(layer_of(bidirectional=True), 2, start=0, end=1, rng=random(0))),
    (IndexError, "start 6", lambda: Decoder(layer_of(), D, 1, rng=random(0))),
    (IndexError, "end -1", lambda: Decoder(layer_of(), 0, -1, rng=random(0))),
    (ValueError, "encoder leaves", lambda: translator(layer_of(), layer_of(nn.LSTM))),
    (ValueError, "5 units.*4 units", lambda: translator(layer_of(), layer_of(hidden=4))),
    (ValueError, "l0, l1", lambda: translator(layer_of(num_layers=2), layer_of())),
    (ValueError, r"shape \(3, 3\); expected \(4, 3\)", lambda: tagger().losses(XS, YS[:3])),
    (ValueError, r"shape \(4, 2\)", lambda: tagger().losses(XS, YS[:, :2])),
    (ValueError, "expected", lambda: tagger().losses(XS, YS[0])),
    (TypeError, "integer ids", lambda: tagger().losses(XS, YS + 0.5)),
    (IndexError, "t=1", lambda: tagger().losses(XS, YS * 0 + V)),
    (ValueError, "lengths", lambda: tagger().losses(XS, YS, [1, 2])),
    (ValueError, "lengths", lambda: tagger().losses(XS, YS, [1, 2, 5])),
    (TypeError, "integer ids", lambda: ManyToOne(layer_of(), V, rng=random(0)).loss(XS, YS[0] * 1.0)),
    (ValueError, "t=4", lambda: ManyToOne(layer_of(), V, rng=random(0)).loss(XS, YS[:2, 0])),
    (ValueError, "between 0 and 1", lambda: Sentiment(layer_of(), rng=random(0)).loss(XS, [0, 1, 2])),
    (ValueError, "between 0 and 1", lambda: Sentiment(layer_of(), rng=random(0)).loss(XS, [0, 1])),
    (ValueError, "targets", lambda: OneToOne(layer_of(), V, rng=random(0)).loss(XS[0], YS[0, :2])),
    (ValueError, "targets", lambda: translator(layer_of(), layer_of()).losses(XS, YS[0])),
    (ValueError, "targets", lambda: translator(layer_of(), layer_of()).losses(XS, YS[:0])),
    (ValueError, "length 0", lambda: translator(layer_of(), layer_of()).generate(XS, 0)),
])
def test_bad_input_is_refused_and_the_message_says_why(error: Any, says: str, do: Callable[[], Any]) -> None:
    with pytest.raises(error, match=says):
        do()


def test_the_model_has_the_dtype_of_its_layer() -> None:
    layers = [layer_of(dtype=np.float32, **o) for o in ({}, {"bidirectional": True})]
    for model in (ManyToMany(layers[0], V, rng=random(0)), BiRNN(layers[1], V, rng=random(0)),
                  OneToMany(layers[0], 2, start=0, end=1, rng=random(0))):
        assert {p.dtype for p in model.parameters()} == {np.dtype(np.float32)}


def test_a_layer_that_takes_the_batch_first_is_refused() -> None:
    with pytest.raises(ValueError, match="time first"):
        tagger(batch_first=True)
