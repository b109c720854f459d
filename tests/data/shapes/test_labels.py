"""Labels of clips of one object."""

import pytest
import torch

from videogen.data.shapes.dataset import ShapesClips
from videogen.data.shapes.labels import CLASSES, LabelledShapes
from videogen.data.shapes.parser import parse_clip

SOURCE = LabelledShapes()


def test_labels_name_what_the_parser_reads() -> None:
    batch = SOURCE.batch(range(6))
    assert batch.labels is not None and batch.labels.shape == (6, 5)
    for pixels, row in zip(batch.pixels, batch.labels.tolist(), strict=True):
        named = {name: classes[idx] for (name, classes), idx in zip(CLASSES.items(), row, strict=True)}
        parsed = parse_clip(pixels, num_objects=1)
        (item,) = parsed.objects
        read = {name: getattr(item, name) for name in ("colour", "shape", "size", "motion")}
        assert named == read | {"background": parsed.background}


def test_clips_are_those_of_the_source() -> None:
    clips = ShapesClips(two_object_rate=0.0)
    assert torch.equal(SOURCE.batch([7, 2]).pixels, clips.batch([7, 2]).pixels)
    assert SOURCE.batch([7, 2]).captions == clips.batch([7, 2]).captions


def test_clips_of_two_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="two_object_rate` must be 0, got None"):
        LabelledShapes(ShapesClips())
