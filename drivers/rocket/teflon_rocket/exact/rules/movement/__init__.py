"""Operations that move elements and compute nothing: limits and lowering, a file for each family.

What needs no operation of the device at all, since it lies where it is wanted, is found before:
`exact/places.py`.
"""

from __future__ import annotations

from teflon_rocket.exact.rules.movement import joining, shaping, slicing
from teflon_rocket.exact.state import Family

RULES = Family(joining.RULES, slicing.RULES, shaping.RULES)
