"""An application that talks to a model all the time, also while it is told to end.

It knows OPENAI_BASE_URL and nothing of a gateway. Each answer is a line of JSON; a stream that does not end with
[DONE] is a failure. After SIGTERM it goes on for LINGER_SECONDS, and then ends with the answer that it is reading.
"""

import json
import os
import signal
import sys
import time
import urllib.request

BASE_URL = os.environ["OPENAI_BASE_URL"]
KEY = os.environ.get("OPENAI_API_KEY", "none")
LINGER_SECONDS = float(os.environ.get("LINGER_SECONDS", "10"))
told_at = None


def hear(_number, _frame):
    """SIGTERM: the time is noted, and nothing is broken off."""
    global told_at
    told_at = time.monotonic()
    say(event="told")


def say(**fields):
    """One line of JSON; a single write, since a signal may come between two."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def read_answer():
    """One streamed answer: its text, and whether it came to its end."""
    body = {
        "model": os.environ.get("MODEL", "gpt-4o-mini"),
        "messages": [{"role": "user", "content": os.environ.get("QUESTION", "Hello.")}],
        "stream": True,
    }
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + KEY}
    request = urllib.request.Request(BASE_URL + "/chat/completions", json.dumps(body).encode(), headers)
    text, whole = "", False
    with urllib.request.urlopen(request, timeout=60) as stream:
        for line in stream:
            data = line.decode().removeprefix("data: ").strip()
            if data == "[DONE]":
                whole = True  # and what is left is read, so that nobody takes this for a client that left
            elif line.startswith(b"data: ") and (choices := json.loads(data).get("choices")):
                text += choices[0]["delta"].get("content") or ""
    return text, whole


def main():
    """Ask until told to end, and for a while after."""
    signal.signal(signal.SIGTERM, hear)
    failed = 0
    say(event="started")
    while told_at is None or time.monotonic() < told_at + LINGER_SECONDS:
        began = time.monotonic()
        try:
            text, whole = read_answer()
            error = "" if whole else "the stream was cut"
        except OSError as caught:
            text, error = "", repr(caught)
        say(event="answer", text=text, error=error, told=told_at is not None)
        failed += bool(error)
        time.sleep(max(0, began + 0.05 - time.monotonic()))
    say(event="ended", failed=failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
