"""What clients are told of documents: regions with the reason why they were found, decodings, jobs, documents.

Invariants, each with a test of its own:
  1. `why_relevant` names only words of the question, and each that is named stands in the region or its document.
  2. A snippet is a piece of the region's text, around the first word that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.core.context.terms import terms_of
from gateway.core.errors import Refusal
from gateway.core.facts.times import told_time
from gateway.core.vision.document import Document, FoundRegion, Job, Reading, Region

_SNIPPET_CHARS, _CAPTION_CHARS = 240, 160
_MAX_WORDS = 12
_white = re.compile(r"\s+").sub


def told_found(found: FoundRegion, words: Mapping[int, str]) -> dict[str, Any]:
    """A region that a search found.

    Args:
        found: it.
        words: of the question, by term.
    """
    region, laid = found.region, found.region.laid
    matched = list(dict.fromkeys(words[term] for term in found.matched if term in words))
    told = told_region(region) | {"score": round(found.score, 4), "why_relevant": why_relevant(found, words)}
    return told | ({"text": piece} if (piece := snippet(laid.text, matched)) else {})


def told_region(region: Region) -> dict[str, Any]:
    """A region as it is, without its text.

    `has_vt` is whether it was read from its picture: only then does decoding it again read more than the document
    itself says.
    """
    laid = region.laid
    return {
        "region_id": region.id,
        "doc_id": region.doc_id,
        "page": region.page,
        "bbox": msgspec.to_builtins(laid.box),
        "page_size": msgspec.to_builtins(region.page_size),
        "type": laid.type.value,
        "has_vt": not laid.has_text_layer,
        "token_estimate": region.token_estimate,
        "caption": laid.caption,
    }


def why_relevant(found: FoundRegion, words: Mapping[int, str]) -> str:
    """Why a region answers a question, in its words."""
    laid = found.region.laid
    in_text, in_caption = set(terms_of(laid.text)), set(terms_of(laid.caption))
    places: dict[str, list[str]] = {"holds": [], "caption holds": [], "its document says": []}
    told: set[str] = set()
    for term in found.matched:
        word = words.get(term)
        if word is None or word in told:
            continue
        told.add(word)
        place = "holds" if term in in_text else "caption holds" if term in in_caption else "its document says"
        places[place].append(f"`{word}`")
    parts = [f"{place} {', '.join(found_words[:_MAX_WORDS])}" for place, found_words in places.items() if found_words]
    if not parts and found.similarity is not None:
        parts.append(f"near in meaning (similarity {found.similarity:.2f})")
    if laid.caption and not places["caption holds"]:
        parts.append(f"caption: {_shortened(laid.caption)}")
    return "; ".join(parts)


def snippet(text: str, words: Sequence[str]) -> str:
    """A piece of a text, on one line, around the first of these words that stands in it."""
    plain = _white(" ", text).strip()
    if len(plain) <= _SNIPPET_CHARS:
        return plain
    lower = plain.lower()
    places = [place for place in (lower.find(word.lower()) for word in words) if place >= 0]
    start = max(0, min(places, default=0) - _SNIPPET_CHARS // 4)
    if start:
        start = plain.find(" ", start) + 1 or start
    end = min(len(plain), start + _SNIPPET_CHARS)
    return ("... " if start else "") + plain[start:end].strip() + (" ..." if end < len(plain) else "")


def _shortened(text: str) -> str:
    plain = _white(" ", text).strip()
    return plain if len(plain) <= _CAPTION_CHARS else plain[: _CAPTION_CHARS - 4] + " ..."


def told_reading(region_id: str, reading: Reading, fidelity: str) -> dict[str, Any]:
    """A region as it was read."""
    confidence = None if reading.confidence is None else round(reading.confidence, 4)
    told = {"region_id": region_id, "text": reading.text, "fidelity": fidelity, "confidence": confidence}
    return told | ({"truncated": True} if reading.is_cut else {})


def told_job(job: Job) -> dict[str, Any]:
    """A job; what is not known of it is left out."""
    told: dict[str, Any] = {
        "job_id": job.id,
        "status": job.status.value,
        "progress": round(min(1.0, job.progress), 4),
        "source": job.source,
        "pages": job.pages,
        "pages_done": job.pages_done,
        "created_at": told_time(job.created_us),
    }
    if job.doc_id:
        told["doc_id"] = job.doc_id
    if job.is_duplicate:
        told["duplicate"] = True
    if job.error is not None:
        told["error"] = {"code": job.error.code, "message": job.error.message}
    if job.ended_us is not None:
        told["ended_at"] = told_time(job.ended_us)
    return told


def told_document(document: Document) -> dict[str, Any]:
    """A document, without its bytes."""
    return {
        "doc_id": document.id,
        "source": document.source,
        "media_type": document.media_type,
        "size_bytes": document.size_bytes,
        "hash": document.hash,
        "metadata": dict(document.metadata),
        "pages": document.pages,
        "regions": document.regions,
        "created_at": told_time(document.created_us),
    }


def unknown_regions(region_ids: Sequence[str]) -> Refusal:
    """The refusal of regions that are none of this client's, whoever else's they are."""
    shown = ", ".join(ascii(region_id[:64]) for region_id in region_ids)
    message = f"There is no region {shown} of this client."
    details = {"field": "region_ids", "expected": "regions of this client", "unknown": list(region_ids)}
    return Refusal(404, "region_not_found", message, param="region_ids", details=details)
