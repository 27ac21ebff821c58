"""How many photos a training step can hold in memory at once."""

import psutil
import torch
from torch import Tensor, nn

__all__ = ["bytes_per_photo", "memory_of", "photos_at_once"]

SHARE_FOR_TRAINING = 0.5  # of the memory: the rest is for weights, the operating system and other programs
FEWEST_AT_ONCE = 16  # below that, batch normalisation has too little to go by
TRIAL = 2  # photos that are tried


def memory_of(device: torch.device) -> int:
    """Return the memory of the device in bytes, whatever is free just now: equal runs must take equal steps."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def bytes_per_photo(net: nn.Module, images: Tensor) -> int:
    """Measure what a network keeps of each photo between its forward and its backward pass.

    Parameters
    ----------
    net
        The network; in evaluation mode for the trial, so that nothing of it changes.
    images
        (n, 3, 224, 224) float32 on the device of the network; the first two are used.
    """
    weights = {parameter.data_ptr() for parameter in net.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor.detach()  # with its graph, a result that is kept would keep itself, for ever

    was_training = net.training
    net.eval()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        net(images[:TRIAL])
    net.train(was_training)
    return sum(kept.values()) // len(images[:TRIAL])


def photos_at_once(net: nn.Module, images: Tensor) -> int:
    """Say how many photos of a batch may be in memory together, at least 16.

    Parameters
    ----------
    net
        The network to be trained.
    images
        (n, 3, 224, 224) float32 on the device of the network, some of its batch.
    """
    needed = bytes_per_photo(net, images)
    room = int(SHARE_FOR_TRAINING * memory_of(images.device))
    return max(FEWEST_AT_ONCE, room // max(needed, 1))
