#!/bin/sh
# The base has no services. An image that has some puts its own script here.
