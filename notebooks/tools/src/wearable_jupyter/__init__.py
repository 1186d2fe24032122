"""Kernel, runner, export and set-up for the Rust notebooks; see DESIGN.md."""
