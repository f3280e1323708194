"""The written parts of the project agree with the code and with each other."""
