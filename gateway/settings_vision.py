"""The options of looking into documents: how they are kept, read, fetched and decoded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from gateway.settings_section import Section


class Fetching(Section, frozen=True):
    """Where documents that are named by URL may come from."""

    allow: Annotated[
        list[str],
        Meta(
            description='Hosts ("docs.example.com", "*.example.com"), or beginnings of URLs'
            ' ("https://docs.example.com/manuals/"); "*" is any host with public addresses. Empty: uploads only.'
        ),
    ] = field(default_factory=lambda: ["*"])
    allow_addresses: Annotated[
        list[str],
        Meta(
            description="Networks of private or local addresses that may be connected to all the same, such as"
            ' ["10.1.0.0/16"].'
        ),
    ] = field(default_factory=list)
    file_root: Annotated[
        str | None, Meta(description="The folder under which file: URLs may be read; null: none may.")
    ] = None
    timeout_seconds: Annotated[float, Meta(gt=0, le=600, description="For the whole document.")] = 30.0
    max_redirects: Annotated[int, Meta(ge=0, le=10, description="Each is checked like the first address.")] = 3


class VisionModel(Section, frozen=True):
    """The vision model behind an OpenAI-compatible server, for `backend: openai`."""

    name: Annotated[str, Meta(min_length=1, max_length=256, description="As the server knows it.")] = (
        "deepseek-ai/DeepSeek-OCR"
    )
    prompt: Annotated[str, Meta(description="What it is asked for text, figures and code.")] = "Free OCR."
    table_prompt: Annotated[str, Meta(description="What it is asked for tables.")] = (
        "<|grounding|>Convert the document to markdown."
    )
    max_tokens: Annotated[int, Meta(ge=1, description="Of an answer.")] = 8192
    read_twice: Annotated[
        bool,
        Meta(
            description="Where the server tells no probabilities, read each region at two sizes: how far both agree is"
            " the confidence. Otherwise it is null."
        ),
    ] = False
    options: Annotated[
        dict[str, Any],
        Meta(
            description="Sent along with each request, such as {skip_special_tokens: false, vllm_xargs: {ngram_size:"
            " 30, window_size: 90}}."
        ),
    ] = field(default_factory=dict)


class Vision(Section, frozen=True):
    """What is read of documents and pictures (docs/vision.md)."""

    enabled: Annotated[bool, Meta(description="Serve /api/v1/vision.")] = True
    backend: Annotated[
        Literal["local", "openai", "remote"],
        Meta(
            description="Who reads regions: local is this machine (extra vision): a document's own text, and text read"
            " from pictures; openai a vision model at service_url; remote a service of its own that speaks /v1/ocr."
        ),
    ] = "local"
    service_url: Annotated[str, Meta(description="Of the backend; for openai with /v1.")] = ""
    api_key: Annotated[str, Meta(description="For it.")] = ""
    api_key_file: Annotated[str | None, Meta(description="A file that holds the key.")] = None
    model: VisionModel = VisionModel()
    url: Annotated[
        str,
        Meta(
            description="Where documents are kept: memory:// is this process's memory, for one worker;"
            " sqlite:///path/to/file outlives it and is shared by workers."
        ),
    ] = "memory://"
    max_bytes: Annotated[
        int,
        Meta(ge=65536, description="Bound of the documents and regions that are kept; above it indexing fails."),
    ] = 268_435_456
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000, description="For one region to be decoded.")] = 5000
    max_regions_per_request: Annotated[int, Meta(ge=1, le=256, description="Regions in one call of decode.")] = 16
    default_fidelity: Literal["20x", "10x", "5x", "1x"] = "10x"
    decode_cache_ttl_secs: Annotated[float, Meta(ge=0, description="0: nothing is kept.")] = 600.0
    decode_cache_max_size: Annotated[int, Meta(ge=0, le=1_000_000, description="Decoded regions.")] = 1000
    max_concurrent_decodes: Annotated[int, Meta(ge=1, le=1024)] = 16
    retry_attempts: Annotated[int, Meta(ge=0, le=10, description="After the first.")] = 2
    retry_backoff_ms: Annotated[int, Meta(ge=0, le=60_000, description="Doubled each time, with jitter.")] = 200
    circuit_breaker_failures: Annotated[int, Meta(ge=1, description="In a row.")] = 5
    circuit_breaker_reset_secs: Annotated[float, Meta(gt=0, le=86_400)] = 30.0
    log_redact_text: Annotated[bool, Meta(description="Texts of documents never reach the log.")] = True
    ocr: Annotated[bool, Meta(description="Read text from pictures and scans; else only text layers.")] = True
    index_workers: Annotated[
        int, Meta(ge=1, le=64, description="Documents that are read at once, each by a process.")
    ] = 1
    index_queue_max: Annotated[int, Meta(ge=1, le=1_000_000, description="Jobs that wait; above it 503.")] = 100
    job_ttl_seconds: Annotated[float, Meta(gt=0, description="How long a job that has ended is told of.")] = 86_400.0
    max_document_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 33_554_432
    max_pages: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    max_pixels: Annotated[int, Meta(ge=65_536, le=1_000_000_000, description="Of a picture.")] = 50_000_000
    page_seconds: Annotated[float, Meta(gt=0, le=3600, description="For one page to be read.")] = 60.0
    reader_memory_bytes: Annotated[
        int,
        Meta(ge=268_435_456, description="What a process that reads documents may take; text in pictures needs 1 GiB."),
    ] = 2_147_483_648
    reader_idle_seconds: Annotated[
        float, Meta(gt=0, le=86_400, description="After so long without work such a process ends.")
    ] = 60.0
    fetch: Fetching = Fetching()
    decode_old_images: Annotated[
        bool, Meta(description="Pictures that a chat has left behind become their text, where backend local reads it.")
    ] = True
