"""Secrets by their shape, masked wherever text is kept: in briefs, in what is stored, in what a summariser reads.

Only shapes that are nothing else: keys with a vendor's prefix, tokens in three dotted parts, private keys, passwords
in URLs, in assignments, and told in a sentence where they look like one. A prompt that is forwarded as it came is not
masked; the application sent it.

Invariants, each with a test of its own:
  1. No secret of these shapes survives.
  2. Other text comes back as it was, and masking twice changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MASK = "[secret]"
_BODY = r"[A-Za-z0-9_-]"
_HAS_DIGIT = r"(?=[A-Za-z_-]{0,40}\d)"
_KEY = r"PRIVATE KEY(?: BLOCK)?-----"
_SHAPES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("PRIVATE KEY",), rf"-----BEGIN [A-Z ]{{0,40}}{_KEY}[\s\S]*?(?:-----END [A-Z ]{{0,40}}{_KEY}|\Z)"),
    (
        ("sk-", "pk-", "rk-"),
        rf"\b[spr]k-(?:proj-|ant-|live-|test-|or-v1-|svcacct-)?{_HAS_DIGIT}{_BODY}{{16,}}",
    ),
    (("k_live_", "k_test_"), r"\b[srp]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    (
        ("whsec_", "gsk_", "r8_", "dop_v1_", "shpat_", "lin_api_", "glsa_"),
        r"\b(?:whsec|gsk|r8|dop_v1|shpat|lin_api|glsa)_[A-Za-z0-9_]{20,}",
    ),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{30,}"),
    (("github_pat_", "glpat-"), rf"\bgithub_pat_[A-Za-z0-9_]{{40,}}|\bglpat-{_BODY}{{18,}}"),
    (("AKIA", "ASIA"), r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    (("AIza", "ya29.", "GOCSPX-"), rf"\bAIza{_BODY}{{35}}|\bya29\.{_BODY}{{20,}}|\bGOCSPX-{_BODY}{{20,}}"),
    (("xox", "xapp-"), r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{20,}"),
    (("hf_", "npm_", "pypi-"), rf"\bhf_[A-Za-z0-9]{{30,}}|\bnpm_[A-Za-z0-9]{{30,}}|\bpypi-{_BODY}{{40,}}"),
    (("xai-", "pplx-", "nvapi-", "dapi"), rf"\b(?:xai-|pplx-|nvapi-|dapi){_HAS_DIGIT}{_BODY}{{32,}}"),
    (("SG.", "hvs.", "hvb."), rf"\bSG\.{_BODY}{{16,}}\.{_BODY}{{16,}}|\bhv[sb]\.{_BODY}{{20,}}"),
    ((":AA",), rf"\b\d{{8,10}}:AA{_BODY}{{33}}"),
    (("eyJ",), rf"\beyJ{_BODY}{{8,}}\.{_BODY}{{8,}}\.{_BODY}{{8,}}"),
    (("hooks.slack.com/",), r"(?<=hooks\.slack\.com/services/)[\w/]{16,}"),
    (("/api/webhooks/",), r"(?<=/api/webhooks/)\d+/[\w-]{20,}"),
)
"""What must stand in a text that holds one, and its shape: most texts hold none, and finding a literal is quick."""
_find_shapes = tuple((literals, re.compile(shape).sub) for literals, shape in _SHAPES)
_in_url = re.compile(r"(?<=://)([^\s/:@]{0,128}):([^\s/@]{1,256})@").sub
_NAMES = (
    *(
        "password",
        "passwd",
        "passphrase",
        "passwort",
        "kennwort",
        "contraseña",
        "secret",
        "pwd",
        "密码",
        "密碼",
        "口令",
    ),
    *("パスワード", "كلمة المرور", "apikey", "accesskey", "privatekey", "accountkey", "secretkey"),
    *("accesstoken", "authtoken", "apitoken", "refreshtoken", "sessiontoken"),
    *(
        f"{kind}{joint}{what}"
        for what, kinds in {
            "key": ("api", "access", "private", "account", "secret", "signing", "encryption", "master"),
            "token": ("access", "auth", "api", "refresh", "session", "bearer", "bot", "id"),
        }.items()
        for kind in kinds
        for joint in "_- "
    ),
)
_LOOSE_NAMES = ("_key", "-key", "_token", "-token")
"""Of these many are no secrets: only values that look like one are."""
_QUOTE = r"(?:\\{0,3}[\"'`“])?"
_VALUE = r"(?!\[secret\])([^\s\"',;\\`，。；]{6,256})"
_SAID = r"(?: for [\w.@-]{1,40})? ?(?:is|was|ist|lautet|es|是|为|為|は|هي)(?: now)?:? ?"
_MIXED = r"(?=[^\s\"'`”]{0,80}\d)(?=[^\s\"'`”]{0,80}[^\W\d])"
_assigned = re.compile(rf"{_QUOTE}\s{{0,3}}(?:[:：]|=>?)\s{{0,3}}{_QUOTE}{_VALUE}").match
_assigned_loosely = re.compile(
    rf"{_QUOTE}\s{{0,3}}(?:[:：]|=>?)\s{{0,3}}{_QUOTE}{_MIXED}{_VALUE.replace('{6', '{16')}"
).match
_said = re.compile(rf"{_SAID}{_QUOTE}{_MIXED}{_VALUE}", re.IGNORECASE).match
"""What is told in a sentence holds a digit and a letter; what only looks like prose stays."""
_authorized = re.compile(
    rf"{_QUOTE}\s{{0,3}}[:=]\s{{0,3}}{_QUOTE}(?:bearer|basic)\s+{_VALUE.replace('{6', '{8')}", re.IGNORECASE
).match
_bearer = re.compile(rf"(?=[\w.-]{{0,60}}\d){_VALUE.replace('{6', '{16')}").match
_MAX_PASSES = 4


def mask_secrets(text: str) -> str:
    """The text with every secret in it replaced by a mark; what it was assigned to stays."""
    for _ in range(_MAX_PASSES):  # one may have hidden the beginning of another
        masked = _masked_once(text)
        if masked == text:
            break
        text = masked
    return text


def _masked_once(text: str) -> str:
    for literals, mask in _find_shapes:
        if any(literal in text for literal in literals):
            text = mask(MASK, text)
    if "://" in text:
        text = _in_url(rf"\1:{MASK}@", text)
    pieces = []
    done = 0
    for start, end in sorted(_assigned_places(text)):
        if start >= done:
            pieces += [text[done:start], MASK]
            done = end
    return "".join([*pieces, text[done:]])


def _assigned_places(text: str) -> Iterator[tuple[int, int]]:
    """Where the values stand that passwords, keys and tokens are set to."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter that is two in lower case
        lowered = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    for name in _NAMES:
        for end in _ends_of(name, lowered):
            if found := _assigned(text, end) or _said(text, end):
                yield found.span(1)
    for name in _LOOSE_NAMES:
        for end in _ends_of(name, lowered):
            if found := _assigned_loosely(text, end):
                yield found.span(1)
    for end in _ends_of("authorization", lowered):
        if found := _authorized(text, end):
            yield found.span(1)
    for end in _ends_of("bearer ", lowered):
        if found := _bearer(text, end):
            yield found.span(1)


def _ends_of(name: str, lowered: str) -> Iterator[int]:
    at = lowered.find(name)
    while at >= 0:
        yield at + len(name)
        at = lowered.find(name, at + len(name))
