"""Collections: vectors with their other columns."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from conftest import distances, vectors_of

import pennon

if not hasattr(pennon, "Collection"):
    pytest.skip("this build has no Collection", allow_module_level=True)


def table_of(vectors, first=0):
    rows = len(vectors)
    return pa.table(
        {
            "id": [f"row {first + at}" for at in range(rows)],
            "year": pa.array(np.arange(rows) % 20 + 2000, pa.int32()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
    )


@pytest.fixture
def vectors(rng):
    return vectors_of(rng, 1200, 8, "float32")


@pytest.fixture
def collection(vectors):
    table = table_of(vectors)
    collection = pennon.Collection(table.schema, {"vector": "l2"}, key="id")
    for batch in table.to_batches(max_chunksize=500):
        collection.append(batch)
    return collection


def test_filters_are_functions_of_batches(collection, vectors):
    called = []

    def recent(batch):
        called.append(batch.num_rows)
        assert batch.schema.names == ["id", "year"]
        return pc.greater_equal(batch["year"], 2015)

    keep = pennon.Filter(recent)
    passing = np.flatnonzero(np.arange(1200) % 20 >= 15)
    for query in vectors[:5]:
        expected = passing[np.argsort(distances(vectors[passing], query, "l2"))[:7]]
        for test in (keep, keep, recent):
            hits = collection.search(query, k=7, ef=400, where=test, columns=["id", "_rowid"], exact=test is keep)
            found = hits.to_pyarrow()
            assert found["id"].to_pylist() == [f"row {at}" for at in expected] and hits.complete
            assert hits.row_ids == found["_rowid"].to_pylist() and len(hits) == 7
    # Once for each batch by the filter that is kept, and once for each batch and search by the function.
    assert len(called) == 3 + 5 * 3
    with pytest.raises(ZeroDivisionError):
        collection.search(vectors[0], where=lambda batch: 1 / 0)
    with pytest.raises(pennon.PennonError, match="500 booleans"):
        collection.search(vectors[0], where=lambda batch: [True])


def test_keys(collection, vectors):
    assert collection.get("row 7").to_pyarrow()["vector"][0].as_py() == vectors[7].tolist()
    changed = table_of(-vectors[7:9], first=7)
    assert collection.upsert(changed) == {"rows": 2, "replaced": 2}
    assert collection.search(-vectors[7], k=1).to_pyarrow()["_distance"].to_pylist() == [0.0]
    assert collection.delete("row 7") == 1 and collection.delete(["row 8", "row 9"]) == 2
    assert collection.delete(pa.array(["row 10"])) == 1
    assert len(collection) == 1196 and collection.get("row 7") is None
    with pytest.raises(KeyError, match="row 7") as caught:
        collection.delete(["row 20", "row 7"])
    assert isinstance(caught.value, pennon.UnknownKeyError) and collection.get("row 20") is not None
    with pytest.raises(pennon.DuplicateKeyError):
        collection.append(table_of(vectors[:1], first=20))
    collection.compact()
    assert len(collection) == 1196


def test_save_and_load(collection, vectors, tmp_path):
    collection.save(tmp_path)
    loaded = pennon.Collection.load(tmp_path)
    assert len(loaded) == 1200 and loaded.key == "id" and pa.schema(loaded).names == ["id", "year", "vector"]
    assert loaded.search(vectors[3], k=4).to_pyarrow() == collection.search(vectors[3], k=4).to_pyarrow()
    with pytest.raises(FileNotFoundError):
        pennon.Collection.load(tmp_path / "none")


def test_fused_searches(vectors):
    table = table_of(vectors)
    table = table.append_column("other", table["vector"].combine_chunks()[::-1])
    collection = pennon.Collection(table.schema, {"vector": "l2", "other": "cosine"})
    collection.append(table)
    queries = {"vector": vectors[5], "other": vectors[5]}
    hits = collection.search_fused(queries, k=3, fusion="rank")
    assert "_score" in hits.to_pyarrow().schema.names and len(hits) == 3
    weights = {"other": 0.0}
    hits = collection.search_fused(queries, k=1, fusion="distance", weights=weights, exact=True, columns=["id"])
    assert hits.to_pyarrow()["id"].to_pylist() == ["row 5"]
    assert collection.search(vectors[5], k=1, vector_column="other", columns=["id"]).row_ids == [1194]
    with pytest.raises(pennon.InvalidInputError, match="fusion"):
        collection.search_fused(queries, fusion="sum")
