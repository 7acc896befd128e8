"""What parts of a message cost: text as it is, pictures by rule, sound and files by stated assumptions."""

import base64
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.content import FILE_TOKENS, Parts, content_text, weigh_content
from gateway.core.tokens.images import ASSUMED_SIZE, TILES_GPT_4O, image_tokens
from tests.json_texts import VALUES

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 100, 100)).decode()
URL = f"data:image/png;base64,{PNG}"
SMALL, UNKNOWN = 255, image_tokens(TILES_GPT_4O, ASSUMED_SIZE)


def wav(seconds, rate=32_000):
    data = b"\0" * int(seconds * rate - 44)
    head = (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, rate, 2, 16)
    )
    return base64.b64encode(head + b"data" + struct.pack("<I", len(data)) + data).decode()


def text(said):
    return {"type": "text", "text": said}


CONTENTS = {
    "nothing": (None, Parts((), 0)),
    "a text": ("Hi", Parts(("Hi",), 0)),
    "no text": ("", Parts((), 0)),
    "no parts": ([], Parts((), 0)),
    "parts are one text": ([text("a"), text("b")], Parts(("ab",), 0)),
    "input and output text": (
        [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}],
        Parts(("ab",), 0),
    ),
    "a refusal": ([{"type": "refusal", "refusal": "No."}], Parts(("No.",), 0)),
    "a thought": ([{"type": "thinking", "thinking": "Hm", "signature": "x" * 99}], Parts(("Hm",), 0)),
    "a picture between texts": (
        [text("a"), {"type": "image_url", "image_url": {"url": URL}}, text("b")],
        Parts(("a", "b"), SMALL),
    ),
    "a picture of Responses": ([{"type": "input_image", "image_url": URL}], Parts((), SMALL)),
    "a picture of Anthropic's": (
        [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}],
        Parts((), SMALL),
    ),
    "a picture at low detail": ([{"type": "image_url", "image_url": {"url": URL, "detail": "low"}}], Parts((), 85)),
    "low detail of Responses": ([{"type": "input_image", "image_url": URL, "detail": "low"}], Parts((), 85)),
    "a picture elsewhere": (
        [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}],
        Parts((), UNKNOWN),
    ),
    "a picture by id": ([{"type": "input_image", "file_id": "file-1"}], Parts((), UNKNOWN)),
    "a picture of odd type": ([{"type": "image_url", "image_url": 3}], Parts((), UNKNOWN)),
    "a damaged picture": ([{"type": "image_url", "image_url": {"url": URL[:40]}}], Parts((), UNKNOWN)),
    "a minute of sound": ([{"type": "input_audio", "input_audio": {"data": wav(60), "format": "wav"}}], Parts((), 604)),
    "a minute of mp3": (
        [{"type": "input_audio", "input_audio": {"data": "A" * 1_280_000, "format": "mp3"}}],
        Parts((), 604),
    ),
    "sound without data": ([{"type": "input_audio", "input_audio": "?"}], Parts((), FILE_TOKENS)),
    "a file by id": ([{"type": "file", "file": {"file_id": "file-1"}}], Parts((), FILE_TOKENS)),
    "a file by address": ([{"type": "input_file", "file_url": "https://example.com/a.pdf"}], Parts((), FILE_TOKENS)),
    "a file in the request": (
        [{"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 15_972}}],
        Parts((), 100 + 300),
    ),
    "a text file in the request": (
        [{"type": "input_file", "file_data": "data:text/plain;base64," + "A" * 1_577}],
        Parts((), 100 + 300),
    ),
    "a document of Anthropic's": (
        [{"type": "document", "source": {"type": "base64", "data": "A" * 16_000}}],
        Parts((), 100 + 300),
    ),
    "an enormous file": ([{"type": "input_file", "file_data": "A" * 30_000_000}], Parts((), 100_000)),
    "a tool's result of Anthropic's": (
        [
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [text("a"), {"type": "image", "source": {"data": PNG}}],
            }
        ],
        Parts(("a",), SMALL),
    ),
    "a part nobody knows": ([{"type": "odd", "x": [1]}], Parts(('{"type":"odd","x":[1]}',), 0)),
    "data in a part nobody knows": (
        [{"type": "odd", "x": {"y": "data:video/mp4;base64,AAAA"}}],
        Parts((), FILE_TOKENS),
    ),
    "parts that are none": (["a", 5, None], Parts(("a5null",), 0)),
    "an object": ({"a": 1}, Parts(('{"a":1}',), 0)),
}


@pytest.mark.parametrize(("content", "parts"), CONTENTS.values(), ids=CONTENTS)
def test_a_content_weighs_its_parts(content, parts):
    assert weigh_content(content, TILES_GPT_4O) == parts


PART_KEYS = st.sampled_from(
    [
        "type",
        "text",
        "image_url",
        "url",
        "detail",
        "source",
        "data",
        "input_audio",
        "format",
        "file",
        "file_data",
        "content",
    ]
)
PARTS = st.recursive(
    VALUES | st.sampled_from(["image_url", "input_audio", "file", "tool_result", URL, PNG, "data:,", "low", "wav"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PART_KEYS, inner, max_size=4),
    max_leaves=14,
)


@settings(max_examples=400)
@given(PARTS)
def test_any_content_has_a_weight(content):
    """Any JSON has texts and a number; nothing is raised."""
    found = weigh_content(json.loads(json.dumps(content)), TILES_GPT_4O)

    assert found.fixed_tokens >= 0
    assert all(isinstance(each, str) and each for each in found.texts)


@given(st.lists(st.text(max_size=9), max_size=5))
def test_the_text_of_parts_is_theirs_joined(texts):
    parts = [text(each) for each in texts]

    assert content_text(parts) == "".join(texts) == "".join(weigh_content(parts, TILES_GPT_4O).texts)
