"""Weights in parts (FSDP2): two processes learn what they do with whole ones, and go on exactly."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from tests.train.runs import (
    SHARDED,
    Fate,
    assert_close_end,
    assert_same_end,
    finish,
    names,
    newest,
    run,
    run_config,
    start_processes,
)
from videogen.pipelines.loading import load
from videogen.train.config import TrainConfig
from videogen.train.loop import train
from videogen.train.run import Run
from videogen.train.sharding import bytes_held, sharding_asked_for, whole
from videogen.train.step_batches import step_batches


@pytest.fixture
def config(codec_folder: Path) -> TrainConfig:
    return run_config("uvit", codec_folder, optimizer="adamw")


def count_bytes(config: TrainConfig, folder: Path) -> None:
    """Write down what each process holds after a step."""
    accelerator = Accelerator(cpu=True)
    run = Run(config, folder, accelerator, sharded=True)
    (parts, *_) = step_batches(
        dataclasses.replace(config, num_steps=1, warmup_steps=0, decay_steps=0),
        0, accelerator.process_index, accelerator.num_processes, accelerator.device,
    )  # fmt: skip
    run.step(0, parts)
    (optimizer,) = run.optimizers.values()
    tensors: dict[str, list[Tensor]] = {
        "weights": [value for value in run.objective.parameters() if value.requires_grad],
        "averages": run.ema.shadow_params,
        "moments": [value for moments in optimizer.state.values() for value in moments.values()],
    }
    held = {
        name: [sum(map(bytes_held, values)), sum(value.nbytes for value in values)]
        for name, values in tensors.items()
    }
    (folder / f"{accelerator.process_index}.json").write_text(json.dumps(held))


def test_each_process_holds_its_part(config: TrainConfig, tmp_path: Path) -> None:
    assert finish(start_processes(count_bytes, (config, tmp_path), 2, {})) == [0, 0]
    for name in ("weights", "averages", "moments"):
        held, whole = zip(
            *(json.loads((tmp_path / f"{rank}.json").read_text())[name] for rank in (0, 1)), strict=True
        )
        assert sum(held) == whole[0] == whole[1] and max(held) < 0.6 * whole[0]


def gather(folder: Path) -> None:
    """Write down whether parts of every shape, cut unevenly, are gathered as they were."""
    accelerator = Accelerator(cpu=True)
    mesh = init_device_mesh("cpu", (accelerator.num_processes,))
    shapes = [(1,), (2, 3), (3, 2, 2), (5,), (4, 0), (1, 7), (9, 2)]
    tensors = [torch.randn(shape, generator=torch.Generator().manual_seed(3)) for shape in shapes]
    tensors[3] = tensors[3].double()
    parts = [distribute_tensor(tensor, mesh, [Shard(0)], src_data_rank=None) for tensor in tensors]
    norm = torch.linalg.vector_norm(parts[-1])
    value: dict[str, Any] = {"list": [*parts, norm, tensors[0]], "inner": {"again": parts[0], "number": 7}}
    gathered = whole(value)
    assert gathered["list"][-1] is tensors[0] and gathered["inner"]["number"] == 7
    assert torch.equal(gathered["inner"]["again"], tensors[0])
    assert torch.allclose(gathered["list"][len(parts)], tensors[-1].norm())
    for one, other in zip(gathered["list"], tensors, strict=False):
        assert torch.equal(one, other) and not isinstance(one, DTensor) and one.dtype == other.dtype
    (folder / f"{accelerator.process_index}").touch()


def test_parts_are_gathered_as_they_were(tmp_path: Path) -> None:
    assert finish(start_processes(gather, (tmp_path,), 2, {})) == [0, 0]
    assert names(tmp_path) == ["0", "1"]


@pytest.mark.parametrize("num_parts", [1, 2])
def test_parts_learn_what_the_whole_does(config: TrainConfig, tmp_path: Path, num_parts: int) -> None:
    config = dataclasses.replace(config, gradient_accumulation_steps=num_parts, preview_every=8)
    run(config, tmp_path / "whole", num_processes=2)
    run(config, tmp_path / "parts", num_processes=2, environment=SHARDED)
    assert_close_end(tmp_path / "whole", tmp_path / "parts")
    one, other = (newest(tmp_path / name) for name in ("whole", "parts"))
    for name, value in one.weights.items():
        assert other.weights[name].shape == value.shape
    previews = tmp_path / "parts" / "previews" / "step-0000008"
    assert names(previews) == names(tmp_path / "whole" / "previews" / "step-0000008")
    result = load(tmp_path / "parts" / "result")
    for name, value in result.unet.named_parameters():
        assert torch.equal(value, other.ema[f"denoiser.{name}"])


@pytest.mark.parametrize("family", ["unet3d", "codec"])
def test_killed_processes_go_on_exactly(codec_folder: Path, tmp_path: Path, family: str) -> None:
    config = run_config(family, codec_folder, optimizer="adamw")
    run(config, tmp_path / "straight", num_processes=2, environment=SHARDED)
    run(config, tmp_path / "resumed", Fate(kill_at=5), num_processes=2, environment=SHARDED)
    run(config, tmp_path / "resumed", num_processes=2, environment=SHARDED)
    assert_same_end(tmp_path / "straight", tmp_path / "resumed")


def test_a_run_goes_on_whole_and_back_in_parts(config: TrainConfig, tmp_path: Path) -> None:
    run(config, tmp_path / "whole")
    folder = tmp_path / "changing"
    run(config, folder, Fate(kill_at=4), num_processes=2, environment=SHARDED)
    run(config, folder, Fate(kill_at=7))
    run(config, folder, num_processes=2, environment=SHARDED)
    assert_close_end(tmp_path / "whole", folder)


@pytest.mark.parametrize(
    ("changes", "optimizer", "message"),
    [
        ({}, "muon", "`optimizer` must be 'adamw' with FSDP, got 'muon'"),
        ({"FSDP_VERSION": "1"}, "adamw", "`fsdp_version` in accelerate's configuration must be 2, got 1"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "adamw", "`fsdp_offload_params` .* must be false"),
        (
            {"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"},
            "adamw",
            "`fsdp_cpu_ram_efficient_loading` .* must be false",
        ),
    ],
)
def test_what_is_not_offered(
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    optimizer: str,
    message: str,
) -> None:
    for name, value in {**SHARDED, **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        train(dataclasses.replace(config, optimizer=optimizer), tmp_path, cpu=True)
    assert not list(tmp_path.iterdir())


def test_one_process_holds_all(config: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As asked for, it shares with nobody; and the environment is what it was."""
    for name, value in SHARDED.items():
        monkeypatch.setenv(name, value)
    assert train(config, tmp_path, cpu=True, max_minutes=0).step == 1
    with sharding_asked_for(config) as asked:
        assert asked
