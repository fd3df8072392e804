"""Convolutions: CNA, CORE, DPU and its reader in one task."""
