"""Preparing footage: what is cached is what the encoders give, is made once, and belongs to what made it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.full_disk import full_disk
from tests.tiny import TINY_CODEC, randomise
from tests.videos import moving_bar, truncate, write_audio, write_video
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.contract import codec_hash
from videogen.codec.pixels import frames_to_pixels
from videogen.data.batch import Batch
from videogen.data.footage.dataset import load_dataset, open_footage
from videogen.data.footage.inspection import Inspection, inspect_video
from videogen.data.footage.planning import FootageSettings
from videogen.data.footage.reading import read_clips
from videogen.data.footage.report import FootageReport
from videogen.data.footage.store import load_inspection, save_inspection
from videogen.pipelines.generation import GenerationDefaults
from videogen.text.encoder import TextEncoder
from videogen.train.footage import prepare_footage
from videogen.train.footage_encoders import FootageEncoders, load_encoders
from videogen.train.objectives.diffusion import DiffusionObjective, DiffusionObjectiveConfig, UViTConfig

SETTINGS = FootageSettings(num_frames=(4, 8), sizes=((16, 16),), fps=8)
WORDS = ("red", "blue", "bar", "moves")


@pytest.fixture(scope="module")
def encoders() -> FootageEncoders:
    """A tiny codec and text encoder with random weights."""
    codec = VideoAutoencoder(**TINY_CODEC).eval()
    text_encoder = TextEncoder(
        WORDS, hidden_size=16, num_layers=1, num_attention_heads=2, max_length=6
    ).eval()
    randomise(codec)
    randomise(text_encoder)
    return FootageEncoders("tiny", codec, text_encoder, "c", "t", torch.float32, GenerationDefaults())


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """Three good videos, of two shapes, in a folder with a space in its name."""
    folder = tmp_path / "my footage"
    for seed, (name, num_frames) in enumerate([("a.mkv", 24), ("sub/b.mkv", 24), ("c.mkv", 14)]):
        frames = moving_bar(num_frames, 32, 48, seed)
        write_video(folder / name, frames, codec="ffv1", pixel_format="bgr0")
        (folder / name).with_suffix(".txt").write_text(["red bar", "blue bar", "red bar"][seed])
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@torch.no_grad()
def test_the_dataset_holds_what_the_encoders_give(
    footage: Path, tmp_path: Path, encoders: FootageEncoders
) -> None:
    prepared = prepare_footage(footage, tmp_path / "out", SETTINGS, encoders, num_workers=2)
    dataset = load_dataset(tmp_path / "out")
    assert [clip.source for clip in dataset.clips] == ["a.mkv", "c.mkv", "sub/b.mkv"]
    assert [clip.bucket.num_frames for clip in dataset.clips] == [8, 4, 8]
    assert (prepared.num_encoded, prepared.num_cached) == (3, 0)
    plans = {plan.name: plan for plan in prepared.report.plans}
    for idx, clip in enumerate(dataset.clips):
        (frames,) = read_clips(footage / clip.source, plans[clip.source].clips, (0, 0, 0))
        expected = encoders.codec.encode(frames_to_pixels(frames[None]))[0]
        assert torch.equal(dataset.latents(idx), expected)
        text = encoders.text_encoder.encode([clip.caption])
        prompt_embeds, attention_mask = dataset.embedding(idx)
        assert torch.equal(prompt_embeds, text.prompt_embeds[0])
        assert torch.equal(attention_mask, text.attention_mask[0])
    empty = encoders.text_encoder.encode([""])
    assert torch.equal(dataset.unconditional_embedding()[0], empty.prompt_embeds[0])
    assert len({clip.text_key for clip in dataset.clips}) == 2  # equal captions are encoded once
    facts = {"name": "tiny", "codec": "c", "text_encoder": "t", "dtype": "float32"}
    assert isinstance(encoders.codec, nn.Module)
    assert dataset.model == facts | {"codec_weights": codec_hash(encoders.codec)}


def test_a_second_run_does_nothing_and_a_new_video_only_itself(
    footage: Path, tmp_path: Path, encoders: FootageEncoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare_footage(footage, out, SETTINGS, encoders)
    before = files(out)
    with monkeypatch.context() as patch:
        patch.setattr("videogen.train.footage.inspect_video", None)  # nothing is read again
        again = prepare_footage(footage, out, SETTINGS, encoders)
    assert (again.num_encoded, again.num_cached) == (0, 3)
    assert files(out) == before
    write_video(footage / "new.mkv", moving_bar(24, 32, 48, 7), codec="ffv1", pixel_format="bgr0")
    (footage / "a.mkv").rename(footage / "renamed.mkv")
    assert prepare_footage(footage, out, SETTINGS, encoders).num_encoded == 1
    assert {clip.source for clip in load_dataset(out).clips} == {
        "c.mkv",
        "new.mkv",
        "renamed.mkv",
        "sub/b.mkv",
    }


def test_a_new_caption_leaves_latents_alone(footage: Path, tmp_path: Path, encoders: FootageEncoders) -> None:
    out = tmp_path / "out"
    prepare_footage(footage, out, SETTINGS, encoders)
    latents = {name for name in files(out) if name.startswith("latents/")}
    (footage / "a.txt").write_text("blue bar moves")
    assert prepare_footage(footage, out, SETTINGS, encoders).num_encoded == 0
    assert load_dataset(out).clips[0].caption == "blue bar moves"
    assert {name for name in files(out) if name.startswith("latents/")} == latents


def test_pixels_are_kept_where_they_are_asked_for(
    footage: Path, tmp_path: Path, encoders: FootageEncoders
) -> None:
    out = tmp_path / "out"
    prepare_footage(footage, out, SETTINGS, encoders)
    without = load_dataset(out)
    with pytest.raises(ValueError, match=r"has no pixels of 'a.mkv'"):
        without.check_pixels()
    latents = {name: content for name, content in files(out).items() if name.startswith("latents/")}
    prepared = prepare_footage(footage, out, SETTINGS, encoders, keep_pixels=True)
    dataset = load_dataset(out)
    dataset.check_pixels()
    assert dataset.fingerprint == without.fingerprint
    assert {name: content for name, content in files(out).items() if name.startswith("latents/")} == latents
    plans = {plan.name: plan for plan in prepared.report.plans}
    for idx, clip in enumerate(dataset.clips):
        (frames,) = read_clips(footage / clip.source, plans[clip.source].clips, (0, 0, 0))
        assert np.array_equal(dataset.frames(idx).numpy(), frames)
    again = prepare_footage(footage, out, SETTINGS, encoders)  # not asked for, but there
    assert (again.num_encoded, again.num_cached) == (0, 3)
    load_dataset(out).check_pixels()


@pytest.mark.parametrize(
    ("change", "same_latents", "same_text"),
    [
        ({"codec_hash": "other"}, False, True),
        ({"text_encoder_hash": "other"}, True, False),
        ({"dtype": torch.bfloat16}, False, False),
    ],
)
def test_what_another_encoder_made_is_never_used(
    footage: Path,
    tmp_path: Path,
    encoders: FootageEncoders,
    change: dict[str, Any],
    same_latents: bool,
    same_text: bool,
) -> None:
    out = tmp_path / "out"
    prepare_footage(footage, out, SETTINGS, encoders)
    first = load_dataset(out)
    prepare_footage(footage, out, SETTINGS, replace(encoders, **change))
    second = load_dataset(out)
    pairs = list(zip(first.clips, second.clips, strict=True))
    assert {one.latents_key == two.latents_key for one, two in pairs} == {same_latents}
    assert {one.text_key == two.text_key for one, two in pairs} == {same_text}
    prepare_footage(footage, out, SETTINGS, encoders)
    assert load_dataset(out).fingerprint == first.fingerprint


def test_an_interrupted_run_keeps_what_is_done_and_is_finished_by_the_same_call(
    footage: Path, tmp_path: Path, encoders: FootageEncoders
) -> None:
    prepare_footage(footage, tmp_path / "straight", SETTINGS, encoders)

    def interrupt(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("encoding", 2):
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        prepare_footage(footage, out, SETTINGS, encoders, on_progress=interrupt)
    assert not (out / "dataset.json").exists()
    assert not [name for name in files(out) if name.endswith(".partial")]
    finished = prepare_footage(footage, out, SETTINGS, encoders)
    assert (finished.num_encoded, finished.num_cached) == (1, 2)
    straight, resumed = load_dataset(tmp_path / "straight"), load_dataset(out)
    assert straight.fingerprint == resumed.fingerprint
    for idx in range(3):
        assert torch.equal(straight.latents(idx), resumed.latents(idx))


def test_a_full_disk_leaves_whole_files_only(
    footage: Path, tmp_path: Path, encoders: FootageEncoders
) -> None:
    out = tmp_path / "out"
    with full_disk(4096), pytest.raises(OSError, match=r"cannot write .*: .*(File too large|os error 27)"):
        prepare_footage(footage, out, SETTINGS, encoders)
    assert not [
        name for name, content in files(out).items() if len(content) >= 4096 or name.endswith(".partial")
    ]
    assert prepare_footage(footage, out, SETTINGS, encoders).num_encoded == 3


def test_latents_that_are_not_finite_are_an_error(
    footage: Path, tmp_path: Path, encoders: FootageEncoders
) -> None:
    codec = VideoAutoencoder(**TINY_CODEC)
    codec.latents_std.fill_(0)
    with pytest.raises(FloatingPointError, match=r"the latents of a.mkv hold NaN or infinity"):
        prepare_footage(footage, tmp_path / "out", SETTINGS, replace(encoders, codec=codec))


def test_every_damaged_file_is_named_and_the_rest_is_used(
    footage: Path, tmp_path: Path, encoders: FootageEncoders
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 48, 3), np.uint8)
    truncate(write_video(footage / "cut.mp4", noise), 0.6)
    (footage / "empty.mp4").touch()
    (footage / "text.mp4").write_text("no video")
    (footage / "loop.mp4").symlink_to(footage / "loop.mp4")
    (footage / "latin.txt").write_bytes(b"caf\xe9")
    write_video(footage / "latin.mp4", noise)
    write_audio(footage / "sound.mp4")
    (footage / "metadata.jsonl").write_text(json.dumps({"file_name": "gone.mp4", "text": "x"}))
    reports: list[FootageReport] = []
    prepare_footage(footage, tmp_path / "out", SETTINGS, encoders, on_report=reports.append)
    (report,) = reports
    assert {problem.name: problem.reason for problem in report.dropped} == {
        "cut.mp4": "unreadable",
        "empty.mp4": "unreadable",
        "gone.mp4": "missing",
        "latin.mp4": "caption unreadable",
        "loop.mp4": "unreadable",
        "sound.mp4": "unreadable",
        "text.mp4": "unreadable",
    }
    assert len(load_dataset(tmp_path / "out").clips) == 3
    page = (tmp_path / "out" / "report.html").read_text()
    for plan in report.plans:
        assert plan.name in page
        assert all(problem.detail.split("(")[0] in page for problem in plan.dropped)
    assert page.count("data:image/jpeg") == 3 * 4  # of each video that can be read
    assert "http" not in page


def test_a_video_that_changes_before_it_is_encoded_does_not_stop_the_others(
    footage: Path, tmp_path: Path, encoders: FootageEncoders
) -> None:
    reports: list[FootageReport] = []

    def cut_a_file(report: FootageReport) -> None:
        if not reports:
            truncate(footage / "a.mkv", 0.3)
        reports.append(report)

    prepared = prepare_footage(footage, tmp_path / "out", SETTINGS, encoders, on_report=cut_a_file)
    assert [len(report.dropped) for report in reports] == [0, 1]
    assert prepared.report is reports[1]
    assert (prepared.report.dropped[0].name, prepared.report.dropped[0].reason) == ("a.mkv", "unreadable")
    assert (prepared.num_encoded, prepared.num_cached) == (2, 0)
    assert [clip.source for clip in load_dataset(tmp_path / "out").clips] == ["c.mkv", "sub/b.mkv"]


def test_memory_that_one_video_asks_for_in_vain_does_not_stop_the_others(
    footage: Path, tmp_path: Path, encoders: FootageEncoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspect(path: Path, *arguments: Any) -> Inspection:
        if path.name == "a.mkv":
            np.empty(2**62, np.uint8)
        return inspect_video(path, *arguments)

    monkeypatch.setattr("videogen.train.footage.inspect_video", inspect)
    report = prepare_footage(footage, tmp_path / "out", SETTINGS, encoders).report
    assert [(problem.name, problem.reason) for problem in report.dropped] == [("a.mkv", "unreadable")]
    assert "more memory is needed than there is. Unable to allocate 4.00 EiB" in report.dropped[0].detail
    assert [clip.source for clip in load_dataset(tmp_path / "out").clips] == ["c.mkv", "sub/b.mkv"]


def test_no_usable_video_is_an_error_after_the_report(tmp_path: Path, encoders: FootageEncoders) -> None:
    folder = tmp_path / "footage"
    write_video(folder / "short.mp4", moving_bar(4))
    (folder / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"gives a clip \(1 too short, 1 unreadable\): see .*report.html"):
        prepare_footage(folder, tmp_path / "out", SETTINGS, encoders)
    assert (tmp_path / "out" / "report.html").exists()
    assert not (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"num_frames": (4, 17)},
            "`num_frames` must be a multiple of 4 for this codec, got 17: use 16 or 20",
        ),
        ({"sizes": ((16, 20),)}, "`width` must be a multiple of 8 for this codec, got 20: use 16 or 24"),
        ({"fps": 0.0}, "`fps` must be between 0.1 and 240, got 0.0"),
    ],
)
def test_what_the_codec_cannot_encode_is_refused_at_once(
    footage: Path, tmp_path: Path, encoders: FootageEncoders, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_footage(footage, tmp_path / "out", replace(SETTINGS, **settings), encoders)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_in_the_way_is_refused(
    footage: Path, tmp_path: Path, encoders: FootageEncoders
) -> None:
    with pytest.raises(ValueError, match=r"`out` .* lies in the footage"):
        prepare_footage(footage, footage / "out", SETTINGS, encoders)
    with pytest.raises(ValueError, match=r"`out` .* holds the footage"):
        prepare_footage(footage, footage.parent, SETTINGS, encoders)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").touch()
    with pytest.raises(ValueError, match=r"holds other things, such as 'thesis.doc'"):
        prepare_footage(footage, tmp_path / "mine", SETTINGS, encoders)
    with pytest.raises(ValueError, match="is a file: choose a folder"):
        prepare_footage(footage, tmp_path / "mine" / "thesis.doc", SETTINGS, encoders)


def test_words_that_the_text_encoder_does_not_know_are_told(
    footage: Path, tmp_path: Path, encoders: FootageEncoders
) -> None:
    (footage / "a.txt").write_text("a violet bar moves")
    report = prepare_footage(footage, tmp_path / "out", SETTINGS, encoders).report
    (line,) = [line for line in report.advice if "closed vocabulary" in line]
    assert "“violet”" in line
    assert "“moves”" not in line


@torch.no_grad()
def test_the_loss_on_cached_latents_is_that_on_their_pixels(
    footage: Path, tmp_path: Path, encoders: FootageEncoders
) -> None:
    prepare_footage(footage, tmp_path / "out", SETTINGS, encoders)
    config = DiffusionObjectiveConfig(
        network=UViTConfig(conv_dim=8, num_conv_blocks=1, hidden_size=32, num_layers=1, num_attention_heads=2)
    )
    codec, text_encoder = encoders.codec, encoders.text_encoder
    assert isinstance(codec, VideoAutoencoder) and isinstance(text_encoder, TextEncoder)
    denoiser = config.network.build(4, 16)
    randomise(denoiser)
    objective = DiffusionObjective(codec, text_encoder, denoiser, config)
    cached = open_footage(tmp_path / "out", batch_size=1).batch([5])
    (clip,) = [clip for clip in load_dataset(tmp_path / "out").clips if clip.caption == cached.captions[0]][
        :1
    ]
    report = prepare_footage(footage, tmp_path / "out", SETTINGS, encoders).report
    plans = [plan for plan in report.plans if plan.name == clip.source]
    (frames,) = read_clips(footage / clip.source, plans[0].clips, (0, 0, 0))
    pixels = Batch(cached.sample_ids, frames_to_pixels(frames[None]), cached.captions, cached.fps)
    same = torch.equal(codec.encode(pixels.pixels), cached.latents)  # type: ignore[arg-type]
    assert same
    assert torch.equal(objective(cached, "train")["loss"], objective(pixels, "train")["loss"])


def test_an_inspection_is_remembered_whole(footage: Path, tmp_path: Path, encoders: FootageEncoders) -> None:
    report = prepare_footage(footage, tmp_path / "out", SETTINGS, encoders).report
    inspection = report.plans[0].inspection
    assert inspection is not None
    save_inspection(tmp_path / "out", "key", inspection)
    remembered = load_inspection(tmp_path / "out", "key")
    assert remembered is not None
    for name in Inspection.__dataclass_fields__:
        one, two = getattr(inspection, name), getattr(remembered, name)
        assert np.array_equal(one, two) if isinstance(one, np.ndarray) else one == two, name


@pytest.fixture(scope="module")
def embedded() -> FootageEncoders:
    return load_encoders()


def test_real_footage_is_accounted_for_to_the_last_clip(
    shared: Path, tmp_path: Path, embedded: FootageEncoders
) -> None:
    source = shared / "footage" / "sign"
    if not source.is_dir():
        pytest.skip("there is no footage of signs in the folder `shared`")
    some = tmp_path / "sign"
    some.mkdir()
    for path in sorted(source.glob("*.mp4"))[:6]:
        (some / path.name).symlink_to(path)
    names = sorted(path.name for path in some.iterdir())
    rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["file_name"] in names]
    (some / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in kept))
    settings = FootageSettings(num_frames=(8, 12, 16), sizes=((64, 64),), fps=8)
    report = prepare_footage(some, tmp_path / "out", settings, embedded).report
    assert sorted(plan.name for plan in report.plans) == names
    assert all(plan.clips or plan.dropped for plan in report.plans)
    captions = {row["file_name"]: row["text"] for row in kept}
    for clip in load_dataset(tmp_path / "out").clips:
        assert clip.caption == captions[clip.source]


def test_transparent_artwork_is_read(shared: Path, tmp_path: Path, encoders: FootageEncoders) -> None:
    source = shared / "emoji" / "clips"
    if not source.is_dir():
        pytest.skip("there are no emoji in the folder `shared`")
    some = tmp_path / "emoji"
    some.mkdir()
    for path in sorted(source.glob("*.webp"))[:4]:
        (some / path.name).symlink_to(path)
    settings = replace(SETTINGS, background=(255, 255, 255))
    report = prepare_footage(some, tmp_path / "out", settings, encoders).report
    for plan in report.plans:
        assert plan.inspection is not None
        assert plan.inspection.num_frames == 24
        assert "has transparent parts: put on #ffffff" in plan.notes


def test_a_folder_is_prepared_by_one_process_at_a_time(
    footage: Path, tmp_path: Path, encoders: FootageEncoders
) -> None:
    """The second is refused before it reads a video, and the first does not notice."""
    out = tmp_path / "out"

    def prepare_again(report: FootageReport) -> None:
        with pytest.raises(ValueError, match=r"`out` .* is in use by another process"):
            prepare_footage(footage, out, SETTINGS, encoders)

    assert prepare_footage(footage, out, SETTINGS, encoders, on_report=prepare_again).num_encoded == 3
    assert prepare_footage(footage, out, SETTINGS, encoders).num_cached == 3
