"""Convolutions: direct, depthwise, of whole maps; an addition may follow in the same tasks."""

from teflon_rocket.operations.convolution.coefs import Coefs
from teflon_rocket.operations.convolution.geometry import Geometry
from teflon_rocket.operations.convolution.operation import Convolution, Numbers
from teflon_rocket.operations.convolution.tiles import Split, Tile

__all__ = ["Coefs", "Convolution", "Geometry", "Numbers", "Split", "Tile"]
