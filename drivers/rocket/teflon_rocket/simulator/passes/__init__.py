"""Passes of the DPU alone: memory -> DPU_RDMA -> DPU -> memory."""
