"""The judge of subjects: what it counts, how it looks at long clips, and that its recipe makes one."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.data.emoji.conftest import make_artwork
from videogen.data.emoji.artwork import load_artwork
from videogen.data.emoji.dataset import EmojiClips
from videogen.data.emoji.labels import LabelledEmoji
from videogen.metrics.feature_network import FeatureNetwork, load_feature_network
from videogen.metrics.subject_accuracy import SubjectVerdicts, judge_subjects, subject_scores
from videogen.train.config import TrainConfig
from videogen.train.loop import train
from videogen.train.objectives.features import FeatureObjectiveConfig

NUM_SUBJECTS = 28


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> FeatureNetwork:
    torch.manual_seed(0)
    network = FeatureNetwork({"subject": NUM_SUBJECTS, "size": 3}, (8,), (1,), 12, stride=2, time_stride=4)
    return network.eval()


@pytest.fixture(scope="module")
def artwork_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artwork(tmp_path_factory.mktemp("artwork") / "emoji", NUM_SUBJECTS)


def clips_of(num_clips: int, num_frames: int = 4) -> torch.Tensor:
    return torch.rand(num_clips, 3, num_frames, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_ranks_say_how_many_subjects_are_more_likely(judge: FeatureNetwork, artwork_folder: Path) -> None:
    clips = clips_of(20)
    logits = judge.classify(judge(clips).features)["subject"]
    order = logits.argsort(1, descending=True)
    wanted = [int(order[idx, idx]) for idx in range(20)]  # of clip n, the one at place n
    verdicts = judge_subjects(iter(clips), wanted, judge, load_artwork(artwork_folder))
    assert verdicts.ranks.tolist() == list(range(20))
    assert torch.equal(verdicts.seen, order[:, 0])
    first, five = verdicts.within(1), verdicts.within(5)
    assert first is not None and (first.successes, first.total) == (1, 20)
    assert five is not None and (five.successes, five.total) == (5, 20)
    chosen = verdicts.ranks >= 4
    some = verdicts.within(5, chosen)
    assert some is not None and (some.successes, some.total) == (1, 16)
    assert verdicts.within(1, verdicts.ranks > 99) is None


def test_what_is_taken_for_what() -> None:
    verdicts = SubjectVerdicts(
        wanted=torch.tensor([3, 3, 5, 1]), seen=torch.tensor([4, 4, 5, 0]), ranks=torch.tensor([1, 2, 0, 9])
    )
    assert verdicts.confusions() == [(3, 4, 2), (1, 0, 1)]


def test_a_network_that_says_nothing_recognises_nothing(artwork_folder: Path) -> None:
    network = FeatureNetwork({"subject": NUM_SUBJECTS}, (8,), (1,), 12).eval()
    for parameter in network.classifiers.parameters():
        torch.nn.init.zeros_(parameter)
    verdicts = judge_subjects(clips_of(3), [0, 1, 2], network, load_artwork(artwork_folder))
    assert (verdicts.ranks == NUM_SUBJECTS - 1).all()


def test_long_clips_are_judged_part_by_part(judge: FeatureNetwork) -> None:
    clips = clips_of(3, num_frames=10)
    parts = [clips[:, :, start : start + 4] for start in (0, 4, 6)]
    expected = torch.stack([subject_scores(part, judge) for part in parts]).mean(0)
    torch.testing.assert_close(subject_scores(clips, judge), expected)
    torch.testing.assert_close(subject_scores(parts[0], judge).exp().sum(1), torch.ones(3))
    assert subject_scores(clips[:, :, :1], judge).shape == (3, NUM_SUBJECTS)


def test_what_cannot_be_judged_is_refused(
    judge: FeatureNetwork, artwork_folder: Path, tmp_path: Path
) -> None:
    artwork = load_artwork(artwork_folder)
    with pytest.raises(ValueError, match="one for each of `wanted`, 3, got 2"):
        judge_subjects(clips_of(2), [0, 1, 2], judge, artwork)
    with pytest.raises(ValueError, match="`wanted` is empty"):
        judge_subjects([], [], judge, artwork)
    with pytest.raises(ValueError, match=r"the 3 subjects in .* but it knows 28"):
        judge_subjects(clips_of(1), [0], judge, load_artwork(make_artwork(tmp_path / "few", 3)))
    shapes_network = FeatureNetwork({"shape": 6}, (8,), (1,), 12).eval()
    with pytest.raises(ValueError, match="knows 0: train one with the recipe emoji_judge"):
        judge_subjects(clips_of(1), [0], shapes_network, artwork)


def test_a_short_run_makes_a_judge_of_clips_it_has_not_seen(artwork_folder: Path, tmp_path: Path) -> None:
    """Subjects differ in their blue alone: 0, 9, 18 and 27 by a third of its range."""
    names = [load_artwork(artwork_folder).subjects[idx].name for idx in (0, 9, 18, 27)]
    clips = LabelledEmoji(
        EmojiClips(
            artwork_folder, 4, 16, subjects=tuple(names), sizes=("large",), motions=("still", "left"),
            backdrops=("white",), two_object_rate=0.0, with_held_out=True,
        )
    )  # fmt: skip
    config = TrainConfig(
        name="judge",
        objective=FeatureObjectiveConfig(
            stage_dims=(16, 16), stage_depths=(1, 1), feature_dim=16, stride=2, time_stride=4, clips=clips,
            attributes=("subject",), damage_rate=0.0,
        ),
        source=clips, num_steps=60, batch_size=16, learning_rate=1e-2, warmup_steps=5, decay_steps=30,
        ema_decay=0.9, preview_every=0, checkpoint_every=60,
    )  # fmt: skip
    train(config, tmp_path, cpu=True)
    unseen = dataclasses.replace(clips, clips=dataclasses.replace(clips.clips, seed=1)).batch(range(40))
    assert unseen.labels is not None
    judge = load_feature_network(tmp_path / "result")
    verdicts = judge_subjects(
        unseen.pixels, unseen.labels[:, 0].tolist(), judge, load_artwork(artwork_folder)
    )
    right = verdicts.within(1)
    assert right is not None and right.share > 0.9
