"""Pooling: the units PPU and PPU_RDMA, and the engine that runs their tasks."""
