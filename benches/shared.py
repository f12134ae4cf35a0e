"""What the benches have in common. Each sets `sys.dont_write_bytecode` before it imports this, so that nothing is written beside them."""

import importlib.machinery
import importlib.util
import os
import pathlib
import socket
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent
MIB = 1 << 20
# What the Deployment sets for the allocator (manifests/install/deployment.yaml): what is measured has it too.
DEPLOYED = {"MIMALLOC_PURGE_DELAY": "100"}


def sibling(name):
    """Another bench as a module: they are programs, and their names have no ending."""
    loader = importlib.machinery.SourceFileLoader(name, str(HERE / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def target():
    """Where cargo puts what it builds."""
    return TOP / os.environ.get("CARGO_TARGET_DIR", "target")


def release(name="wasmgate", variable="WASMGATE"):
    """The program that the variable names, else the one of the release build."""
    program = pathlib.Path(os.environ.get(variable, target() / "release" / name)).resolve()
    if not program.exists():
        sys.exit(f"there is no {program}; `cargo build --locked --release --package {name}` builds it, or {variable} names another")
    return program
