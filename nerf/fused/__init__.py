"""Volume renderer for GPUs: Triton kernels."""
