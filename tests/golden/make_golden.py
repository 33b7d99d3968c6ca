#!/usr/bin/env python3
"""Makes the golden files of tests/cpu/test_golden.c with PyTorch: ops.h5, eltwise.h5, sequences.h5, attention.h5,
loss.h5, optim.h5, optimizers.h5, resnet.h5, regress.h5 of tests/train/test_engine_regress.c and recurrent.h5 of tests/cpu/test_recurrent.c.

Run it in this folder with torch and h5py installed; only needed when a case is added. Arrays are stored in dtrain's
layouts: images N H W C, convolution weights K R S C. The constants below are those of the test.
"""
import inspect

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import _muon

LOSS_WEIGHT, LOSS_SCALE = 0.25, 2.0  # op_step of tests/support/op_run.h


def nhwc(t):
    return t.detach().permute(0, 2, 3, 1).contiguous() if t.dim() == 4 else t.detach()


def nhwc_grad(t):
    return t.permute(0, 2, 3, 1)


def nchw(t):
    return t.permute(0, 3, 1, 2).contiguous() if t.dim() == 4 else t


def save(group, name, value, dtype=np.float32):
    group.create_dataset(name, data=np.ascontiguousarray(value.numpy().astype(dtype)))


class Ops:
    """Collects cases: inputs in dtrain's layout, output, and a gradient for every input that has one."""

    def __init__(self, path, seed=1):
        self.file = h5py.File(path, "w")
        self.rng = torch.Generator().manual_seed(seed)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.rng)

    def case(self, name, fn, *inputs, want=None):
        """fn maps NCHW double tensors to the output; `want` names the inputs to differentiate (default: all)."""
        group = self.file.create_group(name)
        x = [nchw(t.double()).requires_grad_(want is None or i in want) for i, t in enumerate(inputs)]
        y = fn(*x)
        r = self.normal(*nhwc(y).shape)
        y.backward(nchw(r.double()))
        for i, t in enumerate(inputs):
            save(group, f"in{i}", t)
        save(group, "out", nhwc(y))
        save(group, "dout", r)
        for i, t in enumerate(x):
            if t.grad is not None:
                save(group, f"grad{i}", nhwc(t.grad))

    def batchnorm(self, name, shape, relu=False, residual=False):
        c = shape[-1]
        inputs = [self.normal(*shape) * 2 + 1, self.normal(c), self.normal(c), self.normal(c), self.normal(c).abs() + 0.5]
        state = [t.double().clone() for t in inputs[3:5]]
        if residual:
            inputs.append(self.normal(*shape))

        def fn(x, gamma, beta, rmean, rvar, *res):
            y = F.batch_norm(x, state[0], state[1], gamma, beta, training=True, momentum=0.1, eps=1e-5)
            y = y + res[0] if residual else y
            return F.relu(y) if relu else y

        self.case(name, fn, *inputs, want={0, 1, 2, 5})
        save(self.file[name], "after3", state[0])
        save(self.file[name], "after4", state[1])

    def cross_entropy(self, name, n, k, smoothing, padded):
        """n: rows; or samples and the shape of a sample's rows, over which its gradient is a mean."""
        group = self.file.create_group(name)
        shape = n if isinstance(n, tuple) else (n,)
        logits, labels = self.normal(*shape, k) * 3, torch.randint(0, k, shape, generator=self.rng)
        if padded:
            labels.view(-1)[1::3] = -1
        x = logits.double().requires_grad_()
        loss = F.cross_entropy(
            x.flatten(0, -2), labels.flatten(), reduction="none", label_smoothing=smoothing, ignore_index=-1
        )
        (loss.sum() * LOSS_WEIGHT * LOSS_SCALE * shape[0] / labels.numel()).backward()
        real = labels.flatten() >= 0
        top = logits.flatten(0, -2).topk(min(5, k)).indices == labels.flatten()[:, None]
        metrics = torch.stack([loss.detach().sum(), (top[:, 0] & real).sum(), (top.any(1) & real).sum(), real.sum()])
        loss = loss.reshape(shape)
        save(group, "in0", logits)
        save(group, "in1", labels, np.int32)
        save(group, "out", loss.detach())
        save(group, "grad0", x.grad)
        save(group, "metrics", metrics)

    def embedding(self, name, table, shape, padding):
        group = self.file.create_group(name)
        w, index = self.normal(*table), torch.randint(0, table[0], shape, generator=self.rng)
        x = w.double().requires_grad_()
        y = F.embedding(index, x, padding_idx=padding)
        r = self.normal(*y.shape)
        y.backward(r.double())
        save(group, "in0", w)
        save(group, "in1", index, np.int32)
        save(group, "out", y.detach())
        save(group, "dout", r)
        save(group, "grad0", x.grad)

    def image(self, name, n, h, w, c):
        group = self.file.create_group(name)
        pixels = torch.randint(0, 256, (n, h, w, c), generator=self.rng)
        mean, std = torch.tensor([0.5, 0.4, 0.3, 0.2])[:c], torch.tensor([0.25, 0.2, 0.3, 0.5])[:c]
        save(group, "in0", pixels, np.uint8)
        save(group, "out", (pixels.double() / 255 - mean) / std)


