"""Tests of the gateway, without Home Assistant."""
