#!/usr/bin/env python3
"""Writes tokens_merges.txt and tokens_cases.txt, what other tokenizers make of texts that are easily got wrong.

    pip install tiktoken==0.14.0 tokenizers regex xxhash && python3 make_tokens.py

The merges are those that `tokenizers` learns from tokens_text(); the ids are tiktoken's for text that is UTF-8. Of other
bytes each counts as a character of no class: `regex` cuts them with Python's surrogateescape, tiktoken merges the pieces.
"""
import json
import os
import random
import struct

import regex
import tiktoken
import xxhash
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
END = "<|endoftext|>"


def tokens_text():
    """Words of a few scripts, some often and some seldom."""
    words = "the of and network learns a gradient we're it's they'll training 12 2024 größer Straße данные сеть 学習 网络 🙂 ... == --".split()
    state, out = 1, []
    for _ in range(6000):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        out.append(words[(state >> 16) % len(words) * (state >> 8 & 3) // 3])
        out.append(("\n", "\n\n", "\r\n", "  ")[state >> 20 & 3] if state >> 22 & 31 == 0 else " ")
    return "".join(out)


def main():
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    model.train_from_iterator(
        [tokens_text()],
        trainers.BpeTrainer(vocab_size=420, min_frequency=2, show_progress=False, initial_alphabet=alphabet),
    )
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in json.loads(model.to_str())["model"]["merges"]]
    with open(f"{HERE}/tokens_merges.txt", "w", encoding="utf8", newline="") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    with open(f"{HERE}/tokens_text.txt", "w", encoding="utf8", newline="") as f:
        f.write(tokens_text())
    own = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    others = [b for b in range(256) if b not in own]
    letter = {chr(b): b for b in own} | {chr(256 + i): b for i, b in enumerate(others)}
    ranks = {bytes([b]): i for i, b in enumerate(own + others)}
    for a, b in merges:
        ranks[bytes(letter[c] for c in a + b)] = len(ranks)
    gpt = tiktoken.Encoding("golden", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={END: len(ranks)})
    pattern = regex.compile(PATTERN)

    def ids_of(data):
        try:
            return gpt.encode_ordinary(data.decode("utf8"))
        except UnicodeDecodeError:
            pieces = pattern.findall(data.decode("utf8", "surrogateescape"))
            merge = gpt._core_bpe.encode_single_piece
            return [i for p in pieces for i in merge(p.encode("utf8", "surrogateescape"))]

    texts = [
        "a", " ", "  ", "   a", "a   ", "\n", "a\r\nb", "\r\n\r\n a", "the network", " the  network\n", "it's", "IT'S", "'s", "''s",
        " 's", "!'s", "a's'll're've'm'd't", "they'lll", "don't", "\u2019s", "a\u00a0b", "\u00a0\u00a0a", "\u3000a \u3000", "\u2028\u2029", "\x85a",
        "\x1c\x1d\x1e\x1f", "\u200b \u180e", "12345 678", "a1b2", "1a", "²³ Ⅷ ½", "٣٤ १२", "größer Straße", "данные сеть", "学習网络 学習",
        "e\u0301 \u0301", "🙂🙂 👩‍👩‍👧", "<|endoftext|>", "a<|endoftext|>b", "\x00\x00a", "\ufeffa", "\ufffd", "\U0010ffff", "\ue000",
        "== -- ...", "a_b", "\t\ta\t", "\t", " \n ", "\n \n", "a \n\n  b", "x" * 70, " " * 70, "the" * 40, "网" * 40, "🙂" * 30, "1" * 100, "!" * 65,
    ]
    cases = [t.encode() for t in texts] + [
        b"\xff", b"\x80", b"a\x80b", b"\xc3", b"\xc3 a", b"\xc3\xc3\xa9", b"\xe2\x82", b"\xe2\x82\xacx\xe2\x82", b"\xf0\x9f\x99", b"\xf0\x9f\x99 \xf0",
        b"\xed\xa0\x80", b"\xed\xb0\x80\xed\xa0\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xfe\xff", b"\xf8\x88\x80\x80\x80", b"\x80\x80\x80\x80\x80", b" \xff\xff a", b"\xff's", b"\xc2\xa0\xc2",
        b"\xe3\x80\x80\xe3\x80", b"\xa0\xa0 \xa0", b"the\xffnetwork", bytes(range(256)),
    ]
    random.seed(1)
    parts = [b"'", b"'s", b"'re", b" ", b"  ", b"\n", b"\r\n", b"\xc2\xa0", b"the", b"network", b"12", b"\xff", b"\xe2\x82", "学習".encode(), "е".encode(), b"!", "🙂".encode(), "²".encode()]
    cases += [b"".join(random.choice(parts) for _ in range(random.randrange(4, 16))) for _ in range(60)]
    whole = xxhash.xxh3_64()
    for c in range(0x110000):
        if not 0xD800 <= c < 0xE000:
            x = chr(c)
            ids = gpt.encode_ordinary(f"a{x}b {x}1{x} {x}{x}  {x}'s{x}\n{x}\n\n")
            whole.update(struct.pack(f"<{len(ids)}i", *ids))
    with open(f"{HERE}/tokens_cases.txt", "w") as f:
        f.write(f"{whole.hexdigest()}\n")
        for c in cases:
            f.write(f"{c.hex()} {' '.join(map(str, ids_of(c)))}\n")


if __name__ == "__main__":
    main()
