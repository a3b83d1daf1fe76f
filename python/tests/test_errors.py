"""Refusals: each is an exception of Pennon's and one of Python's."""

import numpy as np
import pyarrow as pa
import pytest

import pennon


def lists(rows, dim=4):
    return pa.array(np.ones((rows, dim), dtype=np.float32).tolist(), pa.list_(pa.float32(), dim))


@pytest.fixture
def index():
    index = pennon.Index(4)
    index.append(np.eye(4, dtype=np.float32), row_ids=[1, 2, 3, 4])
    return index


def refused(kinds, message, call):
    with pytest.raises(pennon.PennonError, match=message) as caught:
        call()
    for kind in kinds:
        assert isinstance(caught.value, kind), type(caught.value).__mro__
    return caught.value


def test_construction():
    refused([ValueError], "metric|distance type must be one of", lambda: pennon.Index(4, "chebyshev"))
    refused([ValueError], "dim must be", lambda: pennon.Index(0))
    refused([ValueError], "m must be", lambda: pennon.Index(4, m=1))
    refused([ValueError], "hamming needs UInt8", lambda: pennon.Index(4, "hamming"))
    refused([ValueError], "codes must be one of", lambda: pennon.Index(4, codes="most"))
    refused([ValueError], "float8", lambda: pennon.Index(4, element_type="float8"))


def test_input(index):
    refused([ValueError], "4 dimensions here, got 3", lambda: index.append(np.ones((2, 3), dtype=np.float32)))
    refused([ValueError], "two dimensions, got 1", lambda: index.append(np.ones(4, dtype=np.float32)))
    refused([ValueError], "4 dimensions here, got 2", lambda: index.search([1, 2]))
    refused([ValueError], "NaN|not finite|element 0", lambda: index.search([float("nan"), 0, 0, 0]))
    refused([ValueError], "search_batch", lambda: index.search(np.ones((1, 4))))
    refused(
        [ValueError], "query 1 .*: .* element 2", lambda: index.search_batch(np.array([[0] * 4, [0, 0, np.inf, 0]]))
    )
    refused([ValueError], "name the column", lambda: index.append(pa.table({"a": lists(1), "b": lists(1)})))
    refused([ValueError], 'no column "c"', lambda: index.append(pa.table({"a": lists(1)}), column="c"))
    refused([ValueError], "timeout", lambda: index.search([0] * 4, timeout=-1))
    refused([ValueError], "distance range", lambda: index.search([0] * 4, distance_range=(2, 1)))
    refused([ValueError], "4 booleans", lambda: index.search([0] * 4, where=lambda row_ids: [True]))
    for data in (None, 5, {1: [1, 2, 3, 4]}):
        with pytest.raises(TypeError, match="expected vectors"):
            index.append(data)
    with pytest.raises(TypeError):
        index.search("abcd")
    with pytest.raises(TypeError):
        index.append(np.array([["a", "b", "c", "d"]]))
    with pytest.raises(ZeroDivisionError):
        index.search([0] * 4, where=lambda row_ids: 1 / 0)
    assert len(index) == 4


def test_row_ids(index):
    one = np.ones((1, 4), dtype=np.float32)
    error = refused([ValueError, pennon.DuplicateRowIdError], "row id 3", lambda: index.append(one, row_ids=[3]))
    assert not isinstance(error, KeyError)
    error = refused([KeyError, pennon.UnknownRowIdError], "no live row has row id 9", lambda: index.delete([1, 9]))
    assert str(error) == "no live row has row id 9"
    assert 1 in index, "all are deleted or none"
    refused([ValueError], "from 0 to", lambda: index.append(one, row_ids=[-1]))
    refused([ValueError], "from 0 to", lambda: index.append(one, row_ids=-1))
    refused([ValueError], "1 rows need as many row ids, got 2", lambda: index.append(one, row_ids=[7, 8]))
    refused([ValueError], "row id of row 0 is null", lambda: index.append(one, row_ids=pa.array([None], pa.uint64())))
    refused([ValueError], "64 bits", lambda: index.append(np.ones((2, 4), dtype=np.float32), row_ids=2**64 - 1))
    assert len(index) == 4


def test_long_input_is_refused_as_a_whole(index):
    many = np.random.default_rng(0).standard_normal((20_000, 4)).astype(np.float32)
    row_ids = np.arange(10, 20_010)
    row_ids[19_000] = 4
    refused([ValueError], "row 19000 has row id 4", lambda: index.append(many, row_ids=row_ids))
    row_ids[19_000] = 10
    refused([ValueError], "row 19000 has row id 10", lambda: index.append(many, row_ids=row_ids))
    ragged = pa.chunked_array([pa.array([[1.0] * 4] * 9000), pa.array([[1.0] * 4, [1.0] * 3])])
    refused([ValueError], "row 1 has 3 elements", lambda: index.append(ragged))
    assert len(index) == 4


def test_files(tmp_path, index):
    error = refused([FileNotFoundError, OSError], "cannot be read", lambda: pennon.Index.load(tmp_path / "none"))
    assert error.errno == 2 and "none" in str(error.filename)
    index.save(tmp_path / "index")
    vectors = next((tmp_path / "index").glob("pennon-vectors-*"))
    vectors.chmod(0o600)
    content = bytearray(vectors.read_bytes())
    content[len(content) // 2] ^= 1
    vectors.write_bytes(content)
    refused([ValueError, pennon.CorruptIndexError], "not what was saved", lambda: pennon.Index.load(tmp_path / "index"))
    (tmp_path / "file").write_text("")
    refused([OSError], "cannot be", lambda: index.save(tmp_path / "file"))
    refused([ValueError], "start with", lambda: index.save(tmp_path / "x", properties={"pennon.x": "1"}))
