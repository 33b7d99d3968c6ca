#!/usr/bin/env python3
"""Makes tests/golden/nets/: what the reference implementations of the built-in networks give, for tests/cpu/test_nets.c.

    python nets.py            # all
    python nets.py vit_b_16   # some; counts.txt is made with all of them alone

Run it with torch, torchvision, timm and transformers installed; only needed when a network is added: a row of CASES (of text: nets_text.py), and of COUNTS for
each variant. Weights and inputs are no files: both sides compute them from names and counters (`weights`, `uniform`).
Gradients here are float64, and losses of steps fp32 (`exact`: float64); `fp32` in a file is the largest error (as the test measures it) that PyTorch itself makes in
fp32, for comparison.

A file, a word and its values a line: the model with its keys, what it reads, then `p NAME SHAPE NORM P1 P2` for each
parameter in the reference's order and layout: the 2-norm of its gradient, and its products with two vectors of random
signs. `steps LR`: losses of that many steps of gradient descent on the same batch, the first before any.
"""
import os
import re
import sys

import numpy as np
import timm
import torch
import torchvision
from torch import nn

import nets_text

HERE = os.path.dirname(os.path.abspath(__file__))
MASK = (1 << 64) - 1
STEPS = 10
LABEL = 7  # places without a label are one in so many, where a network has places


def fnv(text):
    h = 0xCBF29CE484222325
    for c in text.encode():
        h = ((h ^ c) * 0x100000001B3) & MASK
    return h


