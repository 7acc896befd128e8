"""Azure's way to address models: a deployment in the path, a version in the query, the key in `api-key`.

Clients that speak it (`AzureOpenAI` with this gateway as its endpoint) are understood as if they had sent OpenAI's own
paths; upstreams that want it get it, whatever the client spoke. Source: learn.microsoft.com, Azure OpenAI REST API
reference (2024-10-21), and the request lines of the openai client 2.x.

Invariants, each with a test of its own:
  1. What is no path of Azure's comes back as it was.
  2. A path that was understood, and is sent to an upstream that speaks Azure, is the path that came.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec

from gateway.core.routing.aliases import rename_model
from gateway.core.wire.body import Edit, object_spans, splice

_ROOT, _PREFIX, _DEPLOYMENTS = "/openai/", "/v1", "deployments/"
_VERSION = "api-version"
_BY_DEPLOYMENT = frozenset(
    {
        "/chat/completions",
        "/completions",
        "/embeddings",
        "/images/generations",
        "/images/edits",
        "/audio/speech",
        "/audio/transcriptions",
        "/audio/translations",
    }
)
"""Paths that Azure serves below a deployment only."""


class Plain(NamedTuple):
    """A request line in OpenAI's form, and the deployment that it named, "" for none."""

    target: str
    deployment: str


def read_azure(target: str) -> Plain:
    """A request target as OpenAI's client would have sent it.

    Args:
        target: path and query, as received.
    """
    path, mark, query = target.partition("?")
    if not path.startswith(_ROOT):
        return Plain(target, "")
    rest = path.removeprefix(_ROOT)
    deployment = ""
    if rest.startswith(_DEPLOYMENTS):
        name, _, rest = rest.removeprefix(_DEPLOYMENTS).partition("/")
        deployment = unquote(name)
    rest = rest.removeprefix("v1/")
    others = "&".join(pair for pair in query.split("&") if pair and pair.partition("=")[0].lower() != _VERSION)
    return Plain(f"{_PREFIX}/{rest}" + (mark + others if others else ""), deployment)


def azure_target(target: str, model: str, version: str) -> str:
    """A target below the base URL of an upstream that speaks Azure.

    Args:
        target: without /v1, with its query.
        model: the deployment, "" where none is known.
        version: of Azure's interface.
    """
    path, _, query = target.partition("?")
    if model and path in _BY_DEPLOYMENT:
        path = f"/{_DEPLOYMENTS}{quote(model, safe='')}{path}"
    pairs = [pair for pair in query.split("&") if pair and pair.partition("=")[0].lower() != _VERSION]
    return path + "?" + "&".join([*pairs, f"{_VERSION}={quote(version, safe='')}"])


def with_model(body: bytes, model: str) -> bytes:
    """A request's body that names this model; what is no JSON object comes back as it was, for whoever parses it.

    Args:
        body: as the client sent it.
        model: the deployment that its path named.
    """
    try:
        spans = object_spans(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return body
    if "model" in spans:
        return rename_model(body, model)
    start = body.find(b"{") + 1
    if not start:
        return body
    return splice(body, [Edit(start, start, rename_model(b'{"model":0}', model)[1:-1] + (b"," if spans else b""))])
