"""The Python side of `./justw bench queries`, for any release of polars.

Reads lines `QUERY ENGINE` from stdin, and prints the seconds that each query took.
"""

import io
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

# The cells of the Python walkthrough that define the queries.
CELLS = Path(__file__).with_name("python_walkthrough.py").read_text().split("# %%\n")[1:6]

scope: dict = {}
with redirect_stdout(io.StringIO()):
    for cell in CELLS:
        exec(cell, scope)
queries = {"summary": scope["summary"], "sorted": scope["joined"].sort("user_id", "date")}
for line in sys.stdin:
    query, engine = line.split()
    start = time.perf_counter()
    queries[query].collect(engine=engine)
    print(time.perf_counter() - start, flush=True)
