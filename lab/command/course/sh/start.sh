#!/bin/sh
# A plugin for Core Lightning, to be.

# A request comes on stdin, one message a line.
