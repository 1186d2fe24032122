"""A cluster on this machine's loopback, and the walkthrough's query on it.

Engines that exist, each in an environment of its own; the client is `crates/beyond_one_machine`.
Of the other rooms only `setup` may come in.
"""
