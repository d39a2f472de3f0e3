"""The processes of a running server, found by the port that they listen at."""

import psutil


def master(url: str) -> psutil.Process:
    """The server's first process."""
    port = int(url.rpartition(":")[2])
    sockets = psutil.net_connections("tcp")
    process = psutil.Process(next(s.pid for s in sockets if s.status == "LISTEN" and s.laddr.port == port and s.pid))
    # The socket is shared: this may be a worker.
    while process.parent().cmdline() == process.cmdline():
        process = process.parent()
    return process


def workers(url: str) -> list[psutil.Process]:
    """Its workers."""
    return [child for child in master(url).children() if child.is_running()]


def resident(url: str) -> int:
    """Memory of all its processes in bytes; what they share is counted once."""
    return sum(process.memory_full_info().pss for process in [master(url), *workers(url)])


def peak(pid: int) -> int:
    """The most memory in bytes that a process ever had resident."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def connections(process: psutil.Process, port: int) -> int:
    """The connections at `port` that `process` holds open."""
    return sum(each.status == "ESTABLISHED" and each.laddr.port == port for each in process.net_connections("tcp"))
