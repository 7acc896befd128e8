"""What `litellm.token_counter` says; runs in an environment of its own, asked in one batch.

Reads a JSON list of requests on stdin, writes {"version", "counts"} on stdout. A request has `model` and either
`text` or `messages` with `tools` and `tool_choice`. Where litellm raises, the count is null.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is fetched at import


def count(counter: Any, request: dict[str, Any]) -> int | None:
    """One request's tokens."""
    try:
        if "text" in request:
            return int(counter(model=request["model"], text=request["text"]))
        return int(
            counter(
                model=request["model"],
                messages=request["messages"],
                tools=request.get("tools"),
                tool_choice=request.get("tool_choice"),
                use_default_image_token_count=request["is_remote"],
            )
        )
    except Exception:  # noqa: BLE001 - whatever a peer raises is its answer
        return None


def main() -> int:
    requests = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        import litellm

        counts = [count(litellm.token_counter, request) for request in requests]
    json.dump({"version": importlib.metadata.version("litellm"), "counts": counts}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
