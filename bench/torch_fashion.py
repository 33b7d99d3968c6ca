"""PyTorch's side of the Fashion-MNIST runs: trains the network and recipe of a dtrain configuration.

usage: torch_fashion.py [--config configs/fashion-fast.toml] [--train DIR] [--val DIR] [--seeds 1,2,3] [--epochs N]
                        [--compile none|default|reduce-overhead] [--precision fp32|tf32|fp16|bf16] [--target 94]

Reads [[model.layers]], or has timm's vit_tiny (any patch) and torchvision's efficientnet_b0; crop "pad", "random_resized" or
"none", sgd, momentum, nesterov and adamw, clipping; refuses what it does not know. The data set is
resident on the device as bytes, augmentation is one gather there, the network is channels-last under autocast, the
optimizer fused. Compilation and the search for convolution algorithms happen in a few steps that are then undone: their
time is stated apart, and every seed starts from fresh weights. Prints a line per seed and one JSON line.
"""
import argparse, json, math, pathlib, time, tomllib
START = time.perf_counter()
import h5py, numpy as np, torch
from torch import nn

WARM_UP_STEPS = 4


def read_shards(directory):
    """index.json, images as stored (N H W C uint8), labels (N int64)."""
    directory = pathlib.Path(directory)
    index = json.loads((directory / "index.json").read_text())
    images, labels = [], []
    for shard in index["shards"]:
        with h5py.File(directory / shard["file"]) as f:
            images.append(f["images"][:])
            labels.append(f["labels"][:].astype(np.int64))
    return index, torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels))


def vit_tiny(cfg, size, channels):
    """timm's, as model.name = "vit_tiny_patch..." is."""
    import timm
    m = cfg["model"]
    return timm.models.vision_transformer.VisionTransformer(
        img_size=size, patch_size=m.get("patch") or int(m["name"].rsplit("patch", 1)[1]), in_chans=channels, num_classes=m["classes"],
        embed_dim=192, depth=12, num_heads=3, drop_path_rate=m.get("drop_path", 0.0))


def efficientnet_b0(cfg, _, channels):
    """torchvision's; its first convolution reads as many channels as there are."""
    import torchvision
    net = torchvision.models.efficientnet_b0(num_classes=cfg["model"]["classes"])
    stem = net.features[0]
    stem[0] = nn.Conv2d(channels, stem[0].out_channels, 3, 2, 1, bias=False)
    nn.init.kaiming_normal_(stem[0].weight, mode="fan_out")
    return net


def named_network(name):
    return efficientnet_b0 if name == "efficientnet_b0" else vit_tiny if name.startswith("vit_tiny_patch") else None


def refuse(what):
    raise SystemExit(f"torch_fashion.py: {what} is not supported")


class Net(nn.Module):
    """[[model.layers]] with dtrain's names, defaults and initial distributions."""

    def __init__(self, layers, cfg):
        super().__init__()
        self.plan = []
        for i, layer in enumerate(layers):
            name = layer.get("name") or f"layer{i + 1}"
            self.plan.append((name, layer["type"], layer.get("from"), layer.get("with")))
            module = self.build(layer, cfg)
            if module is not None:
                self.add_module(name, module)
        self.kept = {n for _, _, *used in self.plan for n in used if n}

    @staticmethod
    def build(layer, cfg):
        kind, kernel = layer["type"], layer.get("kernel", {"conv": 3}.get(layer["type"], 2))
        if kind == "conv":
            dilation, pad = layer.get("dilation", 1), layer.get("pad", -1)
            return nn.LazyConv2d(layer["channels"], kernel, layer.get("stride", 1), pad if pad >= 0 else (kernel - 1) * dilation // 2,
                                 dilation, layer.get("groups", 1), layer.get("bias", True))
        if kind == "dense":
            return nn.LazyLinear(layer["channels"], layer.get("bias", True))
        if kind == "batchnorm":
            return nn.LazyBatchNorm2d(cfg.get("bn_eps", 1e-5), cfg.get("bn_momentum", 0.1))
        if kind == "maxpool":
            return nn.MaxPool2d(kernel, layer.get("stride") or kernel, layer.get("pad", 0))
        if kind == "avgpool":
            return nn.AvgPool2d(kernel, layer.get("stride") or kernel, layer.get("pad", 0), count_include_pad=True)
        if kind == "dropout":
            return nn.Dropout(layer.get("rate", 0.5))
        if kind not in ("relu", "global_avgpool", "flatten", "add"):
            refuse(f"layer type {kind}")
        return None

    def forward(self, x):
        outputs = {"input": x}
        for name, kind, source, other in self.plan:
            if source:
                x = outputs[source]
            if kind == "relu":
                x = torch.relu(x)
            elif kind == "add":
                x = x + outputs[other]
            elif kind == "global_avgpool":
                x = x.mean((2, 3))
            elif kind == "flatten":
                x = x.flatten(1)
            else:
                x = getattr(self, name)(x)
            if name in self.kept:
                outputs[name] = x
        return x

    def reset(self):
        """Convolutions N(0, 2 / fan_out), the rest as PyTorch does by default."""
        for m in self.modules():
            if hasattr(m, "reset_parameters"):
                m.reset_parameters()
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, 0, math.sqrt(2 * m.groups / (m.out_channels * m.kernel_size[0] * m.kernel_size[1])))


