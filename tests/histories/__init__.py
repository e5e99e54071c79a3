"""Random histories of a program that enables, disables, imports, reloads and changes what overlays patch."""
