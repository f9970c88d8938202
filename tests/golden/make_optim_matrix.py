# SPDX-License-Identifier: MIT
"""make_optim_matrix.py: twenty steps of every optimizer on matrices, in float64, from their formulas.

Writes optim_matrix.safetensors beside itself: `start.NAME` the first weights, `gradient.NAME` (20, shape) the gradients of all
steps, `RUN/NAME` the weights after them; optim_matrix_spec.lua has the same runs by name. Everything is written out for one
matrix at a time with singular value decompositions, and shares nothing with the library. Needs PyTorch:

    python3 tests/golden/make_optim_matrix.py
"""
import json
import math
import pathlib
import struct

import torch

STEPS = 20
SHAPES = {
    "embed": (11, 3), "h.0.weight": (7, 5), "h.0.bias": (3,), "h.1.weight": (7, 5), "h.1.bias": (3,), "wide": (4, 9), "square": (6, 6),
    "filter": (3, 2, 2, 2), "head": (6, 5), "scale": (1,),
}
ROLES = {"embed": "embedding", "filter": "conv", "head": "head", "h.0.bias": "vector", "h.1.bias": "vector", "scale": "vector"}
torch.set_default_dtype(torch.float64)


def role(name):
    return ROLES.get(name, "matrix")


def as_matrix(x):
    return x.reshape(x.shape[0], -1)


def hidden(name):
    return role(name) in ("matrix", "conv")


# ----- matrix functions -----

def polar(x):
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    return u @ v


def newton_schulz(x):
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def on_values(x, f):
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    return u @ torch.diag(f(s)) @ v


# ----- oracles: (direction of norm 1, norm) by the name of the norm -----

def oracle(norm, d, kernel, msign):
    rows, columns = d.shape
    ratio = math.sqrt(rows / (columns / kernel))
    if norm == "sign":
        return d.sign() / columns
    if norm == "sign_plain":
        return d.sign()
    if norm == "spectral":
        return msign(d) * ratio
    if norm == "spectral_max":
        return msign(d) * max(1, ratio)
    if norm == "spectral_conv":
        return msign(d) * ratio / kernel
    if norm == "col_norm":
        return d / (d.norm(dim=0, keepdim=True) / math.sqrt(rows) + 1e-8)
    if norm == "col_norm_transposed":
        return d / (d.norm(dim=1, keepdim=True) / math.sqrt(columns) + 1e-8)
    if norm == "row_norm":
        return d / (d.norm(dim=1, keepdim=True) * math.sqrt(columns) + 1e-8)
    if norm == "bias_rms":
        return d / (d.square().mean().sqrt() + 1e-8)
    if norm == "euclidean":
        return d / (d.norm() + 1e-8)
    raise ValueError(norm)


def size(norm, x, kernel):
    rows, columns = x.shape
    ratio = math.sqrt(rows / (columns / kernel))
    if norm == "spectral":
        return torch.linalg.matrix_norm(x, 2) / ratio
    if norm == "spectral_conv":
        return torch.linalg.matrix_norm(x, 2) / ratio * kernel
    if norm == "sign":
        return x.abs().max() * columns
    if norm == "bias_rms":
        return x.square().mean().sqrt()
    raise ValueError(norm)


AUTO = {"matrix": "spectral", "conv": "spectral_conv", "vector": "bias_rms", "embedding": "sign", "head": "sign"}


class Layers:
    """The layers of a model with their norms and radii."""

    def __init__(self, norms=None, radius=None, msign=polar):
        self.norms, self.radii, self.msign = norms or {}, radius or {}, msign

    def norm(self, name):
        return self.norms.get(name) or self.norms.get(role(name)) or AUTO[role(name)]

    def radius(self, name):
        return self.radii.get(name) or self.radii.get(role(name)) or self.radii.get("all", 1.0)

    def kernel(self, name):
        return math.prod(SHAPES[name][2:])

    def direction(self, name, d):
        v = oracle(self.norm(name), as_matrix(d), self.kernel(name), self.msign)
        return (self.radius(name) * v).reshape(d.shape)

    def size(self, name, x):
        return size(self.norm(name), as_matrix(x), self.kernel(name)) / self.radius(name)


