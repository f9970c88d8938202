#!/usr/bin/env python3
"""gpu.py: the work of scripts/bench/gpu.lua in PyTorch. Takes its request as JSON, prints one JSON line with the seconds of each
timed call, by CUDA events on a GPU and by the clock elsewhere.

Kinds: train and small in "eager", "compile" (both autocast to bf16 over float32 weights) and "pure" (compiled, weights in
bf16). AdamW is fused, attention torch's flash kernel, the batch is on the device.
"""
import json
import sys
import time

import torch

from gpt import GPT

r = json.loads(sys.argv[1])
device = r["device"]
is_cuda = device == "cuda"
torch.manual_seed(1)
if is_cuda:
    torch.backends.cuda.matmul.allow_tf32 = False  # what is float32 on one side is on the other


def log(text):
    print(text, file=sys.stderr, flush=True)


def timed(step, warmup, count, restore=None):
    """Seconds of each of `count` calls, after `warmup` more; `restore` runs between, untimed."""
    for _ in range(warmup):
        step()
        if restore:
            restore()
    if not is_cuda:
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
            if restore:
                restore()
        return seconds
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(count)]
    torch.cuda.synchronize()
    for begin, end in pairs:
        begin.record()
        step()
        end.record()
        if restore:
            restore()
    torch.cuda.synchronize()
    return [1e-3 * begin.elapsed_time(end) for begin, end in pairs]


def gpt(s):
    rows = s["vocab_size"] if s["vocab_size"] < 1000 else -(-s["vocab_size"] // 64) * 64  # padded, as nanoGPT does it
    return GPT(rows, s["block_size"], s["n_layer"], s["n_head"], s["n_embd"]).to(device)


def adamw(parameters, **given):
    try:
        return torch.optim.AdamW(parameters, fused=True, **given)
    except (RuntimeError, ValueError):
        return torch.optim.AdamW(parameters, **given)


def train():
    s, kind = r["sizes"], r["kind"]
    model = gpt(s)
    if kind == "pure":
        model = model.bfloat16()
    optimizer = adamw(model.parameters(), lr=3e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    run = model if kind == "eager" else torch.compile(model)
    ids = torch.randint(s["vocab_size"], (s["batch_size"], s["block_size"] + 1), device=device)
    x, y = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    start = time.perf_counter()
    ready = []

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=kind != "pure"):
            loss = run(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not ready:
            loss.item()
            ready.append(time.perf_counter() - start)
            log(f"torch {kind}: the first step took {ready[0]:.1f} s")

    seconds = timed(step, r["warmup"], r["steps"])
    peak = torch.cuda.max_memory_allocated() if is_cuda else 0
    return {"seconds": seconds, "first": ready[0], "peak_bytes": peak}


def parameters():
    """Tensors of GPT-2's shapes with random gradients: the matrices of the blocks, and the rest."""
    s = r["sizes"]
    c, v, t = s["n_embd"], s["vocab_size"], s["block_size"]
    matrices, rest = [(3 * c, c), (c, c), (4 * c, c), (c, 4 * c)], [(3 * c,), (c,), (4 * c,), (c,), (c,), (c,), (c,), (c,)]

    def make(shape):
        p = torch.nn.Parameter(torch.randn(shape, device=device) * 0.02)
        p.grad = torch.randn_like(p)
        return p

    return ([make(x) for _ in range(s["n_layer"]) for x in matrices],
            [make(x) for _ in range(s["n_layer"]) for x in rest] + [make(x) for x in ((v, c), (t, c), (c,), (c,))])


def clip():
    """The loop of the paper's clipping.py (arXiv 2605.11838): per parameter torch.svd_lowrank, the largest value to the host,
    and the update of what is above."""
    matrices, _ = parameters()
    kept = [p.grad.clone() for p in matrices]
    tau, rank, q, rounds = r["tau"], r["rank"], r["rank"] + r["oversample"], r["power_iters"]

    @torch.no_grad()
    def step():
        for p in matrices:
            g = p.grad.float()
            u, s, v = torch.svd_lowrank(g, q=min(q, *g.shape), niter=rounds)
            u, s, v = u[:, :rank], s[:rank], v[:, :rank]
            if s[0].item() > tau:
                p.grad.copy_(g + (u * (tau - s).clamp(max=0)) @ v.T)

    def restore():
        for p, g in zip(matrices, kept):
            p.grad.copy_(g)

    return {"seconds": timed(step, 1, r["steps"], restore)}


def muon():
    matrices, rest = parameters()
    if not hasattr(torch.optim, "Muon"):
        return {"missing": "torch.optim.Muon"}
    first = torch.optim.Muon(matrices, lr=1e-4, weight_decay=0)
    second = adamw(rest, lr=1e-4)
    return {"seconds": timed(lambda: (first.step(), second.step()), r["warmup"], r["steps"])}


def fused_adamw():
    matrices, rest = parameters()
    optimizer = adamw(matrices + rest, lr=1e-4, weight_decay=0.1)
    return {"seconds": timed(optimizer.step, r["warmup"], r["steps"])}


answer = {"train": train, "small": train, "clip": clip, "muon": muon, "adamw": fused_adamw}[r["part"]]()
answer["what"] = "torch " + torch.__version__
answer["gpu"] = torch.cuda.get_device_name() if is_cuda else "cpu"
print(json.dumps(answer))
