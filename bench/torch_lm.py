"""PyTorch's side of a language model's run: the network, recipe and batches of a dtrain configuration with model.name = "gpt2".

usage: torch_lm.py CONFIG.toml [section.key=value ...] --init FILE.safetensors            writes initial weights by run.seed
       torch_lm.py CONFIG.toml [section.key=value ...] --from FILE.safetensors --out FILE.json [--compile] [--device cuda|cpu]
       torch_lm.py --join OUT.json RUN_DIR=FILE.json ...                                 curves of both for curves_svg.py

dtrain begins with the same weights by model.init_from=FILE.safetensors. The order of the windows is dtrain's (src/data/order.c),
computed here: step s of both sees the same tokens. Trains under autocast where train.precision says 16 bits, and prints the
loss of the validation text, of all its tokens, at the end.
"""
import argparse, json, math, pathlib, statistics, time, tomllib
import h5py, numpy as np, torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

U64 = np.uint64
STREAM_ORDER = 2  # core/rng.h


def philox(key, hi, lo):
    mask = 0xFFFFFFFF
    k, c = [key & mask, key >> 32], [lo & mask, lo >> 32, hi & mask, hi >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & mask, (p >> 32) ^ c[3] ^ k[1], p & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def mix(x):
    x = x ^ (x >> U64(33))
    x = x * U64(0xFF51AFD7ED558CCD)
    x = x ^ (x >> U64(33))
    x = x * U64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> U64(33))


def permutation(seed, n, epoch):
    """perm(seed, epoch, 0..n): a Feistel network with cycle walking."""
    w = philox(seed, STREAM_ORDER, epoch)
    key = (w[1] << 32) | w[0]
    bits = max((n - 1).bit_length(), 8)
    low_bits = bits // 2
    low_mask, high_mask = U64((1 << low_bits) - 1), U64((1 << (bits - low_bits)) - 1)
    rounds = [mix(np.array([(key + r) & (2**64 - 1)], dtype=U64)) for r in range(8)]
    x, out = np.arange(n, dtype=U64), np.empty(n, dtype=np.int64)
    open_ = np.arange(n)
    with np.errstate(over="ignore"):
        while len(open_):
            low, high = x & low_mask, x >> U64(low_bits)
            for r in range(0, 8, 2):
                low = low ^ (mix(high ^ rounds[r]) & low_mask)
                high = high ^ (mix(low ^ rounds[r + 1]) & high_mask)
            x = (high << U64(low_bits)) | low
            done = x < n
            out[open_[done]] = x[done].astype(np.int64)
            open_, x = open_[~done], x[~done]
    return out


class Block(nn.Module):
    """With Hugging Face's names."""

    def __init__(self, c, heads):
        super().__init__()
        self.heads, self.ln_1, self.ln_2 = heads, nn.LayerNorm(c), nn.LayerNorm(c)
        self.attn = nn.ModuleDict(dict(c_attn=nn.Linear(c, 3 * c), c_proj=nn.Linear(c, c)))
        self.mlp = nn.ModuleDict(dict(c_fc=nn.Linear(c, 4 * c), c_proj=nn.Linear(4 * c, c)))

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (u.view(b, t, self.heads, -1).transpose(1, 2) for u in self.attn["c_attn"](self.ln_1(x)).split(c, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c)
        x = x + self.attn["c_proj"](y)
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, vocab, context, c, blocks, heads):
        super().__init__()
        self.transformer = nn.ModuleDict(dict(wte=nn.Embedding(vocab, c), wpe=nn.Embedding(context, c),
                                              h=nn.ModuleList(Block(c, heads) for _ in range(blocks)), ln_f=nn.LayerNorm(c)))
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * blocks) if name.endswith("c_proj.weight") else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, x, y):
        t = self.transformer
        h = t["wte"](x) + t["wpe"].weight[: x.shape[1]]
        for block in t["h"]:
            h = block(h)
        logits = F.linear(t["ln_f"](h), t["wte"].weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), y.flatten(), ignore_index=-1, reduction="sum")


def turned(state):
    """Hugging Face's files have the four matrices of a block as [in, out]."""
    return {k: v.t().contiguous() if ".h." in k and v.ndim == 2 else v.contiguous() for k, v in state.items()}


def read_tokens(directory):
    directory = pathlib.Path(directory)
    shards = json.loads((directory / "index.json").read_text())["shards"]
    parts = []
    for shard in shards:
        with h5py.File(directory / shard["file"]) as f:
            parts.append(f["tokens"][:].astype(np.int64))
    return torch.from_numpy(np.concatenate(parts))


class Windows:
    """Sample i is the tokens [i T, i T + T), its labels the ones after them; -1 behind the end."""

    def __init__(self, tokens, context, device):
        self.n = math.ceil((len(tokens)) / context)
        padded = torch.full((self.n * context + 1,), -1, dtype=torch.int64)
        padded[: len(tokens)] = tokens
        self.x = padded[:-1].view(self.n, context).clamp(min=0).to(device)
        self.y = padded[1:].view(self.n, context).to(device)


