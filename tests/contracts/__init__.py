"""Rules that the code as a whole keeps: who may know whom, and what every part of a kind must do."""
