#!/bin/sh
# ranks.sh CODE ARGUMENT COMMAND...: the command with that argument (DIRECTORY: an empty one) must end with that code.
expected=$1 argument=$2
shift 2
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
[ "$argument" = DIRECTORY ] && argument=$work
"$@" "$argument"
code=$?
[ "$code" -eq "$expected" ] && exit 0
echo "exit code $code, expected $expected" >&2
exit 1
