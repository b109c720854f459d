"""Files of weights: which of them are read, and what is said of broken ones."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from videogen.files import read_json
from videogen.models.weight_files import WEIGHTS_NAME, fill, find_weights, read_weights

STATE = {"0.weight": torch.arange(6.0).view(2, 3), "0.bias": torch.ones(2), "1.weight": torch.ones(4, 2)}


def make_network(device: str = "meta") -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2, device=device), nn.Linear(2, 4, bias=False, device=device))


def write(folder: Path, *files: str) -> None:
    for file in files:
        if file.endswith(".safetensors"):
            save_file(STATE, folder / file)
        else:
            torch.save(STATE, folder / file)


def write_shards(folder: Path, variant: str = "") -> Path:
    shards = [f"{WEIGHTS_NAME}{variant}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    weight_map = {"0.weight": shards[0], "0.bias": shards[1], "1.weight": shards[1]}
    for shard in shards:
        save_file({name: STATE[name] for name, file in weight_map.items() if file == shard}, folder / shard)
    index = folder / f"{WEIGHTS_NAME}.safetensors.index{variant}.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def read(folder: Path, pickle_name: str | None = None) -> dict[str, Tensor]:
    return read_weights(find_weights(folder, pickle_name=pickle_name))


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("files", "read_file"),
    [
        (["x.safetensors"], "x.safetensors"),
        (["x.fp16.safetensors"], "x.fp16.safetensors"),
        (["x.fp16.safetensors", "x.safetensors", "x.bin"], "x.safetensors"),
        (["x.bin", "x.fp16.safetensors"], "x.fp16.safetensors"),
        (["x.bin", "x.fp16.bin"], "x.bin"),
        (["x.fp16.bin"], "x.fp16.bin"),
    ],
)
def test_safetensors_come_first_and_variants_last(tmp_path: Path, files: list[str], read_file: str) -> None:
    write(tmp_path, *files)
    found = find_weights(tmp_path, "x", pickle_name="x")
    assert found == [tmp_path / read_file]
    assert same(read_weights(found), STATE)


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_shards(tmp_path: Path, variant: str) -> None:
    index = write_shards(tmp_path, variant)
    files = find_weights(tmp_path)
    assert files[0] == index and len(files) == 3
    assert same(read_weights(files), STATE)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    shard = tmp_path / f"{WEIGHTS_NAME}-00002-of-00002.safetensors"
    shard.unlink()
    message = f"{index} names 2 shards, of which are missing: {shard.name}"
    with pytest.raises(ValueError, match=re.escape(message)):
        find_weights(tmp_path)


@pytest.mark.parametrize("content", [{}, {"weight_map": ["a"]}, {"weight_map": {"a": 1}}])
def test_an_index_that_is_none(tmp_path: Path, content: Any) -> None:
    (tmp_path / f"{WEIGHTS_NAME}.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="holds no `weight_map` from tensors to files"):
        find_weights(tmp_path)


def test_no_weights_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{WEIGHTS_NAME}.safetensors is missing$"):
        find_weights(tmp_path)


def test_pickles_only_where_they_are_wanted(tmp_path: Path) -> None:
    write(tmp_path, f"{WEIGHTS_NAME}.bin")
    with pytest.raises(ValueError, match=f"is missing; {WEIGHTS_NAME}.bin is a pickle and not opened"):
        read(tmp_path)
    assert same(read(tmp_path, pickle_name=WEIGHTS_NAME), STATE)


def test_pickles_from_before_torch_had_zip_files(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / f"{WEIGHTS_NAME}.bin", _use_new_zipfile_serialization=False)
    assert same(read(tmp_path, pickle_name=WEIGHTS_NAME), STATE)


@pytest.mark.parametrize("size", [0, 10, 500])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, size: int) -> None:
    path = tmp_path / f"{WEIGHTS_NAME}{suffix}"
    write(tmp_path, path.name)
    path.write_bytes(path.read_bytes()[:size] if suffix == ".bin" else path.read_bytes()[: size // 10])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} cannot be read, it may be truncated"):
        read(tmp_path, pickle_name=WEIGHTS_NAME)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_of_anything_but_tensors_are_not_run(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / f"{WEIGHTS_NAME}.bin"

    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path / "run").touch, ()

    torch.save({"a": Touch()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="cannot be read, it may be truncated or hold more than tensors"):
        read(tmp_path, pickle_name=WEIGHTS_NAME)
    assert not (tmp_path / "run").exists()


def test_a_pointer_to_weights_is_shown(tmp_path: Path) -> None:
    (tmp_path / f"{WEIGHTS_NAME}.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="is not a file of weights: it begins with b'version https://git"):
        read(tmp_path, pickle_name=WEIGHTS_NAME)


@pytest.mark.parametrize(
    "content", [[torch.ones(1)], {"state_dict": {"a": torch.ones(1)}}, {1: torch.ones(1)}, 3]
)
def test_pickles_of_something_else(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / f"{WEIGHTS_NAME}.bin")
    with pytest.raises(ValueError, match="must hold tensors by name, and nothing else"):
        read(tmp_path, pickle_name=WEIGHTS_NAME)


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_filled_network_owns_its_weights(tmp_path: Path, device: str, dtype: torch.dtype) -> None:
    write(tmp_path, "x.safetensors")
    network = make_network(device)
    state_dict = read_weights([tmp_path / "x.safetensors"])
    fill(network, state_dict, tmp_path, dtype)
    assert not state_dict
    (tmp_path / "x.safetensors").write_bytes(bytes((tmp_path / "x.safetensors").stat().st_size))
    assert same(network.state_dict(), {name: tensor.to(dtype) for name, tensor in STATE.items()})
    assert all(parameter.requires_grad for parameter in network.parameters())


BAD: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "missing": ({"0.bias": None}, "does not fit its config.json: 0.bias is missing$"),
    "unknown": ({"2.bias": torch.ones(2)}, "2.bias is unknown"),
    "shape": ({"0.bias": torch.ones(3)}, r"0.bias has shape \(3,\) instead of \(2,\)"),
    "several": (
        {"0.weight": None, "0.bias": None, "1.weight": torch.ones(1), "x": torch.ones(1), "y": torch.ones(1)},
        "0.bias is missing; 0.weight is missing; 1.weight has shape .* and 2 more$",
    ),
    "nan": ({"0.bias": torch.tensor([1.0, torch.nan])}, "holds NaN or infinity as torch.float16: 0.bias"),
    "infinity": ({"0.bias": torch.tensor([-torch.inf, 0])}, "holds NaN or infinity .*: 0.bias"),
    "overflow": ({"1.weight": torch.full((4, 2), 1e5)}, "holds NaN or infinity as torch.float16: 1.weight"),
}


@pytest.mark.parametrize("case", BAD)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, case: str) -> None:
    changes, message = BAD[case]
    state_dict = {name: tensor for name, tensor in (STATE | changes).items() if tensor is not None}
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))} .*{message}"):
        fill(make_network(), state_dict, tmp_path, torch.float16)


@pytest.mark.parametrize("content", ["", "{", "[1]", b"\xff\xfe"])
def test_json_that_is_no_object(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is missing"):
        read_json(path)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} (cannot be read|must hold a JSON object)"):
        read_json(path)