def make_ops():
    o = Ops("ops.h5")

    def conv(name, x, w, bias=False, **kw):
        inputs = [o.normal(*x), o.normal(*w)] + ([o.normal(w[0])] if bias else [])
        o.case(name, lambda x, w, b=None: F.conv2d(x, w, b, **kw), *inputs)

    conv("conv 3x3", (2, 7, 6, 16), (16, 3, 3, 16), padding=1)
    conv("conv 3x3 thin", (2, 5, 6, 3), (4, 3, 3, 3), padding=1)
    conv("conv bias stride", (2, 9, 8, 5), (7, 3, 3, 5), bias=True, padding=1, stride=2)
    conv("conv 1x1", (2, 4, 5, 9), (6, 1, 1, 9))
    conv("conv 1x1 stride", (2, 5, 4, 9), (6, 1, 1, 9), stride=2)
    conv("conv 7x7 stem", (1, 15, 14, 3), (8, 7, 7, 3), padding=3, stride=2)
    conv("conv dilated", (1, 9, 8, 4), (4, 3, 3, 4), padding=2, dilation=2)
    conv("conv grouped", (2, 6, 5, 8), (12, 3, 3, 4), padding=1, groups=2)
    conv("conv depthwise", (2, 7, 6, 8), (8, 3, 3, 1), padding=1, groups=8, stride=2)
    conv("conv uneven", (2, 7, 9, 3), (5, 5, 3, 3), padding=(2, 0), stride=(1, 2))

    o.case("dense", F.linear, o.normal(6, 13), o.normal(9, 13))
    o.case("dense bias", F.linear, o.normal(5, 17), o.normal(10, 17), o.normal(10))
    o.case("relu", F.relu, o.normal(2, 3, 4, 5))
    o.case("add", torch.add, o.normal(2, 3, 4, 5), o.normal(2, 3, 4, 5))
    o.case("maxpool", lambda x: F.max_pool2d(x, 2, 2), o.normal(2, 7, 6, 5))
    o.case("maxpool pad", lambda x: F.max_pool2d(x, 3, 2, 1), o.normal(2, 8, 7, 5))
    o.case("avgpool", lambda x: F.avg_pool2d(x, 2, 2), o.normal(2, 7, 6, 5))
    o.case("avgpool pad", lambda x: F.avg_pool2d(x, 3, 2, 1), o.normal(2, 8, 7, 5))
    o.case("global avgpool", lambda x: x.mean((2, 3)), o.normal(3, 5, 4, 7))
    o.case("reshape", lambda x: x.permute(0, 2, 3, 1).reshape(2, -1), o.normal(2, 3, 4, 5))
    o.batchnorm("batchnorm", (4, 5, 3, 6))
    o.batchnorm("batchnorm relu", (4, 5, 3, 6), relu=True)
    o.batchnorm("batchnorm residual", (4, 5, 3, 6), residual=True)
    o.batchnorm("batchnorm residual relu", (4, 5, 3, 6), relu=True, residual=True)
    o.batchnorm("batchnorm rows", (24, 6))
    o.cross_entropy("xent", 9, 10, 0.0, False)
    o.cross_entropy("xent smoothing", 9, 10, 0.1, False)
    o.cross_entropy("xent padded", 9, 12, 0.2, True)
    o.image("input", 2, 5, 6, 3)
    o.case("conv transpose", lambda y, w: F.conv_transpose2d(y, w, stride=2, padding=1, output_padding=1),
           o.normal(2, 4, 5, 6), o.normal(6, 3, 3, 4))
    o.case("conv transpose groups", lambda y, w: F.conv_transpose2d(y, w, stride=3, groups=2, dilation=2),
           o.normal(1, 3, 2, 4), o.normal(4, 2, 2, 3))
    o.case("transpose", lambda x: x.permute(2, 0, 1), o.normal(3, 4, 5))
    o.case("matmul", torch.matmul, o.normal(3, 4, 6), o.normal(3, 6, 5))
    o.case("matmul turned", lambda a, b: a.mT @ b.mT, o.normal(2, 7, 3), o.normal(2, 4, 7))
    o.case("reduce sum", lambda x: x.sum((0, 2), keepdim=True), o.normal(4, 5, 3))
    o.case("reduce mean", lambda x: x.mean(1, keepdim=True), o.normal(4, 5, 3))
    o.case("reduce max", lambda x: x.amax((1, 2), keepdim=True), o.normal(4, 5, 3))
    o.case("reduce max ties", lambda x: x.amax(1, keepdim=True), o.normal(4, 50, 3).round())


def split_heads(t, heads):
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q, k, v, heads, kv_heads, mask=None, scale=None):
    """scaled_dot_product_attention of [B, T, heads * D]; mask [B or 1, T, S], true where a query sees a key."""
    q, k, v = split_heads(q, heads), split_heads(k, kv_heads), split_heads(v, kv_heads)
    mask = None if mask is None else mask[:, None]
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=heads != kv_heads)
    return y.transpose(1, 2).flatten(2)


class Attention(Ops):
    """q, k, v in inputs 0 to 2, lengths, lengths of queries and segments in 3 to 5."""

    def attention(self, name, b, t, s, heads, kv_heads, d, mask=None, scale=None, ints=()):
        shapes = ((b, t, heads * d), (b, s, kv_heads * d), (b, s, kv_heads * d))
        self.case(name, lambda q, k, v: attend(q, k, v, heads, kv_heads, mask, scale), *map(lambda x: self.normal(*x), shapes))
        for i, value in ints:
            save(self.file[name], f"in{i}", value, np.int32)

    def packed(self, name, b, t, heads, kv_heads, d, mask=None):
        def fn(x):
            q, k, v = x.split((heads * d, kv_heads * d, kv_heads * d), -1)
            return attend(q, k, v, heads, kv_heads, mask)

        self.case(name, fn, self.normal(b, t, (heads + 2 * kv_heads) * d))

    def layer(self, name, b, t, width, heads, mask=None, context=None, bias=True, ints=()):
        """torch.nn.MultiheadAttention: y of x and of the context [S, width] given, gradients of both and of parameters."""
        torch.manual_seed(5)
        layer = nn.MultiheadAttention(width, heads, bias=bias, batch_first=True, kdim=context and context[1],
                                      vdim=context and context[1]).double()
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_(torch.randn(p.shape, generator=self.rng) / p.shape[-1] ** 0.5)
        x = self.normal(b, t, width).double().requires_grad_()
        c = self.normal(b, *context).double().requires_grad_() if context else x
        # true where a query may not see a key
        y, _ = layer(x, c, c, attn_mask=None if mask is None else (~mask).repeat_interleave(heads, 0), need_weights=False)
        r = self.normal(*y.shape)
        y.backward(r.double())
        group = self.file.create_group(name)
        values = {"x": x, "y": y, "r": r, "grad_x": x.grad}
        if context:
            values.update(context=c, grad_context=c.grad)
        for key, p in layer.named_parameters():
            values[f"l.{key}"], values[f"grad_l.{key}"] = p, p.grad
        for key, value in values.items():
            save(group, key, value.detach())
        for key, value in ints:
            save(group, key, value, np.int32)


