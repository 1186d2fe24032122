"""Benchmarks, and a driver for JupyterLab in a browser that the tests use too.

May import all other subpackages. Only the command line and the tests import this one.
"""
