"""imagen-pytorch as a contestant of `benchmarks/diffusion.py`, in an environment of its own: PYTHON … JSON.

The published code's settings at the same dim, blocks, attention and cond_dim; its own trainer (Adam, average, autocast
through accelerate) and its own sampler.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch
from diffusion_worker import Clock, inputs, orders, peak_bytes, say, training_flops

os.environ["HF_HUB_OFFLINE"] = "1"
SIZES = {1: (8, 32), 2: (32, 128)}


def library() -> Any:
    """imagen_pytorch; importing it asks the hub for the width of T5-base, which is 768."""
    import transformers

    transformers.T5Config.from_pretrained = staticmethod(  # type: ignore[method-assign]
        lambda name, **_: transformers.T5Config(d_model=768)
    )
    import imagen_pytorch

    return imagen_pytorch


def network(imagen: Any, given: dict[str, Any]) -> Any:
    dim = int((192 if given["unet"] == 1 else 128) * given["width"])
    attention = (False, True, True, True) if given["unet"] == 1 else (False, False, False, True)
    blocks = 3 if given["unet"] == 1 else (2, 4, 8, 8)
    return imagen.Unet(
        dim=dim, dim_mults=(1, 2, 4, 8), num_resnet_blocks=blocks, layer_attns=attention,
        layer_cross_attns=attention, cond_dim=512, lowres_cond=True,
    )  # fmt: skip


def facts(imagen: Any, given: dict[str, Any]) -> dict[str, Any]:
    side = given.get("crop") or SIZES[given["unet"]][1]
    with torch.device("meta"):
        unet = network(imagen, given)
        image, level = torch.zeros(1, 3, side, side), torch.zeros(1)

        def step() -> torch.Tensor:
            return unet(
                image, level, lowres_cond_img=image, lowres_noise_times=level, cond_drop_prob=0.1,
                text_embeds=torch.zeros(1, 256, 768), text_mask=torch.ones(1, 256, dtype=torch.bool),
            )  # fmt: skip

        flops = training_flops(step)
    return {
        "parameters": sum(p.numel() for p in unet.parameters()),
        "flops": flops,
        "calls": 1000,
        "crop share": (side / SIZES[given["unet"]][1]) ** 2,
    }


def main() -> None:
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    imagen, device = library(), given["device"]
    say(**facts(imagen, given), torch=torch.__version__)
    model = imagen.Imagen(
        unets=(imagen.NullUnet(), network(imagen, given)), image_sizes=SIZES[given["unet"]],
        timesteps=given["sampling_steps"], cond_drop_prob=0.1, random_crop_sizes=(None, given.get("crop")),
    )  # fmt: skip
    trainer = imagen.ImagenTrainer(
        model, precision=given["precision"] if given["precision"] == "bf16" else None, verbose=False,
        accelerate_cpu=device == "cpu",
    )  # fmt: skip
    made = {name: value.to(device) for name, value in inputs(given["batch"]).items()}
    text = {"text_embeds": made["conditioning"], "text_masks": made["mask"]}
    low = made["guide"] if given["unet"] == 1 else torch.nn.functional.interpolate(made["target"], 32, mode="area")
    for order in orders():
        if order == "train":
            clock = Clock(device)
            trainer(made["target"], **text, unet_number=2)
            trainer.update(unet_number=2)
            say(**clock.read(), waited=0.0, memory=peak_bytes(device))
        else:
            sample = {**text, "start_at_unet_number": 2, "start_image_or_video": low, "use_tqdm": False}
            clock = Clock(device)
            with torch.no_grad(), trainer.accelerator.autocast():
                trainer.imagen.sample(**sample, cond_scale=1.0, device=device)
            say(**clock.read())


if __name__ == "__main__":
    main()
