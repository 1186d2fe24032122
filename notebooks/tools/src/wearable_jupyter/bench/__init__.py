"""Benchmarks, and a driver for JupyterLab in a browser, which the tests use too.

May import all other subpackages. Only the command line imports this one.
"""
