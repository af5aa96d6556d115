"""The formats of published data sets: what is written is read, and whatever else is there is refused in one line."""

import gzip
import pickle
import struct
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hpscan.workloads import WorkloadError
from hpscan.workloads.formats import read_idx, read_npz, read_pickle

IMAGES = arrays.arrays(np.uint8, arrays.array_shapes(max_dims=4, max_side=5))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("formats") / "file"


def idx_of(values, magic=(0, 8)):
    return struct.pack(f">HBB{values.ndim}I", *magic, values.ndim, *values.shape) + values.tobytes()


@given(IMAGES)
def test_what_is_written_as_idx_is_read_again(file, values):
    file.write_bytes(gzip.compress(idx_of(values)))
    assert np.array_equal(read_idx(file), values)


@given(arrays.arrays(np.float32, (3, 4)), st.lists(st.integers(0, 9), max_size=5))
def test_a_pickled_batch_and_one_of_numpys_are_read_again(file, values, labels):
    file.write_bytes(pickle.dumps({"data": values, "labels": labels, "mean": np.float64(3)}))
    found = read_pickle(file, encoding="ASCII")
    np.testing.assert_array_equal(found["data"], values)
    assert (found["labels"], found["mean"]) == (labels, 3)
    with file.open("wb") as opened:
        np.savez(opened, data=values, labels=labels)
    found = read_npz(file)
    np.testing.assert_array_equal(found["data"], values)
    assert found["labels"].tolist() == labels


@given(
    arrays.arrays(st.sampled_from(["<i8", ">f4", "|u1"]), (3, 4), elements=st.integers(0, 9)),
    st.sampled_from("CF"),
    st.integers(0, pickle.HIGHEST_PROTOCOL),
)
def test_arrays_of_any_order_are_read_from_every_version_of_pickles(file, values, order, protocol):
    file.write_bytes(pickle.dumps({"data": np.asarray(values, order=order)}, protocol))
    found = read_pickle(file, encoding="ASCII")["data"]
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype


OF_PYTHON_2 = (
    b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02K\x03\x86"
    b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06abcdeftbs."
)


def test_a_batch_that_python_2_pickled_is_read_as_cifars_are(file):
    file.write_bytes(OF_PYTHON_2)
    assert pickle.loads(OF_PYTHON_2, encoding="bytes")[b"data"].tobytes() == b"abcdef"
    found = read_pickle(file)[b"data"]
    assert (found.tobytes(), found.shape, found.dtype) == (b"abcdef", (2, 3), np.uint8)


PICKLED = pickle.dumps({"data": np.arange(6), "labels": [1, 2], "mean": np.float64(3)})
ZIPPED = gzip.compress(idx_of(np.arange(6, dtype=np.uint8)))


@st.composite
def damaged(draw, whole):
    """Cut off, or with some bytes changed."""
    if draw(st.booleans()):
        return whole[: draw(st.integers(0, len(whole) - 1))]
    changed = bytearray(whole)
    for place in draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        changed[place] ^= draw(st.integers(1, 255))
    return bytes(changed)


def refusal_of(read, file):
    """The one line with which a file is refused, if it is."""
    try:
        read(file)
    except WorkloadError as error:
        return str(error).splitlines() == [str(error)] and str(error)
    return None


@pytest.mark.parametrize(
    ("read", "whole"),
    [(read_idx, ZIPPED), (read_pickle, PICKLED), (partial(read_pickle, encoding="ASCII"), PICKLED)],
    ids=["idx", "pickle", "pickle of text"],
)
@given(data=st.data())
def test_damaged_bytes_are_read_or_refused_in_one_line(file, read, whole, data):
    file.write_bytes(data.draw(damaged(whole) | st.binary(max_size=60)))
    refusal = refusal_of(read, file)
    assert refusal is None or (
        refusal.startswith(f"{file}: not a ") and refusal.endswith("; delete it and get it again")
    )


@given(data=st.data())
def test_a_damaged_file_of_numpys_is_read_or_refused_in_one_line(file, data):
    with file.open("wb") as opened:
        np.savez(opened, data=np.arange(6), labels=[1, 2])
    file.write_bytes(data.draw(damaged(file.read_bytes()) | st.binary(max_size=60)))
    refusal = refusal_of(read_npz, file)
    assert refusal is None or refusal.startswith(f"{file}: not a published batch (")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(idx_of(np.zeros(2, np.uint8), magic=(0, 13))), "magic number 00000d01"),
        (gzip.compress(idx_of(np.zeros(6, np.uint8))[:-1]), "cannot reshape array of size 5"),
        (b"plain", "Not a gzipped file"),
    ],
    ids=["floats", "cut off", "not gzipped"],
)
def test_what_is_not_idx_is_refused_with_the_reason(file, content, reason):
    file.write_bytes(content)
    with pytest.raises(WorkloadError, match=reason):
        read_idx(file)


@pytest.mark.parametrize(
    ("value", "reason"), [([1, 2], "a list, not a dict"), (print, r"it asks for (__builtin__|builtins)\.print")]
)
def test_a_pickle_of_anything_else_is_refused(file, value, reason):
    file.write_bytes(pickle.dumps(value, protocol=2))
    with pytest.raises(WorkloadError, match=rf"not a published batch \({reason}\)"):
        read_pickle(file)


def test_arrays_that_would_unpickle_something_are_refused(file):
    with file.open("wb") as opened:
        np.savez(opened, data=np.array([print, None], dtype=object))
    with pytest.raises(WorkloadError, match="allow_pickle=False"):
        read_npz(file)


def test_a_single_array_is_no_batch(file):
    with file.open("wb") as opened:
        np.save(opened, np.arange(3))
    with pytest.raises(WorkloadError, match="not a published batch"):
        read_npz(file)


@pytest.mark.parametrize("read", [read_pickle, read_npz])
def test_what_cannot_be_opened_is_not_said_to_be_damaged(tmp_path, read):
    with pytest.raises(IsADirectoryError):
        read(tmp_path)
