#!/usr/bin/env python3
"""gemm.py: the products of scripts/bench/gemm.lua in PyTorch. Takes its request as JSON, prints the best times."""
import json
import sys
import time

import torch


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def best_time(shape, r):
    m, n, k, ta, tb = shape
    kind = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16}[r["dtype"]]
    a = torch.randn(*((k, m) if ta else (m, k)), device=r["device"]).to(kind)
    b = torch.randn(*((n, k) if tb else (k, n)), device=r["device"]).to(kind)
    a, b = a.T if ta else a, b.T if tb else b
    best = float("inf")
    for _ in range(r["rounds"] + 1):
        wait(r["device"])
        start = time.perf_counter()
        a @ b
        wait(r["device"])
        best = min(best, time.perf_counter() - start)
    return best


request = json.loads(sys.argv[1])
if "threads" in request:
    torch.set_num_threads(request["threads"])
print(json.dumps({"what": "PyTorch " + torch.__version__, "seconds": [best_time(s, request) for s in request["shapes"]]}))
