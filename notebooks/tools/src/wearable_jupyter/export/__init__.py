"""Export executed notebooks as HTML documents and slides that work without a network.

Charts also become static pictures and text descriptions. This subpackage runs no notebook and
imports no other subpackage, because JupyterLab loads it through nbconvert's entry points.
"""
