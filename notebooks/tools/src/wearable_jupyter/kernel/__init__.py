"""Runs evcxr as a Jupyter kernel: start, supervision, compilation of cells, and messages.

Contains nothing about wearables; `setup.paths` names the one crate that cells can use. Imports
only `bootstrap` and `setup`.
"""
