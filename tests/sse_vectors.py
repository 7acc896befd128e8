"""Server-sent event streams as upstreams really send them, and some that try to be misread.

`events` is what the SSE specification dispatches (WHATWG HTML, section 9.2.6): an event without a data field
is none, an event that the end of the stream cuts short is none, a type that is not given is "message".

`without_usage` is what the client would have seen had usage not been asked for (chat, legacy completions):
  1. An event with `"choices":[]`, a top-level usage object and no other content goes whole: its lines and its
     blank line. Content is a key that is not of the envelope (ENVELOPE below) and whose value is not null.
  2. A top-level `"usage":null` goes with one adjoining comma and the white space between: the last key from
     the end of the value before it to the end of null, any other from its start to the start of the next key,
     a sole one from its start to the end of null.
  3. Every other byte stays. An unfinished event at the end of the stream stays whole.
"""

from __future__ import annotations

from dataclasses import dataclass

ENVELOPE = frozenset({"id", "object", "created", "model", "service_tier", "system_fingerprint", "obfuscation"})


@dataclass(frozen=True, slots=True)
class Vector:
    """`without_usage` is None where nothing may be spliced: streams of typed events (`kind` responses)."""

    name: str
    raw: bytes
    events: list[tuple[str, str]]
    without_usage: bytes | None
    kind: str = "chat"


def spliced(name: str, *pairs: tuple[str, str | None], kind: str = "chat") -> Vector:
    """From the data of plain events, each with what is left of it (None: the event goes)."""
    raw = "".join(f"data: {before}\n\n" for before, _ in pairs)
    left = "".join(f"data: {after}\n\n" for _, after in pairs if after is not None)
    return Vector(name, raw.encode(), [("message", before) for before, _ in pairs], left.encode(), kind)


def kept(name: str, *data: str) -> Vector:
    """From the data of plain events that stay as they are."""
    return spliced(name, *((one, one) for one in data))


def framed(name: str, raw: str, events: list[str | tuple[str, str]], without_usage: str | None = None) -> Vector:
    """From the whole stream; bare strings are the data of "message" events; None: nothing is spliced."""
    named = [("message", one) if isinstance(one, str) else one for one in events]
    return Vector(name, raw.encode(), named, (raw if without_usage is None else without_usage).encode())


HEAD = '"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o"'
ROLE = '"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}]'
TEXT = '"choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null}]'
STOP = '"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]'
USAGE = (
    '"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,'
    '"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0}}'
)
SPACED = '"id": "c-1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]'
DONE = ("[DONE]", "[DONE]")
LAST = f'{{{HEAD},"choices":[],{USAGE}}}'
NULLED, CLEAN = f'{{{HEAD},{TEXT},"usage":null}}', f"{{{HEAD},{TEXT}}}"
FILTERS = '"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false}}}]'
GROQ = '"x_groq":{"id":"req_1","usage":{"queue_time":0.06,"prompt_tokens":18,"total_tokens":20}}'
ERROR = '{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}'
BIG = "0123456789abcdef" * 12_800


def padded(choices: str, usage: str) -> str:
    return f'{{{HEAD},{choices}{usage},"obfuscation":"xK9"}}'


