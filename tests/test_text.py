"""What tinygrad_rnn.text promises: exact ids, batches that carry the state, and Witten-Bell n-grams done right."""

from __future__ import annotations

import codecs
import contextlib
import io
import math
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn.text import NGram, Vocabulary, batch_count, batches, language_reference, read_text, split

repeatable = settings(derandomize=True, database=None, deadline=None)


@pytest.fixture(scope="module")
def zen() -> str:
    """The Zen of Python. The module prints it on import and keeps it rotated by 13 letters."""
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    return codecs.decode(this.s, "rot13")


class NaiveWittenBell:
    """The same model with dictionaries of strings and the formula as a recursion: slow, and nothing shared."""

    def __init__(self, text: str, symbols: str, order: int) -> None:
        self.symbols, self.order = symbols, order
        self.after: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for i, symbol in enumerate(text):
            for length in range(min(order - 1, i) + 1):
                self.after[text[i - length : i]][symbol] += 1

    def probability(self, symbol: str, before: str) -> float:
        if self.order == 0:
            return 1 / len(self.symbols)
        return self.recursion(symbol, before[max(len(before) - self.order + 1, 0) :])

    def recursion(self, symbol: str, context: str) -> float:
        lower = self.recursion(symbol, context[1:]) if context else 1 / len(self.symbols)
        if context not in self.after:
            return lower
        counts = self.after[context]
        return (counts[symbol] + len(counts) * lower) / (counts.total() + len(counts))

    def perplexity(self, text: str) -> float:
        return math.exp(-sum(math.log(self.probability(w, text[:i])) for i, w in enumerate(text)) / len(text))


# Text


def test_the_language_reference_is_prose_about_the_language() -> None:
    text = language_reference()
    assert len(text) > 100_000
    assert text.index('The "assert" statement') < text.index('The "while" statement')


def test_read_text_reads_utf8_without_a_byte_order_mark_and_with_plain_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "poem.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "žluťoučký\r\nкот 🐈".encode())
    assert read_text(path) == "žluťoučký\nкот 🐈"
    assert read_text(str(path)) == read_text(path)


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"caf\xe9"], ids=["empty", "only a mark", "Latin-1"])
def test_read_text_refuses_an_empty_or_badly_encoded_file_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.txt"):
        read_text(path)


def test_read_text_of_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "missing.txt")


# Vocabulary


def test_a_vocabulary_numbers_the_distinct_characters_in_sorted_order() -> None:
    vocabulary = Vocabulary.of("banana\n")
    assert vocabulary.symbols == "\nabn"
    assert len(vocabulary) == 4
    ids = vocabulary.encode("nab")
    assert ids.dtype == np.int64
    assert ids.tolist() == [3, 1, 2]


@repeatable
@given(st.text(min_size=1))
def test_decode_undoes_encode_for_any_unicode_text(text: str) -> None:
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text)
    assert ids.shape == (len(text),)
    assert vocabulary.decode(ids) == text


def test_the_empty_text_has_no_ids_and_no_ids_are_the_empty_text() -> None:
    vocabulary = Vocabulary.of("ab")
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([]) == ""


def test_encode_names_the_first_unknown_character_and_its_position() -> None:
    with pytest.raises(ValueError, match="'ž' at position 2"):
        Vocabulary.of("ab").encode("abžaé")


@pytest.mark.parametrize("bad", [-1, 2])
def test_decode_refuses_an_id_outside_the_vocabulary(bad: int) -> None:
    with pytest.raises(IndexError, match=rf"id {bad} at position 1 is outside 0 … 1"):
        Vocabulary.of("ab").decode([0, bad])


def test_decode_refuses_ids_that_are_not_integers_or_not_one_sequence() -> None:
    with pytest.raises(TypeError, match="float64"):
        Vocabulary.of("ab").decode([0.0, 1.0])
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        Vocabulary.of("ab").decode([[0, 1]])


@pytest.mark.parametrize("symbols", ["", "ba", "aa"])
def test_a_vocabulary_refuses_symbols_that_are_missing_unsorted_or_repeated(symbols: str) -> None:
    with pytest.raises(ValueError, match=f"got '{symbols}'"):
        Vocabulary(symbols)


# Split


@pytest.mark.parametrize(("held_out", "cut"), [(0.1, 90), (0.25, 75), (0.99, 1)])
def test_split_holds_out_the_end_of_the_text_unshuffled(held_out: float, cut: int) -> None:
    train, test = split(np.arange(100), held_out)
    assert train.tolist() == list(range(cut))
    assert test.tolist() == list(range(cut, 100))


def test_split_holds_out_a_tenth_unless_told() -> None:
    assert [len(part) for part in split(np.arange(1000))] == [900, 100]


