"""Notifications: what a person should know, brought to where that person looks. Listeners only; no round waits."""
