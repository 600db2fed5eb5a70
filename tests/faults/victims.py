"""Processes to do harm to: one process imports all that is slow, and forks whoever is to be a victim.

Reads a line of JSON for each request and answers with one: ``{"run": [...], ...}`` starts a process and says its
``pid``, ``{"wait": pid}`` waits for its end and says its ``status``, negative for a signal.
"""

import json
import os
import resource
import signal
import sys


def main():
    import programs

    if "--light" not in sys.argv:
        programs.warm()
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                return start(request)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)
    return 0


def start(request):
    """Become the victim: run a program in a folder, with a fault."""
    import programs
    from planting import plant

    os.setsid()
    folder, fault = request["folder"], request.get("fault") or {}
    os.chdir(folder)
    os.environ.update(request.get("environment", {}))
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    # What a shell starts in the background hears of no interruptions.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if fault.get("do") == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["bytes"], fault["bytes"]))
    if fault.get("do") == "stranger":
        os.setgid(65534)
        os.setuid(65534)
    elif "points" in request:
        plant(folder, request["points"], fault if "at" in fault else {"at": -1} if fault else None)
    # Lightning starts the other processes of a run by this.
    sys.argv = [programs.COMMAND, *request["run"][1:]]
    return programs.run(request["run"])


if __name__ == "__main__":
    sys.exit(main())
