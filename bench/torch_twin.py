"""Trains a configuration with dtrain and with PyTorch, from the same weights, over the same batches, and compares the evaluations.

usage: torch_twin.py DTRAIN CONFIG [--seeds 1,2,3] [KEY=VALUE...]

For each seed PyTorch draws its initial weights, which dtrain begins with (model.init_from); batches are those of dtrain's keyed
order, and rates of the steps are read from its records. Knows text for lstm_lm (word_language_model's network), and
[[model.layers]] of scale, batchnorm, dense and relu, with regress and multilabel; one rank, train.micro_batch = global_batch,
no dropout. Run it where the configuration's paths begin. Prints a JSON line per seed, then mean and deviation of both.
"""
import argparse, json, pathlib, subprocess, sys, time, tomllib
import h5py, numpy as np, torch
from safetensors.torch import save_file
from torch import nn

MASK = (1 << 64) - 1
ORDER = 2  # the stream of random numbers


def philox(key, high, low):
    k0, k1, c = key & 0xFFFFFFFF, key >> 32, [low & 0xFFFFFFFF, low >> 32, high & 0xFFFFFFFF, high >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k1, p0 & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def mix(x):
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xFF51AFD7ED558CCD)
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))


def epoch_order(seed, n, epoch):
    """The samples of an epoch in dtrain's order (src/data/order.c)."""
    w = philox(seed, ORDER, epoch)
    key, bits = w[1] << 32 | w[0], max((n - 1).bit_length(), 8)
    low_bits = bits // 2
    low_mask, high_mask = np.uint64((1 << low_bits) - 1), np.uint64((1 << (bits - low_bits)) - 1)
    out, left = np.arange(n, dtype=np.uint64), np.arange(n)
    while len(left):
        x = out[left]
        low, high = x & low_mask, x >> np.uint64(low_bits)
        for r in range(0, 8, 2):
            low ^= mix(high ^ mix(np.full(1, (key + r) & MASK, np.uint64))) & low_mask
            high ^= mix(low ^ mix(np.full(1, (key + r + 1) & MASK, np.uint64))) & high_mask
        out[left] = high << np.uint64(low_bits) | low
        left = left[out[left] >= n]
    return out.astype(np.int64)


def shards(directory):
    directory = pathlib.Path(directory)
    return [h5py.File(directory / s["file"]) for s in json.loads((directory / "index.json").read_text())["shards"]]


def arrays(directory, _):
    return [torch.from_numpy(np.concatenate([f[k][:] for f in shards(directory)])) for k in ("x", "y")]


def text(directory, context):
    token = np.concatenate([f["tokens"][:] for f in shards(directory)]).astype(np.int64)
    n = -(-(len(token) - 1) // context)
    label = np.full(n * context, -1, np.int64)
    label[:len(token) - 1] = token[1:][:n * context]
    x = np.zeros(n * context, np.int64)
    x[:min(len(token), n * context)] = token[:n * context]
    return torch.from_numpy(x.reshape(n, context)), torch.from_numpy(label.reshape(n, context))


class Words(nn.Module):
    """word_language_model's RNNModel, with states of 0."""

    def __init__(self, m, words):
        super().__init__()
        self.encoder = nn.Embedding(words, m["channels"])
        self.rnn = nn.LSTM(m["channels"], m["hidden"], m["blocks"], batch_first=True)
        self.decoder = nn.Linear(m["hidden"], words)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1), nn.init.zeros_(self.decoder.bias)
        if m["tied"]:
            self.decoder.weight = self.encoder.weight
        else:
            nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, x):
        return self.decoder(self.rnn(self.encoder(x))[0])


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def layers(m, wide):
    net = nn.Sequential()
    for i, layer in enumerate(m["layers"]):
        kind = layer["type"]
        if kind == "dense":
            part, wide = nn.Linear(wide, layer["channels"]), layer["channels"]
        else:
            part = {"relu": nn.ReLU, "scale": lambda: Scale(layer["factor"]), "batchnorm": lambda: nn.BatchNorm1d(wide)}[kind]()
        net.add_module(layer.get("name", f"layer{i + 1}"), part)
    return net


def loss_of(task, y, target):
    if task == "language":
        return nn.functional.cross_entropy(y.flatten(0, 1), target.flatten(), ignore_index=-1)
    if task == "multilabel":
        return nn.functional.binary_cross_entropy_with_logits(y, target.float())
    return nn.functional.mse_loss(y, target.float().reshape(y.shape))


