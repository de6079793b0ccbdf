"""Known answers from outside: run `python tests/make_fixtures.py`, with PyTorch and mpmath, to write `fixtures/*.npz`.

Every archive holds the inputs beside the answers, so the tests depend on no random stream. float64 throughout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
FIXTURES = Path(__file__).parent / "fixtures"
POINTS = [-700.0, -40.0, -3.5, -1.0, -0.01, -1e-9, 0.0, 1e-9, 0.3, 1.0, 2.5, 18.0, 40.0, 700.0]
LOGITS = [[0.3, -1.2, 2.0, 0.0], [1.2, 2000.0, -4000.0, 0.0], [1000.0, 999.0, 1000.0, -1000.0], [40.0, 0.0, -3.0, 2.0]]
TARGETS = [2, 0, 1, 0]


def operations(torch: Any) -> dict[str, tuple[Any, list[np.ndarray]]]:
    """Name, PyTorch's function, and arguments. The tests know the library's function of the same name."""
    rng = np.random.default_rng(2024)

    def n(*shape: int) -> np.ndarray:
        return rng.normal(size=shape)

    def p(*shape: int) -> np.ndarray:
        return rng.uniform(0.5, 2.0, shape)

    f = torch.nn.functional
    rows, columns = torch.tensor([2, 0, 2, -1]), torch.tensor([1, 1, 0, 1])
    condition = torch.tensor([[True, False, True], [False, False, True]])
    target, level = torch.tensor([[1, 0], [3, 3], [2, 1]]), torch.tensor([[0.0, 1.0, 0.25], [0.5, 1.0, 0.0]]).double()
    ties = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, -1.0, 5.0]])
    return {
        "add": (lambda a, b: a + b, [n(2, 3), n(3)]),
        "sub": (lambda a, b: a - b, [n(2, 1), n(1, 3)]),
        "mul": (lambda a, b: a * b, [n(2, 3), n(2, 1)]),
        "div": (lambda a, b: a / b, [n(3), p(2, 3)]),
        "pow": (lambda a, b: a**b, [p(2, 3), n(3)]),
        "square": (lambda a: a**2, [np.array([-2.0, 0.0, 1.5])]),
        "power at zero": (lambda a, b: a**b, [np.array([0.0, 0.0, 0.0, 2.0]), np.array([0.0, 1.0, 3.0, 0.0])]),
        "neg": (lambda x: -x, [n(3)]),
        "tanh": (torch.tanh, [n(2, 3)]),
        "sigmoid": (torch.sigmoid, [n(2, 3)]),
        "relu": (torch.relu, [np.array([-1.0, 0.0, 2.0])]),
        "exp": (torch.exp, [n(2, 3)]),
        "log": (torch.log, [p(2, 3)]),
        "sqrt": (torch.sqrt, [p(2, 3)]),
        "abs": (torch.abs, [np.array([-1.5, 0.0, 2.0])]),
        "maximum": (torch.maximum, [np.array([1.0, 5.0, 3.0, 3.0]), np.array([2.0, 2.0, 3.0, -3.0])]),
        "max over rows": (lambda x: torch.amax(x, 1), [ties]),
        "max over all": (lambda x: torch.amax(x, (0, 1)), [ties[:2]]),
        "max kept": (lambda x: torch.amax(x, 0, keepdim=True), [n(3, 4)]),
        "sum": (lambda x: x.sum((0, 2)), [n(2, 3, 4)]),
        "mean": (lambda x: x.mean((1, 2), keepdim=True), [n(2, 3, 4)]),
        "where": (lambda a, b: torch.where(condition, a, b), [n(2, 3), n(3)]),
        "matmul vectors": (lambda a, b: a @ b, [n(4), n(4)]),
        "matmul matrix vector": (lambda a, b: a @ b, [n(3, 4), n(4)]),
        "matmul vector matrix": (lambda a, b: a @ b, [n(4), n(4, 2)]),
        "matmul matrices": (lambda a, b: a @ b, [n(3, 4), n(4, 2)]),
        "matmul batches": (lambda a, b: a @ b, [n(2, 1, 3, 4), n(3, 4, 2)]),
        "matmul batch vector": (lambda a, b: a @ b, [n(2, 3, 4), n(4)]),
        "matmul vector batch": (lambda a, b: a @ b, [n(4), n(2, 4, 3)]),
        "reshape": (lambda x: x.reshape(3, 4), [n(2, 6)]),
        "transpose": (lambda x: x.permute(2, 0, 1), [n(2, 3, 4)]),
        "broadcast_to": (lambda x: x.expand(2, 3, 4), [n(3, 1)]),
        "getitem slices": (lambda x: x[1:, ..., ::2], [n(3, 2, 5)]),
        "getitem rows": (lambda x: x[rows], [n(3, 2)]),
        "getitem pairs": (lambda x: x[rows, columns], [n(3, 2, 2)]),
        "concat": (lambda a, b: torch.cat([a, b, a], 1), [n(2, 1), n(2, 3)]),
        "stack": (lambda a, b: torch.stack([a, b], 1), [n(2, 3), n(2, 3)]),
        "softmax": (lambda x: f.softmax(x, 1), [n(2, 3, 2)]),
        "log_softmax": (lambda x: f.log_softmax(x, 0), [n(4, 2)]),
        "cross_entropy none": (lambda q: f.cross_entropy(q.transpose(1, 2), target, reduction="none"), [n(3, 2, 4)]),
        "cross_entropy sum": (lambda q: f.cross_entropy(q.reshape(6, 4), target.ravel(), reduction="sum"),
                              [n(3, 2, 4)]),
        "cross_entropy mean": (lambda q: f.cross_entropy(q.reshape(6, 4), target.ravel()), [n(3, 2, 4)]),
        "cross_entropy rows": (lambda q: f.cross_entropy(q, level / level.sum(1, keepdim=True)), [n(2, 3)]),
        "bce none": (lambda q: f.binary_cross_entropy_with_logits(q, level, reduction="none"), [n(2, 3)]),
        "bce mean": (lambda q: f.binary_cross_entropy_with_logits(q, level), [n(2, 3) * 1000]),
        "mse none": (lambda a: f.mse_loss(a, level, reduction="none"), [n(2, 3)]),
        "mse sum": (lambda a: f.mse_loss(a, level, reduction="sum"), [n(2, 3)]),
        "mse mean": (lambda a: f.mse_loss(a, level), [n(2, 3)]),
    }


def make_ops(torch: Any) -> Arrays:
    """Values, and gradients for a random incoming gradient."""
    made: Arrays = {}
    rng = np.random.default_rng(2025)
    for name, (run, arrays) in operations(torch).items():
        leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
        y = run(*leaves)
        g = rng.normal(size=tuple(y.shape))
        y.backward(torch.tensor(g))
        made |= {f"{name}/y": y.detach().numpy(), f"{name}/g": np.asarray(g)}
        for i, x in enumerate(leaves):
            made |= {f"{name}/x{i}": arrays[i], f"{name}/d{i}": x.grad.numpy()}
    return made


def make_functions(mpmath: Any) -> Arrays:
    """Values and derivatives to the last digit of float64, computed with 1000 digits."""
    mpmath.mp.dps = 1000
    exact = [mpmath.mpf(x) for x in POINTS]
    sigmoid = [1 / (1 + mpmath.exp(-x)) for x in exact]
    softmax, log_softmax, loss, error = [], [], [], []
    for row, target in zip(LOGITS, TARGETS):
        e = [mpmath.exp(mpmath.mpf(q)) for q in row]
        total = mpmath.fsum(e)
        softmax.append([x / total for x in e])
        log_softmax.append([q - mpmath.log(total) for q in map(mpmath.mpf, row)])
        loss.append(-log_softmax[-1][target])
        error.append([x / total - (i == target) for i, x in enumerate(e)])
    answers = {
        "x": exact, "tanh": map(mpmath.tanh, exact), "tanh'": [1 / mpmath.cosh(x) ** 2 for x in exact],
        "sigmoid": sigmoid, "sigmoid'": [y * (1 - y) for y in sigmoid], "exp": map(mpmath.exp, exact),
        "bce 0": [mpmath.log(1 + mpmath.exp(x)) for x in exact],
        "bce 1": [mpmath.log(1 + mpmath.exp(-x)) for x in exact],
        "logits": LOGITS, "softmax": softmax, "log_softmax": log_softmax, "loss": loss, "error": error,
    }
    return {name: np.array([[float(v) for v in row] if isinstance(row, list) else float(row) for row in rows])
            for name, rows in answers.items()} | {"targets": np.array(TARGETS)}


def make_rnn(torch: Any) -> Arrays:
    """torch.nn.RNNCell, T=5 B=3 D=4 H=6, with a weight on every element of every h_t. Matrices in PyTorch's layout."""
    rng = np.random.default_rng(7)
    T, B, D, H = 5, 3, 4, 6
    shapes = {"weight_ih": (H, D), "weight_hh": (H, H), "bias_ih": (H,), "bias_hh": (H,)}
    values = {name: rng.uniform(-0.9, 0.9, shape) for name, shape in shapes.items()}
    values |= {"x": rng.normal(size=(T, B, D)), "h_0": rng.normal(size=(B, H)), "g": rng.normal(size=(T, B, H))}
    cell = torch.nn.RNNCell(D, H).double()
    with torch.no_grad():
        for name in shapes:
            getattr(cell, name).copy_(torch.tensor(values[name]))
    x, h_0 = (torch.tensor(values[name], requires_grad=True) for name in ("x", "h_0"))
    h, outputs = h_0, []
    for t in range(T):
        h = cell(x[t], h)
        outputs.append(h)
    torch.stack(outputs).backward(torch.tensor(values["g"]))
    made = values | {"h": torch.stack(outputs).detach().numpy(), "d x": x.grad.numpy(), "d h_0": h_0.grad.numpy()}
    return made | {f"d {name}": getattr(cell, name).grad.numpy() for name in shapes}


