"""Tones in G.711 u-law, and whether one is heard."""

from __future__ import annotations

import math

RATE = 8000
FRAME = 160


def _encode(sample: int) -> int:
    """ITU-T G.711, 16 bits to u-law."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = magnitude.bit_length() - 8
    mantissa = magnitude >> exponent + 3 & 15
    return ~(sign | exponent << 4 | mantissa) & 0xFF


def _decode(code: int) -> int:
    code = ~code & 0xFF
    magnitude = ((code & 15) << 3) + 132 << (code >> 4 & 7)
    return 132 - magnitude if code & 0x80 else magnitude - 132


LINEAR = [_decode(code) for code in range(256)]


def tone(hertz: int) -> list[bytes]:
    """Frames of 20 ms that repeat without a click (multiples of 50 Hz)."""
    wave = [int(12000 * math.sin(2 * math.pi * hertz * at / RATE)) for at in range(FRAME)]
    return [bytes(map(_encode, wave))]


def share(sound: bytes, hertz: int) -> float:
    """How much of the power of a sound is in this tone, 0 to 1 (Goertzel)."""
    samples = [LINEAR[code] for code in sound]
    power = sum(sample * sample for sample in samples)
    if not power:
        return 0.0
    turn = 2 * math.cos(2 * math.pi * hertz / RATE)
    one = two = 0.0
    for sample in samples:
        one, two = sample + turn * one - two, one
    heard = one * one + two * two - turn * one * two
    return 2 * heard / (len(samples) * power)
