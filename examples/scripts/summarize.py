"""Reads its arguments as JSON, logs a line, writes its result."""
import json
import os
import sys

given = json.load(sys.stdin)
text = f"{given['file']} has {given['lines']} lines"
print("summarizing", given["file"])
with open(os.environ["SLUICE_RESULT_FILE"], "w") as result:
    json.dump({"text": text.upper() if "--upper" in sys.argv else text}, result)
