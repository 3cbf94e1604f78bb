# Changes titles while the monolith and NATS are killed, and compares what the reader of the guide has with the catalog.

import atexit, os, shutil, socket, sqlite3, subprocess, sys, threading, time, uuid

import grpc
from catalog.v1 import catalog_pb2 as catalog, catalog_pb2_grpc
from mesh.events.v1 import events_pb2 as events, events_pb2_grpc

WRITERS, ROUNDS, TITLES = 4, 4, 400


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return "127.0.0.1:%d" % free.getsockname()[1]


ADDRESS, NATS = free_address(), free_address()
running = []
atexit.register(lambda: [process.kill() for process in running])


def start(*command, **more):
    process = subprocess.Popen(command, text=True, **more)
    running.append(process)
    return process


def start_nats():
    host, port = NATS.split(":")
    return start("nats-server", "--jetstream", "--addr", host, "--port", port, "--store_dir", "nats", stderr=subprocess.DEVNULL)


def start_monolith():
    environment = {**os.environ, "MESH__LISTEN": ADDRESS, "MESH__NATS__URL": "nats://" + NATS}
    monolith = start(os.environ["MONOLITH"], env=environment, stdout=subprocess.PIPE)
    for line in monolith.stdout:
        if " listening on " in line:
            return monolith
    sys.exit("the monolith ended")


printed = []


def start_reader():
    reader = start(sys.executable, "reader.py", "nats://" + NATS, stdout=subprocess.PIPE, stderr=open("reader.log", "a"))
    threading.Thread(target=lambda: printed.extend(line.split() for line in reader.stdout), daemon=True).start()
    return reader


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
    """The titles of the last event of each key."""
    found = {}
    with sqlite3.connect("last.db") as db:
        for key, kind, data in db.execute("SELECT key, type, data FROM last"):
            if kind != "catalog.v1.TitleRemoved":
                title = getattr(catalog, kind.rsplit(".", 1)[1]).FromString(data).title
                found[key] = (title.name, title.revision)
    return found


def head():
    stub = events_pb2_grpc.EventsServiceStub(grpc.insecure_channel(ADDRESS))
    return {source.name: source.head for source in patient(stub.ListSources, events.ListSourcesRequest()).sources}["catalog"]


def until(what, holds):
    for _ in range(600):
        if holds():
            return print("ok     ", what)
        time.sleep(0.1)
    sys.exit("FAILED  %s: head %d, printed %s" % (what, head(), printed[-3:]))


def positions():
    return [int(position) for _, position in list(printed)]


nats, monolith, reader = start_nats(), start_monolith(), start_reader()
writers = [threading.Thread(target=write) for _ in range(WRITERS)]
for writer in writers:
    writer.start()
for round in range(1, ROUNDS + 1):
    due = round * TITLES // (ROUNDS + 1)
    until("events arrive before kill %d" % round, lambda: len(positions()) >= due)
    kill(monolith)
    kill(nats)
    if round % 2 == 0:
        shutil.rmtree("nats")
    monolith, nats = start_monolith(), start_nats()
for writer in writers:
    writer.join()
until("each event was seen once, in order", lambda: positions() == list(range(1, head() + 1)))
until("the last events of the keys are the titles", lambda: copy() == titles())

# Nothing is published meanwhile, and the relay finds out that the store is empty.
kill(nats)
shutil.rmtree("nats")
nats = start_nats()
kill(reader)
os.remove("last.db")
printed.clear()
reader = start_reader()
until("a new reader finds all events in the emptied store", lambda: positions() == list(range(1, head() + 1)))
until("and has the titles", lambda: copy() == titles())
