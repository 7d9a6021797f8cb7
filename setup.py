"""Builds lochws. All that is fixed stands in setup.cfg; this file is for what is decided while building."""

from setuptools import setup

setup()
