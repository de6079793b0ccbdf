"""Text for character language models, with nothing to download.

The language reference that ships inside Python is real prose of a useful size. This module turns it, or any UTF-8
file, into integer ids, cuts the ids into time-major batches, and scores n-gram models: the baselines that tell
whether a recurrent network's perplexity is any good.

    text = language_reference()
    vocabulary = Vocabulary.of(text)
    train, test = split(vocabulary.encode(text))
    NGram(train, len(vocabulary), order=3).perplexity(test)

Symbols: T steps, B batch, V vocabulary size. Ids are int64 and run from 0 to V - 1. Functions
take any sequence of integer ids, and raise TypeError for other numbers and ValueError for other shapes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["NGram", "Vocabulary", "batch_count", "batches", "language_reference", "read_text", "split"]

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


def language_reference() -> str:
    """The language reference kept in the standard library (what ``help("while")`` prints), all topics in key order.

    Its length and its symbols differ between versions of Python: figures measured on one version hold for that one.
    """
    return "".join(topics[name] for name in sorted(topics))


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file, every line end read as ``"\\n"``; a leading byte order mark is dropped.

    Raises ValueError, naming the file, if it is empty or is not UTF-8, and OSError if it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} should be UTF-8 text, but {error}") from error
    if not text:
        raise ValueError(f"{path} is empty; expected a file with some text")
    return text


@dataclass(frozen=True)
class Vocabulary:
    """One id for each distinct character: id i stands for ``symbols[i]``, and the symbols are in code point order."""

    symbols: str

    def __post_init__(self) -> None:
        if not self.symbols or list(self.symbols) != sorted(set(self.symbols)):
            raise ValueError(f"symbols must be one or more, distinct and sorted, got {self.symbols!r}")

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """The vocabulary of the characters in ``text``; ValueError if there are none."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        """V, the number of symbols."""
        return len(self.symbols)

    def encode(self, text: str) -> Ids:
        """The ids of the characters of ``text``, shape (len(text),).

        Raises ValueError naming the first character that is not in the vocabulary, and its position.
        """
        id_of = {symbol: i for i, symbol in enumerate(self.symbols)}
        for position, symbol in enumerate(text):
            if symbol not in id_of:
                raise ValueError(f"character {symbol!r} at position {position} is not one of the {len(self)} symbols")
        return np.array([id_of[symbol] for symbol in text], dtype=np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """The text of a sequence of ids. Raises IndexError for an id outside 0 … V - 1."""
        return "".join(self.symbols[i] for i in _as_ids(ids, len(self)))


def split(ids: ArrayLike, held_out: float = 0.1) -> tuple[Ids, Ids]:
    """Cut into (train, test): the last fraction ``held_out`` is the test part, the rest before it trains.

    Nothing is shuffled: a model that reads needs both parts as running text.
    Raises ValueError unless 0 < held_out < 1 and both parts get at least one id.
    """
    ids = _as_ids(ids)
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be a fraction between 0 and 1, got {held_out}")
    cut = len(ids) - round(len(ids) * held_out)
    if not 0 < cut < len(ids):
        raise ValueError(f"holding out {held_out} of {len(ids)} ids leaves one part empty; expected a longer text")
    return ids[:cut], ids[cut:]


def batch_count(length: int, batch_size: int, steps: int) -> int:
    """How many batches :func:`batches` makes of ``length`` ids; 0 if they are too few for one.

    Raises TypeError if a number is not an integer, ValueError if ``batch_size`` or ``steps`` is below 1.
    """
    _check_integer("length", length, least=0)
    _check_integer("batch_size", batch_size, least=1)
    _check_integer("steps", steps, least=1)
    # The last id is a target only: it has no successor to be the input for.
    return max(length - 1, 0) // (batch_size * steps)


def batches(ids: ArrayLike, batch_size: int, steps: int) -> Iterator[tuple[Ids, Ids]]:
    """Training pairs x_t = w_{t-1}, y_t = w_t: one pass over the text as (inputs, targets), each of shape (T, B).

    The text is cut into B contiguous streams of equal length, one per column. Column b of a batch goes on exactly
    where column b of the batch before it stopped, so the hidden state after one batch is the right initial state of
    the next; only at the start of a pass must it be reset. The end of the text that fills no batch is left out.

    Raises TypeError if a size is not an integer, ValueError if a size is below 1 or the text too short for one batch.
    """
    ids = _as_ids(ids)
    stream = batch_count(len(ids), batch_size, steps) * steps  # characters in one column, over all batches
    if stream == 0:
        needed = batch_size * steps + 1
        raise ValueError(f"{batch_size} streams of {steps} steps need {needed} ids or more, got {len(ids)}")
    used = batch_size * stream
    inputs = ids[:used].reshape(batch_size, stream).T.copy()
    targets = ids[1 : used + 1].reshape(batch_size, stream).T.copy()
    # A generator expression, not a generator function: the errors above come at the call, not at the first batch.
    return ((inputs[t : t + steps], targets[t : t + steps]) for t in range(0, stream, steps))


class NGram:
    """Character n-gram model with interpolated Witten-Bell smoothing (Witten and Bell 1991).

        P(w | h) = (c(h w) + N(h) P(w | h')) / (c(h) + N(h))

    In the training text c(h w) counts the character w after the context h, c(h) any character after h, and N(h) the
    distinct ones. h' is h without its oldest character; after the empty h comes the uniform 1 / V. So the more
    varied what follows a context, the more the shorter context weighs, and an unseen context leaves it everything.
    Order n looks at n - 1 characters back; order 0 is the uniform model, of perplexity V.
    """

    def __init__(self, ids: ArrayLike, vocabulary_size: int, order: int) -> None:
        """Count the n-grams of lengths 1 … ``order`` in the training ids.

        Raises TypeError if a number is not an integer, ValueError if ``order`` is negative, ``vocabulary_size`` below
        1 or there are no ids, IndexError for an id outside 0 … V - 1.
        """
        _check_integer("vocabulary_size", vocabulary_size, least=1)
        _check_integer("order", order, least=0)
        ids = _as_ids(ids, vocabulary_size)
        if not len(ids):
            raise ValueError("an n-gram model needs at least one training id, got none")
        self.vocabulary_size = vocabulary_size
        self.order = order
        self._tables: list[_Table] = []
        context, contexts = np.zeros_like(ids), 1  # all characters share the one empty context
        for length in range(order):
            table = _Table.count(context, contexts, ids[length:], vocabulary_size)
            self._tables.append(table)
            # An n-gram is the context of the character after it; the last one has no character after it.
            context, contexts = table.find(context, ids[length:])[:-1], len(table.keys)

    def probabilities(self, context: ArrayLike) -> Floats:
        """P(w | context) for every w, shape (V,), summing to 1.

        ``context`` holds the ids so far, oldest first, any number of them: the last order - 1 count, and a shorter
        context, even ``[]``, uses the orders it is long enough for. Raises IndexError for an id outside 0 … V - 1.
        """
        history = _as_ids(context, self.vocabulary_size)
        p = np.full(self.vocabulary_size, 1 / self.vocabulary_size)
        for length, table in enumerate(self._tables[: len(history) + 1]):
            number = np.zeros(1, dtype=np.int64)
            for i in range(length):  # read the last `length` characters, oldest first
                number = self._tables[i].find(number, history[len(history) - length + i])
            p = table.interpolate(number, table.find(number, np.arange(self.vocabulary_size)), p)
        return p

    def perplexity(self, ids: ArrayLike) -> float:
        """exp of the mean over all characters of -ln P(character | characters before it).

        The ids are scored as a text of their own: the first one has no context and nothing is carried over from the
        training text. Raises ValueError if there are no ids, IndexError for an id outside 0 … V - 1.
        """
        ids = _as_ids(ids, self.vocabulary_size)
        if not len(ids):
            raise ValueError("perplexity is a mean over characters: expected at least one id, got none")
        p = np.full(len(ids), 1 / self.vocabulary_size)
        context = np.zeros_like(ids)
        for length, table in enumerate(self._tables):  # the first `length` characters have no context this long
            gram = table.find(context, ids[length:])
            p[length:] = table.interpolate(context, gram, p[length:])
            context = gram[:-1]  # an n-gram is the context of the character after it
        return float(np.exp(-np.log(p).mean()))


@dataclass(frozen=True)
class _Table:
    """The counts of all n-grams of one length, each a numbered context followed by one symbol.

    ``keys`` holds context · V + symbol, sorted, and the place of a key numbers that n-gram as a context of the next
    table. Numbering anew at every length keeps keys below (n + 1) V for n training ids, where V**order would
    overflow int64 (from order 10 at V = 103).
    A last key, larger than any other and of count 0, stands for all n-grams never seen.
    """

    keys: Ids  # (G + 1,) for G distinct n-grams
    counts: NDArray[np.intp]  # (G + 1,) c(h w)
    totals: NDArray[np.intp]  # (contexts,) c(h)
    followers: NDArray[np.intp]  # (contexts,) N(h)
    vocabulary_size: int

    @classmethod
    def count(cls, context: Ids, contexts: int, symbol: Ids, vocabulary_size: int) -> _Table:
        """The table of the n-grams (context[i], symbol[i]), with contexts numbered 0 … ``contexts`` - 1."""
        keys, counts = np.unique(context * vocabulary_size + symbol, return_counts=True)
        totals = np.bincount(context, minlength=contexts)
        # A context without followers has total 0; weight 1 in place of 0/0 then hands on the lower order exactly.
        followers = np.maximum(np.bincount(keys // vocabulary_size, minlength=contexts), 1)
        unseen = np.iinfo(np.int64).max
        return cls(np.append(keys, unseen), np.append(counts, 0), totals, followers, vocabulary_size)

    def find(self, context: Ids, symbol: Ids) -> Ids:
        """The numbers of the n-grams (context, symbol); the last number for those never seen."""
        key = context * self.vocabulary_size + symbol
        place = np.searchsorted(self.keys, key)
        return np.where(self.keys[place] == key, place, len(self.keys) - 1)

    def interpolate(self, context: Ids, gram: Ids, lower: Floats) -> Floats:
        """P(symbol | context) for n-grams numbered ``gram``, from the ``lower`` order's P of the same symbols."""
        followers = self.followers[context]
        return (self.counts[gram] + followers * lower) / (self.totals[context] + followers)


def _as_ids(ids: ArrayLike, vocabulary_size: int | None = None) -> Ids:
    """``ids`` as one int64 sequence, checked against the vocabulary if its size is given."""
    array = np.asarray(ids)
    if array.ndim != 1:
        raise ValueError(f"ids must be one sequence, of shape (n,), got shape {array.shape}")
    if array.size and not np.issubdtype(array.dtype, np.integer):  # [] has NumPy's default type, float64
        raise TypeError(f"ids must be integers, got {array.dtype}")
    if vocabulary_size is not None:
        outside = np.flatnonzero((array < 0) | (array >= vocabulary_size))
        if outside.size:
            i = outside[0]
            raise IndexError(f"id {array[i]} at position {i} is outside 0 … {vocabulary_size - 1}")
    return array.astype(np.int64, copy=False)


def _check_integer(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")


HIDDEN = "_"  # stands for the article in a window


def articles(text: str) -> tuple[list[str], NDArray[np.int64]]:
    """Every "a" and "an" of a text, hidden: windows of six characters, HIDDEN and four more, and which it was.

    1 is "a", 2 "an", which the letter after it decides: what comes before says next to nothing. Only those before a
    small letter, with no end of line in their window, are taken. Raises ValueError where there are none.
    """
    found = re.findall(r"(?<=([^_\n]{6}))\b(an?) (?=([a-z][^_\n]{3}))", text)
    if not found:
        raise ValueError("no article a or an in this text")
    return [before + HIDDEN + after for before, _, after in found], np.array([len(article) for _, article, _ in found])
