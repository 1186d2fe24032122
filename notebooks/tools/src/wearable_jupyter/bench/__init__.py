"""Measuring, and driving JupyterLab in a browser, which the tests do, too.

The highest room: all others may come in, and none but the commands may ask for it.
"""
