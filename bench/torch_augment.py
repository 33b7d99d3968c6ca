#!/usr/bin/env python3
"""The other side of the augmentations of `dtrain bench data`: torchvision's transforms v2 on 224x224 u8 tensors.

    dtrain bench data --dump-jpeg DIR, then: torch_augment.py DIR [--seconds 2]

Crops of the files below DIR lie in memory; each transform runs on one thread, as a DataLoader worker does. Prints
microseconds an image."""
import argparse
import glob
import os
import time

import torch
import torchvision
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

TRANSFORMS = {
    "brightness 0.4": v2.ColorJitter(brightness=0.4),
    "contrast 0.4": v2.ColorJitter(contrast=0.4),
    "saturation 0.4": v2.ColorJitter(saturation=0.4),
    "hue 0.1": v2.ColorJitter(hue=0.1),
    "colour jitter, all four": v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "grayscale 1": v2.RandomGrayscale(1.0),
    "grayscale 0.2": v2.RandomGrayscale(0.2),
    "randaugment, 2 of 9": v2.RandAugment(2, 9),
    "trivialaugment": v2.TrivialAugmentWide(),
}


def measure(run, images, seconds):
    for image in images[:8]:
        run(image)
    begin, n = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        run(images[n % len(images)])
        n += 1
    return (time.perf_counter() - begin) / n * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dir")
    parser.add_argument("--seconds", type=float, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    files = sorted(glob.glob(os.path.join(args.dir, "**", "*.jpg"), recursive=True))[:256]
    crop = v2.RandomResizedCrop(224, antialias=True)
    images = [crop(decode_jpeg(read_file(f), mode=ImageReadMode.RGB)) for f in files]
    print(f"torchvision {torchvision.__version__}, torch {torch.__version__}, {len(images)} images, us an image")
    for name, transform in TRANSFORMS.items():
        print(f"{name:28} {measure(transform, images, args.seconds):10.1f}")


main()
