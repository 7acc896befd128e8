"""A real gateway, judged by what it forwards to its upstream."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from benchmarks.retention.baselines import head
from benchmarks.retention.cases import cases, row
from benchmarks.retention.upstream import Upstream
from benchmarks.retention.words import message_tokens, text_of


def post(url, body, headers, timeout):
    """(status, text, headers in lower case, ms) of a POST; status 0 where nobody answered."""
    req = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
    t0 = time.perf_counter()
    try:
        with urllib.request.urlopen(req, timeout=timeout) as resp:
            raw, status, head_ = resp.read().decode("utf-8", "replace"), resp.status, resp.headers
    except urllib.error.HTTPError as e:
        raw, status, head_ = e.read().decode("utf-8", "replace"), e.code, e.headers
    except OSError as e:
        raw, status, head_ = str(e), 0, {}
    return status, raw, {k.lower(): v for k, v in head_.items()}, 1e3 * (time.perf_counter() - t0)


def wait_for(base_url, seconds):
    """Until somebody answers there, or the time is over."""
    origin = urllib.parse.urlsplit(base_url)
    for _ in range(int(seconds * 5)):
        try:
            urllib.request.urlopen(f"{origin.scheme}://{origin.netloc}/", timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)


class Prefixes:
    """How much of the prompt forwarded before is the start of the next one: the prompt cache's share.

    `whole` takes all of the earlier prompt. `stable` takes it up to its retrieved text, and only where no compaction
    lies between the two, that is, where both hold the same brief or none.
    """

    def __init__(self, brief_mark, recall_mark):
        self.marks = brief_mark, recall_mark
        self.previous = {}
        self.start_case()

    def start_case(self):
        """What is collected from now on belongs to another case."""
        self.whole, self.stable, self.compactions = [], [], 0

    def follow(self, key, now):
        """The next prompt of a conversation."""
        before = self.previous.get(key)
        self.previous[key] = now
        if not before:
            return
        pairs = zip(before, now, strict=False)
        same = next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(before), len(now)))
        self.whole.append(sum(map(message_tokens, before[:same])) / sum(map(message_tokens, before)))
        brief_mark, recall_mark = self.marks
        if self._holding(before, brief_mark) != self._holding(now, brief_mark):
            self.compactions += 1
            return
        end = next((i for i, m in enumerate(before) if recall_mark in text_of(m)), len(before))
        if end:
            self.stable.append(
                sum(map(message_tokens, before[: min(end, same)])) / sum(map(message_tokens, before[:end]))
            )

    @staticmethod
    def _holding(messages, mark):
        return [m for m in messages if mark in text_of(m)]

    def scores(self):
        """The means, where there are any."""
        out = {"compactions": self.compactions} if self.whole else {}
        for name, shares in (("prefix_share", self.whole), ("stable_share", self.stable)):
            if shares:
                out[name] = sum(shares) / len(shares)
        return out


class Client:
    """One client of the gateway, and what its upstream saw."""

    def __init__(self, up, args):
        self.up = up
        self.args = args
        self.url = args.base_url.rstrip("/") + "/chat/completions"

    def ask(self, messages, tools, session, memory=None):
        """Send these messages; {raw, headers, ms, calls, why it is not valid or None, body as forwarded}."""
        args, up = self.args, self.up
        headers = {"Authorization": f"Bearer {args.api_key}", **dict(h.split(":", 1) for h in args.header)}
        if session:
            headers[args.session_header] = session
        if memory:
            headers[args.memory_header] = memory
        up.expect = messages[-1]
        mark = len(up.calls)
        body = {"model": args.model, "messages": messages, "max_tokens": args.completion, "stream": args.stream}
        if tools:
            body["tools"] = tools
        status, raw, got, ms = post(self.url, body, headers, args.timeout)
        if args.settle:
            time.sleep(args.settle)
        calls = up.calls[mark:]
        real = [c for c in calls if c["kind"] == "real"]
        named = [c for c in real if f"[[reply-{c['n']}]]" in raw]
        why = None
        if status != 200:
            why = f"HTTP {status}"
        elif not named:
            why = "reply did not come from the recorded call" if real else "nothing was forwarded"
        forwarded = (named or real or [{"body": None}])[-1]["body"]
        return {"raw": raw, "headers": got, "ms": ms, "calls": calls, "why": why, "body": forwarded}


def side(calls):
    """(number, tokens) of the calls that were not the client's own."""
    tokens = [c["tokens"] for c in calls if c["kind"] != "real"]
    return len(tokens), sum(tokens)


def next_step(sent, start, step):
    """Where the next replayed request ends: after a user message or a whole run of tool results."""
    i = start + step
    while i < len(sent) and (sent[i - 1]["role"] not in ("user", "tool") or sent[i]["role"] == "tool"):
        i += 1
    return i


