#!/bin/sh
# run.sh DTRAIN PROGRAM [ARGUMENT...]: runs an example beside two small sets of images, train and val.
set -e
dtrain=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$dtrain" data import synthetic --samples 640 --classes 10 --size 28 --out train >log
"$dtrain" data import synthetic --samples 100 --classes 10 --size 28 --out val >log
"$@"
