"""What Jupyter needs for the Rust notebooks; see DESIGN.md."""
