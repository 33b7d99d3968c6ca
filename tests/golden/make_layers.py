#!/usr/bin/env python3
"""Makes layers.h5 of tests/cpu/test_layers.c with PyTorch: layers that are made of several ops, or of one in several
ways, with their parameters.

Run it in this folder with torch and h5py installed; only needed when a case is added. Arrays are stored in dtrain's
layouts, channels last: N H W C, weights K R S C.
"""
import h5py
import torch
import torch.nn.functional as F

from make_golden import np, save


def first(t):
    """Channels last to PyTorch's place."""
    return t.movedim(-1, 1)


def last(t):
    return t.movedim(1, -1)


class Layers:
    """A case: inputs x, x1, ..., parameters l.<name>, the output y, and of r . y the gradient of each float."""

    def __init__(self, path, seed=21):
        self.file = h5py.File(path, "w")
        self.rng = torch.Generator().manual_seed(seed)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.rng)

    def whole(self, n, *shape):
        return torch.randint(0, n, shape, generator=self.rng)

    def case(self, name, fn, *inputs, **params):
        """fn(*inputs, **params), all as dtrain has them; a parameter a_b is l.a.b."""
        group = self.file.create_group(name)
        values = {f"x{i or ''}": t for i, t in enumerate(inputs)}
        values |= {f"l.{key.replace('_', '.')}": self.normal(*shape) / 3 for key, shape in params.items()}
        wide = {k: t.double().requires_grad_() if t.is_floating_point() else t for k, t in values.items()}
        x = [wide[f"x{i or ''}"] for i in range(len(inputs))]
        y = fn(*x, **{key: wide[f"l.{key.replace('_', '.')}"] for key in params})
        r = self.normal(*y.shape)
        if y.requires_grad:
            y.backward(r.double())
        values |= {"y": y, "r": r} | {f"grad_{k}": t.grad for k, t in wide.items() if t.is_floating_point()}
        for key, t in values.items():
            save(group, key, t.detach(), np.float32 if t.is_floating_point() else np.int32)


def make_squeeze_excite(o):
    def excite(activation, gate):
        def fn(x, fc1_weight, fc1_bias, fc2_weight, fc2_bias):
            s = F.adaptive_avg_pool2d(first(x), 1)
            s = activation(F.conv2d(s, first(fc1_weight), fc1_bias))
            return last(gate(F.conv2d(s, first(fc2_weight), fc2_bias)) * first(x))

        return fn

    shapes = dict(fc1_weight=(3, 1, 1, 12), fc1_bias=(3,), fc2_weight=(12, 1, 1, 3), fc2_bias=(12,))
    o.case("squeeze_excite", excite(F.relu, torch.sigmoid), o.normal(3, 5, 4, 12), **shapes)
    o.case("squeeze_excite silu", excite(F.silu, torch.sigmoid), o.normal(2, 7, 7, 12), **shapes)
    o.case("squeeze_excite hard", excite(F.hardswish, F.hardsigmoid), o.normal(2, 3, 3, 12), **shapes)


def make_moves(o):
    def rows(axis):
        """index_select of each sample's own."""
        def fn(x, index):
            k = index.reshape(*x.shape[:axis], -1)
            y = torch.take_along_dim(x.reshape(*x.shape[:axis + 1], -1), k.unsqueeze(-1).long(), axis)
            return y.reshape(*index.shape, *x.shape[axis + 1:])

        return fn

    o.case("gather", rows(1), o.normal(3, 6, 4), o.whole(6, 3, 5))
    o.case("gather of images", rows(1), o.normal(2, 5, 3, 4), o.whole(5, 2, 2, 3))
    o.case("gather of the second", rows(2), o.normal(2, 3, 7, 4), o.whole(7, 2, 3, 9))
    o.case("gather numbers", rows(1), o.normal(4, 7), o.whole(7, 4, 2))
    o.case("one_hot", lambda x: F.one_hot(x, 6).double(), o.whole(6, 3, 5))
    o.case("slice", lambda x: x[:, 2:5], o.normal(2, 6, 4))
    o.case("slice to the end", lambda x: x[..., -3:], o.normal(2, 6, 4))
    o.case("pad", lambda x: F.pad(x, (0, 0, 2, 1)), o.normal(2, 3, 4))
    o.case("split", lambda x: x.split((3, 1, 4), -1)[0], o.normal(2, 3, 8))
    o.case("stack", lambda *x: torch.stack(x, 1), *(o.normal(2, 5, 4) for _ in range(3)))
    o.case("stack last", lambda *x: torch.stack(x, -1), *(o.normal(2, 5) for _ in range(2)))


