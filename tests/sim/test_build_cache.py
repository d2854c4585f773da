from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from siligrad.errors import SiligradError
from siligrad_sim.build_cache import CacheError, cache_folder, cached_build


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "siligrad"


def test_errors_are_ours() -> None:
    assert issubclass(CacheError, SiligradError)


def write_hello(folder: Path) -> None:
    (folder / "hello").write_text("hello", encoding="utf-8")


def never(folder: Path) -> None:
    raise AssertionError(f"built again in {folder}")


def test_a_build_is_done_once(cache: Path) -> None:
    entry = cached_build(["one"], write_hello)
    assert entry.parent == cache
    assert (entry / "hello").read_text(encoding="utf-8") == "hello"
    assert cached_build(["one"], never) == entry
    assert [path.name for path in cache.iterdir()] == [entry.name]


def test_keys_differ_when_any_part_or_its_end_differs(cache: Path) -> None:
    assert cache is not None
    parts: list[list[str | bytes]] = [
        ["ab", "c"],
        ["a", "bc"],
        ["abc"],
        ["ab", "c", ""],
        ["c", "ab"],
    ]
    assert len({cached_build(part, write_hello) for part in parts}) == len(parts)
    assert cached_build([b"abc"], never) == cached_build(["abc"], never)


def test_a_failed_build_leaves_nothing(cache: Path) -> None:
    def fail(folder: Path) -> None:
        write_hello(folder)
        raise RuntimeError("the compiler fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        cached_build(["one"], fail)
    assert list(cache.iterdir()) == []
    assert cached_build(["one"], write_hello).is_dir()


BUILDER = """
import sys, time
from pathlib import Path
from siligrad_sim.build_cache import cached_build

started, log, key = map(Path, sys.argv[1:])

def build(folder):
    with log.open("a") as file:
        file.write("built\\n")
    (folder / "first").write_text("1")
    while len(list(started.iterdir())) < 3:  # nobody waits for a build that is already done
        time.sleep(0.01)
    time.sleep(0.3)
    (folder / "second").write_text("2")

(started / key.name).touch()
entry = cached_build(["shared"], build)
assert sorted(path.name for path in entry.iterdir()) == ["first", "second"], list(entry.iterdir())
"""


def test_processes_that_build_the_same_at_once_build_it_once(tmp_path: Path, cache: Path) -> None:
    started, log = tmp_path / "started", tmp_path / "log"
    started.mkdir()
    builders = [
        subprocess.Popen([sys.executable, "-c", BUILDER, str(started), str(log), name])
        for name in "abc"
    ]
    assert [builder.wait(timeout=60) for builder in builders] == [0, 0, 0]
    assert log.read_text(encoding="utf-8") == "built\n"
    assert len(list(cache.iterdir())) == 1


def test_what_a_killed_build_leaves_is_built_again_and_swept(tmp_path: Path, cache: Path) -> None:
    started, log = tmp_path / "started", tmp_path / "log"
    started.mkdir()
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, str(started), str(log), "a"])
    deadline = time.monotonic() + 60
    while not list(cache.glob("*.tmp/first")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    builder.kill()
    builder.wait()
    assert list(cache.glob("*.tmp"))
    entry = cached_build(["shared"], write_hello)
    assert (entry / "hello").exists()
    assert list(cache.iterdir()) == [entry]


def test_a_build_in_progress_is_not_swept(cache: Path) -> None:
    def build(folder: Path) -> None:
        write_hello(folder)
        cached_build(["inner"], write_hello)  # sweeps when it is done
        assert (folder / "hello").exists()

    cached_build(["outer"], build)
    assert len(list(cache.iterdir())) == 2


def test_the_least_recently_used_builds_are_removed(cache: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "large").write_bytes(bytes(1000))

    entries = [cached_build([str(number)], build) for number in range(4)]
    day = 86_400.0
    for age, entry in enumerate(reversed(entries), start=1):
        os.utime(entry, (time.time() - age * day,) * 2)
    cached_build(["0"], never)  # used again: the newest now
    cached_build(["new"], build, limit_bytes=3500)
    left = {entry.name for entry in cache.iterdir()}
    assert entries[0].name in left
    assert entries[3].name in left
    assert entries[1].name not in left
    assert entries[2].name not in left
    assert len(left) == 3


def test_a_build_in_use_is_kept_however_full_the_cache(cache: Path) -> None:
    entries = [cached_build([str(number)], write_hello, limit_bytes=0) for number in range(3)]
    assert {entry.name for entry in cache.iterdir()} == {entry.name for entry in entries}


def test_the_cache_is_under_home_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "siligrad"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/path")
    assert cache_folder() == tmp_path / ".cache" / "siligrad"


def test_a_cache_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    with pytest.raises(CacheError, match=r"cannot be made .*set XDG_CACHE_HOME"):
        cache_folder()


def test_a_cache_folder_with_a_space_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two words"))
    with pytest.raises(CacheError, match="has a space in its path"):
        cache_folder()