class Task(nn.Module):
    """Network, data and augmentation; forward is the training loss of a batch given by sample indices and draws."""

    def __init__(self, cfg, net, size, data, val, mean, std, amp):
        super().__init__()
        aug = cfg.get("augment", {})
        self.net, self.size, self.amp = net, size, amp
        self.smoothing = cfg["train"].get("label_smoothing", 0.0)
        self.scale = (aug.get("scale_min", 0.08), aug.get("scale_max", 1.0))
        self.ratio = (aug.get("ratio_min", 3 / 4), aug.get("ratio_max", 4 / 3))
        self.crop, self.flip = aug.get("crop", "none"), aug.get("flip", False)
        pad = aug.get("pad", 4) if self.crop == "pad" else 0
        for name, t in (("mean", torch.tensor(mean)), ("std", torch.tensor(std)), ("column", torch.arange(size)),
                        ("images", self.framed(data[0], pad)), ("labels", data[1]),
                        ("val_images", val[0] if self.crop == "random_resized" else self.centred(val[0])), ("val_labels", val[1])):
            self.register_buffer(name, t, persistent=False)
        if self.crop == "random_resized":
            return
        if self.crop == "none":
            self.images = self.centred(data[0])
        self.positions = [self.images.shape[1] - size + 1, self.images.shape[2] - size + 1]
        if min(self.positions) < 1:
            refuse("augment.pad too small for data.image_size")

    @staticmethod
    def framed(images, pad):
        """Zero bytes on all sides."""
        return nn.functional.pad(images, (0, 0, pad, pad, pad, pad))

    def centred(self, images):
        """The evaluation's view: padded evenly or cropped to the centre, never resized."""
        high, wide = (images.shape[1] - self.size) / 2, (images.shape[2] - self.size) / 2
        if self.crop != "pad" and min(high, wide) < 0:
            refuse("resizing")
        top, left = int(high), int(wide)  # towards zero
        bottom, right = images.shape[1] - self.size - top, images.shape[2] - self.size - left
        return nn.functional.pad(images, (0, 0, -left, -right, -top, -bottom)).contiguous()

    def pixels(self, x):
        """N H W C bytes to what the network reads."""
        return ((x.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2)

    def resized(self, images, top, left, high, wide, flip):
        """Windows of N H W C bytes at this size: bilinear, half-pixel centres, clamped to the window, rounded to a level."""
        def places(first, length):
            at = (self.column + 0.5) * (length / self.size)[:, None] - 0.5
            at = torch.minimum(at.clamp(min=0), (length - 1)[:, None].float())
            low = at.floor()
            return first[:, None] + low.long(), first[:, None] + torch.minimum(low + 1, (length - 1)[:, None].float()).long(), at - low

        n = torch.arange(len(images), device=images.device)[:, None, None]
        r0, r1, v = (t[:, :, None] for t in places(top, high))
        c0, c1, u = places(left, wide)
        c0, c1, u = (torch.where(flip[:, None], t.flip(1), t)[:, None, :] for t in (c0, c1, u))
        u, v, x = u[..., None], v[..., None], images.float()
        rows = lambda r: x[n, r, c0] * (1 - u) + x[n, r, c1] * u
        return torch.floor(rows(r0) * (1 - v) + rows(r1) * v + 0.5)

    def windows(self, n):
        """Windows of random area and shape within the image: of ten tries the first that fits, else all of it."""
        dev, (h, w) = self.images.device, self.images.shape[1:3]
        area = h * w * (self.scale[0] + (self.scale[1] - self.scale[0]) * torch.rand(n, 10, device=dev))
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = torch.exp(low + (high - low) * torch.rand(n, 10, device=dev))
        wide, tall = torch.round(torch.sqrt(area * ratio)).long(), torch.round(torch.sqrt(area / ratio)).long()
        fits = (wide >= 1) & (tall >= 1) & (wide <= w) & (tall <= h)
        first = fits.int().argmax(1, keepdim=True)
        any_fits = fits.any(1)
        wide = torch.where(any_fits, wide.gather(1, first)[:, 0], w)
        tall = torch.where(any_fits, tall.gather(1, first)[:, 0], h)
        at = lambda length, all: (torch.rand(n, device=dev) * (all - length + 1)).long().clamp(max=all)
        return at(tall, h), at(wide, w), tall, wide

    def draws(self, n):
        """Top, left and flip of n samples; of resized windows also height and width."""
        dev = self.images.device
        if self.crop == "random_resized":
            return (*self.windows(n), torch.rand(n, device=dev) < (0.5 if self.flip else 0.0))
        return (torch.randint(0, self.positions[0], (n,), device=dev), torch.randint(0, self.positions[1], (n,), device=dev),
                torch.rand(n, device=dev) < (0.5 if self.flip else 0.0))

    def batch(self, index, *draws):
        """Window and flip of each sample in one gather: N C H W, channels last in memory."""
        if self.crop == "random_resized":
            return self.pixels(self.resized(self.images[index], *draws))
        top, left, flip = draws
        column = torch.where(flip[:, None], self.size - 1 - self.column, self.column) + left[:, None]
        row = self.column + top[:, None]
        return self.pixels(self.images[index[:, None, None], row[:, :, None], column[:, None, :]])

    def forward(self, index, *draws):
        x, y = self.batch(index, *draws), self.labels[index]
        with torch.autocast(x.device.type, self.amp or torch.bfloat16, enabled=self.amp is not None):
            logits = self.net(x)
        return nn.functional.cross_entropy(logits.float(), y, label_smoothing=self.smoothing)

    @torch.no_grad()
    def accuracy(self, batch):
        self.net.eval()
        right = torch.zeros((), dtype=torch.int64, device=self.val_labels.device)
        for images, y in zip(self.val_images.split(batch), self.val_labels.split(batch)):
            if self.crop == "random_resized":
                whole = [torch.full((len(y),), v, device=y.device) for v in (0, 0, *images.shape[1:3])]
                images = self.resized(images, *whole, torch.zeros_like(whole[0], dtype=torch.bool))
            with torch.autocast(y.device.type, self.amp or torch.bfloat16, enabled=self.amp is not None):
                right += (self.net(self.pixels(images)).argmax(1) == y).sum()
        self.net.train()
        return right.item() / len(self.val_labels)


def learning_rate(cfg, step, total, steps_per_epoch):
    lr, s = cfg["optim"].get("lr", 0.1), cfg.get("schedule", {})
    kind, final, start = s.get("kind", "cosine"), s.get("final", 0.0), s.get("warmup_start", 0.0)
    warmup = s.get("warmup_steps", 0) or s.get("warmup_epochs", 0.0) * steps_per_epoch
    start = start or 1 / (warmup + 1)
    if step < warmup:
        return lr * (start + (1 - start) * step / warmup)
    u = min((step - warmup) / (total - warmup), 1) if total > warmup else 1
    shapes = {"constant": 1.0, "linear": 1 - (1 - final) * u, "cosine": final + (1 - final) * 0.5 * (1 + math.cos(math.pi * u))}
    return lr * shapes[kind] if kind in shapes else refuse(f"schedule.kind = {kind}")


def make_optimizer(cfg, net):
    o = cfg["optim"]
    kind = o.get("kind", "momentum")
    decays = lambda p: p.ndim > 1 or o.get("decay_bn_and_bias", False)
    groups = [{"params": [p for p in net.parameters() if decays(p)], "weight_decay": o.get("weight_decay", 1e-4)},
              {"params": [p for p in net.parameters() if not decays(p)], "weight_decay": 0.0}]
    groups = [g for g in groups if g["params"]]
    if kind == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=(o.get("beta1", 0.9), o.get("beta2", 0.999)), eps=o.get("eps", 1e-8), fused=True)
    sgd = torch.optim.SGD(groups, lr=0.0, momentum=0.0 if kind == "sgd" else o.get("momentum", 0.9),
                          nesterov=kind == "nesterov", fused=True)
    for p in net.parameters() if kind != "sgd" else ():
        sgd.state[p]["momentum_buffer"] = torch.zeros_like(p)  # else a first step that the scaler skips leaves it uninitialised
    return sgd


