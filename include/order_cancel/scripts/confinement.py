"""The kernel's bars around the script process: Landlock for files, seccomp for system calls. Linux only.

They hold against native code too, which the guard's audit hook does not. `confine` is called once, in the
child, before any script runs; what it puts up cannot be taken down again and covers every later thread.
"""
# The process starts once per task and must do so quickly, hence os and not pathlib:
# ruff: noqa: PTH118

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Policy = Literal["required", "best_effort", "off"]

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_CAPABILITIES_VERSION = 0x20080522
# Reading needs what the worker's user may read; Landlock says where. All other capabilities are dropped.
_KEPT_CAPABILITIES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH

# Landlock (linux/landlock.h); these three have the same number on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_QUERY = 1
_RULE_PATH_BENEATH = 1
# Before version 3 (Linux 6.2) a file outside could still be truncated.
_LANDLOCK_NEEDED = 3
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FIRST_RIGHTS = (1 << 13) - 1
_SPECIAL_FILES = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11  # character devices, sockets, pipes, block devices
_NET_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract UNIX sockets, signals

# What imports, TLS, name resolution and time zones read. Whole folders only where they hold nothing secret.
_SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache",
    "/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo", "/etc/mime.types",
    "/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/run/systemd/resolve", "/etc/nsswitch.conf",
    "/etc/gai.conf", "/etc/services", "/etc/protocols",
    "/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf",
    "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
    "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf", "/etc/pki/ca-trust/extracted",
    "/etc/crypto-policies",
    "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/sys/devices/system/cpu/online",
    "/proc/self",
)  # fmt: skip


@dataclass(frozen=True)
class _Architecture:
    """Where an architecture keeps its system calls: its audit number, and which column of the tables below."""

    audit: int
    column: int


_ARCHITECTURES = {"x86_64": _Architecture(0xC000003E, 0), "aarch64": _Architecture(0xC00000B7, 1)}

# System calls that fail with EPERM whatever their arguments: (x86_64, aarch64); None where there is none.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # new processes and programs
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "perf_event_open": (298, 241), "setpriority": (141, 140),
    "ioprio_set": (251, 30), "sched_setaffinity": (203, 122), "sched_setattr": (314, 274),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "open_tree": (428, 428), "open_tree_attr": (467, 467),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442),
    # the kernel itself, and ways into it that other filters do not see
    "bpf": (321, 280), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443), "syslog": (103, 116),
    "personality": (135, 92), "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162), "vhangup": (153, 58),
    # files that Landlock does not cover: by handle, watched, and their attributes
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "fanotify_init": (300, 262),
    "inotify_init": (253, None), "inotify_init1": (294, 26), "chmod": (90, None), "fchmod": (91, 52),
    "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "lchown": (94, None),
    "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "setxattrat": (463, 463), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "removexattrat": (466, 466), "file_setattr": (469, 469),
    # memory, semaphores and queues that other processes of this user share by number or name
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semtimedop": (220, 192), "semctl": (66, 191), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
}  # fmt: skip
# Those that an argument decides. clone3's flags are in memory, where a filter cannot look: glibc takes
# clone where clone3 is unknown.
_CLONE, _CLONE3, _KILL, _TGKILL, _RT_TGSIGQUEUEINFO = (56, 220), (435, 435), (62, 129), (234, 131), (297, 240)
_PRLIMIT64, _FCNTL, _IOCTL, _PRCTL = (302, 261), (72, 25), (16, 29), (157, 167)
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)
_CLONE_THREAD = 0x10000
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_TYPE = 1, 2, 0xF
_OWNER_COMMANDS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: who gets a signal, and which
_OWNER_REQUESTS = (0x8901, 0x8902, 0x5412)  # FIOSETOWN, SIOCSPGRP, and TIOCSTI, which types into a terminal

_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000

Instruction = tuple[int, int, int, int]


class Unconfined(Exception):
    """The settings require what this kernel does not offer."""


def landlock_version() -> int:
    """The version of Landlock that this kernel offers; 0 for none."""
    version: int = _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_QUERY)
    return max(0, version)


def kernel() -> str:
    """The kernel's name and release."""
    uname = os.uname()
    return f"{uname.sysname} {uname.release} {uname.machine}"


def confine(policy: Policy, *, scratch: str, readable: Iterable[str], network: bool) -> tuple[str, bool]:
    """Puts up what this kernel offers; a line on what holds, and whether that is all that was asked for.

    `scratch` is the only folder that may be written to, `readable` are the paths that imports need besides
    the system's. Raises Unconfined where `policy` is "required" and something is missing.
    """
    if policy == "off":
        return "scripts.confinement is off: files and system calls are not confined by the kernel", True
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _drop_capabilities()
    version = landlock_version()
    files = version > 0 and _restrict_files(version, scratch, readable, network=network)
    calls = _filter_calls(network=network)
    missing = []
    if not files or version < _LANDLOCK_NEEDED:
        missing.append(f"Landlock {_LANDLOCK_NEEDED} (it has {version or 'none'})")
    if not calls:
        missing.append("seccomp filters")
    if missing and policy == "required":
        raise Unconfined(f"scripts.confinement is required, and {kernel()} lacks {' and '.join(missing)}")
    held = [f"files by Landlock {version}"] * files + ["system calls by seccomp"] * calls
    told = f"{kernel()} confines scripts: {', '.join(held) or 'nothing'}"
    return (f"{told}; it lacks {' and '.join(missing)}", False) if missing else (told, True)


