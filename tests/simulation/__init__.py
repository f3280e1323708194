"""The whole patrol in virtual time, under a nemesis: one seed decides everything that happens."""
