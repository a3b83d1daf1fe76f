"""What vectors and row ids may come in, and which of it is shared."""

import ctypes
import os

import numpy as np
import pyarrow as pa
import pytest
from conftest import vectors_of

import pennon


def lists(vectors):
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_arrow_arrays_streams_and_tables(rng):
    vectors = vectors_of(rng, 300, 8, "float32")
    array = lists(vectors)
    ids = pa.array(range(7, 307), pa.uint64())
    table = pa.table({"id": ids, "name": ["x"] * 300, "vector": array})
    chunked = pa.chunked_array([array[:100], array[100:101], array[101:]])
    inputs = [
        (array, ids),
        (array, 7),
        (array, range(7, 307)),
        (array, np.arange(7, 307)),
        (array, np.arange(7, 307, dtype=np.int32)),
        (array, list(range(7, 307))),
        (chunked, pa.chunked_array([ids[:50], ids[50:]])),
        (array.cast(pa.list_(pa.float32())), ids),
        (array.cast(pa.large_list(pa.float32())), ids),
        (array.cast(pa.list_(pa.float64(), 8)), ids),
        (table, "id"),
        (table.to_batches()[0], "id"),
        (pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=64)), "id"),
        (vectors, ids),
        (vectors.astype(np.float64), ids),
        (np.asfortranarray(vectors), ids),
        (vectors.astype(">f4"), ids),
        (vectors.tolist(), ids),
    ]
    for data, row_ids in inputs:
        index = pennon.Index(8)
        assert index.append(data, row_ids).first_row_id == 7
        assert index.search(vectors[42], k=1)[0] == (49, 0.0), type(data)
        assert len(index) == 300


def test_polars(rng):
    polars = pytest.importorskip("polars")
    vectors = vectors_of(rng, 50, 4, "float32")
    frame = polars.DataFrame({"id": range(50), "vector": vectors})
    for data in (frame["vector"], frame, frame.with_columns(polars.col("vector").arr.to_list())):
        index = pennon.Index(4)
        index.append(data)
        hits = index.search(vectors[9], k=2)
        assert polars.DataFrame(hits)["_rowid"].to_list() == hits.row_ids
    index = pennon.Index(4)
    index.append(frame, row_ids=frame["id"] + 100)
    assert index.search(vectors[9], k=1).row_ids == [109]


def test_answers_are_arrow(rng):
    vectors = vectors_of(rng, 50, 4, "float32")
    index = pennon.Index(4)
    index.append(vectors)
    hits = index.search(vectors[1], k=3)
    schema = pa.schema(
        [
            pa.field("_rowid", pa.uint64(), nullable=False),
            pa.field("_distance", pa.float32(), nullable=False),
        ]
    )
    assert pa.record_batch(hits).schema == schema and pa.schema(hits) == schema
    assert pa.table(hits).column("_rowid").to_pylist() == hits.row_ids
    assert hits.to_pyarrow().column("_distance").to_pylist() == hits.distances
    batch = index.search_batch(lists(vectors[:2]), k=3)
    assert pa.table(batch).column_names == ["query_index", "_rowid", "_distance"]
    assert pa.table(batch).column("query_index").to_pylist() == [0, 0, 0, 1, 1, 1]


