"""Encodings come from the package's own files, which hold what tiktoken's do, and no network is used."""

import hashlib
import os
import subprocess
import sys
from importlib import resources

import pytest

from gateway.core.tokens.profiles import CL100K, O200K
from gateway.shell.tokens.pack_ranks import SHA256, pack
from gateway.shell.tokens.rank_files import NEAREST, load_encoding, load_rank_file
from tests.shell.tiktoken_reference import reference, text_file

ENCODINGS = [O200K, CL100K]
NO_NETWORK = """
import sys
def refuse(event, details):
    if event.startswith("socket."):
        raise SystemExit(f"the network was used: {event} {details}")
sys.addaudithook(refuse)
from gateway.shell.tokens.rank_files import load_encoding
print(*(len(load_encoding(name).encode_ordinary("Hello, world!")) for name in sys.argv[1:]))
"""


def packaged(name):
    return resources.files("gateway.data").joinpath(f"{name}.ranks").read_bytes()


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_packed_file_holds_tiktokens(name):
    """The text made from it has the SHA-256 that tiktoken expects of its download, and packs to the same bytes."""
    text = text_file(name)

    assert hashlib.sha256(text).hexdigest() == SHA256[name]
    assert pack(name, text) == packaged(name)


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_split_pattern_is_tiktokens(name):
    """As the installed tiktoken has it; a new version that changes it must not pass unseen."""
    mine, own = load_rank_file(name), reference(name)

    assert mine.pattern == mine.encoding._pat_str == own._pat_str
    assert list(mine.lengths) == [len(own.decode_single_token_bytes(rank)) for rank in range(len(mine.lengths))]


def test_encodings_load_without_a_network(tmp_path):
    """A process in which every use of a socket is fatal, and whose tiktoken has an empty cache, counts all the same."""
    environment = {**os.environ, "TIKTOKEN_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", NO_NETWORK, *ENCODINGS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout.split()) == (0, ["4", "4"]), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.999999])
def test_a_damaged_rank_file_is_refused(where, tmp_path):
    """One flipped bit is noticed, whether in the head, the lengths or the bytes."""
    damaged = bytearray(packaged(CL100K))
    damaged[int(where * len(damaged))] ^= 1
    (tmp_path / f"{CL100K}.ranks").write_bytes(damaged)

    with pytest.raises(ValueError, match="cl100k_base is damaged"):
        load_encoding(CL100K, tmp_path)


def test_a_whole_copy_loads(tmp_path):
    (tmp_path / f"{CL100K}.ranks").write_bytes(packaged(CL100K))

    assert load_encoding(CL100K, tmp_path).encode_ordinary("Hello, world!") == [9906, 11, 1917, 0]


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(OSError, match="cl100k_base"):
        load_encoding(CL100K, tmp_path)


def test_an_unknown_name_is_told_from_the_known():
    with pytest.raises(ValueError, match=r"no encoding '../x'; expected one of o200k_base, cl100k_base, o200k_harmony"):
        load_encoding("../x")


def test_packing_takes_tiktokens_file_only():
    with pytest.raises(ValueError, match="not tiktoken's rank file of o200k_base"):
        pack(O200K, text_file(CL100K))


def test_encodings_without_a_file_are_counted_with_the_nearest():
    """o200k_harmony has the ranks of o200k_base; what is older than cl100k_base is nearest to it."""
    assert {name: load_encoding(name).name for name in NEAREST} == {
        "o200k_harmony": O200K,
        "p50k_base": CL100K,
        "p50k_edit": CL100K,
        "r50k_base": CL100K,
        "gpt2": CL100K,
    }
