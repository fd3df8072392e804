"""The counters of a core that programs can ask the kernel for, in groups that it calls domains.

Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_perfmon.c (doms_3d, doms_2d, doms_vg, doms_meta)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Domain:
    """A group of counters."""

    name: str
    signals: tuple[str, ...]


READ, WRITTEN, CYCLES = "TOTAL_READ_BYTES8", "TOTAL_WRITE_BYTES8", "TOTAL_CYCLES"
"""Counters of the group HI: units of 8 bytes, and cycles."""

_3D = (
    Domain("HI", (
        READ, WRITTEN, CYCLES, "IDLE_CYCLES", "AXI_CYCLES_READ_REQUEST_STALLED",
        "AXI_CYCLES_WRITE_REQUEST_STALLED", "AXI_CYCLES_WRITE_DATA_STALLED",
    )),
    Domain("PE", (
        "PIXEL_COUNT_KILLED_BY_COLOR_PIPE", "PIXEL_COUNT_KILLED_BY_DEPTH_PIPE",
        "PIXEL_COUNT_DRAWN_BY_COLOR_PIPE", "PIXEL_COUNT_DRAWN_BY_DEPTH_PIPE",
    )),
    Domain("SH", (
        "SHADER_CYCLES", "PS_INST_COUNTER", "RENDERED_PIXEL_COUNTER", "VS_INST_COUNTER",
        "RENDERED_VERTICE_COUNTER", "VTX_BRANCH_INST_COUNTER", "VTX_TEXLD_INST_COUNTER",
        "PXL_BRANCH_INST_COUNTER", "PXL_TEXLD_INST_COUNTER",
    )),
    Domain("PA", (
        "INPUT_VTX_COUNTER", "INPUT_PRIM_COUNTER", "OUTPUT_PRIM_COUNTER", "DEPTH_CLIPPED_COUNTER",
        "TRIVIAL_REJECTED_COUNTER", "CULLED_COUNTER",
    )),
    Domain("SE", ("CULLED_TRIANGLE_COUNT", "CULLED_LINES_COUNT")),
    Domain("RA", (
        "VALID_PIXEL_COUNT", "TOTAL_QUAD_COUNT", "VALID_QUAD_COUNT_AFTER_EARLY_Z",
        "TOTAL_PRIMITIVE_COUNT", "PIPE_CACHE_MISS_COUNTER", "PREFETCH_CACHE_MISS_COUNTER",
        "CULLED_QUAD_COUNT",
    )),
    Domain("TX", (
        "TOTAL_BILINEAR_REQUESTS", "TOTAL_TRILINEAR_REQUESTS", "TOTAL_DISCARDED_TEXTURE_REQUESTS",
        "TOTAL_TEXTURE_REQUESTS", "MEM_READ_COUNT", "MEM_READ_IN_8B_COUNT", "CACHE_MISS_COUNT",
        "CACHE_HIT_TEXEL_COUNT", "CACHE_MISS_TEXEL_COUNT",
    )),
    Domain("MC", (
        "TOTAL_READ_REQ_8B_FROM_PIPELINE", "TOTAL_READ_REQ_8B_FROM_IP",
        "TOTAL_WRITE_REQ_8B_FROM_PIPELINE",
    )),
)  # fmt: skip
_2D = (Domain("PE", ("PIXELS_RENDERED_2D",)),)

DOMAINS: tuple[tuple[Domain, ...], ...] = (_3D, _2D, ())
"""Domains by exec_state: 3D, 2D, VG."""


def of_core(pipes: tuple[bool, ...]) -> tuple[Domain, ...]:
    """Return the domains of a core that has some of the units for 3D, 2D and VG."""
    return tuple(
        domain for there, domains in zip(pipes, DOMAINS, strict=True) if there for domain in domains
    )


def find(exec_state: int, domain: int, signal: int) -> str | None:
    """Return the counter that a request of a submit means; None if there is none.

    The kernel takes the numbers from the table of the submit's unit, whatever units the core has.
    Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_perfmon.c (etnaviv_pm_req_validate)
    """
    domains = DOMAINS[exec_state]
    if domain >= len(domains) or signal >= len(domains[domain].signals):
        return None
    return domains[domain].signals[signal]


Counts = Mapping[str, int]
"""Counter -> its value; what is not there is 0."""
