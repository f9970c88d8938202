# SPDX-License-Identifier: MIT
#
# make_layers.py: writes layers.safetensors: inputs, results and gradients of the layers as PyTorch computes them in
# float64. tests/golden/layers_spec.lua reads it.   pip install torch; python3 make_layers.py
#
# Tensor CASE/NAME: `out` is the result, `seed` dL/d(out), `d.NAME` the gradient of input NAME.
import json
import pathlib
import struct

import torch
import torch.nn.functional as F

torch.manual_seed(7)
tensors = {}


def normal(*shape, scale=1.0, shift=0.0):
    return torch.randn(shape, dtype=torch.float64) * scale + shift


def case(name, function, **inputs):
    """Runs function(**inputs), then its backward, and keeps everything; integer inputs get no gradient."""
    for t in inputs.values():
        if t.is_floating_point():
            t.requires_grad_(True)
    out = function(**inputs)
    seed = normal(*out.shape)
    out.backward(seed)
    tensors[name + "/out"], tensors[name + "/seed"] = out.detach(), seed
    for key, t in inputs.items():
        tensors[f"{name}/{key}"] = t.detach()
        if t.grad is not None:
            tensors[f"{name}/d.{key}"] = t.grad


def rotary(x, base, first):
    """Hugging Face's rotate_half form."""
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(0, half, dtype=torch.float64) * 2 / x.shape[-1])
    angle = torch.outer(torch.arange(first, first + x.shape[1], dtype=torch.float64), frequency)
    cos, sin = (f(torch.cat((angle, angle), -1))[None, :, None, :] for f in (torch.cos, torch.sin))
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


ids = lambda high, *shape: torch.randint(high, shape, dtype=torch.int32)
case("layernorm", lambda x, weight, bias: F.layer_norm(x, (33,), weight, bias, 1e-5),
     x=normal(3, 5, 33, scale=2, shift=3), weight=normal(33), bias=normal(33))
case("layernorm_plain", lambda x: F.layer_norm(x, (70,), None, None, 1e-5), x=normal(7, 70))
case("rmsnorm", lambda x, weight: F.rms_norm(x, (33,), weight, 1e-6), x=normal(3, 5, 33, shift=1), weight=normal(33))
case("embedding", lambda table, ids: F.embedding(ids.long(), table), table=normal(17, 9), ids=ids(17, 4, 6))
for dim in range(3):
    case(f"softmax_{dim}", lambda x: F.softmax(x, dim), x=normal(3, 6, 7, scale=3))
    case(f"log_softmax_{dim}", lambda x: F.log_softmax(x, dim), x=normal(3, 6, 7, scale=3))
case("rotary", lambda x: rotary(x, 10000.0, 0), x=normal(2, 5, 3, 8))
case("rotary_later", lambda x: rotary(x, 500.0, 11), x=normal(1, 4, 2, 6))
for name, options in {"mean": {}, "sum": {"reduction": "sum"}, "smooth": {"label_smoothing": 0.2},
                      "ignore": {"ignore_index": 3}, "all": {"reduction": "sum", "label_smoothing": 0.1, "ignore_index": 0}}.items():
    case("cross_entropy_" + name, lambda logits, targets: F.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), **options),
         logits=normal(4, 6, 23, scale=3), targets=ids(8, 4, 6))

header, data = {}, b""
for name, t in tensors.items():
    raw = t.contiguous().numpy().tobytes()
    header[name] = {"dtype": "I32" if t.dtype == torch.int32 else "F64", "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
text = json.dumps({"__metadata__": {"made by": "PyTorch " + torch.__version__}, **header}, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
pathlib.Path(__file__).with_name("layers.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
