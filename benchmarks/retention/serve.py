"""The command that starts our gateway before the recording upstream."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import ROOT, free_port

CONFIG = """\
server: {{host: 127.0.0.1, port: {port}, admin_host: 127.0.0.1, admin_port: {admin_port}}}
upstreams: [{{name: recorder, base_url: "http://127.0.0.1:{upstream}/v1", api_key: sk-test, models: ["*"]}}]
token_budget: {{max_total: {max_total}}}
summarizer: {{endpoint: "{endpoint}", model: "{model}"}}
telemetry: {{log_level: warning}}
facts: {{mine: {mine}, retrieve_seconds: 5, embeddings: {embeddings}}}
"""
EMBEDDINGS = "{base_url: upstream, model: minilm, batch_size: 32, deadline_seconds: 60}"
"""Patient: what is judged is what is found once vectors are there, and not how soon."""


@contextlib.contextmanager
def gateway_config(args, port):
    """The command, good as long as the block lasts."""
    text = CONFIG.format(
        port=port,
        admin_port=free_port(),
        upstream=args.upstream_port,
        max_total=args.budget,
        endpoint=f"http://127.0.0.1:{args.upstream_port}/v1/chat/completions" if args.summarizer else "",
        model=args.model if args.summarizer else "",
        mine=args.mine,
        embeddings=EMBEDDINGS if args.embeddings else "null",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gateway.yaml")
        path.write_text(text)
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(path)]
        yield f"env -C {shlex.quote(str(ROOT))} {shlex.join(command)}"
