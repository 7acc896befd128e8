"""Pictures, sounds and files as a line of text."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.context.elide_parts import stub_parts

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}
CASES = [
    ("encoded picture", PICTURE, ["picture", "data:image/png", "4065 bytes"]),
    ("picture by address", {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}, ["https://x.org/a.png"]),
    ("responses picture", {"type": "input_image", "image_url": "https://x.org/b.png"}, ["picture"]),
    ("sound", {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, ["sound", "wav"]),
    ("file", {"type": "file", "file": {"filename": "bill.pdf", "file_data": "AAAA"}}, ["file", "bill.pdf"]),
    ("file by id", {"type": "file", "file": {"file_id": "file-1"}}, ["file-1"]),
    ("odd picture", {"type": "image_url", "image_url": None}, ["picture"]),
]


@pytest.mark.parametrize(("part", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_part_says_what_it_was(part: dict[str, Any], said: list[str]) -> None:
    """Short, the same every time, and another one for other data."""
    message = {"role": "user", "content": [{"type": "text", "text": "Look:"}, part]}
    stubbed = stub_parts(message)
    text = stubbed["content"][1]["text"]

    assert stubbed["content"][0] == {"type": "text", "text": "Look:"}
    assert all(words in text for words in said)
    assert len(text) < 300
    assert stubbed == stub_parts(message)
    assert text != stub_parts({"role": "user", "content": [{**part, "detail": "low"}]})["content"][0]["text"]


@pytest.mark.parametrize("content", ["text", None, [], [{"type": "text", "text": "a"}], [{"type": "other"}]])
def test_text_stays_as_it_is(content: Any) -> None:
    """Nothing else is touched."""
    message = {"role": "user", "content": content, "name": "ann"}

    assert stub_parts(message) == message
