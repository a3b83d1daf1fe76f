"""Indexes of Lance datasets, read back by pylance."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from conftest import distances, vectors_of

import pennon

lance = pytest.importorskip("lance")
import pennon.lance

DIM = 16


def dataset_of(vectors, path, **options):
    table = pa.table(
        {
            "id": pa.array(range(len(vectors)), pa.int64()),
            "vec": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
    )
    return lance.write_dataset(table, str(path), max_rows_per_file=700, **options)


def recall_of(dataset, vectors, queries, metric, **nearest):
    shares = []
    for query in queries:
        search = {"column": "vec", "q": query, "k": 10, **nearest}
        found = dataset.to_table(columns=["id", "_distance"], nearest=search)
        expected = np.argsort(distances(vectors, query, metric), kind="stable")[:10]
        shares.append(len(set(found["id"].to_pylist()) & set(expected.tolist())) / 10)
    return np.mean(shares)


def plan(dataset, query):
    return dataset.scanner(nearest={"column": "vec", "q": query, "k": 10}).explain_plan(True)


CASES = [
    ("l2", "float32", "IVF_HNSW_FLAT", 1, 0.95),
    ("cosine", "float32", "IVF_HNSW_FLAT", 4, 0.95),
    ("dot", "float32", "IVF_HNSW_FLAT", 3, 0.95),
    ("l2", "float16", "IVF_HNSW_FLAT", 2, 0.95),
    ("cosine", "float64", "IVF_HNSW_FLAT", 1, 0.95),
    ("hamming", "uint8", "IVF_HNSW_FLAT", 1, 0.9),
    ("l2", "float32", "IVF_HNSW_SQ", 2, 0.8),
    ("cosine", "float32", "IVF_HNSW_SQ", 1, 0.8),
]


@pytest.mark.parametrize("metric, element_type, index_type, num_partitions, least", CASES)
def test_lance_searches_what_pennon_built(rng, tmp_path, metric, element_type, index_type, num_partitions, least):
    vectors = vectors_of(rng, 2000, DIM, element_type)
    dataset = dataset_of(vectors, tmp_path / "data")
    options = {"metric": metric, "index_type": index_type, "num_partitions": num_partitions}
    dataset = pennon.lance.attach_index(dataset, "vec", **options)

    (found,) = dataset.describe_indices()
    assert (found.name, found.num_rows_indexed) == ("vec_idx", 2000)
    assert found.index_type == index_type, found.index_type
    assert dataset.stats.index_stats("vec_idx")["num_unindexed_rows"] == 0
    queries = vectors[:30] if metric == "hamming" else vectors_of(rng, 30, DIM, element_type)
    assert "ANNSubIndex" in plan(dataset, queries[0])
    share = recall_of(dataset, vectors, queries, metric, nprobes=num_partitions, ef=200)
    assert share >= least, share
    assert pennon.lance.attach_index(dataset, "vec", metric=metric, index_type=index_type).version == dataset.version


def test_answers_are_those_of_a_scan(rng, tmp_path):
    vectors = vectors_of(rng, 1500, DIM, "float32")
    dataset = pennon.lance.attach_index(dataset_of(vectors, tmp_path / "data"), "vec", name="mine")
    query = vectors[77] + 0.1
    nearest = {"column": "vec", "q": query, "k": 10, "ef": 300}
    by_index = dataset.to_table(nearest=nearest)
    by_scan = dataset.to_table(nearest={**nearest, "use_index": False})
    assert by_index["id"].to_pylist() == by_scan["id"].to_pylist()
    np.testing.assert_allclose(by_index["_distance"], by_scan["_distance"], rtol=1e-5)
    filtered = dataset.to_table(nearest=nearest, filter="id >= 1000", prefilter=True)
    assert len(filtered) == 10 and min(filtered["id"].to_pylist()) >= 1000
    dataset.delete("id < 100")
    dataset.optimize.compact_files()
    assert 77 not in dataset.to_table(nearest=nearest)["id"].to_pylist()


def test_new_fragments_become_a_segment(rng, tmp_path):
    vectors = vectors_of(rng, 1400, DIM, "float32")
    dataset = pennon.lance.attach_index(dataset_of(vectors[:700], tmp_path / "data"), "vec")
    table = dataset_of(vectors[700:], tmp_path / "more").to_table()
    table = table.set_column(0, "id", pa.array(range(700, 1400), pa.int64()))
    dataset = lance.write_dataset(table, dataset.uri, mode="append")
    assert dataset.stats.index_stats("vec_idx")["num_unindexed_rows"] == 700
    dataset = pennon.lance.attach_index(dataset, "vec")
    (found,) = dataset.describe_indices()
    assert len(found.segments) == 2 and found.num_rows_indexed == 1400
    assert recall_of(dataset, vectors, vectors_of(rng, 20, DIM, "float32"), "l2", ef=200) >= 0.95
    with pytest.raises(pennon.InvalidInputError, match="with metric l2"):
        pennon.lance.attach_index(dataset, "vec", metric="dot")
    dataset = pennon.lance.attach_index(dataset, "vec", metric="dot", replace=True)
    (found,) = dataset.describe_indices()
    assert len(found.segments) == 1 and found.num_rows_indexed == 1400


def test_segments_of_workers(rng, tmp_path):
    vectors = vectors_of(rng, 2100, DIM, "float32")
    dataset = dataset_of(vectors, tmp_path / "data", enable_stable_row_ids=True)
    centroids = lance.indices.IndicesBuilder(dataset, "vec").train_ivf(2, sample_rate=100).centroids
    segments = [
        pickle.loads(
            pickle.dumps(pennon.lance.build_index_segment(dataset, "vec", [fragment], ivf_centroids=centroids))
        )
        for fragment in (0, 1, 2)
    ]
    assert len(dataset.describe_indices()) == 0
    merged = dataset.merge_existing_index_segments(segments[:2])
    dataset = dataset.commit_existing_index_segments("vec_idx", "vec", [merged, segments[2]])
    (found,) = dataset.describe_indices()
    assert len(found.segments) == 2 and found.num_rows_indexed == 2100
    share = recall_of(dataset, vectors, vectors_of(rng, 20, DIM, "float32"), "l2", nprobes=2, ef=200)
    assert share >= 0.95, share


def test_rows_without_a_vector(rng, tmp_path):
    vectors = vectors_of(rng, 600, DIM, "float32")
    vectors[5, 3], vectors[6] = np.nan, 0
    lists = vectors.tolist()
    lists[9] = None
    table = pa.table({"id": range(600), "vec": pa.array(lists, pa.list_(pa.float32(), DIM))})
    for metric, rows in (("l2", 598), ("cosine", 597)):
        dataset = lance.write_dataset(table, str(tmp_path / metric))
        for num_partitions in (1, 2):
            options = {"metric": metric, "num_partitions": num_partitions, "replace": True}
            dataset = pennon.lance.attach_index(dataset, "vec", **options)
            nearest = {"column": "vec", "q": vectors[0], "k": 600, "ef": 600, "nprobes": num_partitions}
            found = set(dataset.to_table(nearest=nearest)["id"].to_pylist())
            assert len(found) == rows and found.isdisjoint({5, 9}), (metric, num_partitions, len(found))


def test_refusals(rng, tmp_path):
    vectors = vectors_of(rng, 50, DIM, "float32")
    dataset = dataset_of(vectors, tmp_path / "data")
    for message, options in [
        ("metric must be", {"metric": "l1"}),
        ("index_type must be", {"index_type": "IVF_PQ"}),
        ("no fragments", {"fragment_ids": [3]}),
        ("is not for elements", {"metric": "hamming"}),
        ("rows of 16 elements", {"ivf_centroids": np.zeros((2, 3))}),
    ]:
        with pytest.raises(pennon.InvalidInputError, match=message):
            pennon.lance.build_index_segment(dataset, "vec", **options)
    with pytest.raises(pennon.InvalidInputError, match="no column"):
        pennon.lance.build_index_segment(dataset, "none")
    with pytest.raises(pennon.InvalidInputError, match="FixedSizeList"):
        pennon.lance.build_index_segment(dataset, "id")
    assert not (tmp_path / "data" / "_indices").exists()


def test_the_example_on_ray(rng, tmp_path):
    ray = pytest.importorskip("ray")
    import pathlib
    import sys

    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "examples"))
    import ray_index

    vectors = vectors_of(rng, 2100, DIM, "float32")
    dataset_of(vectors, tmp_path / "data")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    try:
        dataset = ray_index.build_on_ray(str(tmp_path / "data"), "vec")
    finally:
        ray.shutdown()
    (found,) = dataset.describe_indices()
    assert len(found.segments) == 2 and found.num_rows_indexed == 2100
    share = recall_of(dataset, vectors, vectors_of(rng, 20, DIM, "float32"), "l2", nprobes=4, ef=200)
    assert share >= 0.95, share
