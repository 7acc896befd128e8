"""tiktoken's own encodings, patterns and checks included, fed from the package's files: nothing is downloaded."""

import functools
import hashlib
import tempfile
from importlib import resources
from pathlib import Path

import pytest
import tiktoken

from gateway.shell.tokens.pack_ranks import render_text
from gateway.shell.tokens.rank_files import unpack


def text_file(name):
    """The rank file as tiktoken downloads it."""
    packed = resources.files("gateway.data").joinpath(f"{name}.ranks").read_bytes()
    return render_text(unpack(packed)[0])


@functools.cache
def reference(name):
    """`tiktoken.get_encoding(name)`; its cache is filled, so that it downloads nothing, and it checks the SHA-256."""
    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, hashlib.sha1(url.encode()).hexdigest()).write_bytes(text_file(name))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TIKTOKEN_CACHE_DIR", folder)
            return tiktoken.get_encoding(name)


def own_count(encoding, text):
    """tiktoken's own answer for the whole text."""
    return len(encoding.encode_ordinary(text))