class Run:
    """One seed: weights, optimizer, sample order."""

    def __init__(self, cfg, task, loss, seed, epochs, precision):
        torch.manual_seed(seed)
        self.cfg, self.task, self.loss, self.net = cfg, task, loss, task.net
        self.clip = cfg["train"].get("clip_norm", 0.0)
        if hasattr(self.net, "reset"):
            self.net.reset()
        else:
            fresh = named_network(cfg["model"]["name"])(cfg, task.size, task.images.shape[3])
            self.net.load_state_dict(fresh.state_dict())
        self.optimizer = make_optimizer(cfg, self.net)
        self.scaler = torch.amp.GradScaler(task.labels.device.type, enabled=precision == "fp16")
        t, self.n = cfg["train"], len(task.labels)
        self.rows = t.get("global_batch", 128)
        total = math.ceil(epochs * self.n / self.rows)
        self.total = min(t["steps"], total or t["steps"]) if t.get("steps") else total
        self.decay = t.get("ema", 0.0)
        self.average = [p.clone() for p in self.averaged()] if self.decay else []
        count, dev = self.total * self.rows, task.labels.device
        # The sample counter runs through the epochs: the last batch of one reaches into the next.
        order = torch.cat([torch.randperm(self.n, device=dev) for _ in range(math.ceil(count / self.n))])[:count]
        self.batches = [x.split(self.rows) for x in (order, *task.draws(count))]

    def averaged(self):
        """Parameters and batch norm's running statistics."""
        return [p.detach() for p in (*self.net.parameters(), *self.net.buffers()) if p.is_floating_point()]

    def step(self, i):
        for g in self.optimizer.param_groups:
            g["lr"] = learning_rate(self.cfg, i, self.total, self.n / self.rows)
        self.optimizer.zero_grad(set_to_none=True)
        torch.compiler.cudagraph_mark_step_begin()
        loss = self.loss(*(x[i] for x in self.batches))
        self.scaler.scale(loss).backward()
        if self.clip:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            torch._foreach_lerp_(self.average, self.averaged(), 1 - self.decay)

    def accuracy(self):
        params, batch = self.averaged(), self.cfg["train"].get("eval_batch", 0) or self.rows
        kept = [p.clone() for p in params] if self.average else []
        for p, a in zip(params, self.average):
            p.copy_(a)
        top1 = self.task.accuracy(batch)
        for p, k in zip(params, kept):
            p.copy_(k)
        return top1

    def train(self):
        """[seconds since the first step, accuracy] after every epoch."""
        curve, begin = [], time.perf_counter()
        for i in range(self.total):
            self.step(i)
            if i + 1 == self.total or (i + 1) * self.rows // self.n > i * self.rows // self.n:
                top1 = self.accuracy()
                curve.append([time.perf_counter() - begin, top1])
        return curve


