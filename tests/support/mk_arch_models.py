#!/usr/bin/env python3
"""Writes tests/data/archs: a small model of random weights for each family and RoPE scaling, and the
logits that it gives for a few tokens, computed here in float64.

usage: mk_arch_models.py FOLDER [PEER]     (needs numpy; the tests need neither this nor numpy)

PEER is a program that prints all logits of "MODEL ID,ID,..." as float32, position after position. The
models that it can run are compared with it, and the largest differences printed; the logits that are
written are always those computed here.
"""
import json
import math
import os
import struct
import subprocess
import sys

import numpy as np

F32, F16 = 0, 1
N_BYTES = 256  # byte tokens, behind <unk>, <s> and </s>
WORDS = "▁a ▁b ▁c ▁the ▁dog ▁sat e t a o ▁".split()


def vocabulary():
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(N_BYTES)] + WORDS
    tokens += [f"▁w{i}" for i in range(288 - len(tokens))]
    types = [2, 3, 3] + [6] * N_BYTES + [1] * (len(tokens) - 3 - N_BYTES)
    return tokens, types


# ---- GGUF ----

def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def entry(key, value):
    if isinstance(value, bool):
        return text(key) + struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", 6, value)
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value[0], str):
        return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    if isinstance(value[0], bool):
        return text(key) + struct.pack("<IIQ", 9, 7, len(value)) + bytes(value)
    kind, letter = (5, "i") if isinstance(value[0], int) else (6, "f")
    return text(key) + struct.pack(f"<IIQ{len(value)}{letter}", 9, kind, len(value), *value)


def write_gguf(path, metadata, tensors):
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    header += b"".join(entry(k, v) for k, v in metadata.items())
    data = b""
    for name, t in tensors.items():
        kind = F16 if t.dtype == np.float16 else F32
        dims = t.shape[::-1]
        header += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data))
        data += t.tobytes()
        data += bytes(-len(data) % 32)
    with open(path, "wb") as f:
        f.write(header + bytes(-len(header) % 32) + data)


# ---- rotary embedding ----

