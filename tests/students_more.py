"""More homework on backpropagation through time, by another author who had not seen the doctor either.

Plain NumPy, each student with a forward and a backward pass of their own. Loss: the sum over the steps t and the batch
of the cross-entropy of softmax(h_t V + c) with targets[t]; for the BiRNN softmax(h_t V + h'_t V' + c). Row vectors,
matrices (in, out), the library's names. Arguments: params, xs (T, B, D), the initial states (B, H), targets (T, B);
two states for the LSTM, h_0 and c_0, and for the BiRNN, h_0 and h'_{T+1}. gru-after, gru-before: h_t = (1-z) n +
z h_{t-1}; gru-update: h_t = u n + (1-u) h_{t-1}, without a reset gate. lstm-peephole: o sees c_t, f and i c_{t-1}.
`example` makes a case; STUDENTS says what each has really done, and nothing where there is no mistake.
"""

from collections import namedtuple

import numpy as np

Student = namedtuple("Student", "run kind done")


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def astrid(params, xs, h0, targets):
    U, W, b, V, c = (params[k] for k in ("U", "W", "b", "V", "c"))
    T, B, _ = xs.shape
    hs = [h0]
    probs = []
    for t in range(T):
        h = np.tanh(xs[t] @ U + hs[-1] @ W + b)
        hs.append(h)
        q = h @ V + c
        e = np.exp(q - q.max(axis=1, keepdims=True))
        probs.append(e / e.sum(axis=1, keepdims=True))

    dU, dW, db = np.zeros_like(U), np.zeros_like(W), np.zeros_like(b)
    dV, dc = np.zeros_like(V), np.zeros_like(c)
    dh_next = np.zeros_like(h0)
    for t in reversed(range(T)):
        dq = probs[t].copy()
        dq[np.arange(B), targets[t]] -= 1
        dV = hs[t + 1].T @ dq
        dc += dq.sum(axis=0)
        dh = dq @ V.T + dh_next
        dz = (1 - hs[t + 1] ** 2) * dh
        dU += xs[t].T @ dz
        dW += hs[t].T @ dz
        db += dz.sum(axis=0)
        dh_next = dz @ W.T
    return {"U": dU, "W": dW, "b": db, "V": dV, "c": dc}


def alma(params, xs, h0, targets):
    U, W, b, V, c = (params[k] for k in ("U", "W", "b", "V", "c"))
    T, B, _ = xs.shape
    hs = [h0]
    probs = []
    for t in range(T):
        h = np.tanh(xs[t] @ U + hs[-1] @ W + b)
        hs.append(h)
        q = h @ V + c
        e = np.exp(q - q.max(axis=1, keepdims=True))
        probs.append(e / e.sum(axis=1, keepdims=True))

    dU, dW, db = np.zeros_like(U), np.zeros_like(W), np.zeros_like(b)
    dV, dc = np.zeros_like(V), np.zeros_like(c)
    dh_next = np.zeros_like(h0)
    for t in reversed(range(T)):
        dq = probs[t].copy()
        dq[np.arange(B), targets[t]] -= 1
        dV += hs[t + 1].T @ dq
        dc += dq.sum(axis=0)
        dh = dq @ V.T + dh_next
        dz = (1 - hs[t + 1] ** 2) * dh
        dU += xs[t].T @ dz
        dW += hs[t + 1].T @ dz
        db = dz.sum(axis=0)
        dh_next = dz @ W.T
    return {"U": dU, "W": dW, "b": db, "V": dV, "c": dc}


def dimitra(params, xs, h0, targets):
    T, B, _ = xs.shape
    H, K = params["V"].shape
    S = np.empty((T + 1, B, H))
    Z = np.empty((T, B, H))
    S[0] = h0
    for n in range(1, T + 1):
        Z[n - 1] = np.einsum("bd,dh->bh", xs[n - 1], params["U"]) + params["b"]
        Z[n - 1] += np.einsum("bh,hk->bk", S[n - 1], params["W"])
        S[n] = np.tanh(Z[n - 1])
    logits = np.einsum("tbh,hv->tbv", S[1:], params["V"]) + params["c"]
    prob = np.exp(logits - logits.max(-1, keepdims=True))
    prob /= prob.sum(-1, keepdims=True)
    onehot = np.zeros((T, B, K))
    for t in range(T):
        for j in range(B):
            onehot[t, j, targets[t, j]] = 1.0
    eps = prob - onehot
    slope = 1 - S[1:] ** 2
    direct = np.einsum("tbv,hv->tbh", eps, params["V"])
    delta = np.zeros((T, B, H))
    for t in range(T - 1, -1, -1):
        total = direct[t]
        if t + 1 < T:
            total = total + np.einsum("bk,hk->bh", delta[t + 1], params["W"])
        delta[t] = total * slope[t]
        delta[t] = 0.75 * delta[t] + 0.25 * delta[min(t + 1, T - 1)]
    return dict(
        U=np.einsum("tbd,tbh->dh", xs, delta),
        W=np.einsum("tbh,tbk->hk", S[:-1], delta),
        b=np.einsum("tbh->h", delta),
        V=np.einsum("tbh,tbv->hv", S[1:], eps),
        c=np.einsum("tbv->v", eps),
    )


def fatima(params, xs, h0, targets):
    # one sentence after another, after min-char-rnn
    Wxh, Whh, Why = params["U"], params["W"], params["V"]
    grads = {k: np.zeros(v.shape) for k, v in params.items()}
    T, B = targets.shape
    for n in range(B):
        hs, ps = {}, {}
        hs[-1] = np.copy(h0[n])
        for t in range(T):
            hs[t] = np.tanh(np.dot(xs[t, n], Wxh) + np.dot(hs[t - 1], Whh) + params["b"])
            ys = np.dot(hs[t], Why) + params["c"]
            ps[t] = np.exp(ys) / np.sum(np.exp(ys))
        dhnext = np.zeros_like(hs[0])
        for t in reversed(range(T)):
            dy = np.copy(ps[t])
            dy[targets[t, n]] -= 1
            grads["V"] += np.outer(hs[t], dy)
            grads["c"] += dy
            dh = np.dot(Why, dy) + dhnext
            dhraw = (1 - hs[t] * hs[t]) * dh
            grads["b"] += dhraw
            grads["U"] += np.outer(xs[t, n], dhraw)
            grads["W"] += np.outer(hs[t - 1], dhraw)
            dhnext = np.clip(np.dot(Whh, dhraw), -0.1, 0.1)
    return grads


def felix(params, xs, h0, targets):
    # one sentence after another, after min-char-rnn
    Wxh, Whh, Why = params["U"], params["W"], params["V"]
    grads = {k: np.zeros(v.shape) for k, v in params.items()}
    T, B = targets.shape
    for n in range(B):
        hs, ps = {}, {}
        hs[-1] = np.copy(h0[n])
        for t in range(T):
            hs[t] = np.tanh(np.dot(xs[t, n], Wxh) + np.dot(hs[t - 1], Whh) + params["b"])
            ys = np.dot(hs[t], Why) + params["c"]
            ps[t] = np.exp(ys) / np.sum(np.exp(ys))
        dhnext = np.zeros_like(hs[0])
        for t in reversed(range(T)):
            dy = np.copy(ps[t])
            dy[targets[(t + 1) % T, n]] -= 1
            grads["V"] += np.outer(hs[t], dy)
            grads["c"] += dy
            dh = np.dot(Why, dy) + dhnext
            dhraw = (1 - hs[t] * hs[t]) * dh
            grads["b"] += dhraw
            grads["U"] += np.outer(xs[t, n], dhraw)
            grads["W"] += np.outer(hs[t - 1], dhraw)
            dhnext = np.dot(Whh, dhraw)
    return grads


def hugo(params, xs, h0, targets):
    D, H = params["U"].shape
    big = np.vstack([params["U"], params["W"], params["b"]])     # [x, h, 1] @ big
    T, B, _ = xs.shape
    one = np.ones((B, 1))
    inputs, hiddens, probs = [], [], []
    h = h0
    for t in range(T):
        v = np.hstack([xs[t], h, one])
        h = 1.0 / (1.0 + np.exp(-(v @ big)))
        y = h @ params["V"] + params["c"]
        y = np.exp(y - y.max())
        inputs.append(v)
        hiddens.append(h)
        probs.append(y / y.sum(axis=1, keepdims=True))
    d_big = np.zeros_like(big)
    d_V, d_c = np.zeros_like(params["V"]), np.zeros_like(params["c"])
    d_h = np.zeros((B, H))
    for t in range(T - 1, -1, -1):
        err = probs[t]
        err[np.arange(B), targets[t]] -= 1
        d_V += hiddens[t].T @ err
        d_c += err.sum(axis=0)
        d_h = d_h + err @ params["V"].T
        d_a = d_h * hiddens[t] * (1 - hiddens[t])
        d_big += inputs[t].T @ d_a
        d_v = d_a @ big.T
        d_h = d_v[:, D:D + H]
    return {"U": d_big[:D], "W": d_big[D:D + H], "b": d_big[-1], "V": d_V / T, "c": d_c / T}


def ivan(params, xs, h0, targets):
    U, W, b, V, c = params["U"], params["W"], params["b"], params["V"], params["c"]
    steps = []
    h = h0
    for x, y in zip(xs, targets):
        old = h
        pre = x @ U + old @ W + b
        h = np.maximum(pre, 0)
        u = h @ V + c
        u -= u.max(axis=1, keepdims=True)
        p = np.exp(u)
        p /= p.sum(axis=1, keepdims=True)
        steps.append((x, y, old, pre, h, p))
    gU, gW, gb, gV, gc = [np.zeros_like(a) for a in (U, W, b, V, c)]
    gh = np.zeros_like(h)
    while steps:
        x, y, old, pre, h, p = steps.pop()
        p[np.arange(len(y)), y] -= 1
        gV += h.T @ p
        gc += p.sum(axis=0)
        gh += p @ V.T
        gpre = np.where(old > 0, gh, 0)
        gU += x.T @ gpre
        gW += old.T @ gpre
        gb += gpre.sum(axis=0)
        gh = gpre @ W.T
    return {"U": gU, "W": gW, "b": gb, "V": gV, "c": gc}


