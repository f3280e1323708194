"""Few, and real: real processes, a real kill -9, a real service-manager socket, real time."""
