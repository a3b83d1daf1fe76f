"""Saves, maps, pickles and Lance's batches."""

import copy
import pickle

import numpy as np
import pyarrow as pa
import pytest
from conftest import vectors_of

import pennon


@pytest.fixture
def index(rng):
    index = pennon.Index(8, "cosine", m=12, ef_construction=60)
    index.append(vectors_of(rng, 500, 8, "float32"), row_ids=range(100, 600))
    index.delete([599, 100])
    return index


def answers(index, rng):
    return [list(index.search(query, k=7)) for query in vectors_of(rng, 10, 8, "float32")]


def test_save_and_load(index, tmp_path):
    def expected():
        return answers(index, np.random.default_rng(1))

    index.save(tmp_path / "index", properties={"model": "a"})
    for mmap in (False, True):
        loaded = pennon.Index.load(str(tmp_path / "index"), mmap=mmap)
        assert answers(loaded, np.random.default_rng(1)) == expected()
        assert loaded.properties == {"model": "a"} and repr(loaded) == repr(index) and loaded.tombstones == 2
    with pytest.raises(pennon.ReadOnlyError, match="read-only"):
        loaded.append(np.ones((1, 8), dtype=np.float32))
    with pytest.raises(RuntimeError):
        loaded.delete(101)
    loaded.compact()
    # The row id of a row that was deleted is not given out again.
    assert loaded.append(np.ones((1, 8), dtype=np.float32)).first_row_id == 600


def test_a_reader_saves_its_version(index, tmp_path):
    reader = index.reader()
    index.append(np.ones((3, 8), dtype=np.float32))
    reader.save(tmp_path)
    assert len(pennon.Index.load(tmp_path)) == len(reader) == len(index) - 3
    assert reader.version[1:] == (500, 2)


@pytest.mark.parametrize("options", [{}, {"flat": True}, {"metric": "l1"}, {"element_type": "float16"}])
def test_pickle(options, rng):
    index = pennon.Index(8, seed=5, **options)
    index.append(vectors_of(rng, 300, 8, options.get("element_type", "float32")))
    index.delete([0, 7])
    for other in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
        assert repr(other) == repr(index)
        assert answers(other, np.random.default_rng(2)) == answers(index, np.random.default_rng(2))
        assert other.append(np.ones((1, 8), dtype=options.get("element_type", "float32"))).first_row_id == 300
        assert len(index) == 298


def test_lance_batches(index):
    graph, vectors = index.to_lance_batches()
    assert graph.column_names == ["__vector_id", "__neighbors", "_distance"] and "lance:hnsw" in graph.metadata
    assert vectors.to_pyarrow().schema.names == ["_rowid", "flat"] and vectors.num_rows == 498
    for parts in (
        (graph, vectors),
        (graph.to_pyarrow(), vectors.to_pyarrow()),
        (None, vectors),
        (None, pa.table(vectors)),
    ):
        other = pennon.Index.from_lance_batches(*parts)
        assert len(other) == 498 and other.metric == "cosine"
        query = np.ones(8, dtype=np.float32)
        assert other.search(query, k=5).row_ids == index.search(query, k=5).row_ids
    with pytest.raises(pennon.InvalidInputError):
        pennon.Index.from_lance_batches(None, pa.table({"a": [1]}))
