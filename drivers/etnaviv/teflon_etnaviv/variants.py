"""Formats that nobody has confirmed on silicon: options that change the description of a chip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from teflon.errors import OptionError
from teflon_etnaviv.chips import Chip, huffman_variant


def _s905d3_huffman(chip: Chip) -> Chip | str:
    return huffman_variant(chip) if chip.name == "s905d3" else "s905d3"


def _v8_image_caching(chip: Chip) -> Chip | str:
    return replace(chip, image_caching=True) if chip.huffman else "one with V8 coefficients"


VARIANTS: Mapping[str, Callable[[Chip], Chip | str]] = {
    "s905d3-huffman": _s905d3_huffman,
    "v8-image-caching": _v8_image_caching,
}
"""Option -> what makes the other description of a chip, or says what the chip must be for it."""


def wanted(options: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variants that a driver's options switch on."""
    return tuple(name for name in VARIANTS if options.get(name, "off") == "on")


def described(chip: Chip, names: tuple[str, ...]) -> Chip:
    """Return a chip with these variants. Raises OptionError for one that does not fit it."""
    for name in names:
        found = VARIANTS[name](chip)
        if isinstance(found, str):
            raise OptionError(f"option {name}: chip is {chip.name}, must be {found}")
        chip = found
    return chip