@torch.no_grad()
def evaluate(task, net, x, target):
    net.eval()
    y = torch.cat([net(part) for part in x.split(64 if task == "language" else 4096)])
    loss = float(loss_of(task, y, target))
    if task == "regress":
        t = target.float().reshape(y.shape)
        return {"loss": loss, "rmse": loss**0.5, "r2": 1 - loss / float(((t - t.mean())**2).mean())}
    if task == "multilabel":
        from sklearn.metrics import average_precision_score
        right = (y > 0) == (target > 0.5)
        return {"loss": loss, "accuracy": float(right.float().mean()), "exact": float(right.all(1).float().mean()),
                "map": float(average_precision_score(target.numpy(), y.numpy(), average="macro"))}
    right = (y.argmax(-1) == target)[target >= 0]
    return {"loss": loss, "top1": float(right.float().mean())}


def train(c, net, data, records, seed):
    task, (x, target), batch = c["model"]["task"], data, c["train"]["global_batch"]
    o = c["optim"]
    decays = lambda p: p.ndim > 1
    opt = torch.optim.AdamW([{"params": [p for p in net.parameters() if decays(p)], "weight_decay": o["weight_decay"]},
                             {"params": [p for p in net.parameters() if not decays(p)], "weight_decay": 0.0}],
                            betas=(o["beta1"], o["beta2"]), eps=o["eps"])
    order, n, worst = {}, len(x), 0.0
    net.train()
    for r in records:
        at = [(r["step"] - 1) * batch + i for i in range(batch)]
        for epoch in {t // n for t in at} - order.keys():
            order[epoch] = epoch_order(seed, n, epoch)
        rows = torch.tensor([order[t // n][t % n] for t in at])
        for g in opt.param_groups:
            g["lr"] = r["lr"]
        loss = loss_of(task, net(x[rows]), target[rows])
        opt.zero_grad(set_to_none=True)
        loss.backward()
        if c["train"]["clip_norm"] > 0:
            nn.utils.clip_grad_norm_(net.parameters(), c["train"]["clip_norm"])
        opt.step()
        worst = max(worst, abs(loss.item() - r["loss"]) / abs(loss.item()))
        if r["step"] == 10:
            first_ten = worst
    return first_ten, worst


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("dtrain")
    ap.add_argument("config")
    ap.add_argument("--seeds", default="1,2,3")
    ap.add_argument("keys", nargs="*")
    a = ap.parse_args()
    torch.set_num_threads(1)
    found = {"dtrain": [], "torch": []}
    for seed in map(int, a.seeds.split(",")):
        out = pathlib.Path(f"runs/twin-{pathlib.Path(a.config).stem}-{seed}")
        given = tomllib.loads(pathlib.Path(a.config).read_text())
        model, data = given["model"], given["data"]
        read = text if model["task"] == "language" else arrays
        sets = [read(data[k], data.get("context")) for k in ("train", "val")]
        torch.manual_seed(seed)
        if model["task"] == "language":
            net = Words(model, int(shards(data["train"])[0].attrs["vocabulary"]))
        else:
            net = layers(model, sets[0][0].shape[1])
        weights = {k: v.clone() for k, v in net.state_dict().items() if k != "decoder.weight" or not model.get("tied")}
        save_file(weights, f"{out.name}.safetensors")
        began = time.perf_counter()
        subprocess.run([a.dtrain, a.config, f"run.out_dir={out}", f"run.seed={seed}", f"model.init_from={out.name}.safetensors",
                        "run.device=cpu", "run.threads=1", *a.keys], check=True, stdout=sys.stderr)
        ours_s = time.perf_counter() - began
        records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        c = tomllib.loads((out / "config.toml").read_text())
        began = time.perf_counter()
        first_ten, worst = train(c, net, sets[0], [r for r in records if r["kind"] == "train"], seed)
        theirs = evaluate(c["model"]["task"], net, *sets[1])
        theirs_s = time.perf_counter() - began
        ours = {k: v for k, v in [r for r in records if r["kind"] == "eval"][-1].items() if k in theirs}
        found["dtrain"].append(ours), found["torch"].append(theirs)
        print(json.dumps({"seed": seed, "dtrain": ours, "torch": theirs, "loss_of_steps_differs_by": {"first ten": first_ten, "all": worst},
                          "s": [round(ours_s, 1), round(theirs_s, 1)]}), flush=True)
    for who, each in found.items():
        print(who, {k: f"{np.mean([e[k] for e in each]):.5g} +- {np.std([e[k] for e in each]):.2g}" for k in each[0]})


if __name__ == "__main__":
    main()
