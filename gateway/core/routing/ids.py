"""Ids of what lives at one upstream only: responses, files, batches, conversations, and whatever else has one.

Who made a thing is the only one who knows it, so its id, seen in an answer, leads later requests that name it to the
same upstream. Nothing is known of kinds: an id is a word of letters, a mark and more, as all vendors form them.

Invariants, each with a test of its own:
  1. What a model or a user said is never taken for an id: inside of a JSON text quotes are escaped.
  2. Ids of any kind are found in a path, in the keys of a request that name one, and in an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

import msgspec

MAX_IDS = 128
"""That are taken from one answer."""
ANSWER_BYTES = 65_536
"""Of an answer, what is looked at."""
_form = r"[A-Za-z]{2,24}[-_][\w.:-]{4,120}"
_is_id = re.compile(_form, re.ASCII).fullmatch
_named = re.compile(rb'"(?:id|[a-z_]{1,40}_id)"\s*:\s*"(' + _form.encode() + rb')"')
_NAMING_KEYS = ("previous_response_id", "conversation", "input_file_id", "file_id", "training_file", "container")


def ids_in_path(path: str) -> list[str]:
    """Segments of a path that may be ids."""
    return [name for name in map(unquote, path.split("/")[3:]) if _is_id(name)]


def ids_in_values(values: Iterable[bytes]) -> list[str]:
    """Ids that values of a JSON object are, or name by an `id` of their own."""
    found = []
    for raw in values:
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        name = value.get("id") if isinstance(value, dict) else value
        if isinstance(name, str) and _is_id(name):
            found.append(name)
    return found


def ids_in_body(body: bytes) -> list[str]:
    """Ids by which a JSON body names what it is about."""
    try:
        told = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    return ids_in_values(bytes(told[key]) for key in _NAMING_KEYS if key in told)


def ids_in_answer(body: bytes) -> list[str]:
    """Ids of what an upstream has made or knows, of the beginning of its answer: JSON, or events that hold it."""
    found = (match[1].decode("ascii") for match in _named.finditer(body, 0, ANSWER_BYTES))
    return list(dict.fromkeys(found))[:MAX_IDS]
