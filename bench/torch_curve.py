"""Continues a dtrain run in PyTorch and compares the loss of every step.

usage: torch_curve.py RUN_DIR DATA_DIR MODEL [--small-stem] [--precision fp32|tf32|fp16|bf16] [--device cuda|cpu]

RUN_DIR must hold a checkpoint of step 1 and the metrics of the steps after it, from a run without augmentation whose global batch is
the whole data set (one shard): then every step sees the same samples, and their order does not matter. Weights, momentum and running statistics come
from the checkpoint, the learning rates from metrics.jsonl, the rest of the recipe from config.toml. Prints one JSON line.
"""
import argparse, json, pathlib, tomllib
import h5py, numpy as np, torch, torchvision

ap = argparse.ArgumentParser()
ap.add_argument("run"); ap.add_argument("data"); ap.add_argument("model")
ap.add_argument("--small-stem", action="store_true"); ap.add_argument("--precision", default="fp32")
ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu"); ap.add_argument("--plot", default="")
a = ap.parse_args()
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.precision == "tf32"
run = pathlib.Path(a.run)
cfg = tomllib.loads((run / "config.toml").read_text())
ckpt = run / "checkpoints" / "step-00000001" / "state.h5"
records = [json.loads(l) for l in (run / "metrics.jsonl").read_text().splitlines()]
train = {r["step"]: r for r in records if r["kind"] == "train"}

index = json.loads((pathlib.Path(a.data) / "index.json").read_text())
with h5py.File(pathlib.Path(a.data) / index["shards"][0]["file"]) as f:
    images, labels = f["images"][:], f["labels"][:]
mean = np.array(cfg["augment"].get("mean") or index["mean"], np.float32)
std = np.array(cfg["augment"].get("std") or index["std"], np.float32)
x = torch.from_numpy((images.astype(np.float32) / 255 - mean) / std).permute(0, 3, 1, 2).to(a.device, memory_format=torch.channels_last)
y = torch.from_numpy(labels.astype(np.int64)).to(a.device)
net = getattr(torchvision.models, a.model)(num_classes=int(labels.max()) + 1 if not cfg["model"]["classes"] else cfg["model"]["classes"])
if a.small_stem:
    net.conv1 = torch.nn.Conv2d(x.shape[1], 64, 3, 1, 1, bias=False); net.maxpool = torch.nn.Identity()
net = net.to(a.device, memory_format=torch.channels_last).train()

def value(f, key):
    v = torch.from_numpy(f[key][...])
    return v.permute(0, 3, 1, 2).contiguous() if v.ndim == 4 else v
with h5py.File(ckpt) as f, torch.no_grad():
    for name, p in net.named_parameters(): p.copy_(value(f, "param/" + name))
    for name, b in net.named_buffers():
        if not name.endswith("num_batches_tracked"): b.copy_(value(f, "state/" + name))
    decay = [p for p in net.parameters() if p.ndim > 1]; rest = [p for p in net.parameters() if p.ndim <= 1]
    opt = torch.optim.SGD([{"params": decay, "weight_decay": cfg["optim"]["weight_decay"]}, {"params": rest, "weight_decay": 0.0}],
                          lr=0.1, momentum=cfg["optim"]["momentum"], nesterov=cfg["optim"]["kind"] == "nesterov")
    for name, p in net.named_parameters(): opt.state[p]["momentum_buffer"] = value(f, "mom1/" + name).to(p)

amp = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(a.precision)
scale = float(cfg["train"]["loss_scale"]) or 1024.0
theirs, ours = [], []
for step in sorted(s for s in train if s > 1):
    for g in opt.param_groups: g["lr"] = train[step]["lr"]
    with torch.autocast(a.device, amp or torch.bfloat16, enabled=amp is not None):
        loss = torch.nn.functional.cross_entropy(net(x).float(), y, label_smoothing=cfg["train"]["label_smoothing"])
    opt.zero_grad(); (loss * scale).backward()
    for p in net.parameters(): p.grad.div_(scale)
    opt.step()
    theirs.append(loss.item()); ours.append(train[step]["loss"])
rel = [abs(u - t) / abs(t) for u, t in zip(ours, theirs)]
print(json.dumps(dict(model=a.model, precision=a.precision, steps=len(rel), rel_first=rel[0], rel_median=sorted(rel)[len(rel) // 2],
                      rel_max=max(rel), ours_last=ours[-1], torch_last=theirs[-1])))
if a.plot:
    pathlib.Path(a.plot).write_text(json.dumps(dict(ours=ours, torch=theirs)))
