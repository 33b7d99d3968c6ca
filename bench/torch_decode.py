#!/usr/bin/env python3
"""The other side of `dtrain bench data`: torchvision's decode_jpeg + RandomResizedCrop + flip on the same files.

    dtrain bench data ... (with a dump directory), then: torch_decode.py DIR [--seconds 3]

Reads every .jpg below DIR into memory, then decodes, crops, resizes and flips on one thread, as a DataLoader worker
does, and prints one JSON object with images per second. Without torchvision the two steps are measured with what
there is (Pillow), and the JSON says so."""
import argparse
import glob
import json
import os
import time


def torchvision_pipeline():
    import torch
    import torchvision
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    crop = v2.Compose([v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()])

    def load(path):
        return torch.frombuffer(bytearray(open(path, "rb").read()), dtype=torch.uint8)

    def run(item):
        return crop(decode_jpeg(item, mode=ImageReadMode.RGB))

    def decode_only(item):
        return decode_jpeg(item, mode=ImageReadMode.RGB)

    return f"torchvision {torchvision.__version__}", load, run, decode_only


def pillow_pipeline():
    import io
    import math
    import random
    import PIL
    from PIL import Image

    def load(path):
        return open(path, "rb").read()

    def decode_only(item):
        return Image.open(io.BytesIO(item)).convert("RGB")

    def run(item):
        image = decode_only(item)
        width, height = image.size
        box = (0, 0, width, height)
        for _ in range(10):
            area = width * height * random.uniform(0.08, 1)
            ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                x, y = random.randint(0, width - w), random.randint(0, height - h)
                box = (x, y, x + w, y + h)
                break
        image = image.resize((224, 224), Image.BILINEAR, box)
        return image.transpose(Image.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image

    return f"Pillow {PIL.__version__}", load, run, decode_only


def rate(run, items, seconds):
    for item in items[:32]:
        run(item)
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        run(items[n % len(items)])
        n += 1
    return n / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("--seconds", type=float, default=3)
    arguments = parser.parse_args()
    paths = sorted(glob.glob(os.path.join(arguments.directory, "**", "*.jpg"), recursive=True))
    if not paths:
        parser.error(f"no .jpg files below {arguments.directory}")
    try:
        name, load, run, decode_only = torchvision_pipeline()
    except ImportError:
        name, load, run, decode_only = pillow_pipeline()
    items = [load(path) for path in paths]
    print(json.dumps({
        "peer": name,
        "files": len(paths),
        "bytes_per_file": sum(os.path.getsize(p) for p in paths) // len(paths),
        "images_per_s": round(rate(run, items, arguments.seconds), 1),
        "decode_only_images_per_s": round(rate(decode_only, items, arguments.seconds), 1),
    }))


if __name__ == "__main__":
    main()
