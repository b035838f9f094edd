"""Calls docs/reading/lambda_function.py as Lambda does: an event on standard input, its answer at last, a line.

The folder of the function is the argument.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

from lambda_function import lambda_handler

print(json.dumps(lambda_handler(json.load(sys.stdin), None)))
