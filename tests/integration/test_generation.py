"""Generating with a run trained for seconds: clips as the run saw its own, resumable, and one's own input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from slf_store.cli.main import app
from slf_store.constituents.faces import ImageGuide
from slf_store.errors import ClipError, ConfigError, SelectionError, ShardError, SlfError
from slf_store.faults import GENERATION
from slf_store.jobs.generation import Generated, TrainedRun, generate_run
from slf_store.jobs.one_input import OneInput, generate_one
from slf_store.jobs.training import create_run, train
from slf_store.media.clip import ClipMedia
from slf_store.query.loader import Loader
from slf_store.query.manifest import open_snapshot
from slf_store.query.plain import assemble_plain
from slf_store.query.run_inputs import RunInputs, of_clips, of_snapshot, run_inputs
from slf_store.query.selection import select
from slf_store.query.snapshot import freeze
from slf_store.query.systems import system
from slf_store.store import Store

pytestmark = pytest.mark.integration

RUN, VOICE, TRAINED, GALLERY = "generating", "generating by voice", "generating on", "generated for"
STEPS = 2
"""Solver steps: enough to see a difference."""


@pytest.fixture(scope="module")
def store(extracted: Store) -> Store:
    """The extracted store in one thread, with two runs trained for seconds and a gallery of other people."""
    store = Store(extracted.settings.model_copy(update={"threads": 1}), extracted.engine)
    freeze(store, select(store, "split = 'dev'"), TRAINED, validation=0.3)
    freeze(store, select(store, "split = 'test'"), GALLERY)
    for name, system_name in ((RUN, "full-input"), (VOICE, "speaker-embeddings-only")):
        create_run(store, name, snapshot=TRAINED, system_name=system_name, preset="tiny", seed=0)
        for unet in (1, 2):
            train(store, name, unet, samples=64)  # type: ignore[arg-type]
    return store


@pytest.fixture(scope="module")
def inputs(store: Store) -> RunInputs:
    return run_inputs(store, RUN, system("full-input"), TRAINED)


@pytest.fixture
def slf(store: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SLF_HOME", str(store.settings.home))
    monkeypatch.setenv("SLF_THREADS", "1")
    assert store.settings.database_url is not None
    monkeypatch.setenv("SLF_DATABASE_URL", store.settings.database_url.get_secret_value())

    def call(*words: object) -> Result:
        return CliRunner().invoke(app, ["--json", "generate", *map(str, words)])

    return call


def faces(store: Store, seed: int) -> dict[tuple[str, float], bytes]:
    """{(clip, scale): PNG} of the run's faces of a seed that rows know; each row is another clip and scale."""
    rows = store.query(
        """SELECT clip_id, scale, path FROM generation JOIN run ON run.id = run_id
           WHERE run.name = :run AND generation.seed = :seed""",
        run=RUN,
        seed=seed,
    )
    found = {(row["clip_id"], row["scale"]): (store.settings.home / row["path"]).read_bytes() for row in rows}
    assert len(found) == len(rows)
    return found


def files(store: Store, seed: int) -> list[str]:
    return sorted(path.name for path in (store.runs / RUN).glob(f"generated/scale-*-seed-{seed}-steps-{STEPS}/*"))


def pixels(png: Path) -> NDArray[np.int64]:
    return np.asarray(Image.open(png)).astype(int)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, ...]]:
    """Conditioning, mask and guide that the networks are given from here on."""
    got: list[tuple[torch.Tensor, ...]] = []
    make = TrainedRun.generate

    def spy(self: TrainedRun, *given: Any, **options: Any) -> Any:
        got.append(tuple(None if part is None else part.clone() for part in given[:3]))
        return make(self, *given, **options)

    monkeypatch.setattr(TrainedRun, "generate", spy)
    return got


