"""Volume renderer for CPUs: blocks of rays on a thread pool."""
