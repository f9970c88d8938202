# SPDX-License-Identifier: MIT
#
# gpt2_torch.py: GPT-2 as transformers computes it, in PyTorch and float64, on files of weights in other programs' formats.
#
#   python3 gpt2_torch.py make           writes gpt2_files/: the same small model as Hugging Face and llm.c keep it
#   python3 gpt2_torch.py logits PATH... reads folders of Hugging Face's (with the safetensors package where there is one)
#                                        and model files of llm.c; prints the logits of ids 0, 1, 2, ..., a line of JSON each
#
# tests/lua/weights_spec.lua uses both.   pip install torch numpy
import json
import pathlib
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

KINDS = ["ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias",
         "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"]
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


def logits(w, ids, n_layer, n_head):
    """w: Hugging Face's names without prefix, Conv1D matrices [in, out]; ids (B, T)."""
    w = {name: t.double() for name, t in w.items()}
    T, C = ids.shape[1], w["wte.weight"].shape[1]
    norm = lambda x, name: F.layer_norm(x, (C,), w[name + ".weight"], w[name + ".bias"], 1e-5)
    conv = lambda x, name: x @ w[name + ".weight"] + w[name + ".bias"]
    heads = lambda x: x.unflatten(-1, (n_head, C // n_head)).transpose(1, 2)
    x = w["wte.weight"][ids] + w["wpe.weight"][:T]
    for layer in range(n_layer):
        p = f"h.{layer}."
        q, k, v = (heads(part) for part in conv(norm(x, p + "ln_1"), p + "attn.c_attn").split(C, -1))
        scores = q @ k.transpose(-1, -2) / (C // n_head) ** 0.5
        scores = scores.masked_fill(~torch.ones(T, T, dtype=torch.bool).tril(), -torch.inf)
        x = x + conv((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2), p + "attn.c_proj")
        x = x + conv(F.gelu(conv(norm(x, p + "ln_2"), p + "mlp.c_fc"), approximate="tanh"), p + "mlp.c_proj")
    return norm(x, "ln_f") @ w.get("lm_head.weight", w["wte.weight"]).T


# ----- files --------------------------------------------------------------------------------------------


def save_safetensors(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in tensors.items():
        raw = t.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        dtype = next(key for key, value in DTYPES.items() if value == t.dtype)
        header[name] = {"dtype": dtype, "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def load_safetensors(path):
    try:
        from safetensors.torch import load_file
        return load_file(path)
    except ImportError:
        raw = path.read_bytes()
        length, = struct.unpack("<Q", raw[:8])
        header, data = json.loads(raw[8:8 + length]), raw[8 + length:]
        assert header.pop("__metadata__")["format"] == "pt"
        return {name: torch.frombuffer(bytearray(data[slice(*e["data_offsets"])]), dtype=DTYPES[e["dtype"]]).reshape(e["shape"])
                for name, e in header.items()}


def load_folder(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "gpt2" and config["activation_function"] == "gelu_new"
    w = {name.removeprefix("transformer."): t for name, t in load_safetensors(folder / "model.safetensors").items()}
    assert ("lm_head.weight" in w) != config.get("tie_word_embeddings", True)
    return w, config["n_positions"], config["n_layer"], config["n_head"]


def ordered(n_layer):
    yield from ("wte.weight", "wpe.weight")
    for kind in KINDS:
        for layer in range(n_layer):
            yield f"h.{layer}.{kind}"
    yield from ("ln_f.weight", "ln_f.bias")


def is_conv(name):
    return name.endswith(".weight") and (".attn." in name or ".mlp." in name)


def save_llmc(path, w, n_layer, n_head, version):
    (V, C), T, padded = w["wte.weight"].shape, w["wpe.weight"].shape[0], 128
    header = np.zeros(256, dtype="<i4")
    header[:8] = 20240326, version, T, V, n_layer, n_head, C, padded
    raw = header.tobytes()
    for name in ordered(n_layer):
        t = w[name].T if is_conv(name) else w[name]
        if name == "wte.weight":
            t = torch.cat((t, torch.full((padded - V, C), 9.0)))  # rows that no token may see
        t = t.contiguous().to(torch.float32 if version == 3 else torch.bfloat16)
        raw += t.view(torch.uint8).numpy().tobytes()
    path.write_bytes(raw)


def load_llmc(path):
    raw = path.read_bytes()
    magic, version, T, V, n_layer, n_head, C, padded = np.frombuffer(raw[:32], dtype="<i4").tolist()
    assert magic == 20240326 and version in (3, 5) and padded % 128 == 0
    values = torch.frombuffer(bytearray(raw[1024:]), dtype=torch.float32 if version == 3 else torch.bfloat16)
    shapes = {"attn.c_attn.weight": (3 * C, C), "attn.c_attn.bias": (3 * C,), "attn.c_proj.weight": (C, C),
              "mlp.c_fc.weight": (4 * C, C), "mlp.c_fc.bias": (4 * C,), "mlp.c_proj.weight": (C, 4 * C),
              "wte.weight": (padded, C), "wpe.weight": (T, C)}
    w, at = {}, 0
    for name in ordered(n_layer):
        shape = shapes.get(name.split(".", 2)[-1] if name.startswith("h.") else name, (C,))
        n = int(np.prod(shape))
        t = values[at:at + n].reshape(shape)
        w[name], at = t.T if is_conv(name) else t, at + n
    assert at == values.numel() and not w["wte.weight"][V:].any()
    w["wte.weight"] = w["wte.weight"][:V]
    return w, T, n_layer, n_head


# ----- commands -----------------------------------------------------------------------------------------


def make(folder):
    V, T, L, H, C = 17, 6, 2, 2, 8
    torch.manual_seed(11)
    normal = lambda *shape: torch.randn(shape) * 0.3
    w = {"wte.weight": normal(V, C), "wpe.weight": normal(T, C)}
    for layer in range(L):
        p = f"h.{layer}."
        for name, shape in (("attn.c_attn", (C, 3 * C)), ("attn.c_proj", (C, C)), ("mlp.c_fc", (C, 4 * C)), ("mlp.c_proj", (4 * C, C))):
            w[f"{p}{name}.weight"], w[f"{p}{name}.bias"] = normal(*shape), normal(shape[1])
        for name in ("ln_1", "ln_2"):
            w[f"{p}{name}.weight"], w[f"{p}{name}.bias"] = 1 + normal(C), normal(C)
    w["ln_f.weight"], w["ln_f.bias"] = 1 + normal(C), normal(C)
    rounded = lambda dtype: {name: t.to(dtype) for name, t in w.items()}

    folder.mkdir(exist_ok=True)
    config = {"model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "n_ctx": T, "n_positions": T,
              "n_embd": C, "n_head": H, "n_layer": L, "n_inner": None, "vocab_size": V}
    (folder / "config.json").write_text(json.dumps(config) + "\n")
    # As saved from GPT2LMHeadModel: a prefix, buffers, the head once more.
    prefixed = {"transformer." + name: t for name, t in w.items()}
    for layer in range(L):
        prefixed[f"transformer.h.{layer}.attn.bias"] = torch.ones(T, T).tril()[None, None]
        prefixed[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_safetensors(folder / "model.safetensors", {**prefixed, "lm_head.weight": w["wte.weight"]})
    # In two shards, half floats, with a head of its own.
    half = {**rounded(torch.float16), "lm_head.weight": normal(V, C).half()}
    names, shards = sorted(half), {}
    for i, part in enumerate((names[:12], names[12:]), 1):
        shard = f"half-{i:05}-of-00002.safetensors"
        save_safetensors(folder / shard, {name: half[name] for name in part})
        shards.update({name: shard for name in part})
    total = sum(2 * t.numel() for t in half.values())
    (folder / "half.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": shards}) + "\n")
    save_llmc(folder / "model_f32.bin", w, L, H, 3)
    save_llmc(folder / "model_bf16.bin", w, L, H, 5)
    ids = torch.arange(T)[None]
    save_safetensors(folder / "logits.safetensors", {
        "f32": logits(w, ids, L, H), "f16": logits(half, ids, L, H), "bf16": logits(rounded(torch.bfloat16), ids, L, H)})


if sys.argv[1] == "make":
    make(pathlib.Path(__file__).with_name("gpt2_files"))
else:
    for source in map(pathlib.Path, sys.argv[2:]):
        weights, positions, layers, heads = load_folder(source) if source.is_dir() else load_llmc(source)
        print(json.dumps(logits(weights, torch.arange(positions)[None], layers, heads).tolist()))
