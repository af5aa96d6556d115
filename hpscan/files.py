"""Whole files below a path or a pyarrow.fs URI: read, listed, and replaced in one step or not at all.

Locally a file is written to a temporary sibling, fsynced and renamed; on an object store an upload appears when it is
complete. Nothing here knows what the files hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from hpscan.errors import first_line

__all__ = ["Files", "Stamp", "StoreError", "digest", "in_memory", "write_whole"]

_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/")  # of one slash, too: s3:/bucket is a slip, not a folder
SMALL_BYTES = 4_000_000

Stamp = tuple[int, int]
"""A file's size in bytes and the time of its last change in ns."""


class StoreError(Exception):
    """The store cannot be read or written; the message is one line that names the path.

    ``bad_input`` says that what was asked for is wrong (no such sweep) rather than the store itself.
    """

    def __init__(self, message: str, *, bad_input: bool = False) -> None:
        super().__init__(message)
        self.bad_input = bad_input


class Files:
    """The files below a root, named by their path from there.

    Every method raises :class:`StoreError`, which names the file, where the file system refuses.

    Parameters
    ----------
    root
        A path, or a URI that ``pyarrow.fs`` knows (``s3://bucket/prefix``, ``file:///path``).

    Raises
    ------
    StoreError
        With ``bad_input`` if the URI is malformed or of a scheme that ``pyarrow.fs`` does not know, or a path no text.
    """

    def __init__(self, root: str | Path) -> None:
        uri = _URI.match(str(root))
        if uri is None:
            self._system, self._root = fs.LocalFileSystem(), str(Path(root).absolute())
            self.location = self._root
            if any("\ud800" <= character <= "\udfff" for character in self._root):  # of bytes that are no UTF-8
                raise StoreError(f"--store {str(root)!a}: pyarrow opens only what is named in UTF-8", bad_input=True)
        else:
            self._system, self._root = _from_uri(str(root))
            self.location = str(root)
        self.is_local = isinstance(self._system, fs.LocalFileSystem)
        self._shown = "" if uri is None or self.is_local else f"{uri['scheme']}://"

    def shown(self, name: str = "") -> str:
        """A file as messages name it: its path or URI, without the URI's options, which may hold a key."""
        return self._shown + self._at(name)

    def open(self, name: str) -> pa.NativeFile | None:
        """A file to read parts of, or None if there is none of that name."""
        with self._saying(name, "read"):
            try:
                file = self._system.open_input_file(self._at(name))
                # of an object store a small file comes faster as a whole than by its parts
                return in_memory(file) if not self.is_local and file.size() <= SMALL_BYTES else file
            except FileNotFoundError:
                return None

    def refused(self, name: str, error: Exception) -> StoreError | None:
        """What to say if an error of reading an open file is the file system's and not of what is in the file."""
        if isinstance(error, OSError) and (error.errno is not None or "AWS Error" in str(error)):
            return StoreError(f"{self.shown(name)}: cannot be read ({_reason(error)})")
        return None

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None if there is none of that name."""
        with self._saying(name, "read"):
            try:
                with self._system.open_input_stream(self._at(name)) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file or replace it, in one step."""
        with self._saying(name, "written"):
            if not self.is_local:
                with self._system.open_output_stream(self._at(name)) as stream:
                    stream.write(content)
                return
            path = Path(self._at(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            with _temporary(path, content) as written:
                written.replace(path)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one of that name: of several who try, one does. Returns whether we did.

        Local files only: pyarrow cannot make an upload depend on there being none.
        """
        assert self.is_local
        with self._saying(name, "written"):
            path = Path(self._at(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            with _temporary(path, content) as written:
                try:
                    path.hardlink_to(written)  # as exclusive as O_EXCL, and never seen half written
                except FileExistsError:
                    return False
                except OSError:  # file systems without hard links
                    try:
                        with path.open("xb") as file:
                            file.write(content)
                    except FileExistsError:
                        return False
            return True

    def remove(self, name: str) -> None:
        """Delete a file; an absent one is fine."""
        with self._saying(name, "deleted"), contextlib.suppress(FileNotFoundError):
            self._system.delete_file(self._at(name))

    def supersede(self, instead: str, digests: Mapping[str, str]) -> int:
        """Delete files whose content ``instead`` holds, each only as long as its own has the digest given.

        Returns how many went. None does if ``instead`` is no longer there itself: someone took it up into yet another
        file, who may be counting on ours.
        """
        removed = 0
        with self.locked(str(Path(instead).parent)):
            if instead not in self.names(str(Path(instead).parent)):
                return 0
            for name, expected in digests.items():
                content = self.read(name)
                if name != instead and content is not None and digest(content) == expected:
                    self.remove(name)
                    removed += 1
        return removed

    def names(self, folder: str = "") -> list[str]:
        """The files directly in a folder, in alphabetical order, hidden ones left out; none if there is no folder."""
        return list(self.stamps(folder))

    def stamps(self, folder: str = "") -> dict[str, Stamp]:
        """Size and time of the files directly in a folder, in alphabetical order: of a file that is replaced they change."""
        prefix = f"{folder}/" if folder else ""
        found = [info for info in self._infos(folder) if info.type == fs.FileType.File]
        return {
            prefix + info.base_name: (info.size, info.mtime_ns) for info in sorted(found, key=lambda i: i.base_name)
        }

    def folders_with(self, file: str) -> list[str]:
        """The folders directly below the root that hold a file of that name, in alphabetical order."""
        folders = sorted(info.base_name for info in self._infos("") if info.type == fs.FileType.Directory)
        with self._saying("", "read"):
            found = self._system.get_file_info([self._at(f"{folder}/{file}") for folder in folders])
        return [folder for folder, info in zip(folders, found, strict=True) if info.type == fs.FileType.File]

    def version(self, file: str, *folders: str) -> str:
        """Changes whenever that file or one directly in these folders does; empty if the file is not there."""
        with self._saying(file, "read"):
            found = self._system.get_file_info([self._at(file)])
        if found[0].type != fs.FileType.File:
            return ""
        for folder in folders:
            found += self._infos(folder)
        return digest(repr(sorted((info.path, info.size, info.mtime_ns) for info in found)).encode())

    def remove_temporaries(self, folder: str) -> None:
        """Delete what writers that were killed have left in a local folder; nobody may be writing to it."""
        if self.is_local:
            with self._saying(folder, "written"):
                for path in Path(self._at(folder)).glob(".*.*-*"):
                    path.unlink(missing_ok=True)

    def is_gone(self, folder: str) -> bool:
        """Whether a local folder is not there; an object store has no folders."""
        if not self.is_local:
            return False
        try:
            Path(self._at(folder)).stat()
        except FileNotFoundError:
            return True
        except OSError:  # something is there, and whoever writes to it will be told what
            return False
        return False

    @contextlib.contextmanager
    def locked(self, folder: str, *, shared: bool = False) -> Iterator[bool]:
        """Wait for a local folder to be nobody else's, or only of others who share it, and keep it so meanwhile.

        Yields whether it could: not on an object store, and not where the file system does not lock folders. Not to be
        nested.
        """
        if not self.is_local:
            yield False
            return
        path = Path(self._at(folder))
        with self._saying(folder, "written"):
            path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
                alone = True
            except OSError:  # some network file systems
                alone = False
            yield alone
        finally:
            os.close(descriptor)  # the lock goes with it, as it does when the process is killed

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _infos(self, folder: str) -> list[fs.FileInfo]:
        """What is directly in a folder, hidden files left out."""
        with self._saying(folder, "read"):
            selector = fs.FileSelector(self._at(folder), allow_not_found=True)
            try:
                found = self._system.get_file_info(selector)
            except FileNotFoundError:  # pyarrow says so of a folder that is made while it looks
                found = self._system.get_file_info(selector)
            if not found and not self.is_local:  # S3 lists a bucket that does not exist as empty
                bucket = self._root.split("/")[0]
                if self._system.get_file_info(bucket).type == fs.FileType.NotFound:
                    raise FileNotFoundError(f"there is no bucket {bucket}")
        return [info for info in found if _is_shown(info)]

    @contextlib.contextmanager
    def _saying(self, name: str, what: str) -> Iterator[None]:
        """Turn what the file system says into one line."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{self.shown(name)}: cannot be {what} ({_reason(error)})") from error


def in_memory(file: pa.NativeFile) -> pa.BufferReader:
    """A file as a whole, in memory of pyarrow's own: its threads may outlive Python, and cannot give back what is Python's."""
    return pa.BufferReader(file.read_buffer())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside the store or replace it, in one step; what is no plain file, such as a pipe, is written to.

    Raises
    ------
    StoreError
        Which names the file, if that cannot be.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = path.resolve()  # or a link, /dev/stdout say, would be replaced
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path, content) as written:
            written.replace(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({_reason(error)})") from error


def digest(content: bytes | memoryview) -> str:
    """64 bits of SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def _from_uri(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        system, root = fs.FileSystem.from_uri(uri)
    except ValueError as error:  # ArrowInvalid is one
        raise StoreError(
            f"--store {uri!r}: not a place we can use ({_reason(error)}); give a folder, s3://BUCKET/PREFIX or file:///PATH",
            bad_input=True,
        ) from None
    except NotImplementedError:  # conda's pyarrow-core has none of them
        raise StoreError(
            f"--store {uri!r}: this pyarrow was built without it; PyPI's can: pip install --force-reinstall pyarrow",
            bad_input=True,
        ) from None
    except (OSError, pa.ArrowException) as error:  # a bucket's region is asked for at once
        raise StoreError(f"--store {uri!r}: cannot be reached ({_reason(error)})") from None
    if not root.strip("/"):
        raise StoreError(f"--store {uri!r}: names no bucket or folder; e.g. s3://BUCKET/PREFIX", bad_input=True)
    return system, root.rstrip("/")


def _is_shown(info: fs.FileInfo) -> bool:
    """Whether it may be one of ours: not hidden, and of a name that is text."""
    try:
        return not info.base_name.startswith(".")
    except UnicodeDecodeError:
        return False


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number is not None:
        return os.strerror(number)
    first = first_line(error)
    aws = re.search(r"AWS Error .*", first)  # what comes before repeats the file's name
    return (aws[0] if aws else first).rstrip(": ")


@contextlib.contextmanager
def _temporary(path: Path, content: bytes | memoryview) -> Iterator[Path]:
    """A synced sibling of ``path`` with that content; gone afterwards unless it was renamed."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        written = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            written.chmod(0o644)  # temporary files are private by default
            yield written
        finally:
            written.unlink(missing_ok=True)
