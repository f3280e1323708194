"""LOOK: one module per format on disk. A source reads, keeps what differs from last time, and judges nothing."""
