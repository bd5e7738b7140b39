"""Model folders as servers load them: ``config.json``, tokenizer, and weights too large to hash before every run."""

from __future__ import annotations

import hashlib
from pathlib import Path

HASHED_SUFFIXES = frozenset({".json", ".txt", ".model", ".jinja"})
"""Files whose content is hashed; of the weights, name and size are."""


def is_model_folder(path: Path) -> bool:
    """Return whether a server could load a model from this folder."""
    return (path / "config.json").is_file() or (path / "mlc-chat-config.json").is_file()


def folder_sha256(path: Path) -> str:
    """Return a hash of a model folder: names and sizes of all files, and the content of the small ones."""
    found = hashlib.sha256()
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        found.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
        if file.suffix in HASHED_SUFFIXES:
            found.update(file.read_bytes())
    return found.hexdigest()