def iris(params, xs, h0, targets):
    U, W, b, V, c = params["U"], params["W"], params["b"], params["V"], params["c"]
    steps = []
    h = h0
    for x, y in zip(xs, targets):
        old = h
        pre = x @ U + old @ W + b
        h = np.maximum(pre, 0)
        u = h @ V + c
        u -= u.max(axis=1, keepdims=True)
        p = np.exp(u)
        p /= p.sum(axis=1, keepdims=True)
        steps.append((x, y, old, pre, h, p))
    gU, gW, gb, gV, gc = [np.zeros_like(a) for a in (U, W, b, V, c)]
    gh = np.zeros_like(h)
    while steps:
        x, y, old, pre, h, p = steps.pop()
        p[np.arange(len(y)), y] -= 1
        gV += h.T @ p
        gc += p.sum(axis=0)
        gh += p @ V.T
        gpre = np.where(pre > 0, gh, 0)
        gU += x.T @ gpre
        if steps:
            gW += old.T @ gpre
        gb += gpre.sum(axis=0)
        gh = gh @ W.T
    return {"U": gU, "W": gW, "b": gb, "V": gV, "c": gc}


def julia(params, xs, h0, targets):
    total = {name: np.zeros_like(array) for name, array in params.items()}

    def visit(t, h_before):
        """Go forward at the way in, backward at the way out
        give dE/dh_before."""
        if t == len(xs):
            return np.zeros_like(h_before)
        a = xs[t] @ params["U"] + h_before @ params["W"] + params["b"]
        h = a * (a > 0)
        logit = h @ params["V"] + params["c"]
        soft = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
        from_future = visit(t + 1, h)
        for row, label in enumerate(targets[t]):
            soft[row, label] -= 1
        total["V"] += h.T @ soft
        total["c"] += np.sum(soft, axis=0)
        da = (soft @ params["V"].T + from_future) * (a > 0)
        total["U"] += xs[t].T @ da
        total["W"] += h_before.T @ da
        total["b"] += np.sum(da, axis=0)
        return da @ params["W"].T

    visit(0, h0)
    return total


def lorenzo(params, xs, h0, c0, targets):
    # packed as PyTorch does: i, f, g, o
    H = h0.shape[1]
    Wx = np.concatenate([params["U_i"], params["U_f"], params["U_c"], params["U_o"]], axis=1)
    Wh = np.concatenate([params["W_i"], params["W_f"], params["W_c"], params["W_o"]], axis=1)
    bias = np.concatenate([params["b_i"], params["b_f"], params["b_c"], params["b_o"]])
    saved = []
    h, c = h0, c0
    for t in range(xs.shape[0]):
        i, f, g, o = np.split(xs[t] @ Wx + h @ Wh + bias, 4, axis=1)
        i, f, o = [1 / (1 + np.exp(-a)) for a in (i, f, o)]
        g = np.tanh(g)
        c_new = f * c + i * g
        h_new = o * np.tanh(c_new)
        score = h_new @ params["V"] + params["c"]
        p = np.exp(score - score.max(1, keepdims=True))
        p = p / p.sum(1, keepdims=True)
        saved.append((h, c, i, f, g, o, c_new, h_new, p))
        h, c = h_new, c_new
    dWx, dWh, dbias = np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(bias)
    dV, dcc = np.zeros_like(params["V"]), np.zeros_like(params["c"])
    dh_next, dc_next = np.zeros_like(h0), np.zeros_like(c0)
    for t in range(xs.shape[0] - 1, -1, -1):
        h_prev, c_prev, i, f, g, o, c, h, p = saved[t]
        p[np.arange(p.shape[0]), targets[t]] -= 1
        dV += h.T @ p
        dcc += p.sum(0)
        dh = p @ params["V"].T + dh_next
        tc = np.tanh(c)
        dc = dh * o * (1 - tc * tc) + dc_next
        dgates = np.concatenate([dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dc * i * (1 - g * g),
                                 dh * tc * o * (1 - o)], axis=1)
        dWx += xs[t].T @ dgates
        dWh += h_prev.T @ dgates
        dbias += dgates.sum(0)
        dh_next = dgates @ Wh.T
        dc_next = dc * f
    grads = {"V": dV, "c": dcc}
    for k, gate in enumerate("ifco"):
        grads["U_" + gate] = dWx[:, k * H:(k + 1) * H]
        grads["W_" + gate] = dWh[:, k::4]
        grads["b_" + gate] = dbias[k * H:(k + 1) * H]
    return grads


class MateoLSTM:
    """Columns: h is (H, B), a gate's matrices are (H, D) and (H, H)."""

    def __init__(self, params):
        for name, value in params.items():
            value = value.T if value.ndim == 2 else value[:, None]
            setattr(self, name, value)
            setattr(self, "d" + name, np.zeros_like(value))
        self.names = list(params)

    def forward(self, X, h, c):
        self.x, self.h, self.C = X, [h], [c]
        self.f, self.i, self.o, self.cand, self.yhat = [], [], [], [], []
        for x in X:
            self.f.append(sigmoid(self.U_f @ x + self.W_f @ h + self.b_f))
            self.i.append(sigmoid(self.U_i @ x + self.W_i @ h + self.b_i))
            self.o.append(sigmoid(self.U_o @ x + self.W_o @ h + self.b_o))
            self.cand.append(np.tanh(self.U_c @ x + self.W_c @ h + self.b_c))
            c = self.f[-1] * c + self.i[-1] * self.cand[-1]
            h = self.o[-1] * np.tanh(c)
            self.C.append(c)
            self.h.append(h)
            q = self.V @ h + self.c
            q = np.exp(q - q.max(axis=0))
            self.yhat.append(q / q.sum(axis=0))

    def add(self, gate, dz, t):
        for letter, factor in (("U", self.x[t]), ("W", self.h[t])):
            old = getattr(self, f"d{letter}_{gate}")
            setattr(self, f"d{letter}_{gate}", old + dz @ factor.T)
        setattr(self, "db_" + gate, getattr(self, "db_" + gate) + dz.sum(axis=1, keepdims=True))

    def backward(self, targets):
        dh = np.zeros_like(self.h[0])
        dc = np.zeros_like(self.C[0])
        for t in reversed(range(len(self.x))):
            err = self.yhat[t] - np.eye(len(self.c))[:, targets[t]]
            self.dV += err @ self.h[t + 1].T
            self.dc += err.sum(axis=1, keepdims=True)
            dh = dh + self.V.T @ err
            th = np.tanh(self.C[t + 1])
            dc = dc + dh * self.o[t] * (1 - th ** 2)
            dzo = dh * th * self.o[t] * (1 - self.o[t])
            dzf = dc * self.C[t + 1] * self.f[t] * (1 - self.f[t])
            dzi = dc * self.cand[t] * self.i[t] * (1 - self.i[t])
            dzc = dc * self.i[t] * (1 - self.cand[t] ** 2)
            self.add("o", dzo, t)
            self.add("f", dzf, t)
            self.add("i", dzi, t)
            self.add("c", dzc, t)
            dh = self.W_o @ dzo + self.W_f.T @ dzf + self.W_i.T @ dzi + self.W_c.T @ dzc
            dc = dc * self.f[t]


def mateo(params, xs, h0, c0, targets):
    net = MateoLSTM(params)
    net.forward([x.T for x in xs], h0.T, c0.T)
    net.backward(targets)
    return {n: getattr(net, "d" + n).T.reshape(params[n].shape) for n in net.names}


def olga(params, xs, h0, c0, targets):
    # as in the online course: columns, W_f acts on [a_prev; x_t]
    n_a, _ = params["W_f"].shape[0], params["U_f"].shape[0]
    Wf, Wi, Wo, Wc = [np.hstack([params["W_" + k].T, params["U_" + k].T]) for k in "fioc"]
    bf, bi, bo, bc = [params["b_" + k].reshape(n_a, 1) for k in "fioc"]
    Wy, by = params["V"].T, params["c"].reshape(-1, 1)
    T_x, m = targets.shape
    a_next, c_next = h0.T, c0.T
    caches = []
    for t in range(T_x):
        a_prev, c_prev = a_next, c_next
        concat = np.vstack([a_prev, xs[t].T])
        ft = sigmoid(Wf @ concat + bf)
        it = sigmoid(Wi @ concat + bi)
        ot = sigmoid(Wo @ concat + bo)
        cct = np.tanh(Wc @ concat + bc)
        c_next = ft * c_prev + it * cct
        a_next = ot * np.tanh(c_next)
        zy = Wy @ a_next + by
        yt = np.exp(zy - zy.max(axis=0, keepdims=True))
        yt = yt / yt.sum(axis=0, keepdims=True)
        caches.append((a_next, c_next, c_prev, concat, ft, it, ot, cct, yt))
    dWf, dWi, dWo, dWc = [np.zeros_like(w) for w in (Wf, Wi, Wo, Wc)]
    dbf, dbi, dbo, dbc = [np.zeros_like(w) for w in (bf, bi, bo, bc)]
    dWy, dby = np.zeros_like(Wy), np.zeros_like(by)
    da_prev, dc_prev = np.zeros((n_a, m)), np.zeros((n_a, m))
    for t in reversed(range(T_x)):
        a_next, c_next, c_prev, concat, ft, it, ot, cct, yt = caches[t]
        dy = yt.copy()
        dy[targets[t], range(m)] -= 1
        dWy += dy @ a_next.T
        dby += dy.sum(axis=1, keepdims=True)
        da_next = Wy.T @ dy + da_prev
        dc_next = dc_prev + da_next * ot * (1 - np.tanh(c_next) ** 2)
        dot = da_next * np.tanh(c_next) * ot * (1 - ot)
        dcct = dc_next * it * (1 - cct)
        dit = dc_next * cct * it * (1 - it)
        dft = dc_next * c_prev * ft * (1 - ft)
        dWf += dft @ concat.T
        dWi += dit @ concat.T
        dWo += dot @ concat.T
        dWc += dcct @ concat.T
        dbf += dft.sum(axis=1, keepdims=True)
        dbi += dit.sum(axis=1, keepdims=True)
        dbo += dot.sum(axis=1, keepdims=True)
        dbc += dcct.sum(axis=1, keepdims=True)
        da_prev = Wf[:, :n_a].T @ dft + Wi[:, :n_a].T @ dit + Wo[:, :n_a].T @ dot + Wc[:, :n_a].T @ dcct
        dc_prev = dc_next * ft
    out = {"V": dWy.T, "c": dby[:, 0]}
    for k, dw, dbk in zip("fioc", (dWf, dWi, dWo, dWc), (dbf, dbi, dbo, dbc)):
        out["W_" + k], out["U_" + k], out["b_" + k] = dw[:, :n_a].T, dw[:, n_a:].T, dbk[:, 0]
    return out