def make_task(cfg, train, val, device, precision):
    aug, named = cfg.get("augment", {}), named_network(cfg["model"]["name"])
    if cfg["train"].get("micro_batch"):
        refuse("train.micro_batch")
    if aug.get("eval_resize") and (aug.get("crop") != "random_resized" or aug["eval_resize"] != cfg["data"].get("image_size")):
        refuse("augment.eval_resize but to the size that is trained on")
    if aug.get("crop", "none") not in ("pad", "none", "random_resized") or not named and cfg["model"]["name"] != "layers":
        refuse("this crop or model")
    index, *data = read_shards(train)
    _, *held_out = read_shards(val)
    size = cfg["data"].get("image_size") or data[0].shape[1]
    net = named(cfg, size, data[0].shape[3]) if named else Net(cfg["model"]["layers"], cfg["model"])
    net.eval()(torch.zeros(1, data[0].shape[3], size, size))
    amp = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    task = Task(cfg, net, size, data, held_out, aug.get("mean") or index["mean"], aug.get("std") or index["std"], amp).to(device)
    net.to(memory_format=torch.channels_last)
    return task.train()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--config", default="configs/fashion-fast.toml")
    ap.add_argument("--train")
    ap.add_argument("--val")
    ap.add_argument("--seeds", default="1,2,3")
    ap.add_argument("--epochs", type=float)
    ap.add_argument("--compile", default="default", choices=["none", "default", "reduce-overhead"])
    ap.add_argument("--precision", choices=["fp32", "tf32", "fp16", "bf16"])
    ap.add_argument("--target", type=float, default=94.0, help="percent; the time to it is reported")
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = ap.parse_args()
    cfg = tomllib.loads(pathlib.Path(a.config).read_text())
    precision = a.precision or cfg["train"].get("precision", "fp32")
    if precision in ("fp32", "tf32"):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    sync = torch.cuda.synchronize if a.device == "cuda" else lambda: None
    epochs = a.epochs if a.epochs is not None else cfg["train"].get("epochs", 0.0)
    seeds = [int(s) for s in a.seeds.split(",")]
    task = make_task(cfg, a.train or cfg["data"]["train"], a.val or cfg["data"]["val"], a.device, precision)
    loss = task if a.compile == "none" else torch.compile(task, mode=a.compile)
    sync()
    startup_s = time.perf_counter() - START
    warm = Run(cfg, task, loss, 0, epochs, precision)
    for i in range(WARM_UP_STEPS):
        warm.step(i)
    warm.accuracy()
    sync()
    compile_s = time.perf_counter() - START - startup_s
    print(f"import, data and device {startup_s:.2f} s, compilation and first steps {compile_s:.2f} s", flush=True)

    runs, from_start_s = [], None
    for seed in seeds:
        run = Run(cfg, task, loss, seed, epochs, precision)
        sync()
        curve = run.train()
        from_start_s = from_start_s or time.perf_counter() - START
        reached = next((s for s, top1 in curve if 100 * top1 >= a.target), None)
        runs.append(dict(seed=seed, top1=curve[-1][1], best=max(c[1] for c in curve), train_s=curve[-1][0], target_s=reached,
                         curve=[[round(s, 3), top1] for s, top1 in curve]))
        print(f"seed {seed}: {100 * curve[-1][1]:.2f} % after {run.total} steps, {curve[-1][0]:.2f} s from the first step, "
              f"{startup_s + compile_s + curve[-1][0]:.2f} s with start and compilation; {a.target:g} % "
              + (f"after {reached:.2f} s" if reached else "not reached"), flush=True)
    mean = lambda key: sum(r[key] for r in runs) / len(runs)
    peak = torch.cuda.max_memory_allocated() if a.device == "cuda" else None
    print(json.dumps(dict(
        peer="pytorch", version=torch.__version__, device=torch.cuda.get_device_name() if a.device == "cuda" else "cpu",
        precision=precision, compile=a.compile, epochs=epochs, steps=run.total, mean_top1=mean("top1"), mean_train_s=mean("train_s"),
        startup_s=startup_s, compile_s=compile_s, from_start_s=from_start_s, mean_from_start_s=startup_s + compile_s + mean("train_s"),
        samples_per_s=run.total * run.rows / mean("train_s"), target=a.target, peak_bytes=peak, runs=runs)))


if __name__ == "__main__":
    main()
