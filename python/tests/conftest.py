"""Data and oracles of all tests."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def distances(vectors, query, metric):
    """The distances of all rows to a query, by numpy alone."""
    if metric == "hamming":
        return np.unpackbits(np.bitwise_xor(vectors, query.astype(np.uint8)), axis=1).sum(axis=1).astype(np.float64)
    vectors, query = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        return ((vectors - query) ** 2).sum(axis=1)
    if metric == "l1":
        return np.abs(vectors - query).sum(axis=1)
    products = vectors @ query
    if metric == "dot":
        return 1 - products
    return 1 - products / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))


def recall(found, vectors, query, metric, k, row_ids=None):
    """The share of the `k` nearest rows that was found."""
    nearest = np.argsort(distances(vectors, query, metric), kind="stable")[:k]
    nearest = nearest if row_ids is None else np.asarray(row_ids)[nearest]
    return len(set(found) & set(nearest.tolist())) / k


def vectors_of(rng, rows, dim, element_type):
    """Random vectors of a type."""
    if element_type == "uint8":
        return rng.integers(0, 256, (rows, dim), dtype=np.uint8)
    if element_type == "int8":
        return rng.integers(-128, 128, (rows, dim), dtype=np.int8)
    return rng.standard_normal((rows, dim)).astype(element_type)
