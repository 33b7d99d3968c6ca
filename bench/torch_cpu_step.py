"""Times PyTorch's training step on the CPU (forward, backward, SGD), to set beside `dtrain bench step`.

One JSON line per network, batch and memory format: samples per second of the median step and peak resident
memory of a process that does nothing else. Usage: torch_cpu_step.py [--threads 2] [--steps 10]
[--only NET:BATCH:FORMAT]"""
import argparse
import json
import resource
import subprocess
import sys
import time

CASES = [("resnet18", 128), ("quickstart", 128), ("quickstart", 64), ("quickstart", 32), ("mlp", 128), ("gpt", 16), ("lstm", 64),
         ("vit", 64), ("efficientnet", 32)]
FORMATS = ["contiguous", "channels_last"]


def resnet18(nn):
    """ResNet-18 for 32x32 images: 3x3 stem of stride 1, no max-pool."""

    class Block(nn.Module):
        def __init__(self, c_in, c_out, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(c_out)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(c_out)
            self.relu = nn.ReLU(inplace=True)
            self.skip = nn.Identity()
            if stride != 1 or c_in != c_out:
                self.skip = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

        def forward(self, x):
            y = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(y)) + self.skip(x))

    layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    c_in = 64
    for c_out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(c_in, c_out, stride), Block(c_out, c_out, 1)]
        c_in = c_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)), (3, 32, 32)


def quickstart(nn):
    def block(c_in, c_out, stride):
        return [nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]

    layers = []
    for c_in, c_out, stride in ((1, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2), (64, 128, 1)):
        layers += block(c_in, c_out, stride)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)), (1, 28, 28)


def mlp(nn):
    return nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)), (784,)


def block(nn, width, heads, causal):
    """A transformer's, normalised in front."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

        def forward(self, x):
            n, t, _ = x.shape
            q, k, v = self.qkv(x).view(n, t, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
            return self.out(y.transpose(1, 2).reshape(n, t, width))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Sequential(nn.LayerNorm(width), Attention())
            self.two = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x):
            x = x + self.one(x)
            return x + self.two(x)

    return Block()


class Words:
    """What is told of a text: as many words, as many of them at once."""

    def __init__(self, words, steps):
        self.words, self.steps = words, steps


def gpt(nn):
    import torch

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(1024, 384), nn.Parameter(0.02 * torch.randn(256, 384))
            self.body = nn.Sequential(*[block(nn, 384, 6, True) for _ in range(6)], nn.LayerNorm(384), nn.Linear(384, 1024, bias=False))

        def forward(self, x):
            return self.body(self.words(x) + self.places)

    return Gpt(), Words(1024, 256)


def lstm(nn):
    class Lstm(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.body, self.head = nn.Embedding(1024, 512), nn.LSTM(512, 512, 2, batch_first=True), nn.Linear(512, 1024)

        def forward(self, x):
            return self.head(self.body(self.words(x))[0])

    return Lstm(), Words(1024, 64)


def vit(nn):
    import torch

    class Vit(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.places = nn.Conv2d(3, 192, 4, 4), nn.Parameter(0.02 * torch.randn(64, 192))
            self.body, self.head = nn.Sequential(*[block(nn, 192, 3, False) for _ in range(12)], nn.LayerNorm(192)), nn.Linear(192, 10)

        def forward(self, x):
            return self.head(self.body(self.patches(x).flatten(2).transpose(1, 2) + self.places).mean(1))

    return Vit(), (3, 32, 32)


def efficientnet(nn):
    import torchvision

    return torchvision.models.efficientnet_b0(num_classes=10), (3, 64, 64)


def batch_of(batch, shape, memory_format):
    import torch

    if isinstance(shape, Words):
        return (torch.randint(0, shape.words, (batch, shape.steps)) for _ in range(2))
    x = torch.randn(batch, *shape)
    return (x.contiguous(memory_format=memory_format) if x.ndim == 4 else x), torch.randint(0, 10, (batch,))


def run_case(name, batch, form, threads, steps):
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net, shape = globals()[name](torch.nn)
    memory_format = torch.channels_last if form == "channels_last" else torch.contiguous_format
    net = net.to(memory_format=memory_format).train()
    x, y = batch_of(batch, shape, memory_format)
    if name in ("gpt", "lstm", "vit"):
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    times = []
    for step in range(steps + 2):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(x).flatten(0, -2), y.flatten()).backward()
        optimizer.step()
        if step >= 2:
            times.append(time.perf_counter() - start)
    times.sort()
    median = times[len(times) // 2]
    print(json.dumps({
        "peer": "pytorch", "version": torch.__version__, "net": name, "batch": batch, "format": form,
        "threads": threads, "steps": steps, "median_ms": round(median * 1e3, 3),
        "min_ms": round(times[0] * 1e3, 3), "samples_per_s": round(batch / median, 1),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--only", help="NET:BATCH:FORMAT, measured in this process")
    args = parser.parse_args()
    if args.only:
        name, batch, form = args.only.split(":")
        run_case(name, int(batch), form, args.threads, args.steps)
        return 0
    for name, batch in CASES:
        for form in FORMATS:  # one process each: the peak memory is that of the case
            command = [sys.executable, __file__, "--threads", str(args.threads), "--steps", str(args.steps),
                       "--only", f"{name}:{batch}:{form}"]
            subprocess.run(command, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
