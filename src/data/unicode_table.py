#!/usr/bin/env python3
"""Writes unicode_table.c: which code points are letters (L), numbers (N) and White_Space.

    pip install unicodedata2==16.0.0 && python3 unicode_table.py >unicode_table.c && clang-format -i unicode_table.c

Unicode 16.0, as the tokenizers in use have it: another version splits words elsewhere, so that ids no longer agree.
"""
import unicodedata2

SPACE = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
BLOCK = 128


def cls(c):
    major = unicodedata2.category(chr(c))[0]
    return 1 if major == "L" else 2 if major == "N" else 3 if c in SPACE else 0


assert unicodedata2.unidata_version == "16.0.0"
classes = [cls(c) for c in range(0x110000)]
end = max(c for c in range(0x110000) if classes[c]) // BLOCK * BLOCK + BLOCK
index, blocks = [], {}
for at in range(0, end, BLOCK):
    block = tuple(classes[at : at + BLOCK])
    index.append(blocks.setdefault(block, len(blocks)))
packed = [
    [sum(block[i + k] << 2 * k for k in range(4)) for i in range(0, BLOCK, 4)] for block in blocks
]
assert len(packed) <= 256
print(f"""/* Written by unicode_table.py from Unicode {unicodedata2.unidata_version}; not to be edited. */
#include "unicode.h"

const uint32_t dt_unicode_end = 0x{end:X};

const uint8_t dt_unicode_index[] = {{""")
for i in range(0, len(index), 24):
    print(", ".join(map(str, index[i : i + 24])) + ",")
print("};\n\nconst uint8_t dt_unicode_block[][32] = {")
for block in packed:
    print("{" + ", ".join(f"0x{b:02X}" if b > 9 else str(b) for b in block) + "},")
print("};")
