"""The two files of a segment of a Lance vector index, written with pylance.

`index.idx` holds the graphs, `auxiliary.idx` the vectors. Both have the rows of all partitions one after another, how
many of each partition in a buffer of their own, and JSON in the metadata of their schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import pyarrow as pa

INDEX_FILE = "index.idx"
AUXILIARY_FILE = "auxiliary.idx"
# What Lance asks for in the lists of a graph: its default reads runs of empty lists back wrongly.
LIST_ENCODING = {"lance-encoding:structural-encoding": "fullzip"}
# Vectors are handed to the writer in batches of so many rows.
BATCH_ROWS = 8192
SQ_BITS = 8
METRICS = {"l2": 0, "cosine": 1, "dot": 2, "hamming": 3}
TENSOR_TYPES = {"float16": 1, "float32": 2, "float64": 3, "uint8": 4}


@dataclass
class Partition:
    """The `lance:hnsw` batch of some rows and their storage batch, `_rowid` and `flat`; or no row."""

    graph: Optional[pa.RecordBatch]
    vectors: Optional[pa.RecordBatch]


@dataclass
class IndexFiles:
    """Where the files go, and their kind."""

    directory: str
    index_type: str
    metric: str
    value_type: pa.DataType
    dim: int
    version: Optional[str]
    storage_options: Optional[dict[str, str]]

    def write(self, partitions: list[Partition], centroids: np.ndarray, bounds: Optional[tuple[float, float]]) -> None:
        """Writes both files. `bounds` are those of a scalar quantizer; else the widest that the vectors have."""
        self._write_vectors(partitions, bounds)
        self._write_graphs(partitions, centroids)

    def _create(self, name: str, schema: pa.Schema) -> Any:
        from lance.file import LanceFileWriter

        path = f"{self.directory}/{name}"
        return LanceFileWriter(path, schema, version=self.version, storage_options=self.storage_options)

    def _write_vectors(self, partitions: list[Partition], bounds: Optional[tuple[float, float]]) -> None:
        quantized = self.index_type == "IVF_HNSW_SQ"
        bounds = bounds or (_bounds(partitions) if quantized else (0.0, 0.0))
        metadata: dict[str, object]
        if quantized:
            column = pa.field("__sq_code", pa.list_(pa.uint8(), self.dim))
            metadata = {"dim": self.dim, "num_bits": SQ_BITS, "bounds": {"start": bounds[0], "end": bounds[1]}}
        else:
            column = pa.field("flat", pa.list_(self.value_type, self.dim))
            metadata = {"dim": self.dim}
        schema = pa.schema([pa.field("_rowid", pa.uint64()), column])
        with self._create(AUXILIARY_FILE, schema) as writer:
            for batch in _batches(partitions):
                values = batch.column("flat").flatten()
                if quantized:
                    values = pa.array(_codes(values.to_numpy(), bounds))
                elif values.type != self.value_type:
                    values = values.cast(self.value_type)
                vectors = pa.FixedSizeListArray.from_arrays(values, self.dim)
                writer.write_batch(pa.record_batch([batch.column("_rowid"), vectors.cast(column.type)], schema=schema))
            lengths = [0 if part.vectors is None else part.vectors.num_rows for part in partitions]
            writer.add_schema_metadata("distance_type", self.metric)
            writer.add_schema_metadata("storage_metadata", json.dumps([json.dumps(metadata)]))
            if quantized:
                writer.add_schema_metadata("lance:sq", json.dumps(metadata))
            position = writer.add_global_buffer(ivf_message(lengths, None))
            writer.add_schema_metadata("lance:ivf", str(position))

    def _write_graphs(self, partitions: list[Partition], centroids: np.ndarray) -> None:
        schema = pa.schema(
            [
                pa.field("__vector_id", pa.uint32(), nullable=False),
                pa.field("__neighbors", pa.list_(pa.uint32()), metadata=LIST_ENCODING),
                pa.field("_distance", pa.list_(pa.float32()), metadata=LIST_ENCODING),
            ]
        )
        with self._create(INDEX_FILE, schema) as writer:
            metadata, lengths = [], []
            for part in partitions:
                # Lance writes nothing for an empty partition, and an empty string for its metadata.
                rows = 0 if part.graph is None else part.graph.num_rows
                lengths.append(rows)
                if part.graph is None or rows == 0:
                    metadata.append("")
                    continue
                metadata.append(part.graph.schema.metadata[b"lance:hnsw"].decode())
                columns = [part.graph.column(field.name).cast(field.type) for field in schema]
                writer.write_batch(pa.record_batch(columns, schema=schema))
            kind = {"type": self.index_type, "distance_type": self.metric}
            writer.add_schema_metadata("lance:index", json.dumps(kind))
            writer.add_schema_metadata("lance:hnsw", json.dumps(metadata))
            position = writer.add_global_buffer(ivf_message(lengths, centroids))
            writer.add_schema_metadata("lance:ivf", str(position))


def _batches(partitions: list[Partition]) -> Iterator[pa.RecordBatch]:
    for part in partitions:
        if part.vectors is not None:
            for start in range(0, part.vectors.num_rows, BATCH_ROWS):
                yield part.vectors.slice(start, BATCH_ROWS)


def _bounds(partitions: list[Partition]) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for batch in _batches(partitions):
        values = batch.column("flat").flatten().to_numpy()
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _codes(values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Bytes as Lance makes them: without a fraction, and at the bound for what is outside."""
    low, high = bounds
    if low == high:
        return np.zeros(len(values), dtype=np.uint8)
    return np.clip((values.astype(np.float64) - low) * 255.0 / (high - low), 0.0, 255.0).astype(np.uint8)


def details(metric: str, index_type: str, m: int, ef_construction: int, max_level: int) -> tuple[str, bytes]:
    """What the manifest says of such an index: `lance.index.pb.VectorIndexDetails`."""
    hnsw = _number(1, m) + _number(2, ef_construction) + _number(3, max_level)
    compression = _bytes(5, _number(1, SQ_BITS)) if index_type == "IVF_HNSW_SQ" else _bytes(8, b"")
    message = _number(1, METRICS[metric]) + _bytes(3, hnsw) + compression
    return "/lance.index.pb.VectorIndexDetails", message


def ivf_message(lengths: list[int], centroids: Optional[np.ndarray]) -> bytes:
    """The rows of each partition, and the centroids if there are any: `lance.index.pb.IVF`."""
    message = _bytes(3, b"".join(_varint(length) for length in lengths))
    if centroids is not None:
        shape = b"".join(_varint(length) for length in centroids.shape)
        tensor = _number(1, TENSOR_TYPES[centroids.dtype.name]) + _bytes(2, shape)
        message += _bytes(4, tensor + _bytes(3, np.ascontiguousarray(centroids).tobytes()))
    return message


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    # Protobuf leaves out what is zero.
    return _varint(field << 3) + _varint(value) if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value
