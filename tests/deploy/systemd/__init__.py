"""The units and `crewd install` under a real systemd."""
