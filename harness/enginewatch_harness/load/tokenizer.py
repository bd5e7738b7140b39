"""The model's own tokenizer, from its ``tokenizer.json``. The only file that imports ``tokenizers``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from enginewatch_db.errors import NotAvailableError, UsageError

FILE = "tokenizer.json"
EXTRA = "tokenizers"


class TextCounter:
    """Counts the tokens of texts.

    Attributes:
        added: Tokens that the tokenizer adds to every text (begin and end marks).
    """

    __slots__ = ("_tokenizer", "added")

    def __init__(self, tokenizer: object) -> None:
        from tokenizers import Tokenizer

        if not isinstance(tokenizer, Tokenizer):
            raise TypeError(f"not a tokenizers.Tokenizer: {type(tokenizer).__name__}")
        # A file may cut or pad what it encodes, for training; a server does neither.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.added = self.count("")

    def count(self, text: str) -> int:
        """Return the tokens of a prompt, with those that the tokenizer adds."""
        return len(self._tokenizer.encode(text))

    def count_all(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, with those that the tokenizer adds."""
        return [len(found) for found in self._tokenizer.encode_batch_fast(list(texts))]

    def count_answer(self, text: str) -> int:
        """Return the tokens of a text that a model wrote: without added ones."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def count_answers(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text that a model wrote."""
        return [len(found) for found in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def open_tokenizer(path: Path) -> TextCounter:
    """Read a tokenizer.

    Args:
        path: ``tokenizer.json``, or the folder that holds it.

    Raises:
        NotAvailableError: The package ``tokenizers`` is not installed.
        UsageError: There is no such file, or it holds no tokenizer.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise NotAvailableError(
            f"the tokenizer {path} needs the package tokenizers", remedy=f'pip install "enginewatch[{EXTRA}]"'
        ) from error
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"there is no tokenizer at {file}", remedy=f"name the model's {FILE} or its folder, or leave tokenizer out"
        )
    try:
        return TextCounter(Tokenizer.from_file(str(file)))
    except Exception as error:  # the seam to a Rust library, which raises bare Exception for every fault of a file
        if type(error) is not Exception:
            raise  # a fault of ours
        raise UsageError(
            f"{file} holds no tokenizer: {error}", remedy=f"name a {FILE} of the tokenizers library"
        ) from error
