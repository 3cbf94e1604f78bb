"""Failures as the mesh has them: a code, and a reason in `google.rpc.ErrorInfo`. docs/CONTRACTS.md lists them."""

import functools
import logging
import sqlite3

import grpc
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

# The domain of the reasons that all services share.
MESH = "mesh"
# Of the user, who alone can do something about it.
OF_THE_USER = {"TOKEN_EXPIRED", "SCOPE_MISSING"}
OF_THE_CHANNEL = {"NO_ENDPOINTS", "ENDPOINT_UNREACHABLE", "CONNECTION_LOST"}
CONDITIONS = {"SQLITE_BUSY": "busy", "SQLITE_LOCKED": "busy", "SQLITE_FULL": "full", "SQLITE_READONLY": "read-only"}


class Failure(Exception):
    """The answer to a call that fails: a `google.rpc.Status`."""

    def __init__(self, code, domain, reason, message, *details, **metadata):
        super().__init__(f"{reason}: {message}")
        info = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)
        self.status = status_pb2.Status(code=code, message=message)
        for detail in (info, *details):
            self.status.details.add().Pack(detail)


class Violations:
    """The invalid fields of one request. A service collects all of them before it answers."""

    def __init__(self):
        self._bad = []

    def check(self, valid, field, description):
        if not valid:
            self._bad.append(error_details_pb2.BadRequest.FieldViolation(field=field, description=description))

    def finish(self, domain):
        if self._bad:
            message = "; ".join(f"{bad.field} {bad.description}" for bad in self._bad)
            request = error_details_pb2.BadRequest(field_violations=self._bad)
            raise Failure(code_pb2.INVALID_ARGUMENT, domain, "INVALID_FIELDS", message, request)


def of_peer(error, method):
    """The failure of a call to a peer, as one of this service: see "Failures of peers" in docs/CONTRACTS.md."""
    logging.warning("%s failed: %s %s", method, error.code(), error.details())
    code = error.code()
    status = rpc_status.from_call(error)
    reason = _detail(status, error_details_pb2.ErrorInfo()).reason
    retry = _detail(status, error_details_pb2.RetryInfo())
    if reason in OF_THE_USER:
        return _unchanged(status, reason)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failure(code_pb2.DEADLINE_EXCEEDED, MESH, code.name, "the deadline passed before the call ended")
    passes = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)
    if passes or code == grpc.StatusCode.RESOURCE_EXHAUSTED and retry.HasField("retry_delay"):
        reason = reason if reason in OF_THE_CHANNEL else "PEER_UNAVAILABLE"
        message = f"a call of {method} cannot be answered now"
        details = [retry] if retry.HasField("retry_delay") else []
        return Failure(code_pb2.UNAVAILABLE, MESH, reason, message, *details)
    return Failure(code_pb2.INTERNAL, MESH, "PEER_FAILED", f"a call of {method} failed; the log has the cause")


def _unchanged(status, reason):
    failure = Failure(status.code, MESH, reason, status.message)
    failure.status.CopyFrom(status)
    return failure


def _detail(status, kind):
    """The detail of this kind; an empty one if there is none."""
    for detail in status.details if status else ():
        if detail.Unpack(kind):
            break
    return kind


def answering(handler):
    """Answers with the failure that a handler raises. Without it, grpcio sends the text of each exception to the client."""

    @functools.wraps(handler)
    def answer(self, request, context):
        try:
            return handler(self, request, context)
        except Failure as failed:
            failure = failed
        except sqlite3.OperationalError as error:
            logging.exception("the database failed")
            condition = CONDITIONS.get(getattr(error, "sqlite_errorname", ""), "away")
            retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=500_000_000))
            message = f"the database fails ({condition}); retry later"
            failure = Failure(
                code_pb2.UNAVAILABLE, MESH, "DATABASE_UNAVAILABLE", message, retry, condition=condition
            )
        except Exception:
            logging.exception("%s failed", handler.__name__)
            failure = Failure(code_pb2.INTERNAL, MESH, "INTERNAL", "internal error; its cause is in the service's log")
        return context.abort_with_status(rpc_status.to_status(failure.status))

    return answer
