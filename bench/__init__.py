"""Speed, proven by ratios within one run: `python -m bench [MEASURE …]`."""
