"""Where data sets lie: found on the machine or fetched, and checked before they are read."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from hpscan.workloads.base import DataAbsentError, WorkloadError

__all__ = ["data_home", "find_file", "md5"]


def data_home() -> Path:
    """``HPSCAN_DATA``, or ``~/.cache/hpscan``."""
    return Path(os.environ.get("HPSCAN_DATA") or Path.home() / ".cache" / "hpscan")


def md5(path: Path) -> str:
    """The MD5 of a file, which is what the data sets' publishers give."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def find_file(name: str, folders: Sequence[Path], checksums: Sequence[str], url: str, *, fetch: bool) -> Path:
    """Return the first file of that name whose MD5 is right.

    Parameters
    ----------
    name
        Of the file.
    folders
        Where to look, in this order; a fetched file is put in the first.
    checksums
        The MD5s that are right; none where the publisher gives none.
    url
        Where it can be had.
    fetch
        Whether to download it from there if it is nowhere.

    Raises
    ------
    DataAbsentError
        If it is nowhere and cannot be fetched.
    WorkloadError
        If it is there and damaged.
    """
    for path in (folder / name for folder in folders):
        if path.is_file():
            if checksums and (found := md5(path)) not in checksums:
                raise WorkloadError(f"{path}: MD5 is {found}, should be {checksums[0]}; delete it and get it again")
            return path
    reason = ""
    target = folders[0] / name
    if fetch:
        try:
            _download(url, target, checksums)
        except OSError as error:
            reason = f" (download failed: {error})"
        else:
            return target
    checksum = f"MD5 {checksums[0]}" if checksums else "its publisher gives no checksum"
    raise DataAbsentError(f"{target}: not there{reason}; get it from {url}, {checksum}")


def _download(url: str, target: Path, checksums: Sequence[str]) -> None:
    """Fetch into a temporary folder beside the target, check and move, so that a broken download leaves nothing behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fetched = Path(folder) / target.name
        with urllib.request.urlopen(url, timeout=30) as response, fetched.open("wb") as file:  # noqa: S310  (the URLs are ours)
            shutil.copyfileobj(response, file, 1 << 20)
        if checksums and (found := md5(fetched)) not in checksums:  # a connection that closes early raises nothing
            raise OSError(f"MD5 is {found}, should be {checksums[0]}")
        fetched.replace(target)
