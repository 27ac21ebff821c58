"""Stand-in."""

import re
from pathlib import Path
from typing import NamedTuple
import numpy as np
from PIL import Image
from datetime import datetime


class PhotoTime(NamedTuple):
    taken_at: int | None
    source: str


def read_time(path, or_of_file=False):
    try:
        with Image.open(path) as im:
            t = im.getexif().get_ifd(0x8769).get(36867)
    except OSError:
        return PhotoTime(None, "missing")
    if not t:
        return PhotoTime(None, "missing")
    return PhotoTime(
        int((datetime.strptime(t, "%Y:%m:%d %H:%M:%S") - datetime(1970, 1, 1)).total_seconds() * 1000), "exif"
    )


def read_times(paths, *, threads, or_of_file=False):
    return [read_time(p) for p in paths]


def site_of(path, level=None, *, below_class=False):
    parts = path.split("/")[:-1][int(below_class) :]
    return "/".join(parts) if level is None else (parts[level - 1] if len(parts) >= level else "")


def read_sites(path):
    raise NotImplementedError


def group_sequences(paths, sites, taken_at, *, gap=60.0, pattern=None):
    n = len(paths)
    keys = [None] * n
    for i, p in enumerate(paths):
        m = re.search(pattern, p.rpartition("/")[2]) if pattern else None
        if m:
            keys[i] = (sites[i], "p", m.group(m.re.groups and 1))
        elif np.isnan(taken_at[i]):
            keys[i] = ("alone", i)
    rest = sorted((sites[i], taken_at[i], i) for i in range(n) if keys[i] is None)
    num = 0
    for k, (s, t, i) in enumerate(rest):
        if k and (s != rest[k - 1][0] or t - rest[k - 1][1] >= gap * 1000):
            num += 1
        keys[i] = ("t", num)
    seen = {}
    return np.array([seen.setdefault(k, len(seen)) for k in keys])
