"""What is wrong with the settings that only torch can judge: the network's name and the device."""

from collections.abc import Mapping
from typing import Any

from camera_trap_al.deep_learning.device import choose_device
from camera_trap_al.deep_learning.networks import check_architecture
from camera_trap_al.exceptions import ConfigError

__all__ = ["find_network_problems"]


def find_network_problems(arguments: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the name of the network and the device, one sentence each.

    Parameters
    ----------
    arguments
        The arguments of `run_active_learning` by name.
    """
    return _architecture_problems(arguments) + _device_problems(arguments["device"])


def _architecture_problems(arguments: Mapping[str, Any]) -> list[str]:
    name = arguments["embedding_arch"]
    if not isinstance(name, str):
        return [f"embedding_arch must be the name of a torchvision classification model; got {name!r}."]
    use_torchvision_weights = bool(arguments["use_pretrained"]) and arguments["pretrained_weights"] is None
    problem = check_architecture(name, use_pretrained=use_torchvision_weights)
    return [problem] if problem else []


def _device_problems(device: Any) -> list[str]:
    if device is None:  # whatever there is
        return []
    if not isinstance(device, str):
        return [f"device must be a name such as 'cpu' or 'cuda', or None; got {device!r}."]
    try:
        choose_device(device)
    except ConfigError as error:
        return list(error.problems)
    return []
