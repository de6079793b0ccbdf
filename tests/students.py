"""Homework: backpropagation through time by hand in plain NumPy, as students hand it in, typical mistakes included.

The students are invented. They were written independently of the doctor, without a look at its source, so that it can
be tried on code it has not seen: each in a style of its own, some on top of the forward passes handed out below.
`mistakes` says what is wrong, and is empty for those who are right; orientation 'out-in' means that the matrices come
back as (out, in), which is a convention and no mistake. Run this file to compare all of them with torch's autograd.

The exercise: rows, x (T, B, D), y (T, B), weights (in, out), q_t = h_t V + c, the loss is the sum over t and b of the
softmax cross-entropy.
rnn: h_t = tanh(x_t U + h_{t-1} W + b). lstm: gates f, i, o and candidate c, c_t = f c_{t-1} + i c~, h_t = o tanh(c_t).
gru: n = tanh(x U_n + b_n + r (h W_n + b_hn)), h_t = (1-z) n + z h_{t-1}. gru-update: h_t = u n + (1-u) h_{t-1}.
birnn: h'_t = tanh(x_t U' + h'_{t+1} W' + b'), h'_{T+1} is initial["h_0'"], q_t = h_t V + h'_t V' + c, or
[h_t, h'_t] V + c; every birnn student takes both forms of V.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]

@dataclass(frozen=True)
class Student:
    name: str
    cell: str  # 'rnn', 'lstm', 'gru', 'gru-update' or 'birnn'
    mistakes: tuple[str, ...]  # a few words each; empty if the gradients are right
    orientation: str  # 'in-out' as the weights, or 'out-in'
    run: Callable[[Arrays, np.ndarray, np.ndarray, Arrays], Arrays]

STUDENTS: list[Student] = []

def student(cell: str, *mistakes: str, orientation: str = "in-out", joined: bool = False):
    """Enters a function as a student; joined: this BiRNN is written for V of [h, h'], not for V and V'."""
    def enter(function):
        def run(weights, x, y, initial):
            if cell != "birnn" or joined != ("V'" in weights):
                return function(weights, x, y, initial)
            if joined:
                stacked = {k: v for k, v in weights.items() if k != "V'"}
                grads = function(stacked | {"V": np.vstack([weights["V"], weights["V'"]])}, x, y, initial)
                H = len(weights["V"])
                return grads | {"V": grads["V"][:H], "V'": grads["V"][H:]}
            top, bottom = np.split(weights["V"], 2)
            grads = function(weights | {"V": top, "V'": bottom}, x, y, initial)
            V = np.vstack([grads["V"], grads.pop("V'")])
            return grads | {"V": V}
        STUDENTS.append(Student(function.__name__, cell, mistakes, orientation, run))
        return function
    return enter

# -- handed out with the exercise: forward passes (index 0 is the initial state) and two sums ------------------------

def sigmoid(a):
    return 1 / (1 + np.exp(-a))

def softmax(q):
    e = np.exp(q - q.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)

def delta_q(h, w, y):
    """p - onehot for all steps, (T, B, V)."""
    p = softmax(h @ w["V"] + w["c"])
    return p - np.eye(p.shape[-1])[y]

def add_output(grads, h_t, dq):
    """One step of V and c."""
    grads["V"] += h_t.T @ dq
    grads["c"] += dq.sum(0)

def add(grads, gate, x_t, h_prev, dz):
    """One step of a gate's U, W, b; gate is '', '_f', ..."""
    grads["U" + gate] += x_t.T @ dz
    grads["W" + gate] += h_prev.T @ dz
    grads["b" + gate] += dz.sum(0)

def rnn_forward(w, x, s):
    h = [s["h_0"]]
    for x_t in x:
        h.append(np.tanh(x_t @ w["U"] + h[-1] @ w["W"] + w["b"]))
    return np.array(h)

def lstm_forward(w, x, s):
    h, c, f, i, o, g = [s["h_0"]], [s["c_0"]], [None], [None], [None], [None]
    for x_t in x:
        f.append(sigmoid(x_t @ w["U_f"] + h[-1] @ w["W_f"] + w["b_f"]))
        i.append(sigmoid(x_t @ w["U_i"] + h[-1] @ w["W_i"] + w["b_i"]))
        o.append(sigmoid(x_t @ w["U_o"] + h[-1] @ w["W_o"] + w["b_o"]))
        g.append(np.tanh(x_t @ w["U_c"] + h[-1] @ w["W_c"] + w["b_c"]))
        c.append(f[-1] * c[-1] + i[-1] * g[-1])
        h.append(o[-1] * np.tanh(c[-1]))
    return h, c, f, i, o, g

def gru_forward(w, x, s):
    h, steps = [s["h_0"]], []
    for x_t in x:
        r = sigmoid(x_t @ w["U_r"] + h[-1] @ w["W_r"] + w["b_r"])
        z = sigmoid(x_t @ w["U_z"] + h[-1] @ w["W_z"] + w["b_z"])
        m = h[-1] @ w["W_n"] + w["b_hn"]
        n = np.tanh(x_t @ w["U_n"] + w["b_n"] + r * m)
        steps.append((x_t, h[-1], r, z, m, n))
        h.append((1 - z) * n + z * h[-1])
    return np.array(h), steps

def birnn_forward(w, x, s):
    forward = rnn_forward(w, x, s)
    backward = rnn_forward({k: w[k + "'"] for k in "UWb"}, x[::-1], {"h_0": s["h_0'"]})
    return forward, backward[::-1]  # forward[0] = h_0, forward[t+1] = h of x[t]; backward[t] = h' of x[t], [T] = h_0'

# -- tanh RNN --------------------------------------------------------------------------------------------------------

@student("rnn")
def ada(w, x, y, s):
    U, W, b, V, c = (w[k] for k in ("U", "W", "b", "V", "c"))
    T, B, _ = x.shape
    hs, ps = {-1: s["h_0"]}, {}
    for t in range(T):
        hs[t] = np.tanh(x[t] @ U + hs[t - 1] @ W + b)
        ps[t] = softmax(hs[t] @ V + c)
    dU, dW, db, dV, dc = (np.zeros_like(m) for m in (U, W, b, V, c))
    dhnext = np.zeros_like(hs[0])
    for t in reversed(range(T)):
        dq = ps[t].copy()
        dq[np.arange(B), y[t]] -= 1
        dV += hs[t].T @ dq
        dc += dq.sum(axis=0)
        draw = (1 - hs[t] ** 2) * (dq @ V.T + dhnext)
        db += draw.sum(axis=0)
        dU += x[t].T @ draw
        dW += hs[t - 1].T @ draw
        dhnext = draw @ W.T
    return {"U": dU, "W": dW, "b": db, "V": dV, "c": dc}

@student("rnn")
def boris(w, x, y, s):
    # one sentence at a time, sum over all pairs (loss at step t, parameter used at step k <= t)
    grad = {name: np.zeros_like(value) for name, value in w.items()}
    for example in range(x.shape[1]):
        states = [s["h_0"][example]]
        for t in range(len(x)):
            states.append(np.tanh(w["U"].T @ x[t, example] + w["W"].T @ states[t] + w["b"]))
            error = softmax(w["V"].T @ states[t + 1] + w["c"])
            error[y[t, example]] -= 1.0
            grad["V"] += np.outer(states[t + 1], error)
            grad["c"] += error
            delta = w["V"] @ error * (1 - states[t + 1] ** 2)
            for k in range(t, -1, -1):
                grad["U"] += np.outer(x[k, example], delta)
                grad["W"] += np.outer(states[k], delta)
                grad["b"] += delta
                delta = w["W"] @ delta * (1 - states[k] ** 2)
    return grad

@student("rnn", orientation="out-in")
def clara(w, x, y, s):
    # column vectors as in the lecture: h = tanh(U x + W h + b), everything is (size, batch)
    U, W, V = w["U"].T, w["W"].T, w["V"].T
    b, c = w["b"][:, None], w["c"][:, None]
    xs = [x_t.T for x_t in x]
    h = [s["h_0"].T]
    for x_t in xs:
        h.append(np.tanh(U @ x_t + W @ h[-1] + b))
    dU, dW, db, dV, dc, carry = 0, 0, 0, 0, 0, 0
    for t in range(len(xs), 0, -1):
        target = np.eye(len(V))[:, y[t - 1]]
        e = softmax((V @ h[t] + c).T).T - target
        dz = (V.T @ e + carry) * (1 - h[t] * h[t])
        dV, dc = dV + e @ h[t].T, dc + e.sum(1)
        dU, dW, db = dU + dz @ xs[t - 1].T, dW + dz @ h[t - 1].T, db + dz.sum(1)
        carry = W.T @ dz
    return dict(U=dU, W=dW, b=db, V=dV, c=dc)

@student("rnn", "only the explicit term of each step, no carry from the later ones")
def david(w, x, y, s):
    h = rnn_forward(w, x, s)
    dq = delta_q(h[1:], w, y)
    dz = (dq @ w["V"].T) * (1 - h[1:] ** 2)  # all steps at once
    return {
        "U": np.einsum("tbd,tbh->dh", x, dz),
        "W": np.einsum("tbi,tbj->ij", h[:-1], dz),
        "b": dz.sum(axis=(0, 1)),
        "V": np.einsum("tbh,tbv->hv", h[1:], dq),
        "c": dq.sum(axis=(0, 1)),
    }

@student("rnn", "truncated: at most 2 steps back from each loss")
def emma(w, x, y, s, bptt_truncate=2):
    h = rnn_forward(w, x, s)
    dq = delta_q(h[1:], w, y)
    dLdU, dLdW, dLdb, dLdV, dLdc = [np.zeros(w[k].shape) for k in "UWbVc"]
    for t in np.arange(len(x))[::-1]:
        dLdV += h[t + 1].T @ dq[t]
        dLdc += dq[t].sum(0)
        delta_t = dq[t].dot(w["V"].T) * (1 - h[t + 1] ** 2)
        for step in np.arange(max(0, t - bptt_truncate), t + 1)[::-1]:
            dLdW += h[step].T @ delta_t
            dLdU += x[step].T @ delta_t
            dLdb += delta_t.sum(0)
            delta_t = delta_t.dot(w["W"].T) * (1 - h[step] ** 2)
    return {"U": dLdU, "W": dLdW, "b": dLdb, "V": dLdV, "c": dLdc}

@student("rnn", "only the loss of the last step")
def felix(w, x, y, s):
    h = list(rnn_forward(w, x, s))
    dq = softmax(h[-1] @ w["V"] + w["c"])
    dq[range(len(dq)), y[-1]] -= 1
    out = {"V": h[-1].T @ dq, "c": dq.sum(0), "U": 0 * w["U"], "W": 0 * w["W"], "b": 0 * w["b"]}
    dh, t = dq @ w["V"].T, len(x)
    while t > 0:
        da = dh * (1 - h[t] ** 2)
        out["U"] += x[t - 1].T @ da
        out["W"] += h[t - 1].T @ da
        out["b"] += da.sum(0)
        dh = da @ w["W"].T
        t -= 1
    return out

@student("rnn", "h_t instead of h_{t-1} in dW")
def greta(w, x, y, s):
    H, prev = [], s["h_0"]
    for t in range(len(x)):
        prev = np.tanh(x[t].dot(w["U"]) + prev.dot(w["W"]) + w["b"])
        H.append(prev)
    g, dnext = defaultdict(float), np.zeros_like(prev)
    for t in range(len(x) - 1, -1, -1):
        dy = softmax(H[t].dot(w["V"]) + w["c"]) - np.eye(len(w["c"]))[y[t]]
        dz = (dy.dot(w["V"].T) + dnext) * (1 - H[t] ** 2)
        for k, left, right in (("V", H[t], dy), ("U", x[t], dz), ("W", H[t], dz)):
            g[k] += left.T.dot(right)
        g["c"] += dy.sum(0)
        g["b"] += dz.sum(0)
        dnext = dz.dot(w["W"].T)
    return dict(g)

@student("rnn", "tanh' missing in the carry: dh W^T instead of dz W^T")
def hugo(w, x, y, s):
    h = rnn_forward(w, x, s)
    dq = delta_q(h[1:], w, y)
    # first all dh by a recursion, then the gradients at once
    dh = np.zeros_like(h[1:])
    dh[-1] = dq[-1] @ w["V"].T
    for t in range(len(x) - 2, -1, -1):
        dh[t] = dq[t] @ w["V"].T + dh[t + 1] @ w["W"].T
    dz = dh * (1 - h[1:] ** 2)
    flat = lambda a: a.reshape(-1, a.shape[-1])  # noqa: E731
    return {"U": flat(x).T @ flat(dz), "W": flat(h[:-1]).T @ flat(dz), "b": flat(dz).sum(0),
            "V": flat(h[1:]).T @ flat(dq), "c": flat(dq).sum(0)}

@student("rnn", "W instead of W transposed in the carry")
def ines(w, x, y, s):
    h = rnn_forward(w, x, s)
    dy = delta_q(h[1:], w, y)
    grads = {k: np.zeros_like(v) for k, v in w.items()}
    dh_next = np.zeros_like(h[0])
    for x_t, h_prev, h_t, dy_t in list(zip(x, h[:-1], h[1:], dy))[::-1]:
        dz = (1 - h_t ** 2) * (dy_t @ w["V"].T + dh_next)
        for name, step in (("V", h_t.T @ dy_t), ("c", dy_t.sum(0)), ("U", x_t.T @ dz), ("W", h_prev.T @ dz),
                           ("b", dz.sum(0))):
            grads[name] += step
        dh_next = dz @ w["W"]
    return grads

@student("rnn", "1 - h instead of 1 - h**2")
def jonas(w, x, y, s):
    grads, cache, h, dh = defaultdict(float), [], s["h_0"], 0

    def step(x_t, h):
        new = np.tanh(x_t @ w["U"] + h @ w["W"] + w["b"])

        def step_backward(dq, dh):  # remembers x_t, h and new
            add_output(grads, new, dq)
            dz = (dh + dq @ w["V"].T) * (1 - new)
            add(grads, "", x_t, h, dz)
            return dz @ w["W"].T
        return new, step_backward

    for x_t, y_t in zip(x, y):
        h, step_backward = step(x_t, h)
        cache.append((step_backward, delta_q(h, w, y_t)))
    while cache:
        step_backward, dq = cache.pop()
        dh = step_backward(dq, dh)
    return dict(grads)

@student("rnn", "(1 - h)**2 instead of 1 - h**2", orientation="out-in")
def karla(w, x, y, s):
    # column vectors, one example after the other
    U, W, V = w["U"].T, w["W"].T, w["V"].T
    nabla = {"U": U * 0, "W": W * 0, "V": V * 0, "b": w["b"] * 0, "c": w["c"] * 0}
    for n in range(x.shape[1]):
        a, back = [s["h_0"][n]], 0
        for t in range(x.shape[0]):
            a += [np.tanh(U @ x[t, n] + W @ a[-1] + w["b"])]
        for t in range(x.shape[0])[::-1]:
            err = softmax(V @ a[t + 1] + w["c"])
            err[y[t, n]] -= 1
            delta = (V.T @ err + back) * (1 - a[t + 1]) ** 2
            for k, d, left in (("V", err, a[t + 1]), ("U", delta, x[t, n]), ("W", delta, a[t])):
                nabla[k] += d[:, None] * left[None, :]
            nabla["c"] += err
            nabla["b"] += delta
            back = W.T @ delta
    return nabla

@student("rnn", "divided by T: the mean over the steps instead of the sum")
def lars(w, x, y, s):
    h = rnn_forward(w, x, s)
    d_scores = delta_q(h[1:], w, y) / len(x)
    d_V = sum(h[t + 1].T @ d_scores[t] for t in range(len(x)))
    d_U, d_W, d_b, d_state = 0.0, 0.0, 0.0, 0.0
    for t in reversed(range(len(x))):
        d_state = d_state + d_scores[t] @ w["V"].T
        d_act = d_state - d_state * h[t + 1] * h[t + 1]
        d_U, d_W, d_b = d_U + x[t].T @ d_act, d_W + h[t].T @ d_act, d_b + np.ones(len(d_act)) @ d_act
        d_state = d_act @ w["W"].T
    return {"U": d_U, "W": d_W, "b": d_b, "V": d_V, "c": d_scores.sum((0, 1))}

@student("rnn", "sign: onehot - p, so every gradient is negated")
def mia(w, x, y, s):
    h, delta = rnn_forward(w, x, s), 0 * s["h_0"]
    Y = np.eye(len(w["c"]))
    g = {k: np.zeros(v.shape) for k, v in w.items()}
    for t in range(len(x), 0, -1):
        e = Y[y[t - 1]] - softmax(h[t] @ w["V"] + w["c"])
        delta = (e @ w["V"].T + delta @ w["W"].T) * (1 - h[t] ** 2)
        add_output(g, h[t], e)
        add(g, "", x[t - 1], h[t - 1], delta)
    return g

@student("rnn", "bias counted once: db = instead of db +=")
def nils(w, x, y, s):
    h = rnn_forward(w, x, s)
    dU, dW, dV, dc = np.zeros_like(w["U"]), np.zeros_like(w["W"]), np.zeros_like(w["V"]), np.zeros_like(w["c"])
    dh_next = np.zeros_like(h[0])
    for t in range(len(x) - 1, -1, -1):
        p = softmax(h[t + 1] @ w["V"] + w["c"])
        for k in range(len(p)):
            p[k][y[t][k]] -= 1
        dV += np.dot(h[t + 1].T, p)
        dc += np.sum(p, axis=0)
        dtanh = (np.dot(p, w["V"].T) + dh_next) * (1 - np.square(h[t + 1]))
        dU += np.dot(x[t].T, dtanh)
        dW += np.dot(h[t].T, dtanh)
        db = np.sum(dtanh, axis=0)
        dh_next = np.dot(dtanh, w["W"].T)
    return {"U": dU, "W": dW, "b": db, "V": dV, "c": dc}

@student("rnn", "dW transposed (it is square, so the shapes do not tell)")
def olga(w, x, y, s):
    h = rnn_forward(w, x, s)
    dq = delta_q(h[1:], w, y)
    dz, after = [], np.zeros_like(h[0])
    for h_t, dq_t in zip(h[:0:-1], dq[::-1]):
        after = (dq_t @ w["V"].T + after @ w["W"].T) * (1 - h_t ** 2)
        dz.insert(0, after)
    dz = np.array(dz)
    return {"U": np.tensordot(x, dz, ((0, 1), (0, 1))), "W": np.tensordot(dz, h[:-1], ((0, 1), (0, 1))),
            "b": dz.sum((0, 1)), "V": np.tensordot(h[1:], dq, ((0, 1), (0, 1))), "c": dq.sum((0, 1))}

@student("rnn", "the carry replaces the explicit term before the last step", "mean over the batch in db")
def quinn(w, x, y, s):
    h = rnn_forward(w, x, s)
    errors = delta_q(h[1:], w, y)
    result = {k: np.zeros_like(v) for k, v in w.items()}
    dh = None
    for t in reversed(range(len(x))):
        result["V"] += h[t + 1].T @ errors[t]
        result["c"] += errors[t].sum(0)
        dh = errors[t] @ w["V"].T if dh is None else dz @ w["W"].T  # noqa: F821
        dz = dh * (1 - h[t + 1] ** 2)
        result["U"] += x[t].T @ dz
        result["W"] += h[t].T @ dz
        result["b"] += dz.mean(0)
    return result

@student("rnn", "the carry is not reset between the examples of the batch")
def sven(w, x, y, s):
    g = {k: np.zeros(v.shape) for k, v in w.items()}
    carry = np.zeros(len(w["b"]))
    for j in range(x.shape[1]):
        hs = rnn_forward(w, x[:, j], {"h_0": s["h_0"][j]})
        for t in reversed(range(len(x))):
            err = delta_q(hs[t + 1], w, y[t, j])
            dz = (w["V"] @ err + carry) * (1 - hs[t + 1] ** 2)
            g["V"] += np.outer(hs[t + 1], err)
            g["c"] += err
            g["U"] += np.outer(x[t, j], dz)
            g["W"] += np.outer(hs[t], dz)
            g["b"] += dz
            carry = w["W"] @ dz
    return g

# -- LSTM ------------------------------------------------------------------------------------------------------------

@student("lstm")
def alma(w, x, y, s):
    h, c, f, i, o, g = lstm_forward(w, x, s)
    grads = {k: np.zeros_like(v) for k, v in w.items()}
    dh_next, dc_next = np.zeros_like(h[0]), np.zeros_like(c[0])
    for t in range(len(x), 0, -1):
        dq = delta_q(h[t], w, y[t - 1])
        add_output(grads, h[t], dq)
        dh = dq @ w["V"].T + dh_next
        dc = dc_next + dh * o[t] * (1 - np.tanh(c[t]) ** 2)
        dz = {"_f": dc * c[t - 1] * f[t] * (1 - f[t]), "_i": dc * g[t] * i[t] * (1 - i[t]),
              "_o": dh * np.tanh(c[t]) * o[t] * (1 - o[t]), "_c": dc * i[t] * (1 - g[t] ** 2)}
        for k, d in dz.items():
            add(grads, k, x[t - 1], h[t - 1], d)
        dh_next, dc_next = sum(d @ w["W" + k].T for k, d in dz.items()), dc * f[t]
    return grads

@student("lstm", orientation="out-in")
def bruno(w, x, y, s):
    # one big matrix (4H, H+D) for all gates and [h; x] as a column
    H = len(w["b_f"])
    M = np.vstack([np.hstack([w["W_" + k].T, w["U_" + k].T]) for k in "fioc"])
    bias = np.hstack([w["b_" + k] for k in "fioc"])[:, None]
    h, c, cache = s["h_0"].T, s["c_0"].T, []
    for x_t, y_t in zip(x, y):
        hx = np.vstack([h, x_t.T])
        f, i, o, g = np.vsplit(M @ hx + bias, 4)
        f, i, o, g = sigmoid(f), sigmoid(i), sigmoid(o), np.tanh(g)
        c_old, c = c, f * c + i * g
        h = o * np.tanh(c)
        cache.append((hx, c_old, f, i, o, g, np.tanh(c), h, delta_q(h.T, w, y_t).T))
    dM, dbias, dV, dc_out = 0, 0, 0, 0
    dh, dC = np.zeros_like(h), np.zeros_like(c)
    while cache:
        hx, c_old, f, i, o, g, tc, h, e = cache.pop()
        dh = dh + w["V"] @ e
        dC = dC + dh * o * (1 - tc ** 2)
        da = np.vstack([dC * c_old * f * (1 - f), dC * g * i * (1 - i), dh * tc * o * (1 - o), dC * i * (1 - g ** 2)])
        dM, dbias, dV, dc_out = dM + da @ hx.T, dbias + da.sum(1), dV + e @ h.T, dc_out + e.sum(1)
        dh, dC = (M.T @ da)[:H], dC * f
    out = {"V": dV, "c": dc_out}
    for k, rows, d in zip("fioc", np.vsplit(dM, 4), np.split(dbias, 4)):
        out |= {"W_" + k: rows[:, :H], "U_" + k: rows[:, H:], "b_" + k: d}
    return out

@student("lstm", "no carry of delta c: dc comes from dh alone")
def carmen(w, x, y, s):
    h, c, f, i, o, g = lstm_forward(w, x, s)
    grads = dict.fromkeys(w, 0)
    dh = np.zeros_like(h[0])
    for t in reversed(range(1, len(x) + 1)):
        err = delta_q(h[t], w, y[t - 1])
        dh = dh + err @ w["V"].T
        dc = dh * o[t] * (1 - np.tanh(c[t]) ** 2)
        gates = [("o", dh * np.tanh(c[t]) * o[t] * (1 - o[t])), ("i", dc * g[t] * i[t] * (1 - i[t])),
                 ("f", dc * c[t - 1] * f[t] * (1 - f[t])), ("c", dc * i[t] * (1 - g[t] ** 2))]
        grads["V"], grads["c"] = grads["V"] + h[t].T @ err, grads["c"] + err.sum(0)
        dh = 0
        for k, da in gates:
            grads[f"U_{k}"] = grads[f"U_{k}"] + x[t - 1].T @ da
            grads[f"W_{k}"] = grads[f"W_{k}"] + h[t - 1].T @ da
            grads[f"b_{k}"] = grads[f"b_{k}"] + da.sum(0)
            dh = dh + da @ w[f"W_{k}"].T
    return grads

@student("lstm", "no forget gate in the carry: dc_prev = dc")
def dario(w, x, y, s):
    h, c, f, i, o, g = (list(a) for a in lstm_forward(w, x, s))
    dq = delta_q(np.array(h[1:]), w, y)
    d = {k: np.zeros_like(h[1:]) for k in "fioc"}
    dh_prev, dc_prev = np.zeros_like(h[0]), np.zeros_like(c[0])
    for t in range(len(x), 0, -1):
        dh = dq[t - 1] @ w["V"].T + dh_prev
        dc = dc_prev + dh * o[t] * (1 - np.tanh(c[t]) ** 2)
        d["o"][t - 1] = dh * np.tanh(c[t]) * o[t] * (1 - o[t])
        d["f"][t - 1] = dc * c[t - 1] * f[t] * (1 - f[t])
        d["i"][t - 1] = dc * g[t] * i[t] * (1 - i[t])
        d["c"][t - 1] = dc * i[t] * (1 - g[t] ** 2)
        dh_prev, dc_prev = sum(d[k][t - 1] @ w["W_" + k].T for k in d), dc
    grads = {"V": np.einsum("tbh,tbv->hv", h[1:], dq), "c": dq.sum((0, 1))}
    for k in d:
        grads["U_" + k], grads["b_" + k] = np.einsum("tbd,tbh->dh", x, d[k]), d[k].sum((0, 1))
        grads["W_" + k] = np.einsum("tbi,tbj->ij", h[:-1], d[k])
    return grads

@student("lstm", "c_t instead of c_{t-1} in the forget gate's gradient")
def edith(w, x, y, s):
    def forward(x_t, h, c):
        f, i, o = (sigmoid(x_t @ w["U_" + k] + h @ w["W_" + k] + w["b_" + k]) for k in "fio")
        g = np.tanh(x_t @ w["U_c"] + h @ w["W_c"] + w["b_c"])
        c = f * c + i * g
        return o * np.tanh(c), c, (x_t, h, c, f, i, o, g)

    def backward(dh, dc, cache):
        x_t, h, c, f, i, o, g = cache
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        d = {"_f": dc * c * f * (1 - f), "_i": dc * g * i * (1 - i), "_o": dh * np.tanh(c) * o * (1 - o),
             "_c": dc * i * (1 - g * g)}
        for k in d:
            add(grads, k, x_t, h, d[k])
        return sum(d[k] @ w["W" + k].T for k in d), dc * f

    grads = {k: np.zeros_like(v) for k, v in w.items()}
    h, c, caches, dh, dc = s["h_0"], s["c_0"], [], 0, 0
    for t in range(len(x)):
        h, c, cache = forward(x[t], h, c)
        caches.append((cache, h, delta_q(h, w, y[t])))
    for cache, h, dq in caches[::-1]:
        add_output(grads, h, dq)
        dh, dc = backward(dh + dq @ w["V"].T, dc, cache)
    return grads

@student("lstm", "derivative of tanh(c_t) missing: dc = dh o")
def fritz(w, x, y, s):
    h, c, f, i, o, g = lstm_forward(w, x, s)
    G = {k: np.zeros(v.shape) for k, v in w.items()}
    dh_next, dc_next = 0, 0
    for t in range(len(x), 0, -1):
        dq = delta_q(h[t], w, y[t - 1])
        add_output(G, h[t], dq)
        dh = dq @ w["V"].T + dh_next
        dc = dh * o[t] + dc_next
        dzo = dh * np.tanh(c[t]) * (o[t] - o[t] ** 2)
        dzf = dc * c[t - 1] * (f[t] - f[t] ** 2)
        dzi = dc * g[t] * (i[t] - i[t] ** 2)
        dzc = dc * i[t] * (1 - g[t] ** 2)
        dh_next, dc_next = 0, dc * f[t]
        for k, dz in (("_o", dzo), ("_f", dzf), ("_i", dzi), ("_c", dzc)):
            add(G, k, x[t - 1], h[t - 1], dz)
            dh_next = dh_next + dz @ w["W" + k].T
    return G

@student("lstm", "the derivative of f in the output gate: do f (1 - f)")
def gerda(w, x, y, s):
    h, c, f, i, o, g = lstm_forward(w, x, s)
    grads = dict.fromkeys(w, 0)
    dh = dC = 0
    for t in range(len(x), 0, -1):
        e = delta_q(h[t], w, y[t - 1])
        dh, tc = e @ w["V"].T + dh, np.tanh(c[t])
        dC = dh * o[t] * (1 - tc ** 2) + dC
        d = dict(f=dC * c[t - 1] * f[t] * (1 - f[t]), i=dC * g[t] * i[t] * (1 - i[t]),
                 o=dh * tc * f[t] * (1 - f[t]), c=dC * i[t] * (1 - g[t] ** 2))
        here = {"V": h[t].T @ e, "c": e.sum(0)}
        for k in d:
            here |= {"U_" + k: x[t - 1].T @ d[k], "W_" + k: h[t - 1].T @ d[k], "b_" + k: d[k].sum(0)}
        grads = {name: grads[name] + here[name] for name in grads}
        dh, dC = sum(d[k] @ w["W_" + k].T for k in d), dC * f[t]
    return grads

@student("lstm", "gates f and i swapped when the stacked gradient is taken apart")
def heinz(w, x, y, s):
    H = len(w["b_f"])
    U, W, b = (np.concatenate([w[f"{m}_{k}"] for k in "fioc"], axis=-1) for m in "UWb")
    h, c, tape = s["h_0"], s["c_0"], []
    for t in range(len(x)):
        a = x[t] @ U + h @ W + b
        f, i, o = np.split(sigmoid(a[:, :3 * H]), 3, axis=1)
        g, old, h_old = np.tanh(a[:, 3 * H:]), c, h
        c = f * c + i * g
        h = o * np.tanh(c)
        tape.append((h_old, old, f, i, o, g, c, h))
    out, all_gates, dh, dc = defaultdict(float), defaultdict(float), 0, 0
    for t in reversed(range(len(x))):
        h_old, old, f, i, o, g, c, h = tape[t]
        dq = delta_q(h, w, y[t])
        add_output(out, h, dq)
        dh = dh + dq @ w["V"].T
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        da = np.hstack([dc * old * f * (1 - f), dc * g * i * (1 - i), dh * np.tanh(c) * o * (1 - o),
                        dc * i * (1 - g ** 2)])
        add(all_gates, "", x[t], h_old, da)
        dh, dc = da @ W.T, dc * f
    for name, d in all_gates.items():
        for j, k in enumerate(["i", "f", "o", "c"]):
            out[f"{name}_{k}"] = d[..., j * H:(j + 1) * H]
    return dict(out)

@student("lstm", "dh_prev without the output gate", "divided by B")
def ilse(w, x, y, s):
    h, c, f, i, o, g = lstm_forward(w, x, s)
    grads = {name: np.zeros_like(value) for name, value in w.items()}

    def back(gate, d, t):
        add(grads, gate, x[t - 1], h[t - 1], d)
        return d @ w["W" + gate].T

    dh_next = dc_next = np.zeros_like(h[0])
    for t in range(len(x), 0, -1):
        dq = delta_q(h[t], w, y[t - 1])
        add_output(grads, h[t], dq)
        dh = dq @ w["V"].T + dh_next
        back("_o", dh * np.tanh(c[t]) * o[t] * (1 - o[t]), t)
        dc = dc_next + dh * o[t] * (1 - np.tanh(c[t]) ** 2)
        dh_next = back("_f", dc * c[t - 1] * f[t] * (1 - f[t]), t)
        dh_next = dh_next + back("_i", dc * g[t] * i[t] * (1 - i[t]), t)
        dh_next = dh_next + back("_c", dc * i[t] * (1 - g[t] ** 2), t)
        dc_next = dc * f[t]
    return {name: total / x.shape[1] for name, total in grads.items()}

@student("lstm", "f_{t-1} in the carry of delta c, the forget gate of the wrong step")
def lotte(w, x, y, s):
    h, c, f, i, o, g = lstm_forward(w, x, s)
    G = {k: np.zeros_like(v) for k, v in w.items()}
    dh_next = dc_next = np.zeros_like(h[0])
    for t in range(len(x), 0, -1):
        dq = delta_q(h[t], w, y[t - 1])
        add_output(G, h[t], dq)
        dh = dq @ w["V"].T + dh_next
        dc = dc_next * f[t] + dh * o[t] * (1 - np.tanh(c[t]) ** 2)
        do, df, di, dg = dh * np.tanh(c[t]), dc * c[t - 1], dc * g[t], dc * i[t]
        do, df, di, dg = do * o[t] * (1 - o[t]), df * f[t] * (1 - f[t]), di * i[t] * (1 - i[t]), dg * (1 - g[t] ** 2)
        for k, d in zip(["_o", "_f", "_i", "_c"], [do, df, di, dg]):
            add(G, k, x[t - 1], h[t - 1], d)
        dh_next = do @ w["W_o"].T + df @ w["W_f"].T + di @ w["W_i"].T + dg @ w["W_c"].T
        dc_next = dc
    return G

# -- GRU, reset after the product ------------------------------------------------------------------------------------

def gru_sum(w, h, y, x, dr, dz, dn, dm):
    """Several students share this last cell of the notebook: the sums over the steps (lists in order of time)."""
    dq = delta_q(h[1:], w, y)
    prev = h[:-1]
    out = {"V": np.einsum("tbh,tbv->hv", h[1:], dq), "c": dq.sum((0, 1))}
    for k, d in (("r", dr), ("z", dz), ("n", dn)):
        out["U_" + k], out["b_" + k] = np.einsum("tbd,tbh->dh", x, d), np.sum(d, axis=(0, 1))
        out["W_" + k] = np.einsum("tbi,tbj->ij", prev, dm if k == "n" else d)
    return out | {"b_hn": np.sum(dm, axis=(0, 1))}

@student("gru", orientation="out-in")
def marta(w, x, y, s):
    h, steps = gru_forward(w, x, s)
    g = {k: np.zeros_like(v) for k, v in w.items()}
    dh = np.zeros_like(h[0])
    for t in range(len(x) - 1, -1, -1):
        x_t, h_prev, r, z, m, n = steps[t]
        dq = delta_q(h[t + 1], w, y[t])
        add_output(g, h[t + 1], dq)
        dh = dh + dq @ w["V"].T
        da_n = dh * (1 - z) * (1 - n ** 2)
        da_z = dh * (h_prev - n) * z * (1 - z)
        da_r = da_n * m * r * (1 - r)
        dm = da_n * r
        add(g, "_z", x_t, h_prev, da_z)
        add(g, "_r", x_t, h_prev, da_r)
        g["U_n"] += x_t.T @ da_n
        g["b_n"] += da_n.sum(0)
        g["W_n"] += h_prev.T @ dm
        g["b_hn"] += dm.sum(0)
        dh = dh * z + dm @ w["W_n"].T + da_z @ w["W_z"].T + da_r @ w["W_r"].T
    return {k: v.T for k, v in g.items()}  # as nn.GRU stores them

@student("gru")
def nina(w, x, y, s):
    h, steps = gru_forward(w, x, s)
    _, hp, r, z, m, n = (np.array(a) for a in zip(*steps))
    # the local derivatives of all steps at once; what remains in the loop is dh times them
    to_n = (1 - z) * (1 - n ** 2)
    to_z, to_r, to_m = (hp - n) * z * (1 - z), to_n * m * r * (1 - r), to_n * r
    dh = delta_q(h[1:], w, y) @ w["V"].T
    for t in range(len(x) - 1, 0, -1):
        d = dh[t]
        dh[t - 1] += d * z[t] + d * to_z[t] @ w["W_z"].T + d * to_r[t] @ w["W_r"].T + d * to_m[t] @ w["W_n"].T
    return gru_sum(w, h, y, x, dh * to_r, dh * to_z, dh * to_n, dh * to_m)

@student("gru", "the direct way z dh is missing in the carry to h_{t-1}")
def oskar(w, x, y, s):
    h, steps = gru_forward(w, x, s)
    dq = delta_q(h[1:], w, y)
    dr, dz, dn, dm, carry = [], [], [], [], 0
    for (_, h_prev, r, z, m, n), e in zip(steps[::-1], dq[::-1]):
        dh = e @ w["V"].T + carry
        dz.append(dh * (h_prev - n) * z * (1 - z))
        dn.append(dh * (1 - z) * (1 - n ** 2))
        dr.append(dn[-1] * m * r * (1 - r))
        dm.append(dn[-1] * r)
        carry = dz[-1] @ w["W_z"].T + dr[-1] @ w["W_r"].T + dm[-1] @ w["W_n"].T
    return gru_sum(w, h, y, x, dr[::-1], dz[::-1], dn[::-1], dm[::-1])

@student("gru", "reset gate not applied in the carry: dn W_n^T instead of (dn r) W_n^T")
def petra(w, x, y, s):
    h, steps = gru_forward(w, x, s)
    dq = delta_q(h[1:], w, y)
    dr, dz, dn, dm = (np.zeros_like(h[1:]) for _ in range(4))
    dh_next = np.zeros_like(h[0])
    for t in reversed(range(len(x))):
        _, h_prev, r, z, m, n = steps[t]
        dh = dq[t] @ w["V"].T + dh_next
        dz[t] = dh * (h_prev - n) * z * (1 - z)
        dn[t] = dh * (1 - z) * (1 - n ** 2)
        dm[t] = dn[t] * r
        dr[t] = dn[t] * m * r * (1 - r)
        dh_next = dh * z + dn[t] @ w["W_n"].T + dz[t] @ w["W_z"].T + dr[t] @ w["W_r"].T
    return gru_sum(w, h, y, x, dr, dz, dn, dm)

@student("gru", "b_hn treated like b_n: its gradient lacks the reset gate")
def ralf(w, x, y, s):
    h, steps = gru_forward(w, x, s)
    grads, dh = defaultdict(float), 0.0
    for t in range(len(x))[::-1]:
        x_t, hp, r, z, m, n = steps[t]
        err = delta_q(h[t + 1], w, y[t])
        dh = dh + err.dot(w["V"].T)
        dtanh = dh * (1 - z) * (1 - n ** 2)
        dsig_z = dh * (hp - n) * z * (1 - z)
        dsig_r = dtanh * m * r * (1 - r)
        for k, left, d in (("V", h[t + 1], err), ("U_n", x_t, dtanh), ("U_z", x_t, dsig_z), ("U_r", x_t, dsig_r),
                           ("W_n", hp, dtanh * r), ("W_z", hp, dsig_z), ("W_r", hp, dsig_r)):
            grads[k] += left.T.dot(d)
        for k, d in (("c", err), ("b_n", dtanh), ("b_hn", dtanh), ("b_z", dsig_z), ("b_r", dsig_r)):
            grads[k] += d.sum(0)
        dh = dh * z + (dtanh * r).dot(w["W_n"].T) + dsig_z.dot(w["W_z"].T) + dsig_r.dot(w["W_r"].T)
    return dict(grads)

@student("gru", "derived for the other form, reset before the product: tanh(x U_n + (r h) W_n)")
def sonja(w, x, y, s):
    h, steps = gru_forward(w, x, s)
    g = {k: np.zeros_like(v) for k, v in w.items()}
    dh_next = np.zeros_like(h[0])
    for t in reversed(range(len(x))):
        x_t, h_prev, r, z, _, n = steps[t]
        dq = delta_q(h[t + 1], w, y[t])
        add_output(g, h[t + 1], dq)
        dh = dh_next + dq @ w["V"].T
        dzn = dh * (1 - z) * (1 - n ** 2)
        drh = dzn @ w["W_n"].T
        dzz, dzr = dh * (h_prev - n) * z * (1 - z), drh * h_prev * r * (1 - r)
        add(g, "_n", x_t, r * h_prev, dzn)
        add(g, "_z", x_t, h_prev, dzz)
        add(g, "_r", x_t, h_prev, dzr)
        g["b_hn"] += dzn.sum(0)
        dh_next = dh * z + drh * r + dzz @ w["W_z"].T + dzr @ w["W_r"].T
    return g

@student("gru", "z and 1 - z exchanged: dn = dh z, directly to h_{t-1} goes (1 - z) dh", "b_hn forgotten in dr")
def ulli(w, x, y, s):
    h, steps = gru_forward(w, x, s)
    dq = delta_q(h[1:], w, y)
    rows, dh = [], 0
    for t in range(len(x) - 1, -1, -1):
        _, hp, r, z, _, n = steps[t]
        dh = dh + dq[t] @ w["V"].T
        dn = dh * z * (1 - n ** 2)
        dr = dn * (hp @ w["W_n"]) * r * (1 - r)
        dz = dh * (hp - n) * z * (1 - z)
        rows = [(dr, dz, dn, dn * r), *rows]
        dh = dh * (1 - z) + (dn * r) @ w["W_n"].T + dr @ w["W_r"].T + dz @ w["W_z"].T
    return gru_sum(w, h, y, x, *(list(column) for column in zip(*rows)))

# -- S2's GRU, only an update gate -----------------------------------------------------------------------------------

@student("gru-update")
def vera(w, x, y, s):
    grads = {k: np.zeros_like(v) for k, v in w.items()}
    tape, h = [], s["h_0"]
    for x_t, y_t in zip(x, y):
        u = sigmoid(x_t @ w["U_u"] + h @ w["W_u"] + w["b_u"])
        n = np.tanh(x_t @ w["U_n"] + h @ w["W_n"] + w["b_n"])
        new = u * n + (1 - u) * h
        tape.append((x_t, h, u, n, new, delta_q(new, w, y_t)))
        h = new
    dh = 0
    for x_t, h, u, n, new, e in reversed(tape):
        dh = dh + e @ w["V"].T
        du, dn = dh * (n - h) * u * (1 - u), dh * u * (1 - n ** 2)
        here = {"V": new.T @ e, "c": e.sum(0), "U_u": x_t.T @ du, "U_n": x_t.T @ dn, "W_u": h.T @ du, "W_n": h.T @ dn,
                "b_u": du.sum(0), "b_n": dn.sum(0)}
        for k, v in here.items():
            grads[k] += v
        dh = dh * (1 - u) + du @ w["W_u"].T + dn @ w["W_n"].T
    return grads

@student("gru-update", "the update gate's own contribution to h_{t-1}, du W_u^T, is missing")
def willi(w, x, y, s):
    H, us, ns = [s["h_0"]], [], []
    for t in range(len(x)):
        us += [sigmoid(x[t] @ w["U_u"] + H[t] @ w["W_u"] + w["b_u"])]
        ns += [np.tanh(x[t] @ w["U_n"] + H[t] @ w["W_n"] + w["b_n"])]
        H += [us[t] * ns[t] + (1 - us[t]) * H[t]]
    G, dh = {k: 0 * w[k] for k in w}, 0
    for t in reversed(range(len(x))):
        dq = delta_q(H[t + 1], w, y[t])
        add_output(G, H[t + 1], dq)
        dh = dh + dq @ w["V"].T
        du, dn = dh * (ns[t] - H[t]) * us[t] * (1 - us[t]), dh * us[t] * (1 - ns[t] ** 2)
        add(G, "_u", x[t], H[t], du)
        add(G, "_n", x[t], H[t], dn)
        dh = dh * (1 - us[t]) + dn @ w["W_n"].T
    return G

# -- BiRNN -----------------------------------------------------------------------------------------------------------

@student("birnn")
def anton(w, x, y, s):
    T = len(x)
    h, k = {-1: s["h_0"]}, {T: s["h_0'"]}
    for t in range(T):
        h[t] = np.tanh(x[t] @ w["U"] + h[t - 1] @ w["W"] + w["b"])
    for t in range(T - 1, -1, -1):
        k[t] = np.tanh(x[t] @ w["U'"] + k[t + 1] @ w["W'"] + w["b'"])
    dq = [softmax(h[t] @ w["V"] + k[t] @ w["V'"] + w["c"]) - np.eye(len(w["c"]))[y[t]] for t in range(T)]
    g = {name: np.zeros_like(v) for name, v in w.items()}
    carry = np.zeros_like(h[0])
    for t in range(T - 1, -1, -1):
        add_output(g, h[t], dq[t])
        dz = (dq[t] @ w["V"].T + carry) * (1 - h[t] ** 2)
        add(g, "", x[t], h[t - 1], dz)
        carry = dz @ w["W"].T
    carry = np.zeros_like(k[0])
    for t in range(T):
        g["V'"] += k[t].T @ dq[t]
        dz = (dq[t] @ w["V'"].T + carry) * (1 - k[t] ** 2)
        add(g, "'", x[t], k[t + 1], dz)
        carry = dz @ w["W'"].T
    return g

@student("birnn", joined=True)
def berta(w, x, y, s):
    # a BiRNN is two RNNs, one of which reads the reversed sequence: a single function for both
    def backprop(inputs, hs, dhs, W):
        dz = np.zeros_like(dhs)
        for t in range(len(inputs) - 1, -1, -1):
            later = dz[t + 1] @ W.T if t + 1 < len(inputs) else 0
            dz[t] = (dhs[t] + later) * (1 - hs[t + 1] ** 2)
        return np.einsum("tbd,tbh->dh", inputs, dz), np.einsum("tbi,tbj->ij", hs[:-1], dz), dz.sum((0, 1))

    fw, bw = birnn_forward(w, x, s)
    both = np.concatenate([fw[1:], bw[:-1]], axis=2)
    dq = delta_q(both, w, y)
    dh, dh_back = np.split(dq @ w["V"].T, 2, axis=2)
    dU, dW, db = backprop(x, fw, dh, w["W"])
    dU2, dW2, db2 = backprop(x[::-1], bw[::-1], dh_back[::-1], w["W'"])
    return {"U": dU, "W": dW, "b": db, "U'": dU2, "W'": dW2, "b'": db2,
            "V": np.einsum("tbh,tbv->hv", both, dq), "c": dq.sum((0, 1))}

@student("birnn", "the gradient of the backward direction is carried in the wrong order, from T to 1")
def cosima(w, x, y, s):
    fw, bw = birnn_forward(w, x, s)
    g = {k: np.zeros_like(v) for k, v in w.items()}
    d, d_ = np.zeros_like(fw[0]), np.zeros_like(bw[0])
    for t in reversed(range(len(x))):
        h, h_ = fw[t + 1], bw[t]
        dq = softmax(h @ w["V"] + h_ @ w["V'"] + w["c"])
        dq[np.arange(len(dq)), y[t]] -= 1
        d = (dq @ w["V"].T + d @ w["W"].T) * (1 - h ** 2)
        d_ = (dq @ w["V'"].T + d_ @ w["W'"].T) * (1 - h_ ** 2)
        for k, v in (("V", h.T @ dq), ("V'", h_.T @ dq), ("c", dq.sum(0)), ("U", x[t].T @ d), ("U'", x[t].T @ d_),
                     ("W", fw[t].T @ d), ("W'", bw[t + 1].T @ d_), ("b", d.sum(0)), ("b'", d_.sum(0))):
            g[k] += v
    return g

@student("birnn", "wrong neighbour: h'_{t-1} instead of h'_{t+1} in dW'")
def detlef(w, x, y, s):
    fw, bw = birnn_forward(w, x, s)
    T = len(x)
    q = fw[1:] @ w["V"] + bw[:-1] @ w["V'"] + w["c"]
    dq = softmax(q) - np.eye(q.shape[2])[y]
    dz, dz_ = [0] * (T + 1), [0] * (T + 1)
    for t in range(T - 1, -1, -1):
        dz[t] = (dq[t] @ w["V"].T + (dz[t + 1] @ w["W"].T if t < T - 1 else 0)) * (1 - fw[t + 1] ** 2)
    for t in range(T):
        dz_[t] = (dq[t] @ w["V'"].T + (dz_[t - 1] @ w["W'"].T if t > 0 else 0)) * (1 - bw[t] ** 2)
    return {"U": sum(x[t].T @ dz[t] for t in range(T)), "U'": sum(x[t].T @ dz_[t] for t in range(T)),
            "W": sum(fw[t].T @ dz[t] for t in range(T)), "W'": sum(bw[t - 1].T @ dz_[t] for t in range(1, T)),
            "b": sum(dz[t].sum(0) for t in range(T)), "b'": sum(dz_[t].sum(0) for t in range(T)),
            "V": sum(fw[t + 1].T @ dq[t] for t in range(T)), "V'": sum(bw[t].T @ dq[t] for t in range(T)),
            "c": dq.sum((0, 1))}

@student("birnn", "the reversed sequence is not turned back: dU' pairs dz'_t with x_{T+1-t}")
def elsa(w, x, y, s):
    fw, bw = birnn_forward(w, x, s)
    p = softmax(fw[1:] @ w["V"] + bw[:-1] @ w["V'"] + w["c"])
    dq = p - np.eye(p.shape[2])[y]
    out = {"V": np.einsum("tbh,tbv->hv", fw[1:], dq), "V'": np.einsum("tbh,tbv->hv", bw[:-1], dq), "c": dq.sum((0, 1))}
    for mark, hs, errors in (("", fw, dq), ("'", bw[::-1], dq[::-1])):
        dU, dW, db, dh = 0, 0, 0, 0
        for t in range(len(x), 0, -1):
            dz = (errors[t - 1] @ w["V" + mark].T + dh) * (1 - hs[t] ** 2)
            dU, dW, db = dU + x[t - 1].T @ dz, dW + hs[t - 1].T @ dz, db + dz.sum(0)
            dh = dz @ w["W" + mark].T
        out |= {"U" + mark: dU, "W" + mark: dW, "b" + mark: db}
    return out

@student("birnn", "no carry in the backward direction: explicit terms only", joined=True)
def gustav(w, x, y, s):
    fw, bw = birnn_forward(w, x, s)
    H, g = len(w["b"]), {k: np.zeros_like(v) for k, v in w.items()}
    carry = 0
    for t in range(len(x) - 1, -1, -1):
        cat = np.hstack([fw[t + 1], bw[t]])
        dq = delta_q(cat, w, y[t])
        dcat = dq @ w["V"].T
        dz = (dcat[:, :H] + carry) * (1 - fw[t + 1] ** 2)
        dz_back = dcat[:, H:] * (1 - bw[t] ** 2)
        carry = dz @ w["W"].T
        g["V"] += cat.T @ dq
        g["c"] += dq.sum(0)
        for mark, d, neighbour in (("", dz, fw[t]), ("'", dz_back, bw[t + 1])):
            g["U" + mark] += x[t].T @ d
            g["W" + mark] += neighbour.T @ d
            g["b" + mark] += d.sum(0)
    return g

# -- all of them against torch ---------------------------------------------------------------------------------------

def example(cell: str, seed: int = 0, joined: bool = False, T: int = 5, B: int = 2, D: int = 3, H: int = 4, V: int = 5):
    """Random weights, x, y and initial states for a cell."""
    rng = np.random.default_rng(seed)
    gates = {"rnn": [""], "birnn": ["", "'"], "lstm": ["_f", "_i", "_o", "_c"], "gru": ["_r", "_z", "_n"],
             "gru-update": ["_u", "_n"]}[cell]
    shapes = {m + k: n for k in gates for m, n in (("U", (D, H)), ("W", (H, H)), ("b", (H,)))}
    shapes |= {"b_hn": (H,)} if cell == "gru" else {}
    shapes |= {"V": (2 * H, V)} if joined else {"V": (H, V), "V'": (H, V)} if cell == "birnn" else {"V": (H, V)}
    weights = {k: rng.normal(0, 0.6, n) for k, n in (shapes | {"c": (V,)}).items()}
    states = ["h_0", *{"lstm": ["c_0"], "birnn": ["h_0'"]}.get(cell, [])]
    return (weights, rng.normal(size=(T, B, D)), rng.integers(V, size=(T, B)),
            {k: rng.normal(0, 0.5, (B, H)) for k in states})

def autograd(cell: str, weights: Arrays, x, y, initial: Arrays) -> Arrays:
    """The gradients by torch, from equations written out here once more."""
    import torch
    w = {k: torch.tensor(v, requires_grad=True) for k, v in weights.items()}
    x, y, s = torch.tensor(x), torch.tensor(y), {k: torch.tensor(v) for k, v in initial.items()}
    a = lambda k, x_t, h: x_t @ w["U" + k] + h @ w["W" + k] + w["b" + k]  # noqa: E731
    h, c, k, hs, ks = s["h_0"], s.get("c_0"), s.get("h_0'"), [], []
    for x_t in x:
        if cell in ("rnn", "birnn"):
            h = a("", x_t, h).tanh()
        elif cell == "lstm":
            c = a("_f", x_t, h).sigmoid() * c + a("_i", x_t, h).sigmoid() * a("_c", x_t, h).tanh()
            h = a("_o", x_t, h).sigmoid() * c.tanh()
        elif cell == "gru":
            r, z = a("_r", x_t, h).sigmoid(), a("_z", x_t, h).sigmoid()
            h = z * h + (1 - z) * (x_t @ w["U_n"] + w["b_n"] + r * (h @ w["W_n"] + w["b_hn"])).tanh()
        else:
            u = a("_u", x_t, h).sigmoid()
            h = u * a("_n", x_t, h).tanh() + (1 - u) * h
        hs.append(h)
    for x_t in x.flip(0) if cell == "birnn" else []:
        k = a("'", x_t, k).tanh()
        ks.insert(0, torch.cat([hs[-1 - len(ks)], k], 1))
    V = torch.cat([w["V"], w["V'"]]) if "V'" in w else w["V"]
    q = torch.stack(ks or hs) @ V + w["c"]
    torch.nn.functional.cross_entropy(q.flatten(0, 1), y.flatten(), reduction="sum").backward()
    return {k: v.grad.numpy() for k, v in w.items()}

def check() -> None:
    for one in STUDENTS:
        for seed, joined in [(0, False), (1, False), (2, False)] + [(3, True)] * (one.cell == "birnn"):
            task = example(one.cell, seed, joined)
            before = [{k: v.copy() for k, v in part.items()} for part in (task[0], task[3])]
            right, got = autograd(one.cell, *task), one.run(*task)
            assert got.keys() == right.keys(), (one.name, got.keys() ^ right.keys())
            assert all((v == part[k]).all() for old, part in zip(before, (task[0], task[3])) for k, v in old.items())
            if one.orientation == "out-in":
                got = {k: v.T for k, v in got.items()}
            assert all(got[k].shape == v.shape for k, v in right.items()), one.name
            off = {k: np.abs(got[k] - v).max() / np.abs(v).max() for k, v in right.items()}
            worst = max(off, key=off.get)
            assert off[worst] > 1e-3 if one.mistakes else off[worst] < 1e-10, (one.name, seed, off)
        wrong = " ".join(k for k in off if off[k] > 1e-10)
        print(f"{one.name:8}{one.cell:11}{one.orientation:7} {'; '.join(one.mistakes) or 'right'}  [{wrong}]")
    print(len(STUDENTS), "students")

if __name__ == "__main__":
    check()
