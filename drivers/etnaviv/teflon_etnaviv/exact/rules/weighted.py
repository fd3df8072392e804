"""Sums and products with constants, which run as depthwise 1x1 convolutions."""

from __future__ import annotations

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact import channels
from teflon_etnaviv.exact.channels import WithChannels
from teflon_etnaviv.exact.lowering import Lowering
from teflon_etnaviv.exact.rules import convolutions
from teflon_etnaviv.tensors import Layout

_MOST = 4096
"""Elements of a constant of several axes: most chips have a weight for each pair of them."""


def why_not(op: WithChannels, chip: Chip) -> str | None:
    """Say why the convolution that an operation is cannot run."""
    found = channels.pair(op)
    assert found is not None, "the caller asks for it"
    if (count := found[1].type.size) > _MOST and count != op.output.shape[-1]:
        return f"{count} numbers, must be at most {_MOST} for several axes"
    try:
        return "; ".join(convolutions.RULES.reasons(channels.convolution(op), chip)) or None
    except OverflowError as error:
        return str(error)


def lower(op: WithChannels, state: Lowering) -> None:
    """Run the convolution on the operand, or on the same bytes with other axes."""
    conv = channels.convolution(op)
    if conv.output is op.output:
        convolutions.convolution(conv, state)
        return
    found = channels.pair(op)
    assert found is not None, "a rule asks for it"
    source = state.get(found[0], Layout.ROWS)
    state.places[state.define(conv.input, Layout.ROWS)] = (source, 0)
    convolutions.convolution(conv, state)
    made = state.get(conv.output, Layout.ROWS)
    state.places[state.define(op.output, Layout.ROWS)] = (made, 0)
