"""The volume renderer for CPUs: blocks of rays on a pool of threads."""