def test_a_gallery_is_standardised_with_the_statistics_of_training(
    store: Store, inputs: RunInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, trained = open_snapshot(store, GALLERY), open_snapshot(store, TRAINED)
    assert gallery.normalisation != trained.normalisation
    got = spied(monkeypatch)
    generate_run(store, RUN, GALLERY, steps=1, seed=90)
    wanted = replace(gallery, normalisation=trained.normalisation, layout=trained.layout)
    plain = [assemble_plain(wanted, inputs.system, sample)[0] for sample in range(len(gallery))]
    assert torch.cat([conditioning for conditioning, _, _ in got]).numpy().tobytes() == np.stack(plain).tobytes()


def test_another_version_than_the_runs_is_refused_with_both_named(store: Store, inputs: RunInputs) -> None:
    entry = inputs.constituents["mel"]
    other = replace(inputs, constituents={**inputs.constituents, "mel": {**entry, "version": "0123456789ab"}})
    with pytest.raises(SelectionError, match=f"mel@{entry['version']}, run {RUN} was trained on mel@0123456789ab"):
        of_snapshot(store, other, GALLERY)
    more = replace(inputs, constituents={**inputs.constituents, "ecapa": {**entry, "version": "0123456789ab"}})
    with pytest.raises(SelectionError, match="holds no ecapa"):
        of_snapshot(store, more, GALLERY)
    gone = replace(inputs, constituents={**inputs.constituents, "mel": {**entry, "status": "retired"}})
    with pytest.raises(ShardError, match=f"mel@{entry['version']}.*was retired"):
        of_clips(store, gone, "true")
    fewer = replace(inputs, constituents={key: inputs.constituents[key] for key in ("camplusplus", "image_guide")})
    manifest = of_snapshot(store, fewer, GALLERY)  # a run that never saw mel does not see it now
    (batch,) = Loader(manifest, inputs.system, batch_size=6).once()
    assert not batch.mask[:, inputs.layout.block("mel").area[0]].any()


def test_clips_of_a_predicate_are_those_of_a_snapshot(store: Store, inputs: RunInputs) -> None:
    chosen, lacking = of_clips(store, inputs, "split = 'test'")
    frozen = of_snapshot(store, inputs, GALLERY)
    batches = [next(iter(Loader(each, inputs.system, batch_size=6).once())) for each in (chosen, frozen)]
    assert lacking == {}
    assert batches[0].clip_ids.tolist() == batches[1].clip_ids.tolist()
    for part in ("conditioning", "mask", "guide"):
        assert torch.equal(*(getattr(batch, part) for batch in batches))


def test_the_command_makes_each_scale_once_and_counts_clips_that_lack_an_input(store: Store, slf: Any) -> None:
    lost = "constituent_id = (SELECT id FROM constituent WHERE name = 'mel') AND clip_id = :clip"
    clip = open_snapshot(store, GALLERY).clip_ids.tolist()[0]
    (key,) = store.query("SELECT video FROM clips WHERE clip_id = :clip", clip=clip)
    some = f"split = 'test' AND identity = (SELECT identity FROM clips WHERE video = '{key['video']}')"
    with store.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE extraction SET state = 'failed', error_code = 'test' WHERE " + lost.replace(":clip", str(clip))
        )
    try:
        first = slf(RUN, "--clips", some, "--scale", "1", "--seed", 91, "--steps", STEPS)
        assert (first.exit_code, json.loads(first.stdout)) == (
            3, {"run": RUN, "made": 1, "there": 0, "skipped": 1, "lacking": {"mel": 1}}
        )  # fmt: skip
    finally:
        with store.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE extraction SET state = 'done', error_code = NULL WHERE " + lost.replace(":clip", str(clip))
            )
    before = faces(store, 91)
    words = ("--scale", "0:1:0.5", "--scale", "1,2", "--seed", 91, "--steps", STEPS)
    more = slf(RUN, "--clips", some, *words)
    assert (more.exit_code, json.loads(more.stdout)) == (
        0, {"run": RUN, "made": 7, "there": 1, "skipped": 0, "lacking": {}}
    )  # fmt: skip
    after = faces(store, 91)
    assert {scale for _, scale in after} == {0.0, 0.5, 1.0, 2.0}
    assert before.items() <= after.items()
    assert json.loads(slf(RUN, "--clips", some, *words).stdout)["made"] == 0
    assert faces(store, 91) == after


