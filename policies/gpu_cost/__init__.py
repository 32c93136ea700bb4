"""GPU cost pack: which accelerators may be asked for, and how many."""
