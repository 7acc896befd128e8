"""Old pictures, sounds and files become a line of text that says what was there.

The line is a function of the part alone, so a message is forwarded with the same bytes as long as it is elided. Text
parts stay as they are. Nothing is looked at or fetched; a part's digest tells equal ones from others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

_NAMES = {
    "image_url": "picture",
    "input_image": "picture",
    "image": "picture",
    "input_audio": "sound",
    "audio": "sound",
    "file": "file",
    "input_file": "file",
}
_MAX_SHOWN_CHARS = 120


def stub_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with a line of text in place of each picture, sound and file.

    Args:
        message: as parsed; one whose content is a string, or has only text parts, comes back equal.
    """
    content = message.get("content")
    if not isinstance(content, list):
        return dict(message)
    return {**message, "content": [_stub(part) for part in content]}


def _stub(part: Any) -> Any:
    kind = _NAMES.get(part.get("type", "")) if isinstance(part, Mapping) else None
    if kind is None:
        return part
    encoded = msgspec.json.encode(part, order="deterministic")
    said = [kind, *_details(part), f"{len(encoded)} bytes", f"id {hashlib.sha256(encoded).hexdigest()[:12]}"]
    return {"type": "text", "text": f"[left out: {', '.join(said)}]"}


def _details(part: Mapping[str, Any]) -> list[str]:
    """A file's name, a picture's address, the kind of encoded data: whatever is short and says something."""
    inner = part.get(part.get("type", ""))
    fields = inner if isinstance(inner, Mapping) else {**part, "url": inner} if isinstance(inner, str) else part
    details = [str(fields[key])[:_MAX_SHOWN_CHARS] for key in ("filename", "format", "file_id") if fields.get(key)]
    url = fields.get("url")
    if isinstance(url, str) and url:
        details.append(url.partition(";")[0] if url.startswith("data:") else url[:_MAX_SHOWN_CHARS])
    return details
