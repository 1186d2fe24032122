"""Writes executed notebooks as HTML and slides, with charts as text and static pictures.

Runs no notebook. Imports no other subpackage, because JupyterLab loads this one too.
"""