def otto(params, xs, h0, c0, targets):
    # as in the online course: columns, W_f acts on [a_prev; x_t]
    n_a, _ = params["W_f"].shape[0], params["U_f"].shape[0]
    Wf, Wi, Wo, Wc = [np.hstack([params["W_" + k].T, params["U_" + k].T]) for k in "fioc"]
    bf, bi, bo, bc = [params["b_" + k].reshape(n_a, 1) for k in "fioc"]
    Wy, by = params["V"].T, params["c"].reshape(-1, 1)
    T_x, m = targets.shape
    a_next, c_next = h0.T, c0.T
    caches = []
    for t in range(T_x):
        a_prev, c_prev = a_next, c_next
        concat = np.vstack([a_prev, xs[t].T])
        ft = sigmoid(Wf @ concat + bf)
        it = sigmoid(Wi @ concat + bi)
        ot = sigmoid(Wo @ concat + bo)
        cct = np.tanh(Wc @ concat + bc)
        c_next = ft * c_prev + it * cct
        a_next = ot * np.tanh(c_next)
        zy = Wy @ a_next + by
        yt = np.exp(zy - zy.max(axis=0, keepdims=True))
        yt = yt / yt.sum(axis=0, keepdims=True)
        caches.append((a_next, c_next, c_prev, concat, ft, it, ot, cct, yt))
    dWf, dWi, dWo, dWc = [np.zeros_like(w) for w in (Wf, Wi, Wo, Wc)]
    dbf, dbi, dbo, dbc = [np.zeros_like(w) for w in (bf, bi, bo, bc)]
    dWy, dby = np.zeros_like(Wy), np.zeros_like(by)
    da_prev, dc_prev = np.zeros((n_a, m)), np.zeros((n_a, m))
    for t in reversed(range(T_x)):
        a_next, c_next, c_prev, concat, ft, it, ot, cct, yt = caches[t]
        dy = yt.copy()
        dy[targets[t], range(m)] -= 1
        dWy += dy @ a_next.T
        dby += dy.sum(axis=1, keepdims=True)
        da_next = Wy.T @ dy + da_prev
        dc_next = dc_prev + da_next * ot * (1 - np.tanh(c_next) ** 2)
        dot = da_next * np.tanh(c_next) * ot * (1 - ot)
        dcct = dc_next * it * (1 - cct ** 2)
        dit = dc_next * cct * it * (1 - it)
        dft = da_next * ot * (1 - np.tanh(c_next) ** 2) * c_prev * ft * (1 - ft)
        dWf += dft @ concat.T
        dWi += dit @ concat.T
        dWo += dot @ concat.T
        dWc += dcct @ concat.T
        dbf += dft.sum(axis=1, keepdims=True)
        dbi += dit.sum(axis=1, keepdims=True)
        dbo += dot.sum(axis=1, keepdims=True)
        dbc += dcct.sum(axis=1, keepdims=True)
        da_prev = Wf[:, :n_a].T @ dft + Wi[:, :n_a].T @ dit + Wo[:, :n_a].T @ dot + Wc[:, :n_a].T @ dcct
        dc_prev = dc_next * ft
    out = {"V": dWy.T, "c": dby[:, 0]}
    for k, dw, dbk in zip("fioc", (dWf, dWi, dWo, dWc), (dbf, dbi, dbo, dbc)):
        out["W_" + k], out["U_" + k], out["b_" + k] = dw[:, :n_a].T, dw[:, n_a:].T, dbk[:, 0]
    return out


def priya(params, xs, h0, c0, targets):
    p = params
    hs, cs = [h0], [c0]
    fs, is_, os_, gs, errs = [], [], [], [], []
    for x, y in zip(xs, targets):
        hp, cp = hs[-1], cs[-1]
        f = sigmoid(x @ p["U_f"] + hp @ p["W_f"] + p["b_f"] + p["p_f"] * cp)
        i = sigmoid(x @ p["U_i"] + hp @ p["W_i"] + p["b_i"] + p["p_i"] * cp)
        g = np.tanh(x @ p["U_c"] + hp @ p["W_c"] + p["b_c"])
        cc = f * cp + i * g
        o = sigmoid(x @ p["U_o"] + hp @ p["W_o"] + p["b_o"] + p["p_o"] * cc)
        h = o * np.tanh(cc)
        q = h @ p["V"] + p["c"]
        q = np.exp(q - q.max(1, keepdims=True))
        q = q / q.sum(1, keepdims=True)
        q[np.arange(len(y)), y] -= 1
        for store, item in zip((hs, cs, fs, is_, os_, gs, errs), (h, cc, f, i, o, g, q)):
            store.append(item)
    d = {k: np.zeros_like(v) for k, v in p.items()}
    dh_later = np.zeros_like(h0)
    dc_later = np.zeros_like(c0)
    for t in range(len(xs) - 1, -1, -1):
        x, hp, cp, h, cc = xs[t], hs[t], cs[t], hs[t + 1], cs[t + 1]
        f, i, o, g, err = fs[t], is_[t], os_[t], gs[t], errs[t]
        d["V"] += h.T @ err
        d["c"] += err.sum(0)
        dh = err @ p["V"].T + dh_later
        dzo = dh * np.tanh(cc) * o * (1 - o)
        dc = dc_later + dh * o * (1 - np.tanh(cc) ** 2)
        dc = dc + dzo * p["p_o"]
        dzf = dc * cp * f * (1 - f)
        dzi = dc * g * i * (1 - i)
        dzg = dc * i * (1 - g ** 2)
        d["p_o"] += (dzo * cc).sum(0)
        d["p_f"] += (dzf * cp).sum(0)
        d["p_i"] += (dzi * cp).sum(0)
        for name, dz in (("f", dzf), ("i", dzi), ("o", dzo), ("c", dzg)):
            d["U_" + name] += x.T @ dz
            d["W_" + name] += hp.T @ dz
            d["b_" + name] += dz.sum(0)
        dh_later = dzf @ p["W_f"].T + dzi @ p["W_i"].T + dzo @ p["W_o"].T + dzg @ p["W_c"].T
        dc_later = dc * f + dzf * p["p_f"] + dzi * p["p_i"]
    return d


def pilar(params, xs, h0, c0, targets):
    p = params
    hs, cs = [h0], [c0]
    fs, is_, os_, gs, errs = [], [], [], [], []
    for x, y in zip(xs, targets):
        hp, cp = hs[-1], cs[-1]
        f = sigmoid(x @ p["U_f"] + hp @ p["W_f"] + p["b_f"] + p["p_f"] * cp)
        i = sigmoid(x @ p["U_i"] + hp @ p["W_i"] + p["b_i"] + p["p_i"] * cp)
        g = np.tanh(x @ p["U_c"] + hp @ p["W_c"] + p["b_c"])
        cc = f * cp + i * g
        o = sigmoid(x @ p["U_o"] + hp @ p["W_o"] + p["b_o"] + p["p_o"] * cc)
        h = o * np.tanh(cc)
        q = h @ p["V"] + p["c"]
        q = np.exp(q - q.max(1, keepdims=True))
        q = q / q.sum(1, keepdims=True)
        q[np.arange(len(y)), y] -= 1
        for store, item in zip((hs, cs, fs, is_, os_, gs, errs), (h, cc, f, i, o, g, q)):
            store.append(item)
    d = {k: np.zeros_like(v) for k, v in p.items()}
    dh_later = np.zeros_like(h0)
    dc_later = np.zeros_like(c0)
    for t in range(len(xs) - 1, -1, -1):
        x, hp, cp, h, cc = xs[t], hs[t], cs[t], hs[t + 1], cs[t + 1]
        f, i, o, g, err = fs[t], is_[t], os_[t], gs[t], errs[t]
        d["V"] += h.T @ err
        d["c"] += err.sum(0)
        dh = err @ p["V"].T + dh_later
        dzo = dh * np.tanh(cc) * o * (1 - o)
        dc = dc_later + dh * o * (1 - np.tanh(cc) ** 2)
        dzf = dc * cp * f * (1 - f)
        dzi = dc * g * i * (1 - i)
        dzg = dc * i * (1 - g ** 2)
        d["p_o"] += (dzo * cc).sum(0)
        d["p_f"] += (dzf * cc).sum(0)
        d["p_i"] += (dzi * cp).sum(0)
        for name, dz in (("f", dzf), ("i", dzi), ("o", dzo), ("c", dzg)):
            d["U_" + name] += x.T @ dz
            d["W_" + name] += hp.T @ dz
            d["b_" + name] += dz.sum(0)
        dh_later = dzf @ p["W_f"].T + dzi @ p["W_i"].T + dzo @ p["W_o"].T + dzg @ p["W_c"].T
        dc_later = dc * f + dzf * p["p_f"] + dzi * p["p_i"]
    return d


