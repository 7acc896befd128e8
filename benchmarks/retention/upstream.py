"""An OpenAI-compatible server that records every prompt it is sent."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
import struct
import sys
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.retention.words import ntok, prompt_tokens, stems, text_of


def extract_summary(text: str, limit: int) -> str:
    """Deterministic extractive summary: sentences nearest the TF-IDF centroid, in their own order."""
    sents = [s.strip() for s in re.split(r"(?<=[.!?\u3002])\s+|\n+", text) if len(s.strip()) > 15]
    bags = [Counter(stems(s)) for s in sents]
    df = Counter(w for b in bags for w in b)
    idf = {w: math.log(1 + len(sents) / d) for w, d in df.items()}
    mean: dict[str, float] = defaultdict(float)
    vecs = []
    for b in bags:
        v = {w: f * idf[w] for w, f in b.items()}
        norm = math.sqrt(sum(x * x for x in v.values())) or 1
        vecs.append({w: x / norm for w, x in v.items()})
        for w, x in vecs[-1].items():
            mean[w] += x
    score = [sum(x * mean[w] for w, x in v.items()) for v in vecs]
    keep, used, seen = [], 0, set()
    for j in sorted(range(len(sents)), key=lambda j: (-score[j], j)):
        n = ntok(sents[j]) + 1
        if used + n <= limit and sents[j] not in seen:
            keep.append(j)
            seen.add(sents[j])
            used += n
    return "\n".join(sents[j] for j in sorted(keep)) or text[-2 * limit :]


def fill_schema(schema: dict, text: str, root: dict | None = None):
    """A value of a JSON schema whose strings come from the summary."""
    root = root or schema
    if "$ref" in schema:
        node = root
        for part in schema["$ref"].lstrip("#/").split("/"):
            node = node.get(part, {})
        return fill_schema(node, text, root)
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return fill_schema(schema[key][0], text, root)
    if schema.get("enum"):
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        return {k: fill_schema(v, text, root) for k, v in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [fill_schema(schema.get("items") or {}, line, root) for line in text.splitlines()[:12]]
    return {"number": 1, "integer": 1, "boolean": False, "null": None}.get(kind, text)


def hashed(text, dim):
    """A bag of words as a vector of length 1."""
    v = [0.0] * dim
    for s, f in Counter(stems(text)).items():
        h = int.from_bytes(hashlib.blake2b(s.encode(), digest_size=8).digest(), "big")
        v[h % dim] += (1 if h >> 63 else -1) * (1 + math.log(f))
    norm = math.sqrt(sum(x * x for x in v)) or 1
    return [x / norm for x in v]


class Upstream:
    """An OpenAI-compatible server that records every prompt it is sent.

    A call that ends with the message the client just sent is the real one and is answered with a
    marker; any other chat call is taken for a summariser's and answered with an extractive summary.
    Embeddings are hashed bags of words, or a model's.
    """

    def __init__(self, host="127.0.0.1", port=0, verbose=False, model=None):
        self.model = model
        self.calls: list[dict] = []
        self.lock = threading.Lock()
        self.expect: dict | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *a):
                if verbose:
                    sys.stderr.write("upstream: " + a[0] % a[1:] + "\n")

            def reply(self, obj, status=200):
                data = json.dumps(obj).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                is_list = self.path.rstrip("/").endswith("/models")
                model = {"id": "mock", "object": "model", "owned_by": "mock"}
                self.reply({"object": "list", "data": [model]} if is_list else {"status": "ok"})

            def do_POST(self):
                if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
                    raw = b""
                    while True:
                        n = int(self.rfile.readline().split(b";")[0].strip() or b"0", 16)
                        raw += self.rfile.read(n)
                        self.rfile.readline()
                        if not n:
                            break
                else:
                    raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if (self.headers.get("Content-Encoding") or "").lower() == "gzip":
                    raw = gzip.decompress(raw)
                try:
                    body = json.loads(raw or b"{}")
                except ValueError:
                    self.reply({"error": {"message": "not JSON", "type": "invalid_request_error"}}, 400)
                    return
                path = self.path.split("?")[0].rstrip("/")
                if path.endswith("/embeddings"):
                    self.reply(outer.embed(body))
                elif path.endswith("/chat/completions"):
                    outer.chat(self, body)
                else:
                    self.reply({"error": {"message": f"no {path} here", "type": "invalid_request_error"}}, 404)

        self.server = ThreadingHTTPServer((host, port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://{host}:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def embed(self, body):
        inputs = body.get("input")
        inputs = [inputs] if isinstance(inputs, str) else inputs or []
        texts = [text if isinstance(text, str) else str(text) for text in inputs]
        vectors = (
            self.model.embed(texts)
            if self.model
            else [hashed(text, int(body.get("dimensions") or 384)) for text in texts]
        )
        data = []
        for i, v in enumerate(vectors):
            as_base64 = body.get("encoding_format") == "base64"
            v = base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() if as_base64 else [float(x) for x in v]
            data.append({"object": "embedding", "index": i, "embedding": v})
        with self.lock:
            self.calls.append({"kind": "embeddings", "tokens": sum(ntok(str(t)) for t in inputs)})
        return {
            "object": "list",
            "data": data,
            "model": body.get("model", "mock"),
            "usage": {"prompt_tokens": 0, "total_tokens": 0},
        }

    def is_real(self, messages):
        if not self.expect or not messages:
            return False
        last, want = messages[-1], self.expect
        if want.get("tool_call_id"):
            return last.get("tool_call_id") == want["tool_call_id"]
        return last.get("role") == want["role"] and text_of(last).strip().endswith(text_of(want).strip())

    def chat(self, handler, body):
        messages = body.get("messages") or []
        real = self.is_real(messages)
        tokens = prompt_tokens(messages, body.get("tools"))
        with self.lock:
            n = len(self.calls)
            self.calls.append(
                {"kind": "real" if real else "side", "body": body, "tokens": tokens, "n": n, "at": time.time()}
            )
        text, call = (f"Noted. [[reply-{n}]]", None) if real else side_answer(n, body)
        base = {"id": f"chatcmpl-{n}", "created": int(time.time()), "model": body.get("model", "mock")}
        usage = {"prompt_tokens": tokens, "completion_tokens": ntok(text), "total_tokens": tokens + ntok(text)}
        message = {"role": "assistant", "content": None if call else text, **({"tool_calls": [call]} if call else {})}
        end = "tool_calls" if call else "stop"
        if not body.get("stream"):
            return handler.reply(
                {
                    **base,
                    "object": "chat.completion",
                    "usage": usage,
                    "choices": [{"index": 0, "message": message, "finish_reason": end, "logprobs": None}],
                }
            )
        events = [
            {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": end}]},
        ]
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append({"choices": [], "usage": usage})
        return stream(handler, [{**base, "object": "chat.completion.chunk", **event} for event in events])


def side_answer(n, body):
    """(text, tool call or None) for a question that a gateway asks on its own account: an extract of what it shows."""
    messages = body.get("messages") or []
    limit = int(body.get("max_completion_tokens") or body.get("max_tokens") or 800)
    told = "\n".join(text_of(m) for m in messages if m.get("role") != "system")
    text = extract_summary(told or (text_of(messages[0]) if messages else ""), max(32, int(limit * 0.9)))
    fmt, choice = body.get("response_format") or {}, body.get("tool_choice")
    if fmt.get("type") == "json_schema":
        return json.dumps(fill_schema(fmt["json_schema"].get("schema") or {}, text)), None
    if fmt.get("type") == "json_object":
        return json.dumps({"summary": text, "facts": text.splitlines()[:12]}), None
    if not body.get("tools") or not (isinstance(choice, dict) or choice == "required"):
        return text, None
    want = choice["function"]["name"] if isinstance(choice, dict) else body["tools"][0]["function"]["name"]
    f = next(t["function"] for t in body["tools"] if t["function"]["name"] == want)
    arguments = json.dumps(fill_schema(f.get("parameters") or {}, text))
    return text, {"id": f"call_{n}", "type": "function", "function": {"name": want, "arguments": arguments}}


def stream(handler, chunks):
    """Answer with these chunks as server-sent events."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Connection", "close")
    handler.end_headers()
    for chunk in chunks:
        handler.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    handler.wfile.write(b"data: [DONE]\n\n")
    handler.close_connection = True
