"""Paths, caches and compilation, and the setup of a machine.

Imports only `bootstrap`, so that every other subpackage can import this one.
"""
