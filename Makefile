.PHONY: test faults

test:
	pytest

# Kills a small run at every change that it makes to a file: over an hour on two cores. CI tries some of each kind.
faults:
	FAULTS=all pytest tests/test_faults.py -s
