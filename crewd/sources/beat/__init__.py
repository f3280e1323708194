"""The beat format: one JSON file for each worker, which anyone can write in twenty lines of any language."""

from crewd.sources.beat.form import Beat, beat_path, decode_beat, encode_beat
from crewd.sources.beat.options import BeatOptions
from crewd.sources.beat.source import BeatSource

__all__ = ["Beat", "BeatOptions", "BeatSource", "beat_path", "decode_beat", "encode_beat"]
