"""What a named session keeps of its messages, for clients that do not resend all of them.

Pure: which messages of a request are kept, and in what form. Secrets are masked here, before anything is stored; what
is no text (pictures, sound) is kept as a mark of its kind.

Invariants, each with a test of its own:
  1. System messages are never kept, and a message is kept once, however its client spells it.
  2. Of one request no more is kept than half of a session's bounds, the newest: what a client resends each time never
     drives out what it will resend the next time.
  3. No secret of the shapes that `secrets` knows is in what is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import msgspec

from gateway.core.context.facts import MessageFacts
from gateway.core.context.render import turn_of
from gateway.core.context.secrets import mask_secrets
from gateway.core.wire.message import reread_message

_MAX_BYTES_A_TOKEN, _FRAME_BYTES = 32, 1000
"""A message of more bytes than that holds what is no text, which is not kept."""


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message of a named session.

    Attributes:
        number: its place in the session, from 1, in the order in which messages were first seen.
        canonical: the digest by which it is known again.
        role: as sent.
        name: its `name`, "" for none.
        tokens: about what it takes in a prompt.
        text: everything in it that can be recalled.
    """

    number: int
    canonical: bytes
    role: str
    name: str
    tokens: int
    text: str

    @property
    def size_bytes(self) -> int:
        """What it counts against a session's bound."""
        return 200 + len(self.name) + len(self.text.encode("utf-8", "surrogatepass"))


def session_key(client_scope: bytes, name: str) -> bytes:
    """What a session is known by: 32 bytes that no other client's session of any name has."""
    return hashlib.sha256(hashlib.sha256(client_scope).digest() + name.encode("utf-8", "surrogatepass")).digest()


def choose_new(
    raws: Sequence[msgspec.Raw | bytes],
    facts: Sequence[MessageFacts],
    known: Collection[bytes],
    max_messages: int,
    max_bytes: int,
) -> list[int]:
    """The indices of a request's messages that are to be kept, in order.

    Args:
        raws: its messages.
        facts: what is known of each.
        known: canonical digests of what is kept already.
        max_messages: bound of a session.
        max_bytes: bound of a session.
    """
    messages, size = max_messages // 2, max_bytes // 2
    chosen: dict[bytes, int] = {}
    for index in range(len(facts) - 1, -1, -1):
        fact = facts[index]
        if not fact.is_foldable:
            continue
        messages -= 1
        size -= min(memoryview(raws[index]).nbytes, _MAX_BYTES_A_TOKEN * fact.tokens + _FRAME_BYTES)
        if messages < 0 or size < 0:
            break
        if fact.canonical not in known:
            chosen[fact.canonical] = index  # the first of equal ones
    return sorted(chosen.values())


def keep_message(raw: msgspec.Raw | bytes, fact: MessageFacts) -> Kept:
    """A message as it is kept, without its number."""
    message = reread_message(raw)
    text = mask_secrets(turn_of(0, message).text)
    return Kept(0, fact.canonical, fact.role, mask_secrets(str(message.get("name") or "")), fact.tokens, text)
