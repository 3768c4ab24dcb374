"""`slf explore` as people use it: the command, its token, and a real browser that is shown its pages."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
from PIL import Image

from slf_store.store import Store

pytestmark = pytest.mark.integration

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--enable-logging=stderr",
    "--virtual-time-budget=8000",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(extracted: Store) -> Iterator[str]:
    """Address of a running `slf explore --token`, with its token; afterwards it has ended well."""
    assert extracted.settings.database_url is not None
    url = extracted.settings.database_url.get_secret_value()
    command = [sys.executable, "-m", "slf_store.cli.main", "--json", "--home", str(extracted.settings.home)]
    with subprocess.Popen(
        [*command, "explore", "--port", "0", "--token"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "SLF_DATABASE_URL": url},
    ) as server:  # fmt: skip
        assert server.stdout is not None
        yield str(json.loads(server.stdout.readline())["page"])
        server.send_signal(signal.SIGINT)
        said, wrong = server.communicate(timeout=30)
        assert (server.returncode, said, wrong) == (0, "", "")


def test_the_command_asks_for_its_token(page: str) -> None:
    base, _, token = page.partition("?token=")
    with pytest.raises(HTTPError, match="401"):
        urllib.request.urlopen(base)
    with urllib.request.urlopen(page) as answer:
        assert "server" not in answer.headers
        cookie = answer.headers["set-cookie"].partition(";")[0]
    assert token in cookie
    asked = urllib.request.Request(base, headers={"Cookie": cookie})
    with urllib.request.urlopen(asked) as answer:
        assert "<h1>Overview</h1>" in answer.read().decode()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: `make browser` installs one where it can")
def test_a_browser_shows_a_clip(page: str, extracted: Store, tmp_path: Path) -> None:
    (clip,) = extracted.query("SELECT min(clip_id) AS id FROM clips")
    base, _, token = page.partition("?token=")
    picture = tmp_path / "page.png"
    assert BROWSER is not None
    shown = subprocess.run(
        [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=800,1400",
         f"--screenshot={picture}", f"{base}clips/{clip['id']}?token={token}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "Refused to" not in shown.stderr
    assert "violates" not in shown.stderr
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    from slf_store.query.values import read_constituent

    guide = read_constituent(extracted, "image_guide", np.array([clip["id"]]))[0][0]
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
    inner = {tuple(colour) for colour in guide[1:-1, 1:-1].reshape(-1, 3).tolist()}
    assert inner <= colours, "the image guide's squares are on the screen, colour by colour"
    assert (244, 246, 249) in colours, "the style sheet is used"
