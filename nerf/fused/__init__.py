"""The volume renderer for GPUs: Triton kernels."""