class Judge:
    """Feeds cases to a gateway and scores what comes out at its other end."""

    def __init__(self, up, args):
        self.args = args
        self.client = Client(up, args)
        self.prefixes = Prefixes(args.brief_mark, args.recall_mark)
        self.fed = {}
        self.remembered = set()

    def _session(self, record, k):
        kind = self.args.session
        return record["id"] if kind == "record" else f"{record['id']}-{k}" if kind == "case" else None

    def _grow(self, record, sent, session, key):
        """Let the gateway see the conversation grow first; (number, tokens) of side calls."""
        args, number, tokens = self.args, 0, 0
        at = self.fed[key]
        for begin in range(at, len(sent) - 1 - args.step, args.step):
            i = next_step(sent, begin, args.step)
            if not self.fed[key] < i < len(sent):
                continue
            part = sent[:i] if args.feed == "replay" else sent[: head(sent)] + sent[self.fed[key] : i]
            got = self.client.ask(part, record.get("tools"), session)
            more, more_tokens = side(got["calls"])
            number, tokens = number + more, tokens + more_tokens
            self.fed[key] = i
            if got["body"]:
                self.prefixes.follow(key, got["body"]["messages"])
        return number, tokens

    def _remember(self, record):
        """Let a conversation be folded into a memory of its own, whole and once, as it grows."""
        messages = record["messages"]
        if record["id"] in self.remembered:
            return
        self.remembered.add(record["id"])
        at = next_step(messages, 0, self.args.step)
        while True:
            end = min(at, len(messages))
            self.client.ask(messages[:end], record.get("tools"), None, record["id"])
            if end == len(messages):
                break
            at = next_step(messages, end, self.args.step)
        time.sleep(self.args.remember)

    def case(self, k, record, sent, q, score):
        """The row of one case."""
        args = self.args
        if args.feed == "memory":
            return self._asked_anew(record, sent, q, score)
        session = self._session(record, k)
        key = session or record["id"]
        self.fed.setdefault(key, 1)
        self.prefixes.start_case()
        number, tokens = self._grow(record, sent, session, key) if args.feed != "oneshot" else (0, 0)
        whole = sent if args.feed != "delta" else sent[: head(sent)] + sent[self.fed[key] :]
        got = self.client.ask(whole, record.get("tools"), session)
        body = got["body"] or {"messages": [{"role": "none", "content": ""}], "tools": record.get("tools")}
        room = args.budget - args.completion
        one = row(record, q, sent, body["messages"], body.get("tools"), room, score, got["ms"])
        if got["why"]:
            one["errors"] = [*one["errors"], got["why"]] if got["body"] else [got["why"]]
            one["fits"] = one["fits"] if got["body"] else None
        one["valid"] = float(not one["errors"])
        one["upstream_calls"] = len(got["calls"]) + number
        one["side_tokens"] = side(got["calls"])[1] + tokens
        one["unchanged"] = float(body["messages"] == sent)
        one["compaction"] = got["headers"].get(args.level_header)
        one.update(self.prefixes.scores())
        if args.twice:
            again = self.client.ask(sent, record.get("tools"), session)["body"] or {}
            one["stable"] = float(again.get("messages") == body["messages"])
        if args.keep_prompts:
            one["prompt"] = body["messages"]
        return one

    def _asked_anew(self, record, sent, q, score):
        """The row of a question that is asked in a chat of its own, of the memory that the conversation went to."""
        args = self.args
        self._remember(record)
        whole = sent[: head(sent)] + sent[-1:]
        got = self.client.ask(whole, None, None, record["id"])
        body = got["body"] or {"messages": [{"role": "none", "content": ""}]}
        one = row(
            {**record, "tools": None},
            q,
            whole,
            body["messages"],
            body.get("tools"),
            args.budget - args.completion,
            score,
            got["ms"],
        )
        # A named memory may add to what was sent, as far as the budget is free.
        one["errors"] = [e for e in one["errors"] if e != "larger than what the client sent"] + (
            [got["why"]] if got["why"] else []
        )
        one["valid"] = float(not one["errors"])
        one["compaction"] = got["headers"].get(args.level_header)
        return one


def model_of(args):
    """What embeds; None for hashed words."""
    if not args.model_folder:
        return None
    from benchmarks.retention.minilm import MiniLM  # needs its weights

    return MiniLM(args.model_folder, args.vectors)


def run_http(records, args):
    """The rows of all cases; the recording upstream, and the gateway if there is a command for it, live as long."""
    up = Upstream(args.upstream_host, args.upstream_port, args.verbose, model_of(args))
    print(f"recording upstream at {up.url}", flush=True)
    gateway = None
    if args.gateway_cmd:
        gateway = subprocess.Popen(
            shlex.split(args.gateway_cmd.replace("{upstream}", up.url)),
            env={**os.environ, "OPENAI_BASE_URL": up.url, "UPSTREAM_BASE_URL": up.url},
        )
    try:
        wait_for(args.base_url, args.wait)
        judge = Judge(up, args)
        return [judge.case(k, *each) for k, each in enumerate(cases(records, args.budget - args.completion, args))]
    finally:
        if gateway:
            gateway.terminate()
            gateway.wait(10)
        if up.model:
            up.model.close()
        up.server.shutdown()
        up.server.server_close()
