#!/usr/bin/env python3
"""optim.py: the work of scripts/bench/optim.lua in PyTorch. Takes its request as JSON, prints the seconds of every step."""
import json
import sys
import time

import torch


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def parameters(r):
    """Tensors of GPT-2's shapes with random gradients: matrices, and the rest."""
    c, v, t = r["n_embd"], r["vocab_size"], r["block_size"]
    matrices, rest = [(3 * c, c), (c, c), (4 * c, c), (c, 4 * c)], [(3 * c,), (c,), (4 * c,), (c,), (c,), (c,), (c,), (c,)]

    def make(shape):
        p = torch.nn.Parameter(torch.randn(shape, device=r["device"]) * 0.02)
        p.grad = torch.randn_like(p)
        return p

    return ([make(s) for _ in range(r["n_layer"]) for s in matrices],
            [make(s) for _ in range(r["n_layer"]) for s in rest] + [make(s) for s in ((v, c), (t, c), (c,), (c,))])


def fastest(make, *arguments, **options):
    """The optimizer, fused, else foreach, else the plain loop; and which it is."""
    for kind, extra in (("fused", {"fused": True}), ("foreach", {"foreach": True}), ("loop", {})):
        try:
            return make(*arguments, **options, **extra), kind
        except (RuntimeError, TypeError, ValueError):
            continue
    raise RuntimeError("no " + make.__name__ + " works")


def optimizers(name, matrices, rest):
    """The optimizers of a step, and of what kind they are; none if this version has none."""
    if name == "sgd":
        o, kind = fastest(torch.optim.SGD, matrices + rest, lr=1e-4, momentum=0.9)
        return [o], kind
    if name == "adamw":
        o, kind = fastest(torch.optim.AdamW, matrices + rest, lr=1e-4, weight_decay=0.1)
        return [o], kind
    if name == "muon" and hasattr(torch.optim, "Muon"):
        o, kind = fastest(torch.optim.AdamW, rest, lr=1e-4)
        return [torch.optim.Muon(matrices, lr=1e-4), o], "Muon, rest " + kind
    return [], None


request = json.loads(sys.argv[1])
torch.set_num_threads(request["threads"])
seconds, kinds, copies = {}, {}, []
for name in request["names"]:
    steppers, kind = optimizers(name, *parameters(request))
    if not steppers:
        continue
    seconds[name], kinds[name] = [], kind
    count = sum(p.numel() for o in steppers for g in o.param_groups for p in g["params"])
    source, target = torch.ones(count, device=request["device"]), torch.zeros(count, device=request["device"])
    for i in range(2 + request["steps"]):
        wait(request["device"])
        start = time.perf_counter()
        for o in steppers:
            o.step()
        wait(request["device"])
        if i > 1:
            seconds[name].append(time.perf_counter() - start)
        start = time.perf_counter()
        target.copy_(source)
        wait(request["device"])
        if i > 1:
            copies.append(time.perf_counter() - start)
print(json.dumps({"what": "PyTorch " + torch.__version__, "seconds": seconds, "kinds": kinds, "copies": copies}))