def make_attention():
    o = Attention("attention.h5")
    t, s = torch.arange(9)[:, None], torch.arange(9)[None]
    causal, sixes = (s <= t)[None], torch.arange(6)[:, None]
    o.attention("plain", 2, 7, 7, 2, 2, 8)
    o.attention("of keys elsewhere", 2, 5, 9, 3, 3, 16)
    o.attention("causal", 2, 9, 9, 2, 2, 8, causal)
    o.attention("causal of more keys", 2, 6, 9, 2, 2, 8, (s <= sixes + 3)[None])
    o.attention("causal of one", 3, 1, 9, 2, 2, 8)
    o.attention("grouped causal", 2, 9, 9, 6, 2, 8, causal)
    o.attention("window", 1, 9, 9, 2, 2, 4, ((s - t).abs() < 3)[None])
    o.attention("causal window", 1, 9, 9, 2, 2, 4, ((s <= t) & (s > t - 3))[None])
    o.attention("scale", 2, 7, 7, 2, 2, 8, scale=0.25)
    o.attention("odd heads", 2, 9, 9, 3, 1, 13, causal)
    lengths = torch.tensor([9, 4, 1])
    o.attention("lengths", 3, 6, 9, 2, 2, 8, (s < lengths[:, None, None]).expand(3, 6, 9), ints=[(3, lengths)])
    segments = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, 2], [5, 5, 5, 5, 5, 5, 5, 5, 7]])
    same = segments[:, :, None] == segments[:, None]
    o.attention("segments", 2, 9, 9, 2, 2, 8, same & causal, ints=[(5, segments)])
    o.packed("packed", 2, 9, 3, 3, 8)
    o.packed("packed grouped causal", 2, 9, 4, 2, 8, causal)
    o.layer("layer", 2, 9, 24, 3)
    o.layer("layer causal", 2, 9, 24, 3, causal.expand(2, 9, 9))
    o.layer("layer without bias", 2, 9, 24, 4, bias=False)
    o.layer("layer of a context", 2, 6, 24, 3, context=(9, 24))
    o.layer("layer of another width", 2, 6, 24, 3, context=(9, 15))
    lengths = torch.tensor([9, 3])
    padded = (s < lengths[:, None, None]).expand(2, 6, 9)
    o.layer("layer of a padded context", 2, 6, 24, 3, padded, context=(9, 24), ints=[("lengths", lengths)])


# Names, scalars and functions of core/scalar.h; `above`: only of positive numbers.
UNARY = {
    "relu": ((), F.relu),
    "relu6": ((), F.relu6),
    "leaky_relu": ((0.1,), F.leaky_relu),
    "elu": ((0.7,), F.elu),
    "selu": ((), F.selu),
    "sigmoid": ((), torch.sigmoid),
    "tanh": ((), torch.tanh),
    "softplus": ((), F.softplus),
    "silu": ((), F.silu),
    "mish": ((), F.mish),
    "hardswish": ((), F.hardswish),
    "hardsigmoid": ((), F.hardsigmoid),
    "gelu": ((), F.gelu),
    "gelu_tanh": ((), lambda x: F.gelu(x, approximate="tanh")),
    "exp": ((), torch.exp),
    "log": ((), torch.log),
    "sqrt": ((), torch.sqrt),
    "neg": ((), torch.neg),
    "abs": ((), torch.abs),
    "clamp": ((-1.5, 2.5), torch.clamp),
    "square": ((), torch.square),
    "reciprocal": ((), torch.reciprocal),
    "scale": ((-1.25,), torch.mul),
}
ABOVE = {"log", "sqrt", "reciprocal"}
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "min": torch.minimum,
    "max": torch.maximum,
}


def make_eltwise():
    """Element-wise functions and what came with them."""
    o = Ops("eltwise.h5", seed=4)
    for name, (scalars, fn) in UNARY.items():
        x = o.normal(3, 37) * 3
        o.case(name, lambda x: fn(x, *scalars), x.abs() + 0.25 if name in ABOVE else x)
        save(o.file[name], "scalars", torch.tensor([*scalars, 0, 0][:2], dtype=torch.float64))
    for name, fn in BINARY.items():
        o.case(name, fn, o.normal(4, 1, 6), o.normal(5, 1).abs() + 0.25)
        o.case(f"{name} of five dimensions", fn, o.normal(2, 1, 3, 2, 4), o.normal(3, 1, 4).abs() + 0.25)
    o.case("softmax", lambda x: x.softmax(-1), o.normal(3, 4, 7) * 3)
    o.case("softmax long", lambda x: x.softmax(-1), o.normal(2, 300) * 3)
    o.case("log_softmax", lambda x: x.log_softmax(-1), o.normal(3, 4, 7) * 3)
    o.case("log_softmax long", lambda x: x.log_softmax(-1), o.normal(2, 300) * 3)
    o.case("dense of sequences", F.linear, o.normal(2, 3, 13), o.normal(9, 13), o.normal(9))

    # Padding of its own at either end: one row below, one column to the left and two to the right.
    def pad(x, value=0.0):
        return F.pad(x, (1, 2, 0, 1), value=value)

    o.case("conv padded", lambda x, w: F.conv2d(pad(x), w, stride=2), o.normal(2, 7, 8, 3), o.normal(4, 3, 3, 3))
    o.case("conv 3x3 padded", lambda x, w: F.conv2d(pad(x), w), o.normal(2, 7, 8, 16), o.normal(16, 3, 3, 16))
    o.case("maxpool padded", lambda x: F.max_pool2d(pad(x, -torch.inf), 4, 2), o.normal(2, 7, 8, 3))
    o.case("avgpool padded", lambda x: F.avg_pool2d(pad(x), 4, 2), o.normal(2, 7, 8, 3))


