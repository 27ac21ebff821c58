"""A network so small that a whole run with it takes a second: it sees each photo as 16 x 16 pixels.

Everything around it, the files of a run among it, is as with torchvision's networks.
"""

import torch
from torch import Tensor, nn

from camera_trap_al.deep_learning import networks

SHRINKS_BY = 14  # from 224


class SixteenPixels(nn.Module):
    """A torchvision classifier in miniature: convolution, batch normalisation, and a final layer named ``fc``."""

    def __init__(self) -> None:
        super().__init__()
        self.shrink = nn.AvgPool2d(SHRINKS_BY)
        self.conv = nn.Conv2d(3, 8, kernel_size=4, stride=4)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 16, networks.N_IMAGENET_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(torch.relu(self.bn(self.conv(self.shrink(images)))).flatten(1))


def put_in_place() -> None:
    """Let every architecture be this network from now on."""
    networks._torchvision_model = lambda arch_name, init_weights: SixteenPixels()
