#!/usr/bin/env python3
"""train_gpt2.py: the work of scripts/bench/train.lua in PyTorch, written as its users write it.

GPT-2 (Hugging Face's layout: tanh GELU, tied head), AdamW; bf16 means autocast over float32 weights. Prints one JSON
line with the seconds of each timed step. Attention is torch's fused kernel where the version has one. AdamW is the
fastest of the version: fused, else foreach, else the plain loop.
"""
import argparse
import json
import math
import resource
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, c, h):
        super().__init__()
        self.h = h
        self.ln_1, self.ln_2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.c_attn, self.attn_proj = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.c_fc, self.c_proj = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (y.view(b, t, self.h, c // self.h).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(c, 2))
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mask = torch.ones(t, t, dtype=torch.bool).tril()
            y = (q @ k.transpose(-2, -1) / math.sqrt(c // self.h)).masked_fill(~mask, float("-inf")).softmax(-1) @ v
        x = x + self.attn_proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, v, t, l, h, c):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(v, c), nn.Embedding(t, c)
        self.blocks = nn.ModuleList(Block(c, h) for _ in range(l))
        self.ln_f = nn.LayerNorm(c)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, x, y):
        h = self.wte(x) + self.wpe(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            h = block(h)
        logits = F.linear(self.ln_f(h), self.wte.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), y.reshape(-1))


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
