"""A feature network of the user's, as TorchScript with the call of the usual I3D file."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from videogen.metrics.features import extract_features
from videogen.metrics.i3d import load_i3d


class TinyI3D(nn.Module):
    """Takes the call of the real one: the mean colour of each quarter of the picture, and its size."""

    def forward(
        self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        if rescale or resize or not return_features:
            return torch.zeros(x.shape[0], 13)
        means = nn.functional.adaptive_avg_pool3d(x, (1, 2, 2)).flatten(1)
        return torch.cat([means, torch.full([x.shape[0], 1], float(x.shape[3] * x.shape[4]))], dim=1)


class OtherCall(nn.Module):
    """Takes another call."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


@pytest.fixture
def i3d_file(tmp_path: Path) -> Path:
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(TinyI3D()).save(str(path))
    return path


def quarters(height: int, width: int, num_frames: int = 10) -> Tensor:
    """A clip `(3, F, H, W)` whose quarters have the colours -1, -0.5, 0.5 and 1."""
    clip = torch.empty(3, num_frames, height, width)
    for row, (left, right) in enumerate([(-1.0, -0.5), (0.5, 1.0)]):
        rows = slice(row * height // 2, (row + 1) * height // 2)
        clip[..., rows, : width // 2], clip[..., rows, width // 2 :] = left, right
    return clip


@pytest.mark.parametrize("height, width", [(64, 64), (224, 224), (448, 448), (64, 96)])
def test_clips_reach_the_network_at_its_size_and_range(i3d_file: Path, height: int, width: int) -> None:
    features = extract_features([quarters(height, width)], load_i3d(i3d_file))
    assert features.values[0, -1] == 224 * 224
    expected = torch.tensor([-1.0, -0.5, 0.5, 1.0] * 3).double()
    torch.testing.assert_close(features.values[0, :-1], expected, rtol=0, atol=0.02)
    assert features.network == "i3d_torchscript.pt" and features.clip_shape == (10, height, width)


def test_the_hash_is_that_of_the_file(i3d_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.jit.script(OtherCall()).save(str(other))
    assert load_i3d(i3d_file).weights_hash == load_i3d(i3d_file).weights_hash != load_i3d(other).weights_hash


def test_what_cannot_be_used_is_named(i3d_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        load_i3d(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(ValueError, match="must be a TorchScript module"):
        load_i3d(tmp_path / "text.pt")
    torch.jit.script(OtherCall()).save(str(tmp_path / "other.pt"))
    with pytest.raises(ValueError, match=r"as i3d_torchscript\.pt does"):
        extract_features([quarters(8, 8)], load_i3d(tmp_path / "other.pt"))
    with pytest.raises(ValueError, match="at least 10 frames, got 9"):
        extract_features([quarters(8, 8, num_frames=9)], load_i3d(i3d_file))
