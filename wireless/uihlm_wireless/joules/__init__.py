"""Joules that are measured: counters of a machine, files of a wall meter. Modelled ones: `uihlm_wireless.energy`."""
