#!/usr/bin/env python3
"""Makes augment.h5, the golden file of tests/data/test_edit.c and tests/cpu/test_golden_mix.c, with torchvision and timm:
operations on pixels, the magnitudes of policies, erased and mixed images, losses of mixed labels.

Run it in this folder with torch, torchvision, timm and h5py installed; only needed when a case is added.
"""
import math

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

H, W = 22, 30
rng = np.random.default_rng(3)


def photo(channels, low=0, high=256):
    """Smooth colours with noise: [H, W, channels]."""
    y, x = np.mgrid[0:H, 0:W]
    waves = [np.sin(0.2 * (c + 1) * x + 0.3 * y + c) * 90 + 128 for c in range(channels)]
    noisy = np.stack(waves, -1) + rng.normal(0, 20, (H, W, channels))
    return np.clip(low + (high - low) / 256 * noisy, low, high - 1).astype(np.uint8)


IMAGES = {"colour": photo(3), "grey": photo(1), "dull": photo(3, 60, 150), "flat": np.full((H, W, 3), 77, np.uint8)}
degrees = lambda shear: math.degrees(math.atan(shear))
shear = lambda image, x, y, fill: V.affine(image, 0.0, [0, 0], 1.0, [degrees(x), degrees(y)], fill=fill, center=[0, 0])
shift = lambda image, x, y, fill: V.affine(image, 0.0, [int(x), int(y)], 1.0, [0.0, 0.0], fill=fill)
# In the order of dt_edit_kind.
EDITS = {
    "brightness": (lambda i, v, f: V.adjust_brightness(i, v), (0.0, 0.37, 1.9)),
    "contrast": (lambda i, v, f: V.adjust_contrast(i, v), (0.0, 0.41, 1.9)),
    "saturation": (lambda i, v, f: V.adjust_saturation(i, v), (0.0, 0.35, 1.87)),
    "hue": (lambda i, v, f: V.adjust_hue(i, v), (-0.5, -0.13, 0.08, 0.5)),
    "grayscale": (lambda i, v, f: V.rgb_to_grayscale(i, i.shape[0]), (0.0,)),
    "sharpness": (lambda i, v, f: V.adjust_sharpness(i, v), (0.0, 0.27, 1.99)),
    "posterize": (lambda i, v, f: V.posterize(i, int(v)), (0.0, 2.0, 5.0, 8.0)),
    "solarize": (lambda i, v, f: V.solarize(i, v), (0.0, 93.5, 255.0)),
    "autocontrast": (lambda i, v, f: V.autocontrast(i), (0.0,)),
    "equalize": (lambda i, v, f: V.equalize(i), (0.0,)),
    "shear_x": (lambda i, v, f: shear(i, v, 0, f), (-0.99, 0.13)),
    "shear_y": (lambda i, v, f: shear(i, 0, v, f), (-0.3, 0.99)),
    "shift_x": (lambda i, v, f: shift(i, v, 0, f), (-7.0, 3.0, 40.0)),
    "shift_y": (lambda i, v, f: shift(i, 0, v, f), (-3.0, 9.0)),
    "rotate": (lambda i, v, f: V.rotate(i, v, fill=f), (-135.0, -11.0, 0.0, 30.0)),
}
# Names of torchvision's list by that of the edit, and how it takes a magnitude.
SPACE = {
    "ShearX": ("shear_x", lambda m: m),
    "ShearY": ("shear_y", lambda m: m),
    "TranslateX": ("shift_x", int),
    "TranslateY": ("shift_y", int),
    "Rotate": ("rotate", lambda m: m),
    "Brightness": ("brightness", lambda m: 1 + m),
    "Color": ("saturation", lambda m: 1 + m),
    "Contrast": ("contrast", lambda m: 1 + m),
    "Sharpness": ("sharpness", lambda m: 1 + m),
    "Posterize": ("posterize", int),
    "Solarize": ("solarize", lambda m: 255.0 * m),
    "AutoContrast": ("autocontrast", None),
    "Equalize": ("equalize", None),
}


