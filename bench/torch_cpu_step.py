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

CASES = [("resnet18", 128), ("quickstart", 128), ("quickstart", 64), ("quickstart", 32)]
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


def run_case(name, batch, form, threads, steps):
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net, shape = {"resnet18": resnet18, "quickstart": quickstart}[name](torch.nn)
    memory_format = torch.channels_last if form == "channels_last" else torch.contiguous_format
    net = net.to(memory_format=memory_format).train()
    x = torch.randn(batch, *shape).contiguous(memory_format=memory_format)
    y = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    times = []
    for step in range(steps + 2):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(x), y).backward()
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
