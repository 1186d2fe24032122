"""What has to be there before anything runs: where it is, how it is compiled, what is missing.

The lowest room: no other may come in. `environment` runs before any package is installed.
"""
