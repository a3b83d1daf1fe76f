"""Pennon: an HNSW index over Arrow vectors, searchable while rows arrive.

    import numpy, pennon

    index = pennon.Index(dim=100, metric="cosine")
    index.append(vectors)                     # numpy, pyarrow, polars, a Lance scanner's reader, ...
    hits = index.search(query, k=10)          # pyarrow.table(hits), polars.DataFrame(hits), hits.row_ids
    index.save("words.pennon")
    index = pennon.Index.load("words.pennon", mmap=True)

`pennon.lance` builds indexes of Lance datasets.
"""

from pennon._errors import (
    CorruptIndexError,
    DuplicateKeyError,
    DuplicateRowIdError,
    IndexNotFoundError,
    InvalidInputError,
    PennonError,
    ReadOnlyError,
    StorageError,
    UnknownKeyError,
    UnknownRowIdError,
)
from pennon._pennon import (
    Collection,
    CollectionHits,
    Filter,
    Appended,
    ArrowBatch,
    BatchHits,
    Cursor,
    Hits,
    Index,
    Reader,
    RowMask,
    __version__,
)

__all__ = [
    "Collection",
    "CollectionHits",
    "Filter",
    "Appended",
    "ArrowBatch",
    "BatchHits",
    "CorruptIndexError",
    "Cursor",
    "DuplicateKeyError",
    "DuplicateRowIdError",
    "Hits",
    "Index",
    "IndexNotFoundError",
    "InvalidInputError",
    "PennonError",
    "ReadOnlyError",
    "Reader",
    "RowMask",
    "StorageError",
    "UnknownKeyError",
    "UnknownRowIdError",
    "__version__",
]
