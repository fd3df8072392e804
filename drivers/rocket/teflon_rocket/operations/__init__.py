"""Operations on the device: several kinds that share one interface, `base.Operation`.

The code that assembles programs, places buffers, makes jobs and prints uses this interface only.
Each kind has a file or a folder here: its fields, its registers, its text, its cost. `convolution`
is one. What several kinds need has files of its own: feature maps and constants (`data.py`),
register writes (`commands.py`), lists with trailers (`lists.py`), the stages of the DPU (`dpu.py`),
its reader (`dpu_rdma.py`), numbers of converters and clamps (`numbers.py`).

Further kinds go here: `pooling.py` for the PPU and its reader; `elementwise.py` for a pass of the
DPU with two operands, by MRDMA and ERDMA; `table.py` for a lookup table that is loaded into the DPU
and the pass that uses it; `copy.py` for a pass of the DPU that moves a feature map unchanged.
"""