def make_resample(o):
    def size(**kw):
        return lambda x: last(F.interpolate(first(x), **kw))

    image = 2, 5, 7, 4
    o.case("upsample", size(scale_factor=2), o.normal(*image))
    o.case("upsample by 3", size(scale_factor=3), o.normal(*image))
    o.case("upsample to a size", size(size=(7, 3)), o.normal(*image))
    o.case("upsample bilinear", size(scale_factor=2, mode="bilinear"), o.normal(*image))
    o.case("upsample bilinear to a size", size(size=(3, 13), mode="bilinear"), o.normal(*image))
    o.case("upsample corners", size(scale_factor=2, mode="bilinear", align_corners=True), o.normal(*image))
    o.case("upsample corners to a size", size(size=(2, 20), mode="bilinear", align_corners=True), o.normal(*image))
    o.case("adaptive_avgpool", lambda x: last(F.adaptive_avg_pool2d(first(x), (3, 2))), o.normal(*image))
    o.case("adaptive_avgpool larger", lambda x: last(F.adaptive_avg_pool2d(first(x), 9)), o.normal(*image))
    o.case("adaptive_maxpool", lambda x: last(F.adaptive_max_pool2d(first(x), (3, 2))), o.normal(*image))
    o.case("adaptive_maxpool ties", lambda x: last(F.adaptive_max_pool2d(first(x), 2)), o.normal(*image).round())
    o.case("global_maxpool", lambda x: F.adaptive_max_pool2d(first(x), 1).flatten(1), o.normal(*image))
    rows = o.normal(5, 3, 8)
    rows[1, 2] = 0
    o.case("normalize", lambda x: F.normalize(x, dim=-1), rows[:, :2])
    o.case("normalize by at least 1", lambda x: F.normalize(x, dim=-1, eps=1.0), rows / 4)
    o.case("cosine_similarity", lambda x, y: F.cosine_similarity(x, y, dim=-1), o.normal(5, 3, 8), o.normal(5, 3, 8))
    o.case("cosine_similarity of zeros", lambda x, y: F.cosine_similarity(x, y, dim=-1)[:, None], rows[1], rows[2])


def make_sides(o):
    """Convolutions and pools of one side and of three."""
    def conv(name, x, w, bias=False, **kw):
        fn = {3: F.conv1d, 5: F.conv3d}[len(x)]
        params = dict(weight=w) | (dict(bias=w[:1]) if bias else {})
        o.case(name, lambda x, weight, bias=None: last(fn(first(x), first(weight), bias, **kw)), o.normal(*x), **params)

    conv("conv1d", (2, 9, 6), (4, 3, 6), bias=True, padding=1)
    conv("conv1d stride", (2, 11, 5), (4, 4, 5), stride=3, padding=2)
    conv("conv1d dilated groups", (3, 10, 8), (6, 3, 4), bias=True, dilation=2, groups=2)
    conv("conv1d depthwise", (2, 9, 8), (8, 5, 1), padding=4, groups=8)
    conv("conv3d", (2, 4, 5, 6, 3), (4, 3, 3, 3, 3), bias=True, padding=1)
    conv("conv3d stride", (2, 7, 6, 9, 3), (4, 3, 3, 3, 3), stride=2, padding=1)
    conv("conv3d no pad", (1, 5, 5, 6, 4), (3, 2, 2, 2, 4), stride=3)
    conv("conv3d dilated groups", (1, 6, 7, 6, 4), (6, 3, 3, 3, 2), bias=True, padding=2, dilation=2, groups=2)
    conv("conv3d depthwise", (1, 4, 5, 5, 6), (6, 3, 3, 3, 1), padding=1, groups=6)
    conv("conv3d of one", (2, 3, 4, 5, 4), (6, 1, 1, 1, 4), bias=True)
    o.case("maxpool1d", lambda x: last(F.max_pool1d(first(x), 3, 2, 1)), o.normal(2, 8, 5))
    o.case("avgpool1d", lambda x: last(F.avg_pool1d(first(x), 3, 2, 1)), o.normal(2, 8, 5))
    o.case("maxpool3d", lambda x: last(F.max_pool3d(first(x), 2)), o.normal(2, 4, 7, 6, 5))
    o.case("maxpool3d ties", lambda x: last(F.max_pool3d(first(x), 3, 2, 1)), o.normal(2, 5, 6, 6, 3).round())
    o.case("avgpool3d", lambda x: last(F.avg_pool3d(first(x), 3, 2, 1)), o.normal(2, 5, 7, 6, 5))
    o.case("global_avgpool3d", lambda x: x.mean((1, 2, 3)), o.normal(2, 3, 4, 5, 6))
    o.case("global_avgpool1d", lambda x: x.mean(1), o.normal(2, 9, 6))
    o.case("global_maxpool1d", lambda x: F.adaptive_max_pool1d(first(x), 1)[..., 0], o.normal(2, 9, 6).round())


def make_bicubic(o):
    def size(**kw):
        return lambda x: last(F.interpolate(first(x), mode="bicubic", **kw))

    o.case("upsample bicubic", size(scale_factor=2), o.normal(2, 5, 7, 4))
    o.case("upsample bicubic to a size", size(size=(3, 13)), o.normal(2, 5, 7, 4))


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    o = Layers("layers.h5")
    make_squeeze_excite(o)
    make_moves(o)
    make_resample(o)
    make_sides(o)
    make_bicubic(o)
