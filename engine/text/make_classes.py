# SPDX-License-Identifier: MIT
#
# make_classes.py: writes classes.def, the code points that are letters (\p{L}), numbers (\p{N}) and white space (\s), as
# ranges. Of Unicode 16.0, which tiktoken 0.14 splits text by (the regex-syntax crate 0.8): characters that a later Unicode
# adds are none of the three there, nor here.
#   python3 make_classes.py     (Python 3.14, or any with: pip install unicodedata2==16.0.0)
import pathlib

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

VERSION = "16.0.0"
if unicodedata.unidata_version != VERSION:
    raise SystemExit(f"make_classes.py: Unicode {VERSION} is needed, this Python has {unicodedata.unidata_version}")

CONTROLS = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}  # with the separators Zs, Zl, Zp these are White_Space


def class_of(code):
    category = unicodedata.category(chr(code))
    if category[0] == "Z" or code in CONTROLS:
        return "SPACE"
    return {"L": "LETTER", "N": "NUMBER"}.get(category[0])


ranges = []
for code in range(0x110000):
    kind = class_of(code)
    if kind is None:
        continue
    if ranges and ranges[-1][2] == kind and ranges[-1][1] == code - 1:
        ranges[-1][1] = code
    else:
        ranges.append([code, code, kind])

lines = ["// SPDX-License-Identifier: MIT", "//",
         f"// classes.def: letters, numbers and white space of Unicode {VERSION}, made by make_classes.py. MBI_RANGE(first, last, class)"]
row = ""
for first, last, kind in ranges:
    item = f"MBI_RANGE(0x{first:X}, 0x{last:X}, {kind})"
    if row and len(row) + 1 + len(item) > 138:
        lines.append(row)
        row = ""
    row = f"{row} {item}" if row else item
lines.append(row)
pathlib.Path(__file__).with_name("classes.def").write_text("\n".join(lines) + "\n")
