"""The character model: what it learns, what it keeps, what it writes, and that it is the plain NumPy model."""

import codecs
import contextlib
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tinygrad_rnn import Tensor, bptt, functional
from tinygrad_rnn.language import CharRNN, generate, perplexity, train
from tinygrad_rnn.optim import SGD
from tinygrad_rnn.text import Vocabulary

with contextlib.redirect_stdout(io.StringIO()):
    import this

TEXT = codecs.decode(this.s, "rot13")
VOCABULARY = Vocabulary.of(TEXT)
IDS = VOCABULARY.encode(TEXT)


def fresh(hidden: int = 16, **settings: object) -> CharRNN:
    return CharRNN(VOCABULARY, hidden, rng=np.random.default_rng(0), **settings)  # type: ignore[arg-type]


def by_hand(model: CharRNN, ids: np.ndarray) -> float:
    """Perplexity written out: one character after the other in plain NumPy."""
    p = model.state_dict()
    h, nats = np.zeros(model.layer.hidden_size), 0.0
    for now, following in pairwise(ids):
        h = np.tanh(p["layer.cells.l0.U"][now] + h @ p["layer.cells.l0.W"] + p["layer.cells.l0.b"])
        q = h @ p["head.V"] + p["head.c"]
        nats += np.log(np.exp(q - q.max()).sum()) + q.max() - q[following]
    return float(np.exp(nats / (len(ids) - 1)))


def test_perplexity_is_the_loop_written_out_whatever_the_chunks() -> None:
    model = fresh()
    expected = by_hand(model, IDS[:300])
    for steps in (7, 299, 500):
        assert perplexity(model, IDS[:300], steps) == pytest.approx(expected, rel=1e-12)


def test_a_model_that_knows_nothing_has_the_perplexity_of_the_uniform_one() -> None:
    model = fresh()
    model.head.V.data, model.head.c.data = np.zeros(model.head.V.shape), np.zeros(model.head.c.shape)
    assert perplexity(model, IDS) == pytest.approx(len(VOCABULARY), rel=1e-12)


def test_training_lowers_perplexity_and_records_every_step() -> None:
    model, seen = fresh(), []
    before = perplexity(model, IDS)
    history = train(model, IDS, epochs=40, batch_size=4, progress=lambda done, total, loss: seen.append((done, total)))
    assert perplexity(model, IDS) < before / 3
    assert seen == [(n, len(seen)) for n in range(1, len(seen) + 1)] and len(history.losses) == len(seen)
    assert len(history.gradient_norms) == len(seen) and not history.interrupted


def test_the_first_training_step_is_one_step_down_the_gradient_of_the_mean_loss() -> None:
    model, twin = fresh(), fresh()
    train(model, IDS[:51], epochs=1, batch_size=2, steps=25, optimizer=SGD(model.parameters(), lr=0.5), max_norm=1e9)
    x, y = np.stack([IDS[:25], IDS[25:50]], 1), np.stack([IDS[1:26], IDS[26:51]], 1)
    (functional.stack(twin.losses(x, y)).sum() / x.size).backward()
    for (name, moved), start in zip(model.named_parameters(), twin.parameters()):
        assert start.grad is not None
        np.testing.assert_allclose(moved.data, start.data - 0.5 * start.grad, rtol=1e-12, atol=1e-14, err_msg=name)


def test_the_state_is_carried_from_chunk_to_chunk_but_no_gradient() -> None:
    model = fresh()
    x = IDS[:40, None]
    whole, _ = model(x)
    first, h = model(x[:15])
    second, _ = model(x[15:], h.detach())
    np.testing.assert_allclose(np.concatenate([first.data, second.data]), whole.data, rtol=1e-13)
    assert h.detach().requires_grad is False


def test_an_interrupt_keeps_what_was_learned() -> None:
    def stop(done: int, total: int, loss: float) -> None:
        if done == 5:
            raise KeyboardInterrupt

    model, twin = fresh(), fresh()
    history = train(model, IDS, epochs=9, batch_size=4, progress=stop)
    assert history.interrupted and len(history.losses) == 5
    assert any((a.data != b.data).any() for a, b in zip(model.parameters(), twin.parameters()))


