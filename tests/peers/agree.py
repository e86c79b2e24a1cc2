#!/usr/bin/env python3
"""The meter and the clients of this directory against each other: every check of client.py under both mechanisms, then
what each stack makes of a meter with faults. Prints the JSON lines of client.py, with `run` besides; exit code 1 where
one is not as it is known to be.

  agree.py
"""
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
KEYS = ("000102030405060708090a0b0c0d0e0f", "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf")
TITLE = "505852000000aa01"
BOTH = ("gurux", "dlms-cosem")
# Blocks of 200 bytes, and rows by entry.
CANNOT = {("entry", "dlms-cosem"), ("image", "dlms-cosem"), ("firmware", "dlms-cosem")}
# Flags of the meter, flags of the client, and what a stack cannot do.
WHOLE = (
    (("--hls", "2"), ("--mechanism", "2"), CANNOT),
    (("--hls", "5"), ("--mechanism", "5"), CANNOT),
    (("--hls", "5", "--image-block", "64", "--lose-image-block", "5", "--mode", "3", "--deviation", "none"),
     ("--mechanism", "5", "range", "entry", "clock", "relay", "image"), {("entry", "dlms-cosem")}),
    (("--deviation", "-330", "--period", "900", "--mode", "2"), ("range", "entry", "clock", "relay", "events"),
     {("entry", "dlms-cosem")}),
)
# A fault of the tenth answer, the second block of `range`, and the stacks that do not notice it.
FAULTS = (("flip", {"gurux"}), ("stale", {"gurux"}), ("garbage", set()), ("skip", set()), ("drop", set()),
          ("silent", set()), ("push", set(BOTH)))


@contextlib.contextmanager
def meter(flags):
    """A meter's port, the file of what it holds, and what happened to it so far."""
    with tempfile.TemporaryDirectory() as directory:
        state, truth = (str(pathlib.Path(directory, name)) for name in ("state.jsonl", "truth.json"))
        command = [sys.executable, HERE / "meter.py", "0", TITLE, *KEYS, "--state", state, "--truth", truth, *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            port = json.loads(process.stdout.readline())["port"]
            yield str(port), truth, lambda: [json.loads(line) for line in open(state, encoding="utf-8")]
        finally:
            process.terminate()
            process.wait()


def client(port, truth, flags):
    command = [sys.executable, HERE / "client.py", "127.0.0.1", port, *KEYS, "--truth", truth, "--timeout", "3", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def told(run, line):
    print(json.dumps({"run": run} | line), flush=True)
    return line


def whole():
    """The lines that are not as they should be."""
    for meter_flags, client_flags, cannot in WHOLE:
        with meter(meter_flags) as (port, truth, state):
            lines, code = client(port, truth, client_flags)
            for line in lines:
                expected = "skipped" if (line["check"], line["stack"]) in cannot else True
                if told(" ".join(meter_flags), line)["pass"] != expected:
                    yield line
            malformed = [event for event in state() if event["event"] == "malformed"]
            if code or not lines or malformed:
                yield {"exit": code, "lines": len(lines), "malformed": malformed}


def faults():
    """The same, of a meter with one fault for each stack."""
    for kind, unnoticed in FAULTS:
        for stack in BOTH:
            with meter(("--fault", f"{kind}@10")) as (port, truth, state):
                lines, _ = client(port, truth, ("--stack", stack, "range"))
                seen = any(event["event"] == "fault" for event in state())
            if not seen or told(f"fault {kind}", lines[0])["pass"] != (stack in unnoticed):
                yield lines[0] | {"fault": kind, "happened": seen}


def main():
    wrong = [*whole(), *faults()]
    for line in wrong:
        print(f"not as it should be: {json.dumps(line)}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
