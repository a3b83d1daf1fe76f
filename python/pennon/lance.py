"""Indexes of Lance datasets, built by Pennon and of Lance's own types.

    dataset = pennon.lance.attach_index(dataset, "vector", metric="cosine")
    dataset.to_table(nearest={"column": "vector", "q": query, "k": 10})

Needs pylance, the extra `lance` of the package. What is written is an `IVF_HNSW_FLAT` or `IVF_HNSW_SQ` index as Lance
writes it, so whatever reads or maintains Lance datasets goes on working.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Optional

from pennon._errors import InvalidInputError
from pennon._pennon import Index

if TYPE_CHECKING:
    import lance
    import numpy as np
    import pyarrow as pa

__all__ = ["attach_index", "build_index_segment"]

INDEX_TYPES = ("IVF_HNSW_FLAT", "IVF_HNSW_SQ")
ELEMENT_TYPES = ("halffloat", "float", "double", "uint8")
# What Lance names the version of its vector indexes.
INDEX_VERSION = 1
# Levels that `pennon.Index` builds with.
MAX_LEVEL = 7


def build_index_segment(
    dataset: lance.LanceDataset,
    column: str,
    fragment_ids: Optional[Iterable[int]] = None,
    *,
    index_type: str = "IVF_HNSW_FLAT",
    name: Optional[str] = None,
    metric: str = "l2",
    num_partitions: int = 1,
    ivf_centroids: Any = None,
    sq_bounds: Optional[tuple[float, float]] = None,
    m: int = 16,
    ef_construction: int = 100,
    sample_rate: int = 256,
    storage_options: Optional[dict[str, str]] = None,
    index_uuid: Optional[str] = None,
) -> lance.Index:
    """Builds the part of an index that has the rows of some fragments (of all, if not given), and writes its files.

    Nothing of the dataset changes until segments are committed:
    `dataset.commit_existing_index_segments(name, column, segments)`. The result pickles, so workers can build and one
    process commit. Arguments have the names that they have in `LanceDataset.create_index_uncommitted`.

    - `metric`: `l2`, `cosine`, `dot`, or `hamming` of `uint8`.
    - `num_partitions`: each is a graph of its own, of which a search visits `nprobes`.
    - `ivf_centroids`: centroids of the partitions, as an array of numpy or of Arrow. Workers whose segments are to be
      merged later need the same: `lance.indices.IndicesBuilder(dataset, column).train_ivf(...).centroids`.
    - `sq_bounds`: the least and the greatest element of `IVF_HNSW_SQ`, which workers share for the same reason.
    - `m`, `ef_construction`: those of the graphs.
    - `sample_rate`: rows for each partition that centroids are trained from.

    The column of these fragments is held in memory.
    """
    import lance

    metric = _metric(metric)
    if index_type not in INDEX_TYPES:
        raise InvalidInputError(f"index_type must be one of {', '.join(INDEX_TYPES)}, got {index_type!r}")
    value_type, dim, element_type = _vectors(dataset, column, metric, index_type)
    fragments = dataset.get_fragments()
    ids = [fragment.fragment_id for fragment in fragments]
    wanted = sorted(set(ids if fragment_ids is None else fragment_ids))
    if unknown := set(wanted).difference(ids):
        raise InvalidInputError(f"the dataset has no fragments {sorted(unknown)}")
    fragments = [fragment for fragment in fragments if fragment.fragment_id in set(wanted)]
    options = storage_options if storage_options is not None else dataset.initial_storage_options

    centroids = _centroids(ivf_centroids, value_type, dim)
    if centroids is None and num_partitions > 1:
        from lance.indices import IndicesBuilder

        builder = IndicesBuilder(dataset, column)
        rows = sum(fragment.count_rows() for fragment in fragments)
        rate = max(2, min(sample_rate, rows // num_partitions))
        model = builder.train_ivf(num_partitions, distance_type=metric, sample_rate=rate, fragment_ids=wanted)
        centroids = _centroids(model.centroids, value_type, dim)
    if centroids is not None and metric == "hamming" and len(centroids) > 1:
        raise InvalidInputError("hamming distance has one partition here, got several centroids")

    batches = _read(dataset, column, fragments, metric, value_type, dim)
    graph = {"m": m, "ef_construction": ef_construction, "element_type": element_type}
    partitions, centroids = _build(batches, centroids, metric, dim, value_type, graph)

    from pennon._lance_files import IndexFiles, details

    identity = str(uuid.UUID(index_uuid)) if index_uuid else str(uuid.uuid4())
    directory = f"{dataset.uri.rstrip('/')}/_indices/{identity}"
    version = dataset.data_storage_version
    files = IndexFiles(
        directory=directory,
        index_type=index_type,
        metric=metric,
        value_type=value_type,
        dim=dim,
        version="2.0" if version in ("0.1", "legacy") else version,
        storage_options=options,
    )
    try:
        files.write(partitions, centroids, sq_bounds)
    except BaseException:
        # What is in a store of objects is left to Lance's cleanup of old versions.
        if os.path.isdir(directory):
            shutil.rmtree(directory, ignore_errors=True)
        raise
    return lance.Index(
        uuid=identity,
        name=name or f"{column}_idx",
        fields=[_field(dataset, column)],
        dataset_version=dataset.version,
        # Any integers will do.
        fragment_ids=wanted,  # type: ignore[arg-type]
        index_version=INDEX_VERSION,
        index_details=details(metric, index_type, m, ef_construction, MAX_LEVEL),
        covering_fields=[],
    )


def attach_index(
    dataset: lance.LanceDataset,
    column: str,
    *,
    index_type: str = "IVF_HNSW_FLAT",
    name: Optional[str] = None,
    metric: str = "l2",
    replace: bool = False,
    num_partitions: int = 1,
    ivf_centroids: Any = None,
    sq_bounds: Optional[tuple[float, float]] = None,
    m: int = 16,
    ef_construction: int = 100,
    sample_rate: int = 256,
    storage_options: Optional[dict[str, str]] = None,
) -> lance.LanceDataset:
    """Builds an index of a column and commits it. If there is an index of that name (`<column>_idx` if not given), the
    fragments that it does not cover are built and added to it as a segment; with `replace`, it is built anew.

    Returns the dataset at the version with the index. The arguments are those of `build_index_segment`.
    """
    name = name or f"{column}_idx"
    existing = [found for found in dataset.describe_indices() if found.name == name]
    ids = [fragment.fragment_id for fragment in dataset.get_fragments()]
    if existing and not replace:
        _check_existing(existing[0], column, metric, index_type)
        covered = {fragment for segment in existing[0].segments for fragment in segment.fragment_ids}
        ids = [fragment for fragment in ids if fragment not in covered]
        if not ids:
            return dataset
    segment = build_index_segment(
        dataset,
        column,
        ids,
        index_type=index_type,
        name=name,
        metric=metric,
        num_partitions=num_partitions,
        ivf_centroids=ivf_centroids,
        sq_bounds=sq_bounds,
        m=m,
        ef_construction=ef_construction,
        sample_rate=sample_rate,
        storage_options=storage_options,
    )
    # A segment of all fragments takes the place of all segments, in one commit.
    return dataset.commit_existing_index_segments(name, column, [segment])


def _metric(metric: str) -> str:
    from pennon._lance_files import METRICS

    name = {"euclidean": "l2"}.get(metric.lower(), metric.lower())
    if name not in METRICS:
        raise InvalidInputError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    return name


def _field(dataset: lance.LanceDataset, column: str) -> int:
    field = dataset.lance_schema.field(column)
    if field is None:
        raise InvalidInputError(f"the dataset has no column {column!r}")
    return field.id()


def _vectors(dataset: lance.LanceDataset, column: str, metric: str, index_type: str) -> tuple[pa.DataType, int, str]:
    """The type of elements, the dimension, and the name that Pennon has for the type."""
    import pyarrow as pa

    _field(dataset, column)
    of = dataset.schema.field(column).type
    supported = pa.types.is_fixed_size_list(of) and str(of.value_type) in ELEMENT_TYPES
    if not supported:
        raise InvalidInputError(
            f"column {column!r} must be a FixedSizeList of float16, float32, float64 or uint8, got {of}"
        )
    is_bytes = pa.types.is_uint8(of.value_type)
    if is_bytes != (metric == "hamming"):
        raise InvalidInputError(f"metric {metric!r} is not for elements of {of.value_type}")
    if is_bytes and index_type == "IVF_HNSW_SQ":
        raise InvalidInputError("an IVF_HNSW_SQ index has no hamming distance")
    names = {"halffloat": "float16", "float": "float32", "double": "float64", "uint8": "uint8"}
    return of.value_type, of.list_size, names[str(of.value_type)]


def _centroids(centroids: Any, value_type: pa.DataType, dim: int) -> Optional[np.ndarray]:
    import numpy as np

    if centroids is None:
        return None
    if hasattr(centroids, "flatten") and hasattr(centroids, "type"):
        storage = getattr(centroids, "storage", centroids)
        centroids = storage.flatten().to_numpy().reshape(len(storage), -1)
    found = np.asarray(centroids)
    if found.ndim != 2 or found.shape[1] != dim or len(found) == 0:
        raise InvalidInputError(f"ivf_centroids must be rows of {dim} elements, got shape {found.shape}")
    return np.ascontiguousarray(found, dtype=value_type.to_pandas_dtype())


def _read(
    dataset: lance.LanceDataset,
    column: str,
    fragments: list[Any],
    metric: str,
    value_type: pa.DataType,
    dim: int,
) -> Iterator[tuple[pa.Array, pa.Array]]:
    """The row ids and the vectors of the rows that are not null, as they are stored: of length 1 under cosine."""
    import pyarrow as pa

    if not fragments:
        return
    for batch in dataset.scanner(columns=[column], with_row_id=True, fragments=fragments).to_reader():
        row_ids, vectors = batch.column("_rowid"), batch.column(column)
        if vectors.null_count:
            valid = vectors.is_valid()
            row_ids, vectors = row_ids.filter(valid), vectors.filter(valid)
        if metric == "cosine":
            # Null elements become NaN, with which a row is left out all the same.
            rows = _rows(vectors, dim)
            unit = pa.array(_unit(rows).ravel(), type=value_type)
            vectors = pa.FixedSizeListArray.from_arrays(unit, dim)
        yield row_ids, vectors


def _rows(vectors: pa.Array, dim: int) -> np.ndarray:
    return vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)


def _unit(rows: np.ndarray) -> np.ndarray:
    """The directions with length 1; squares are summed in `float64`. What has no length stays."""
    import numpy as np

    wide = rows.astype(np.float64)
    with np.errstate(all="ignore"):
        length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
        unit = np.where(length > 0, wide / length, wide)
    return unit.astype(rows.dtype)


def _nearest(rows: np.ndarray, centroids: np.ndarray, metric: str) -> np.ndarray:
    """The partition of each row: that of the nearest centroid."""
    import numpy as np

    rows, centroids = rows.astype(np.float32), centroids.astype(np.float32)
    with np.errstate(all="ignore"):
        products = rows @ centroids.T
        if metric == "dot":
            return np.argmax(products, axis=1)
        return np.argmin((centroids * centroids).sum(axis=1) - 2 * products, axis=1)


def _build(
    batches: Iterable[tuple[pa.Array, pa.Array]],
    centroids: Optional[np.ndarray],
    metric: str,
    dim: int,
    value_type: pa.DataType,
    graph: dict[str, Any],
) -> tuple[list[Any], np.ndarray]:
    """The partitions, and their centroids. Rows that Pennon leaves out, as those that are not finite, are in none."""
    import numpy as np
    import pyarrow as pa

    from pennon._lance_files import Partition

    count = 1 if centroids is None else len(centroids)
    parts: list[list[tuple[pa.Array, pa.Array]]] = [[] for _ in range(count)]
    for row_ids, vectors in batches:
        if centroids is None or count == 1:
            parts[0].append((row_ids, vectors))
            continue
        nearest = _nearest(_rows(vectors, dim), centroids, metric)
        order = np.argsort(nearest, kind="stable")
        ends = np.searchsorted(nearest[order], np.arange(count), side="right")
        for part, rows in zip(parts, np.split(order, ends[:-1])):
            if len(rows):
                part.append((row_ids.take(pa.array(rows)), vectors.take(pa.array(rows))))

    built = []
    for part in parts:
        index = Index(dim, metric, **graph)
        # What is taken together is linked together; the rows of a partition are copied for it.
        vectors = [vectors for _, vectors in part]
        if count > 1 and vectors:
            vectors = [pa.concat_arrays(vectors)]
        row_ids = [row_ids for row_ids, _ in part]
        if row_ids:
            index.append(pa.chunked_array(vectors), row_ids=pa.chunked_array(row_ids))
        part.clear()
        if len(index) == 0:
            built.append(Partition(None, None))
            continue
        lists, flat = index.to_lance_batches()
        built.append(Partition(lists.to_pyarrow() if lists else None, flat.to_pyarrow()))
    if centroids is None:
        centroids = _mean(built[0], dim, value_type)
    return built, centroids


def _mean(part: Any, dim: int, value_type: pa.DataType) -> np.ndarray:
    """The centroid of the only partition, which every search visits."""
    import numpy as np

    dtype = value_type.to_pandas_dtype()
    if part.vectors is None or dtype == np.uint8:
        return np.zeros((1, dim), dtype=dtype)
    rows = _rows(part.vectors.column("flat"), dim)
    return rows.mean(axis=0, dtype=np.float64, keepdims=True).astype(dtype)


def _check_existing(found: Any, column: str, metric: str, index_type: str) -> None:
    """Refuses to add a segment of another kind to an index."""
    if list(found.field_names) != [column]:
        raise InvalidInputError(f"index {found.name!r} is of {found.field_names}, not of {column!r}")
    kind = str(found.details.get("metric_type", metric)).lower()
    if found.index_type.upper() not in (index_type, "VECTOR") or kind != _metric(metric):
        raise InvalidInputError(f"index {found.name!r} is {found.index_type} with metric {kind}")