def bits(name, n):
    """n numbers of 64 bits: splitmix64 counted from the name's hash."""
    with np.errstate(over="ignore"):
        z = np.uint64(fnv(name)) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, n + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(name, n):
    """In [-1, 1), multiples of 2^-23: exact in fp32."""
    return (bits(name, n) >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def signs(name, n):
    return 1 - 2 * (bits(name, n) >> np.uint64(63)).astype(np.float64)


def weights(name, shape):
    """Of a matrix variance 1 / fan_in; of a vector near 1 where it is a weight, else near 0."""
    n = int(np.prod(shape))
    u = uniform(name, n)
    fan_in = n // shape[0] if max(shape) < n else 0
    if fan_in:
        fan_in = int(np.prod(shape[1:]))
        u = u * np.sqrt(3.0 / fan_in)
    else:
        u = 0.2 * u + (1.0 if name.endswith("weight") else 0.0)
    return torch.from_numpy(u.astype(np.float32).astype(np.float64).reshape(shape))


def own_parameters(net):
    return list(net.named_parameters())  # of tied ones the first


class Case:
    """One network at a size that is quick to compute. exact: fp32 says little of it, so the test computes it in double. make: gives the reference. fields: of tokens and rows, name ->
    (shape of a row, number below which they lie; 0: floats in [-1, 1)); None: an image of `side` pixels. task: its loss. table:
    side of the images that the learnt positions are of."""

    def __init__(self, model, make, side=64, batch=2, channels=3, outputs=10, keys=(), lr=0.001, fields=None,
                 task="classify", forward=None, renamed=None, file=None, seeds=(0,), exact=False, table=None):
        self.__dict__.update(locals())
        self.file = file or model


def inputs(case, seed):
    out = {}
    if case.fields is None:
        n = case.batch * case.side * case.side * case.channels
        u8 = (bits(f"image{seed}", n) >> np.uint64(56)).astype(np.float64)
        x = (u8 / 255 - 0.5) / 0.25
        shape = (case.batch, case.side, case.side, case.channels)
        out["image"] = torch.from_numpy(x.reshape(shape)).permute(0, 3, 1, 2).contiguous()
        fields = {"label": ((), case.outputs)}
    else:
        fields = case.fields
    for name, (shape, below) in fields.items():
        n = case.batch * int(np.prod(shape, dtype=np.int64))
        if below:
            v = (bits(f"{name}{seed}", n) >> np.uint64(33)).astype(np.int64)
            out_v = v % below
            if name == "label" and shape:
                out_v[v % LABEL == 0] = -1
            out[name] = torch.from_numpy(out_v.reshape((case.batch, *shape)))
        else:
            out[name] = torch.from_numpy(uniform(f"{name}{seed}", n).reshape((case.batch, *shape)))
    return out


def still(net):
    """Training, without what draws random numbers."""
    net.train()
    for m in net.modules():
        if re.search("dropout|droppath|stochasticdepth|drop$", type(m).__name__.lower()):
            m.eval()
    return net


def run(case, net, x):
    if case.forward:
        return case.forward(net, x)
    return net(x["image"])


def loss_of(case, y, x):
    if case.task == "minimize":
        return y.mean()
    return nn.functional.cross_entropy(y.reshape(-1, y.shape[-1]), x["label"].reshape(-1), ignore_index=-1)


def floor_of(grads):
    """Gradients that are zero but for rounding count as the smallest that matters."""
    return 1e-3 * max(float(g.norm()) for g in grads)


def name_of(case, name):
    return case.renamed(name) if case.renamed else name


def single(x):
    return {k: (v.float() if v.is_floating_point() else v) for k, v in x.items()}


def fp32_error(case, net, x, want, logits):
    net, x = net.float(), single(x)
    net.zero_grad()
    y = run(case, net, x)
    loss_of(case, y, x).backward()
    floor = floor_of(want)
    errors = [float((p.grad.double() - g).norm()) / max(float(g.norm()), floor) for (_, p), g in zip(own_parameters(net), want)]
    net.double()
    return max(max(errors), float((y.detach().double() - logits).norm() / logits.norm()))


def load(case, net):
    with torch.no_grad():
        for name, p in own_parameters(net):
            p.copy_(weights(name_of(case, name), tuple(p.shape)))


def gradients(case, net, x):
    """Logits, loss and gradients with the weights of the formula."""
    load(case, net)
    net.zero_grad()
    y = run(case, net, x)
    loss = loss_of(case, y, x)
    loss.backward()
    return y.detach(), [p.grad.clone() for _, p in own_parameters(net)]


def losses_of(case, net, x):
    """In fp32, where PyTorch is fast, but where that says little."""
    load(case, net)
    if not case.exact:
        net, x = net.float(), single(x)
    losses = []
    for _ in range(STEPS):
        net.zero_grad()
        loss = loss_of(case, run(case, net, x), x)
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for _, p in own_parameters(net):
                p -= case.lr * p.grad
    return losses


def best_seed(case, net):
    """Inputs far from the kinks of activations and pools, where fp32 takes the other side: (fp32 error, seed)."""
    tried = []
    for seed in case.seeds:
        x = inputs(case, seed)
        y, grads = gradients(case, net, x)
        tried.append((fp32_error(case, net, x, grads, y), seed))
    return min(tried)


def make(case):
    net = still(case.make().double())
    error, seed = best_seed(case, net)
    x = inputs(case, seed)
    y, grads = gradients(case, net, x)
    lines = [f"model {case.model}", f"task {case.task}"]
    lines += [f"key {k} = {v}" for k, v in case.keys]
    lines += [f"batch {case.batch}", f"seed {seed}", f"outputs {case.outputs}"]
    if case.fields is None:
        lines += [f"image {case.side} {case.channels}"]
    else:
        lines += [f"field {k} {below} {' '.join(map(str, shape))}".rstrip() for k, (shape, below) in case.fields.items()]
    lines += [f"table {case.table}"] if case.table else []
    lines += ["exact 1"] if case.exact else []
    lines += [f"fp32 {error:.2g}", f"parameters {len(grads)} {sum(g.numel() for g in grads)}"]
    for (name, p), g in zip(own_parameters(net), grads):
        name = name_of(case, name)
        flat = g.numpy().reshape(-1)
        shown = [np.linalg.norm(flat), flat @ signs(name + "/1", flat.size), flat @ signs(name + "/2", flat.size)]
        lines.append(f"p {name} {','.join(map(str, p.shape))} " + " ".join(f"{v:.12g}" for v in shown))
    lines += ["logits " + " ".join(f"{v:.12g}" for v in y.numpy().reshape(-1)[:64])]
    lines += [f"steps {case.lr} " + " ".join(f"{v:.12g}" for v in losses_of(case, net, x))]
    with open(os.path.join(HERE, "nets", case.file + ".txt"), "w") as out:
        out.write("\n".join(lines) + "\n")
    print(f"{case.file}: fp32 error {error:.2g} at seed {seed}", flush=True)


# ---- names and shapes of every variant ----


def squeezed(shape):
    return ",".join(str(d) for d in shape if d != 1)


def count_line(model, net, renamed=None):
    """Model, parameters, hash of "name shape" of all parameters and running statistics, sorted, without dimensions of 1."""
    renamed = renamed or (lambda n: n)
    named = own_parameters(net)
    named_all = named + [(n, b) for n, b in net.named_buffers() if "running_" in n]
    text = "".join(sorted(f"{renamed(n)} {squeezed(t.shape)}\n" for n, t in named_all))
    return f"{model} {sum(p.numel() for _, p in named)} {fnv(text):016x}"


def vision(name):
    return lambda **k: getattr(torchvision.models, name)(weights=None, **k)


def classifier(name, **k):
    return lambda: vision(name)(num_classes=10, **k)


def fitted(table, new_size, num_prefix_tokens=1, **_):
    """timm's resample_abs_pos_embed in double and without antialias, as transformers has it."""
    head, grid = table[:, :num_prefix_tokens], table[:, num_prefix_tokens:]
    side = int(grid.shape[1] ** 0.5)
    grid = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=new_size, mode="bicubic", align_corners=False)
    return torch.cat([head, grid.permute(0, 2, 3, 1).flatten(1, 2)], 1)


