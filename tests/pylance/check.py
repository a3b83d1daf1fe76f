"""Searches a Lance dataset with whichever pylance runs this, and compares with numpy.

    python check.py DATASET METRIC LEAST_RECALL

The dataset has columns `id` and `vector` and an index on the latter. Fails unless the index is used, every answer is
complete (readers of Lance 7 turn a graph they cannot walk into an answer without rows) and the recall is reached.
"""

import sys

import lance
import numpy as np

COLUMN = "vector"
K = 10
QUERIES = 40


def distances(metric, vectors, query):
    if metric == "l2":
        return ((vectors - query) ** 2).sum(axis=1)
    products = vectors @ query
    if metric == "dot":
        return 1 - products
    return 1 - products / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))


def check(path, metric, least):
    dataset = lance.dataset(path)
    rows = dataset.to_table(columns=["id", COLUMN]).to_pylist()
    rows = [row for row in rows if row[COLUMN] is not None]
    ids = np.array([row["id"] for row in rows])
    vectors = np.array([row[COLUMN] for row in rows], dtype=np.float32)
    rng = np.random.default_rng(5)
    picked = vectors[rng.integers(0, len(vectors), QUERIES)]
    queries = picked + rng.normal(0, 0.2, picked.shape).astype(np.float32)

    def nearest(query):
        return {"column": COLUMN, "q": query, "k": K, "ef": 100, "nprobes": 64}

    plan = dataset.scanner(nearest=nearest(queries[0])).explain_plan(True)
    assert "ANNSubIndex" in plan, f"the index is not used: {plan}"

    found = 0
    for query in queries:
        answer = dataset.to_table(columns=["id", "_distance"], nearest=nearest(query))
        assert answer.num_rows == K, f"{answer.num_rows} rows instead of {K}"
        reported = answer["_distance"].to_pylist()
        assert reported == sorted(reported), f"not nearest first: {reported}"
        truth = ids[np.argsort(distances(metric, vectors, query))[:K]]
        found += len(set(truth.tolist()) & set(answer["id"].to_pylist()))
    recall = found / (K * QUERIES)
    print(f"pylance {lance.__version__}: {path}: {len(rows)} rows, recall {recall:.3f}")
    assert recall >= least, f"recall {recall:.3f}, expected {least}"


if __name__ == "__main__":
    check(sys.argv[1], sys.argv[2], float(sys.argv[3]))