@pytest.mark.parametrize(
    "words",
    [
        ("--on", GALLERY, "--scale", "-1"),
        ("--on", GALLERY, "--scale", "1:2"),
        ("--on", GALLERY, "--scale", "0:8:0"),
        ("--on", GALLERY, "--scale", "nan"),
        ("--on", GALLERY, "--scale", "0:8:0.0001"),
        ("--on", GALLERY, "--clips", "true"),
        ("--clips", "true", "--part", "train"),
        ("--age", "30"),
        ("--out", "somewhere"),
        (),
    ],
)
def test_wrong_use_is_told_before_anything_is_opened(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, ["generate", "no run", *words]).exit_code == 2


def test_a_face_is_its_clips_own_whatever_the_batch_and_the_other_scales(store: Store) -> None:
    """One grey level is what other sums of the same numbers come to."""
    clip = open_snapshot(store, GALLERY).clip_ids.tolist()[3]
    report = generate_run(store, RUN, GALLERY, scales=[0, 1, 8], seed=92, steps=STEPS, batch_size=4)
    assert report == Generated(RUN, 18, 0, 0, {})
    folder = store.runs / RUN / "generated"
    together = [pixels(folder / f"scale-{scale}-seed-92-steps-{STEPS}" / f"{clip}.png") for scale in (0, 1, 8)]
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM generation WHERE seed = 92")
    for scale, wanted in zip((0, 1, 8), together, strict=True):
        generate_run(store, RUN, clips=f"clip_id = {clip}", scales=[scale], seed=92, steps=STEPS)
        alone = pixels(folder / f"scale-{scale}-seed-92-steps-{STEPS}" / f"{clip}.png")
        assert np.abs(alone - wanted).max() <= 1
    assert np.abs(together[0] - together[2]).max() > 1


PROCESSES = """
import json, os, sys
import diffusers, torch
import slf_store.jobs.generation
from slf_store.cli.main import main
started = []
for fault, words in json.loads(sys.argv[1]):
    started.append(os.fork())
    if not started[-1]:
        os.environ["SLF_FAULT"] = fault
        sys.argv = ["slf", "generate", *words]
        main()
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started])
"""
"""`slf generate` in a process for each job, libraries imported once: [fault, words]; prints how they ended."""