# ----- runs: generators that are sent the gradients of a step and change the weights -----

def averaged(state, g, alpha):
    for name in g:
        state[name] = (1 - alpha) * state.get(name, torch.zeros_like(g[name])) + alpha * g[name]
    return state


def rest_sgd(w, g, lr=0.05):
    for name in w:
        if not hidden(name):
            w[name] -= lr * g[name]


def muon(form, nesterov, scale, msign, decay, lr=0.02, mu=0.8):
    m = {}

    def step(w, g, _):
        rest_sgd(w, g)
        for name in filter(hidden, w):
            old = m.get(name, torch.zeros_like(g[name]))
            first = (1 - mu) * g[name] if form == "lerp" else g[name]
            m[name] = mu * old + first
            d = as_matrix(first + mu * m[name] if nesterov else m[name])
            rows, columns = d.shape
            s = {"match_rms_adamw": 0.2 * math.sqrt(max(rows, columns)), "original": math.sqrt(max(1, rows / columns)),
                 "spectral": math.sqrt(rows / columns), "none": 1}[scale]
            w[name] = w[name] - lr * decay * w[name] - lr * s * msign(d).reshape(w[name].shape)
    return step


def scion(layers, constrained, lr=0.05, alpha=0.3):
    d = {}

    def step(w, g, _):
        averaged(d, g, alpha)
        for name in w:
            v = layers.direction(name, d[name])
            w[name] = (1 - lr) * w[name] - lr * v if constrained else w[name] - lr * v
    return step


def clipped_scion(layers, constrained, rho, lr=0.05, alpha=0.3):
    d = {}

    def step(w, g, _):
        averaged(d, g, alpha)
        v = {name: layers.direction(name, d[name]) + (w[name] if constrained else 0) for name in w}
        eta = min(1, sum((d[name] * v[name]).sum() for name in w) / rho)
        for name in w:
            w[name] = w[name] - lr * eta * v[name]
    return step


def whole(d):
    return torch.cat([x.reshape(-1) for x in d.values()])


def ggnc(layers, rho, lr=0.02, alpha=0.3):
    d = {}

    def step(w, g, _):
        averaged(d, g, alpha)
        if layers == "euclidean":
            norm = whole(d).norm()
            v = {name: d[name] / norm for name in w}
        else:
            v = {name: layers.direction(name, d[name]) for name in w}
            norm = sum((d[name] * v[name]).sum() for name in w)
        for name in w:
            w[name] = w[name] - lr * min(rho, norm) * v[name]
    return step


def short_step(layers, variant, beta, rho, lr=0.5, alpha=0.3):
    d = {}

    def step(w, g, _):
        averaged(d, g, alpha)
        if layers == "euclidean":
            v = {name: w[name] + beta * d[name] / whole(d).norm() for name in w}
            norm = whole(v).norm()
        else:
            v = {name: w[name] + beta * layers.direction(name, d[name]) for name in w}
            norm = max(layers.size(name, v[name]) for name in w) if variant == 1 else 0
        dot = sum((d[name] * v[name]).sum() for name in w)
        eta = min(rho, dot / (norm ** 2 if variant == 1 else (2 * beta) ** 2))
        for name in w:
            w[name] = w[name] - lr * eta * v[name]
    return step


def nuclear(x):
    return torch.linalg.svdvals(as_matrix(x)).sum()


def clipped_spectral(scope, rho, lr=0.02, alpha=0.3):
    d = {}

    def step(w, g, _):
        rest_sgd(w, g)
        averaged(d, g, alpha)
        total = sum(nuclear(d[name]) for name in filter(hidden, w))
        for name in filter(hidden, w):
            dual = total if scope == "global" else nuclear(d[name])
            w[name] = w[name] - lr * min(rho, dual) * polar(as_matrix(d[name])).reshape(w[name].shape)
    return step


