"""Weights: what is there, what is fetched, and what is said where it cannot be; against a hub on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from slf_store.constituents.download import download, fetch, from_url
from slf_store.constituents.ecapa import WEIGHTS as ECAPA
from slf_store.constituents.extractor import Extractor
from slf_store.constituents.models import list_models
from slf_store.constituents.registry import extractors, known_extractors
from slf_store.constituents.weights import Weights
from slf_store.errors import ModelUnavailable
from slf_store.settings import Settings

SECRET = "hf_ThisIsASecretToken"
BIG = bytes(range(256)) * 4000
COMMIT = "a" * 40


@dataclass
class FakeHub:
    """Serves `files` by path, as the hub does.

    Attributes:
        files: bytes by path.
        gated: paths for which a token is needed.
        breaks: paths whose next answer stops half way.
        pages: paths answered with a web page.
        asked: (method, path, headers) so far.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    breaks: set[str] = field(default_factory=set)
    pages: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on this machine, which `HF_ENDPOINT` names; no token is set."""
    served = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            served.asked.append((self.command, self.path, headers))
            if self.path not in served.files:
                return self.say(404, b"", {"X-Error-Code": "EntryNotFound"})
            if self.path in served.gated and headers.get("authorization") != f"Bearer {SECRET}":
                code = 403 if "authorization" in headers else 401
                return self.say(code, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "access is restricted"})
            if self.path in served.pages:
                return self.say(200, b"<html>sign in</html>", {"Content-Type": "text/html; charset=utf-8"})
            body, tag = served.files[self.path], f'"{hash(served.files[self.path]):x}"'
            facts = {"ETag": tag, "X-Repo-Commit": COMMIT, "Content-Type": "application/octet-stream"}
            start = int(headers.get("range", "bytes=0-")[6:].split("-")[0])
            if start and headers.get("if-range", tag) == tag:
                return self.say(206, body[start:], {**facts, "Content-Range": f"bytes {start}-{len(body) - 1}/*"})
            return self.say(200, body, facts)

        def say(self, code: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                if self.path in served.breaks:
                    served.breaks.discard(self.path)
                    body, self.close_connection = body[: len(body) // 2], True
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield served
    server.shutdown()
    server.server_close()


ON_HUB = Weights("Voices", ("config.yaml", "net.ckpt"), "MIT", repo="some/voices", folder="some/voices", megabytes=1)


def put(hub: FakeHub, weights: Weights = ON_HUB) -> list[str]:
    """Let the hub have the files of these weights; their paths there."""
    paths = [f"/{weights.repo}/resolve/{weights.revision or 'main'}/{name}" for name in weights.files]
    hub.files |= {path: BIG + path.encode() for path in paths}
    return paths


def files(folder: Path) -> list[str]:
    """Names of files that are not hidden."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)


def test_a_hub_download_brings_exactly_the_listed_files_once(hub: FakeHub, tmp_path: Path) -> None:
    paths = put(hub)
    hub.files["/some/voices/resolve/main/other.bin"] = BIG
    download(ON_HUB, tmp_path)
    assert files(tmp_path) == [".lock", "config.yaml", "net.ckpt"]
    assert [path.read_bytes() for path in ON_HUB.paths(tmp_path)] == [hub.files[path] for path in paths]
    asked = len(hub.asked)
    download(ON_HUB, tmp_path)
    assert len(hub.asked) == asked


def test_only_what_is_lacking_is_fetched_from_the_revision(hub: FakeHub, tmp_path: Path) -> None:
    pinned = replace(ON_HUB, revision=COMMIT)
    put(hub, pinned)
    (tmp_path / "some" / "voices").mkdir(parents=True)
    (tmp_path / "some" / "voices" / "config.yaml").write_bytes(b"mine")
    (tmp_path / "some" / "voices" / "net.ckpt").write_bytes(b"")  # empty is missing
    assert pinned.missing(tmp_path) == ["net.ckpt"]
    download(pinned, tmp_path)
    assert [path.read_bytes()[:4] for path in pinned.paths(tmp_path)] == [b"mine", BIG[:4]]
    assert {path for _, path, _ in hub.asked} == {f"/some/voices/resolve/{COMMIT}/net.ckpt"}


