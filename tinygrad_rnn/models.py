"""Floor 6: the wirings of recurrent networks (9; S0, S4), each a small model around any recurrent layer.

    ManyToMany(nn.LSTM(input_size, 16, bidirectional=True, rng=rng), classes=3, rng=rng)

Which input reaches which output is all that they differ in. `loss` and `losses` give E_t, each a sum over the batch and
made inside its step, so that `bptt` can take them apart; divide by what was counted to train on a mean. Sequences are
time first. lengths: B integers, how many steps of each row are real; what stands after them changes nothing (15).

Symbols: T steps, B batch, D input, H hidden, L layers, K directions, V classes or symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from . import functional as F
from .nn import Linear, Module, Recurrent, unroll
from .nn.cell import State
from .nn.unroll import each, output_of, presence
from .ops import Array
from .scope import no_grad, scope
from .tensor import Tensor


class OneToOne(Module):
    """q = s_1 V + c: one input, one output, which is a recurrent layer of one step.

    With an RNN and s_0 = 0 that is the plain network φ(x U + b) V + c, and W has no part in it.
    """

    def __init__(self, layer: Recurrent, classes: int, *, rng: np.random.Generator) -> None:
        self.layer, self.head = layer, head_of(layer, classes, rng)

    def forward(self, x: Tensor | Array) -> Tensor:
        """x (B, D), or integer ids (B,), to logits (B, V)."""
        (h,), _ = self.layer.steps([x])
        with scope(t=1):
            q: Tensor = self.head(h).named("q")
            return q

    def loss(self, x: Tensor | Array, targets: Array) -> Tensor:
        """E = -Σ_b ln softmax(q_b)[y_b], targets (B,); made at step 1."""
        return errors([self.forward(x)], np.asarray(targets)[None])[0]


class ManyToOne(Module):
    """q = s_T V + c: a whole sequence, one output. In both directions s_T stands for [s_T, s'_1] of the last layer."""

    def __init__(self, layer: Recurrent, classes: int, *, rng: np.random.Generator) -> None:
        self.layer, self.head = layer, head_of(layer, classes, rng)

    def forward(self, xs: Any, lengths: Any = None) -> Tensor:
        """xs (T, B, D), or ids (T, B), to logits (B, V)."""
        _, states = self.layer.steps(xs, lengths=lengths)
        last = [output_of(state) for state in states[-len(self.layer.directions):]]
        with scope(t=len(xs)):
            q: Tensor = self.head(F.concat(last, -1) if len(last) > 1 else last[0]).named("q")
            return q

    def loss(self, xs: Any, targets: Array, lengths: Any = None) -> Tensor:
        """E = -Σ_b ln softmax(q_b)[y_b], targets (B,); made at step T."""
        q = self.forward(xs, lengths)
        with scope(t=len(xs)):
            return F.cross_entropy(q, as_ids(targets), "sum").named("E")


class Sentiment(ManyToOne):
    """ŷ = σ(q), q = v·s_T + c, positive when ŷ > 0.5 (2; S2): many to one where the answer is yes or no."""

    def __init__(self, layer: Recurrent, *, rng: np.random.Generator) -> None:
        super().__init__(layer, 1, rng=rng)

    def forward(self, xs: Any, lengths: Any = None) -> Tensor:
        """xs (T, B, D), or ids (T, B), to logits q (B,)."""
        q = super().forward(xs, lengths)
        with scope(t=len(xs)):
            return q[:, 0].named("q")

    def positive(self, xs: Any, lengths: Any = None) -> Array:
        """Is ŷ > 0.5? (B,) of bool."""
        with no_grad():
            positive: Array = F.sigmoid(self.forward(xs, lengths)).data > 0.5
            return positive

    def loss(self, xs: Any, targets: Array, lengths: Any = None) -> Tensor:
        """E = Σ_b -y ln ŷ - (1-y) ln(1-ŷ), so dE/dq = ŷ - y; targets y (B,) from 0 to 1; made at step T."""
        q = self.forward(xs, lengths)
        with scope(t=len(xs)):
            return F.binary_cross_entropy_with_logits(q, targets, "sum").named("E")


class ManyToMany(Module):
    """q_t = h_t V + c: one output for each input, as in tagging. In both directions h_t stands for [h_t, h'_t] (7, 8).

    A bidirectional layer has seen all of the sequence at every t: right where the whole is given, wrong where the
    target is the next input, which it reads (E23).
    """

    def __init__(self, layer: Recurrent, classes: int, *, rng: np.random.Generator) -> None:
        self.layer, self.head = layer, head_of(layer, classes, rng)

    def steps(self, xs: Any, lengths: Any = None) -> list[Tensor]:
        """xs (T, B, D), or ids (T, B), to q_1 … q_T, each (B, V) and made at its step."""
        return scores(self.head, self.layer.steps(xs, lengths=lengths)[0])

    def forward(self, xs: Any, lengths: Any = None) -> Tensor:
        """The same as one tensor (T, B, V)."""
        return F.stack(self.steps(xs, lengths))

    def losses(self, xs: Any, targets: Array, lengths: Any = None) -> list[Tensor]:
        """E_1 … E_T (11), each a sum over the rows that are there; targets (T, B)."""
        return errors(self.steps(xs, lengths), targets, lengths)


class BiRNN(ManyToMany):
    """q_t = h_t V + h'_t V' + c, as S3 writes it (7): a projection for each direction of one bidirectional layer.

    It is ManyToMany with the rows of V above those of V': [h_t, h'_t] [V; V'].
    """

    def __init__(self, layer: Recurrent, classes: int, *, rng: np.random.Generator) -> None:
        if expect_layer(layer).num_layers != 1 or not layer.bidirectional:
            raise ValueError(f"{type(self).__name__}: {layer.num_layers} layers, bidirectional={layer.bidirectional}; "
                             "expected one bidirectional layer")
        H, dtype = layer.hidden_size, layer.parameters()[0].dtype
        self.layer, self.head = layer, Linear(H, classes, rng=rng, dtype=dtype)
        self.head_reverse = Linear(H, classes, bias=False, rng=rng, dtype=dtype)
        self.head_reverse.V.name = "V'"

    def steps(self, xs: Any, lengths: Any = None) -> list[Tensor]:
        forward, backward = self.layer.cells.values()
        hs, _ = unroll(forward, xs, lengths=lengths)
        back, _ = unroll(backward, xs, lengths=lengths, direction="backward")
        return self.joined(hs, back)

    def joined(self, hs: Sequence[Tensor], back: Sequence[Tensor]) -> list[Tensor]:
        found = []
        for t, (h, h_) in enumerate(zip(hs, back), start=1):
            with scope(t=t):
                found.append((self.head(h) + self.head_reverse(h_)).named("q"))
        return found


class Cloze(BiRNN):
    """q_t = h_{t-1} V + h'_{t+1} V' + c: which symbol is missing at t, from those on both sides of it.

    It does not see x_t, which is the target, and may be trained on every t at once. In one layer only: in a second one
    h_{t-1} would have read x_t by way of the backward direction. The two sides add up, so that each rules symbols out;
    what only their combination tells, an exclusive or, is beyond it.
    """

    def steps(self, xs: Any, lengths: Any = None) -> list[Tensor]:
        forward, backward = self.layer.cells.values()
        if not len(xs) or not np.ndim(xs[0]):
            raise ValueError(f"Cloze: xs has shape {np.shape(xs)}; expected (T, B, D), or integer ids (T, B)")
        T, B = len(xs), np.shape(xs[0])[0]
        with scope(layer=0, direction="forward", t=0):
            start = forward.initial_state(B)
        with scope(layer=0, direction="backward", t=T + 1):
            end = backward.initial_state(B)
        hs, _ = unroll(forward, xs, start, lengths=lengths)
        back, _ = unroll(backward, xs, end, lengths=lengths, direction="backward")
        before, after = [output_of(start), *hs[:-1]], [*back[1:], output_of(end)]
        if lengths is not None:  # past the end of a row stands the state that the backward direction starts from
            for t, there in enumerate(presence(lengths, T, B)[1:], start=1):
                with scope(t=t):
                    after[t - 1] = F.where(there, after[t - 1], output_of(end))
        return self.joined(before, after)


class Decoder(Module):
    """Symbols one after the other: h_t from symbol t-1 and the state before, q_t = h_t V + c (9, 10; S4).

    layer: one direction, over V symbols as ids, so V is its input_size. start: the id read at t = 1. end: the id that
    ends a row. state: what the layer starts from, (L, B, H) or a tuple of such.
    """

    def __init__(self, layer: Recurrent, start: int, end: int, *, rng: np.random.Generator) -> None:
        if expect_layer(layer).bidirectional:
            raise ValueError("Decoder: a bidirectional layer; what is written symbol by symbol has no later ones (E23)")
        for name, value in (("start", start), ("end", end)):
            if not isinstance(value, int | np.integer) or isinstance(value, bool):
                raise TypeError(f"Decoder: {name} {value!r}; expected an integer id")
        if not (0 <= start < layer.input_size and 0 <= end < layer.input_size):
            raise IndexError(f"Decoder: start {start}, end {end}; expected ids from 0 to {layer.input_size - 1}")
        self.layer, self.start, self.end = layer, start, end
        self.head = head_of(layer, layer.input_size, rng)

    def losses(self, state: State, targets: Array, lengths: Any = None) -> list[Tensor]:
        """E_1 … E_T with teacher forcing: the symbol read at t is the target of t-1, whatever was predicted.

        targets (T, B): every row its symbols, then `end`, which is learned like any other.
        """
        y = as_ids(targets)
        if y.ndim != 2 or not len(y):
            raise ValueError(f"Decoder: targets of shape {y.shape}; expected (T, B), at least one step")
        before = np.concatenate([np.full_like(y[:1], self.start), y[:-1]])
        with scope(sequence="decoder", t=0):
            hs, _ = self.layer.steps(before, state, lengths=lengths)
            return errors(scores(self.head, hs), y, lengths)

    def generate(self, state: State, length: int) -> list[list[int]]:
        """B rows, running free: the likeliest symbol is fed back (10), until `end`, which is left out, or `length`."""
        if length < 1:
            raise ValueError(f"generate: length {length}; expected at least 1")
        ids = np.full(np.shape(output_of(state))[1], self.start)
        ended = np.zeros(len(ids), bool)
        written: list[Array] = []
        with no_grad(), scope(sequence="decoder"):
            while len(written) < length and not ended.all():
                (h,), states = self.layer.steps([ids], state, start=len(written) + 1)
                state, ids = stacked(states), self.head(h).data.argmax(-1)
                written.append(ids)
                ended |= ids == self.end
        return [[int(i) for i in takewhile(lambda i: i != self.end, row)] for row in np.stack(written, 1)]


class OneToMany(Module):
    """s_0 = x P + p, then a Decoder: a vector is told in symbols, as in captioning. Every layer has a part of s_0."""

    def __init__(self, layer: Recurrent, features: int, *, start: int, end: int, rng: np.random.Generator) -> None:
        self.decoder = Decoder(layer, start, end, rng=rng)
        self.parts = len(layer.cells["l0"].states)  # 2 for (h, c)
        self.projection = Linear(features, self.parts * layer.num_layers * layer.hidden_size, rng=rng,
                                 dtype=layer.parameters()[0].dtype)
        assert self.projection.c is not None
        self.projection.V.name, self.projection.c.name = "P", "p"

    def state(self, x: Tensor | Array) -> State:
        """x (B, features) to s_0, (L, B, H), or a tuple of such."""
        layer = self.decoder.layer
        x = x if isinstance(x, Tensor) else Tensor(x, name="x")
        s = self.projection(x).reshape(len(x), self.parts, layer.num_layers, layer.hidden_size)
        parts = tuple(s.transpose(1, 2, 0, 3))
        return parts if self.parts > 1 else parts[0]

    def losses(self, x: Tensor | Array, targets: Array, lengths: Any = None) -> list[Tensor]:
        """See `Decoder.losses`."""
        return self.decoder.losses(self.state(x), targets, lengths)

    def generate(self, x: Tensor | Array, length: int) -> list[list[int]]:
        """See `Decoder.generate`."""
        with no_grad():
            return self.decoder.generate(self.state(x), length)


class EncoderDecoder(Module):
    """The last state of one layer is the first of another: a sequence into another one, as in translation (9; S0).

    The two have weights of their own, and no more in common than the state: kind of cell, layers and hidden size must
    be the same. Their steps are told apart by scope(sequence="encoder") and scope(sequence="decoder").
    """

    def __init__(self, encoder: Recurrent, decoder: Recurrent, *, start: int, end: int,
                 rng: np.random.Generator) -> None:
        left, taken = state_of(encoder), state_of(decoder)
        if left != taken:
            raise ValueError(f"EncoderDecoder: the encoder leaves {left}, the decoder starts from {taken}; expected "
                             "the same")
        self.encoder, self.decoder = encoder, Decoder(decoder, start, end, rng=rng)

    def state(self, xs: Any, lengths: Any = None) -> State:
        """xs (T, B, D), or ids (T, B), to the encoder's last state, (L, B, H), or a tuple of such."""
        with scope(sequence="encoder", t=len(xs)):
            return stacked(self.encoder.steps(xs, lengths=lengths)[1])

    def losses(self, xs: Any, targets: Array, lengths: Any = None, target_lengths: Any = None) -> list[Tensor]:
        """See `Decoder.losses`; targets need not be as long as xs."""
        return self.decoder.losses(self.state(xs, lengths), targets, target_lengths)

    def generate(self, xs: Any, length: int, lengths: Any = None) -> list[list[int]]:
        """See `Decoder.generate`."""
        with no_grad():
            return self.decoder.generate(self.state(xs, lengths), length)


def expect_layer(layer: Recurrent) -> Recurrent:
    if not isinstance(layer, Recurrent):
        raise TypeError(f"expected a recurrent layer, as nn.LSTM(…), got {type(layer).__name__}")
    if layer.batch_first:
        raise ValueError("a layer with batch_first=True; expected one without: sequences are time first here")
    return layer


def state_of(layer: Recurrent) -> str:
    """What a state of the layer is made of, in words."""
    cells = expect_layer(layer).cells
    return f"({', '.join(cells['l0'].states)}) of {layer.hidden_size} units in each of {', '.join(cells)}"


def head_of(layer: Recurrent, classes: int, rng: np.random.Generator) -> Linear:
    """(K H, V) on top of what the layer gives, in its dtype."""
    return Linear(expect_layer(layer).hidden_size * len(layer.directions), classes, rng=rng,
                  dtype=layer.parameters()[0].dtype)


def scores(head: Linear, hs: Sequence[Tensor]) -> list[Tensor]:
    """q_t = h_t V + c, (B, V) each, made at its step."""
    found = []
    for t, h in enumerate(hs, start=1):
        with scope(t=t):
            found.append(head(h).named("q"))
    return found


def errors(qs: Sequence[Tensor], targets: Array, lengths: Any = None) -> list[Tensor]:
    """E_t = -Σ_b ln softmax(q_tb)[y_tb] (11) over the rows b that are there at t (15), made at its step."""
    y = as_ids(targets)
    if y.shape != (len(qs), len(qs[0])):
        raise ValueError(f"targets of shape {y.shape}; expected {(len(qs), len(qs[0]))}, one for each step and row")
    there = np.ones(y.shape, bool) if lengths is None else presence(lengths, *y.shape)[..., 0]
    found = []
    for t, (q, y_t, rows) in enumerate(zip(qs, y, there), start=1):
        with scope(t=t):
            q = q if rows.all() else q[np.flatnonzero(rows)]
            found.append(F.cross_entropy(q, y_t[rows], "sum").named("E"))
    return found


def as_ids(targets: Any) -> Array:
    """Targets as integer ids. Raises TypeError for anything else."""
    ids = np.asarray(targets)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"targets: expected integer ids, got {ids.dtype}")
    return ids


def stacked(states: Sequence[State]) -> State:
    """The states of a layer's cells as it takes them again: (L K, B, H), or a tuple of such."""
    return each(lambda *parts: F.stack(parts), *states)