timm.models.vision_transformer.resample_abs_pos_embed = fitted


def patches(name, size, **k):
    """A vision transformer of timm's with the width and depth of `name`, or that itself."""
    return lambda **more: timm.create_model(name, patch_size=size, **k, **more)


TORCHVISION = """resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d wide_resnet50_2
wide_resnet101_2 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large efficientnet_b0 efficientnet_b1 efficientnet_b2
efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_s efficientnet_v2_m
efficientnet_v2_l convnext_tiny convnext_small convnext_base convnext_large vit_b_16 vit_b_32 vit_l_16 vit_l_32
vit_h_14""".split()
# model -> the reference as published
COUNTS = {name: vision(name) for name in TORCHVISION}
for width in ("tiny", "small", "base", "large"):
    for size in (8, 14, 16, 32):
        COUNTS[f"vit_{width}_patch{size}"] = patches(f"vit_{width}_patch16_224", size)
    if width != "large":
        COUNTS[f"deit_{width}"] = patches(f"deit_{width}_patch16_224", 16)
        COUNTS[f"deit_{width}_distilled"] = patches(f"deit_{width}_distilled_patch16_224", 16)



def mlp(outputs=10):
    return nn.Sequential(nn.Flatten(), torchvision.ops.MLP(784, [512, 512, outputs]))


class Autoencoder(nn.Module):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)

    def forward(self, x):
        return ((self.decoder(self.encoder(x)) - x) ** 2).flatten(1).mean(1)


def autoencoder():
    relu, dense = nn.ReLU, nn.Linear
    return Autoencoder([dense(784, 512), relu(), dense(512, 128), relu(), dense(128, 32)],
                       [dense(32, 128), relu(), dense(128, 512), relu(), dense(512, 784)])


def conv_autoencoder():
    half = dict(stride=2, padding=1)
    twice = dict(stride=2, padding=1, output_padding=1)
    return Autoencoder([nn.Conv2d(1, 32, 3, **half), nn.ReLU(), nn.Conv2d(32, 64, 3, **half)],
                       [nn.ConvTranspose2d(64, 32, 3, **twice), nn.ReLU(), nn.ConvTranspose2d(32, 1, 3, **twice)])