# Name, class, settings, real steps of each row. The layers: T=5 B=3 D=2 H=4.
LAYERS: list[tuple[str, str, dict[str, Any], list[int] | None]] = [
    ("rnn", "RNN", {}, None),
    ("rnn relu, 2 layers", "RNN", {"nonlinearity": "relu", "num_layers": 2}, None),
    ("rnn, both directions, without bias", "RNN", {"bidirectional": True, "bias": False}, None),
    ("rnn, 3 layers, both directions", "RNN", {"num_layers": 3, "bidirectional": True}, None),
    ("lstm", "LSTM", {}, None),
    ("lstm, 3 layers, without bias", "LSTM", {"num_layers": 3, "bias": False}, None),
    ("lstm, 2 layers, both directions", "LSTM", {"num_layers": 2, "bidirectional": True}, None),
    ("lstm, 2 layers, both directions, lengths", "LSTM", {"num_layers": 2, "bidirectional": True}, [3, 5, 1]),
    ("gru", "GRU", {}, None),
    ("gru, both directions, without bias", "GRU", {"bidirectional": True, "bias": False}, None),
    ("gru, 3 layers, both directions", "GRU", {"num_layers": 3, "bidirectional": True}, None),
    ("gru, 2 layers, lengths", "GRU", {"num_layers": 2}, [3, 5, 1]),
]


