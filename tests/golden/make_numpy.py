#!/usr/bin/env python3
"""numpy.npz: arrays of every type, byte order, memory order and .npy version, by NumPy itself. Element i of each, in C
order, is 7 * i % 50, less 20 where the type has a sign; truth values are i % 2."""
import io
import os
import zipfile

import numpy as np

SHAPES = {"v": (6,), "m": (6, 3), "t": (6, 2, 2, 3)}
here = os.path.dirname(os.path.abspath(__file__))
with zipfile.ZipFile(os.path.join(here, "numpy.npz"), "w") as z:
    for kind in "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1".split():
        for end, order, (name, shape), version in (
            ("<", "C", ("v", SHAPES["v"]), 1), (">", "C", ("m", SHAPES["m"]), 2), ("<", "F", ("m", SHAPES["m"]), 3),
            (">", "F", ("t", SHAPES["t"]), 1), ("<", "C", ("t", SHAPES["t"]), 1)):
            i = np.arange(int(np.prod(shape)))
            value = i % 2 if kind == "b1" else 7 * i % 50 - (0 if kind[0] == "u" else 20)
            a = np.array(value.reshape(shape), dtype=np.dtype(kind).newbyteorder(end), order=order)
            f = io.BytesIO()
            np.lib.format.write_array(f, a, version=(version, 0))
            info = zipfile.ZipInfo(f"{kind}_{'le' if end == '<' else 'be'}_{order}_{name}.npy")
            info.compress_type = zipfile.ZIP_DEFLATED if version == 1 else zipfile.ZIP_STORED
            z.writestr(info, f.getvalue())
