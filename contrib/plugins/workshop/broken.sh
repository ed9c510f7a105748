#!/bin/sh
. ./a-library-that-is-not-here.sh
