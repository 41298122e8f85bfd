#!/usr/bin/env python3
"""Build the archive of a release, which HACS unpacks into custom_components/grokmon.

The same files make the same bytes: sorted names, one time stamp (SOURCE_DATE_EPOCH, else the earliest that the format
knows), one mode. Uses the standard library only, with any Python from 3.12 on.
"""

import argparse
import json
import os
from pathlib import Path
import sys
import time
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

INTEGRATION: Final = Path(__file__).resolve().parents[2] / "custom_components" / "grokmon"
EARLIEST: Final = 315_532_800
FILE_MODE: Final = 0o100644


def members(root: Path) -> list[Path]:
    """Return the files to ship, in the order in which they are stored."""
    found = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def build(root: Path, target: Path, epoch: int) -> int:
    """Write the archive and return how many files it holds."""
    stamp = time.gmtime(max(epoch, EARLIEST))[:6]
    paths = members(root)
    with ZipFile(target, "w") as archive:
        for path in paths:
            info = ZipInfo(path.relative_to(root).as_posix(), stamp)
            info.compress_type = ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = FILE_MODE << 16
            archive.writestr(info, path.read_bytes(), compresslevel=9)
    return len(paths)


def main() -> int:
    """Check the tag and build the archive."""
    parser = argparse.ArgumentParser(description="Build the archive of a release.")
    parser.add_argument("target", type=Path, help="the file to write")
    parser.add_argument("--tag", help="the release's tag, with or without a leading v: must be the manifest's version")
    arguments = parser.parse_args()
    version = json.loads((INTEGRATION / "manifest.json").read_text(encoding="utf-8"))["version"]
    if arguments.tag is not None and arguments.tag.removeprefix("v") != version:
        print(f"The tag is {arguments.tag} and the manifest's version {version}.", file=sys.stderr)
        return 1
    count = build(INTEGRATION, arguments.target, int(os.environ.get("SOURCE_DATE_EPOCH", EARLIEST)))
    print(f"{arguments.target}: version {version}, {count} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