VENDORS = [
    spliced(
        "openai compact",
        (f'{{{HEAD},{ROLE},"usage":null}}', f"{{{HEAD},{ROLE}}}"),
        (NULLED, CLEAN),
        (f'{{{HEAD},{STOP},"usage":null}}', f"{{{HEAD},{STOP}}}"),
        (LAST, None),
        DONE,
    ),
    spliced(
        "openai with obfuscation",
        (padded(ROLE, ',"usage":null'), padded(ROLE, "")),
        (padded(TEXT, ',"usage":null'), padded(TEXT, "")),
        (padded('"choices":[]', f",{USAGE}"), None),
        DONE,
    ),
    spliced(
        "python spacing",
        (f'{{{SPACED}, "usage": null}}', f"{{{SPACED}}}"),
        ('{"id": "c-1", "choices": [], "usage": {"prompt_tokens": 9, "total_tokens": 11}}', None),
        DONE,
    ),
    kept("openai without usage", f"{{{HEAD},{ROLE}}}", CLEAN, f"{{{HEAD},{STOP}}}", "[DONE]"),
    spliced(
        "usage in the last chunk with choices",
        (NULLED, CLEAN),
        (f"{{{HEAD},{STOP},{USAGE}}}", f"{{{HEAD},{STOP},{USAGE}}}"),
        DONE,
    ),
    spliced(
        "usage in every chunk",
        (f"{{{HEAD},{TEXT},{USAGE}}}", f"{{{HEAD},{TEXT},{USAGE}}}"),
        (LAST, None),
        DONE,
    ),
    kept("groq, usage below x_groq", f"{{{HEAD},{TEXT}}}", f"{{{HEAD},{STOP},{GROQ}}}", "[DONE]"),
    spliced(
        "azure, filter results first",
        (
            f'{{"choices":[],"created":0,"id":"","model":"","object":"",{FILTERS},"usage":null}}',
            f'{{"choices":[],"created":0,"id":"","model":"","object":"",{FILTERS}}}',
        ),
        (NULLED, CLEAN),
        (LAST, None),
        DONE,
    ),
    kept("usage chunk with other content", f'{{{HEAD},"choices":[],{FILTERS},{USAGE}}}', "[DONE]"),
    spliced("usage before choices", (f'{{{HEAD},{USAGE},"choices":[]}}', None), DONE),
    spliced("no choices and no usage yet", (f'{{{HEAD},"choices":[],"usage":null}}', f'{{{HEAD},"choices":[]}}')),
    spliced(
        "legacy completions",
        (
            '{"id":"cmpl-1","object":"text_completion","choices":[{"text":" Hi","index":0}],"usage":null}',
            '{"id":"cmpl-1","object":"text_completion","choices":[{"text":" Hi","index":0}]}',
        ),
        (f'{{"id":"cmpl-1","object":"text_completion","model":"m",{USAGE},"choices":[]}}', None),
        DONE,
        kind="completions",
    ),
]

NULLS = [
    spliced("null first", ('{"usage":null,"id":"1","choices":[]}', '{"id":"1","choices":[]}')),
    spliced("null first, spaced", ('{ "usage" : null , "id": "1"}', '{ "id": "1"}')),
    spliced("null in the middle", ('{"id":"1","usage":null,"choices":[]}', '{"id":"1","choices":[]}')),
    spliced("null in the middle, spaced", ('{"id": "1" , "usage" : null ,  "n": 1}', '{"id": "1" , "n": 1}')),
    spliced("null last, spaced", ('{"id": "1" ,  "usage" :  null  }', '{"id": "1"  }')),
    spliced("null alone", ('{"usage":null}', "{}"), ('{ "usage": null }', "{  }")),
    spliced("null and a nested one", (
        '{"choices":[{"delta":{"content":"","usage":null}}],"x":{"usage":null},"usage":null}',
        '{"choices":[{"delta":{"content":"","usage":null}}],"x":{"usage":null}}',
    )),
    kept("nested nulls alone", '{"choices":[{"usage":null}],"x":[{"usage":null}]}', '[{"usage":null}]'),
    kept("names that only end alike", '{"x_usage":null,"usage ":null,"USAGE":null,"id":"usage","v":null}'),
    kept("text that looks like usage", (
        r'{"choices":[{"delta":{"content":"\"usage\":null and ,\"usage\":null} \\"}}],"id":"\"usage\":null"}'
    )),
    kept("text that looks like the end", '{"choices":[{"delta":{"content":"data: [DONE]\\n\\ndata:"}}]}'),
    spliced("text that looks like usage, and usage", (
        r'{"choices":[{"delta":{"content":"}],\"usage\":null}\\"}}],"usage":null}',
        r'{"choices":[{"delta":{"content":"}],\"usage\":null}\\"}}]}',
    )),
    spliced("escaped quotes in tool arguments", (
        r'{"choices":[{"delta":{"tool_calls":[{"arguments":"{\"usage\":null,\""}]}}],"usage":null}',
        r'{"choices":[{"delta":{"tool_calls":[{"arguments":"{\"usage\":null,\""}]}}]}',
    )),
    kept("data that is no object", '[{"usage":null', "null", "usage:null", '"usage":null'),
    spliced("UTF-8 of 2, 3 and 4 bytes", (
        '{"choices":[{"delta":{"content":"é 漢 😀 \\ud83d\\ude00"}}],"usage":null}',
        '{"choices":[{"delta":{"content":"é 漢 😀 \\ud83d\\ude00"}}]}',
    )),
    spliced("characters that are no line ends", (
        '{"choices":[{"delta":{"content":"a\u2028b\u2029c\x85d"}}],"usage":null,"id":1}',
        '{"choices":[{"delta":{"content":"a\u2028b\u2029c\x85d"}}],"id":1}',
    ), ("a\x0bb\x0cc\x1cd\x1ee", "a\x0bb\x0cc\x1cd\x1ee")),
    spliced("200 kB", (
        f'{{"choices":[{{"delta":{{"content":"{BIG}"}}}}],"usage":null}}',
        f'{{"choices":[{{"delta":{{"content":"{BIG}"}}}}]}}',
    ), DONE),
]  # fmt: skip

