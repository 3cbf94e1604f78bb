"""What a call of the mesh brings, and what goes on with the calls that are made for it.

Copy this file: beside the generated modules, it is all that a service in Python needs of the mesh.
"""

import base64
import json
import os
import stat
import threading
from collections import namedtuple
from urllib.parse import unquote

import grpc

# What belongs to a call and travels with the calls that are made for it. The rest of its deadline does, too.
CARRIED = ("traceparent", "tracestate", "mesh-passport", "mesh-cause", "mesh-consistency")

_Details = namedtuple("_Details", "method timeout metadata credentials wait_for_ready compression")


class Carry(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Gives calls to peers the headers and the deadline of the call that is served.

    Use: `Stub(grpc.intercept_channel(channel, Carry(context)))`, with the context of the call. That costs microseconds.
    """

    def __init__(self, context):
        self._context = context

    def intercept_unary_unary(self, continuation, details, request):
        limits = [limit for limit in (details.timeout, time_left(self._context)) if limit is not None]
        metadata = [*(details.metadata or ()), *carried(self._context).items()]
        wait, compression = details.wait_for_ready, details.compression
        carrying = _Details(details.method, min(limits, default=None), metadata, details.credentials, wait, compression)
        return continuation(carrying, request)

    intercept_unary_stream = intercept_unary_unary


def carried(context):
    """The headers that a call for the one that is served has, whatever its protocol."""
    return {name: value for name, value in context.invocation_metadata() if name in CARRIED}


def time_left(context):
    """The time until the deadline of the call in seconds; None if it has none."""
    left = context.time_remaining()
    # Without a deadline, grpcio counts to the end of its time.
    return left if left is not None and left < 365 * 24 * 3600 else None


class Caller:
    """Who calls. The sidecar has checked it: no client can write these headers."""

    def __init__(self, headers):
        headers = dict(headers)
        # `user/ISSUER/SUBJECT`, `service/NAME` or `anonymous`. The issuer of a user has slashes, and its subject none.
        self.name = headers.get("mesh-caller", "anonymous")
        self.subject = unquote(self.name.rpartition("/")[2]) if self.name.startswith("user/") else None
        self.scopes = _scopes(headers.get("mesh-passport"))

    def may_act_for(self, subject):
        """Whether a request may be about this user: see docs/guide/callers.md."""
        return self.subject is None or self.subject == subject or "mesh.operator" in self.scopes


def _scopes(passport):
    """The scopes of the user. The sidecar has checked the signature."""
    if passport is None:
        return ()
    claims = passport.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))).get("scopes", ())


def end_with_the_sidecar(stop):
    """Calls `stop` when the sidecar has ended, also if it was killed: it holds the other end of the standard input."""

    def wait():
        while os.read(0, 4096):
            pass
        stop()

    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=wait, daemon=True).start()
