"""Makes `.venv` and decides which environment variables and caches to trust.

Runs before any package is installed: standard library only, and no other subpackage.
"""
