"""Generates the modules of the contracts from proto/, once for each state of it. Git ignores the folder.

`google/*` is not generated: googleapis-common-protos has those modules, and two of one name would clash.
"""

import hashlib
import shutil
import sys
import tempfile
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"
# The contracts that this service serves and calls, and those of the mesh that they import.
PACKAGES = ("recommendations", "catalog", "mesh/options", "buf")


def modules():
    """The folder of the modules, for sys.path."""
    sources = sorted(file for package in PACKAGES for file in (PROTO / package).rglob("*.proto"))
    state = hashlib.sha256(version("grpcio-tools").encode())
    for source in sources:
        state.update(source.read_bytes())
    folder = HERE / "generated" / state.hexdigest()[:16]
    if not folder.exists():
        _generate(sources, folder)
    return folder


def _generate(sources, folder):
    from grpc_tools import protoc

    folder.parent.mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent))
    output = [f"--python_out={made}", f"--grpc_python_out={made}"]
    include = [f"-I{PROTO}", f"-I{files('grpc_tools') / '_proto'}"]
    if protoc.main(["protoc", *include, *output, *map(str, sources)]) != 0:
        shutil.rmtree(made)
        sys.exit("the contracts cannot be compiled: see above")
    try:
        made.rename(folder)
    except OSError:
        # Another process was faster.
        shutil.rmtree(made)


if __name__ == "__main__":
    print(modules())