def make_sequences():
    """Normalisation by rows and groups, and tables of rows."""
    o = Ops("sequences.h5", seed=7)
    o.case("layernorm", lambda x, g, b: F.layer_norm(x, (13,), g, b, 1e-5), o.normal(3, 4, 13), o.normal(13), o.normal(13))
    o.case("layernorm large", lambda x, g, b: F.layer_norm(x, (384,), g, b, 1e-5), *(o.normal(*n) for n in ((9, 384), (384,), (384,))))
    o.case("layernorm alone", lambda x: F.layer_norm(x, (16,), eps=1e-3), o.normal(5, 16) * 3 + 2)
    o.case("rmsnorm", lambda x, g: F.rms_norm(x, (13,), g, 1e-5), o.normal(3, 4, 13), o.normal(13))
    for name, shape, groups in (
        ("groupnorm", (2, 5, 4, 12), 3),
        ("groupnorm of every channel", (2, 5, 4, 12), 12),
        ("groupnorm in one group", (3, 7, 5, 8), 1),
    ):
        inputs = o.normal(*shape) * 2 + 1, o.normal(shape[-1]), o.normal(shape[-1])
        o.case(name, lambda x, g, b: F.group_norm(x, groups, g, b, 1e-5), *inputs)
    for name, padding in (("embed", None), ("embed padding", 3)):
        o.embedding(name, (7, 5), (4, 6), padding)

    def angles(steps, dims, theta):
        return torch.outer(torch.arange(steps).double(), theta ** (-torch.arange(0, dims, 2).double() / dims))

    def heads(fn):  # of an N T H D that case() has taken for an image
        return lambda x: nchw(fn(nhwc_grad(x)))

    def rotate_half(x, theta, dims):  # Llama's
        a = angles(x.shape[1], dims, theta)[:, None, :].repeat(1, 1, 2)
        turned, rest = x[..., :dims], x[..., dims:]
        half = torch.cat((-turned[..., dims // 2 :], turned[..., : dims // 2]), -1)
        return torch.cat((turned * a.cos() + half * a.sin(), rest), -1)

    def rotate_pairs(x, theta):  # as complex numbers
        a = angles(x.shape[1], x.shape[-1], theta)[:, None, :]
        z = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous()) * torch.polar(torch.ones_like(a), a)
        return torch.view_as_real(z).flatten(-2)

    def waves(x):
        a = angles(x.shape[1], x.shape[2], 10000.0)
        return x + torch.stack((a.sin(), a.cos()), -1).flatten(1)

    o.case("rope", heads(lambda x: rotate_half(x, 10000.0, 8)), o.normal(2, 7, 3, 8))
    o.case("rope of a part", heads(lambda x: rotate_half(x, 10000.0, 4)), o.normal(2, 7, 3, 10))
    o.case("rope interleaved", heads(lambda x: rotate_pairs(x, 500.0)), o.normal(2, 7, 3, 8))
    o.case("position", waves, o.normal(2, 9, 12))
    o.cross_entropy("xent of places", (2, 5), 11, 0.0, True)
    o.cross_entropy("xent of places smoothing", (3, 2, 3), 7, 0.1, True)


def make_losses():
    """Rows' losses, their sums, and the gradient; every third row is padding. LOSS in sums is weighted."""
    rng = torch.Generator().manual_seed(4)
    weight = 0.5
    labels = lambda *shape: (torch.rand(*shape, generator=rng) < 0.4).float()
    numbers = lambda *shape: torch.randn(*shape, generator=rng)
    bce = F.binary_cross_entropy_with_logits
    cases = {
        "mse": (F.mse_loss, numbers, 2, (7, 5)),
        "l1": (F.l1_loss, numbers, 2, (9,)),
        "huber": (lambda x, t, reduction: F.huber_loss(x, t, reduction=reduction, delta=0.8), numbers, 2, (8, 3, 2)),
        "bce": (bce, labels, 2, (7, 6)),
        "bce weighted": (
            lambda x, t, reduction: bce(x, t, reduction=reduction, pos_weight=torch.tensor(2.5).double()),
            labels,
            2,
            (7, 6),
        ),
        "bce far": (bce, labels, 60, (7, 6)),
    }
    with h5py.File("loss.h5", "w") as f:
        for name, (fn, targets, spread, shape) in cases.items():
            group = f.create_group(name)
            x, t = torch.randn(*shape, generator=rng) * spread, targets(*shape)
            valid = torch.ones(shape[0], dtype=torch.int32)
            valid[1::3] = 0
            z, y = x.double().requires_grad_(), t.double()
            rows = fn(z, y, reduction="none").reshape(shape[0], -1).mean(1) * valid
            (rows.sum() * weight * LOSS_WEIGHT * LOSS_SCALE).backward()
            d, flat = (z.detach() - y).reshape(shape[0], -1), y.reshape(shape[0], -1)
            if targets is numbers:
                sums = [d.square(), d.abs(), flat, flat.square()]
            else:
                said, true = z.detach().reshape(shape[0], -1) > 0, flat > 0.5
                sums = [said == true, said & true, said != true, (said == true).all(1, keepdim=True)]
            sums = [(s.double().mean(1) * valid).sum() for s in sums]
            save(group, "in0", x)
            save(group, "in1", t)
            save(group, "in2", valid, np.int32)
            save(group, "out", rows.detach())
            save(group, "grad0", z.grad)
            save(group, "metrics", torch.stack([rows.detach().sum() * weight, valid.sum().double(), *sums]))


STEPS = 5


def make_optim():
    """Two parameters, the second without decay, over five steps with a changing rate."""
    rng = torch.Generator().manual_seed(2)
    rates = [0.1, 0.05, 0.1, 0.02, 0.01]
    with h5py.File("optim.h5", "w") as f:
        start = [torch.randn(n, generator=rng) for n in (70, 33)]
        grads = [[torch.randn(n, generator=rng) * 0.3 for n in (70, 33)] for _ in range(STEPS)]
        save(f, "start", torch.cat(start))
        save(f, "grad", torch.stack([torch.cat(g) for g in grads]))
        save(f, "rate", torch.tensor(rates))
        rules = {
            "sgd": (torch.optim.SGD, {}, 0.0, 0.0),
            "sgd decay": (torch.optim.SGD, {}, 0.1, 0.0),
            "momentum": (torch.optim.SGD, {"momentum": 0.9}, 0.0, 0.0),
            "momentum decay": (torch.optim.SGD, {"momentum": 0.9}, 0.1, 0.0),
            "momentum clipped": (torch.optim.SGD, {"momentum": 0.9}, 0.1, 0.5),
            "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, 0.1, 0.0),
            "adamw": (torch.optim.AdamW, {"betas": (0.9, 0.99), "eps": 1e-6}, 0.0, 0.0),
            "adamw decay": (torch.optim.AdamW, {"betas": (0.9, 0.99), "eps": 1e-6}, 0.1, 0.0),
            "adamw clipped": (torch.optim.AdamW, {"betas": (0.9, 0.99), "eps": 1e-6}, 0.1, 0.5),
        }
        for name, (kind, options, decay, clip) in rules.items():
            w = [nn.Parameter(t.double().clone()) for t in start]
            optim = kind(
                [{"params": [w[0]], "weight_decay": decay}, {"params": [w[1]], "weight_decay": 0.0}], lr=1.0, **options
            )
            ema = [t.detach().clone() for t in w]
            trace, averages, norms = [], [], []
            for step in range(STEPS):
                for p, g in zip(w, grads[step]):
                    p.grad = g.double().clone()
                norms.append(nn.utils.clip_grad_norm_(w, clip if clip > 0 else 1e30))
                for group in optim.param_groups:
                    group["lr"] = rates[step]
                optim.step()
                for e, p in zip(ema, w):
                    e.lerp_(p.detach(), 0.1)
                trace.append(torch.cat([p.detach() for p in w]).clone())
                averages.append(torch.cat(ema).clone())
            group = f.create_group(name)
            save(group, "weight", torch.stack(trace))
            save(group, "ema", torch.stack(averages))
            save(group, "norm", torch.stack(norms))


class Update:
    """An optimizer that PyTorch has not, by its definition: step(w, g, state, lr, decay, t) changes w and state."""

    def __init__(self, step, **options):
        self.step, self.options, self.state = step, options, {}

    def update(self, i, w, g, lr, decay, t):
        self.step(w, g, self.state.setdefault(i, {}), lr=lr, decay=decay, t=t, **self.options)


def zeros(state, name, like):
    return state.setdefault(name, torch.zeros_like(like))


def rmsprop_tf(w, g, state, lr, decay, t, alpha=0.9, eps=1e-10, momentum=0.0, centered=False):
    """timm's RMSpropTF: the mean square starts at 1, eps within the root, the rate within the velocity."""
    g = g + decay * w
    s = state.setdefault("s", torch.ones_like(w))
    s += (1 - alpha) * (g * g - s)
    if centered:
        m = zeros(state, "m", w)
        m += (1 - alpha) * (g - m)
        s = s - m * m
    v = zeros(state, "v", w)
    v.mul_(momentum).add_(lr * g / (s + eps).sqrt())
    w -= v


def lamb(w, g, state, lr, decay, t, betas=(0.9, 0.999), eps=1e-6, trust_clip=False):
    """timm's Lamb, after apex' FusedLAMB."""
    m, v = zeros(state, "m", w), zeros(state, "v", w)
    m.lerp_(g, 1 - betas[0])
    v.lerp_(g * g, 1 - betas[1])
    u = (m / (1 - betas[0] ** t)) / ((v / (1 - betas[1] ** t)).sqrt() + eps) + decay * w
    ratio = 1.0
    if decay > 0 and w.norm() > 0 and u.norm() > 0:
        ratio = w.norm() / u.norm()
        ratio = min(ratio, 1.0) if trust_clip else ratio
    w -= lr * ratio * u


def lars(w, g, state, lr, decay, t, momentum=0.9, trust=1e-3, eps=1e-8, trust_clip=False):
    """timm's Lars; with trust_clip LARC."""
    if decay > 0:
        ratio = trust * w.norm() / (g.norm() + decay * w.norm() + eps)
        ratio = min(ratio / lr, 1.0) if trust_clip else ratio
        g = ratio * (g + decay * w)
    v = zeros(state, "v", w)
    v.mul_(momentum).add_(g)
    w -= lr * v


def lion(w, g, state, lr, decay, t, betas=(0.9, 0.99)):
    m = zeros(state, "m", w)
    w *= 1 - lr * decay
    w -= lr * (betas[0] * m + (1 - betas[0]) * g).sign()
    m.lerp_(g, 1 - betas[1])


class Muon:
    """The first parameter by PyTorch's Muon, as it is or, `exact`, with its bfloat16 read as the parameter's own type,
    the others by AdamW at `ratio` times its rate. tall: as a matrix of 20 rows."""

    def __init__(self, groups, ratio, exact=True, tall=False, **options):
        (self.first,) = groups[0]["params"]
        self.matrix = nn.Parameter(self.first.data.view(20, 6) if tall else self.first.data)
        self.exact, self.ratio, self.param_groups = exact, ratio, [{"lr": 0.0}]
        self.muon = torch.optim.Muon([self.matrix], weight_decay=groups[0]["weight_decay"], **options)
        self.adam = torch.optim.AdamW(groups[1:], betas=(0.9, 0.99), eps=1e-6)

    def step(self):
        lr = self.param_groups[0]["lr"]
        self.matrix.grad = self.first.grad.view_as(self.matrix)
        self.muon.param_groups[0]["lr"] = lr
        for group in self.adam.param_groups:
            group["lr"] = lr * self.ratio
        theirs = _muon._zeropower_via_newtonschulz
        if self.exact:
            names = dict(vars(_muon))
            exec(inspect.getsource(theirs).replace("torch.bfloat16", "grad.dtype"), names)
            _muon._zeropower_via_newtonschulz = names["_zeropower_via_newtonschulz"]
        self.muon.step()
        _muon._zeropower_via_newtonschulz = theirs
        self.adam.step()


def optimizer_rules():
    """Name: what makes it, rate, decay of the first parameter, clip norm. The names and figures are the test's too."""
    O = torch.optim
    adam = {"betas": (0.9, 0.99), "eps": 1e-6}
    return {
        "sgd": (lambda p: O.SGD(p, lr=1), 0.1, 0.1, 0.0),
        "momentum": (lambda p: O.SGD(p, lr=1, momentum=0.9), 0.1, 0.1, 2.0),
        "nesterov": (lambda p: O.SGD(p, lr=1, momentum=0.9, nesterov=True), 0.1, 0.1, 2.0),
        "adam": (lambda p: O.Adam(p, lr=1, **adam), 0.05, 0.0, 0.0),
        "adam decay": (lambda p: O.Adam(p, lr=1, **adam), 0.05, 0.1, 2.0),
        "adamw": (lambda p: O.AdamW(p, lr=1, **adam), 0.05, 0.0, 0.0),
        "adamw decay": (lambda p: O.AdamW(p, lr=1, **adam), 0.05, 0.1, 2.0),
        "rmsprop": (lambda p: O.RMSprop(p, lr=1), 0.01, 0.1, 0.0),
        "rmsprop momentum": (lambda p: O.RMSprop(p, lr=1, alpha=0.9, momentum=0.8), 0.01, 0.1, 2.0),
        "rmsprop centered": (lambda p: O.RMSprop(p, lr=1, momentum=0.8, centered=True), 0.01, 0.0, 0.0),
        "rmsprop_tf": (lambda p: Update(rmsprop_tf), 0.01, 0.1, 0.0),
        "rmsprop_tf momentum": (lambda p: Update(rmsprop_tf, momentum=0.9, eps=1e-3), 0.01, 0.1, 2.0),
        "rmsprop_tf centered": (lambda p: Update(rmsprop_tf, momentum=0.9, eps=1e-3, centered=True), 0.01, 0.0, 0.0),
        "adagrad": (lambda p: O.Adagrad(p, lr=1), 0.1, 0.0, 0.0),
        "adagrad decay": (lambda p: O.Adagrad(p, lr=1, lr_decay=0.1), 0.1, 0.1, 2.0),
        "lamb": (lambda p: Update(lamb), 0.05, 0.1, 0.0),
        "lamb clipped": (lambda p: Update(lamb, trust_clip=True), 0.05, 0.1, 2.0),
        "lars": (lambda p: Update(lars, trust=0.02), 2.0, 0.1, 0.0),
        "lars clipped": (lambda p: Update(lars, trust=0.1, trust_clip=True), 0.1, 0.1, 2.0),
        "lion": (lambda p: Update(lion), 0.01, 0.1, 0.0),
        "adafactor": (lambda p: O.Adafactor(p, lr=1), 0.05, 0.1, 0.0),
        "adafactor clipped": (
            lambda p: O.Adafactor(p, lr=1, beta2_decay=-0.5, eps=(1e-3, 1.5), d=1.05), 0.5, 0.0, 2.0
        ),
        "lion clipped": (lambda p: Update(lion, betas=(0.8, 0.99)), 0.01, 0.0, 2.0),
        "muon": (lambda p: Muon(p, 0.25), 0.02, 0.1, 0.0),
        "muon bfloat16": (lambda p: Muon(p, 0.25, exact=False), 0.02, 0.1, 0.0),
        "muon tall": (lambda p: Muon(p, 0.25, tall=True, momentum=0.8), 0.02, 0.1, 2.0),
        "muon match": (lambda p: Muon(p, 1.0, adjust_lr_fn="match_rms_adamw", nesterov=False), 0.02, 0.1, 2.0),
        "muon spectral": (lambda p: Muon(p, 1.0, adjust_lr_fn="spectral_unclamped"), 0.02, 0.0, 0.0),
    }


def make_optimizers():
    """A matrix, and a vector without decay, over twenty steps with a changing rate."""
    rng = torch.Generator().manual_seed(4)
    shapes, seen = ((6, 20), (33,)), (1, 5, 10, 20)
    factors = [(1.0, 0.5, 0.8)[step % 3] for step in range(seen[-1])]
    with h5py.File("optimizers.h5", "w") as f:
        start = [torch.randn(*n, generator=rng) for n in shapes]
        grads = [[torch.randn(*n, generator=rng) * 0.3 for n in shapes] for _ in factors]
        flat = lambda list: torch.cat([t.detach().flatten() for t in list])
        save(f, "start", flat(start))
        save(f, "grad", torch.stack([flat(g) for g in grads]))
        save(f, "factor", torch.tensor(factors))
        for name, (make, rate, decay, clip) in optimizer_rules().items():
            w = [nn.Parameter(t.double().clone()) for t in start]
            decays = (decay, 0.0)
            optim = make([{"params": [p], "weight_decay": d} for p, d in zip(w, decays)])
            trace = []
            for step, factor in enumerate(factors):
                for p, g in zip(w, grads[step]):
                    p.grad = g.double().clone()
                if clip > 0:
                    nn.utils.clip_grad_norm_(w, clip)
                lr = float(np.float32(rate) * np.float32(factor))
                if isinstance(optim, Update):
                    with torch.no_grad():
                        for i, (p, d) in enumerate(zip(w, decays)):
                            optim.update(i, p, p.grad, lr, d, step + 1)
                else:
                    for group in optim.param_groups:
                        group["lr"] = lr
                    optim.step()
                if step + 1 in seen:
                    trace.append(flat(w).clone())
            save(f, name, torch.stack(trace))


class Block(nn.Module):
    def __init__(self, c, k, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c, k, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(k)
        self.conv2 = nn.Conv2d(k, k, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(k)
        self.downsample = None
        if stride != 1 or c != k:
            self.downsample = nn.Sequential(nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


class TinyResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Block(8, 8, 1), Block(8, 8, 1))
        self.layer2 = nn.Sequential(Block(8, 16, 2), Block(16, 16, 1))
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(x.mean((2, 3)))


def save_model(group, model):
    for name, t in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            save(group, name, nhwc(t))


def make_resnet():
    torch.manual_seed(3)
    model = TinyResNet()
    images = torch.randint(0, 256, (4, 8, 16, 16, 3))
    labels = torch.randint(0, 10, (4, 8))
    with h5py.File("resnet.h5", "w") as f:
        save_model(f.create_group("start"), model)
        save(f, "images", images.flatten(0, 1), np.uint8)
        save(f, "labels", labels.flatten(), np.int32)
        decay = [p for p in model.parameters() if p.dim() > 1]
        rest = [p for p in model.parameters() if p.dim() == 1]
        optim = torch.optim.SGD(
            [{"params": decay, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}], lr=0.01, momentum=0.9
        )
        losses = []
        for step in range(20):
            x = nchw((images[step % 4] / 255 - 0.5) / 0.25)
            loss = F.cross_entropy(model(x), labels[step % 4], label_smoothing=0.1)
            optim.zero_grad()
            loss.backward()
            optim.step()
            losses.append(loss.detach())
        save(f, "loss", torch.stack(losses))
        save_model(f.create_group("final"), model)
        model.eval()
        with torch.no_grad():
            save(f, "eval_logits", model(nchw((images[0] / 255 - 0.5) / 0.25)))


def make_regress():
    """Twenty steps of a small network on numbers, with momentum and MSE; then evaluation."""
    torch.manual_seed(5)
    x = torch.randn(70, 13)
    y = (x @ torch.randn(13, 1) + 0.5 * torch.sin(3 * x[:, :1]) + 2).detach()
    model = nn.Sequential()
    model.add_module("hidden", nn.Linear(13, 16))
    model.add_module("relu", nn.ReLU())
    model.add_module("out", nn.Linear(16, 1))
    with h5py.File("regress.h5", "w") as f:
        save(f, "x", x)
        save(f, "y", y)
        save_model(f.create_group("start"), model)
        model = model.double()
        optim = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        losses, rmse = [], []
        for step in range(20):
            rows = [(step * 16 + i) % 64 for i in range(16)]
            loss = F.mse_loss(model(x[rows].double()), y[rows].double())
            optim.zero_grad()
            loss.backward()
            optim.step()
            losses.append(loss.detach())
            rmse.append(loss.detach().sqrt())
        save(f, "loss", torch.stack(losses))
        save(f, "rmse", torch.stack(rmse))
        save_model(f.create_group("final"), model)
        with torch.no_grad():
            d, t = model(x.double()) - y.double(), y.double()
        r2 = 1 - d.square().sum() / (t - t.mean()).square().sum()
        save(f, "eval", torch.stack([d.square().mean(), d.square().mean().sqrt(), d.abs().mean(), r2]))


def by_rows(t):
    """States [layers * directions, B, H] as [B, layers * directions * H]."""
    return t.permute(1, 0, 2).flatten(1)


def make_recurrent():
    """Stacks of recurrent layers: outputs, last states, and gradients of sum(out r + h rh + c rc). Names are the test's."""
    rng = torch.Generator().manual_seed(6)
    torch.manual_seed(6)
    normal = lambda *shape: torch.randn(*shape, generator=rng)
    cases = {
        "lstm": (nn.LSTM(5, 7, batch_first=True), False, False),
        "lstm states": (nn.LSTM(5, 6, bias=False, batch_first=True), True, False),
        "lstm stack": (nn.LSTM(9, 10, num_layers=3, bidirectional=True, batch_first=True), True, True),
        "lstm lengths": (nn.LSTM(4, 17, batch_first=True), False, True),
        "gru": (nn.GRU(5, 7, batch_first=True), False, False),
        "gru stack": (nn.GRU(9, 11, num_layers=2, bidirectional=True, batch_first=True), True, True),
        "gru deep": (nn.GRU(3, 5, num_layers=3, bias=False, batch_first=True), True, False),
        "rnn": (nn.RNN(5, 7, batch_first=True), True, False),
        "rnn stack": (nn.RNN(9, 8, num_layers=2, bidirectional=True, batch_first=True), True, True),
        "rnn relu": (nn.RNN(6, 9, num_layers=2, nonlinearity="relu", batch_first=True), False, True),
    }
    b, t = 6, 5
    lengths = torch.tensor([3, 5, 1, 5, 2, 4], dtype=torch.int32)
    with h5py.File("recurrent.h5", "w") as f:
        save(f, "lengths", lengths, np.int32)
        for name, (layer, with_states, with_lengths) in cases.items():
            group = f.create_group(name)
            is_lstm, states = isinstance(layer, nn.LSTM), layer.num_layers * (1 + layer.bidirectional)
            # rounded to floats first, which is what the test reads
            x = normal(b, t, layer.input_size).double().requires_grad_()
            begin = [normal(states, b, layer.hidden_size).double().requires_grad_() for _ in range(1 + is_lstm)]
            layer = layer.double()
            source = nn.utils.rnn.pack_padded_sequence(x, lengths, True, False) if with_lengths else x
            given = (tuple(begin) if is_lstm else begin[0]) if with_states else None
            out, last = layer(source, given)
            if with_lengths:
                out, _ = nn.utils.rnn.pad_packed_sequence(out, True, total_length=t)
            last = last if is_lstm else (last,)
            weights = [normal(*out.shape).double()] + [normal(*s.shape).double() for s in last]
            sum((a * w).sum() for a, w in zip([out, *last], weights)).backward()
            save(group, "x", x.detach())
            save(group, "grad_x", x.grad)
            save(group, "out", out.detach())
            save(group, "r_out", weights[0])
            for i, s in enumerate("hc"[: 1 + is_lstm]):
                save(group, s, by_rows(last[i].detach()))
                save(group, f"r_{s}", by_rows(weights[1 + i]))
                if with_states:
                    save(group, f"{s}0", by_rows(begin[i].detach()))
                    save(group, f"grad_{s}0", by_rows(begin[i].grad))
            for param, value in layer.named_parameters():
                save(group, f"l.{param}", value.detach())
                save(group, f"grad_l.{param}", value.grad)


def numbers_of(name, shape):
    """number_of of tests/api/test_recurrent.c."""
    seed = 0
    for c in name.encode():
        seed = (seed * 31 + c) % 1009
    i = torch.arange(int(np.prod(shape)), dtype=torch.float64)
    return (0.4 * torch.sin(0.731 * i + seed)).float().double().reshape(shape)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 4)

    def loss(self):
        lengths, labels = torch.tensor([7, 3, 5, 1, 7, 2]), torch.tensor([0, 1, 2, 3, 1, 0])
        x = nn.utils.rnn.pack_padded_sequence(numbers_of("x", (6, 7, 3)), lengths, True, False)
        _, (h, _) = self.lstm(x)
        return F.cross_entropy(self.head(torch.cat([h[-2], h[-1]], 1)), labels)


class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(3, 5, num_layers=2, batch_first=True)
        self.decoder = nn.LSTM(2, 5, num_layers=2, batch_first=True)
        self.gru = nn.GRU(5, 4, batch_first=True)
        self.rnn = nn.RNN(4, 6, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 2)

    def loss(self):
        _, states = self.encoder(numbers_of("x", (6, 7, 3)))
        h, _ = self.decoder(numbers_of("z", (6, 7, 2)), states)
        y = self.head(self.rnn(self.gru(h)[0])[0])
        return F.mse_loss(y, numbers_of("y", (6, 7, 2)))


def print_recurrent_losses():
    """Of ten steps: the figures of tests/api/test_recurrent.c."""
    makers = {
        "CLASS_LOSSES": (Classifier, lambda p: torch.optim.Adam(p, lr=0.02)),
        "SEQUENCE_LOSSES": (Translator, lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9)),
    }
    for name, (make, optimizer) in makers.items():
        model = make().double()
        with torch.no_grad():
            for param, value in model.named_parameters():
                value.copy_(numbers_of(param, value.shape))
        optim, losses = optimizer(model.parameters()), []
        for _ in range(10):
            loss = model.loss()
            optim.zero_grad()
            loss.backward()
            optim.step()
            losses.append(f"{loss.item():.9f}")
        print(name, ", ".join(losses))


class PlacesModel(nn.Module):
    """The language model of tests/api/test_places.c."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(11, 12, padding_idx=0)
        self.wpe = nn.Embedding(9, 12)
        self.ln, self.fc, self.gn, self.rms = nn.LayerNorm(12), nn.Linear(12, 12), nn.GroupNorm(3, 12), nn.RMSNorm(12, eps=1e-6)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        angles = torch.outer(torch.arange(7).double(), 1e4 ** (-torch.arange(0, 12, 2).double() / 12))
        x = x + torch.stack((angles.sin(), angles.cos()), -1).flatten(1)
        y = self.fc(self.ln(x))
        x = self.rms(x + self.gn(y.transpose(1, 2)).transpose(1, 2)).unflatten(-1, (3, 4))
        turn = torch.outer(torch.arange(7).double(), 1e4 ** (-torch.arange(0, 4, 2).double() / 4))[:, None, :].repeat(1, 1, 2)
        x = x * turn.cos() + torch.cat((-x[..., 2:], x[..., :2]), -1) * turn.sin()
        return x.flatten(2) @ self.wte.weight.T


def print_places_losses():
    """Of ten steps: the figures of tests/api/test_places.c."""

    net = PlacesModel().double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(numbers_of(name, p.shape))
    tokens = torch.tensor([[(n * 5 + t * 3) % 11 for t in range(7)] for n in range(5)])
    label = torch.tensor(
        [[(int(tokens[n, t]) * 3 + 1) % 11 if t < n * 2 % 8 else -1 for t in range(7)] for n in range(5)]
    )
    optim, losses = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9), []
    for _ in range(10):
        loss = F.cross_entropy(net(tokens).flatten(0, 1), label.flatten(), ignore_index=-1)
        optim.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.2)
        optim.step()
        losses.append(f"{loss.item():.9f}")
    print("PLACES_LOSSES", ", ".join(losses))


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    make_ops()
    make_eltwise()
    make_sequences()
    make_attention()
    make_losses()
    make_optim()
    make_optimizers()
    make_resnet()
    make_regress()
    make_recurrent()
    print_recurrent_losses()
    print_places_losses()