def rate(cfg, step, total):
    lr, s = cfg["optim"]["lr"], cfg.get("schedule", {})
    warmup, final = s.get("warmup_steps", 0), s.get("final", 0.0)
    if step < warmup:
        start = s.get("warmup_start", 0.0) or 1 / (warmup + 1)
        return lr * (start + (1 - start) * step / warmup)
    u = min((step - warmup) / (total - warmup), 1) if total > warmup else 1
    return lr if s.get("kind") == "constant" else lr * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * u)))


def network(cfg):
    m = cfg["model"]
    return Gpt2(m["vocab"], m.get("positions") or cfg["data"]["context"], m.get("channels", 768), m.get("blocks", 12), m.get("heads", 12))


def run(cfg, a):
    torch.backends.cuda.matmul.allow_tf32 = False
    t, o, context, seed = cfg["train"], cfg["optim"], cfg["data"]["context"], cfg["run"].get("seed", 0)
    amp = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(t.get("precision", "fp32"))
    rows = t["global_tokens"] // context if t.get("global_tokens") else t["global_batch"]
    train, val = (Windows(read_tokens(cfg["data"][k]), context, a.device) for k in ("train", "val"))
    net = network(cfg).to(a.device)
    net.load_state_dict(turned(load_file(a.start)))
    groups = [{"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": o["weight_decay"]},
              {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(o.get("beta1", 0.9), o.get("beta2", 0.999)), eps=o.get("eps", 1e-8),
                                  fused=a.device == "cuda")
    loss_of = torch.compile(net) if a.compile else net
    total, losses = t["steps"], []
    count = -(-total * rows // train.n)
    order = torch.from_numpy(np.concatenate([permutation(seed, train.n, e) for e in range(count)]))
    autocast = lambda: torch.autocast(a.device, amp or torch.bfloat16, enabled=amp is not None)
    begin = time.perf_counter()
    for s in range(total):
        if s == 10:  # compiled by then
            torch.cuda.synchronize() if a.device == "cuda" else None
            begin = time.perf_counter()
        for g in optimizer.param_groups:
            g["lr"] = rate(cfg, s, total)
        index = order[s * rows:(s + 1) * rows].to(a.device)
        x, y = train.x[index], train.y[index]
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = loss_of(x, y) / (y >= 0).sum()
        loss.backward()
        if t.get("clip_norm"):
            nn.utils.clip_grad_norm_(net.parameters(), t["clip_norm"])
        optimizer.step()
        losses.append(loss.detach())
    losses = torch.stack(losses).tolist()
    seconds = time.perf_counter() - begin
    with torch.no_grad(), autocast():
        sums = [loss_of(x, y) for x, y in zip(val.x.split(rows), val.y.split(rows)) if len(x) == rows or not a.compile]
        rest = val.x[len(val.x) // rows * rows:], val.y[len(val.y) // rows * rows:]
        if a.compile and len(rest[0]):
            sums.append(net(*rest))
    val_loss = (torch.stack(sums).sum() / (val.y >= 0).sum()).item()
    tokens = rows * context * max(total - 10, 1) / seconds
    print(f"seed {seed}: validation loss {val_loss:.4f}, {tokens:,.0f} tokens/s after the tenth step")
    pathlib.Path(a.out).write_text(json.dumps(dict(seed=seed, losses=losses, val_loss=val_loss, tokens_per_s=tokens)))


def join(out, pairs):
    """A panel: the first pair's curves, and PyTorch's of all seeds as the band."""
    ours, theirs = [], []
    for pair in pairs:
        directory, file = pair.split("=", 1)
        records = [json.loads(l) for l in (pathlib.Path(directory) / "metrics.jsonl").read_text().splitlines()]
        by_step = {r["step"]: r["loss"] for r in records if r["kind"] == "train"}
        theirs.append(json.loads(pathlib.Path(file).read_text())["losses"])
        ours.append([by_step[s] for s in sorted(by_step)])
        steps = sorted(by_step)
    u, v = ours[0], [theirs[0][s - 1] for s in steps]
    difference = [abs(a - b) / b for a, b in zip(u, v)]
    print(f"{len(steps)} steps: relative difference {difference[0]:.1e} at the first, {statistics.median(difference):.1e} in the median, "
          f"{max(difference):.1e} at most")
    pathlib.Path(out).write_text(json.dumps(dict(model="GPT-2", precision="bf16", step=steps, ours=u, torch=v,
                                                 seeds=[[t[s - 1] for s in steps] for t in theirs])))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("config", nargs="?")
    ap.add_argument("overrides", nargs="*")
    ap.add_argument("--init")
    ap.add_argument("--from", dest="start")
    ap.add_argument("--out")
    ap.add_argument("--join")
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = ap.parse_args()
    if a.join:
        return join(a.join, [a.config, *a.overrides])
    cfg = tomllib.loads(pathlib.Path(a.config).read_text())
    for item in a.overrides:
        key, value = item.split("=", 1)
        section, name = key.split(".", 1)
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            pass
        cfg.setdefault(section, {})[name] = value
    torch.manual_seed(cfg["run"].get("seed", 0))
    if a.init:
        return save_file(turned(network(cfg).state_dict()), a.init)
    run(cfg, a)


if __name__ == "__main__":
    main()
