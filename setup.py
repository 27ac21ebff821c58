from setuptools import setup

setup()  # all metadata is in pyproject.toml; this file keeps "pip install PATH" working with old tools
