"""The unpickler: a batch of arrays is read, and nothing else is called, however the file is made."""

import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.batches import LABELS
from support.builders import planes, python2_pickle

from fastcifar.data.sources.unpickle import unpickle
from fastcifar.errors import FastcifarError


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_pickle_that_calls_anything_else_is_refused_and_not_executed(tmp_path, protocol):
    mark = tmp_path / "executed"
    for function, arguments in ((os.mkdir, (str(mark),)), (eval, (f"__import__('os').mkdir({str(mark)!r})",))):
        content = pickle.dumps({"data": Calls(function, *arguments), "labels": LABELS}, protocol)
        with pytest.raises(
            FastcifarError, match=r"it: it calls for (posix\.mkdir|(__builtin__|builtins)\.eval), which no"
        ):
            unpickle(content, "it")
        assert not mark.exists()
        pickle.loads(content)  # the trap is a real one
        mark.rmdir()


HOSTILE = {
    "an attribute of an allowed module": b"cnumpy\nload\n(S'x'\ntR.",
    "a codec that does more": b"c_codecs\nencode\n(Vx\nVzlib\ntR.",
    "codecs by another name": b"ccodecs\nencode\n(Vx\nVlatin1\ntR.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
    "an instance": b"(iposix\nsystem\n.",
    "a persistent id": b"Pobject\n.",
    "an extension code": b"\x80\x02\x82\x01.",
    "an array of a huge shape": b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR(I1\n(I99999999999\ntVu1\nI00\nC\x01xtb.",
    "a negative shape": b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR(I1\n(I-1\nI-1\ntVu1\nI00\nC\x01xtb.",
    "a call of what is no function": b"cnumpy\nndarray\n(I1\ntR.",
    "tuples within tuples": b"\x80\x02}(K\x01" + b"\x85" * 200_000 + b"K\x01u.",  # their hash ends the process
    "tuples that are built": b"\x80\x02}(K\x01" + b"\x85Nb" * 200_000 + b"K\x01u.",
    "tuples behind a mark that is popped": b"\x80\x02}(K\x01" + b"\x85(0" * 200_000 + b"K\x01u.",
    "tuples that double": b"\x80\x02}(K\x01" + b"2\x86" * 40 + b"K\x01u.",  # their hash takes hours
    "tuples that double by number": b"\x80\x04(K\x01" + b"".join(b"\x94h%ch%c\x86" % (i, i) for i in range(40)) + b"t.",
    "a large number of an object": b"\x80\x02}r\xff\xff\xff\x7f.",  # for which Python takes 34 GB
    "a number that was not given": b"\x80\x02h\x05.",
    "an integer of 5,000 digits": b"L" + b"9" * 5000 + b"L\n.",
    "nothing to pop": b"\x80\x020000.",
    "nothing": b"",
    "no end": b"\x80\x02}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(name):
    with pytest.raises(FastcifarError, match=r"^it(:| is not a readable pickle)"):
        unpickle(HOSTILE[name], "it")


@settings(deadline=None)
@given(st.data())
def test_damage_to_a_pickle_is_refused_or_only_changes_values(data):
    content = bytearray(python2_pickle(planes(0, 2), [4, 5]))
    for _ in range(data.draw(st.integers(1, 3))):
        header = data.draw(st.integers(0, 150)) if data.draw(st.booleans()) else len(content) - 20
        content[header] = data.draw(st.integers(0, 255))
    try:
        unpickle(bytes(content), "it")
    except FastcifarError as error:
        assert str(error).startswith("it")  # noqa: PT017 - most examples, not all, are refused


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_the_batches_of_every_protocol_are_read(protocol):
    batch = {b"data": planes(0, 3), b"labels": [1, 2, 3], b"filenames": [b"%d.png" % number for number in range(3)]}
    found = unpickle(pickle.dumps(batch, protocol), "it")
    assert found[b"labels"] == [1, 2, 3]
    assert found[b"data"].tolist() == planes(0, 3).tolist()


def test_lists_within_lists_are_no_batch():
    assert type(unpickle(b"]" * 100_000 + b"a" * 99_999 + b".", "it")) is list  # its reader refuses it by its type
