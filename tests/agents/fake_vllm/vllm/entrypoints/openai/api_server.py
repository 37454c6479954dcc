"""NOT vLLM: a stand-in for its server that starts in no time, for tests of starting and stopping.

It listens, answers ``/health`` and tells at ``/started`` what it was started with. How it
behaves stands in ``fake.json`` of its model folder: ``print`` something, ``load`` for so many
seconds, ``end`` with an exit code, ``ignore_sigterm``.
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

flags = dict(zip(sys.argv[1:], sys.argv[2:], strict=False))
script = Path(flags["--model"]) / "fake.json"
wanted = json.loads(script.read_text()) if script.exists() else {}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        started = {"argv": sys.argv[1:], "env": dict(os.environ), "child": child.pid}
        started["pid"] = os.getpid()
        body = json.dumps(started if self.path == "/started" else {}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    allow_reuse_address = True


if wanted.get("ignore_sigterm"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(wanted.get("print", "loading"), flush=True)
# Stands for the engine process, which a killed server would leave behind.
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
time.sleep(wanted.get("load", 0))
if "end" in wanted:
    sys.exit(wanted["end"])
Server((flags["--host"], int(flags["--port"])), Handler).serve_forever()