def spectral_descent(lr=0.01, decay=0.1, alpha=0.3):
    d = {}

    def step(w, g, _):
        rest_sgd(w, g)
        averaged(d, g, alpha)
        for name in filter(hidden, w):
            u = nuclear(d[name]) * polar(as_matrix(d[name])).reshape(w[name].shape)
            w[name] = w[name] - lr * decay * w[name] - lr * u
    return step


def root(a, eps, exponent):
    values, vectors = torch.linalg.eigh(a + eps * torch.eye(len(a)))
    return vectors @ torch.diag(values ** exponent) @ vectors.T


def shampoo(beta2, every, max_side=100, lr=0.05, mu=0.8, eps=0.01, decay=0.1):
    state = {}

    def step(w, g, k):
        rest_sgd(w, g)
        for name in filter(hidden, w):
            x = as_matrix(g[name])
            s = state.setdefault(name, {"l": 0, "r": 0, "m": 0})
            b, c = (1, 1) if beta2 == 1 else (beta2, 1 - beta2)
            s["l"], s["r"] = b * s["l"] + c * x @ x.T, b * s["r"] + c * x.T @ x
            both = max(x.shape) <= max_side
            if (k - 1) % every == 0:
                s["left"], s["right"] = root(s["l"], eps, -0.25 if both else -0.5), root(s["r"], eps, -0.25 if both else -0.5)
            x = s["left"] @ x if x.shape[0] <= max_side else x
            x = x @ s["right"] if x.shape[1] <= max_side else x
            s["m"] = mu * s["m"] + x
            w[name] = w[name] - lr * decay * w[name] - lr * s["m"].reshape(w[name].shape)
    return step


# In a null space, as x x^T of a tall x has, an eigenbasis is anybody's choice: only sides of full rank are turned.
def soap(every, max_side, lr=0.02, b1=0.8, b2=0.9, bs=0.85, eps=1e-8, decay=0.1):
    state = {}

    def step(w, g, k):
        rest_sgd(w, g)
        for name in filter(hidden, w):
            x = as_matrix(g[name])
            s = state.setdefault(name, {"l": 0, "r": 0, "m": 0, "v": 0})
            if k > 1:
                s["m"] = b1 * s["m"] + (1 - b1) * x
                ql = s["ql"] if x.shape[0] <= max_side else torch.eye(x.shape[0])
                qr = s["qr"] if x.shape[1] <= max_side else torch.eye(x.shape[1])
                turned, m = ql.T @ x @ qr, ql.T @ s["m"] @ qr
                s["v"] = b2 * s["v"] + (1 - b2) * turned ** 2
                t = k - 1
                u = ql @ (m / (s["v"].sqrt() + eps)) @ qr.T * math.sqrt(1 - b2 ** t) / (1 - b1 ** t)
                w[name] = w[name] - lr * decay * w[name] - lr * u.reshape(w[name].shape)
            s["l"], s["r"] = bs * s["l"] + (1 - bs) * x @ x.T, bs * s["r"] + (1 - bs) * x.T @ x
            for a, q in (("l", "ql"), ("r", "qr")):
                if k == 1:
                    s[q] = torch.linalg.eigh(s[a])[1]
                elif k % every == 0:
                    s[q] = torch.linalg.qr(s[a] @ s[q])[0]
    return step


def adamw(w, g, state, k, lr=0.02, b1=0.9, b2=0.99, eps=1e-8):
    m, v = state.get("m", 0), state.get("v", 0)
    state["m"], state["v"] = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g ** 2
    return state["m"] / (1 - b1 ** k) / ((state["v"] / (1 - b2 ** k)).sqrt() + eps)


def spectra(rule, decay=0.1, lr=0.02):
    state = {name: {} for name in SHAPES}

    def step(w, g, k):
        for name in w:
            u = adamw(w[name], g[name], state[name], k)
            if role(name) not in ("embedding", "head"):
                u = on_values(as_matrix(u), rule).reshape(u.shape)
            w[name] = w[name] - lr * (u + decay * w[name])
    return step


def hard(tau):
    return lambda x: on_values(x, lambda s: s.clamp(max=tau))


def soft(c):
    return lambda s: s / (1 + s ** 2 / c ** 2).sqrt()


