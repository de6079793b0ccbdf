"""Numbers and names as the pictures show them: `h₃`, `Wh₂`, `+0.12 -0.98 +0.27 …`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinygrad_rnn.bptt.tables import norm, subscript
from tinygrad_rnn.local import outside_brackets
from tinygrad_rnn.ops import Array
from tinygrad_rnn.steps import step_of
from tinygrad_rnn.tensor import Tensor

HIGH = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
SYMBOLS = {"add": "+", "sub": "−", "mul": "∘", "div": "/", "matmul": "@", "neg": "−", "sum": "Σ", "sigmoid": "σ"}
INDEXED = re.compile(r"(?!.*_l\d+$)(.+?)_?(\d+)", re.DOTALL)  # h_3, but not W_l1, which is W of a layer
LOW = re.compile("[₀-₉]")
LONGEST = 20  # characters of a label made up of its inputs' labels
SUBSCRIPT = re.compile(r"(?:(?<=\bd)|(?<!\w))[^\W\d_]['′]?(_(?:[a-z]{1,3}_)?l\d+|_[a-z]{1,3})(?![a-zA-Z_])")  # W_f: _f
LOGIT_READERS = ("cross_entropy", "binary_cross_entropy", "softmax", "log_softmax")


class Widths(dict[str, float]):
    """About how wide DejaVu Sans sets a character, in ems."""

    def __missing__(self, c: str) -> float:
        self[c] = 0.42 if "₀" <= c <= "₉" or c in "⁽⁾¹²³" else 0.64
        return self[c]


WIDTHS = Widths({" ": 0.32, "+": 0.84, "-": 0.36, "−": 0.84, "–": 0.5, ".": 0.32, ",": 0.32, "∇": 0.69, "…": 1.0,
                 "(": 0.39, ")": 0.39, "‖": 0.5, "m": 0.97, "w": 0.82, "W": 0.99, "M": 0.86, "@": 1.0, "E": 0.63,
                 "i": 0.28, "l": 0.28, "t": 0.39, "f": 0.35, "r": 0.41, "j": 0.28, "∘": 0.63, "[": 0.39, "]": 0.39,
                 "/": 0.34, "=": 0.84, "_": 0.5})


def text_width(text: str, size: float, bold: bool = False) -> float:
    """About how wide a line is, in points."""
    if "_" in text:
        text = SUBSCRIPT.sub(lambda found: found[0].replace("_", ""), text)
    return sum(map(WIDTHS.__getitem__, text)) * size * (1.1 if bold else 1.0)


def number(x: float) -> str:
    """A signed number in about five characters; tiny is never rounded to zero."""
    size, x = abs(x), x + 0.0  # no minus before 0
    if size == 0 or 0.005 <= size < 100:
        return f"{x:+.2f}"
    if 100 <= size < 1e5:
        return f"{x:+.0f}"
    return f"{x:+.0e}".replace("e-0", "e-").replace("e+0", "e") if math.isfinite(x) else f"{x:+}"


def magnitude(x: float) -> str:
    return "0" if x == 0 else f"{x:.2g}".replace("e-0", "e-")


def brief(array: Array) -> str:
    """The first three numbers of an array, and … for the others; of one number three digits, for sums to add up."""
    if array.dtype.kind == "c":
        return f"complex {array.shape}"
    if array.size == 0:
        return f"empty {array.shape}"
    if array.size == 1:
        return f"{array.item():+z.3g}".replace("e-0", "e-").replace("e+0", "e")
    first = array.flat[:3].tolist()
    return " ".join([number(x) for x in first]) + (" …" if array.size > 3 else "")


def full(array: Array) -> str:
    """All numbers of a small array; of a large one its shape, norm and range."""
    if array.size <= 24:
        return listed(array.tolist())
    return f"shape {array.shape}, norm {norm(array):.4g}, from {array.min():.4g} to {array.max():.4g}"


def listed(values: Any) -> str:
    return f"[{', '.join(map(listed, values))}]" if isinstance(values, list) else f"{values:.6g}"


def stem(name: str) -> str:
    """A name without the number of its step: `h_0` is `h`."""
    match = INDEXED.fullmatch(name)
    return match[1] if match else name


def steps_removed(label: str) -> str:
    """A label, or several, without the numbers of steps: `Wh₂` is `Wh`."""
    return LOW.sub("", label)


def given_name(x: Tensor, layered: bool, given: int | None) -> str:
    """The name a tensor was given, with its step: `h₃`, in the backward direction `h′₃`, in layer 1 of many `h¹₃`.

    given: the step that reads it, if it comes from outside as an x_t does: it belongs to no direction or layer.
    """
    name, t = x.name or "", step_of(x) if given is None else given
    match = INDEXED.fullmatch(name)
    if match:
        name, t = match[1], int(match[2])
    if t is None:
        return name
    if x.scope.get("direction") == "backward" and name[-1:] not in "'′" and given is None:
        name += "′"
    if layered and "layer" in x.scope and given is None:
        name += str(x.scope["layer"]).translate(HIGH)
    return subscript(name, t)


def labels_of(tensors: Iterable[Tensor], logits: set[Tensor], shared: set[Tensor], given: Mapping[Tensor, int],
              layered: bool) -> dict[Tensor, str]:
    """A label for every tensor, in creation order. Unnamed results are called after what they are made of."""
    labels: dict[Tensor, str] = {}
    candidates: set[str] = set()  # what cells themselves give a tilde, as the c̃ of an LSTM
    for x in tensors:
        name = given_name(x, layered, given.get(x)) if x.name else unnamed(x, labels, logits, shared)
        alike = [y for y in x.inputs if labels[y] == name and y.op is not None]
        if alike and x.op is not None and x.op.name == "concat":  # both directions: not h₃ once more
            name = f"[{', '.join([labels[y] for y in x.inputs])}]"
        elif alike and x.op is not None and x.op.name == "where":  # a masked step (15): h̃₃, or the state before
            mark = "\u0303" if f"{name[0]}\u0303{name[1:]}" not in candidates else "\u0302"
            labels.update({y: f"{name[0]}{mark}{name[1:]}" for y in alike})
        elif alike and x.op is not None and x.op.name == "add":  # what z₃ was before a peephole: not z₃ too
            labels.update({y: made_of(y, labels, shared) or name for y in alike})
        labels[x] = name
        if "\u0303" in name:
            candidates.add(name)
    return labels


def unnamed(x: Tensor, labels: Mapping[Tensor, str], logits: set[Tensor], shared: set[Tensor]) -> str:
    if x.op is None:
        return f"{x.item():.4g}" if x.size == 1 and x.dtype.kind == "f" else "constant"
    t = step_of(x)
    low = subscript("", t)
    if x in logits and not any(labels[y] == "q" + low for y in x.inputs):
        return "q" + low
    symbol: str = SYMBOLS.get(x.op.name, x.op.name) + low
    if x.op.name in SYMBOLS and any(steps_removed(labels[y]) in SYMBOLS.values() for y in x.inputs):
        return symbol
    text = made_of(x, labels, shared)
    return text if 0 < len(text) <= LONGEST else symbol


def made_of(x: Tensor, labels: Mapping[Tensor, str], shared: set[Tensor]) -> str:
    """A result in the labels of its inputs, such as `f₃∘c₂+i₃∘c̃₃`; nothing where the notes have no sign for it."""
    assert x.op is not None
    parts, op, low = [labels[y] for y in x.inputs], x.op.name, subscript("", step_of(x))
    if op == "matmul":  # the notes multiply columns from the left: h @ W is written Wh
        left, right = parts[::-1] if x.inputs[1] in shared else parts
        plain = len(left.rstrip("'′")) == 1 and right != left and "_" not in right
        return left + ("" if plain else "·") + atom(right)
    if op == "getitem":
        index = (x.settings or {}).get("index")
        ids = "w" + low if isinstance(index, np.ndarray) else index if isinstance(index, int) else "…"
        return f"{parts[0]}[{ids}]"
    if op in ("cross_entropy", "binary_cross_entropy"):  # one number for each row: their sum or mean is E
        return ("−ln ŷ" if op == "cross_entropy" else "ℓ") + low
    if op == "concat":
        return f"[{', '.join(parts)}]"
    if op == "where":
        return " or ".join(parts)
    if len(parts) == 2 and op in SYMBOLS:
        a, b = parts if op == "add" else (atom(parts[0]) if op != "sub" else parts[0], atom(parts[1]))
        return a + SYMBOLS[op] + b
    if len(parts) == 1:
        return f"{SYMBOLS.get(op, op)}({parts[0]})" if op != "neg" else f"−{parts[0]}"
    return ""


def atom(text: str) -> str:
    """A factor: a sum in brackets."""
    return f"({text})" if any(sign in outside_brackets(text) for sign in "+−∘/") else text


def remark(x: Tensor, label: str) -> str:
    """What is said in grey beside a label: the primitive, or for a leaf its shape."""
    if x.op is None:
        return str(x.shape).replace(",)", ")") if x.shape else ""
    name: str = SYMBOLS.get(x.op.name, x.op.name.replace("_", " "))
    if name == label:  # a label that is no more than the primitive says how many inputs, or the primitive's other name
        return f"of {len(x.inputs)}" if x.op.joint else str(x.op.name)
    return name
