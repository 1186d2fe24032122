"""Where things are, how they are compiled, and set-up of a machine.

Imports only `bootstrap`, so that every other subpackage can import this one.
"""
