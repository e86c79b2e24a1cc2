#!/usr/bin/env python3
"""Writes the rows of a part into docs/evidence.md; the sections of other parts stay as they are.

    evidence.py PART ROWS_FILE < /dev/null

A row is a line of tab-separated fields: promise, seed, faults injected, seconds, result. Of a part whose rows may come
from several runs a new row takes the place of the one with the same promise, and each names its commit.
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
COLUMNS = ["promise", "seed", "faults injected", "seconds", "result"]
# Parts that take so long that they are run piece by piece.
PIECEWISE = {"fuzz"}


def git(*args):
    return subprocess.run(["git", *args], check=True, capture_output=True, text=True, cwd=FILE.parent).stdout.strip()


def sections(text):
    """Sections by name, in order."""
    found = {}
    for section in text.split("\n## ")[1:]:
        name, _, body = section.partition("\n")
        found[name] = body.strip()
    return found


def commit():
    dirty = " with changes" if git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs") else ""
    return git("rev-parse", "--short", "HEAD") + dirty


def table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def known_rows(section):
    """Cells of the rows of a section's table."""
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def section(part, rows, known):
    machine = f"{git('log', '-1', '--format=%cs')}, {platform.machine()}, {os.cpu_count()} cores"
    cells = [row.split("\t") for row in rows if row.strip()]
    if not cells or any(len(row) != len(COLUMNS) for row in cells):
        raise SystemExit(f"{part}: no evidence, or a row without five fields: {rows}")
    if part not in PIECEWISE:
        return f"`./test --full {part}` on commit {commit()}, {machine}.\n\n" + table(COLUMNS, cells)
    merged = {row[0]: row for row in known_rows(known)}
    merged.update({row[0]: [*row, f"{commit()}, {machine}"] for row in cells})
    return f"`./test --full {part}`, piece by piece.\n\n" + table([*COLUMNS, "commit"], [merged[name] for name in sorted(merged)])


def main():
    part, rows = sys.argv[1], pathlib.Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()
    known = sections(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    known[part] = section(part, rows, known.get(part, ""))
    body = "".join(f"\n## {name}\n\n{known[name]}\n" for name in sorted(known))
    FILE.write_text(HEAD + body, encoding="utf-8")


if __name__ == "__main__":
    main()
