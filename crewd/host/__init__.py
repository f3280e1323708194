"""The only door to clock, chance, processes, disk and service manager."""