FRAMES = [
    framed(
        "CRLF",
        f"data: {NULLED}\r\n\r\ndata: {LAST}\r\n\r\ndata: [DONE]\r\n\r\n",
        [NULLED, LAST, "[DONE]"],
        f"data: {CLEAN}\r\n\r\ndata: [DONE]\r\n\r\n",
    ),
    framed(
        "lone CR",
        f"data: {NULLED}\r\rdata: {LAST}\r\rdata: [DONE]\r\r",
        [NULLED, LAST, "[DONE]"],
        f"data: {CLEAN}\r\rdata: [DONE]\r\r",
    ),
    framed(
        "mixed line ends",
        f"data: {NULLED}\n\r\ndata: {LAST}\r\r\ndata: {NULLED}\r\n\rdata: {LAST}\n\rdata: [DONE]\r\n\n",
        [NULLED, LAST, NULLED, LAST, "[DONE]"],
        f"data: {CLEAN}\n\r\ndata: {CLEAN}\r\n\rdata: [DONE]\r\n\n",
    ),
    framed("data of several lines", "data: one\ndata:two\ndata:  three\n\n", ["one\ntwo\n three"]),
    framed(
        "JSON over several lines",
        'data: {\ndata:   "choices": [1],\ndata:   "usage": null\ndata: }\n\n'
        'data: {\ndata:   "usage": null,\ndata:   "choices": [2]\ndata: }\n\n'
        'data: {"choices": [],\ndata: "usage": {"prompt_tokens": 1}}\n\ndata: [DONE]\n\n',
        [
            '{\n  "choices": [1],\n  "usage": null\n}',
            '{\n  "usage": null,\n  "choices": [2]\n}',
            '{"choices": [],\n"usage": {"prompt_tokens": 1}}',
            "[DONE]",
        ],
        'data: {\ndata:   "choices": [1]\ndata: }\n\n'
        'data: {\ndata:   "choices": [2]\ndata: }\n\ndata: [DONE]\n\n',
    ),
    framed(
        "comments",
        f": OPENROUTER PROCESSING\n\n:\n\n:alive\ndata: {NULLED}\n\n: data: no\n\ndata: {LAST}\n\n: bye\n\n",
        [NULLED, LAST],
        f": OPENROUTER PROCESSING\n\n:\n\n:alive\ndata: {CLEAN}\n\n: data: no\n\n: bye\n\n",
    ),
    framed(
        "event, id and retry",
        f"retry: 3000\n\nid: 7\nevent: chunk\ndata: {NULLED}\n\nid: 8\nevent:chunk\ndata: {LAST}\nretry:1\n\n"
        "event: ping\n\ndata: after\n\nevent: a\nevent: b\ndata: x\nother: y\nid\n\nevent:\ndata: z\n\n",
        [("chunk", NULLED), ("chunk", LAST), "after", ("b", "x"), "z"],
        f"retry: 3000\n\nid: 7\nevent: chunk\ndata: {CLEAN}\n\n"
        "event: ping\n\ndata: after\n\nevent: a\nevent: b\ndata: x\nother: y\nid\n\nevent:\ndata: z\n\n",
    ),
    framed(
        "BOM at the start",
        f"\ufeffdata: {NULLED}\n\ndata: {LAST}\n\n",
        [NULLED, LAST],
        f"\ufeffdata: {CLEAN}\n\n",
    ),
    framed("BOM later", "data: 1\n\n\ufeffdata: 2\n\ndata: \ufeff3\n\n", ["1", "\ufeff3"]),
    framed("no [DONE]", f"data: {NULLED}\n\ndata: {LAST}\n\n", [NULLED, LAST], f"data: {CLEAN}\n\n"),
    framed("no blank line at the end",
           f"data: {NULLED}\n\ndata: [DONE]\n", [NULLED], f"data: {CLEAN}\n\ndata: [DONE]\n"),
    framed("no line end at the end", f"data: {CLEAN}\n\ndata: [DONE]", [CLEAN]),
    framed("unfinished null", f"data: {NULLED}\n", []),
    framed("unfinished usage", f"data: {NULLED}\n\ndata: {LAST}", [NULLED], f"data: {CLEAN}\n\ndata: {LAST}"),
    framed("cut within JSON",
           f"data: {NULLED}\n\ndata: {NULLED[:60]}", [NULLED], f"data: {CLEAN}\n\ndata: {NULLED[:60]}"),
    framed("empty data", "data:\n\ndata\n\ndata: \n\ndata:\ndata:\n\ndata: x\n\n", ["", "", "", "\n", "x"]),
    framed("blank lines", f"\n\n\ndata: {NULLED}\n\n\n\r\n\rdata: [DONE]\n\n\n", [NULLED, "[DONE]"],
           f"\n\n\ndata: {CLEAN}\n\n\n\r\n\rdata: [DONE]\n\n\n"),
    framed(
        "error within the stream",
        f"data: {NULLED}\n\ndata: {ERROR}\n\nevent: error\ndata: {ERROR[:-1]},\"usage\":null}}\n\n",
        [NULLED, ERROR, ("error", f'{ERROR[:-1]},"usage":null}}')],
        f"data: {CLEAN}\n\ndata: {ERROR}\n\nevent: error\ndata: {ERROR}\n\n",
    ),
    framed(
        "white space around JSON",
        f"data:   {NULLED}  \n\ndata:\t{NULLED}\n\ndata: \t {LAST} \n\n",
        [f"  {NULLED}  ", f"\t{NULLED}", f"\t {LAST} "],
        f"data:   {CLEAN}  \n\ndata:\t{CLEAN}\n\n",
    ),
    framed("no space after data:",
           f"data:{NULLED}\n\ndata:{LAST}\n\ndata:[DONE]\n\n", [NULLED, LAST, "[DONE]"],
           f"data:{CLEAN}\n\ndata:[DONE]\n\n"),
    framed("names that only look like data",
           "Data: a\n\n data: b\n\ndata : c\n\ndatax: d\n\ndata:e\n\n", ["e"]),
    framed("after [DONE]",
           f"data: [DONE]\n\ndata: {NULLED}\n\n", ["[DONE]", NULLED], f"data: [DONE]\n\ndata: {CLEAN}\n\n"),
    Vector("invalid UTF-8",
           b"data: {\"id\":\"\xff\"}\n\n", [("message", '{"id":"\ufffd"}')], b"data: {\"id\":\"\xff\"}\n\n"),
    Vector("nothing", b"", [], b""),
]  # fmt: skip

CREATED = '{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","output":[],"usage":null}}'
DELTA = '{"type":"response.output_text.delta","sequence_number":1,"delta":"Hi","logprobs":[],"usage":null}'
COMPLETED = '{"type":"response.completed","sequence_number":2,"response":{"id":"resp_1","usage":{"input_tokens":9}}}'
TYPED = [
    ("response.created", CREATED),
    ("response.output_text.delta", DELTA),
    ("response.completed", COMPLETED),
]
RESPONSES = [
    Vector(
        "responses, typed events",
        "".join(f"event: {event}\ndata: {data}\n\n" for event, data in TYPED).encode(),
        TYPED,
        None,
        "responses",
    )
]

VECTORS: list[Vector] = [*VENDORS, *NULLS, *FRAMES, *RESPONSES]
