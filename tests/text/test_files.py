"""A file is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from selfinstruct.text.files import Part, replacing, staged, whole


class Broken(Exception):
    pass


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A file that is there already."""
    path = tmp_path / "a"
    path.write_text("old")
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("content", ["ünï\n", "ünï\n".encode()])
def test_text_and_bytes_are_written_whole(place: Path, content: str | bytes) -> None:
    """What was there makes way, text is UTF-8, and nothing lies beside it."""
    whole(place, content)
    assert place.read_bytes() == "ünï\n".encode()
    assert names(place.parent) == ["a"]


def test_a_whole_file_is_on_the_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content is synced before the file takes its place, and the folder after."""
    steps, sync, replace = list[str](), os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def moved(source: Path, target: Path) -> Path:
        steps.append(f"{source.name} -> {target.name}")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", moved)
    whole(place, "new")
    assert steps == [".a.part", ".a.part -> a", place.parent.name]


def part(place: Path) -> AbstractContextManager[object]:
    return Part(place)


def beside(place: Path) -> AbstractContextManager[object]:
    return replacing(place, place.parent / "deep" / "b")


def stage(place: Path) -> AbstractContextManager[object]:
    return staged(place.parent, [place])


@pytest.mark.parametrize("writing", [part, beside, stage])
def test_what_breaks_off_leaves_the_old(place: Path, writing: Callable[[Path], AbstractContextManager[object]]) -> None:
    """Neither a new file nor a part of one is there after an error."""
    with pytest.raises(Broken), writing(place):
        raise Broken
    assert place.read_text() == "old"
    assert [name for name in names(place.parent) if name != "deep"] == ["a"]


def test_a_discarded_part_vanishes(place: Path) -> None:
    """What was written so far is thrown away."""
    gathering = Part(place)
    gathering.file.write(b"new")
    gathering.discard()
    assert (place.read_text(), names(place.parent)) == ("old", ["a"])


def test_several_files_take_their_places_together(place: Path) -> None:
    """None of them moves before the last is written."""
    other = place.parent / "deep" / "b"
    with replacing(place, other) as parts:
        for one in parts:
            one.write_text("new")
        assert (place.read_text(), other.exists()) == ("old", False)
    assert (place.read_text(), other.read_text()) == ("new", "new")
    assert names(place.parent) == ["a", "deep", "deep/b"]


def test_a_folder_takes_its_place_too(tmp_path: Path) -> None:
    """It appears with all that is in it, or not at all."""
    for broken in (True, False):
        try:
            with replacing(tmp_path / "copy") as [unborn]:
                unborn.mkdir()
                (unborn / "a").write_text("new")
                if broken:
                    raise Broken
        except Broken:
            assert names(tmp_path) == []
    assert names(tmp_path) == ["copy", "copy/a"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_leftovers_of_the_killed_make_way(tmp_path: Path, kind: str) -> None:
    """A part that a killed process left is no part of what is written next."""
    left = tmp_path / ".a.part"
    left.write_text("left") if kind == "file" else (left / "deep").mkdir(parents=True)
    with replacing(tmp_path / "a") as [one]:
        assert not one.exists()
        one.write_text("new")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("writing", [part, beside, stage])
def test_a_refusing_disk_is_an_os_error(
    tmp_path: Path, writing: Callable[[Path], AbstractContextManager[object]]
) -> None:
    """What to advise is the caller's business."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), writing(tmp_path / "file" / "a"):
        pass
    assert names(tmp_path) == ["file"]


def test_a_file_written_anew_is_never_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader finds the old file or the new one at every moment."""
    old = [tmp_path / name for name in ("a", "b", "gone")]
    for path in old:
        path.write_text("old")
    move, seen = Path.replace, list[list[str]]()

    def moving(source: Path, target: Path) -> Path:
        seen.append([path.read_text() for path in old if path.exists()])
        return move(source, target)

    monkeypatch.setattr(Path, "replace", moving)
    with staged(tmp_path, old) as stage:
        for name in ("a", "b"):
            (stage / name).write_text("new")
    assert seen == [["old", "old"], ["new", "old"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
