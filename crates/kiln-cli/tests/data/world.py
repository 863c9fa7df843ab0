"""The world that a build's network is connected with, in a network namespace of a test.

It has a web server at an address of the host (argument 1) that says "fetched", another one at its loopback address, a name
server there that knows one address for all names, and an abstract socket. The file of argument 2 says that all are ready.
"""

import http.server
import socket
import sys
import threading

HOST, READY = sys.argv[1:]


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"fetched\n")

    def log_message(self, *_):
        pass


def answer_queries(sock):
    while True:
        query, client = sock.recvfrom(512)
        # The question ends after its name, type and class; for addresses of IPv6 there is no answer.
        end = query.index(b"\0", 12) + 5
        is_ipv4 = query[end - 4 : end - 2] == b"\0\1"
        head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_ipv4 else b"\0\0") + b"\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(HOST) if is_ipv4 else b""
        sock.sendto(head + query[12:end] + record, client)


abstract = socket.socket(socket.AF_UNIX)
abstract.bind("\0kiln-test-host")
abstract.listen()
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 53))
threading.Thread(target=answer_queries, args=(names,), daemon=True).start()
for address in (HOST, 8000), ("127.0.0.1", 8001), ("::1", 8001):
    server = type("Server", (http.server.ThreadingHTTPServer,), {
        "address_family": socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    })(address, Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
open(READY, "w").close()
threading.Event().wait()
