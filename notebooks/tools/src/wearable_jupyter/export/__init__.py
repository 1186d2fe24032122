"""Executed notebooks for people: HTML, slides, and charts in words and pictures.

Reads notebooks, runs nothing. No other room may come in, for JupyterLab loads this one, too.
"""
