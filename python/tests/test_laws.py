"""Searches against brute force of numpy."""

import itertools

import numpy as np
import pytest
from conftest import distances, recall, vectors_of

import pennon

TYPES = ["float16", "float32", "float64", "int8", "uint8"]
METRICS = ["l2", "cosine", "dot", "l1"]
CASES = list(itertools.product(TYPES, METRICS)) + [("uint8", "hamming")]


@pytest.mark.parametrize("element_type, metric", CASES)
def test_every_type_and_metric_finds_the_nearest(rng, element_type, metric):
    vectors = vectors_of(rng, 1500, 24, element_type)
    index = pennon.Index(24, metric, element_type=element_type)
    index.append(vectors)
    assert index.element_type == element_type and index.metric == metric and len(index) == 1500

    found = []
    for query in vectors[:20] if metric == "hamming" else vectors_of(rng, 20, 24, element_type):
        hits = index.search(query, k=10, ef=200)
        exact = index.search_exact(query, k=10)
        oracle = distances(vectors, query, metric)
        row_ids, found_distances = hits.to_numpy()
        assert len(hits) == 10 and hits.complete
        scale = max(1.0, np.abs(oracle).max())
        np.testing.assert_allclose(found_distances, oracle[row_ids], atol=2e-5 * scale)
        np.testing.assert_allclose(exact.distances, np.sort(oracle)[:10], atol=2e-5 * scale)
        assert sorted(hits.distances) == hits.distances
        kth = np.sort(oracle)[9] + 2e-5 * scale
        found.append(np.mean(oracle[row_ids] <= kth))
    assert np.mean(found) >= 0.97, np.mean(found)


def test_a_flat_index_is_exact(rng):
    vectors = vectors_of(rng, 700, 8, "float32")
    index = pennon.Index(8, flat=True)
    index.append(vectors)
    query = vectors_of(rng, 1, 8, "float32")[0]
    assert recall(index.search(query, k=25).row_ids, vectors, query, "l2", 25) == 1
    assert "flat=True" in repr(index) and index.health() is None


def test_k_of_all_and_more_than_all(rng):
    index = pennon.Index(4)
    index.append(vectors_of(rng, 30, 4, "float32"))
    query = [0.0] * 4
    assert len(index.search(query, k=100)) == 30
    assert len(index.search(query, k=None)) == 30
    assert index.search(query, k=5).row_ids == index.search(query, k=6).row_ids[:5]
    assert len(pennon.Index(4).search(query)) == 0


def test_masks_mean_what_they_say(rng):
    vectors = vectors_of(rng, 1000, 8, "float32")
    index = pennon.Index(8)
    index.append(vectors)
    query = vectors[3]
    admitted = rng.random(1000) < 0.2
    ids = np.flatnonzero(admitted)
    expected = ids[np.argsort(distances(vectors[ids], query, "l2"))[:5]].tolist()
    forms = [
        {"mask": admitted},
        {"mask": admitted.tolist()},
        {"mask": ids},
        {"mask": ids.tolist()},
        {"mask": set(ids.tolist())},
        {"mask": pennon.RowMask(ids)},
        {"mask": ~pennon.RowMask(np.flatnonzero(~admitted))},
        {"where": lambda row_ids: admitted[row_ids]},
        {"where": lambda row_ids: np.isin(row_ids, ids), "mask": range(1000)},
    ]
    for form in forms:
        assert index.search(query, k=5, **form).row_ids == expected, form
        assert index.search_exact(query, k=5, **form).row_ids == expected, form
        assert index.search_batch(query[None], k=5, **form)[0].row_ids == expected, form
    pair = pennon.RowMask(range(100, 300)) & pennon.RowMask(range(200, 400))
    assert set(index.search(query, k=None, mask=pair).row_ids) == set(range(200, 300))
    either = pennon.RowMask([1]) | pennon.RowMask(range(5, 7))
    assert set(index.search(query, k=None, mask=either).row_ids) == {1, 5, 6}
    assert index.search(query, k=5, mask=[]).row_ids == []
    assert max(index.search(query, k=None, max_row_id=41).row_ids) == 41


def test_ranges_and_limits(rng):
    vectors = vectors_of(rng, 2000, 8, "float32")
    index = pennon.Index(8)
    index.append(vectors)
    query = vectors[0]
    oracle = distances(vectors, query, "l2")
    near = index.search_exact(query, k=None, distance_range=(0.5, 4.0))
    assert set(near.row_ids) == set(np.flatnonzero((oracle >= 0.5) & (oracle < 4.0)).tolist())
    partial = index.search(query, k=10, max_distances=1)
    assert not partial.complete and "complete=False" in repr(partial)
    assert not index.search_batch(vectors[:3], k=10, timeout=0.0).complete
    assert index.search(query, k=10, timeout=60.0).stats["plan"] == "graph"


