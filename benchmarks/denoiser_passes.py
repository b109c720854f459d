"""What `denoiser.py` times: a row for each pass of a pair of denoisers, ours and the peer.

Settings are the arguments of that script. Nothing heavy is imported at the top, as its processes measure
memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from measuring import alternate, largest_difference
from networks import TIMESTEP, Size, count_flops, flops_of, inputs

GUIDANCE = 9.0
NUM_COMPARED = 4096


def prepare(network: Any, arguments: argparse.Namespace) -> None:
    """Make a network of ours ready for inference, as far as that goes on the device."""
    from videogen.models.packing import pack_for_inference

    if arguments.device == "cpu" and not arguments.compile:
        pack_for_inference(network)


def forward_row(
    ours: Any, peer: Any, size: Size, dtype: Any, reference: Any, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One guided evaluation; `reference` is the result of the peer in float32."""
    import torch

    sample, text = inputs(size, dtype, arguments.device)
    with torch.no_grad():
        context = ours.text_context(text)
        seconds, outputs = alternate(
            {
                "peer": lambda: peer(torch.cat([sample] * 2), TIMESTEP, text).sample,
                "ours": lambda: ours(sample, TIMESTEP, context).sample,
            },
            arguments.repeats,
            arguments.device,
        )
    row = {"what": "forward", "flops": count_flops(size, backward=False), "seconds": seconds}
    row["difference"] = largest_difference(outputs["ours"], outputs["peer"])
    if dtype is not torch.float32:
        row["to_float32"] = {who: largest_difference(outputs[who], reference) for who in outputs}
    return row


def backward_rows(
    ours: Any, peer: Any, size: Size, dtype: Any, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Forward and backward, ours also with checkpointing."""
    sample, text = inputs(size, dtype, arguments.device)
    samples = sample.repeat(2, 1, 1, 1, 1)

    def run(network: Any, checkpointing: bool = False) -> dict[str, Any]:
        if network is ours:
            (ours.enable_gradient_checkpointing if checkpointing else ours.disable_gradient_checkpointing)()
        output = network(samples, TIMESTEP, text).sample
        output.float().square().mean().backward()
        # Of each gradient its first numbers: all of them, of all runs, would not fit beside a large network.
        found = {name: p.grad.flatten()[:NUM_COMPARED].clone() for name, p in network.named_parameters()}
        network.zero_grad(set_to_none=True)
        return found | {"": output.detach()}

    seconds, outputs = alternate(
        {"peer": lambda: run(peer), "ours": lambda: run(ours), "checkpointing": lambda: run(ours, True)},
        arguments.repeats,
        arguments.device,
    )
    expected = outputs["peer"]
    gradients = max(float(gradient.abs().max()) for name, gradient in expected.items() if name)
    rows = []
    for who, what in (("ours", "backward"), ("checkpointing", "backward, checkpointing")):
        given = outputs[who]
        furthest = max(largest_difference(given[name], expected[name]) for name in expected if name)
        rows.append(
            {
                "what": what,
                "flops": count_flops(size, backward=True),
                "seconds": {"peer": seconds["peer"], "ours": seconds[who]},
                "difference": largest_difference(given[""], expected[""]),
                "gradient_difference": furthest / gradients,
            }
        )
    return rows


def loop_rows(
    ours: Any, peer: Any, size: Size, dtype: Any, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """All steps of a clip: the peer, ours, and ours with each setting of step caching."""
    import torch
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    from videogen.codec.autoencoder import VideoAutoencoder
    from videogen.data.shapes.captions import vocabulary
    from videogen.metrics.reconstruction import psnr
    from videogen.models.step_cache import StepCache
    from videogen.pipelines.generation import TextToVideo
    from videogen.text.encoder import TextEncoder

    scheduler: Any = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    sample, text = inputs(size, dtype, arguments.device)
    codec = VideoAutoencoder(latent_channels=size.latents[0])  # and the text encoder: only there to be there
    per_time, per_space = codec.compression
    clip = {
        "num_frames": size.latents[1] * per_time,
        "height": size.latents[2] * per_space,
        "width": size.latents[3] * per_space,
    }
    pipeline = TextToVideo(codec, TextEncoder(vocabulary()), ours, scheduler, defaults=clip)

    @torch.no_grad()
    def peer_loop() -> Any:
        scheduler.set_timesteps(arguments.steps, device=arguments.device)
        latents = sample.float()
        for timestep in scheduler.timesteps:
            model_input = scheduler.scale_model_input(torch.cat([latents] * 2), timestep)
            noise_pred = peer(model_input.to(dtype), timestep, encoder_hidden_states=text).sample.float()
            noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)
            noise_pred = noise_pred_uncond + GUIDANCE * (noise_pred_text - noise_pred_uncond)
            latents = scheduler.step(noise_pred, timestep, latents).prev_sample
        return latents

    def our_loop(step_cache: StepCache | None = None) -> Any:
        return pipeline(
            prompt_embeds=text[1:],
            negative_prompt_embeds=text[:1],
            latents=sample.float(),
            num_inference_steps=arguments.steps,
            guidance_scale=GUIDANCE,
            step_cache=step_cache,
            output_type="latent",
            return_dict=False,
        )[0]

    loops: dict[str, Callable[[], Any]] = {"peer": peer_loop, "ours": our_loop}
    caches = [] if arguments.compile else arguments.caches
    for setting in caches:
        loops[setting] = partial(our_loop, StepCache.parse(setting))
    seconds, outputs = alternate(loops, arguments.repeats, arguments.device)
    rows = []
    for name in ("ours", *caches):
        compared = outputs["peer" if name == "ours" else "ours"].float().cpu()
        given = outputs[name].float().cpu()
        rows.append(
            {
                "what": "loop",
                "cache": "" if name == "ours" else name,
                "seconds": {"peer": seconds["peer"], "ours": seconds[name]},
                "difference": largest_difference(given, compared),
                "psnr": psnr(given, compared, float(compared.max() - compared.min())).item(),
            }
        )
    return rows


def measure_uvit(name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the embedded denoiser."""
    if "forward" not in arguments.what:
        return []
    return [
        {"size": name, "dtype": dtype_name, **uvit_row(dtype_name, arguments)}
        for dtype_name in arguments.dtypes
    ]


def uvit_row(dtype_name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One guided evaluation, prepared and plain."""
    import copy

    import torch

    from videogen.pipelines.loading import load_generator

    plain: Any = load_generator().unet
    torch.nn.Module.to(plain, arguments.device, getattr(torch, dtype_name))
    ours = copy.deepcopy(plain)
    prepare(ours, arguments)
    size = Size((plain.config["in_channels"], 4, 8, 8), (32, plain.config["cross_attention_dim"]))
    sample, text = inputs(size, plain.dtype, arguments.device)

    def run_plain() -> Any:
        return plain(torch.cat([sample] * 2), TIMESTEP, text).sample

    with torch.no_grad():
        context = ours.text_context(text)
        flops = flops_of(run_plain)
        seconds, outputs = alternate(
            {"peer": run_plain, "ours": lambda: ours(sample, TIMESTEP, context).sample},
            arguments.repeats,
            arguments.device,
        )
    return {
        "what": "forward",
        "parameters": plain.num_parameters(),
        "flops": flops,
        "seconds": seconds,
        "difference": largest_difference(outputs["ours"], outputs["peer"]),
    }
