"""DECIDE: verdict and history in, action out. Pure: `now` and `roll` are arguments."""