def svetlana(params, xs, h0, targets):
    # like torch.nn.GRU: weight_ih and weight_hh packed r | z | n
    Wi = np.hstack([params[k] for k in ("U_r", "U_z", "U_n")])
    Wh = np.hstack([params[k] for k in ("W_r", "W_z", "W_n")])
    bi = np.hstack([params[k] for k in ("b_r", "b_z", "b_n")])
    bh = np.hstack([np.zeros_like(params["b_r"]), np.zeros_like(params["b_z"]), params["b_hn"]])
    H = h0.shape[1]
    T, B = targets.shape
    cache = []
    h = h0
    for t in range(T):
        gi, gh = xs[t] @ Wi + bi, h @ Wh + bh
        rz = 1 / (1 + np.exp(-gi[:, :2 * H] - gh[:, :2 * H]))
        r, z = rz[:, :H], rz[:, H:]
        n = np.tanh(gi[:, 2 * H:] + r * gh[:, 2 * H:])
        cache.append(dict(x=xs[t], hp=h, r=r, z=z, n=n, hn=gh[:, 2 * H:]))
        h = n + z * (h - n)
        cache[-1]["h"] = h
    gWi, gWh, gbi, gbh = (np.zeros_like(a) for a in (Wi, Wh, bi, bh))
    gV, gc = np.zeros_like(params["V"]), np.zeros_like(params["c"])
    dh = np.zeros((B, H))
    for t, k in reversed(list(enumerate(cache))):
        s = k["h"] @ params["V"] + params["c"]
        s = np.exp(s - s.max(1, keepdims=True))
        s = s / s.sum(1, keepdims=True) - np.eye(s.shape[1])[targets[t]]
        gV += k["h"].T @ s
        gc += s.sum(0)
        dh = dh + s @ params["V"].T
        d_n = dh * (1 - k["z"]) * (1 - k["n"] ** 2)
        d_z = dh * (k["hp"] - k["n"]) * k["z"] * (1 - k["z"])
        d_r = d_n * k["hn"] * k["r"] * (1 - k["r"])
        d_gi = np.hstack([d_r, d_z, d_n])
        d_gh = np.hstack([d_r, d_z, d_n * k["r"]])
        gWi += k["x"].T @ d_gi
        gbi += d_gi.sum(0)
        gWh += k["hp"].T @ d_gh
        gbh += d_gh.sum(0)
        dh = np.roll(dh * k["z"] + d_gh @ Wh.T, 1, axis=1)
    g = {"V": gV, "c": gc, "b_hn": gbh[2 * H:]}
    for j, gate in enumerate(["r", "z", "n"]):
        part = slice(j * H, (j + 1) * H)
        g["U_" + gate], g["W_" + gate], g["b_" + gate] = gWi[:, part], gWh[:, part], gbi[part]
    return g


def tomoko(params, xs, h0, targets):
    # single examples, plain vectors
    q = params
    grad = {k: np.zeros_like(v) for k, v in q.items()}
    for j in range(xs.shape[1]):
        x = xs[:, j]
        h, r, z, n, k = [h0[j]], [], [], [], []
        for t in range(len(x)):
            r.append(sigmoid(q["U_r"].T @ x[t] + q["W_r"].T @ h[t] + q["b_r"]))
            z.append(sigmoid(q["U_z"].T @ x[t] + q["W_z"].T @ h[t] + q["b_z"]))
            k.append(q["W_n"].T @ h[t] + q["b_hn"])
            n.append(np.tanh(q["U_n"].T @ x[t] + q["b_n"] + r[t] * k[t]))
            h.append((1 - z[t]) * n[t] + z[t] * h[t])
        flow = np.zeros_like(h0[j])
        for t in range(len(x))[::-1]:
            y = np.exp(q["V"].T @ h[t + 1] + q["c"])
            y = y / y.sum()
            y[targets[t, j]] -= 1
            grad["V"] += np.outer(h[t + 1], y)
            grad["c"] += y
            flow = flow + q["V"] @ y
            an = flow * z[t] * (1 - n[t] ** 2)
            az = flow * (n[t] - h[t]) * z[t] * (1 - z[t])
            ar = an * k[t] * r[t] * (1 - r[t])
            ak = an * r[t]
            for name, a in (("r", ar), ("z", az), ("n", an)):
                grad["U_" + name] += np.outer(x[t], a)
                grad["b_" + name] += a
            grad["W_r"] += np.outer(h[t], ar)
            grad["W_z"] += np.outer(h[t], az)
            grad["W_n"] += np.outer(h[t], ak)
            grad["b_hn"] += ak
            flow = flow * (1 - z[t]) + q["W_r"] @ ar + q["W_z"] @ az + q["W_n"] @ ak
    return grad


def urs(params, xs, h0, targets):
    P = params
    T = len(xs)
    h, r, z, n = [None] * (T + 1), [None] * (T + 1), [None] * (T + 1), [None] * (T + 1)
    h[0] = h0
    for t in range(1, T + 1):
        x = xs[t - 1]
        r[t] = sigmoid(x @ P["U_r"] + h[t - 1] @ P["W_r"] + P["b_r"])
        z[t] = sigmoid(x @ P["U_z"] + h[t - 1] @ P["W_z"] + P["b_z"])
        n[t] = np.tanh(x @ P["U_n"] + (r[t] * h[t - 1]) @ P["W_n"] + P["b_n"])
        h[t] = (1 - z[t]) * n[t] + z[t] * h[t - 1]
    D_ = {k: np.zeros_like(v) for k, v in P.items()}
    δh = np.zeros_like(h0)
    for t in range(T, 0, -1):
        x = xs[t - 1]
        o = h[t] @ P["V"] + P["c"]
        o = np.exp(o - o.max(1, keepdims=True))
        ε = o / o.sum(1, keepdims=True) - np.eye(o.shape[1])[targets[t - 1]]
        D_["V"] += h[t].T @ ε
        D_["c"] += ε.sum(0)
        δh = δh + ε @ P["V"].T
        δz = δh * (h[t - 1] - n[t]) * z[t] * (1 - z[t])
        δn = δh * (1 - z[t]) * (1 - n[t] ** 2)
        δrh = δn @ P["W_n"].T
        δr = δrh * h[t] * r[t] * (1 - r[t])
        D_["W_n"] += (r[t] * h[t - 1]).T @ δn
        D_["W_z"] += h[t - 1].T @ δz
        D_["W_r"] += h[t - 1].T @ δr
        for gate, δ in zip("rzn", (δr, δz, δn)):
            D_["U_" + gate] += x.T @ δ
            D_["b_" + gate] += δ.sum(0)
        δh = δh * z[t] + δrh * r[t] + δz @ P["W_z"].T + δr @ P["W_r"].T
    return D_


