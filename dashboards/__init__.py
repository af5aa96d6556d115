"""The web dashboard, installed as ``hpscan.dashboards``."""