def test_a_token_goes_to_gated_models_only(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    secret = replace(ON_HUB, repo="some/secret", folder="secret", gated=True)
    put(hub)
    hub.gated.update(put(hub, secret))
    download(ON_HUB, tmp_path)
    assert not any("authorization" in headers for _, _, headers in hub.asked)
    download(secret, tmp_path)
    assert secret.missing(tmp_path) == []
    left = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert left == []


@pytest.mark.parametrize("token", [None, "hf_AnotherSecretThatIsWrong"])
def test_a_gated_model_says_how_to_get_it(
    token: str | None, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = replace(ON_HUB, gated=True)
    hub.gated.update(put(hub))
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    began = time.monotonic()
    with pytest.raises(ModelUnavailable) as caught:
        download(gated, tmp_path)
    assert time.monotonic() - began < 10
    said = str(caught.value)
    assert all(word in said for word in ("Voices", str(tmp_path / "some" / "voices"), "licence", "HF_TOKEN", "next: "))
    assert "hf_" not in said
    assert token or not hub.asked  # without a token nobody is asked
    assert caught.value.__cause__ is None


def test_nobody_there_is_said_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    on_page = Weights("Page", ("net.onnx",), "MIT", url="http://127.0.0.1:9/", folder="page")
    for weights in (ON_HUB, on_page):
        began = time.monotonic()
        with pytest.raises(ModelUnavailable, match="refused") as caught:
            download(weights, tmp_path)
        assert time.monotonic() - began < 10
        assert weights.model in str(caught.value)
        assert "slf models --download" in str(caught.value)
    assert files(tmp_path) == [".lock", ".lock"]


def test_a_broken_hub_download_is_gone_on_with(hub: FakeHub, tmp_path: Path) -> None:
    paths = put(hub)
    hub.breaks.add(paths[1])
    download(ON_HUB, tmp_path)
    assert ON_HUB.paths(tmp_path)[1].read_bytes() == hub.files[paths[1]]


def test_a_file_that_is_not_there_is_named(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"some/voices/config\.yaml: not found \(404\)"):
        download(ON_HUB, tmp_path)


def test_a_url_download_breaks_off_and_goes_on(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["/release/net.onnx"] = BIG
    hub.breaks.add("/release/net.onnx")
    weights = Weights("Net", ("net.onnx",), "MIT", url=f"{hub.url}/release/", folder="net", megabytes=1)
    with pytest.raises(ModelUnavailable, match="broke off after 512,000 of 1,024,000 bytes"):
        download(weights, tmp_path)
    assert weights.missing(tmp_path) == ["net.onnx"]  # nothing half-written has its name
    download(weights, tmp_path)
    assert (tmp_path / "net" / "net.onnx").read_bytes() == BIG
    assert [headers.get("range") for _, _, headers in hub.asked] == [None, "bytes=512000-"]
    assert files(tmp_path) == [".lock", "net.onnx"]


def test_a_file_that_changed_meanwhile_is_fetched_whole(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["/net.onnx"] = BIG
    hub.breaks.add("/net.onnx")
    with pytest.raises(OSError, match="broke off"):
        from_url(f"{hub.url}/net.onnx", tmp_path / "net.onnx")
    hub.files["/net.onnx"] = BIG[::-1]
    from_url(f"{hub.url}/net.onnx", tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == BIG[::-1]


def test_a_page_is_no_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["/net.onnx"] = BIG
    hub.pages.add("/net.onnx")
    with pytest.raises(OSError, match="a web page instead"):
        from_url(f"{hub.url}/net.onnx", tmp_path / "net.onnx")
    assert files(tmp_path) == []


@dataclass(eq=False)
class Voices(Extractor):
    """An extractor with weights on the hub."""

    name = "voices"

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (ON_HUB,)


class Secrets(Voices):
    """One with gated weights."""

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (replace(ON_HUB, repo="some/secret", folder="secret", gated=True),)


def test_nothing_is_fetched_if_a_token_is_lacking(hub: FakeHub, tmp_path: Path) -> None:
    put(hub)
    settings = Settings(home=tmp_path, models_dir=tmp_path / "models")
    with pytest.raises(ModelUnavailable, match="only with a token"):
        fetch([Voices(settings), Secrets(settings)])
    assert hub.asked == []


def test_progress_is_told_in_megabytes(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(hub)
    monkeypatch.setattr("slf_store.constituents.download.LOOK_S", 0.001)
    told: list[tuple[int, int]] = []
    fetch([Voices(Settings(home=tmp_path))], lambda done, total: told.append((done, total)))
    assert told
    assert {total for _, total in told} == {1}
    assert all(0 <= done <= 1 for done, _ in told)
    assert Voices(Settings(home=tmp_path)).weights[0].missing(tmp_path / "models") == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("bad magic\nsecond line"), "cannot be used: bad magic"),
        (ImportError("no", name="speechbrain"), "needs the package speechbrain"),
        (EOFError(), "cannot be used: EOFError"),
    ],
)
def test_what_goes_wrong_while_loading_is_said_in_two_lines(error: Exception, words: str, tmp_path: Path) -> None:
    weights = Weights("Net", ("net.bin",), "MIT", url="http://127.0.0.1:9/net.bin", folder="net")
    with pytest.raises(ModelUnavailable, match="missing"), weights.loading(tmp_path):
        pass
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "net.bin").write_bytes(b"1")
    with pytest.raises(ModelUnavailable, match=words) as caught, weights.loading(tmp_path):
        raise error
    assert len(str(caught.value).splitlines()) == 2


def test_every_model_has_a_licence_a_size_and_a_source(tmp_path: Path) -> None:
    found = list_models(Settings(home=tmp_path))
    assert len({row.model for row in found}) == len(found) >= 8
    assert all(row.licence and row.megabytes > 0 and row.where and row.needed_by and row.next_step for row in found)
    by_name = {name: row for row in found for name in row.needed_by}
    assert by_name["ecapa"] is by_name["ecapa_windows"]
    assert [row.model for row in found if row.gated] == ["pyannote/embedding"]
    assert (by_name["pyannote"].found, by_name["pyannote"].profiles) == ("no", ["hub"])
    (tmp_path / "models" / "speechbrain" / "spkrec-ecapa-voxceleb").mkdir(parents=True)
    (tmp_path / "models" / "speechbrain" / "spkrec-ecapa-voxceleb" / "hyperparams.yaml").write_text("a: 1")
    again = {name: row for row in list_models(Settings(home=tmp_path)) for name in row.needed_by}
    assert again["ecapa"].found == "partly"


def test_the_documented_table_is_the_models_there_are(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    written = [line for line in text.splitlines() if line.startswith("| ")][1:]
    expected = [
        f"| {row.model} | {', '.join(f'`{name}`' for name in row.needed_by)} | {', '.join(row.profiles) or 'by name'} "
        f"| {row.megabytes:.0f} | {row.licence}{', gated' if row.gated else ''} | {row.where} |"
        for row in list_models(Settings(home=tmp_path, models_dir=tmp_path))
    ]
    assert written == expected, "docs/models.md should hold\n" + "\n".join(expected)


def test_the_order_of_extraction_follows_the_layout(tmp_path: Path) -> None:
    order = [name for name in known_extractors(Settings(home=tmp_path)) if name not in ("resemblyzer",)]
    speech = ["camplusplus", "ecapa", "ecapa_windows", "pyannote", "titanet", "speakernet", "mel", "pyaudioanalysis"]
    assert order[:8] == speech
    hub = {extractor.name for extractor in extractors(Settings(home=tmp_path, profile="hub"))}
    assert {*speech[1:], "language_commonlanguage"} <= hub
    assert not {"camplusplus", "age_gender"} & hub


def start_slf(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "slf_store.cli.main", "--home", str(home), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def slf(home: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    running = start_slf(home, *arguments)
    out, errors = running.communicate(timeout=60)
    return running.returncode, out, errors


def test_the_verb_lists_and_checks(tmp_path: Path) -> None:
    code, out, errors = slf(tmp_path, "--json", "models", "ecapa", "--check")
    (row,) = json.loads(out)
    assert (code, row["found"], row["needed_by"], row["gated"]) == (1, "no", ["ecapa", "ecapa_windows"], False)
    assert "slf models --download" in errors
    code, out, _ = slf(tmp_path, "models", "camplusplus", "pyannote")
    assert (code, "pyannote/embedding" in out, "MIT (gated)" in out, "TitaNet" in out) == (0, True, True, False)
    code, _, errors = slf(tmp_path, "models", "nothing")
    assert (code, "no constituent 'nothing'" in errors) == (1, True)


def test_the_verb_fetches_once_also_when_it_runs_twice(hub: FakeHub, tmp_path: Path) -> None:
    hub.files = {f"/{ECAPA.repo}/resolve/{ECAPA.revision}/{name}": BIG for name in ECAPA.files}
    both = [start_slf(tmp_path, "--json", "models", "ecapa_windows", "--download", "--check") for _ in range(2)]
    for running in both:
        out, errors = running.communicate(timeout=60)
        assert running.returncode == 0, errors
        (row,) = json.loads(out)
        assert (row["found"], row["megabytes"]) == ("yes", 5 * len(BIG) / 1e6)
    assert sorted(path for method, path, _ in hub.asked if method == "GET") == sorted(hub.files)