def save_edits(file):
    for name, image in IMAGES.items():
        file[f"image/{name}"] = image
        tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)
        for kind, (edit, values) in EDITS.items():
            for i, value in enumerate(values if name == "colour" else values[:1]):
                fill = 0 if i == 0 else 130
                out = edit(tensor, value, [float(fill)] * tensor.shape[0] if fill else None)
                data = file.create_dataset(f"edit/{name}/{kind}/{i}", data=out.permute(1, 2, 0).numpy())
                file[f"value/{name}/{kind}/{i}"] = np.float32([value, fill])


def save_policies(file, bins=31):
    """All values of an operation by bin, without and with the sign: [2, bins]."""
    for name, policy in (("randaugment", v2.RandAugment), ("trivialaugment", v2.TrivialAugmentWide)):
        space = policy._AUGMENTATION_SPACE
        assert [k for k in space if k != "Identity"] == list(SPACE)
        for key, (kind, value) in SPACE.items():
            magnitudes, signed = space[key]
            m = magnitudes(bins, 224, 160)
            if value is None:
                rows = np.zeros((2, bins))
            else:
                plain = [float(v) for v in m]
                rows = np.array([[value(v) for v in plain], [value(-v if signed else v) for v in plain]])
            file[f"policy/{name}/{kind}"] = np.float32(rows)


MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]


def save_mixed(file, n=5):
    """Rows of a micro-batch: erased, then mixed with the row as far from the end."""
    images = rng.integers(0, 256, (n, 6, 7, 3), np.uint8)
    x = V.normalize(torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255, MEAN, STD)
    x[1] = V.erase(x[1], 1, 2, 3, 4, torch.zeros(1, 1, 1).double())
    x[3] = V.erase(x[3], 0, 0, 2, 5, torch.zeros(1, 1, 1).double())
    mixup = x * 0.3 + x.flip(0) * 0.7
    cutmix = x.clone()
    cutmix[:, :, 2:5, 3:7] = x.flip(0)[:, :, 2:5, 3:7]
    file["mixed/image"] = images
    for name, y in (("mixup", mixup), ("cutmix", cutmix)):
        file[f"mixed/{name}"] = np.float32(y.permute(0, 2, 3, 1).numpy())


def save_losses(file, n=6, k=9):
    logits = torch.from_numpy(rng.normal(0, 2, (n, k)))
    label = torch.from_numpy(rng.integers(0, k, n))
    label[4] = label[1]  # mixed with its own class
    file["loss/logits"], file["loss/label"] = np.float32(logits.numpy()), np.int32(label.numpy())
    for name, share, smoothing, loss in (
        ("cross_entropy", 0.3, 0.0, lambda x, t: F.cross_entropy(x, t, reduction="none")),
        ("cross_entropy_smooth", 0.8, 0.1, lambda x, t: F.cross_entropy(x, t, reduction="none")),
        ("bce", 0.3, 0.1, BinaryCrossEntropy(reduction="none")),
        ("bce_alone", 1.0, 0.1, BinaryCrossEntropy(reduction="none")),
        ("bce_threshold", 0.7, 0.1, BinaryCrossEntropy(target_threshold=0.2, reduction="none")),
    ):
        x = logits.clone().float().double().requires_grad_()
        rows = loss(x, mixup_target(label, k, share, smoothing).double())
        rows = rows.mean(1) if rows.dim() > 1 else rows
        rows.sum().backward()
        file[f"loss/{name}/rows"] = np.float32(rows.detach().numpy())
        file[f"loss/{name}/grad"] = np.float32(x.grad.numpy())
        file[f"loss/{name}/told"] = np.float32([share, smoothing, name.startswith("bce"), 0.2 * name.endswith("threshold")])


with h5py.File("augment.h5", "w", libver="latest") as file:
    save_edits(file)
    save_policies(file)
    save_mixed(file)
    save_losses(file)