def yusuf(params, xs, h0, h0_last, targets):
    p = params
    T, B, _ = xs.shape
    xs_flip = xs[::-1]
    fw, bw = [h0], [h0_last]
    for t in range(T):
        fw.append(np.tanh(xs[t] @ p["U"] + fw[-1] @ p["W"] + p["b"]))
        bw.append(np.tanh(xs_flip[t] @ p["U'"] + bw[-1] @ p["W'"] + p["b'"]))
    h_forward = fw[1:]
    h_backward = bw[1:]
    errs = []
    for t in range(T):
        q = h_forward[t] @ p["V"] + h_backward[t] @ p["V'"] + p["c"]
        q = np.exp(q - q.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
        q[np.arange(B), targets[t]] -= 1
        errs.append(q)
    g = {k: np.zeros_like(v) for k, v in p.items()}
    for t in range(T):
        g["V"] += h_forward[t].T @ errs[t]
        g["V'"] += h_backward[t].T @ errs[t]
        g["c"] += errs[t].sum(0)
    carry = np.zeros((B, p["b"].size))
    for t in reversed(range(T)):
        dz = (errs[t] @ p["V"].T + carry) * (1 - fw[t + 1] ** 2)
        g["U"] += xs[t].T @ dz
        g["W"] += fw[t].T @ dz
        g["b"] += dz.sum(0)
        carry = dz @ p["W"].T
    errs_flip = errs[::-1]
    carry = np.zeros((B, p["b'"].size))
    for t in reversed(range(T)):
        dz = (errs_flip[t] @ p["V'"].T + carry) * (1 - bw[t + 1] ** 2)
        g["U'"] += xs_flip[t].T @ dz
        g["W'"] += bw[t].T @ dz
        g["b'"] += dz.sum(0)
        carry = dz @ p["W'"].T
    return g


def zack(params, xs, h0, h0_last, targets):
    U, W, b, V = params["U"], params["W"], params["b"], params["V"]
    Ub, Wb, bb, Vb = params["U'"], params["W'"], params["b'"], params["V'"]
    T, B, _ = xs.shape
    H = h0.shape[1]
    hf = np.zeros((T + 1, B, H))        # hf[t] is the state after t inputs
    hb = np.zeros((T + 1, B, H))        # hb[t] has read x[t], x[t+1], ...
    hf[0] = h0
    hb[T] = h0_last
    for t in range(T):
        hf[t + 1] = np.tanh(xs[t] @ U + hf[t] @ W + b)
    for t in range(T - 1, -1, -1):
        hb[t] = np.tanh(xs[t] @ Ub + hb[t + 1] @ Wb + bb)
    eps = np.zeros((T, B, params["c"].size))
    for t in range(T):
        q = hf[t + 1] @ V + hb[t] @ Vb + params["c"]
        eps[t] = np.exp(q) / np.exp(q).sum(axis=1, keepdims=True)
        eps[t, np.arange(B), targets[t]] -= 1
    grads = {name: np.zeros(array.shape) for name, array in params.items()}
    carry = np.zeros((B, H))
    for t in range(T - 1, -1, -1):
        delta = (eps[t] @ V.T + carry) * (1 - hf[t + 1] ** 2)
        grads["U"] += xs[t].T @ delta
        grads["W"] += hf[t].T @ delta
        grads["b"] += delta.sum(axis=0)
        grads["V"] += hf[t + 1].T @ eps[t]
        grads["c"] += eps[t].sum(axis=0)
        carry = delta @ W.T
    carry = np.zeros((B, H))
    for t in range(T):
        delta = (eps[t] @ Vb.T + carry) * (1 - hb[t] ** 2)
        grads["U'"] += xs[t].T @ delta
        grads["W'"] += hb[t - 1].T @ delta
        grads["b'"] += delta.sum(axis=0)
        grads["V'"] += hb[t].T @ eps[t]
        carry = delta @ Wb.T
    return grads


def zeynep(params, xs, h0, h0_last, targets):
    U, W, b, V = params["U"], params["W"], params["b"], params["V"]
    Ub, Wb, bb, Vb = params["U'"], params["W'"], params["b'"], params["V'"]
    T, B, _ = xs.shape
    H = h0.shape[1]
    hf = np.zeros((T + 1, B, H))        # hf[t] is the state after t inputs
    hb = np.zeros((T + 1, B, H))        # hb[t] has read x[t], x[t+1], ...
    hf[0] = h0
    hb[T] = h0_last
    for t in range(T):
        hf[t + 1] = np.tanh(xs[t] @ U + hf[t] @ W + b)
    for t in range(T - 1, -1, -1):
        hb[t] = np.tanh(xs[t] @ Ub + hb[t + 1] @ Wb + bb)
    eps = np.zeros((T, B, params["c"].size))
    for t in range(T):
        q = hf[t + 1] @ V + hb[t] @ Vb + params["c"]
        eps[t] = np.exp(q) / np.exp(q).sum(axis=1, keepdims=True)
        eps[t, np.arange(B), targets[t]] -= 1
    grads = {name: np.zeros(array.shape) for name, array in params.items()}
    carry = np.zeros((B, H))
    for t in range(T - 1, -1, -1):
        delta = (eps[t] @ V.T + carry) * (1 - hf[t + 1] ** 2)
        grads["U"] += xs[t].T @ delta
        grads["W"] += hf[t].T @ delta
        grads["b"] += delta.sum(axis=0)
        grads["V"] += hf[t + 1].T @ eps[t]
        grads["c"] += eps[t].sum(axis=0)
        carry = delta @ W.T
    carry = np.zeros((B, H))
    for t in range(T):
        delta = (eps[t] @ Vb.T + carry) * (1 - hb[t] ** 2)
        grads["U'"] += xs[t].T @ delta
        grads["W'"] += hb[t + 1].T @ delta
        grads["b'"] += delta.sum(axis=0)
        grads["V"] += hb[t].T @ eps[t]
        carry = delta @ Wb.T
    return grads


def zlata(params, xs, h0, h0_last, targets):
    U, W, b, V = params["U"], params["W"], params["b"], params["V"]
    Ub, Wb, bb, Vb = params["U'"], params["W'"], params["b'"], params["V'"]
    T, B, _ = xs.shape
    H = h0.shape[1]
    hf = np.zeros((T + 1, B, H))        # hf[t] is the state after t inputs
    hb = np.zeros((T + 1, B, H))        # hb[t] has read x[t], x[t+1], ...
    hf[0] = h0
    hb[T] = h0_last
    for t in range(T):
        hf[t + 1] = np.tanh(xs[t] @ U + hf[t] @ W + b)
    for t in range(T - 1, -1, -1):
        hb[t] = np.tanh(xs[t] @ Ub + hb[t + 1] @ Wb + bb)
    eps = np.zeros((T, B, params["c"].size))
    for t in range(T):
        q = hf[t + 1] @ V + hb[t] @ Vb + params["c"]
        eps[t] = np.exp(q) / np.exp(q).sum(axis=1, keepdims=True)
        eps[t, np.arange(B), targets[t]] -= 1
    grads = {name: np.zeros(array.shape) for name, array in params.items()}
    carry = np.zeros((B, H))
    for t in range(T - 1, -1, -1):
        delta = (eps[t] @ V.T + carry) * (1 - hf[t + 1] ** 2)
        grads["U"] += xs[t].T @ delta
        grads["W"] += hf[t].T @ delta
        grads["b"] += delta.sum(axis=0)
        grads["V"] += hf[t + 1].T @ eps[t]
        grads["c"] += eps[t].sum(axis=0)
        carry = delta @ W.T
    for t in range(T):
        delta = (eps[t] @ Vb.T + carry) * (1 - hb[t] ** 2)
        grads["U'"] += xs[t].T @ delta
        grads["W'"] += hb[t + 1].T @ delta
        grads["b'"] += delta.sum(axis=0)
        grads["V'"] += hb[t].T @ eps[t]
        carry = delta @ Wb.T
    return grads


def zuzana(params, xs, h0, h0_last, targets):
    U, W, b, V = params["U"], params["W"], params["b"], params["V"]
    Ub, Wb, bb, Vb = params["U'"], params["W'"], params["b'"], params["V'"]
    T, B, _ = xs.shape
    H = h0.shape[1]
    hf = np.zeros((T + 1, B, H))        # hf[t] is the state after t inputs
    hb = np.zeros((T + 1, B, H))        # hb[t] has read x[t], x[t+1], ...
    hf[0] = h0
    hb[T] = h0_last
    for t in range(T):
        hf[t + 1] = np.tanh(xs[t] @ U + hf[t] @ W + b)
    for t in range(T - 1, -1, -1):
        hb[t] = np.tanh(xs[t] @ Ub + hb[t + 1] @ Wb + bb)
    eps = np.zeros((T, B, params["c"].size))
    for t in range(T):
        q = hf[t + 1] @ V + hb[t] @ Vb + params["c"]
        eps[t] = np.exp(q) / np.exp(q).sum(axis=1, keepdims=True)
        eps[t, np.arange(B), targets[t]] -= 1
    grads = {name: np.zeros(array.shape) for name, array in params.items()}
    carry = np.zeros((B, H))
    for t in range(T - 1, -1, -1):
        delta = (eps[t] @ V.T + carry) * (1 - hf[t + 1] ** 2)
        grads["U"] += xs[t].T @ delta
        grads["W"] += hf[t].T @ delta
        grads["b"] += delta.sum(axis=0)
        grads["V"] += hf[t + 1].T @ eps[t]
        grads["c"] += eps[t].sum(axis=0)
        carry = delta @ W.T
    carry = np.zeros((B, H))
    for t in range(T):
        delta = ((t + 1) / T * eps[t] @ Vb.T + carry) * (1 - hb[t] ** 2)
        grads["U'"] += xs[t].T @ delta
        grads["W'"] += hb[t + 1].T @ delta
        grads["b'"] += delta.sum(axis=0)
        grads["V'"] += hb[t].T @ eps[t]
        carry = delta @ Wb.T
    return grads


def adele(params, xs, h0, h0_last, targets):
    def run(inputs, start, U, W, b):
        states = [start]
        for x in inputs:
            states.append(np.tanh(np.dot(x, U) + np.dot(states[-1], W) + b))
        return states

    def bptt(inputs, states, d_out, W):
        dU, dW, db = 0, 0, 0
        d_state = 0
        for x, before, after, d in reversed(list(zip(inputs, states[:-1], states[1:], d_out))):
            dz = (d + d_state) * (1 - after * after)
            dU = dU + np.dot(x.T, dz)
            dW = dW + np.dot(before.T, dz)
            db = db + dz.sum(axis=0)
            d_state = np.dot(dz, W.T)
        return dU, dW, db

    there = list(xs)
    back = there[::-1]
    left = run(there, h0, params["U"], params["W"], params["b"])
    right = run(back, h0_last, params["U'"], params["W'"], params["b'"])
    both = [np.concatenate(pair, axis=1) for pair in zip(left[1:], right[:0:-1])]
    V2 = np.concatenate([params["V"], params["V'"]])
    H = params["V"].shape[0]
    dV2, dc, dleft, dright = np.zeros_like(V2), np.zeros_like(params["c"]), [], []
    for hh, y in zip(both, targets):
        e = np.exp(np.dot(hh, V2) + params["c"])
        e = e / e.sum(axis=1, keepdims=True) - np.eye(len(dc))[y]
        dV2 += np.dot(hh.T, e)
        dc += e.sum(axis=0)
        dhh = np.dot(e, V2.T)
        dleft.append(dhh[:, :H])
        dright.append(dhh[:, H:])
    grads = {"V": dV2[:H], "V'": dV2[H:], "c": dc}
    grads["U"], grads["W"], grads["b"] = bptt(there, left, dleft, params["W"])
    grads["U'"], grads["W'"], grads["b'"] = bptt(there, right[::-1], dright, params["W'"])
    return grads


def amir(params, xs, h0, h0_last, targets):
    def run(inputs, start, U, W, b):
        states = [start]
        for x in inputs:
            states.append(np.tanh(np.dot(x, U) + np.dot(states[-1], W) + b))
        return states

    def bptt(inputs, states, d_out, W):
        dU, dW, db = 0, 0, 0
        d_state = 0
        for x, before, after, d in reversed(list(zip(inputs, states[:-1], states[1:], d_out))):
            dz = (d + d_state) * (1 - after * after)
            dU = dU + np.dot(x.T, dz)
            dW = dW + np.dot(before.T, dz)
            db = db + dz.sum(axis=0)
            d_state = np.dot(dz, W.T)
        return dU, dW, db

    there = list(xs)
    back = there[::-1]
    left = run(there, h0, params["U"], params["W"], params["b"])
    right = run(back, h0, params["U'"], params["W'"], params["b'"])
    both = [np.concatenate(pair, axis=1) for pair in zip(left[1:], right[:0:-1])]
    V2 = np.concatenate([params["V"], params["V'"]])
    H = params["V"].shape[0]
    dV2, dc, dleft, dright = np.zeros_like(V2), np.zeros_like(params["c"]), [], []
    for hh, y in zip(both, targets):
        e = np.exp(np.dot(hh, V2) + params["c"])
        e = e / e.sum(axis=1, keepdims=True) - np.eye(len(dc))[y]
        dV2 += np.dot(hh.T, e)
        dc += e.sum(axis=0)
        dhh = np.dot(e, V2.T)
        dleft.append(dhh[:, :H])
        dright.append(dhh[:, H:])
    grads = {"V": dV2[:H], "V'": dV2[H:], "c": dc}
    grads["U"], grads["W"], grads["b"] = bptt(there, left, dleft, params["W"])
    grads["U'"], grads["W'"], grads["b'"] = bptt(back, right, dright[::-1], params["W'"])
    return grads


def ayumi(params, xs, h0, targets):
    U, W, b, V, c = (params[k] for k in ("U", "W", "b", "V", "c"))
    T, B, _ = xs.shape
    hs = [h0]
    probs = []
    for t in range(T):
        h = np.tanh(xs[t] @ U + hs[-1] @ W + b)
        hs.append(h)
        q = h @ V + c
        e = np.exp(q - q.max(axis=1, keepdims=True))
        probs.append(e / e.sum(axis=0, keepdims=True))

    dU, dW, db = np.zeros_like(U), np.zeros_like(W), np.zeros_like(b)
    dV, dc = np.zeros_like(V), np.zeros_like(c)
    dh_next = np.zeros_like(h0)
    for t in reversed(range(T)):
        dq = probs[t].copy()
        dq[np.arange(B), targets[t]] -= 1
        dV += hs[t + 1].T @ dq
        dc += dq.sum(axis=0)
        dh = dq @ V.T + dh_next
        dz = (1 - hs[t + 1] ** 2) * dh
        dU += xs[t].T @ dz
        dW += hs[t].T @ dz
        db += dz.sum(axis=0)
        dh_next = dz @ W.T
    return {"U": dU, "W": dW, "b": db, "V": dV, "c": dc}


def carmen(params, xs, h0, targets):
    # everything as columns, as in the lecture: x_t (D, B), h_t (H, B), W (out, in)
    Wxh, Whh, Why = params["U"].T, params["W"].T, params["V"].T
    bh, by = params["b"].reshape(-1, 1), params["c"].reshape(-1, 1)
    T, B = targets.shape
    X = [x.T for x in xs]
    H = {-1: h0.T}
    P = {}
    for t in range(T):
        H[t] = np.tanh(Wxh @ X[t] + Whh @ H[t - 1] + bh)
        o = Why @ H[t] + by
        o = np.exp(o - np.max(o, axis=0))
        P[t] = o / np.sum(o, axis=0)
    dWxh, dWhh, dWhy = np.zeros_like(Wxh), np.zeros_like(Whh), np.zeros_like(Why)
    dbh, dby = np.zeros_like(bh), np.zeros_like(by)
    carry = np.zeros_like(H[-1])
    t = T - 1
    while t >= 0:
        dy = np.copy(P[t])
        for j in range(B):
            dy[targets[t, j], j] -= 1
        dWhy += dy @ H[t].T
        dby += dy.sum(axis=1, keepdims=True)
        dh = Why.T @ dy + (carry if t % 2 == 0 else 0)
        draw = (1 - H[t] ** 2) * dh
        dbh += draw.sum(axis=1, keepdims=True)
        dWxh += draw @ X[t].T
        dWhh += draw @ H[t - 1].T
        carry = Whh.T @ draw
        t -= 1
    return {"U": dWxh.T, "W": dWhh.T, "b": dbh.ravel(), "V": dWhy.T, "c": dby.ravel()}


def filip(params, xs, h0, targets):
    # one sentence after another, after min-char-rnn
    Wxh, Whh, Why = params["U"], params["W"], params["V"]
    grads = {k: np.zeros(v.shape) for k, v in params.items()}
    T, B = targets.shape
    dhnext = np.zeros(h0.shape[1])
    for n in range(B):
        hs, ps = {}, {}
        hs[-1] = np.copy(h0[n])
        for t in range(T):
            hs[t] = np.tanh(np.dot(xs[t, n], Wxh) + np.dot(hs[t - 1], Whh) + params["b"])
            ys = np.dot(hs[t], Why) + params["c"]
            ps[t] = np.exp(ys) / np.sum(np.exp(ys))
        for t in reversed(range(T)):
            dy = np.copy(ps[t])
            dy[targets[t, n]] -= 1
            grads["V"] += np.outer(hs[t], dy)
            grads["c"] += dy
            dh = np.dot(Why, dy) + dhnext
            dhraw = (1 - hs[t] * hs[t]) * dh
            grads["b"] += dhraw
            grads["U"] += np.outer(xs[t, n], dhraw)
            grads["W"] += np.outer(hs[t - 1], dhraw)
            dhnext = np.dot(Whh, dhraw)
    return grads


def heike(params, xs, h0, targets):
    D, H = params["U"].shape
    big = np.vstack([params["U"], params["W"], params["b"]])     # [x, h, 1] @ big
    T, B, _ = xs.shape
    one = np.ones((B, 1))
    inputs, hiddens, probs = [], [], []
    h = h0
    for t in range(T):
        v = np.hstack([xs[t], h, one])
        h = 1.0 / (1.0 + np.exp(-(v @ big)))
        y = h @ params["V"] + params["c"]
        y = np.exp(y - y.max())
        inputs.append(v)
        hiddens.append(h)
        probs.append(y / y.sum(axis=1, keepdims=True))
    d_big = np.zeros_like(big)
    d_V, d_c = np.zeros_like(params["V"]), np.zeros_like(params["c"])
    d_h = np.zeros((B, H))
    for t in range(T - 1, -1, -1):
        err = probs[t]
        err[np.arange(B), targets[t]] -= 1
        d_V += hiddens[t].T @ err
        d_c += err.sum(axis=0)
        d_h = d_h + err @ params["V"].T
        d_a = d_h * hiddens[t] * (1 - hiddens[t])
        d_big += inputs[t].T @ d_a
        d_v = d_a @ big.T
        d_h = d_v[:, D - 1:D + H - 1]
    return {"U": d_big[:D], "W": d_big[D:D + H], "b": d_big[-1], "V": d_V / B, "c": d_c / B}


def jan(params, xs, h0, targets):
    total = {name: np.zeros_like(array) for name, array in params.items()}

    def visit(t, h_before):
        """Go forward at the way in, backward at the way out
        give dE/dh_before."""
        if t == len(xs):
            return np.zeros_like(h_before)
        a = xs[t] @ params["U"] + h_before @ params["W"] + params["b"]
        h = a * (a > 0)
        logit = h @ params["V"] + params["c"]
        soft = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
        from_future = visit(t + 1, h)
        for row, label in enumerate(targets[t]):
            soft[row, label] -= 1
        total["V"] += h.T @ soft
        total["c"] += np.sum(soft, axis=0)
        da = (soft @ params["V"].T + from_future) * np.maximum(a, 0)
        total["U"] += xs[t].T @ da
        total["W"] += h_before.T @ da
        total["b"] += np.sum(da, axis=0)
        return da @ params["W"].T

    visit(0, h0)
    return total


def lotte(params, xs, h0, c0, targets):
    # packed as PyTorch does: i, f, g, o
    H = h0.shape[1]
    Wx = np.concatenate([params["U_i"], params["U_f"], params["U_c"], params["U_o"]], axis=1)
    Wh = np.concatenate([params["W_i"], params["W_f"], params["W_c"], params["W_o"]], axis=1)
    bias = np.concatenate([params["b_i"], params["b_f"], params["b_c"], params["b_o"]])
    saved = []
    h, c = h0, c0
    for t in range(xs.shape[0]):
        i, f, g, o = np.split(xs[t] @ Wx + h @ Wh + bias, 4, axis=1)
        i, f, o = [1 / (1 + np.exp(-a)) for a in (i, f, o)]
        g = np.tanh(g)
        c_new = f * c + i * g
        h_new = o * np.tanh(c_new)
        score = h_new @ params["V"] + params["c"]
        p = np.exp(score - score.max(1, keepdims=True))
        p = p / p.sum(1, keepdims=True)
        saved.append((h, c, i, f, g, o, c_new, h_new, p))
        h, c = h_new, c_new
    dWx, dWh, dbias = np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(bias)
    dV, dcc = np.zeros_like(params["V"]), np.zeros_like(params["c"])
    dh_next, dc_next = np.zeros_like(h0), np.zeros_like(c0)
    for t in range(xs.shape[0] - 1, -1, -1):
        h_prev, c_prev, i, f, g, o, c, h, p = saved[t]
        p[np.arange(p.shape[0]), targets[t]] -= 1
        dV += h.T @ p
        dcc += p.sum(0)
        dh = p @ params["V"].T + dh_next
        tc = np.tanh(c)
        dc = dh * o * (1 - tc * tc) + dc_next
        dgates = np.concatenate([dc * c_prev * i * (1 - i), dc * g * f * (1 - f), dc * i * (1 - g * g),
                                 dh * tc * o * (1 - o)], axis=1)
        dWx += xs[t].T @ dgates
        dWh += h_prev.T @ dgates
        dbias += dgates.sum(0)
        dh_next = dgates @ Wh.T
        dc_next = dc * f
    grads = {"V": dV, "c": dcc}
    for k, gate in enumerate("ifco"):
        grads["U_" + gate] = dWx[:, k * H:(k + 1) * H]
        grads["W_" + gate] = dWh[:, k * H:(k + 1) * H]
        grads["b_" + gate] = dbias[k * H:(k + 1) * H]
    return grads


def petra(params, xs, h0, c0, targets):
    p = params
    hs, cs = [h0], [c0]
    fs, is_, os_, gs, errs = [], [], [], [], []
    for x, y in zip(xs, targets):
        hp, cp = hs[-1], cs[-1]
        f = sigmoid(x @ p["U_f"] + hp @ p["W_f"] + p["b_f"] + p["p_f"] * cp)
        i = sigmoid(x @ p["U_i"] + hp @ p["W_i"] + p["b_i"] + p["p_i"] * cp)
        g = np.tanh(x @ p["U_c"] + hp @ p["W_c"] + p["b_c"])
        cc = f * cp + i * g
        o = sigmoid(x @ p["U_o"] + hp @ p["W_o"] + p["b_o"] + p["p_o"] * cc)
        h = o * np.tanh(cc)
        q = h @ p["V"] + p["c"]
        q = np.exp(q - q.max(1, keepdims=True))
        q = q / q.sum(1, keepdims=True)
        q[np.arange(len(y)), y] -= 1
        for store, item in zip((hs, cs, fs, is_, os_, gs, errs), (h, cc, f, i, o, g, q)):
            store.append(item)
    d = {k: np.zeros_like(v) for k, v in p.items()}
    dh_later = np.zeros_like(h0)
    dc_later = np.zeros_like(c0)
    for t in range(len(xs) - 1, -1, -1):
        x, hp, cp, h, cc = xs[t], hs[t], cs[t], hs[t + 1], cs[t + 1]
        f, i, o, g, err = fs[t], is_[t], os_[t], gs[t], errs[t]
        d["V"] += h.T @ err
        d["c"] += err.sum(0)
        dh = err @ p["V"].T + dh_later
        dzo = dh * np.tanh(cc) * o * (1 - o)
        dc = dc_later + dh * o * (1 - np.tanh(cc) ** 2)
        dc = dc + dzo * p["p_o"]
        dzf = dc * cp * f * (1 - f)
        dzi = dc * g * i * (1 - i)
        dzg = dc * i * (1 - g ** 2)
        d["p_o"] += (dzo).sum(0)
        d["p_f"] += (dzf).sum(0)
        d["p_i"] += (dzi).sum(0)
        for name, dz in (("f", dzf), ("i", dzi), ("o", dzo), ("c", dzg)):
            d["U_" + name] += x.T @ dz
            d["W_" + name] += hp.T @ dz
            d["b_" + name] += dz.sum(0)
        dh_later = dzf @ p["W_f"].T + dzi @ p["W_i"].T + dzo @ p["W_o"].T + dzg @ p["W_c"].T
        dc_later = dc * f + dzf * p["p_f"] + dzi * p["p_i"]
    return d


def piotr(params, xs, h0, c0, targets):
    p = params
    hs, cs = [h0], [c0]
    fs, is_, os_, gs, errs = [], [], [], [], []
    for x, y in zip(xs, targets):
        hp, cp = hs[-1], cs[-1]
        f = sigmoid(x @ p["U_f"] + hp @ p["W_f"] + p["b_f"] + p["p_f"] * cp)
        i = sigmoid(x @ p["U_i"] + hp @ p["W_i"] + p["b_i"] + p["p_i"] * cp)
        g = np.tanh(x @ p["U_c"] + hp @ p["W_c"] + p["b_c"])
        cc = f * cp + i * g
        o = sigmoid(x @ p["U_o"] + hp @ p["W_o"] + p["b_o"] + p["p_o"] * cc)
        h = o * np.tanh(cc)
        q = h @ p["V"] + p["c"]
        q = np.exp(q - q.max(1, keepdims=True))
        q = q / q.sum(1, keepdims=True)
        q[np.arange(len(y)), y] -= 1
        for store, item in zip((hs, cs, fs, is_, os_, gs, errs), (h, cc, f, i, o, g, q)):
            store.append(item)
    d = {k: np.zeros_like(v) for k, v in p.items()}
    dh_later = np.zeros_like(h0)
    dc_later = np.zeros_like(c0)
    for t in range(len(xs) - 1, -1, -1):
        x, hp, cp, h, cc = xs[t], hs[t], cs[t], hs[t + 1], cs[t + 1]
        f, i, o, g, err = fs[t], is_[t], os_[t], gs[t], errs[t]
        d["V"] += h.T @ err
        d["c"] += err.sum(0)
        dh = err @ p["V"].T + dh_later
        dzo = dh * np.tanh(cc) * o * (1 - o)
        dc = dc_later + dh * o * (1 - np.tanh(cc) ** 2)
        dc = dc + dzo * p["p_o"]
        dzf = dc * cp * f * (1 - f)
        dzi = dc * i * (1 - i)
        dzg = dc * i * (1 - g ** 2)
        d["p_o"] += (dzo * cc).sum(0)
        d["p_f"] += (dzf * cp).sum(0)
        d["p_i"] += (dzi * cp).sum(0)
        for name, dz in (("f", dzf), ("i", dzi), ("o", dzo), ("c", dzg)):
            d["U_" + name] += x.T @ dz
            d["W_" + name] += hp.T @ dz
            d["b_" + name] += dz.sum(0)
        dh_later = dzf @ p["W_f"].T + dzi @ p["W_i"].T + dzo @ p["W_o"].T + dzg @ p["W_c"].T
        dc_later = dc * f + dzf * p["p_f"]
    return d


def perla(params, xs, h0, c0, targets):
    p = params
    hs, cs = [h0], [c0]
    fs, is_, os_, gs, errs = [], [], [], [], []
    for x, y in zip(xs, targets):
        hp, cp = hs[-1], cs[-1]
        f = sigmoid(x @ p["U_f"] + hp @ p["W_f"] + p["b_f"] + p["p_f"] * cp)
        i = sigmoid(x @ p["U_i"] + hp @ p["W_i"] + p["b_i"] + p["p_i"] * cp)
        g = np.tanh(x @ p["U_c"] + hp @ p["W_c"] + p["b_c"])
        cc = f * cp + i * g
        o = sigmoid(x @ p["U_o"] + hp @ p["W_o"] + p["b_o"] + p["p_o"] * cc)
        h = o * np.tanh(cc)
        q = h @ p["V"] + p["c"]
        q = np.exp(q - q.max(1, keepdims=True))
        q = q / q.sum(1, keepdims=True)
        q[np.arange(len(y)), y] -= 1
        for store, item in zip((hs, cs, fs, is_, os_, gs, errs), (h, cc, f, i, o, g, q)):
            store.append(item)
    d = {k: np.zeros_like(v) for k, v in p.items()}
    dh_later = np.zeros_like(h0)
    dc_later = np.zeros_like(c0)
    for t in range(len(xs) - 1, -1, -1):
        x, hp, cp, h, cc = xs[t], hs[t], cs[t], hs[t + 1], cs[t + 1]
        f, i, o, g, err = fs[t], is_[t], os_[t], gs[t], errs[t]
        d["V"] += h.T @ err
        d["c"] += err.sum(0)
        dh = err @ p["V"].T + dh_later
        dzo = dh * np.tanh(cc) * o * (1 - o)
        dc = dc_later + dh * o * (1 - np.tanh(cc) ** 2)
        dzf = dc * cp * f * (1 - f)
        dzi = dc * g * i * (1 - i)
        dzg = dc * i * (1 - g ** 2)
        d["p_o"] += (dzo * cc).sum(0)
        d["p_f"] += (dzf * cp).sum(0)
        d["p_i"] += (dzi * cp).sum(0)
        for name, dz in (("f", dzf), ("i", dzi), ("o", dzo), ("c", dzg)):
            d["U_" + name] += x.T @ dz
            d["W_" + name] += hp.T @ dz
            d["b_" + name] += dz.sum(0)
        dh_later = dzf @ p["W_f"].T + dzi @ p["W_i"].T + dzo @ p["W_o"].T + dzg @ p["W_c"].T
        dc_later = dc * f + dzf * p["p_f"] + dzi * p["p_i"] + dzo * p["p_o"]
    return d


def rui(params, xs, h0, targets):
    Ur, Uz, Un = params["U_r"], params["U_z"], params["U_n"]
    Wr, Wz, Wn = params["W_r"], params["W_z"], params["W_n"]
    br, bz, bn, bhn = params["b_r"], params["b_z"], params["b_n"], params["b_hn"]
    V, c = params["V"], params["c"]
    dUr, dUz, dUn = np.zeros_like(Ur), np.zeros_like(Uz), np.zeros_like(Un)
    dWr, dWz, dWn = np.zeros_like(Wr), np.zeros_like(Wz), np.zeros_like(Wn)
    dbr, dbz, dbn, dbhn = np.zeros_like(br), np.zeros_like(bz), np.zeros_like(bn), np.zeros_like(bhn)
    dV, dc = np.zeros_like(V), np.zeros_like(c)
    history = []
    h = h0
    for t in range(len(xs)):
        r = sigmoid(xs[t] @ Ur + h @ Wr + br)
        z = sigmoid(xs[t] @ Uz + h @ Wz + bz)
        m = h @ Wn + bhn
        n = np.tanh(xs[t] @ Un + bn + r * m)
        h_new = (1 - z) * n + z * h
        history.append((h, r, z, m, n, h_new))
        h = h_new
    dh = np.zeros_like(h0)
    for t in range(len(xs) - 1, -1, -1):
        h_prev, r, z, m, n, h = history[t]
        logits = h @ V + c
        y = np.exp(logits - logits.max(axis=1, keepdims=True))
        y /= y.sum(axis=1, keepdims=True)
        y[np.arange(y.shape[0]), targets[t]] -= 1
        dV += h.T @ y
        dc += y.sum(axis=0)
        dh = dh + y @ V.T
        r = sigmoid(xs[t] @ Ur + h @ Wr + br)
        dn = dh * (1 - z)
        dzz = dh * (h_prev - n) * z * (1 - z)
        dnn = dn * (1 - n ** 2)
        drr = dnn * m * r * (1 - r)
        dm = dnn * r
        dUr += xs[t].T @ drr
        dWr += h_prev.T @ drr
        dbr += drr.sum(axis=0)
        dUz += xs[t].T @ dzz
        dWz += h_prev.T @ dzz
        dbz += dzz.sum(axis=0)
        dUn += xs[t].T @ dnn
        dWn += h_prev.T @ dm
        dbn += dnn.sum(axis=0)
        dbhn += dm.sum(axis=0)
        dh_prev = dh * z
        dh_prev += drr @ Wr.T
        dh_prev += dzz @ Wz.T
        dh_prev += dm @ Wn.T
        dh = dh_prev
    return {"U_r": dUr, "W_r": dWr, "b_r": dbr, "U_z": dUz, "W_z": dWz, "b_z": dbz, "U_n": dUn, "W_n": dWn,
            "b_n": dbn, "b_hn": dbhn, "V": dV, "c": dc}


def walid(params, xs, h0, targets):
    Uu, Wu, bu = params["U_u"], params["W_u"], params["b_u"]
    Un, Wn, bn = params["U_n"], params["W_n"], params["b_n"]
    T = len(xs)
    mem, gate, cand, prob = [h0], [], [], []
    for t in range(T):
        gate.append(1 / (1 + np.exp(-(xs[t] @ Uu + mem[t] @ Wu + bu))))
        cand.append(np.tanh(xs[t] @ Un + mem[t] @ Wn + bn))
        mem.append(gate[t] * cand[t] + (1 - gate[t]) * mem[t])
        score = np.exp(mem[t + 1] @ params["V"] + params["c"])
        prob.append(score / score.sum(1, keepdims=True))
    d = dict((k, np.zeros_like(v)) for k, v in params.items())
    dmem = np.zeros_like(h0)
    for t in reversed(range(T)):
        err = prob[t].copy()
        err[np.arange(err.shape[0]), targets[t]] -= 1
        d["V"] += mem[t + 1].T @ err
        d["c"] += err.sum(0)
        dmem = dmem + err @ params["V"].T
        dcand = dmem * gate[t]
        dgate = dmem * (cand[t] - mem[t])
        dzc = dcand * (1 - cand[t] ** 2)
        dzu = dgate * gate[t] * (1 - gate[t])
        d["U_u"] += xs[t].T @ dzu
        d["W_u"] += mem[t].T @ dzu
        d["b_u"] += dzu.sum(0)
        d["U_n"] += xs[t].T @ dzc
        d["W_n"] += mem[t].T @ dzc
        d["b_n"] += dzc.sum(0)
        dmem = dmem * (1 - gate[t]) + dzu @ Wu.T + dzc @ Wu.T
    return d


def ylva(params, xs, h0, h0_last, targets):
    p = params
    T, B, _ = xs.shape
    xs_flip = xs[::-1]
    fw, bw = [h0], [h0_last]
    for t in range(T):
        fw.append(np.tanh(xs[t] @ p["U"] + fw[-1] @ p["W"] + p["b"]))
        bw.append(np.tanh(xs_flip[t] @ p["U'"] + bw[-1] @ p["W'"] + p["b'"]))
    h_forward = fw[1:]
    h_backward = bw[1:][::-1]
    errs = []
    for t in range(T):
        q = h_forward[t] @ p["V"] + h_backward[t] @ p["V"] + p["c"]
        q = np.exp(q - q.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
        q[np.arange(B), targets[t]] -= 1
        errs.append(q)
    g = {k: np.zeros_like(v) for k, v in p.items()}
    for t in range(T):
        g["V"] += h_forward[t].T @ errs[t]
        g["V'"] += h_backward[t].T @ errs[t]
        g["c"] += errs[t].sum(0)
    carry = np.zeros((B, p["b"].size))
    for t in reversed(range(T)):
        dz = (errs[t] @ p["V"].T + carry) * (1 - fw[t + 1] ** 2)
        g["U"] += xs[t].T @ dz
        g["W"] += fw[t].T @ dz
        g["b"] += dz.sum(0)
        carry = dz @ p["W"].T
    errs_flip = errs[::-1]
    carry = np.zeros((B, p["b'"].size))
    for t in reversed(range(T)):
        dz = (errs_flip[t] @ p["V'"].T + carry) * (1 - bw[t + 1] ** 2)
        g["U'"] += xs_flip[t].T @ dz
        g["W'"] += bw[t].T @ dz
        g["b'"] += dz.sum(0)
        carry = dz @ p["W'"].T
    return g


def zelda(params, xs, h0, h0_last, targets):
    U, W, b, V = params["U"], params["W"], params["b"], params["V"]
    Ub, Wb, bb, Vb = params["U'"], params["W'"], params["b'"], params["V'"]
    T, B, _ = xs.shape
    H = h0.shape[1]
    hf = np.zeros((T + 1, B, H))        # hf[t] is the state after t inputs
    hb = np.zeros((T + 1, B, H))        # hb[t] has read x[t], x[t+1], ...
    hf[0] = h0
    hb[T] = h0_last
    for t in range(T):
        hf[t + 1] = np.tanh(xs[t] @ U + hf[t] @ W + b)
    for t in range(T - 1, -1, -1):
        hb[t] = np.tanh(xs[t] @ Ub + hb[t + 1] @ Wb + bb)
    eps = np.zeros((T, B, params["c"].size))
    for t in range(T):
        q = hf[t + 1] @ V + hb[t] @ Vb + params["c"]
        eps[t] = np.exp(q) / np.exp(q).sum(axis=1, keepdims=True)
        eps[t, np.arange(B), targets[t]] -= 1
    grads = {name: np.zeros(array.shape) for name, array in params.items()}
    carry = np.zeros((B, H))
    for t in range(T - 1, -1, -1):
        delta = (eps[t] @ V.T + carry) * (1 - hf[t + 1] ** 2)
        grads["U"] += xs[t].T @ delta
        grads["W"] += hf[t].T @ delta
        grads["b"] += delta.sum(axis=0)
        grads["V"] += hf[t + 1].T @ eps[t]
        grads["c"] += eps[t].sum(axis=0)
        carry = delta @ W.T
    carry = np.zeros((B, H))
    for t in range(T):
        delta = (eps[t] @ Vb.T + carry) * (1 - hf[t + 1] ** 2)
        grads["U'"] += xs[t].T @ delta
        grads["W'"] += hb[t].T @ delta
        grads["b'"] += delta.sum(axis=0)
        grads["V'"] += hb[t].T @ eps[t]
        carry = delta @ Wb.T
    return grads


STUDENTS = [
    Student(astrid, "rnn-tanh", "dV is overwritten at each step (= for +=), so only the first step's is left"),
    Student(alma, "rnn-tanh", "(1) dW uses h_t instead of h_{t-1}; (2) the bias gradient is kept from one step only "
            "(= for +=)"),
    Student(dimitra, "rnn-tanh", "every delta is smoothed over time, 3/4 of its own and 1/4 of the step after, before "
            "it is used and carried"),
    Student(fatima, "rnn-tanh", "clips the carried gradient to +-0.1 inside the loop"),
    Student(felix, "rnn-tanh", "targets off by one: step t is scored with the target of step t+1 (wrapping round)"),
    Student(hugo, "rnn-sigmoid", "the sum over steps is divided by T for V and c but not for the rest"),
    Student(ivan, "rnn-relu", "the ReLU mask is taken from the previous hidden state instead of z_t"),
    Student(iris, "rnn-relu", "(1) no ReLU mask on what is carried back; (2) the first step's use of W with h_0 is "
            "left out"),
    Student(julia, "rnn-relu", ""),
    Student(lorenzo, "lstm", "the packed recurrent gradient is read as interleaved (every fourth column) instead of "
            "in blocks"),
    Student(mateo, "lstm", "(1) the forget gate's gradient uses c_t; (2) W_o instead of its transpose in dh_{t-1}"),
    Student(olga, "lstm", "the candidate's derivative lost its square: 1 - c~"),
    Student(otto, "lstm", "dc leaves out what comes from the later step's cell only in the forget gate's gradient "
            "(uses dh o tanh' there)"),
    Student(priya, "lstm-peephole", ""),
    Student(pilar, "lstm-peephole", "(1) o's peephole passes no gradient into c_t; (2) p_f's gradient uses c_t "
            "instead of c_{t-1}"),
    Student(svetlana, "gru-after", "the hidden units of the carried gradient are rotated by one (a leftover np.roll)"),
    Student(tomoko, "gru-after", "the roles of z and 1-z are exchanged throughout the backward pass, as if h_t = z n "
            "+ (1-z) h_{t-1}"),
    Student(urs, "gru-before", "the reset gate's gradient is multiplied by h_t instead of h_{t-1} (state already "
            "updated)"),
    Student(yusuf, "birnn", "the backward states are not turned round again before the output layer (in the forward "
            "pass and in dV'; BPTT still flips the errors)"),
    Student(zack, "birnn", "dW' uses h'_{t-1} instead of h'_{t+1}"),
    Student(zeynep, "birnn", "the gradient of V' is added into V, and V' stays zero"),
    Student(zlata, "birnn", "the carry of the forward direction is not reset before the backward direction begins"),
    Student(zuzana, "birnn", "the error is scaled by (t+1)/T in the BPTT of the backward direction (only), as if to "
            "weight later steps"),
    Student(adele, "birnn", "the backward direction is differentiated as if it ran forward in time: its carry runs t "
            "= T..1, tanh' is taken at h'_{t+1} and dW' pairs h'_t"),
    Student(amir, "birnn", "h_0 is used as the start of both directions"),
    Student(ayumi, "rnn-tanh", "the softmax is normalised over the batch instead of the classes"),
    Student(carmen, "rnn-tanh", "the carry from the later step is added only at every second step (t even, counted "
            "from 0)"),
    Student(filip, "rnn-tanh", "dhnext is set to zero once, not for each example, so it flows from one example into "
            "the next"),
    Student(heike, "rnn-sigmoid", "(1) the carry takes the wrong rows of the stacked matrix (shifted by one); (2) the "
            "mean over the batch for the sum in V and c"),
    Student(jan, "rnn-relu", "ReLU's own value max(a, 0) is used for its derivative"),
    Student(lotte, "lstm", "the forget gate's gradient is multiplied by g and the input gate's by c_{t-1} (exchanged)"),
    Student(petra, "lstm-peephole", "peephole gradients are summed like biases, without the factor c"),
    Student(piotr, "lstm-peephole", "(1) the input gate's peephole passes no gradient to c_{t-1}; (2) factor g "
            "forgotten in the input gate's gradient"),
    Student(perla, "lstm-peephole", "the output gate's peephole passes its gradient to c_{t-1} instead of c_t"),
    Student(rui, "gru-after", "the reset gate is recomputed from the state after the update in the backward pass"),
    Student(walid, "gru-update", "the candidate's path to h_{t-1} is multiplied by the gate's matrix W_u instead of "
            "W_n"),
    Student(ylva, "birnn", "V is used twice in the output layer instead of V and V' (forward); backward as written "
            "for V'"),
    Student(zelda, "birnn", "(1) dW' pairs h'_t instead of h'_{t+1}; (2) tanh' in the backward direction taken at the "
            "forward state h_t"),
]


def example(kind, seed, T=6, B=2, D=3, H=4, V=5):
    """(params, xs, states, targets), all drawn."""
    rng = np.random.default_rng(seed)
    gates = {"lstm": "fioc", "lstm-peephole": "fioc", "gru-after": "rzn", "gru-before": "rzn", "gru-update": "un"}
    shapes = {}
    for gate in [f"_{g}" for g in gates[kind]] if kind in gates else ["", "'"] if kind == "birnn" else [""]:
        shapes |= {"U" + gate: (D, H), "W" + gate: (H, H), "b" + gate: (H,)}
    shapes |= {"birnn": {"V'": (H, V)}, "lstm-peephole": {"p_f": (H,), "p_i": (H,), "p_o": (H,)},
               "gru-after": {"b_hn": (H,)}}.get(kind, {})
    params = {name: rng.normal(0, 0.7, shape) for name, shape in (shapes | {"V": (H, V), "c": (V,)}).items()}
    states = tuple(rng.normal(0, 0.8, (B, H)) for _ in range(2 if kind[:4] == "lstm" or kind == "birnn" else 1))
    return params, rng.normal(size=(T, B, D)), states, rng.integers(0, V, (T, B))
