"""A program that converts TeX formulas to MathML, from JSON on stdin to JSON on stdout.

The converter has no limit on nesting or time: a strange formula can exhaust its stack or keep it
busy forever. In a process of its own it can be stopped.
"""

import json
import sys

from math_core import LatexToMathML

# Commands that MathJax has and the converter lacks.
MACROS = {"mbox": r"\text{#1}", "hbox": r"\text{#1}"}

if __name__ == "__main__":
    converter = LatexToMathML(
        macros=MACROS,
        continue_on_error=True,
        fancy_error=False,
        global_group=True,
        id_prefix="formula-",
    )
    json.dump(converter.convert_all([tuple(pair) for pair in json.load(sys.stdin)]), sys.stdout)
