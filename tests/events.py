"""Reads TensorBoard's event files as their format says (the TFRecord frame), checksums included."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    TABLE.append(_byte)


def masked_crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as TFRecord wants it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_events(folder: Path) -> list[Event]:
    """All events of a folder, file by file; every byte must belong to one."""
    events = []
    for path in sorted(folder.iterdir()):
        content, start = path.read_bytes(), 0
        while start < len(content):
            (length,) = struct.unpack_from("<Q", content, start)
            frame = struct.unpack(f"<8sI{length}sI", content[start : start + 16 + length])
            assert masked_crc32c(frame[0]) == frame[1] and masked_crc32c(frame[2]) == frame[3]
            events.append(Event.FromString(frame[2]))
            start += 16 + length
    return events


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> its points (step, value), in the order they stand in the files."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for event in read_events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves
