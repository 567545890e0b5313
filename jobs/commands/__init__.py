"""The commands of `python3 -m jobs`, one module each with `main(argv) -> int`."""
