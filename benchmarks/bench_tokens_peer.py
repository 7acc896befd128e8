"""Asked by `bench_tokens`, in the peers' environment: microseconds and tokens of `litellm.token_counter`.

Standard input holds the path of a chat request's body on each line; a line of JSON answers each. What litellm is given
is read from the body within the time, as a gateway that counts with it would.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network as it is imported
from litellm import token_counter

ENOUGH_S = 0.5


def count(body: bytes) -> int:
    """As its documentation shows."""
    tree = json.loads(body)
    return token_counter(model=tree["model"], messages=tree["messages"])


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        body = Path(line.strip()).read_bytes()
        tokens = count(body)
        times: list[float] = []
        ends_at = time.perf_counter() + ENOUGH_S
        while len(times) < 3 or time.perf_counter() < ends_at:
            began = time.perf_counter()
            count(body)
            times.append(time.perf_counter() - began)
        print(json.dumps({"us": sorted(times)[len(times) // 2] * 1e6, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main()
