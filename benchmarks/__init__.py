"""Measurements that a claim of speed rests on: each module prints one table from one run."""
