# SPDX-License-Identifier: MIT
#
# make_bpe.py: writes bpe_small.bpe, the first 2000 merges of GPT-2, and bpe.jsonl, texts and the tokens that tiktoken 0.14 and
# tokenizers 0.23 both give for them: with those merges (ids), with all 50000 (full: the first 8 digits of the SHA-256 of the
# ids, 16 bits each), and with <|endoftext|> as a token where a text has it (special). Its first line is about a whole file.
# It also checks that tiktoken has the letters, numbers and white space that classes.def has, for every code point.
#   pip install tiktoken==0.14.0 tokenizers==0.23.3
#   python3 make_bpe.py FOLDER/vocab.bpe TEXT...        TEXT: files that whole hashes are made of, by their names
import hashlib
import json
import pathlib
import random
import re
import struct
import sys

import tiktoken
from tokenizers import Tokenizer, models, pre_tokenizers

HERE = pathlib.Path(__file__).parent
SMALL, SEED, CASES = 2000, 1337, 700
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def alphabet():
    prints = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    others = [b for b in range(256) if b not in prints]
    return {**{chr(b): b for b in prints}, **{chr(256 + i): b for i, b in enumerate(others)}}


class Both:
    """The two implementations with the same merges."""

    def __init__(self, merges):
        byte_of = alphabet()
        vocab = {c: i for i, c in enumerate(byte_of)}
        for a, b in merges:
            vocab[a + b] = len(vocab)
        ranks = {bytes(byte_of[c] for c in token): i for token, i in vocab.items()}
        self.eot = len(vocab)
        self.tiktoken = tiktoken.Encoding("merges", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": self.eot})
        self.tokenizers = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        self.tokenizers.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def encode(self, text):
        ids = self.tiktoken.encode_ordinary(text)
        assert ids == self.tokenizers.encode(text).ids, repr(text)
        return ids

    def special(self, text):
        return self.tiktoken.encode(text, allowed_special="all")


def hash_of(ids):
    return hashlib.sha256(struct.pack(f"<{len(ids)}H", *ids)).hexdigest()


def check_classes():
    text = (HERE / "../../engine/text/classes.def").read_text()
    ours = {}
    for first, last, kind in re.findall(r"MBI_RANGE\((0x\w+), (0x\w+), (\w+)\)", text):
        for code in range(int(first, 16), int(last, 16) + 1):
            ours[code] = kind
    for kind, pattern in {"LETTER": r"\p{L}", "NUMBER": r"\p{N}", "SPACE": r"\s"}.items():
        one = tiktoken.Encoding("class", pat_str=pattern, mergeable_ranks={bytes([b]): b for b in range(256)}, special_tokens={})
        for code in range(0x110000):
            if not 0xD800 <= code < 0xE000:
                assert bool(one.encode_ordinary(chr(code))) == (ours.get(code) == kind), (hex(code), kind)


# ----- texts ------------------------------------------------------------------------------------------------

EDGES = ["", " ", "  ", "\n", "a", " a", "  a", "a ", "a  ", "a\n", "\n\na", "a\n\nb", "a \n b", "\t\ta", "a\r\nb", "don't", "DON'T", "it's'll've", "'s", " 's",
         "''s", "'ll'll", "'l", "'", "' s", "x'x", "!'s", "123abc", "abc123", "a1b2", " 1", "½", "²³", "Ⅷ", "١٢٣", "一二三", "日本語", "日本 語", "Привет, мир",
         "مرحبا بالعالم", "नमस्ते", "한국어", "e\u0301", "👍🏽", "👨‍👩‍👧", "🇩🇪", "\u00a0a", "a\u00a0b", "\u3000", "\u2003 x", "\x85", "\x1c", "\u180e", "\u200b", "\ufeff",
         "\x00", "\x7f", "\u0378", "\U0010ffff", "\U000e0001", "<|endoftext|>", " <|endoftext|> ", "a<|endoftext|>", "  <|endoftext|>  b", "<|endoftext|><|endoftext|>",
         "<|endoftext|", "<|endoftext", "<<|endoftext|>>", "a" * 17, "a" * 48, "a" * 49, "a" * 500, " " * 100, "=" * 77 + "x", "\n" * 65 + "y", "ab" * 200, "aab" * 99]


def random_piece(r, words):
    kind = r.randrange(12)
    if kind == 0:
        return r.choice([" ", "  ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u3000", "\u2003 "]) * r.choice([1, 1, 1, 2, 3, 9, 40])
    if kind == 1:
        return r.choice(["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'", "''", "’s", "'l", "'v", "'r"])
    if kind == 2:
        return "".join(chr(r.randrange(0x250)) for _ in range(r.randrange(1, 9)))
    if kind == 3:
        return str(r.randrange(10 ** r.randrange(1, 12)))
    if kind == 4:
        return "".join(chr(c) for c in (r.randrange(0x20000) for _ in range(r.randrange(1, 5))) if not 0xD800 <= c < 0xE000)
    if kind == 5:
        return r.choice("aA-=_.*#é日ßе½²٣") * r.choice([1, 2, 3, 5, 17, 60])
    if kind == 6:
        return "".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(r.randrange(1, 70)))
    if kind == 7:
        return r.choice(EDGES)
    if kind == 8:
        return "".join(r.choice("!?.,;:\"()[]{}<>|/\\@#$%^&*-_=+~`") for _ in range(r.randrange(1, 12)))
    return r.choice(["", " "]) + r.choice(words)


def main(vocab, *files):
    lines = pathlib.Path(vocab).read_bytes().split(b"\n")
    (HERE / "bpe_small.bpe").write_bytes(b"\n".join(lines[:SMALL + 1]) + b"\n")
    merges = [tuple(line.decode().split(" ")) for line in lines[1:] if line]
    check_classes()
    small, full = Both(merges[:SMALL]), Both(merges)
    texts = {pathlib.Path(f).name: pathlib.Path(f).read_bytes().decode() for f in files}
    first = {name: {"small": hash_of(small.encode(t)), "full": hash_of(full.encode(t)), "count": len(full.encode(t))} for name, t in texts.items()}
    r = random.Random(SEED)
    words = min(texts.values(), key=len).split()
    cases = EDGES + ["".join(random_piece(r, words) for _ in range(r.randrange(1, 8))) for _ in range(CASES)]
    with open(HERE / "bpe.jsonl", "w") as out:
        print(json.dumps(first), file=out)
        for text in cases:
            case = {"text": text, "ids": small.encode(text), "full": hash_of(full.encode(text))[:8]}
            if "<|endoftext|>" in text:
                case["special"] = small.special(text)
            print(json.dumps(case, separators=(",", ":")), file=out)


main(*sys.argv[1:])