def test_arrow_is_shared(rng):
    array = lists(vectors_of(rng, 1000, 64, "float32"))
    index = pennon.Index(64, flat=True)
    index.append(array[10:])
    expected = array[10].as_py()
    address = array.flatten().buffers()[1].address + 10 * 64 * 4
    # The buffer lives as long as the index, though nothing else refers to it.
    del array
    assert list(index.get(0)) == expected
    ctypes.c_float.from_address(address).value = 77.0
    assert index.get(0)[0] == 77.0


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_memory_does_not_grow_by_a_copy():
    rows, dim = 100_000, 256
    megabytes = rows * dim * 4 / 1e6
    values = pa.array(np.zeros(rows * dim, dtype=np.float32) + np.float32(0.5))
    array = pa.FixedSizeListArray.from_arrays(values, dim)
    frozen = np.full((rows, dim), 0.5, dtype=np.float32)
    frozen.flags.writeable = False
    for data in (array, frozen, frozen[: rows // 2]):
        index = pennon.Index(dim, flat=True)
        before = resident()
        index.append(data)
        # A flat index keeps codes, of a quarter of the size.
        assert (resident() - before) / 1e6 < megabytes / 2
    # What has to be converted is copied once.
    small = np.full((rows, dim), 0.5, dtype=np.float16)
    before = resident()
    index.append(small)
    assert megabytes < (resident() - before) / 1e6 < megabytes * 1.6
    writeable = np.full((rows, dim), 0.5, dtype=np.float32)
    before = resident()
    index.append(writeable)
    assert (resident() - before) / 1e6 > megabytes


def test_only_frozen_numpy_is_shared(rng, tmp_path):
    def is_shared(array):
        index = pennon.Index(4, flat=True)
        index.append(array)
        base = np.frombuffer(memoryview(array).cast("B") if array.flags.c_contiguous else b"", dtype=np.uint8)
        address = array.__array_interface__["data"][0]
        before = index.get(0)[0]
        ctypes.c_float.from_address(address).value = before + 1
        assert len(base)
        return index.get(0)[0] != before

    vectors = vectors_of(rng, 8, 4, "float32")
    assert not is_shared(vectors.copy())
    view = vectors.copy()
    sealed = view.view()
    sealed.flags.writeable = False
    assert not is_shared(sealed), "its base can be written to"
    own = vectors.copy()
    own.flags.writeable = False
    assert is_shared(own) and is_shared(own[2:])
    # Bytes that nobody can write to, and a bytearray that everybody can.
    constant = np.frombuffer(vectors.tobytes(), dtype=np.float32).reshape(8, 4)
    assert is_shared(constant)
    loose = np.frombuffer(bytearray(vectors.tobytes()), dtype=np.float32).reshape(8, 4)
    loose.flags.writeable = False
    assert not is_shared(loose)


def test_a_writeable_array_may_be_reused(rng):
    vectors = vectors_of(rng, 100, 4, "float32")
    kept = vectors.copy()
    index = pennon.Index(4)
    index.append(vectors)
    vectors[:] = 0
    assert index.search(kept[5], k=1)[0] == (5, 0.0)


def test_queries(rng):
    vectors = vectors_of(rng, 50, 4, "float32")
    index = pennon.Index(4)
    index.append(vectors)
    query = vectors[3]
    forms = [
        query,
        query.tolist(),
        tuple(query.tolist()),
        query.astype(np.float64),
        pa.array(query),
        pa.chunked_array([pa.array(query[:1]), pa.array(query[1:])]),
        np.stack([query, query], axis=1)[:, 0],
        index.get(3),
    ]
    for form in forms:
        assert index.search(form, k=1).row_ids == [3]
    assert index.search([1, 0, 0, 0], k=1).row_ids == index.search(np.array([1, 0, 0, 0]), k=1).row_ids
    with_null = pa.array([vectors[0].tolist(), None], pa.list_(pa.float32(), 4))
    assert [len(hits) for hits in index.search_batch(with_null, k=2)] == [2, 0]


def test_bfloat16_comes_from_arrow(rng):
    bits = (vectors_of(rng, 20, 4, "float32").view(np.uint32) >> 16).astype(np.uint16)
    values = pa.FixedSizeBinaryArray.from_buffers(pa.binary(2), 80, [None, pa.py_buffer(bits.tobytes())])
    metadata = {"ARROW:extension:name": "lance.bfloat16", "ARROW:extension:metadata": ""}
    item = pa.field("item", pa.binary(2), metadata=metadata)
    array = pa.FixedSizeListArray.from_arrays(values, type=pa.list_(item, 4))
    index = pennon.Index(4, element_type="bfloat16")
    index.append(array)
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    assert index.search(wide[7], k=1)[0] == (7, 0.0)
    with pytest.raises(pennon.InvalidInputError, match="come from Arrow"):
        index.append(wide)


LISTS = [
    pa.list_(pa.float32(), 3),
    pa.list_(pa.float32()),
    pa.large_list(pa.float32()),
    pa.list_(pa.float64(), 3),
    pa.list_(pa.float64()),
]


@pytest.mark.parametrize("kind", LISTS, ids=str)
def test_slices_and_nulls_are_read_as_they_stand(rng, kind):
    def row():
        if rng.random() < 0.2:
            return None
        return [None if rng.random() < 0.05 else float(np.float32(x)) for x in rng.standard_normal(3)]

    for trial in range(60):
        rows = [row() for _ in range(rng.integers(1, 40))]
        start = int(rng.integers(0, len(rows)))
        end = int(rng.integers(start, len(rows))) + 1
        array = pa.array(rows, kind)[start:end]
        data = pa.chunked_array([array[:1], array[1:]]) if trial % 2 else array
        usable = {at: row for at, row in enumerate(rows[start:end]) if row is not None and None not in row}
        index = pennon.Index(3, flat=True)
        appended = index.append(data)
        assert appended.skipped == [at for at in range(end - start) if at not in usable]
        assert {at: list(index.get(at)) for at in range(end - start) if at in index} == usable


def test_empty_input_and_streams_that_fail(rng):
    index = pennon.Index(4)
    kind = pa.list_(pa.float32(), 4)
    for data in (np.zeros((0, 4), np.float32), pa.array([], kind), pa.chunked_array([], kind)):
        assert len(index.append(data)) == 0
    schema = pa.schema([("vector", kind)])

    def batches():
        yield pa.record_batch([pa.array([[1.0] * 4], kind)], schema=schema)
        raise RuntimeError("boom")

    with pytest.raises(pennon.InvalidInputError, match="boom"):
        index.append(pa.RecordBatchReader.from_batches(schema, batches()))
    assert len(index) == 0


def test_capsules_that_are_not_what_they_should_be():
    index = pennon.Index(4)
    array = pa.array([[1.0] * 4], pa.list_(pa.float32(), 4))

    class Export:
        def __init__(self, capsules):
            self.capsules = capsules

        def __arrow_c_array__(self, requested_schema=None):
            return self.capsules

    once = Export(array.__arrow_c_array__())
    index.append(once)
    with pytest.raises(pennon.InvalidInputError, match="released"):
        index.append(once)
    for capsules in [(1, 2), array.__arrow_c_array__()[::-1], array.__arrow_c_array__()[:1]]:
        with pytest.raises((TypeError, ValueError)):
            index.append(Export(capsules))
    assert len(index) == 1
