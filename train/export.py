"""`python -m videogen.train.export RESULT --out FOLDER`: make released weights of what a run left behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers.models.modeling_utils import ModelMixin

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.contract import check_codec_hash, codec_hash
from videogen.files import write_json
from videogen.metrics.feature_network import load_feature_network
from videogen.pipelines.loading import EMBEDDED, load
from videogen.pipelines.model_index import INDEX, NOT_HERE, read_index

_KEPT_IN_FLOAT32 = ("latents_mean", "latents_std")


def export(
    result: Path,
    out: Path,
    codec: Path | None = None,
    *,
    share_codec: bool = False,
    training_minutes: float | None = None,
) -> None:
    """Write a pipeline of any family with weights in bfloat16, half the size; files that are there already
    are replaced.

    Args:
        result: The `result` folder of a run.
        out: Where to write; other files in it, such as a model card, are left alone.
        codec: The `result` folder of a codec run, in place of the codec the model was trained on; its encoder
            must be the same.
        share_codec: Leave the codec out, for `videogen.load` to put the embedded one in its place.
        training_minutes: What the training took, for `videogen compare` to state.

    Raises:
        ValueError: If a folder cannot be loaded, the encoders differ, or a codec to be left out is not the
            embedded one.
    """
    pipeline = load(result)
    if share_codec:
        embedded = VideoAutoencoder.from_pretrained(EMBEDDED / "vae")
        check_codec_hash(embedded, pipeline.codec_hash)
    if codec is not None:
        finished = VideoAutoencoder.from_pretrained(codec)
        for name, tensor in pipeline.vae.encoder.state_dict().items():
            if not torch.equal(tensor, finished.encoder.state_dict()[name]):
                raise ValueError(f"{codec} has another encoder than the model was trained on: {name} differs")
        pipeline.register_modules(vae=finished)
        pipeline.register_to_config(codec_hash=codec_hash(finished))
    for network in (pipeline.vae, pipeline.text_encoder, pipeline.network):
        to_bfloat16(network)
        network.register_to_config(_name_or_path="")  # no paths of one machine in a release
    for name in pipeline.components:
        shutil.rmtree(out / name, ignore_errors=True)
    pipeline.save_pretrained(out)
    index = read_index(out)
    if share_codec:
        shutil.rmtree(out / "vae")
        index["vae"] = NOT_HERE
    if training_minutes is not None:
        index["training_minutes"] = training_minutes
    write_json(out / INDEX, index, sort_keys=True)
    make_readable(out)


def export_features(result: Path, out: Path) -> None:
    """Write a feature network with weights in bfloat16; other files in the folder are left alone.

    Args:
        result: The `result` folder of a run of `shapes_features`.
        out: Where to write.

    Raises:
        ValueError: If there is no feature network in `result`.
    """
    network = load_feature_network(result)
    to_bfloat16(network)
    network.register_to_config(_name_or_path="")
    network.save_pretrained(out)
    make_readable(out)


def make_readable(folder: Path) -> None:
    """Let everybody read the weights in a folder, which safetensors writes for their owner alone."""
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)


def to_bfloat16(network: ModelMixin) -> None:
    """Round all weights, in place; the statistics of the latents stay exact."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if name not in _KEPT_IN_FLOAT32 and tensor.is_floating_point():
            tensor.data = tensor.data.to(torch.bfloat16)


def main(
    result: Annotated[
        Path, typer.Argument(help="The result folder of a run: a text-to-video model or a feature network.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the released weights.")],
    codec: Annotated[
        Path | None, typer.Option(help="The result folder of a run that trained a decoder.")
    ] = None,
    share_codec: Annotated[
        bool, typer.Option("--share-codec", help="Leave the codec out: the model uses the embedded one.")
    ] = False,
    training_minutes: Annotated[float | None, typer.Option(help="Minutes that the training took.")] = None,
) -> None:
    """Make released weights from the result of a run."""
    try:
        if (result / INDEX).exists():
            export(result, out, codec, share_codec=share_codec, training_minutes=training_minutes)
        else:
            export_features(result, out)
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    size = sum(path.stat().st_size for path in out.rglob("*.safetensors")) / 2**20
    print(f"{out}: {size:.1f} MiB of weights")


if __name__ == "__main__":
    typer.run(main)
