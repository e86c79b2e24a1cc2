#!/usr/bin/env python3
"""Writes the rows of a part into docs/evidence.md; the sections of other parts stay as they are.

    evidence.py PART ROWS_FILE < /dev/null

A row is a line of tab-separated fields: promise, seed, faults injected, seconds, result.
"""
import pathlib
import platform
import os
import subprocess
import sys

FILE = pathlib.Path(__file__).parent.parent / "docs" / "evidence.md"
HEAD = """# Evidence

Each section is written by `./test --full PART`, which runs the large counts; a run that injected no fault fails. "0 of N" bounds
the true rate, at 95 %, by about 3/N. Commit, machine and seed are those of the run; a seed repeats it (`URJA_SEED`).
"""
TABLE = "| promise | seed | faults injected | seconds | result |\n|---|---|---|---|---|\n"


def git(*args):
    return subprocess.run(["git", *args], check=True, capture_output=True, text=True, cwd=FILE.parent).stdout.strip()


def sections(text):
    """Sections by name, in order."""
    found = {}
    for section in text.split("\n## ")[1:]:
        name, _, body = section.partition("\n")
        found[name] = body.strip()
    return found


def section(part, rows):
    dirty = " with changes" if git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs") else ""
    commit = git("rev-parse", "--short", "HEAD") + dirty
    lines = [f"`./test --full {part}` on commit {commit}, {git('log', '-1', '--format=%cs')}, "
             f"{platform.machine()}, {os.cpu_count()} cores.", ""]
    cells = [row.split("\t") for row in rows if row.strip()]
    if not cells or any(len(row) != 5 for row in cells):
        raise SystemExit(f"{part}: no evidence, or a row without five fields: {rows}")
    return "\n".join(lines) + "\n" + TABLE + "\n".join("| " + " | ".join(row) + " |" for row in cells)


def main():
    part, rows = sys.argv[1], pathlib.Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()
    known = sections(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    known[part] = section(part, rows)
    body = "".join(f"\n## {name}\n\n{known[name]}\n" for name in sorted(known))
    FILE.write_text(HEAD + body, encoding="utf-8")


if __name__ == "__main__":
    main()