def make_layers(torch: Any) -> Arrays:
    """torch.nn.RNN, LSTM and GRU, with a weight on every element of the output and of the last states.

    Rows of different lengths are packed, as PyTorch has it. Matrices in PyTorch's layout.
    """
    rng = np.random.default_rng(13)
    T, B, D, H = 5, 3, 2, 4
    rnn, made = torch.nn.utils.rnn, {}
    for name, kind, settings, lengths in LAYERS:
        net = getattr(torch.nn, kind)(D, H, **settings).double()
        count = settings.get("num_layers", 1) * (1 + settings.get("bidirectional", False))
        states = ["h", "c"] if kind == "LSTM" else ["h"]
        values = {"x": rng.normal(size=(T, B, D))}
        values |= {f"{s}_0": rng.normal(size=(count, B, H)) for s in states}
        leaves = {key: torch.tensor(a, requires_grad=True) for key, a in values.items()}
        with torch.no_grad():
            for key, parameter in net.named_parameters():
                values[key] = rng.uniform(-0.9, 0.9, tuple(parameter.shape))
                parameter.copy_(torch.tensor(values[key]))
        leaves |= dict(net.named_parameters())
        first = tuple(leaves[f"{s}_0"] for s in states)
        x = leaves["x"] if lengths is None else rnn.pack_padded_sequence(leaves["x"], lengths, enforce_sorted=False)
        output, last = net(x, first if len(first) > 1 else first[0])
        results = {"output": output if lengths is None else rnn.pad_packed_sequence(output, total_length=T)[0]}
        results |= zip([f"{s}_n" for s in states], last if len(first) > 1 else [last])
        weights = {f"g {key}": rng.normal(size=tuple(y.shape)) for key, y in results.items()}
        torch.stack([(y * torch.tensor(weights[f"g {key}"])).sum() for key, y in results.items()]).sum().backward()
        values |= weights | {key: y.detach().numpy() for key, y in results.items()}
        values |= {f"d {key}": y.grad.numpy() for key, y in leaves.items()}
        made |= {f"{name}/{key}": a for key, a in values.items()}
    return made


