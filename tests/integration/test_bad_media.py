"""A tree of odd clips: each is used or quarantined for one reason, the rest goes on, everything is counted."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slf_store.jobs import ingest as ingest_module
from slf_store.jobs import queue
from slf_store.jobs.coverage import coverage_reasons
from slf_store.jobs.extract import plan
from slf_store.jobs.ingest import ingest
from slf_store.jobs.pool import extract
from slf_store.store import Store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ODD_NAMES = ["with space", 'it\'s "quoted"', "new\nline", "-dash", "_underscore", "naïve 🎞", "back\\xe9slash", "%d"]
NOT_UTF8 = os.fsdecode(b"caf\xe9")


def folder(root: Path, video: str) -> Path:
    made = root / "dev" / "mp4" / "id00001" / video
    made.mkdir(parents=True)
    return made


def states(store: Store) -> dict[str, tuple[str, str | None]]:
    return {r["video"]: (r["state"], r["reason"]) for r in store.query("SELECT video, state, reason FROM clips")}


def test_each_odd_clip_is_used_or_has_one_reason(store: Store, media_files: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    tone = media_files.tone
    good = {
        "good": {"sound": tone(1, 16000)},
        "no audio": {},
        "silent": {"sound": np.zeros(16000, np.float32)},
        "0.3 s": {"frames": 8, "sound": tone(0.3, 16000)},
        "variable rate": {"frames": 5, "times_ms": [0, 10, 300, 310, 900], "sound": tone(1, 16000)},
        "portrait 4K": {"frames": 2, "picture": lambda i: media_files.grey(i, 2160, 3840), "sound": tone(1, 16000)},
        "8 kHz": {"sound": tone(1, 8000), "rate": 8000},
        "96 kHz 5.1": {"sound": tone(1, 96000), "rate": 96000, "layout": "5.1"},
        "stream": {"sound": tone(1, 16000), "file_format": "mpegts"},
    }
    for video, clip in good.items():
        media_files.write_clip(folder(root, video) / "00001.mp4", **clip)
    media_files.turn(media_files.write_clip(folder(root, "rotated") / "00001.mp4"), 0, 1, -1, 0)
    media_files.write_long(folder(root, "3 h") / "00001.mp4", 3 * 3600)
    bad = {
        "truncated": "truncated",
        "text": "unreadable",
        "empty": "empty_file",
        "folder": "not_a_file",
        "pipe": "not_a_file",
        "loop": "not_a_file",
        "cover art": "no_video",
        "bomb": "too_large",
    }
    paths = {video: folder(root, video) / "00001.mp4" for video in bad}
    media_files.cut(media_files.write_clip(paths["truncated"], sound=tone(1, 16000)), 0.6)
    paths["text"].write_text("this is no video\n" * 50)
    paths["empty"].touch()
    paths["folder"].mkdir()
    os.mkfifo(paths["pipe"])
    paths["loop"].symlink_to("00001.mp4")
    (root / "dev" / "mp4" / "loop").symlink_to("loop")
    (root / "dev" / "mp4" / "id00001" / "loop to itself").symlink_to("loop to itself")
    media_files.write_song(paths["cover art"], frames=0)
    media_files.write_bomb(paths["bomb"], 15000)

    report = ingest(store, root)

    expected = dict.fromkeys([*good, "rotated", "3 h"], ("ok", None)) | {v: ("quarantined", r) for v, r in bad.items()}
    assert states(store) == expected
    assert (report.found, report.new) == (len(expected), len(expected))
    counts = {reason: list(bad.values()).count(reason) for reason in bad.values()}
    assert report.quarantined == counts
    facts = {row["video"]: row for row in store.query("SELECT * FROM clips WHERE state = 'ok'")}
    assert (facts["3 h"]["frames"], round(facts["3 h"]["duration_s"], -2)) == (270_000, 10_800)
    assert (facts["portrait 4K"]["width"], facts["portrait 4K"]["height"]) == (2160, 3840)
    assert (facts["96 kHz 5.1"]["audio_rate"], facts["variable rate"]["frames"]) == (96000, 5)
    assert [facts[video]["has_audio"] for video in ("good", "no audio", "silent")] == [True, False, True]
    messages = store.query("SELECT video, message FROM clips JOIN clip ON clip.id = clip_id WHERE clips.reason <> ''")
    assert all(row["video"] in row["message"] for row in messages)

    again = ingest(store, root)
    assert (again.unchanged, again.quarantined) == (len(expected) - 1, counts)  # a link to itself has no time

    assert extract(store, ["mel"]).reasons == {"no_audio": 2, "silent": 1, "short_audio": 1}
    missing = {r["reason"]: r["clips"] for r in coverage_reasons(store) if r["state"] == "missing"}
    assert missing == counts


def test_odd_names_are_kept_and_their_clips_found_again(store: Store, media_files: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"tr\xe9e 'one'")
    whole = media_files.write_clip(tmp_path / "a.mp4", sound=media_files.tone(1, 16000)).read_bytes()
    for name in [*ODD_NAMES, NOT_UTF8]:
        (folder(root, name) / f"{name}.mp4").write_bytes(whole)
    report = ingest(store, root)
    assert (report.found, report.quarantined) == (len(ODD_NAMES) + 1, {})
    shown = {(row["video"], row["clip"]) for row in store.query("SELECT video, clip FROM clips")}
    stored = [name.replace("\\xe9", "\\x5cxe9") for name in ODD_NAMES] + ["caf\\xe9"]
    assert shown == {(name, name) for name in stored}
    assert store.query("SELECT DISTINCT source FROM clips") == [{"source": "tr\\xe9e 'one'"}]
    plan(store, ["mel"])
    keys = [row["id"] for row in store.query("SELECT id FROM constituent")]
    claimed = queue.claim(store.engine, keys, clips=99, owner="test", lease_s=60)
    assert [(Path(clip.root) / clip.path).read_bytes() for clip in claimed] == [whole] * len(stored)
    assert ingest(store, root).unchanged == len(stored)


def test_names_that_are_nearly_one_stay_two(store: Store, media_files: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    whole = media_files.write_clip(tmp_path / "a.mp4", sound=media_files.tone(1, 16000)).read_bytes()
    names = ["1.mp4", "1.MP4", "1.MP4.mp4", "caf\\xe9.mp4", NOT_UTF8 + ".mp4", ".mp4"]
    for name in names:
        (root / "dev" / "mp4" / "id1" / "v").mkdir(parents=True, exist_ok=True)
        (root / "dev" / "mp4" / "id1" / "v" / name).write_bytes(whole)
    assert (ingest(store, root).found, len(states_of_clips(store))) == (len(names), len(names))
    assert states_of_clips(store) == {"1", "1.MP4", "1.MP4.mp4", "caf\\x5cxe9", "caf\\xe9", ".mp4"}
    plain = tmp_path / "plain"
    for path in (plain / "a.mp4", plain / "plain" / "a.mp4"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole)
    assert ingest(store, plain).new == 2
    assert store.query("SELECT count(*) AS n FROM clips WHERE source = 'plain'") == [{"n": 2}]


def states_of_clips(store: Store) -> set[str]:
    return {row["clip"] for row in store.query("SELECT clip FROM clips")}


def test_links_out_of_a_plain_folder_are_followed_once(store: Store, media_files: ModuleType, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "plain", tmp_path / "elsewhere"
    for path in (root / "ada" / "a.mp4", elsewhere / "b.mp4"):
        path.parent.mkdir(parents=True)
        media_files.write_clip(path, frames=2)
    (root / "bob").symlink_to(elsewhere)
    (root / "zoe").symlink_to(elsewhere)
    (root / "ada" / "up").symlink_to(root)
    (elsewhere / "round").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(tmp_path)
    assert ingest(store, root).found == 2
    assert store.query("SELECT identity FROM clips ORDER BY identity") == [{"identity": "ada"}, {"identity": "bob"}]


def test_an_error_nobody_thought_of_costs_one_clip_and_is_tried_again(
    store: Store, media_files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for video in ("one", "two"):
        media_files.write_clip(folder(tmp_path / "tree", video) / "1.mp4", frames=2)
    probe_file = ingest_module.probe_file

    def broken(path: Path) -> object:
        if "one" in path.parts:
            raise KeyError("a fault of ours")
        return probe_file(path)

    monkeypatch.setattr(ingest_module, "probe_file", broken)
    assert ingest(store, tmp_path / "tree").quarantined == {"unexpected": 1}
    assert states(store) == {"one": ("quarantined", "unexpected"), "two": ("ok", None)}
    monkeypatch.setattr(ingest_module, "probe_file", probe_file)
    report = ingest(store, tmp_path / "tree")
    assert (report.changed, report.unchanged, report.quarantined) == (1, 1, {})
    assert states(store)["one"] == ("ok", None)