def test_training_is_the_same_on_every_run() -> None:
    one, two = fresh(), fresh()
    for model in (one, two):
        train(model, IDS, epochs=2, batch_size=4)
    assert all((a.data == b.data).all() for a, b in zip(one.parameters(), two.parameters()))


@pytest.mark.parametrize("settings", [{}, {"cell": "rnn-sigmoid"}, {"dtype": np.float32}])
def test_a_saved_model_comes_back_bit_by_bit_and_holds_no_pickle(tmp_path: Path, settings: dict[str, object]) -> None:
    model = fresh(**settings)
    path = model.save(tmp_path / "model")
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "fU" for name in file)
    again = CharRNN.load(path)
    assert again.vocabulary == model.vocabulary and again.cell == model.cell
    for (name, a), (other, b) in zip(model.named_parameters(), again.named_parameters()):
        assert name == other and a.dtype == b.dtype and (a.data == b.data).all()


def test_what_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    for name in ("text.npz", "other.npz"):
        with pytest.raises(ValueError, match=name):
            CharRNN.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        CharRNN.load(tmp_path / "missing.npz")


def test_greedy_text_is_the_likeliest_character_each_time() -> None:
    model = fresh()
    train(model, IDS, epochs=20, batch_size=4)
    text = "Beautiful"
    for _ in range(30):
        logits, _ = model(VOCABULARY.encode(text)[:, None])
        text += VOCABULARY.decode([int(logits.data[-1, 0].argmax())])
    assert "Beautiful" + "".join(generate(model, "Beautiful", 30)) == text


def test_greedy_text_soon_runs_in_a_circle_and_sampled_text_does_not() -> None:
    model = fresh(8)
    train(model, IDS, epochs=10, batch_size=4)
    greedy = "".join(generate(model, "The ", 400))
    assert greedy[-60:] in greedy[:-60]
    sampled = "".join(generate(model, "The ", 400, temperature=1.0, rng=np.random.default_rng(3)))
    assert sampled[-60:] not in sampled[:-60]


def test_sampling_follows_the_softmax_of_the_tempered_logits() -> None:
    model, rng = fresh(4), np.random.default_rng(5)
    q = model(VOCABULARY.encode("T")[:, None])[0].data[-1, 0]
    expected = np.exp(q / 2) / np.exp(q / 2).sum()
    drawn = [next(generate(model, "T", 1, temperature=2.0, rng=rng)) for _ in range(4000)]
    found = np.bincount(VOCABULARY.encode("".join(drawn)), minlength=len(VOCABULARY)) / len(drawn)
    assert np.abs(found - expected).max() < 5 * np.sqrt(expected.max() / len(drawn))


@pytest.mark.parametrize("nonlinearity", ["rnn", "rnn-sigmoid"])
def test_every_loss_of_real_text_is_proved_for_every_parameter(nonlinearity: str) -> None:
    model = fresh(5, cell=nonlinearity)
    x, y = IDS[:12, None], IDS[1:13, None]
    losses, reference = model.losses(x, y), model.reference(x, y)
    np.testing.assert_allclose([E.item() for E in losses], reference.forward()[2], rtol=1e-13)
    for parameter in model.parameters():
        assert bptt.prove(bptt.explain(losses[-1], parameter), reference)


@pytest.mark.parametrize(("call", "message"), [
    (lambda m: generate(m, "", 3), "prompt is empty"),
    (lambda m: generate(m, "The", 3, temperature=0.5), "rng"),
    (lambda m: generate(m, "The", 3, temperature=-1), "temperature"),
    (lambda m: perplexity(m, IDS[:1]), "two characters"),
    (lambda m: train(m, IDS[:10], epochs=1, batch_size=16), "16"),
])
def test_bad_input_is_a_value_error(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(fresh())


def test_ids_and_one_hot_rows_are_the_same_text() -> None:
    model = fresh()
    ids = IDS[:9, None]
    one_hot = np.eye(len(VOCABULARY))[ids]
    a, _ = model(ids)
    b, _ = model(Tensor(one_hot))
    np.testing.assert_allclose(a.data, b.data, rtol=1e-13, atol=1e-15)
