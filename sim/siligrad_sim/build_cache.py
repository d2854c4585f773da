"""A cache for what the simulators build.

Builds are kept under the user's cache folder (``$XDG_CACHE_HOME``, else ``~/.cache``), each in a
folder named by the hash of everything that went into it; see :func:`cached_build`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from siligrad.errors import SiligradError

__all__ = ["CACHE_BYTES", "CACHE_GRACE", "CacheError", "cache_folder", "cached_build"]

CACHE_BYTES = 2 << 30
"""Size above which the least recently used builds are removed."""

CACHE_GRACE = 3600.0
"""Seconds after its last use during which a build is never removed."""


class CacheError(SiligradError):
    """The cache folder cannot be used."""


def cache_folder() -> Path:
    """Return the folder that keeps builds, made if need be.

    Raises
    ------
    CacheError
        If it cannot be made or written to.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The XDG specification says to ignore a relative path.
        folder = (named if named.is_absolute() else Path.home() / ".cache") / "siligrad"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise CacheError(
            f"the cache folder cannot be made ({error}): set XDG_CACHE_HOME to a folder that can "
            "be written to"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CacheError(
            f"the cache folder {folder} cannot be written to: set XDG_CACHE_HOME to one that can"
        )
    if re.search(r"\s", str(folder)):
        raise CacheError(
            f"the cache folder {folder} has a space in its path, in which make cannot build: set "
            "XDG_CACHE_HOME to one without"
        )
    return folder


def cached_build(
    key_parts: Iterable[str | bytes],
    build: Callable[[Path], None],
    *,
    limit_bytes: int = CACHE_BYTES,
) -> Path:
    """Return the folder that ``build`` filled, from the cache if the same was built before.

    ``build`` is called with an empty folder and must leave in it nothing that depends on where the
    folder is: it is renamed to its final place when ``build`` returns, and removed when it raises.
    So an entry is there as a whole or not at all. Of several processes that want the same at once,
    one builds and the others wait for it. The folder belongs to the cache: read it, do not write.

    Parameters
    ----------
    key_parts
        Everything that the result depends on: sources, options, versions of tools, in order.
    build
        Fills the folder.
    limit_bytes
        Size of the cache above which the least recently used entries are removed. Entries used
        within :data:`CACHE_GRACE` are kept: nobody loses a build that was just handed out.
    """
    folder = cache_folder()
    key = _key(key_parts)
    entry = folder / key
    if _touch(entry):
        return entry
    with _locked(folder / f"{key}.lock"):
        if _touch(entry):
            return entry
        temporary = Path(tempfile.mkdtemp(prefix=f"{key}.", suffix=".tmp", dir=folder))
        try:
            build(temporary)
            temporary.rename(entry)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    _prune(folder, limit_bytes)
    return entry


def _key(parts: Iterable[str | bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)  # ("ab", "c") is not ("a", "bc")
    return digest.hexdigest()[:32]


def _touch(entry: Path) -> bool:
    """Note that ``entry`` is in use, and tell whether it exists."""
    try:
        os.utime(entry)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file ``path`` and remove it; without ``wait``, raise ``BlockingIOError``."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Whoever held it before has removed the file: then it locks nothing any more.
            try:
                current = os.path.samestat(os.fstat(descriptor), path.stat())
            except FileNotFoundError:
                current = False
            if current:
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        finally:
            os.close(descriptor)


def _prune(folder: Path, limit_bytes: int) -> None:
    """Remove what killed builds left behind, and the oldest entries beyond ``limit_bytes``."""
    for leftover in folder.glob("*.tmp"):
        with suppress(BlockingIOError), _locked(_lock_of(leftover), wait=False):
            shutil.rmtree(leftover, ignore_errors=True)
    entries = []
    for entry in folder.iterdir():
        if entry.suffix == "" and entry.is_dir():
            with suppress(FileNotFoundError):
                entries.append((entry.stat().st_mtime, _size(entry), entry))
    total = 0
    for used, size, entry in sorted(entries, reverse=True):
        total += size
        if total > limit_bytes and used < time.time() - CACHE_GRACE:
            _remove(entry)


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name.split(".", maxsplit=1)[0] + ".lock")


def _size(entry: Path) -> int:
    return sum(path.lstat().st_size for path in entry.rglob("*"))


def _remove(entry: Path) -> None:
    # Renamed first: nobody ever sees half an entry.
    with suppress(BlockingIOError, FileNotFoundError), _locked(_lock_of(entry), wait=False):
        doomed = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", suffix=".tmp", dir=entry.parent))
        entry.rename(doomed / entry.name)
        shutil.rmtree(doomed, ignore_errors=True)
