#!/usr/bin/env python3
"""layers.py: the work of scripts/bench/layers.lua in PyTorch. Takes its request as JSON, prints the best times."""
import json
import sys
import time

import torch
import torch.nn.functional as F


def rotary(x, base=10000.0):
    """As GPT-NeoX and Llama write it; the angles are made once, outside the timing."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return x * rotary.cos + torch.cat((-b, a), -1) * rotary.sin


def prepare(name, rows, columns):
    def leaf(*shape):
        return torch.randn(*shape, requires_grad=True)

    if name.startswith("embedding"):
        limit = 65
        ids = torch.tensor([i * 7919 % limit for i in range(1, rows + 1)])
        inputs = [leaf(65 if name == "embedding" else 50257, columns)]
        call = lambda: F.embedding(ids, inputs[0])
    elif name.startswith("cross_entropy"):
        targets = torch.tensor([i * 7919 % columns for i in range(1, rows + 1)])
        smoothing = 0.1 if "smooth" in name else 0.0
        inputs = [leaf(rows, columns)]
        call = lambda: F.cross_entropy(inputs[0], targets, label_smoothing=smoothing)
    elif name == "layernorm":
        inputs = [leaf(rows, columns), leaf(columns), leaf(columns)]
        call = lambda: F.layer_norm(inputs[0], (columns,), inputs[1], inputs[2], 1e-5)
    elif name == "rmsnorm":
        inputs = [leaf(rows, columns), leaf(columns)]
        call = lambda: F.rms_norm(inputs[0], (columns,), inputs[1], 1e-5)
    elif name == "rotary":
        inputs = [leaf(rows // 256, 256, columns // 64, 64)]
        angles = torch.outer(torch.arange(256.0), 10000.0 ** (-torch.arange(0, 64, 2) / 64))
        rotary.cos, rotary.sin = (f(torch.cat((angles, angles), -1))[None, :, None, :] for f in (torch.cos, torch.sin))
        call = lambda: rotary(inputs[0])
    else:
        inputs = [leaf(rows, columns)]
        call = {"softmax": lambda: inputs[0].softmax(-1), "log_softmax": lambda: inputs[0].log_softmax(-1),
                "softmax_columns": lambda: inputs[0].softmax(0), "dropout": lambda: F.dropout(inputs[0], 0.1)}[name]
    out = call()
    seed = torch.randn_like(out) if out.dim() else None

    def run():
        for t in inputs:
            t.grad = None
        call().backward(seed)

    return run


def best_time(run, seconds):
    run()
    best, stop = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        run()
        end = time.perf_counter()
        best = min(best, end - start)
        if end > stop:
            return best


request = json.loads(sys.argv[1])
torch.set_num_threads(request["threads"])
times = [best_time(prepare(name, int(rows), int(columns)), request["seconds"]) for name, rows, columns, _ in request["cases"]]
print(json.dumps({"what": "PyTorch " + torch.__version__, "seconds": times}))