@pytest.mark.parametrize("held_out", [0, 1, -0.1, 1.5, math.nan])
def test_split_refuses_a_fraction_outside_0_to_1(held_out: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        split(np.arange(100), held_out)


@pytest.mark.parametrize(("length", "held_out"), [(0, 0.5), (1, 0.5), (3, 0.1), (3, 0.9)])
def test_split_refuses_a_text_so_short_that_one_part_is_empty(length: int, held_out: float) -> None:
    with pytest.raises(ValueError, match=f"of {length} ids"):
        split(np.arange(length), held_out)


# Batches


def test_batches_of_a_text_worked_out_by_hand() -> None:
    # 13 ids, B = 2, T = 3: two streams of 6, 0…5 and 6…11; id 12 is only the target of 11.
    first, second = batches(np.arange(13), batch_size=2, steps=3)
    assert first[0].tolist() == [[0, 6], [1, 7], [2, 8]]
    assert first[1].tolist() == [[1, 7], [2, 8], [3, 9]]
    assert second[0].tolist() == [[3, 9], [4, 10], [5, 11]]
    assert second[1].tolist() == [[4, 10], [5, 11], [6, 12]]


sizes = st.integers(1, 6)


@repeatable
@given(batch_size=sizes, steps=sizes, extra=st.integers(0, 100))
def test_each_column_continues_in_the_next_batch_and_targets_are_one_step_ahead(
    batch_size: int, steps: int, extra: int
) -> None:
    length = batch_size * steps + 1 + extra
    pairs = list(batches(np.arange(length), batch_size, steps))  # id = position, so a successor is + 1
    assert all(x.shape == y.shape == (steps, batch_size) for x, y in pairs)
    assert all((y == x + 1).all() for x, y in pairs)
    for (_, y), (x, _) in pairwise(pairs):
        assert (x[0] == y[-1]).all()
    # Laid end to end the columns are the text from its start, and what is left out fills no batch.
    columns = np.concatenate([x for x, _ in pairs])
    assert columns.T.ravel().tolist() == list(range(columns.size))
    assert 0 <= length - 1 - columns.size < batch_size * steps
    assert len(pairs) == batch_count(length, batch_size, steps)


def test_batches_are_copies_of_the_text() -> None:
    ids = np.arange(5)
    for x, y in batches(ids, batch_size=1, steps=2):
        x[:] = y[:] = -1
    assert ids.tolist() == [0, 1, 2, 3, 4]


def test_a_text_one_id_too_short_gives_no_batch_and_the_error_comes_at_the_call() -> None:
    assert batch_count(7, batch_size=2, steps=3) == 1
    assert batch_count(6, batch_size=2, steps=3) == 0
    assert batch_count(0, batch_size=1, steps=1) == 0
    with pytest.raises(ValueError, match="need 7 ids or more, got 6"):
        batches(np.arange(6), batch_size=2, steps=3)


@pytest.mark.parametrize("name", ["batch_size", "steps"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-2, ValueError), (2.0, TypeError), (True, TypeError)])
def test_batch_sizes_must_be_integers_from_1(name: str, value: Any, error: type[Exception]) -> None:
    chosen = {"batch_size": 2, "steps": 3, name: value}
    with pytest.raises(error, match=f"{name} must be .*, got {value}"):
        batches(np.arange(100), **chosen)


def test_batch_count_refuses_a_negative_length() -> None:
    with pytest.raises(ValueError, match="length must be 0 or more, got -1"):
        batch_count(-1, 1, 1)


def test_numpy_integers_are_sizes_too() -> None:
    assert batch_count(7, np.int64(2), np.int32(3)) == 1  # type: ignore[arg-type]


# N-grams


def test_witten_bell_worked_out_by_hand() -> None:
    # Train on "abac" with V = 4 symbols a b c d, order 2.
    # Unigrams: c(a) = 2, c(b) = c(c) = 1, so c() = 4 and N() = 3:
    #   P(a) = (2 + 3/4) / 7 = 11/28, P(b) = P(c) = (1 + 3/4) / 7 = 7/28, P(d) = (0 + 3/4) / 7 = 3/28.
    # After a: b once and c once, so c(a ·) = 2 and N(a) = 2:
    #   P(a|a) = (2 · 11/28) / 4 = 11/56, P(b|a) = P(c|a) = (1 + 2 · 7/28) / 4 = 21/56, P(d|a) = (2 · 3/28) / 4 = 3/56.
    # After b: a once, so P(a|b) = (1 + 11/28) / 2 = 39/56, the others half of their unigrams.
    # After c nothing came (it ends the text), d was never seen: both leave it to the unigrams.
    model = NGram([0, 1, 0, 2], vocabulary_size=4, order=2)
    unigram = np.array([11, 7, 7, 3]) / 28
    np.testing.assert_allclose(model.probabilities([]), unigram, rtol=1e-15)
    np.testing.assert_allclose(model.probabilities([0]), np.array([11, 21, 21, 3]) / 56, rtol=1e-15)
    np.testing.assert_allclose(model.probabilities([1]), np.array([39, 7, 7, 3]) / 56, rtol=1e-15)
    np.testing.assert_array_equal(model.probabilities([2]), model.probabilities([]))
    np.testing.assert_array_equal(model.probabilities([3]), model.probabilities([]))
    # "bad": P(b) P(a|b) P(d|a) = 7/28 · 39/56 · 3/56.
    assert model.perplexity([1, 0, 3]) == pytest.approx((7 / 28 * 39 / 56 * 3 / 56) ** (-1 / 3), rel=1e-14)


