"""Program that converts TeX formulas to MathML.

stdin: a JSON list of `[tex, is_display]` pairs. stdout: a JSON list with one HTML string per pair,
either `<math …>` or an element whose `title` is the error message.

It runs as a separate process because the converter limits neither nesting nor time: a malformed
formula can overflow its stack or loop forever. The parent then stops the process.
"""

import json
import sys

from math_core import LatexToMathML

# Commands that MathJax supports and the converter does not.
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
