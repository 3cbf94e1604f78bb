"""Implements the contract: checks requests, reads the store, and asks catalog and ratings through the sidecar."""

import json
import logging
import re
import unicodedata
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode

import grpc
from catalog.v1 import catalog_pb2, catalog_pb2_grpc
from google.rpc import code_pb2
from recommendations.v1 import recommendations_pb2 as contract
from recommendations.v1 import recommendations_pb2_grpc

from errors import MESH, Failure, Violations, answering, of_peer
from sidecar import Caller, Carry, carried, time_left
from store import Reused

# The domain in the ErrorInfo of this service's errors.
DOMAIN = "recommendations"
# Rules that the contract repeats.
MOST_CHARACTERS, DEFAULT_TITLES, MOST_TITLES = 100, 10, 50
# The default deadline of ListRecommendations, and the part of the time left that an optional part may take.
DEADLINE, SHARE = 2.0, 0.75

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
NO_UUID = "must be a UUID such as 019b76da-a800-7000-8000-000000000000"
NO_VIEWER = "must have 1 to 100 characters on one line, at least one visible, without control characters"
# Letters and symbols without a shape.
BLANKS = "\u115f\u1160\u2800\u3164\uffa0"


class Recommendations(recommendations_pb2_grpc.RecommendationsServiceServicer):
    def __init__(self, store, outbound):
        self._store = store
        self._outbound = outbound
        # `http_proxy` must not catch calls on the loopback interface.
        self._peers = grpc.insecure_channel(outbound, options=[("grpc.enable_http_proxy", 0)])

    def close(self):
        self._peers.close()

    @answering
    def NoteWatched(self, request, context):
        bad = Violations()
        bad.check(UUID.fullmatch(request.request_id), "request_id", NO_UUID)
        bad.check(UUID.fullmatch(request.title_id), "title_id", NO_UUID)
        # A repeat may spell the ids in capitals and leave the viewer out.
        request.request_id, request.title_id = request.request_id.lower(), request.title_id.lower()
        request.viewer_id = self._viewer(request.viewer_id, context, bad)

        encoded = request.SerializeToString(deterministic=True)
        try:
            answer = self._store.answered(request.request_id, encoded)
            if answer is None:
                self._must_exist(request.title_id, context)
                answer = self._store.note(request.viewer_id, request.title_id, request.request_id, encoded, noted)
        except Reused:
            message = "request_id was used before, for another request; use a new one"
            raise Failure(code_pb2.INVALID_ARGUMENT, MESH, "REQUEST_ID_REUSED", message) from None
        return contract.NoteWatchedResponse.FromString(answer)

    @answering
    def ListRecommendations(self, request, context):
        bad = Violations()
        bad.check(request.page_size >= 0, "page_size", "must not be negative")
        viewer = self._viewer(request.viewer_id, context, bad)

        viewers = dict(self._store.recommended(viewer, min(request.page_size or DEFAULT_TITLES, MOST_TITLES)))
        if not viewers:
            return contract.ListRecommendationsResponse()
        # Ratings are asked while the catalog answers.
        asked = catalog_pb2.BatchGetTitlesRequest(title_ids=viewers)
        titles = self._catalog(context).BatchGetTitles.future(asked, timeout=DEADLINE)
        # A caller that leaves ends the call.
        context.add_callback(titles.cancel)
        ratings, unreachable = self._ratings(viewers, context)
        try:
            titles = titles.result().titles
        except grpc.RpcError as error:
            raise of_peer(error, "catalog.v1.CatalogService/BatchGetTitles") from error
        return contract.ListRecommendationsResponse(
            recommendations=[
                contract.Recommendation(title=title, viewers=viewers[title.title_id], rating=ratings.get(title.title_id))
                for title in titles
            ],
            unreachable=unreachable,
        )

    def _viewer(self, named, context, bad):
        """The viewer of a request. A user is the viewer, and need not say so. Fails if any field is invalid."""
        caller = Caller(context.invocation_metadata())
        viewer = named or caller.subject or ""
        # The subject of a token may be longer than a name in a request.
        bad.check(not named and caller.subject or is_line(named), "viewer_id", NO_VIEWER)
        bad.finish(DOMAIN)
        if not caller.may_act_for(viewer):
            message = "viewer_id is not the user of the token: leave it out, or send the subject of the user"
            raise Failure(code_pb2.PERMISSION_DENIED, DOMAIN, "VIEWER_NOT_CALLER", message)
        return viewer

    def _catalog(self, context):
        return catalog_pb2_grpc.CatalogServiceStub(grpc.intercept_channel(self._peers, Carry(context)))

    def _must_exist(self, title, context):
        try:
            self._catalog(context).GetTitle(catalog_pb2.GetTitleRequest(title_id=title), timeout=DEADLINE)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                message = f"title {title} does not exist"
                raise Failure(code_pb2.NOT_FOUND, DOMAIN, "TITLE_NOT_FOUND", message) from None
            raise of_peer(error, "catalog.v1.CatalogService/GetTitle") from error

    def _ratings(self, titles, context):
        """The ratings by title, and the services that are unreachable. Ratings speaks plain HTTP: see examples/ratings."""
        left = time_left(context)
        limit = (DEADLINE if left is None else min(left, DEADLINE)) * SHARE
        headers = {**carried(context), "Host": "ratings", "grpc-timeout": f"{max(0, int(limit * 1000))}m"}
        connection = HTTPConnection(self._outbound, timeout=max(limit, 0.001))
        try:
            connection.request("GET", "/ratings?" + urlencode([("title", title) for title in titles]), headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise HTTPException(f"status {answer.status}")
            ratings = json.loads(answer.read())
            return {title: contract.Rating(**rating) for title, rating in ratings.items()}, []
        except (OSError, HTTPException, AttributeError, TypeError, ValueError) as error:
            logging.info("ratings does not answer: %s", error)
            return {}, ["services/ratings"]
        finally:
            connection.close()


def noted(time_us):
    response = contract.NoteWatchedResponse()
    response.watch_time.FromMicroseconds(time_us)
    return response.SerializeToString()


def is_line(text):
    kinds = [unicodedata.category(character) for character in text]
    visible = (kind not in ("Zs", "Cf", "Mn") and character not in BLANKS for kind, character in zip(kinds, text))
    return len(text) <= MOST_CHARACTERS and any(visible) and not {"Cc", "Zl", "Zp"} & set(kinds)