def test_a_killed_generation_goes_on_to_the_bytes_of_an_undisturbed_one(store: Store, slf: Any) -> None:
    """Killed at each fault point, in the second batch; every process with a seed of its own."""
    turns = {"generate.written": 7, "generate.files": 2, "generate.committed": 1}
    assert turns.keys() == GENERATION.keys()

    def words(seed: int) -> list[str]:
        return [RUN, "--on", GALLERY, "--scale", "0,3", "--seed", str(seed), "--steps", str(STEPS), "--batch", "2"]

    undisturbed = {}
    for seed in range(93, 93 + len(turns)):
        assert json.loads(slf(*words(seed)).stdout)["made"] == 12
        undisturbed[seed] = faces(store, seed)
        wipe(store, seed)
    jobs = [(f"{point}:{turn}", words(seed)) for seed, (point, turn) in zip(undisturbed, turns.items(), strict=True)]
    program = [sys.executable, "-c", PROCESSES, json.dumps(jobs)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(ended.stdout) == [-signal.SIGKILL] * len(turns), ended.stderr
    left = {seed: [name for name in files(store, seed) if name.startswith(".")] for seed in undisturbed}
    assert [len(names) for names in left.values()] == [1, 0, 0]
    for seed, wanted in undisturbed.items():
        assert len(faces(store, seed)) == 4
        assert json.loads(slf(*words(seed)).stdout)["made"] == 8
        assert faces(store, seed) == wanted
        assert len(files(store, seed)) == 12
        assert not any(name.startswith(".") for name in files(store, seed))


def wipe(store: Store, seed: int) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM generation WHERE seed = {seed}")
    for path in (store.runs / RUN).glob(f"generated/scale-*-seed-{seed}-steps-{STEPS}/*"):
        path.unlink()


@pytest.fixture(scope="module")
def media(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Path, Path]:
    """A gallery clip: its id, its key, its sound as the decoder gives it, its frame as the store chose it."""
    clip_id = open_snapshot(store, GALLERY).clip_ids.tolist()[2]
    (row,) = store.query(
        """SELECT source.root, clips.path, clips.frames, identity || '/' || video || '/' || clip AS key
           FROM clips JOIN source ON source.name = clips.source WHERE clip_id = :clip""",
        clip=clip_id,
    )
    clip = ClipMedia(clip_id, row["key"], Path(row["root"]) / row["path"], row["frames"])
    folder = tmp_path_factory.mktemp("own")
    guide = ImageGuide(store.settings)
    guide.load()
    write_float_wav(folder / "sound.wav", clip.recorded_speech)
    Image.fromarray(clip.face(guide.choice).image).save(folder / "picture.png")
    return clip_id, row["key"], folder / "sound.wav", folder / "picture.png"


def write_float_wav(path: Path, samples: NDArray[np.float32]) -> None:
    """16 kHz, mono, 32-bit floats: nothing is rounded."""
    data = samples.astype("<f4").tobytes()
    head = b"".join(
        [b"RIFF", (36 + len(data)).to_bytes(4, "little"), b"WAVEfmt ", (16).to_bytes(4, "little"),
         (3).to_bytes(2, "little"), (1).to_bytes(2, "little"), (16000).to_bytes(4, "little"),
         (64000).to_bytes(4, "little"), (4).to_bytes(2, "little"), (32).to_bytes(2, "little"),
         b"data", len(data).to_bytes(4, "little")]
    )  # fmt: skip
    path.write_bytes(head + data)


def test_ones_own_sound_and_picture_are_conditioned_as_the_clip_itself(
    store: Store,
    inputs: RunInputs,
    media: tuple[int, str, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip_id, key, sound, picture = media
    manifest = of_snapshot(store, inputs, GALLERY)
    sample = manifest.clip_ids.tolist().index(clip_id)
    matrix, mask = assemble_plain(manifest, inputs.system, sample)
    attributes = {name: value for name, value in manifest.attributes[sample].items() if value is not None}
    own = OneInput(sound, picture, **attributes)
    (batch,) = Loader(manifest.take(np.array([sample])), inputs.system, batch_size=1).once()
    generate_run(store, RUN, clips=f"clip_id = {clip_id}", scales=[0, 2], seed=94, steps=STEPS)
    got = spied(monkeypatch)
    made = generate_one(store, RUN, own, tmp_path / "faces", scales=[0, 2], seed=94, key=key, steps=STEPS)
    ((given, visible, guide),) = got
    assert given.numpy().tobytes() == matrix.tobytes() == batch.conditioning.numpy().tobytes()
    assert visible[0].tolist() == mask.tolist()
    assert guide is not None
    assert batch.guide is not None
    assert torch.equal(guide, batch.guide)
    assert [path.name for path in made.files] == ["scale-0-seed-94.png", "scale-2-seed-94.png"]
    for path, scale in zip(made.files, (0, 2), strict=True):
        stored = store.runs / RUN / "generated" / f"scale-{scale}-seed-94-steps-{STEPS}" / f"{clip_id}.png"
        assert np.array_equal(pixels(path), pixels(stored))
        assert "machine-made" in Image.open(path).info["Comment"]


def test_any_subset_of_inputs_is_enough_and_the_rest_is_masked(
    store: Store, slf: Any, media: tuple[int, str, Path, Path], tmp_path: Path
) -> None:
    _, _, sound, picture = media
    by_voice = slf(VOICE, "--from-wav", sound, "--out", tmp_path / "voice", "--steps", 1, "--scale", "1,3")
    assert by_voice.exit_code == 0, by_voice.output
    told = json.loads(by_voice.stdout)
    assert (told["used"], told["masked"], len(told["files"])) == (["camplusplus", "resemblyzer"], [], 2)
    assert "people who agreed" in by_voice.stderr
    words = ("--age", 34, "--gender", "f", "--language", "english", "--steps", 1)
    described = slf(RUN, *words, "--out", tmp_path / "described")
    assert json.loads(described.stdout)["used"] == ["age", "gender", "language"]
    assert "without one its faces mean little" in described.stderr
    target = tmp_path / "target.png"
    Image.fromarray(np.asarray(Image.open(picture).convert("RGB").resize((128, 128)))).save(target)
    guided = slf(RUN, "--guide", target, "--guide-is-face", "--out", tmp_path / "guided", "--steps", 1)
    assert json.loads(guided.stdout)["used"] == ["image_guide"]
    again = slf(RUN, "--guide", target, "--guide-is-face", "--out", tmp_path / "guided", "--steps", 1)
    assert isinstance(again.exception, ConfigError)
    assert "is there already" in str(again.exception)


def test_bad_input_is_one_clear_error_and_nothing_is_written(
    store: Store, media: tuple[int, str, Path, Path], tmp_path: Path
) -> None:
    _, _, sound, picture = media
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello")
    Image.new("RGB", (7000, 6000)).save(tmp_path / "huge.png")
    Image.new("RGB", (200, 100)).save(tmp_path / "blank.png")
    (tmp_path / "torn.png").write_bytes(picture.read_bytes()[:3000])
    with wave.open(str(tmp_path / "silent.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(64000))
    wrong: list[tuple[str, OneInput, type[SlfError], str]] = [
        (RUN, OneInput(sound=tmp_path / "nowhere.wav"), ClipError, "not a regular file"),
        (RUN, OneInput(sound=tmp_path / "empty"), ClipError, "no bytes"),
        (RUN, OneInput(sound=tmp_path / "text"), ClipError, "text"),
        (RUN, OneInput(sound=tmp_path / "silent.wav"), ClipError, "silent"),
        (RUN, OneInput(picture=tmp_path), ClipError, "not a regular file"),
        (RUN, OneInput(picture=tmp_path / "empty"), ClipError, "no bytes"),
        (RUN, OneInput(picture=tmp_path / "text"), ClipError, "not a picture"),
        (RUN, OneInput(picture=tmp_path / "torn.png"), ClipError, "torn.png"),
        (RUN, OneInput(picture=tmp_path / "huge.png"), ClipError, "7000×6000"),
        (RUN, OneInput(picture=tmp_path / "blank.png"), ClipError, "no face"),
        (RUN, OneInput(picture=tmp_path / "blank.png", picture_is_face=True), ClipError, "square"),
        (RUN, OneInput(gender="female"), ConfigError, "choose from f, m"),
        (RUN, OneInput(ethnicity="martian"), ConfigError, "choose from asian"),
        (RUN, OneInput(language="Klingon"), ConfigError, "Arabic"),
        (RUN, OneInput(age=-3), ConfigError, "age"),
        (RUN, OneInput(), SelectionError, "no input is given"),
        (VOICE, OneInput(sound, picture), SelectionError, "sees sound .camplusplus, resemblyzer., not picture"),
        (VOICE, OneInput(age=30), SelectionError, "not age"),
    ]
    for run, given, kind, told in wrong:
        with pytest.raises(kind, match=told):
            generate_one(store, run, given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_version_that_cannot_be_computed_is_named_and_parameters_of_the_run_are_taken(
    store: Store, inputs: RunInputs, media: tuple[int, str, Path, Path]
) -> None:
    from slf_store.constituents.versioned import extractor_of

    entry = inputs.constituents["pyaudioanalysis"]
    now = store.settings.model_copy(update={"parameters": {"pyaudioanalysis": {"window_s": 1.0}}})
    found = extractor_of(now, entry["spec"], entry["version"])
    assert found.spec.version == entry["version"]
    other = {**entry["spec"], "code_version": 99}
    with pytest.raises(ConfigError, match=r"pyaudioanalysis@0123456789ab cannot be computed here.*other code version"):
        extractor_of(store.settings, other, "0123456789ab")
