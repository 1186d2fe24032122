"""Runs notebooks strictly: output tags, snapshots, and reports of the results.

Uses Jupyter's own client for the kernel. Imports only `bootstrap`, `setup`, `kernel` and `export`.
"""