def test_batches_answer_as_single_searches(rng):
    vectors = vectors_of(rng, 1000, 16, "float32")
    index = pennon.Index(16, "cosine")
    index.append(vectors)
    answers = index.search_batch(vectors[:40].astype(np.float64), k=3)
    assert len(answers) == 40 and answers.complete
    for query, hits in zip(vectors, answers):
        assert list(hits) == list(index.search(query, k=3))
    query_index, row_ids, found = answers.to_numpy()
    assert query_index.tolist() == np.repeat(np.arange(40), 3).tolist()
    assert row_ids.reshape(40, 3)[5].tolist() == answers[5].row_ids and found.dtype == np.float32
    assert answers[-1].row_ids == answers[39].row_ids


def test_updates_deletes_and_compaction(rng):
    vectors = vectors_of(rng, 600, 8, "float32")
    index = pennon.Index(8)
    assert index.append(vectors[:500], row_ids=1000).first_row_id == 1000
    assert index.append(vectors[500:]).first_row_id == 1500
    old = index.reader()
    assert index.delete([1000, 1001]) == 2 and index.delete(1002) == 1
    index.upsert(-vectors[3:5], row_ids=[1003, 1004])
    assert len(index) == 597 and index.tombstones == 5 and len(old) == 600
    assert 1000 not in index and 1003 in index and 1000 in old and index.get(1000) is None
    np.testing.assert_array_equal(np.asarray(index.get(1003)), -vectors[3])
    np.testing.assert_array_equal(np.asarray(old.get(1003)), vectors[3])
    assert index.compact() == {"kept": 597, "followed": 0, "removed": 5, "buried": 0}
    assert index.tombstones == 0 and old.search(vectors[0], k=1).row_ids == [1000]
    live = index.row_ids().to_pyarrow().column("_rowid").to_pylist()
    assert sorted(live) == list(range(1003, 1600))
    score = index.score(vectors[10], [1010, 1000])
    assert score[0] == 0 and score[1] is None
    assert index.health()["is_healthy"] and index.stats()["live"] == 597


def test_unusable_rows_are_left_out(rng):
    vectors = vectors_of(rng, 6, 4, "float32")
    vectors[1, 2] = np.nan
    vectors[3] = 0
    index = pennon.Index(4, "cosine")
    appended = index.append(vectors)
    assert appended.rows == 6 and appended.skipped == [1, 3] and len(appended) == 4
    assert index.stats()["skipped"] == {"null": 0, "null_element": 0, "non_finite": 1, "zero_norm": 1}
    # Row ids go on after those that were left out.
    assert index.append(vectors[:1]).first_row_id == 6


@pytest.mark.parametrize("flat", [True, False])
def test_pages_are_every_row_once(rng, flat):
    vectors = vectors_of(rng, 1_000, 8, "float32")
    index = pennon.Index(8, flat=flat)
    index.append(vectors)
    query = vectors[3]
    cursor = index.cursor(query, k=70, ef=200, mask=range(100, 900))
    index.delete(range(100, 200))
    first = next(cursor)
    assert recall(first.row_ids, vectors[100:900], query, "l2", 70, range(100, 900)) >= 0.95
    assert first.complete and first.stats == {} and len(first.to_numpy()[0]) == 70
    some = cursor.take(25)
    pages = list(cursor)
    assert [len(page) for page in pages] == [70] * 10 + [5] and len(some) == 25
    assert sorted(first.row_ids + some.row_ids + sum((page.row_ids for page in pages), [])) == list(range(100, 900))
    assert len(cursor.take(1)) == 0
    for page in pages:
        assert page.distances == sorted(page.distances)
    with pytest.raises(pennon.InvalidInputError, match="k=0"):
        index.cursor(query, k=0)


def test_unique_row_ids_are_trusted(rng):
    vectors = vectors_of(rng, 300, 8, "float32")
    index = pennon.Index(8)
    row_ids = rng.permutation(300)
    appended = index.append_unique(vectors, row_ids=row_ids)
    assert (len(appended), appended.first_row_id) == (300, row_ids[0])
    for row in range(0, 300, 17):
        assert index.search(vectors[row], k=1).row_ids == [row_ids[row]]
    index.append_unique(vectors[:1] + 100, row_ids=7)
    assert len(index) == 301 and len(index.search(vectors[0], k=None, mask=[7])) == 2
    assert index.append(vectors[:1]).first_row_id == 300
    with pytest.raises(pennon.DuplicateRowIdError):
        index.append(vectors[:1], row_ids=7)


def test_long_batches_count_their_queries_from_the_start(rng):
    vectors = vectors_of(rng, 3_000, 8, "float32")
    index = pennon.Index(8)
    index.append(vectors)
    many = index.search_batch(vectors, k=2, ef=50)
    assert len(many) == 3_000
    for at in range(0, 3_000, 251):
        assert list(many[at]) == list(index.search(vectors[at], k=2, ef=50))
    positions = many.to_numpy()[0]
    assert positions[0] == 0 and positions[-1] == 2_999
    vectors[2_500, 3] = np.nan
    with pytest.raises(pennon.InvalidInputError, match="2500"):
        index.search_batch(vectors)
    assert len(index.search_batch(vectors[:0])) == 0
