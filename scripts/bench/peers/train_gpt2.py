#!/usr/bin/env python3
"""train_gpt2.py: the work of scripts/bench/train.lua in PyTorch, written as its users write it.

GPT-2 (Hugging Face's layout: tanh GELU, tied head), AdamW; bf16 means autocast over float32 weights. Prints one JSON
line with the seconds of each timed step. Attention is torch's fused kernel where the version has one. AdamW is the
fastest of the version: fused, else foreach, else the plain loop.
"""
import argparse
import json
import resource
import time

import torch

from gpt import GPT


def adamw(parameters, **options):
    for extra in ({"fused": True}, {"foreach": True}, {}):
        try:
            return torch.optim.AdamW(parameters, **options, **extra), "fused" if "fused" in extra else "foreach" if extra else "loop"
        except (RuntimeError, TypeError, ValueError):
            continue
    raise RuntimeError("no AdamW works")


def main():
    a = argparse.ArgumentParser()
    for name, default in (("vocab_size", 50257), ("block_size", 64), ("positions", 1024), ("n_layer", 12), ("n_head", 12),
                          ("n_embd", 768), ("batch_size", 4), ("steps", 4), ("warmup", 2), ("threads", 2)):
        a.add_argument("--" + name, type=int, default=default)
    a.add_argument("--device", default="cpu")
    a.add_argument("--dtype", default="f32")
    a.add_argument("--compile", action="store_true")
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = GPT(a.vocab_size, a.positions, a.n_layer, a.n_head, a.n_embd).to(a.device)
    step = torch.compile(model) if a.compile else model
    optimizer, kind = adamw(model.parameters(), lr=3e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    x = torch.randint(a.vocab_size, (a.batch_size, a.block_size + 1)).to(a.device)
    seconds = []  # loss.item() at the end waits for all that the step has started
    for i in range(a.warmup + a.steps):
        start = time.perf_counter()
        with torch.autocast(a.device, torch.bfloat16, enabled=a.dtype == "bf16"):
            loss = step(x[:, :-1], x[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()
        if i >= a.warmup:
            seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if a.device == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"what": "torch " + torch.__version__ + (" compile" if a.compile else ""), "adamw": kind, "seconds": seconds,
                      "loss": loss.item(), "peak_bytes": peak}))


main()