def _drop_capabilities() -> None:
    """Leaves root what the worker's files need; for other users there is nothing to drop."""
    header = struct.pack("=Ii", _CAPABILITIES_VERSION, 0)
    held = ctypes.create_string_buffer(24)
    if _LIBC.capget(header, held):
        return
    effective, permitted, *_ = struct.unpack("=6I", held.raw)
    _LIBC.capset(
        header,
        struct.pack("=6I", effective & _KEPT_CAPABILITIES, permitted & _KEPT_CAPABILITIES, 0, 0, 0, 0),
    )


def _restrict_files(version: int, scratch: str, readable: Iterable[str], *, network: bool) -> bool:
    rights = _FIRST_RIGHTS
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        rights |= right if version >= since else 0
    attributes = [rights]
    if version >= 4:
        attributes.append(0 if network else _NET_TCP)
    if version >= 6:
        attributes.append(_SCOPES)
    packed = struct.pack(f"={len(attributes)}Q", *attributes)
    ruleset = _LIBC.syscall(_CREATE_RULESET, packed, ctypes.c_size_t(len(packed)), 0)
    if ruleset < 0:
        return False
    try:
        _allow(ruleset, scratch, rights & ~(_EXECUTE | _SPECIAL_FILES | _IOCTL_DEV))
        _allow(ruleset, "/dev/null", _WRITE_FILE)
        for path in (*_SYSTEM, *readable):
            _allow(ruleset, path, _READ_FILE | _READ_DIR)
        return bool(_LIBC.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Adds a rule for what stands at `path`; none where nothing does."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        packed = struct.pack("=Qi", rights, descriptor)
        if _LIBC.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, packed, 0) and rights & _READ_DIR:
            # Not a folder: the rights of folders are refused for it.
            packed = struct.pack("=Qi", rights & ~_READ_DIR, descriptor)
            _LIBC.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, packed, 0)
    finally:
        os.close(descriptor)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _filter_calls(*, network: bool) -> bool:
    architecture = _ARCHITECTURES.get(os.uname().machine)
    if architecture is None or sys.maxsize < 2**32:
        return False
    instructions = _instructions(architecture, os.getpid(), network=network)
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    program = _Program(len(instructions), packed)
    return bool(_LIBC.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0) == 0)


def _instructions(architecture: _Architecture, own: int, *, network: bool) -> list[Instruction]:
    """The filter: every block looks at the call's number, and passes on what is not its own."""
    at = architecture.column
    refuse = _fail(errno.EPERM)
    made = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture.audit), refuse, (_LOAD, 0, 0, _NUMBER)]
    made += [(_AT_LEAST, 0, 1, _X32), refuse]  # another way to every call, on x86_64
    made += [(_EQUAL, 0, 1, _CLONE3[at]), _fail(errno.ENOSYS)]
    refused = [numbers[at] for numbers in _REFUSED.values()]
    refused += [] if network else [_SOCKET[at]]
    for number in refused:
        if number is not None:
            made += [(_EQUAL, 0, 1, number), refuse]
    made += _only(_CLONE[at], (0, _CLONE_THREAD, (_CLONE_THREAD,)))
    made += _only(_KILL[at], (0, None, (own,)))
    made += _only(_TGKILL[at], (0, None, (own,)))
    made += _only(_RT_TGSIGQUEUEINFO[at], (0, None, (own,)))
    made += _only(_PRLIMIT64[at], (0, None, (0, own)))
    made += _never(_FCNTL[at], 1, _OWNER_COMMANDS)
    made += _never(_IOCTL[at], 1, _OWNER_REQUESTS)
    made += _never(_PRCTL[at], 0, (_PR_SET_PDEATHSIG,))
    made += _only(_SOCKETPAIR[at], (0, None, (_AF_UNIX,)), (1, _SOCK_TYPE, (_SOCK_STREAM,)))
    if network:
        kinds = (1, _SOCK_TYPE, (_SOCK_STREAM, _SOCK_DGRAM))
        made += _only(_SOCKET[at], (0, None, (_AF_INET, _AF_INET6)), kinds)
    return [*made, (_RETURN, 0, 0, _ALLOW)]


def _fail(number: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | number)


def _load(argument: int) -> Instruction:
    """The lower half of an argument, which is all that the calls here read of it."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)


def _only(number: int, *conditions: tuple[int, int | None, tuple[int, ...]]) -> list[Instruction]:
    """The call passes only where each `(argument, mask, values)` holds."""
    made: list[Instruction] = []
    for argument, mask, values in conditions:
        made.append(_load(argument))
        if mask is not None:
            made.append((_AND, 0, 0, mask))
        made += [(_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
        made.append(_fail(errno.EPERM))
    return _block(number, made)


def _never(number: int, argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """The call fails where the argument is one of `values`."""
    made = [_load(argument)]
    for value in values:
        made += [(_EQUAL, 0, 1, value), _fail(errno.EPERM)]
    return _block(number, made)


def _block(number: int, made: list[Instruction]) -> list[Instruction]:
    return [(_EQUAL, 0, len(made) + 1, number), *made, (_RETURN, 0, 0, _ALLOW)]


def readable_paths(project: str, packages: Iterable[str]) -> list[str]:
    """What imports read besides the system's paths: the interpreter's library, `packages`, and this package.

    Not the whole project: its folder may hold Airflow's configuration, and a journal.
    """
    own = os.path.join(project, "include")
    library = [path for path in sys.path if path != project]
    return [
        *library,
        os.path.join(sys.base_prefix, "lib"),
        *packages,
        os.path.join(own, "__init__.py"),
        os.path.join(own, "order_cancel"),
    ]