NORMS = Layers({"embedding": "col_norm_transposed", "head": "row_norm", "wide": "spectral_max", "h.1.bias": "euclidean"},
               {"all": 1.0, "head": 3.0, "h.1.weight": 0.5})
OTHERS = Layers({"matrix": "col_norm", "conv": "sign_plain", "vector": "sign", "embedding": "sign", "head": "euclidean"},
                {"all": 2.0})
PLAIN, FAST = Layers(), Layers(msign=newton_schulz)

RUNS = {
    "muon_lerp": muon("lerp", False, "match_rms_adamw", newton_schulz, 0.1),
    "muon_nesterov": muon("lerp", True, "original", polar, 0),
    "muon_jordan": muon("jordan", False, "spectral", polar, 0.1),
    "muon_jordan_nesterov": muon("jordan", True, "original", newton_schulz, 0),
    "mucon": muon("lerp", False, "none", hard(0.8), 0.1, lr=0.2),
    "mucon_jordan": muon("jordan", True, "original", hard(1.5), 0, lr=0.2),
    "scion": scion(FAST, False), "scion_constrained": scion(NORMS, True), "scion_others": scion(OTHERS, False),
    "clipped_scion": clipped_scion(NORMS, False, 20), "clipped_scion_constrained": clipped_scion(OTHERS, True, 100),
    "ggnc": ggnc(NORMS, 8), "ggnc_euclidean": ggnc("euclidean", 4),
    "short_step_1": short_step(PLAIN, 1, 2, 0.4), "short_step_2": short_step(PLAIN, 2, 2, 0.4),
    "short_step_radius": short_step(Layers(radius={"all": 1.0, "head": 3.0}), 1, 2, 0.4),
    "short_step_euclidean_1": short_step("euclidean", 1, 2, 0.4), "short_step_euclidean_2": short_step("euclidean", 2, 2, 0.4),
    "clipped_sign": ggnc(Layers({r: "sign_plain" for r in AUTO}), 40, lr=0.001),
    "clipped_spectral_global": clipped_spectral("global", 6), "clipped_spectral_matrix": clipped_spectral("matrix", 2),
    "spectral_descent": spectral_descent(),
    "shampoo": shampoo(1, 1), "shampoo_average": shampoo(0.9, 3), "shampoo_one_side": shampoo(0.9, 1, max_side=8),
    "soap": soap(3, 6),
    "spectra_soft": spectra(soft(0.7)), "spectra_exact": spectra(lambda s: s.clamp(max=0.7)),
}


def torch_muon(start, gradients):
    """torch.optim.Muon itself, which computes in bfloat16 inside."""
    w = {name: torch.nn.Parameter(start[name].clone()) for name in start if role(name) == "matrix"}
    opt = torch.optim.Muon(list(w.values()), lr=0.02, momentum=0.8, nesterov=True, weight_decay=0.1,
                           adjust_lr_fn="match_rms_adamw")
    for k in range(STEPS):
        for name in w:
            w[name].grad = gradients[name][k]
        opt.step()
    return {name: x.detach() for name, x in w.items()}


def write(path, tensors):
    header, blobs, at = {}, [], 0
    for name in sorted(tensors):
        blob = tensors[name].contiguous().numpy().tobytes()
        header[name] = {"dtype": "F64", "shape": list(tensors[name].shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def main():
    torch.manual_seed(20260711)
    start = {name: 0.5 * torch.randn(shape) for name, shape in SHAPES.items()}
    gradients = {name: torch.randn((STEPS, *shape)) for name, shape in SHAPES.items()}
    out = {f"start.{name}": x for name, x in start.items()} | {f"gradient.{name}": x for name, x in gradients.items()}
    for run, step in RUNS.items():
        w = {name: x.clone() for name, x in start.items()}
        for k in range(STEPS):
            step(w, {name: gradients[name][k] for name in w}, k + 1)
        for name, x in w.items():
            out[f"{run}/{name}"] = x.contiguous()
    for name, x in torch_muon(start, gradients).items():
        out[f"torch_muon/{name}"] = x
    write(pathlib.Path(__file__).with_name("optim_matrix.safetensors"), out)


main()