def optimizers(torch: Any, parameters: list[Any]) -> dict[str, Any]:
    optim = torch.optim
    return {
        "sgd": lambda: optim.SGD(parameters, lr=0.1),
        "momentum": lambda: optim.SGD(parameters, lr=0.05, momentum=0.9),
        "adagrad": lambda: optim.Adagrad(parameters, lr=0.2),
        "adam": lambda: optim.Adam(parameters),
        "adam with settings": lambda: optim.Adam(parameters, lr=0.05, betas=(0.7, 0.95), eps=1e-3),
    }


def make_optim(torch: Any) -> Arrays:
    """Ten steps of given gradients; the second parameter has none at steps 2 and 5."""
    rng = np.random.default_rng(11)
    start = [rng.normal(size=(2, 3)), rng.normal(size=4)]
    gradients = [rng.normal(size=(10, 2, 3)), rng.normal(size=(10, 4))]
    made: Arrays = {"start 0": start[0], "start 1": start[1], "g 0": gradients[0], "g 1": gradients[1]}
    for name in optimizers(torch, []):
        parameters = [torch.tensor(a, requires_grad=True) for a in start]
        optimizer = optimizers(torch, parameters)[name]()
        path: list[list[np.ndarray]] = [[], []]
        for step in range(10):
            for i, p in enumerate(parameters):
                p.grad = None if i and step in (2, 5) else torch.tensor(gradients[i][step])
            optimizer.step()
            for i, p in enumerate(parameters):
                path[i].append(p.detach().numpy().copy())
        made |= {f"{name} {i}": np.array(path[i]) for i in (0, 1)}
    for max_norm in (0.5, 3.0, 100.0):
        for i, p in enumerate(parameters):
            p.grad = torch.tensor(gradients[i][0])
        made[f"norm {max_norm}"] = np.array(float(torch.nn.utils.clip_grad_norm_(parameters, max_norm)))
        made |= {f"clipped {max_norm} {i}": p.grad.numpy().copy() for i, p in enumerate(parameters)}
    return made


def make_all(torch: Any, mpmath: Any) -> dict[str, Arrays]:
    return {"ops": make_ops(torch), "functions": make_functions(mpmath), "rnn": make_rnn(torch),
            "layers": make_layers(torch), "optim": make_optim(torch)}


if __name__ == "__main__":
    import mpmath
    import torch

    FIXTURES.mkdir(exist_ok=True)
    for name, arrays in make_all(torch, mpmath).items():
        np.savez_compressed(FIXTURES / f"{name}.npz", **arrays)
