"""Which call a request line is, by its method and path: the tables of all that the gateway serves otherwise than as is.

Paths of the gateway's own take certain methods only, each of which is an endpoint. Under the roots of memory and of
vision every path is the gateway's own, whether there is anything or not: what is said there has the form of
`coded_errors`.

Invariants, each with a test of its own:
  1. Every method and path is one endpoint, and what is in no table is passed through.
  2. Nothing goes uncounted by its spelling.
  3. A name that stands in a path comes back as it was before it was percent-encoded, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from gateway.core.wire.request import Endpoint

METERED_PATHS = {
    "/v1/chat/completions": Endpoint.CHAT,
    "/v1/responses": Endpoint.RESPONSES,
    "/v1/completions": Endpoint.COMPLETIONS,
    "/v1/embeddings": Endpoint.EMBEDDINGS,
    "/v1/responses/input_tokens": Endpoint.INPUT_TOKENS,
}
MODELS_PATH = "/v1/models"
SESSIONS_PATH = "/api/v1/sessions/"
"""And what is below that, with a session's name."""
_LOCAL_PATHS: Mapping[str, Mapping[str, Endpoint]] = {
    "/api/v1/tokens/count": {"POST": Endpoint.TOKENS_COUNT},
    "/api/v1/facts": {"POST": Endpoint.FACTS},
    "/api/v1/facts/query": {"POST": Endpoint.FACTS_QUERY},
    "/api/v1/facts/{}": {"GET": Endpoint.FACT, "DELETE": Endpoint.FACT},
    "/api/v1/contexts": {"POST": Endpoint.CONTEXTS},
    "/api/v1/contexts/search": {"POST": Endpoint.CONTEXTS_SEARCH},
    "/api/v1/contexts/delete": {"POST": Endpoint.CONTEXTS_DELETE},
    "/api/v1/contexts/clear": {"POST": Endpoint.CONTEXTS_CLEAR},
    "/api/v1/contexts/{}": {"GET": Endpoint.CONTEXT, "DELETE": Endpoint.CONTEXT},
    "/api/v1/memories": {"GET": Endpoint.MEMORIES, "DELETE": Endpoint.MEMORIES},
    "/api/v1/memories/{}": {"DELETE": Endpoint.MEMORIES},
    "/api/v1/memories/{}/export": {"GET": Endpoint.MEMORIES_EXPORT},
    "/api/v1/memories/{}/import": {"POST": Endpoint.MEMORIES_IMPORT},
    "/api/v1/vision/search": {"POST": Endpoint.VISION_SEARCH},
    "/api/v1/vision/decode": {"POST": Endpoint.VISION_DECODE},
    "/api/v1/vision/index": {"POST": Endpoint.VISION_INDEX},
    "/api/v1/vision/index/jobs/{}": {"GET": Endpoint.VISION_JOB, "DELETE": Endpoint.VISION_JOB},
    "/api/v1/vision/documents": {"GET": Endpoint.VISION_DOCUMENTS},
    "/api/v1/vision/documents/{}": {"GET": Endpoint.VISION_DOCUMENT, "DELETE": Endpoint.VISION_DOCUMENT},
    "/api/v1/vision/regions/{}/image": {"GET": Endpoint.VISION_IMAGE},
}
"""What the gateway answers by itself; `{}` stands for one segment, a name or an id."""
_NO_METHODS: Mapping[str, Endpoint] = {}
_SESSION_METHODS = {"DELETE": Endpoint.SESSIONS}
_is_of_memory = re.compile(r"/api/v1/(?:facts|contexts|memories)(?:/.*)?", re.DOTALL).fullmatch
_is_of_vision = re.compile(r"/api/v1/vision(?:/.*)?", re.DOTALL).fullmatch
_named = re.compile(
    r"(/api/v1/(?:facts|contexts|memories|vision/index/jobs|vision/documents|vision/regions)/)([^/]+)(/[^/]+)?"
).fullmatch
_repeated_slashes = re.compile(r"/{2,}")


def is_of_memory(path: str) -> bool:
    """Whether a path belongs to memory, and so do all errors that are told there."""
    return path.startswith("/api/") and _is_of_memory(path) is not None


def is_of_vision(path: str) -> bool:
    """Whether a path belongs to vision, and so do all errors that are told there."""
    return path.startswith("/api/") and _is_of_vision(path) is not None


def local_methods(path: str) -> Mapping[str, Endpoint]:
    """The methods that a path of the gateway's own takes, and what each is; none for a path that is not."""
    if not path.startswith("/api/"):
        return _NO_METHODS
    if path.startswith(SESSIONS_PATH) and path != SESSIONS_PATH:
        return _SESSION_METHODS
    found = _LOCAL_PATHS.get(path) if "{" not in path else None
    if found is None and (parts := _named(path)):
        found = _LOCAL_PATHS.get(f"{parts[1]}{{}}{parts[3] or ''}")
    return found or _NO_METHODS


def session_name_of(path: str) -> str:
    """The name of the session that a path below `SESSIONS_PATH` is about."""
    return unquote(path.removeprefix(SESSIONS_PATH))


def memory_name_of(path: str) -> str | None:
    """The name or id that stands in a path of memory or vision; None where none does.

    What is no UTF-8 once decoded comes with marks in its place, as no name does.
    """
    parts = _named(path)
    return unquote(parts[2]) if parts else None


def endpoint_of(method: str, path: str) -> Endpoint:
    """The endpoint of a request line; everything not metered is passed through.

    Other spellings of a metered path (`//`, a trailing slash, percent-encoding) are metered too, since a lenient
    upstream may serve them: nothing goes uncounted by its spelling.
    """
    if method == "GET" and (path == MODELS_PATH or path.startswith(f"{MODELS_PATH}/")):
        return Endpoint.MODELS
    found = METERED_PATHS.get(path) if method == "POST" else None
    found = found or local_methods(path).get(method)
    if found is None and method == "POST":
        plain = _repeated_slashes.sub("/", unquote(path)).rstrip("/").lower()
        found = METERED_PATHS.get(plain)
    return found or Endpoint.PASSTHROUGH
