#!/usr/bin/env python3
"""spectral.py: the work of scripts/bench/spectral.lua in PyTorch: a loop over parameters, each with a decomposition, the
largest value fetched to decide, and the update of the directions above the threshold (arXiv 2605.11838). Takes its request
as JSON, prints one JSON line.
"""
import json
import struct
import sys
import time

import torch


def now(r):
    """A clock that waits for the device."""
    if r["device"] == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def clip_lowrank(g, tau, rank, oversample, power_iters):
    u, s, v = torch.svd_lowrank(g, q=min(rank + oversample, *g.shape), niter=power_iters)
    u, s, v = u[:, :rank], s[:rank], v[:, :rank]
    if s[0].item() <= tau:
        return g
    return g + (u * (tau - s).clamp(max=0)) @ v.T


def clip_svd(g, tau):
    u, s, vh = torch.linalg.svd(g, full_matrices=False)
    if s[0].item() <= tau:
        return g
    return g + (u * (tau - s).clamp(max=0)) @ vh


def gpt2(r):
    """Seconds of whole loops over all matrices, by setting."""
    matrices = [torch.randn(m, n, device=r["device"]) for m, n in r["shapes"]]
    seconds = {}
    for o in r["settings"]:
        seconds[o["name"]] = []
        for i in range(r["passes"] + 1):
            start = now(r)
            for g in matrices:
                clip_lowrank(g, r["tau"], o["rank"], o["oversample"], o["power_iters"])
            if i > 0:
                seconds[o["name"]].append(now(r) - start)
    return {"seconds": seconds}


def load(path, device):
    """Tensors of a safetensors file, float32 and float64."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = bytearray(f.read())
    kinds = {"F32": torch.float32, "F64": torch.float64}
    tensors = {}
    for name, t in header.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            kind = kinds[t["dtype"]]
            count = (end - begin) // (4 if kind == torch.float32 else 8)
            tensors[name] = torch.frombuffer(data, dtype=kind, offset=begin, count=count).reshape(t["shape"]).to(device, copy=True)
    return tensors


def best_time(run, r):
    run()
    best, stop = float("inf"), now(r) + r["seconds"]
    while True:
        start = now(r)
        run()
        end = now(r)
        best = min(best, end - start)
        if end > stop:
            return best


def methods(r):
    """Best seconds and errors by matrix and method."""
    tensors = load(r["file"], r["device"])
    seconds, errors = {}, {}
    for case in r["cases"]:
        g, clipped, tau = tensors["g " + case["name"]], tensors["clipped " + case["name"]], case["tau"]
        ways = {"svd": lambda: clip_svd(g, tau)}
        for o in r["lowrank"]:
            ways[o["name"]] = lambda o=o: clip_lowrank(g, tau, o["rank"], o["oversample"], o["power_iters"])
        seconds[case["name"]] = {name: best_time(run, r) for name, run in ways.items()}
        if r["errors"]:
            errors[case["name"]] = {name: (torch.linalg.svdvals(run().double() - clipped)[0] / case["top"]).item()
                                    for name, run in ways.items()}
    return {"seconds": seconds, "errors": errors}


def mlp(r):
    """Steps a second by rule."""
    x = torch.randn(r["samples"], 100, device=r["device"])
    y = x[:, 0:1] * x[:, 1:2] * x[:, 2:3]
    rates = {}
    ways = {"none": None, "exact": clip_svd, "sketch": clip_lowrank}
    for name, way in ways.items():
        layers = [torch.nn.Linear(100, 100, bias=False) for _ in range(3)] + [torch.nn.Linear(100, 1, bias=False)]
        model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2], torch.nn.ReLU(), layers[3])
        model.to(r["device"])
        parameters = list(model.parameters())
        optimizer = torch.optim.SGD(parameters, lr=r["lr"], momentum=0.9)
        averages, start = [0.0] * len(parameters), 0
        warmup = min(20, r["steps"])
        for step in range(warmup + r["steps"]):
            if step == warmup:
                start = now(r)
            pick = torch.randint(r["samples"], (r["batch"],), device=r["device"])
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(r["device"], torch.bfloat16, enabled=r["dtype"] == "bf16"):
                off = model(x[pick]) - y[pick]
            off.float().square().mean().backward()
            if torch.rand(()).item() < 0.1:
                for p in parameters:
                    u, v = (torch.nn.functional.normalize(torch.randn(n, device=r["device"]), dim=0) for n in p.shape)
                    size = 5 * torch.rand(()).item() ** (-1 / 1.1) * (1 if torch.rand(()).item() < 0.5 else -1)
                    p.grad.add_(torch.outer(u, v), alpha=size)
            for i, p in enumerate(parameters if way else []):
                averages[i] = clip_by_average(p, averages[i], step, way)
            optimizer.step()
        rates[name] = r["steps"] / (now(r) - start)
    return {"rates": rates}


def clip_by_average(p, m, step, way, beta=0.9):
    """Clips p.grad to the bias-corrected moving average m of its largest values; returns the next m."""
    g = p.grad
    if way is clip_svd:
        u, s, vh = torch.linalg.svd(g, full_matrices=False)
    else:
        u, s, v = torch.svd_lowrank(g, q=min(13, *g.shape), niter=1)
        u, s, vh = u[:, :8], s[:8], v[:, :8].T
    sigma = s[0].item()
    tau = m / (1 - beta ** step) if step > 0 else sigma
    if sigma > tau:
        p.grad = g + (u * (tau - s).clamp(max=0)) @ vh
    return beta * m + (1 - beta) * sigma


request = json.loads(sys.argv[1])
torch.set_num_threads(request["threads"])
answer = {"gpt2": gpt2, "methods": methods, "mlp": mlp}[request["part"]](request)
answer["what"] = "PyTorch " + torch.__version__
print(json.dumps(answer))
