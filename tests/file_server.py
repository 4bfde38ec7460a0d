"""A file server on this machine, with Range and ETag, which can interrupt or damage a download on purpose."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """`files` by path. `cut[path] = n` ends the next response after n bytes; paths in `damaged` are wrong once."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.damaged = dict(files), {}, set()
        self.requests = []
        self.etags = True
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        body = server.files.get(self.path)
        if body is None:
            self.send_error(404, "Not Found")
            return
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
        else:
            self.send_response(206 if start else 200)
        etag = hashlib.md5(body).hexdigest()
        if server.etags:
            self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.path in server.damaged:
            server.damaged.remove(self.path)
            body = bytes(len(body))
        end = server.cut.pop(self.path, len(body))
        if start < len(body):
            self.wfile.write(body[start:end])

    def log_message(self, *_):
        """Print nothing."""
