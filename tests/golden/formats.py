"""Writes tests/golden/library.safetensors with the format's own library, small tensors of a formula, one of each type that
weights have and some that they do not, and state.pt with PyTorch: the same as a training run saves them, with what lies in a
storage in ways of its own; state_old.pt is the same in the form before 1.6. Run by hand: python tests/golden/formats.py (needs torch, safetensors)."""
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

shared = values(24).float()
state = {
    "conv.weight": shared.reshape(2, 3, 2, 2),
    "tied": shared.reshape(4, 6),
    "turned": values(15).float().reshape(5, 3).t(),  # strides 1, 3
    "part": values(15).half()[7:10],  # of another offset: the formula from there
    "repeated": values(1).double().expand(3),  # stride 0
    "bias": torch.nn.Parameter(values(5).to(torch.bfloat16)),
    "scalar": torch.tensor(0.25),
    "empty": torch.zeros(0, 3),
    "bn.num_batches_tracked": torch.tensor(17),
}
run = {"epoch": 3, "best": 0.5, "model": state, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "lr": 1e-3},
       "device": torch.device("cpu"), "args": ("--lr", -1, 300, 70000, 2**40, None, True)}
torch.save(run, pathlib.Path(__file__).with_name("state.pt"))
torch.save(run, pathlib.Path(__file__).with_name("state_old.pt"), _use_new_zipfile_serialization=False)
