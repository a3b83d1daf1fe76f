"""Pickles of indexes: the files of a save, which hold all of it, checksums too."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pennon import Index


def reduce(index: Index) -> tuple[object, tuple[dict[str, bytes]]]:
    """What `Index.__reduce__` returns."""
    with tempfile.TemporaryDirectory(prefix="pennon-") as directory:
        index.save(directory)
        files = {}
        for name in sorted(os.listdir(directory)):
            with open(os.path.join(directory, name), "rb") as file:
                files[name] = file.read()
    return restore, (files,)


def restore(files: dict[str, bytes]) -> Index:
    """The index of the files of a save."""
    from pennon import Index

    with tempfile.TemporaryDirectory(prefix="pennon-") as directory:
        for name, content in files.items():
            # A name from elsewhere must not lead out of the directory.
            with open(os.path.join(directory, os.path.basename(name)), "wb") as file:
                file.write(content)
        return Index.load(directory)
