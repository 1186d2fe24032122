"""The exercises: notebooks from their sources, copies for learners, assignments for nbgrader.

The sources are in `crates/wearable_demo/exercises/`, where the library reads them, too. Imports
only `bootstrap`, `setup`, `kernel`, `export` and `runner`.
"""
