"""Kernel, runner, export and setup for the Rust notebooks; see DESIGN.md."""
