"""CUDA sources of the local-attention kernels and their run-time build."""
