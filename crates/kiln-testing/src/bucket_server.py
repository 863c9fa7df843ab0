"""A server of S3: moto's, behind a check of every signature by Amazon's own code (botocore).

What is in the bucket 'open' may be read by anybody; the bucket 'full' takes no second part of a file.
'/uploads' tells of uploads in parts: how many have begun, how many parts have come, and how many
uploads the server still keeps parts of. Prints its port, and serves until its standard input ends.
"""
import json
import os
import sys
import threading
from urllib.parse import parse_qsl, quote

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client

KEY, SECRET, TOKEN, REGION = sys.argv[1:5]
BUCKETS = ("open", "closed", "full")
moto = DomainDispatcherApplication(create_backend_app)


def is_signed(environ):
    query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    signature = query.pop("X-Amz-Signature", None)
    if signature is None or query.get("X-Amz-Security-Token", "") != TOKEN:
        return False
    parameters = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
    url = f"http://{environ['HTTP_HOST']}{environ['REQUEST_URI'].split('?')[0]}?{parameters}"
    request = AWSRequest(method=environ["REQUEST_METHOD"], url=url, headers={"host": environ["HTTP_HOST"]})
    request.context["timestamp"] = query["X-Amz-Date"]
    signer = S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", REGION)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return query["X-Amz-Credential"].startswith(KEY + "/") and signer.signature(text, request) == signature


begun, parts = [], []


def uploads():
    pending = [Client(moto).get(f"/{bucket}?uploads", base_url="http://127.0.0.1").text for bucket in BUCKETS]
    return f"{len(begun)} {len(parts)} {sum(text.count('<UploadId>') for text in pending)}".encode()


def checked(environ, start_response):
    if environ["PATH_INFO"] == "/uploads":
        told = uploads()
        start_response("200 OK", [("Content-Length", str(len(told)))])
        return [told]
    is_open = environ["REQUEST_METHOD"] in ("GET", "HEAD") and environ["PATH_INFO"].startswith("/open/")
    if not is_open and not is_signed(environ):
        start_response("403 Forbidden", [("Content-Length", "0")])
        return []
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    if environ["REQUEST_METHOD"] == "POST" and "uploads" in query:
        begun.append(environ["PATH_INFO"])
    if "partNumber" in query:
        parts.append(query["partNumber"])
        if environ["PATH_INFO"].startswith("/full/") and query["partNumber"] == "2":
            start_response("403 Forbidden", [("Content-Length", "0")])
            return []
    return moto(environ, start_response)


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


def put(url, **more):
    status = Client(moto).put(url, base_url="http://127.0.0.1", **more).status_code
    assert status in (200, 204), f"{url}: {status}"


for bucket in BUCKETS:
    put(f"/{bucket}")
# Moto wants more than Amazon before it answers a HEAD; what writes is refused above without a signature.
statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": ["arn:aws:s3:::open", "arn:aws:s3:::open/*"]}
put("/open?policy", data=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
server = make_server("127.0.0.1", 0, checked, threaded=True, request_handler=Quiet)
print(server.port, flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server.serve_forever()