@pytest.mark.parametrize("order", range(7))
def test_agrees_with_a_naive_dictionary_model_on_real_text(zen: str, order: int) -> None:
    vocabulary = Vocabulary.of(zen)
    train, test = split(vocabulary.encode(zen), 0.3)
    naive = NaiveWittenBell(vocabulary.decode(train), vocabulary.symbols, order)
    model = NGram(train, len(vocabulary), order)
    assert model.perplexity(test) == pytest.approx(naive.perplexity(vocabulary.decode(test)), rel=1e-12)
    for length in range(0, len(test), 17):
        before = vocabulary.decode(test[:length])
        expected = [naive.probability(symbol, before) for symbol in vocabulary.symbols]
        np.testing.assert_allclose(model.probabilities(test[:length]), expected, rtol=1e-12)


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize("context", ["", "t", "than", "never seen", "kkkk", "Ä", "!"])
def test_probabilities_sum_to_1_after_seen_and_unseen_contexts(zen: str, order: int, context: str) -> None:
    vocabulary = Vocabulary.of(zen + "Ä")  # a symbol that training never sees
    model = NGram(vocabulary.encode(zen), len(vocabulary), order)
    p = model.probabilities(vocabulary.encode(context))
    assert p.shape == (len(vocabulary),)
    assert (p > 0).all()
    assert p.sum() == pytest.approx(1, abs=1e-13)


def test_perplexity_is_the_product_of_the_probabilities_of_the_same_model(zen: str) -> None:
    vocabulary = Vocabulary.of(zen)
    ids = vocabulary.encode(zen)
    model = NGram(ids[:400], len(vocabulary), order=4)
    test = ids[400:]
    nats = [-math.log(model.probabilities(test[:i])[w]) for i, w in enumerate(test)]
    assert model.perplexity(test) == pytest.approx(math.exp(math.fsum(nats) / len(nats)), rel=1e-12)


def test_order_0_is_uniform_with_perplexity_v() -> None:
    model = NGram([0, 0, 1], vocabulary_size=103, order=0)
    assert (model.probabilities([1, 0]) == 1 / 103).all()
    assert model.perplexity([0, 5, 102]) == pytest.approx(103, rel=1e-14)


def test_longer_contexts_predict_the_language_reference_better() -> None:
    text = language_reference()
    vocabulary = Vocabulary.of(text)
    train, test = split(vocabulary.encode(text))
    uniform, one, two, three = (NGram(train, len(vocabulary), order).perplexity(test) for order in range(4))
    assert uniform == pytest.approx(len(vocabulary), rel=1e-12)
    # Gaps that any version of Python's reference clears (3.11: 103, 25.5, 10.2, 5.54).
    assert uniform > 3 * one > 6 * two > 9 * three


def test_orders_beyond_the_text_or_beyond_64_bit_powers_of_v_still_work(zen: str) -> None:
    vocabulary = Vocabulary.of(zen)
    naive = NaiveWittenBell(zen, vocabulary.symbols, order=30)  # V to the 30th is far above 2 to the 63rd
    model = NGram(vocabulary.encode(zen), len(vocabulary), order=30)
    assert model.perplexity(vocabulary.encode(zen)) == pytest.approx(naive.perplexity(zen), rel=1e-12)
    np.testing.assert_array_equal(
        NGram([0, 1], vocabulary_size=3, order=9).probabilities([0, 1, 0]),
        NGram([0, 1], vocabulary_size=3, order=2).probabilities([0, 1, 0]),
    )


@pytest.mark.parametrize("name", ["vocabulary_size", "order"])
@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_n_gram_sizes_must_be_integers(name: str, value: Any, error: type[Exception]) -> None:
    chosen = {"vocabulary_size": 2, "order": 1, name: value}
    with pytest.raises(error, match=f"{name} must be .*, got {value}"):
        NGram([0, 1], **chosen)


def test_n_grams_refuse_no_ids_at_all() -> None:
    with pytest.raises(ValueError, match="at least one training id"):
        NGram([], vocabulary_size=2, order=1)
    with pytest.raises(ValueError, match="at least one id"):
        NGram([0, 1], vocabulary_size=2, order=1).perplexity([])


def test_n_grams_refuse_ids_outside_the_vocabulary_everywhere() -> None:
    model = NGram([0, 1], vocabulary_size=2, order=2)
    for call in (lambda ids: NGram(ids, 2, 2), model.perplexity, model.probabilities):
        for bad in (-1, 2):
            with pytest.raises(IndexError, match=f"id {bad} at position 1"):
                call([0, bad])
