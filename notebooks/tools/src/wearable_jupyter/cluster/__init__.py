"""Starts a cluster on this machine's loopback interface and runs the walkthrough's query on it.

Each engine has a separate virtual environment. The client is `crates/spark_connect_query`.
Imports only `bootstrap` and `setup`.
"""
