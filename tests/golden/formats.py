"""Writes tests/golden/library.safetensors with the format's own library: small tensors of a formula, one of each type
that weights have and some that they do not. Run by hand: python tests/golden/formats.py (needs torch, safetensors)."""
import pathlib

import torch
from safetensors.torch import save_file


def values(n):
    return (torch.arange(n) % 7 - 3).double() / 4


tensors = {
    "conv.weight": values(24).reshape(2, 3, 2, 2).float(),
    "fc.weight": values(15).reshape(3, 5).to(torch.bfloat16),
    "fc.bias": values(3).half(),
    "double": values(4),
    "scalar": torch.tensor(0.25),
    "empty": torch.zeros(0, 3),
    "bn.num_batches_tracked": torch.tensor(17),
    'ключ "a\\b"': values(5).float(),
    "mask": torch.tensor([True, False, True]),
}
save_file(tensors, pathlib.Path(__file__).with_name("library.safetensors"), {"format": "pt"})
