"""Networks made faster on a CPU without other results."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Network = Callable[["torch.Tensor"], "torch.Tensor"]


def freeze_for_inference(network: torch.nn.Module, example: torch.Tensor) -> Network:
    """The network as a frozen TorchScript graph: batch norms folded, convolutions through oneDNN with fused ReLUs.

    Results differ from the network's own by rounding only. On a GPU, or where torch has no oneDNN, it is returned as it
    is. Loading takes a second and about as much memory as one run of `example` more.

    Args:
        network: one tensor in, one out, without branches that depend on values. It is put into evaluation mode, and
            must not be used on its own any more.
        example: an input on the network's device, (n, …); later inputs have its shape but for n.

    >>> import torch
    >>> network = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 1), torch.nn.BatchNorm1d(3)).eval()
    >>> x = torch.ones(1, 2, 5)
    >>> plain = network(x)
    >>> torch.allclose(freeze_for_inference(network, x)(x), plain, atol=1e-6)
    True
    """
    import torch

    jit: Any = torch.jit
    onednn: Any = torch.backends.mkldnn
    network.eval()
    if example.device.type != "cpu" or not onednn.is_available():
        return network
    _prefer_onednn(network)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # what tracing says of Python values: the shape is fixed by contract
        frozen: Network = jit.optimize_for_inference(jit.freeze(jit.trace(network, example, check_trace=False)))
    return frozen


def _prefer_onednn(network: torch.nn.Module) -> None:
    """Make convolutions of a single tap go through oneDNN too, which torch leaves out where it has one thread.

    torch takes oneDNN for every dilated convolution, and a kernel of one tap is the same under any dilation. On an AMD
    EPYC this halves their time: MKL's matrix product, which is used otherwise, runs below the CPU's best instructions.
    """
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d) and set(module.kernel_size) == {1}:
            module.dilation = tuple(2 for _ in module.kernel_size)
