# SPDX-License-Identifier: MIT
#
# make_safetensors.py: writes python.safetensors with the reference implementation, every dtype that Moonbow reads.
# tests/lua/safetensors_spec.lua knows the values.   pip install numpy safetensors; python3 make_safetensors.py
import pathlib
import struct

import numpy as np
from safetensors.numpy import save

kinds = {"f64": np.float64, "f32": np.float32, "f16": np.float16, "i8": np.int8, "i16": np.int16, "i32": np.int32,
         "i64": np.int64, "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64, "bool": np.bool_}
tensors = {}
for name, kind in kinds.items():
    n = np.arange(6).reshape(2, 3)
    signed = name[0] in "fi"
    values = n % 2 == 0 if name == "bool" else (n - 3) * 0.25 if name[0] == "f" else n - 3 if signed else n
    tensors["of." + name] = np.ascontiguousarray(values.astype(kind))
tensors["scalar"] = np.array(2.5, dtype=np.float32)
tensors["limits.f16"] = np.array([65504.0, 2.0 ** -24, -0.0, np.inf, -np.inf, np.nan], dtype=np.float16)
# NumPy has no bfloat16: the values 1, -2.5, 2^-133 (subnormal), infinity go in as U16 and are renamed.
raw = save({**tensors, "of.bf16": np.array([0x3F80, 0xC020, 0x0001, 0x7F80], dtype=np.uint16)},
                metadata={"made by": "safetensors", "text": "Aä\n\"\\"})
length, = struct.unpack("<Q", raw[:8])
header = raw[8:8 + length].rstrip(b" ")
spot = header.index(b'"of.bf16"')
header = header[:spot] + header[spot:].replace(b'"U16"', b'"BF16"', 1)
header += b" " * (-len(header) % 8)
pathlib.Path(__file__).with_name("python.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length:])
