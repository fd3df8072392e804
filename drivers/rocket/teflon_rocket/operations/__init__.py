"""What the device is told to do: operations of several kinds behind one interface, `base.py`.

Who assembles programs, places buffers, chains jobs, prints or times knows the interface only. Each
kind has a file or a folder here: its fields, its registers, its text, its cost. `convolution/` is
one. What kinds share stands beside them: feature maps and constants (`data.py`), register writes
(`commands.py`), lists with trailers (`lists.py`), the DPU's stages (`dpu.py`), its reader
(`dpu_rdma.py`), numbers of converters and clamps (`numbers.py`).

Further kinds have their places. `pooling.py` is for the PPU and its reader, which begin a task of
their own. `elementwise.py` is for passes of the DPU whose main operand comes by MRDMA and whose
second one by ERDMA. `table.py` is for a task that loads a lookup table into the DPU, and the pass
that uses it. `copy.py` is for a pass of the DPU that moves a feature map and changes nothing.
"""
