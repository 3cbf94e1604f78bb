# Changes titles while the monolith and the follower of the guide are killed, and compares the copy with the catalog.

import atexit, os, socket, sqlite3, subprocess, sys, threading, time, uuid

import grpc
from catalog.v1 import catalog_pb2 as catalog, catalog_pb2_grpc
from mesh.events.v1 import events_pb2 as events, events_pb2_grpc

WRITERS, KILLS, TITLES = 4, 5, 400


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return "127.0.0.1:%d" % free.getsockname()[1]


ADDRESS = free_address()
running = []
atexit.register(lambda: [process.kill() for process in running])


def start(*command, **more):
    process = subprocess.Popen(command, text=True, **more)
    running.append(process)
    return process


def start_monolith():
    environment = {**os.environ, "MESH__LISTEN": ADDRESS}
    monolith = start(os.environ["MONOLITH"], env=environment, stdout=subprocess.PIPE)
    for line in monolith.stdout:
        if " listening on " in line:
            return monolith
    sys.exit("the monolith ended")


printed = []


def start_follower():
    follower = start(sys.executable, "follower.py", ADDRESS, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    threading.Thread(target=lambda: printed.extend(line.split() for line in follower.stdout), daemon=True).start()
    return follower


def kill(process):
    process.kill()
    process.wait()
    running.remove(process)


def patient(method, request):
    """Calls a method until it answers. All calls here may be repeated, but the removal of a title that is gone."""
    while True:
        try:
            return method(request, timeout=5)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION):
                return None
            time.sleep(0.05)


def write():
    stub = catalog_pb2_grpc.CatalogServiceStub(grpc.insecure_channel(ADDRESS))
    for number in range(TITLES // WRITERS):
        create = catalog.CreateTitleRequest(request_id=str(uuid.uuid4()), name="Metropolis", year=1927)
        title = patient(stub.CreateTitle, create).title
        if number % 3 == 1:
            title.name = "Nosferatu"
            patient(stub.UpdateTitle, catalog.UpdateTitleRequest(title=title, update_mask={"paths": ["name"]}))
        if number % 3 == 2:
            patient(stub.DeleteTitle, catalog.DeleteTitleRequest(title_id=title.title_id))


def titles():
    stub, token, found = catalog_pb2_grpc.CatalogServiceStub(grpc.insecure_channel(ADDRESS)), "", {}
    while True:
        page = patient(stub.ListTitles, catalog.ListTitlesRequest(page_size=200, page_token=token))
        found.update((title.title_id, (title.name, title.revision)) for title in page.titles)
        token = page.next_page_token
        if not token:
            return found


def copy():
    with sqlite3.connect("copy.db") as db:
        return {id: (text, revision) for id, text, revision in db.execute("SELECT id, text, revision FROM copy")}


def head():
    stub = events_pb2_grpc.EventsServiceStub(grpc.insecure_channel(ADDRESS))
    return {source.name: source.head for source in patient(stub.ListSources, events.ListSourcesRequest()).sources}["catalog"]


def until(what, holds):
    for _ in range(600):
        if holds():
            return print("ok     ", what)
        time.sleep(0.1)
    sys.exit("FAILED  %s: %d titles, %d in the copy, %d printed" % (what, len(titles()), len(copy()), len(printed)))


def positions():
    return [int(position) for kind, position in list(printed) if kind == "event"]


monolith, follower = start_monolith(), start_follower()
# From here on each change is an event, and none is in the snapshot.
until("the follower has caught up", lambda: ["caught_up", "0"] in printed)
writers = [threading.Thread(target=write) for _ in range(WRITERS)]
for writer in writers:
    writer.start()
for kills in range(1, KILLS + 1):
    due = kills * TITLES // (KILLS + 1)
    until("events arrive behind kill %d" % (kills - 1), lambda: len(positions()) >= due)
    kill(monolith)
    monolith = start_monolith()
for writer in writers:
    writer.join()
until("the copy has each title", lambda: copy() == titles())
until("each event was seen once, in order", lambda: positions() == list(range(1, head() + 1)))

# A follower that begins again goes on at its place.
kill(follower)
write()
follower = start_follower()
until("the copy has what changed meanwhile", lambda: copy() == titles())
until("no event came twice, and none is missing", lambda: positions() == list(range(1, head() + 1)))
if any(kind in ("snapshot", "reset") for kind, _ in printed):
    sys.exit("FAILED  a follower with a cursor got a snapshot")
