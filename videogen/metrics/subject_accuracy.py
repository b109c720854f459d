"""Counts how often clips show the subject of the world `emoji` that they should, as a judge sees it.

The judge is a `FeatureNetwork` of the recipe `emoji_judge`: it has seen renders of every subject, and plays
no part in the training of what it judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from videogen.data.emoji.artwork import Artwork
from videogen.metrics.feature_network import FeatureNetwork
from videogen.metrics.intervals import Proportion, wilson_interval

SUBJECT = "subject"
PART_FRAMES = 4
"""Frames that a judge looks at together, those of one latent frame: it was trained on so many."""
BATCH_SIZE = 16


@dataclass(frozen=True)
class SubjectVerdicts:
    """What a judge sees in clips, one entry for each.

    Attributes:
        wanted: `(n,)` int64, the subject that each clip should show.
        seen: `(n,)` int64, the one that it shows most likely.
        ranks: `(n,)` int64, how many subjects are more likely than the wanted one.
    """

    wanted: Tensor
    seen: Tensor
    ranks: Tensor

    def within(self, num_guesses: int, chosen: Tensor | None = None) -> Proportion | None:
        """Share of clips whose wanted subject is among the likeliest, with its interval of 95 %.

        Args:
            num_guesses: How many subjects count as the likeliest.
            chosen: `(n,)` bool, the clips that count; all by default.

        Returns:
            None if no clip counts.
        """
        ranks = self.ranks if chosen is None else self.ranks[chosen]
        return wilson_interval(int((ranks < num_guesses).sum()), len(ranks)) if len(ranks) else None

    def confusions(self) -> list[tuple[int, int, int]]:
        """Which subject was taken for which other, and how often; the most frequent first."""
        wrong = self.ranks > 0
        pairs = torch.stack([self.wanted[wrong], self.seen[wrong]], dim=1)
        found, counts = pairs.unique(dim=0, return_counts=True)
        rows = [(*pair, count) for pair, count in zip(found.tolist(), counts.tolist(), strict=True)]
        return sorted(rows, key=lambda row: -row[2])


@torch.no_grad()
def subject_scores(pixels: Tensor, judge: FeatureNetwork) -> Tensor:
    """Logarithms of how likely each subject is, `(B, number of subjects)`: the mean over parts of the clips.

    Args:
        pixels: `(B, 3, F, H, W)` in [-1, 1]; the last part overlaps the one before where F is no multiple of
            `PART_FRAMES`.
        judge: Of the recipe `emoji_judge`, in evaluation mode.
    """
    last = max(pixels.shape[2] - PART_FRAMES, 0)
    starts = [*range(0, last, PART_FRAMES), last]
    parts = torch.cat([pixels[:, :, start : start + PART_FRAMES] for start in starts])
    features = judge(parts.to(judge.device, judge.dtype)).features
    scores = judge.classify(features)[SUBJECT].float().log_softmax(1)
    return scores.unflatten(0, (len(starts), len(pixels))).mean(0)


@torch.no_grad()
def judge_subjects(
    clips: Iterable[Tensor], wanted: Sequence[int], judge: FeatureNetwork, artwork: Artwork
) -> SubjectVerdicts:
    """Let a judge say which subjects clips show.

    Args:
        clips: One `(3, F, H, W)` in [-1, 1] for each of `wanted`, all of one shape.
        wanted: What they should show, as numbers of subjects.
        judge: Of the recipe `emoji_judge`, in evaluation mode.
        artwork: What it was trained on.

    Raises:
        ValueError: If the judge tells no subjects or another number of them than there are, there are no
            clips, or not as many as are wanted.
    """
    num_known = dict(judge.config["num_classes"]).get(SUBJECT, 0)
    if num_known != len(artwork):
        raise ValueError(
            f"`judge` must tell the {len(artwork)} subjects in {artwork.folder} apart, but it knows "
            f"{num_known}: train one with the recipe emoji_judge"
        )
    if not wanted:
        raise ValueError("`wanted` is empty: there is nothing to judge")
    scores = []
    remaining = iter(clips)
    while group := list(islice(remaining, BATCH_SIZE)):
        scores.append(subject_scores(torch.stack(group), judge).cpu())
    logits = torch.cat(scores) if scores else torch.zeros(0, num_known)
    if len(logits) != len(wanted):
        raise ValueError(f"`clips` must be one for each of `wanted`, {len(wanted)}, got {len(logits)}")
    subjects = torch.tensor(list(wanted))
    own = logits.gather(1, subjects[:, None])
    # A tie is no recognition, and neither is a judgement that is no number.
    ranks = logits.shape[1] - 1 - (logits < own).sum(1)
    return SubjectVerdicts(subjects, logits.argmax(1), ranks)
