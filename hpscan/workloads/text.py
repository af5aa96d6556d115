"""Character-level language modelling on any text."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from hpscan._model import Model
from hpscan.workloads.base import Data, DataAbsentError, Split, WorkloadError

if TYPE_CHECKING:
    from torch import Tensor

    from hpscan.tasks import Task

__all__ = ["CharLM"]


class CharLM(Model):
    """A small GPT that predicts the next character of a text.

    The text is cut into windows of ``context`` characters that overlap by half; the last ``1 − train_share`` of it is
    halved into validation and test, so that neither shares a character with training.
    """

    name: Literal["charlm"] = "charlm"
    text: str = "alice"
    """``alice`` (Carroll's *Alice's Adventures in Wonderland*, public domain, embedded) or the path of a UTF-8 file."""
    context: int = Field(default=32, ge=2)
    """Characters that a prediction may look back at."""
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    width: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    train_share: float = Field(default=0.9, gt=0, lt=1)
    """Of the text."""
    digest: str | None = None
    """SHA-256 of the text, filled in at launch: runs are told apart by what they read, not by where it lay."""
    characters: int | None = None
    """Length of the text, filled in at launch."""
    vocabulary: int | None = None
    """Different characters of the text, filled in at launch: the model is made where the text need not be."""

    width_path: ClassVar[tuple[str, ...]] = ("width",)

    @model_validator(mode="after")
    def _heads_divide(self) -> CharLM:
        if self.width % self.heads:
            raise ValueError(f"heads: must divide the width, {self.width}; got {self.heads}")
        return self

    @property
    def n_train(self) -> int:
        """Training windows."""
        characters = self.characters or len(self._content)
        return len(self._starts(round(self.train_share * characters)))

    def example(self, n: int) -> np.ndarray:
        """``n`` windows of one repeated character."""
        return np.zeros((n, self.context), np.uint8)

    def identity(self) -> dict[str, Any]:
        """Every field, the text by its content."""
        digest = self.digest or _digest(self._content)
        return {**self.model_dump(mode="json", exclude={"text", "characters", "vocabulary"}), "digest": digest}

    def resolved(self) -> CharLM:
        """The same workload with the text's place, content, length and vocabulary spelt out."""
        content = self._content
        found = {
            "text": self.text if self.text == "alice" else str(Path(self.text).absolute()),
            "digest": _digest(content),
            "characters": len(content),
            "vocabulary": len(set(content)),
        }
        return self.model_copy(update=found)

    def load(self) -> Data:
        """Read and cut the text; inputs and targets of shape (windows, context), targets one character ahead.

        Raises
        ------
        DataAbsentError
            If there is no such file.
        WorkloadError
            If it is not UTF-8 or too short.
        """
        characters = np.array(list(self._content))
        vocabulary, tokens = np.unique(characters, return_inverse=True)
        tokens = tokens.astype(np.uint8 if len(vocabulary) <= 256 else np.int32)
        first = round(self.train_share * len(tokens))
        second = (first + len(tokens)) // 2
        return Data(*(self._windows(part) for part in np.split(tokens, [first, second])))

    def task(self) -> Task:
        """Mean cross-entropy a character, in nats, and the share of wrong next characters."""
        from hpscan import tasks
        from hpscan.models import GPT

        vocabulary = self.vocabulary or len(set(self._content))

        def model() -> GPT:
            return GPT(
                vocabulary, self.context, layers=self.layers, heads=self.heads, width=self.width, dropout=self.dropout
            )

        def prepare(tokens: Tensor) -> Tensor:
            return tokens.long()

        return tasks.classification(model, prepare=prepare)

    @property
    def _content(self) -> str:
        content = _read(self.text)
        if min(self.train_share, (1 - self.train_share) / 2) * len(content) < 4 * self.context:
            raise WorkloadError(f"workload.text: {self.text!r} is too short for windows of {self.context} characters")
        if self.digest not in (None, _digest(content)):
            raise WorkloadError(f"workload.text: {self.text!r} is not the text that this sweep was launched with")
        return content

    def _starts(self, length: int) -> range:
        return range(0, length - self.context, self.context // 2)

    def _windows(self, tokens: np.ndarray) -> Split:
        index = np.array(self._starts(len(tokens)))[:, None] + np.arange(self.context)
        return Split(tokens[index], tokens[index + 1].astype(np.int64))


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


@lru_cache(maxsize=4)
def _read(text: str) -> str:
    if text == "alice":
        return (resources.files("hpscan.workloads") / "texts" / "alice.txt").read_text(encoding="utf-8")
    try:
        return Path(text).read_text(encoding="utf-8")
    except OSError as error:
        raise DataAbsentError(f"workload.text: {text!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WorkloadError(f"workload.text: {text!r} is not a UTF-8 text") from None
