"""The engine in this process: ICE-lite, DTLS-SRTP, plain RTP, one reactor for all."""

from pbx.media.native.engine import NativeEngine

__all__ = ["NativeEngine"]