def frequencies(c):
    n = c["rotated"]
    f = c["rope_base"] ** (-2.0 * np.arange(n // 2) / n)
    magnitude = 1.0
    if "rope_freqs" in c:
        f = f / np.float32(c["rope_freqs"]).astype(np.float64)
    scaling = c.get("scaling", {})
    factor, original = scaling.get("factor", 1.0), scaling.get("original", c["n_ctx"])
    if scaling.get("type") == "linear":
        f = f / factor
    elif scaling.get("type") == "yarn":  # arXiv 2309.00071, section 3.2 to 3.4
        def pair(turns):
            return n * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(c["rope_base"]))
        low = max(0, math.floor(pair(scaling.get("beta_fast", 32.0))))
        high = min(n - 1, math.ceil(pair(scaling.get("beta_slow", 1.0))))
        ramp = np.clip((np.arange(n // 2) - low) / max(0.001, high - low), 0, 1)
        f = f / factor * ramp + f * (1 - ramp)
        magnitude = scaling.get("attn_factor", 1.0) * (0.1 * math.log(factor) + 1)
        if "log" in scaling:
            magnitude /= 0.1 * scaling["log"] * math.log(factor) + 1
    elif scaling.get("type") == "llama3":
        wave = 2 * math.pi / f
        low, high = scaling["low"], scaling["high"]
        smooth = np.clip((original / wave - low) / (high - low), 0, 1)
        f = (1 - smooth) * f / factor + smooth * f
    return f, magnitude


def rotate(c, x):
    """x: [token][head][head_dim]"""
    f, magnitude = frequencies(c)
    angle = np.arange(len(x))[:, None, None] * f
    cos, sin = np.cos(angle) * magnitude, np.sin(angle) * magnitude
    n, y = c["rotated"], x.copy()
    a, b = (slice(0, n, 2), slice(1, n, 2)) if c["rope"] == "pairs" else (slice(0, n // 2), slice(n // 2, n))
    y[..., a] = x[..., a] * cos - x[..., b] * sin
    y[..., b] = x[..., a] * sin + x[..., b] * cos
    return y


# ---- the model ----

def rms(c, x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + c["epsilon"]) * weight


def forward(c, w, ids):
    """All logits [token][vocabulary]; w: tensors by key, or (key, layer), in float64."""
    n, heads, kv_heads, dim = len(ids), c["heads"], c["kv_heads"], c["head_dim"]
    x = w["token_embd"][ids]
    pos = np.arange(n)
    for i in range(c["layers"]):
        def product(key, v):
            return v @ w[key, i].T + w.get((key + ".bias", i), 0.0)

        def norm(key, v):
            return rms(c, v, w[key, i]) if (key, i) in w else v
        xn = norm("attn_norm", x)
        q, k, v = product("attn_q", xn), product("attn_k", xn), product("attn_v", xn)
        if c.get("qk_norm") == "all":
            q, k = norm("attn_q_norm", q), norm("attn_k_norm", k)
        q, k, v = (a.reshape(n, -1, dim) for a in (q, k, v))
        if c.get("qk_norm") == "head":
            q, k = norm("attn_q_norm", q), norm("attn_k_norm", k)
        q, k = rotate(c, q), rotate(c, k)
        seen = pos[:, None] >= pos[None, :]
        if c.get("window") and c.get("windowed", [True])[i % len(c.get("windowed", [True]))]:
            seen &= pos[:, None] - pos[None, :] < c["window"]
        out = np.zeros((n, heads, dim))
        for h in range(heads):
            g = h * kv_heads // heads
            s = np.where(seen, q[:, h] @ k[:, g].T / math.sqrt(dim), -np.inf)
            p = np.exp(s - s.max(-1, keepdims=True))
            out[:, h] = p / p.sum(-1, keepdims=True) @ v[:, g]
        x = x + norm("attn_post_norm", product("attn_output", out.reshape(n, -1)))
        xn = norm("ffn_norm", x)
        gate = product("ffn_gate", xn)
        down = product("ffn_down", gate / (1 + np.exp(-gate)) * product("ffn_up", xn))
        x = x + norm("ffn_post_norm", down)
    head = w["output"] if c["own_head"] else w["token_embd"]
    return rms(c, x, w["output_norm"]) @ head.T


def make_weights(c, rng):
    """Tensors as the file has them, by key or (key, layer)."""
    d, ff, dim = c["dim"], c["ff"], c["head_dim"]
    q, kv, vocab = c["heads"] * dim, c["kv_heads"] * dim, len(vocabulary()[0])

    def matrix(rows, columns, scale=1.0, dtype=np.float16):
        return (rng.standard_normal((rows, columns)) * scale / math.sqrt(columns)).astype(dtype)

    def vector(n, mean=1.0, spread=0.2):
        return (mean + spread * rng.standard_normal(n)).astype(np.float32)

    t = {"token_embd": matrix(vocab, d, 2.0), "output_norm": vector(d)}
    if c["own_head"]:
        t["output"] = matrix(vocab, d, 2.0)
    if "rope_freqs" in c:
        t["rope_freqs"] = np.array(c["rope_freqs"], np.float32)
    for i in range(c["layers"]):
        if c["norms"] != "post":
            t["attn_norm", i], t["ffn_norm", i] = vector(d), vector(d)
        if c["norms"] != "pre":
            t["attn_post_norm", i], t["ffn_post_norm", i] = vector(d), vector(d)
        t["attn_q", i] = matrix(q, d, 1.5)
        t["attn_k", i] = matrix(kv, d, 1.5, np.float32 if c.get("mixed") else np.float16)
        t["attn_v", i] = matrix(kv, d)
        t["attn_output", i] = matrix(d, q)
        t["ffn_gate", i], t["ffn_up", i] = matrix(ff, d), matrix(ff, d)
        t["ffn_down", i] = matrix(d, ff)
        if c.get("qk_norm"):
            whole = c["qk_norm"] == "all"
            t["attn_q_norm", i] = vector(q if whole else dim, 1.3)
            t["attn_k_norm", i] = vector(kv if whole else dim, 1.3)
        for key in c.get("biases", ()):
            t[key + ".bias", i] = vector(len(t[key, i]), 0.0, 0.3)
    return t


SHAPE = dict(dim=64, layers=2, heads=4, kv_heads=2, head_dim=16, ff=96, n_ctx=256, epsilon=1e-5,
             rope_base=10000.0, rope="pairs", norms="pre", own_head=True, n_ids=40)
QKV = ("attn_q", "attn_k", "attn_v")
NAMES = {"token_embd": "embedding", "output": "lm_head", "attn_q": "layers.{}.attn.q_proj",
         "attn_k": "layers.{}.attn.k_proj", "attn_output": "layers.{}.attn.o_proj",
         "ffn_norm": "layers.{}.norm2", "attn_post_norm": "blk.{}.post_attention_norm",
         "ffn_post_norm": "blk.{}.post_ffw_norm"}
NAMES_POST = {key: NAMES[key] for key in ("attn_post_norm", "ffn_post_norm")}
# arch: general.architecture, where it is not the model's name.
MODELS = {
    "llama-freqs": dict(arch="llama", own_head=False,
                        rope_freqs=[1.0, 1.0, 1.3, 2.0, 4.0, 6.5, 8.0, 8.0]),
    "llama-linear": dict(arch="llama", scaling=dict(type="linear", factor=4.0),
                         biases=QKV + ("attn_output", "ffn_gate", "ffn_up", "ffn_down")),
    "llama-yarn": dict(arch="llama", scaling=dict(type="yarn", factor=4.0, original=64)),
    "llama-llama3": dict(arch="llama", rope_base=500.0,
                         scaling=dict(type="llama3", factor=8.0, low=1.0, high=4.0, original=64)),
    "mistral": dict(window=16, n_ids=72, kv_heads=1),
    "mistral3": dict(own_head=False, scaling=dict(type="yarn", factor=8.0, original=128,
                                                  beta_fast=4.0, beta_slow=0.5, log=1.0)),
    "qwen2": dict(rope="halves", biases=QKV, heads=2, kv_heads=1, head_dim=32),
    "qwen2-yarn": dict(arch="qwen2", rope="halves", biases=QKV, own_head=False,
                       scaling=dict(type="yarn", factor=2.0, original=128, attn_factor=1.1)),
    "qwen3": dict(rope="halves", qk_norm="head", head_dim=32, own_head=False),
    "olmo2": dict(rope="halves", norms="post", qk_norm="all", kv_heads=4, names=NAMES_POST),
    "described": dict(rope="halves", rotated=8, norms="both", qk_norm="head", mixed=True, window=12,
                      windowed=[True, False, True], layers=3, n_ids=48,
                      biases=("attn_v", "attn_output"), names=NAMES),
    "llama-heads": dict(arch="llama", heads=8, kv_heads=4, head_dim=8, biases=QKV, ff=64),
    "qwen3-heads": dict(arch="qwen3", rope="halves", qk_norm="head", heads=3, kv_heads=1, head_dim=20,
                        own_head=False, ff=64),
}


def metadata(c, arch):
    tokens, types = vocabulary()
    m = {"general.architecture": arch, "general.name": c["name"],
         f"{arch}.context_length": c["n_ctx"], f"{arch}.embedding_length": c["dim"],
         f"{arch}.block_count": c["layers"], f"{arch}.feed_forward_length": c["ff"],
         f"{arch}.attention.head_count": c["heads"],
         f"{arch}.attention.head_count_kv": c["kv_heads"],
         f"{arch}.attention.layer_norm_rms_epsilon": c["epsilon"],
         f"{arch}.rope.freq_base": c["rope_base"], f"{arch}.rope.dimension_count": c["rotated"]}
    if c["head_dim"] * c["heads"] != c["dim"]:
        m[f"{arch}.attention.key_length"] = m[f"{arch}.attention.value_length"] = c["head_dim"]
    if c.get("window") and "windowed" not in c:
        m[f"{arch}.attention.sliding_window"] = c["window"]
    keys = {"type": "type", "factor": "factor", "original": "original_context_length",
            "attn_factor": "attn_factor", "log": "yarn_log_multiplier", "beta_fast": "yarn_beta_fast",
            "beta_slow": "yarn_beta_slow", "low": "low_freq_factor", "high": "high_freq_factor"}
    for key, value in c.get("scaling", {}).items():
        m[f"{arch}.rope.scaling.{keys[key]}"] = value
    return m | {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens,
                "tokenizer.ggml.scores": [-float(i) for i in range(len(tokens))],
                "tokenizer.ggml.token_type": types, "tokenizer.ggml.bos_token_id": 1,
                "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0}


def tensor_name(c, key):
    key, layer = key if isinstance(key, tuple) else (key, None)
    base, _, bias = key.partition(".")
    default = base if layer is None else "blk.{}." + base
    name = c.get("names", {}).get(base, default).replace("{}", str(layer))
    return name + (".bias" if bias else ".weight")


def compare(peer, path, ids, logits):
    """The largest difference of the 10 best logits."""
    run = subprocess.run([peer, path, ",".join(map(str, ids))], stdout=subprocess.PIPE)
    if run.returncode:
        return "not run by the peer"
    theirs = np.frombuffer(run.stdout, np.float32).reshape(logits.shape)
    best = np.argsort(-logits, -1)[:, :10]
    difference = np.take_along_axis(theirs - logits, best, -1)
    return f"largest difference from the peer {abs(difference).max():.5f}"


def main():
    folder, peer = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    cases = []
    for seed, (name, more) in enumerate(MODELS.items()):
        rng = np.random.default_rng(1000 + seed)
        c = SHAPE | {"name": name} | more
        c.setdefault("rotated", c["head_dim"])
        tensors = make_weights(c, rng)
        path = os.path.join(folder, name + ".gguf")
        write_gguf(path, metadata(c, c.get("arch", name)),
                   {tensor_name(c, key): t for key, t in tensors.items()})
        ids = [1] + rng.integers(3, len(vocabulary()[0]), c["n_ids"] - 1).tolist()
        logits = forward(c, {k: t.astype(np.float64) for k, t in tensors.items()}, ids)
        high = logits.max(-1)
        lse = high + np.log(np.exp(logits - high[:, None]).sum(-1))
        positions = []
        for pos in sorted({*range(0, len(ids), 5), len(ids) - 1}):
            top = np.argsort(-logits[pos])[:10]
            positions.append({"pos": pos, "lse": round(lse[pos], 6),
                              "top": [[int(i), round(logits[pos, i], 6)] for i in top]})
        cases.append({"model": name, "ids": ids, "positions": positions})
        print(name, os.path.getsize(path), f"best {high.mean():.2f} on average",
              compare(peer, path, ids, logits) if peer else "")
    with open(os.path.join(folder, "logits.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")


main()
