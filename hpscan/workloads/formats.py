"""The formats that data sets are published in: LeCun's idx, and pickled batches of arrays, which are not trusted."""

from __future__ import annotations

import codecs
import gzip
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from hpscan.errors import last_line
from hpscan.workloads.base import WorkloadError

__all__ = ["read_idx", "read_npz", "read_pickle"]


def read_idx(path: Path) -> np.ndarray:
    """Read LeCun's idx format: two zero bytes, the type (8: bytes), the number of axes, their lengths, the data.

    Raises
    ------
    WorkloadError
        If the file is not gzipped, or not of this format.
    """
    try:
        content = gzip.decompress(path.read_bytes())
        zeros, kind, axes = struct.unpack(">HBB", content[:4])
        lengths = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
        if (zeros, kind) != (0, 8):
            raise ValueError(f"magic number {content[:4].hex()}")  # noqa: TRY301
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(lengths)
    except Exception as error:  # noqa: BLE001  (damaged bytes fail in any way)
        raise WorkloadError(
            f"{path}: not a gzipped idx file of bytes ({last_line(error)}); delete it and get it again"
        ) from None


class _Type:
    """A pickled dtype: its code, and later the order of its bytes. numpy's own would take any flags, and crash by them."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        self.type = np.dtype(code.decode() if isinstance(code, bytes) else code)

    def __setstate__(self, state: Any) -> None:
        order: Any = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.type = self.type.newbyteorder(order)


class _Array:
    """A pickled array: numpy makes an empty one first, and is told later what is in it."""

    def __init__(self, *_: Any) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, of, by_column, content = state
        self.array = _from_bytes(content, of, shape, "F" if by_column else "C")


def _from_bytes(content: Any, of: _Type, shape: tuple[int, ...], order: Literal["C", "F"]) -> np.ndarray:
    return np.frombuffer(content, of.type).reshape(shape, order=order)


def _scalar(of: _Type, content: bytes) -> Any:
    return np.frombuffer(content, of.type)[0]


_STANDS_FOR: dict[tuple[str, str], Any] = {
    ("numpy", "_frombuffer"): _from_bytes,
    ("numpy", "_reconstruct"): _Array,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "scalar"): _scalar,
    ("_codecs", "encode"): codecs.encode,
    ("collections", "OrderedDict"): OrderedDict,
}
"""What pickled arrays and dicts call, and what does it here; numpy has functions that run any code, too."""


class _PlainUnpickler(pickle.Unpickler):
    """Loads arrays, lists and bytes; refuses a pickle that would call anything else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STANDS_FOR[module.partition(".")[0], name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None

    def load(self) -> Any:
        found = super().load()
        if not isinstance(found, dict):
            return found
        return {name: value.array if isinstance(value, _Array) else value for name, value in found.items()}


def read_pickle(path: Path, encoding: Literal["bytes", "ASCII"] = "bytes") -> dict[Any, Any]:
    """Read a pickled batch; raises WorkloadError if it is none, or would call anything."""
    return _batch(path, lambda file: _PlainUnpickler(file, encoding=encoding).load())


def read_npz(path: Path) -> dict[Any, Any]:
    """Read a batch of arrays as numpy saves them; raises WorkloadError if it is none."""
    return _batch(path, lambda file: dict(np.load(file)))


def _batch(path: Path, load: Callable[[BinaryIO], Any]) -> dict[Any, Any]:
    with path.open("rb") as file:  # what cannot be opened is not damaged
        try:
            batch = load(file)
        except Exception as error:  # noqa: BLE001  (as above)
            raise _no_batch(path, last_line(error)) from None
    if not isinstance(batch, dict):
        raise _no_batch(path, f"a {type(batch).__name__}, not a dict")
    return batch


def _no_batch(path: Path, reason: str) -> WorkloadError:
    return WorkloadError(f"{path}: not a published batch ({reason}); delete it and get it again")
