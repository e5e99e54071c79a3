"""Do the tests look? Small faults are built into the engine, one at a time, and the tests must find them."""