def without_flatten(name):
    return name.removeprefix("1.")


COUNTS |= {"mlp": mlp, "autoencoder": autoencoder, "conv_autoencoder": conv_autoencoder}
RENAMED = {"mlp": without_flatten}
COUNTS.update(nets_text.COUNTS)

# What draws random numbers is off on both sides.
DROPOUT, DROP_PATH = ("dropout", 0.0), ("drop_path", 0.0)
BOTH = (DROPOUT, DROP_PATH)
EXACT = dict(exact=True)
# Rates of steps: such at which these networks do not magnify what attributes in fp32 differ by, 1e-8.
KINKS = dict(side=33, lr=1e-6, **EXACT)  # fp32 takes the other side of a ReLU here and there
TIMM = dict(num_classes=10)

CASES = [
    Case("resnet18", classifier("resnet18"), batch=4, seeds=(2,), lr=0.01),
    Case("resnet50", classifier("resnet50"), **KINKS),
    Case("resnext50_32x4d", classifier("resnext50_32x4d"), **KINKS),
    Case("wide_resnet50_2", classifier("wide_resnet50_2"), **KINKS),
    Case("mobilenet_v2", classifier("mobilenet_v2"), keys=(DROPOUT,), **KINKS),
    Case("mobilenet_v3_small", classifier("mobilenet_v3_small"), keys=(DROPOUT,), seeds=range(3), **EXACT),
    Case("mobilenet_v3_large", classifier("mobilenet_v3_large"), keys=(DROPOUT,), seeds=range(3), **EXACT),
    Case("efficientnet_b0", classifier("efficientnet_b0"), keys=BOTH, lr=2e-4, **EXACT),
    Case("efficientnet_v2_s", classifier("efficientnet_v2_s"), keys=BOTH, lr=2e-6, **EXACT),
    Case("convnext_tiny", classifier("convnext_tiny"), keys=(DROP_PATH,)),
    Case("vit_b_16", classifier("vit_b_16", image_size=48), side=48),
    Case("vit_tiny_patch16", patches("vit_tiny_patch16_224", 16, img_size=48, **TIMM), side=48),
    Case("vit_tiny_patch16", patches("vit_tiny_patch16_224", 16, img_size=48, dynamic_img_size=True, **TIMM), side=80,
         table=48, file="vit_table"),
    Case("vit_tiny_patch8", patches("vit_tiny_patch16_224", 8, img_size=32, class_token=False, global_pool="avg",
                                    fc_norm=False, **TIMM), side=32, keys=(("pool", '"mean"'),), file="vit_mean"),
    Case("mlp", mlp, side=28, channels=1, batch=8, renamed=without_flatten),
    Case("autoencoder", autoencoder, side=28, channels=1, batch=8, task="minimize",
         forward=lambda net, x: net(x["image"].flatten(1)), seeds=range(3)),
    Case("conv_autoencoder", conv_autoencoder, side=28, channels=1, batch=4, task="minimize", seeds=range(3)),
    Case("deit_tiny_distilled", patches("deit_tiny_distilled_patch16_224", 16, img_size=48, **TIMM), side=48),
] + nets_text.cases(Case)


def main():
    chosen = sys.argv[1:]
    os.makedirs(os.path.join(HERE, "nets"), exist_ok=True)
    for name in chosen or [case.file for case in CASES]:
        for case in CASES:
            if case.file == name:
                make(case)
    if not chosen or "counts" in chosen:
        with torch.device("meta"):
            lines = [count_line(model, make_net(), RENAMED.get(model)) for model, make_net in COUNTS.items()]
        with open(os.path.join(HERE, "nets", "counts.txt"), "w") as out:
            out.write("\n".join(lines) + "\n")


main()
