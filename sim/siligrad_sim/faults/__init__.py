"""Bits that flip in a running accelerator: where, when, and what a host notices of it."""

__all__: list[str] = []
