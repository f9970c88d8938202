#!/usr/bin/env python3
"""generate.py: the work of scripts/bench/generate.lua in PyTorch: greedy generation with a GPT-2 of random weights, keys and
values kept in buffers of the whole context. Prints one JSON line with the seconds of each token but the first."""
import argparse
import json
import math
import time

import torch
import torch.nn.functional as F


def layer_weights(c, device):
    shapes = {"attn": (3 * c, c), "attn_proj": (c, c), "fc": (4 * c, c), "fc_proj": (c, 4 * c)}
    w = {name: (torch.randn(shape, device=device) * 0.02, torch.zeros(shape[0], device=device)) for name, shape in shapes.items()}
    w["ln_1"] = w["ln_2"] = (torch.ones(c, device=device), torch.zeros(c, device=device))
    return w


def attend(q, k, v, causal):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), float("-inf"))
    return scores.softmax(-1) @ v


def main():
    a = argparse.ArgumentParser()
    for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "prompt", "tokens", "threads"):
        a.add_argument("--" + name, type=int)
    a.add_argument("--device", default="cpu")
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    c, h, d = a.n_embd, a.n_head, a.n_embd // a.n_head
    wte, wpe = (torch.randn(n, c, device=a.device) * 0.02 for n in (a.vocab_size, a.block_size))
    layers = [layer_weights(c, a.device) for _ in range(a.n_layer)]
    one, zero = torch.ones(c, device=a.device), torch.zeros(c, device=a.device)
    kept = torch.zeros(a.n_layer, 2, 1, h, a.block_size, d, device=a.device)

    def step(ids, first):
        t = ids.shape[1]
        x = wte[ids] + wpe[first:first + t]
        for w, cache in zip(layers, kept):
            q, k, v = (y.view(1, t, h, d).transpose(1, 2) for y in F.linear(F.layer_norm(x, (c,), *w["ln_1"]), *w["attn"]).split(c, 2))
            cache[0, :, :, first:first + t], cache[1, :, :, first:first + t] = k, v
            y = attend(q, cache[0, :, :, :first + t], cache[1, :, :, :first + t], t > 1)
            x = x + F.linear(y.transpose(1, 2).reshape(1, t, c), *w["attn_proj"])
            x = x + F.linear(F.gelu(F.linear(F.layer_norm(x, (c,), *w["ln_2"]), *w["fc"]), approximate="tanh"), *w["fc_proj"])
        return F.linear(F.layer_norm(x[:, -1], (c,), one, zero), wte)

    seconds, last = [], None
    with torch.inference_mode():
        ids, first = torch.tensor([[i * 7919 % a.vocab_size for i in range(1, a.prompt + 1)]], device=a.device), 0
        for _ in range(a.tokens + 1):
            id = step(ids, first).argmax(-1).item()
            first += ids.shape[1]
            ids = torch.tensor([[id]], device=a.device)
            now = time.perf_counter()
            if last:
                seconds.append(now - last)
            last = now
    print(json.dumps({"what": "PyTorch " + torch.__version__.split("+")[0] + ", kept", "seconds": seconds}))


main()
