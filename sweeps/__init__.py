"""The specs that come with hpscan, installed as ``hpscan.sweeps``."""
