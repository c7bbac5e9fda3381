"""The only package that touches the operating system's file system.

Goals: every error of the system arrives as a GradientIOError that names operation and path; a test
can watch, count or fail every call (`calls.observer`); a durable write is one function.

Rules: a file is complete and synced before it gets its final name; nothing is written in place; an
`fsync` that failed is never repeated on the same file (the kernel has already dropped the dirty
pages and would report success), the caller abandons the file.
"""

from gradient.storage.fs import calls
from gradient.storage.fs.calls import Call, Observer
from gradient.storage.fs.contents import read_file, read_stream, read_system, replace_file
from gradient.storage.fs.entries import (
    NO_HARD_LINKS,
    discard,
    discard_folder,
    link,
    make_folders,
    move,
    remove,
    rename,
    sync_folder,
)
from gradient.storage.fs.file import File, create, open_file, try_lock
from gradient.storage.fs.queries import (
    Kind,
    absolute,
    exists,
    is_file,
    is_folder,
    is_missing,
    is_regular_file,
    kind,
    names,
    read_link,
    real,
    size,
    status,
    user,
)
from gradient.storage.fs.volumes import free_bytes, free_files, mount_type

__all__ = [
    "NO_HARD_LINKS",
    "Call",
    "File",
    "Kind",
    "Observer",
    "absolute",
    "calls",
    "create",
    "discard",
    "discard_folder",
    "exists",
    "free_bytes",
    "free_files",
    "is_file",
    "is_folder",
    "is_missing",
    "is_regular_file",
    "kind",
    "link",
    "make_folders",
    "mount_type",
    "move",
    "names",
    "open_file",
    "read_file",
    "read_link",
    "read_stream",
    "read_system",
    "real",
    "remove",
    "rename",
    "replace_file",
    "size",
    "status",
    "sync_folder",
    "try_lock",
    "user",
]
