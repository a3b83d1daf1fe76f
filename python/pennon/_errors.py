"""The exceptions of the package. Each is also one of Python's own, so that either can be caught."""


class PennonError(Exception):
    """Whatever Pennon refuses or cannot do."""


class InvalidInputError(PennonError, ValueError):
    """Input that is of another dimension, type or range than it must be."""


class DuplicateRowIdError(InvalidInputError):
    """A row id that a live row or another row of the input has."""


class UnknownRowIdError(PennonError, KeyError):
    """A row id that no live row has."""

    # A `KeyError` prints its message in quotes.
    __str__ = Exception.__str__


class DuplicateKeyError(InvalidInputError):
    """A key that a live row or another row of the input has."""


class UnknownKeyError(PennonError, KeyError):
    """A key that no live row has."""

    __str__ = Exception.__str__


class ReadOnlyError(PennonError, RuntimeError):
    """A change of an index that is mapped from its files."""


class StorageError(PennonError, OSError):
    """A file or a directory that cannot be read or written. `errno` and `filename` are the system's."""

    # With a `filename`, an `OSError` prints something else than its message.
    __str__ = Exception.__str__


class IndexNotFoundError(StorageError, FileNotFoundError):
    """A directory without an index."""


class CorruptIndexError(PennonError, ValueError):
    """A file that is not what was saved."""
