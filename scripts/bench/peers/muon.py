#!/usr/bin/env python3
"""muon.py: the work of scripts/bench/muon.lua in PyTorch, in several kinds. Takes its request as JSON, prints the seconds of
every step."""
import json
import sys
import time

import torch

A, B, C = 3.4445, -4.7750, 2.0315


def newton_schulz(x):
    """Five steps on a matrix, or on a stack of them, in its own dtype."""
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.mT if tall else x


def parameters(r):
    """Tensors of GPT-2's shapes with random gradients: matrices, and the rest."""
    c, v = r["n_embd"], r["vocab_size"]
    matrices = [((c, c),) * 3 if r["split"] == "qkv" else ((3 * c, c),), ((c, c), (4 * c, c), (c, 4 * c))]
    rest = [(3 * c,), (c,), (4 * c,), (c,), (c,), (c,), (c,), (c,)]

    def make(shape):
        p = torch.nn.Parameter(torch.randn(shape, device=r["device"]) * 0.02)
        p.grad = torch.randn_like(p)
        return p

    return ([make(s) for _ in range(r["n_layer"]) for part in matrices for s in part],
            [make(s) for _ in range(r["n_layer"]) for s in rest] + [make(s) for s in ((v, c), (1024, c), (c,), (c,))])


def adamw(rest):
    return torch.optim.AdamW(rest, lr=1e-4, fused=True)


@torch.no_grad()
def loop(matrices, momenta, lr=1e-4):
    for p, m in zip(matrices, momenta):
        m.lerp_(p.grad, 0.1)
        p.add_(newton_schulz(m), alpha=-lr * 0.2 * max(p.shape) ** 0.5)


@torch.no_grad()
def batched(matrices, momenta, lr=1e-4):
    torch._foreach_lerp_(momenta, [p.grad for p in matrices], 0.1)
    for shape in sorted({tuple(p.shape) for p in matrices}):
        chosen = [i for i, p in enumerate(matrices) if tuple(p.shape) == shape]
        updates = newton_schulz(torch.stack([momenta[i] for i in chosen])).unbind()
        torch._foreach_add_([matrices[i] for i in chosen], updates, alpha=-lr * 0.2 * max(shape) ** 0.5)


def stepper(kind, r):
    matrices, rest = parameters(r)
    other = adamw(rest)
    if kind == "torch.optim.Muon":
        muon = torch.optim.Muon(matrices, lr=1e-4, momentum=0.9, nesterov=False, weight_decay=0,
                                adjust_lr_fn="match_rms_adamw")
        return lambda: (muon.step(), other.step())
    momenta = [torch.zeros_like(p) for p in matrices]
    step = {"loop": loop, "batched": batched}[kind]
    return lambda: (step(matrices, momenta), other.step())


def main():
    r = json.loads(sys.argv[1])
    torch.set_num_threads(r["threads"])
    kinds = ["loop", "batched"] + (["torch.optim.Muon"] if hasattr(torch.optim, "Muon") else [])
    seconds = {}
    for kind in kinds:
        step = stepper(kind, r)
        seconds[kind] = []
        for i in range(1 + r["steps"]):
            start = time.perf_counter()
            step()
            if r["device"] == "cuda":
                torch.cuda.synchronize()
            if i > 0:
                seconds[kind].append(time.perf_counter() - start)
    print(json.dumps({"what": "PyTorch " + torch.__version__, "kinds": kinds, "seconds": seconds}))


main()
