#!/usr/bin/env python3
"""Makes curve.h5 and groups.h5 of tests/train/test_engine_curve.c with PyTorch: 20 steps of a small residual network in
double, the second time with groups of parameters.

Run it in this folder with torch and h5py installed; only needed when the recipe changes. The recipe (network, two
micro-batches a step, momentum, decay of weights alone, smoothing, warm-up and cosine, averaged weights) is that of the
test. Names and layouts are dtrain's: convolution weights K R S C, images N H W C.
"""
import copy
import math

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

STEPS, BATCH, SHARDS, SAMPLES = 20, 16, 2, 64
LR, WARMUP, WARMUP_START, FINAL = 0.05, 4, 0.2, 0.05
MOMENTUM, DECAY, SMOOTHING, EMA = 0.9, 1e-3, 0.1, 0.8


def conv(c, k, kernel=3, stride=1):
    return nn.Conv2d(c, k, kernel, stride, kernel // 2, bias=False)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.stem_bn = conv(3, 8), nn.BatchNorm2d(8)
        self.a1, self.a1_bn = conv(8, 8), nn.BatchNorm2d(8)
        self.a2, self.a2_bn = conv(8, 8), nn.BatchNorm2d(8)
        self.b1, self.b1_bn = conv(8, 12, stride=2), nn.BatchNorm2d(12)
        self.b2, self.b2_bn = conv(12, 12), nn.BatchNorm2d(12)
        self.skip, self.skip_bn = conv(8, 12, 1, 2), nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        x = F.relu(self.stem_bn(self.stem(x)))
        y = F.relu(self.a1_bn(self.a1(x)))
        x = F.relu(self.a2_bn(self.a2(y)) + x)
        y = F.relu(self.b1_bn(self.b1(x)))
        x = F.relu(self.b2_bn(self.b2(y)) + self.skip_bn(self.skip(x)))
        return self.fc(x.mean((2, 3)))


def rate(step):
    if step < WARMUP:
        return LR * (WARMUP_START + (1 - WARMUP_START) * step / WARMUP)
    u = (step - WARMUP) / (STEPS - WARMUP)
    return LR * (FINAL + (1 - FINAL) * (1 + math.cos(math.pi * u)) / 2)


def save(file, name, value, dtype=np.float32):
    value = np.asarray(value)
    if value.ndim == 4 and dtype == np.float32:
        value = value.transpose(0, 2, 3, 1)
    file.create_dataset(name, data=np.ascontiguousarray(value.astype(dtype)))


def save_model(file, group, model):
    for name, t in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            save(file, f"{group}/{name}", t.detach().numpy())


def train(f, model, pixels, labels, groups):
    """20 steps, and what is to be seen of them into `f`: `groups` as torch.optim takes them, each with the factor
    on its rate."""
    optim = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM)
    average = copy.deepcopy(model)
    losses, rates, norms = [], [], []
    for step in range(STEPS):
        batch = [(step * BATCH + i) % SAMPLES for i in range(BATCH)]
        optim.zero_grad()
        total = 0.0
        for shard in range(SHARDS):
            rows = batch[shard::SHARDS]
            loss = F.cross_entropy(model(pixels[rows]), labels[rows], label_smoothing=SMOOTHING, reduction="sum")
            (loss / BATCH).backward()
            total += loss.item()
        norms.append(math.sqrt(sum((p.grad**2).sum().item() for p in model.parameters() if p.requires_grad)))
        for group in optim.param_groups:
            group["lr"] = rate(step) * group["factor"]
        optim.step()
        state = model.state_dict()
        for key, e in average.state_dict().items():  # buffers too: AveragedModel(use_buffers=True)
            if e.is_floating_point():
                e.lerp_(state[key], 1 - EMA)
        losses.append(total / BATCH)
        rates.append(rate(step))
    save(f, "loss", losses)
    save(f, "rate", rates)
    save(f, "norm", norms)
    save_model(f, "final", model)
    save_model(f, "ema", average)
    evaluated = []
    for m in (model, average):
        m.eval()
        with torch.no_grad():
            evaluated.append(F.cross_entropy(m(pixels), labels).item())
    save(f, "eval_loss", evaluated)
    print(losses, evaluated)


def main():
    torch.manual_seed(7)
    torch.set_num_threads(1)
    model = Net().double()
    for p in model.parameters():
        p.data = p.data.float().double()  # what the file can hold
    labels = torch.randint(0, 10, (SAMPLES,))
    images = torch.randint(0, 180, (SAMPLES, 12, 12, 3)) + labels[:, None, None, None] * 8
    pixels = ((images.double() / 255 - 0.5) / 0.25).permute(0, 3, 1, 2).contiguous()
    grouped = copy.deepcopy(model)
    with h5py.File("curve.h5", "w") as f:
        save_model(f, "start", model)
        f.create_dataset("images", data=images.numpy().astype(np.uint8))
        f.create_dataset("labels", data=labels.numpy().astype(np.int32))
        matrices = [p for p in model.parameters() if p.dim() > 1]
        vectors = [p for p in model.parameters() if p.dim() == 1]
        groups = [
            {"params": matrices, "weight_decay": DECAY, "factor": 1.0},
            {"params": vectors, "weight_decay": 0.0, "factor": 1.0},
        ]
        train(f, model, pixels, labels, groups)
    with h5py.File("groups.h5", "w") as f:  # from the same start, on the same images
        groups = []
        for name, p in grouped.named_parameters():
            p.requires_grad = not name.startswith(("stem", "a1")) and name != "b1_bn.weight"
            decay = 0.05 if name.startswith("fc.") else DECAY if p.dim() > 1 else 0.0
            factor = 3.0 if name.startswith("fc.") else 0.5 if name.startswith("b2") else 1.0
            if p.requires_grad:
                groups.append({"params": [p], "weight_decay": decay, "factor": factor})
        train(f, grouped, pixels, labels, groups)


if __name__ == "__main__":
    main()
