"""Operations on the device: several kinds that share one interface, `base.Operation`.

The code that assembles programs, places buffers, makes jobs and prints uses this interface only.
Each kind has a file or a folder here: its fields, its registers, its text, its cost. `convolution`
is one. What several kinds need has files of its own: feature maps and constants (`data.py`),
register writes (`commands.py`), lists with trailers (`lists.py`), the stages of the DPU (`dpu.py`),
its reader (`dpu_rdma.py`), numbers of converters and clamps (`numbers.py`).

Others: passes of the DPU alone with one or two operands (`passes.py`), with a lookup table
(`table.py`), and pooling by the PPU and its reader (`pooling.py`).
"""
